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
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from harness.errors import ConfigError, StoreError, visible
from harness.system import records
from harness.system.files import aside

FORMAT = 1
HEADER = "bundle.json"
_LARGEST_HEADER = 16 << 20  # bytes
_MOST_UNPACKED = (
    200  # times the size of the archive: runs of one list pack 3 times, copies of one run 100 times
)
_PIECE = 1 << 20  # bytes between two looks at Ctrl-C
_LIST = records.record(
    {
        "format": records.one_of(FORMAT),
        "files": records.mapping(
            records.record(
                {"size": records.whole(0, 1 << 40), "sha256": records.text(pattern="[0-9a-f]{64}")}, {}
            ),
            100_000,
        ),
    },
    {},
)


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


def extract(bundle: Path, target: Path, allowed: Mapping[re.Pattern[str], int]) -> None:
    """Write the members below ``target``, each checked against its size and sha256.

    The archive is read block by block, and no header makes anything larger than a block be held: of tar's kinds of members
    only plain files are known, so there are no long names, links, sparse files or records of other kinds.

    Args:
        bundle: the archive.
        target: a folder of no other use; what was written there before an error does not count.
        allowed: the names that may be → the bytes that such a member may have.

    Raises:
        ConfigError: for another kind of archive, or one that is not there.
        StoreError: when it is damaged, of a newer version, too large, or holds anything else.
    """
    import zstandard

    try:
        target.mkdir(parents=True, exist_ok=True)
        with _packed(bundle.name, bundle, "r") as stream:
            _extract(bundle, stream, target, allowed)
    except FileNotFoundError as error:
        raise ConfigError(
            f"There is no file {bundle}. `fsbench export RUN… {bundle.name}` makes one."
        ) from error
    except (tarfile.TarError, zlib.error, zstandard.ZstdError, EOFError, OSError, ValueError) as error:
        raise damaged(bundle, f"it cannot be read ({type(error).__name__}: {error})") from error


def _extract(bundle: Path, stream: IO[bytes], target: Path, allowed: Mapping[re.Pattern[str], int]) -> None:
    first = _next_member(stream)
    if first is None or first.name != HEADER or not first.isreg() or first.size > _LARGEST_HEADER:
        raise damaged(bundle, f"it does not begin with {HEADER}, so it is not a bundle of fsbench")
    listed = _listed(bundle, b"".join(_content(stream, first.size)))
    _refuse_large(bundle, target, listed, allowed)
    while (member := _next_member(stream)) is not None:
        name = member.name
        if not member.isreg() or _most(name, allowed) is None:
            raise damaged(bundle, f"it holds `{name}`, which does not belong there")
        promised = listed.pop(name, None)
        if promised is None:
            raise damaged(bundle, f"it holds `{name}`, which {HEADER} does not list")
        if member.size != promised.size or _keep(stream, member.size, target / name) != promised.sha256:
            raise damaged(bundle, f"`{name}` is not what {HEADER} promises")
    if listed:
        raise damaged(bundle, f"it lacks {', '.join(sorted(listed))}")


class _Promised(NamedTuple):
    """What the list says of a member."""

    size: int
    sha256: str


def _listed(bundle: Path, content: bytes) -> dict[str, _Promised]:
    """Read ``bundle.json``.

    Raises:
        StoreError: when it is of another format.
        ValueError: when it is no list of files.
    """
    header = records.load_json(content, _LARGEST_HEADER)
    if isinstance(header, dict) and type(header.get("format")) is int and header["format"] != FORMAT:
        raise StoreError(
            f"{bundle} is a bundle of format {header['format']}; this fsbench reads {FORMAT}. Install the version that "
            "wrote it."
        )
    _LIST(header, HEADER)
    return {name: _Promised(entry["size"], entry["sha256"]) for name, entry in header["files"].items()}


def _refuse_large(
    bundle: Path, target: Path, listed: Mapping[str, _Promised], allowed: Mapping[re.Pattern[str], int]
) -> None:
    """Look at the promised sizes before anything is written; what is not promised is not taken."""
    for name, promised in listed.items():
        most = _most(name, allowed)
        if most is not None and promised.size > most:
            raise damaged(bundle, f"`{name}` has {promised.size:,} bytes; at most {most:,} are taken in")
    total, packed = sum(promised.size for promised in listed.values()), bundle.stat().st_size
    if total > _MOST_UNPACKED * packed + _LARGEST_HEADER:
        raise damaged(bundle, f"its {packed:,} bytes would unpack to {total:,}, which no bundle of runs does")
    free = shutil.disk_usage(target).free
    if total > free:
        raise damaged(
            bundle, f"it would unpack to {total:,} bytes, and {target} has {free:,} free (set TMPDIR)"
        )


def _most(name: str, allowed: Mapping[re.Pattern[str], int]) -> int | None:
    """The bytes that a member of this name may have; None when no member may be called so."""
    return next((most for pattern, most in allowed.items() if pattern.fullmatch(name)), None)


def _next_member(stream: IO[bytes]) -> tarfile.TarInfo | None:
    """The next header; None at the end of the archive."""
    block = _exactly(stream, tarfile.BLOCKSIZE)
    return tarfile.TarInfo.frombuf(block, "utf-8", "strict") if block.strip(b"\0") else None


def _content(stream: IO[bytes], size: int) -> Iterator[bytes]:
    """The bytes of a member, a piece at a time, and what fills up its last block."""
    for start in range(0, size, _PIECE):
        yield _exactly(stream, min(_PIECE, size - start))
    _exactly(stream, -size % tarfile.BLOCKSIZE)


def _exactly(stream: IO[bytes], n: int) -> bytes:
    parts = bytearray()
    while len(parts) < n:
        part = stream.read(n - len(parts))
        if not part:
            raise EOFError("it ends too early")
        parts += part
    return bytes(parts)


def _keep(stream: IO[bytes], size: int, path: Path) -> str:
    """Write a member; returns its sha256."""
    digest = hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        for part in _content(stream, size):
            digest.update(part)
            file.write(part)
    return digest.hexdigest()


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
    return StoreError(
        f"{bundle} was not taken in: {visible(why)[:600]}. Nothing of it was kept. Have it sent again."
    )
