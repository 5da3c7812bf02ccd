"""Members of a zip, a tar (plain or compressed) or a folder, one at a time; nothing is extracted."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import logging
import lzma
import os
import tarfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

from harness.errors import DataError

_LOG = logging.getLogger("fsbench.data")
_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    RuntimeError,  # an encrypted member
    NotImplementedError,  # an unknown compression
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    SyntaxError,  # numpy reads the header of an .npy as Python text
    tokenize.TokenError,
)
_SYMLINK = 0o120000


class Member(NamedTuple):
    """One file of an archive.

    Attributes:
        path: relative, with forward slashes, without ``..``.
        n_bytes: its size.
        open: gives a stream of its bytes; valid until the next member is taken.
    """

    path: str
    n_bytes: int
    open: Callable[[], IO[bytes]]

    def read(self) -> bytes:
        """All bytes of the member.

        Raises:
            DataError: when they are fewer than announced or fail their checksum.
        """
        with reading(self.path), self.open() as stream:
            content = stream.read()
        if len(content) != self.n_bytes:
            raise DataError(f"{self.path} is truncated: {len(content):,} of {self.n_bytes:,} bytes.")
        return content


def members(source: Path, skip: Callable[[str], bool] = lambda folder: False) -> Iterator[Member]:
    """Iterate over the files of an archive or folder.

    Args:
        source: the archive or folder.
        skip: says of a folder's name that nothing in it is wanted; folders on disk are then not even listed.

    Folders are walked in sorted order, archives in their own. ``._*`` and ``__MACOSX`` are left out; links and
    devices inside archives too, with a warning.

    Raises:
        DataError: when the source is absent, truncated, a web page, of another kind, or names a path outside.
    """
    if source.is_dir():
        yield from _folder(source, skip)
        return
    with reading(str(source)):
        kind = sniff(source)
    if kind == "zip":
        yield from _zip(source)
    elif kind in _OPENERS:
        with reading(str(source)), _OPENERS[kind](source) as stream:
            yield from tar_members(stream, str(source))
    else:
        raise DataError(
            f"{source} was given as an archive, but it is {kind}. "
            "Give a zip, a tar (plain, gz, bz2, xz) or a folder; if it was downloaded, download it again."
        )


def contents(source: Path, kinds: tuple[str, ...]) -> Iterator[Member]:
    """Iterate over a source that is a file of one of the kinds (``.pkl``), or an archive or folder of files.

    Raises:
        DataError: as ``members``.
    """
    if source.is_file() and source.suffix in kinds:
        yield Member(source.name, source.stat().st_size, lambda: source.open("rb"))
    else:
        yield from members(source)


def archive_in(source: Path, *names: str) -> Path:
    """The first archive of these names (globs) in a folder or up to two below; else the source itself."""
    if source.is_dir():
        for name in names:
            for depth in ("", "*/", "*/*/"):
                if found := sorted(p for p in source.glob(f"{depth}{name}") if p.is_file()):
                    return found[0]
    return source


def tar_members(stream: IO[bytes], name: str) -> Iterator[Member]:
    """Iterate over the files of an uncompressed tar, read forward only; for a tar inside a tar too.

    Raises:
        DataError: when it is truncated, or names a path outside.
    """
    tail = _Tail(stream)
    with reading(name):
        archive = tarfile.TarFile(fileobj=cast("IO[bytes]", tail))
    while True:
        with reading(name):
            info = archive.next()
            archive.members.clear()  # type: ignore[attr-defined]  # else a million members stay in memory
        if info is None:
            break
        if info.isdir():
            continue
        if not info.isreg():
            _LOG.warning("%s: %s is a link or device and is left out", name, info.name)
        elif _is_wanted(path := _safe(info.name, name)):
            yield Member(path, info.size, lambda i=info: cast("IO[bytes]", archive.extractfile(i)))  # type: ignore[misc]
    if tail.last.strip(b"\0") or len(tail.last) != tarfile.BLOCKSIZE:
        raise DataError(f"{name} is truncated: it has no end mark. Download or copy it again.")
    with reading(name):
        while tail.read(1 << 20):  # to the end of a compressed stream, where its checksum is
            pass


def sniff(path: Path) -> str:
    """Say what a file is by its first bytes: zip, tar, gz, bz2 or xz, or in words what else.

    A truncated zip still begins like one; reading it fails.
    """
    with path.open("rb") as stream:
        head = stream.read(1024)
    if not head:
        return "empty"
    for kind, magic in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if head[257:262] == b"ustar":
        return "tar"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<!--")):
        return "a web page (HTML saved under the name of an archive)"
    return "neither an archive nor a folder"


def md5(path: Path) -> str:
    """Hash of a file, read in pieces.

    Raises:
        DataError: when it cannot be read.
    """
    with reading(str(path)), path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn whatever a broken archive raises into a DataError that names it."""
    try:
        yield
    except _BROKEN as error:
        raise DataError(
            f"{name} cannot be read: {error or type(error).__name__}. It may be truncated; copy it again."
        ) from error


def _folder(source: Path, skip: Callable[[str], bool]) -> Iterator[Member]:
    for root, folders, files in os.walk(source):
        folders[:] = sorted(f for f in folders if not skip(f))
        for name in sorted(files):
            path = Path(root) / name
            relative = path.relative_to(source).as_posix()
            if path.is_file() and _is_wanted(relative):
                yield Member(relative, path.stat().st_size, lambda p=path: p.open("rb"))  # type: ignore[misc]


def _zip(source: Path) -> Iterator[Member]:
    with reading(str(source)):
        archive = zipfile.ZipFile(source)
    with archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            if info.external_attr >> 16 & 0o170000 == _SYMLINK:
                _LOG.warning("%s: %s is a link and is left out", source, info.filename)
            elif _is_wanted(path := _safe(info.filename, str(source))):
                yield Member(path, info.file_size, lambda i=info: archive.open(i))  # type: ignore[misc]


def _safe(name: str, archive: str) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in name:
        raise DataError(f"{archive} names a path outside itself, {name!r}: it is not what it claims to be.")
    return path.as_posix()


def _is_wanted(path: str) -> bool:
    parts = path.split("/")
    return not parts[-1].startswith("._") and "__MACOSX" not in parts


class _Tail:
    """A stream that remembers its last read, so that the end mark of a tar can be checked."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.last = b""

    def read(self, n: int = -1) -> bytes:
        self.last = self._stream.read(n)
        return self.last

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def seekable(self) -> bool:
        return self._stream.seekable()

    def tell(self) -> int:
        return self._stream.tell()


_MAGIC = {"zip": b"PK", "gz": b"\x1f\x8b", "bz2": b"BZh", "xz": b"\xfd7zXZ\0"}
_OPENERS: dict[str, Callable[[Path], IO[bytes]]] = {
    "tar": lambda path: path.open("rb"),
    "gz": lambda path: cast("IO[bytes]", gzip.GzipFile(path)),
    "bz2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
}
