"""One archive of listed files: written the same every time, read only where every member is what the list promises.

The first member is ``bundle.json``: the size and sha256 of every other one. Nothing is taken from an archive that it does
not list, and no name, link or device leads outside of the folder that is extracted to.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from harness.errors import ConfigError, StoreError
from harness.system.files import aside

FORMAT = 1
HEADER = "bundle.json"
_LARGEST_HEADER = 64 << 20


def write(bundle: Path, files: Mapping[str, Path]) -> None:
    """Write files under their names into ``NAME.tar.zst`` or ``NAME.tar.gz``; equal files give equal archives.

    Raises:
        ConfigError: for another kind of archive.
        StoreError: when it cannot be written.
    """
    listed = {
        name: {"size": path.stat().st_size, "sha256": _sha256(path)} for name, path in sorted(files.items())
    }
    header = json.dumps({"format": FORMAT, "files": listed}, indent=1).encode()
    try:
        with (
            aside(bundle) as temporary,
            _packed(bundle.name, temporary, "w") as stream,
            _tar(stream, "w|") as tar,
        ):
            tar.addfile(_member(HEADER, len(header)), io.BytesIO(header))
            for name, path in sorted(files.items()):
                with path.open("rb") as file:
                    tar.addfile(_member(name, path.stat().st_size), file)
    except OSError as error:
        raise StoreError(
            f"{bundle} could not be written: {error.strerror or error}. Free some space or choose another place, then "
            "type the same command again."
        ) from error


def _member(name: str, size: int) -> tarfile.TarInfo:
    """A member without times and owners, so that equal contents are equal bytes."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def extract(bundle: Path, target: Path, allowed: re.Pattern[str]) -> None:
    """Write the members below ``target``, each checked against its size and sha256.

    Args:
        bundle: the archive.
        target: a folder of no other use; what was written there before an error does not count.
        allowed: the names that may be.

    Raises:
        ConfigError: for another kind of archive.
        StoreError: when it is absent, damaged, of a newer version, or holds anything else.
    """
    import zstandard

    try:
        with _packed(bundle.name, bundle, "r") as stream, _tar(stream, "r|") as tar:
            listed: dict[str, dict[str, Any]] | None = None
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                if listed is None:
                    listed = _header(bundle, member, content)
                elif content is None or not allowed.fullmatch(member.name):
                    raise damaged(bundle, f"it holds `{member.name}`, which does not belong there")
                else:
                    _take(bundle, member, content, listed.pop(member.name, None), target / member.name)
    except FileNotFoundError as error:
        raise StoreError(
            f"There is no file {bundle}. `fsbench export RUN… {bundle.name}` makes one."
        ) from error
    except (
        tarfile.TarError,
        zstandard.ZstdError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
    ) as error:
        raise damaged(bundle, f"it cannot be read ({type(error).__name__}: {error})") from error
    if listed is None or listed:
        raise damaged(bundle, f"it lacks {', '.join(sorted(listed or [HEADER]))}")


def _header(bundle: Path, member: tarfile.TarInfo, content: IO[bytes] | None) -> dict[str, dict[str, Any]]:
    if member.name != HEADER or content is None or member.size > _LARGEST_HEADER:
        raise damaged(bundle, f"it does not begin with {HEADER}, so it is not a bundle of fsbench")
    header = json.loads(content.read())
    if header["format"] != FORMAT:
        raise StoreError(
            f"{bundle} is a bundle of format {header['format']}; this fsbench reads {FORMAT}. Install the version that "
            "wrote it."
        )
    return cast(dict[str, dict[str, Any]], header["files"])


def _take(bundle: Path, member: tarfile.TarInfo, content: IO[bytes], listed: dict[str, Any] | None,
          path: Path) -> None:  # fmt: skip
    """Write one member; refuse what is unlisted or repeated, and what differs from the list."""
    if listed is None:
        raise damaged(bundle, f"it holds `{member.name}`, which {HEADER} does not list")
    if member.size == listed["size"]:  # else it may be larger than the disk
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            shutil.copyfileobj(content, file)
    if member.size != listed["size"] or _sha256(path) != listed["sha256"]:
        raise damaged(bundle, f"`{member.name}` is not what {HEADER} promises")


@contextmanager
def _packed(name: str, path: Path, mode: str) -> Iterator[IO[bytes]]:
    """Open the compressed stream of a bundle; its name tells the kind."""
    if name.endswith(".tar.zst"):
        import zstandard

        packer: Any = zstandard.ZstdCompressor(level=10) if mode == "w" else zstandard.ZstdDecompressor()
        with path.open(mode + "b") as file, _zstd(packer, file, mode) as stream:
            yield stream
    elif name.endswith((".tar.gz", ".tgz")):
        import gzip

        with path.open(mode + "b") as file, gzip.GzipFile("", mode + "b", 6, file, 0) as stream:
            yield cast(IO[bytes], stream)
    else:
        raise ConfigError(f"{name}: a bundle is called NAME.tar.zst, or NAME.tar.gz.")


def _zstd(packer: Any, file: IO[bytes], mode: str) -> Any:
    return packer.stream_writer(file, closefd=False) if mode == "w" else packer.stream_reader(file)


def _tar(stream: IO[bytes], mode: Any) -> tarfile.TarFile:
    return tarfile.open(fileobj=stream, mode=mode, format=tarfile.USTAR_FORMAT)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damaged(bundle: Path, why: str) -> StoreError:
    """The error for an archive that is not what it should be."""
    return StoreError(f"{bundle} was not taken in: {why}. Nothing of it was kept. Have it sent again.")
