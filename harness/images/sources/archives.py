"""Members of a zip, a tar (plain or compressed) or a folder, one at a time; nothing is extracted or dropped unsaid."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import logging
import lzma
import shutil
import struct
import tarfile
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

from harness.errors import DataError
from harness.images import account
from harness.images.sources import walk

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
_UTF8, _UNICODE_PATH = 0x800, 0x7075  # how a zip says that a name is UTF-8: a flag, or a field of its own
_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_DEPTH = 3


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

    Folders are walked in sorted order, links followed, archives in their own order. ``._*`` and ``__MACOSX`` are left
    out; links and devices inside archives too; ``account.accounted`` counts them. Names that are not UTF-8 have
    surrogates in them.

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


def archive_or_folder(source: Path, names: Sequence[str], expected_md5: str, folders: Sequence[str]) -> Path:
    """The published archive in a folder; the folder itself where the archive is another and its contents lie beside it.

    Args:
        source: an archive or folder.
        names: globs of the archive's name.
        expected_md5: of the published archive; empty where none is known, any is taken then.
        folders: globs of what lies there when it was unpacked.
    """
    archive = archive_in(source, *names)
    if archive == source or not expected_md5 or md5(archive) == expected_md5:
        return archive
    if any(
        p.is_dir() for glob in folders for depth in ("", "*/", "*/*/") for p in source.glob(f"{depth}{glob}")
    ):
        _LOG.warning("%s is not the published archive, or half of it; the folder beside it is used", archive)
        return source
    return archive


def outline(source: Path) -> str:
    """What is at the top of a folder or archive, in words, for messages that say what was expected."""
    if source.is_dir():
        names = sorted(f"{p.name}/" if p.is_dir() else p.name for p in source.iterdir())
    else:
        names = list(dict.fromkeys("/".join(m.path.split("/")[:2]) for m in members(source)))
    return f"{source} has {account.shown(names, 6) or 'nothing in it'}"


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
            _left_out(info.name, name)
        elif _is_wanted(path := _safe(info.name, name)):
            yield _member(path, info.size, lambda i=info: cast("IO[bytes]", archive.extractfile(i)))  # type: ignore[misc]
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


def unpacked(source: Path, skip: Callable[[str], bool] = lambda folder: False) -> Iterator[Member]:
    """Iterate as ``members`` does, and over the members of archives among them, as if they were folders of that name.

    An archive whose folder lies beside it is passed over: it was unpacked already, or is half of a download.

    Raises:
        DataError: as ``members``, of archives inside too.
    """
    for member in members(source, skip):
        if not (stem := _stem(member.path)):
            yield member
        elif source.is_dir() and (source / stem).is_dir():
            account.pass_over(member.path, "archives whose folder lies beside them")
        else:
            yield from _within(member, stem, 1)


def _within(member: Member, stem: str, depth: int) -> Iterator[Member]:
    """The members of an archive inside another, which is copied aside because archives are read with jumps."""
    if depth > _DEPTH:
        account.pass_over(member.path, f"archives more than {_DEPTH} deep in others")
        return
    with tempfile.TemporaryDirectory(prefix="fsbench-") as folder:
        if member.n_bytes > shutil.disk_usage(folder).free:
            raise DataError(
                f"{member.path} is an archive inside another and needs {member.n_bytes / 1e6:,.0f} MB in {folder}, which "
                "has less free. Unpack the outer archive and give its folder, or set TMPDIR to a larger disk."
            )
        copy = Path(folder) / PurePosixPath(member.path).name
        with reading(member.path), member.open() as stream, copy.open("wb") as target:
            shutil.copyfileobj(stream, target)
        for inner in members(copy):
            top, name = inner.path.partition("/")[0], PurePosixPath(stem).name
            path = f"{PurePosixPath(stem).parent / inner.path if top == name else f'{stem}/{inner.path}'}"
            found = Member(path, inner.n_bytes, inner.open)
            if inner_stem := _stem(path):
                yield from _within(found, inner_stem, depth + 1)
            else:
                yield found


def _stem(path: str) -> str:
    """The path of an archive without what says that it is one; empty for other files."""
    for ending in _ENDINGS:
        if path.lower().endswith(ending) and not PurePosixPath(path).name.startswith("."):
            return path[: -len(ending)]
    return ""


def _folder(source: Path, skip: Callable[[str], bool]) -> Iterator[Member]:
    for relative, n_bytes, path in walk.files(source, skip):
        if _is_wanted(relative):
            yield _member(relative, n_bytes, lambda p=path: p.open("rb"))  # type: ignore[misc]


def _zip(source: Path) -> Iterator[Member]:
    with reading(str(source)):
        archive = zipfile.ZipFile(source)
    with archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            name = _zip_name(info)
            if info.external_attr >> 16 & 0o170000 == _SYMLINK:
                _left_out(name, str(source))
            elif _is_wanted(path := _safe(name, str(source))):
                yield _member(path, info.file_size, lambda i=info: archive.open(i))  # type: ignore[misc]


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name of a member; one of an unknown code page has surrogates, as a folder's name that is not UTF-8 has.

    Without the mark for UTF-8, ``zipfile`` reads any bytes as code page 437, which is right for hardly any zip made
    today; many hold UTF-8 without the mark, or beside it in a field of its own.
    """
    if info.flag_bits & _UTF8 or info.filename.isascii():
        return info.filename
    raw = info.filename.encode("cp437", "replace")
    extra = info.extra
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and len(field) > 5 and struct.unpack("<L", field[1:5])[0] == zlib.crc32(raw):
            raw = field[5:]
    return raw.decode("utf-8", "surrogateescape")


def _member(path: str, n_bytes: int, opener: Callable[[], IO[bytes]]) -> Member:
    return Member(path, n_bytes, account.counted(path, opener))


def _left_out(path: str, archive: str) -> None:
    _LOG.warning("%s: %s is a link or device and is left out", archive, path)
    account.pass_over(path, "links and devices inside an archive")


def _safe(name: str, archive: str) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in name:
        raise DataError(f"{archive} names a path outside itself, {name!r}: it is not what it claims to be.")
    return path.as_posix()


def _is_wanted(path: str) -> bool:
    parts = path.split("/")
    is_wanted = not parts[-1].startswith("._") and "__MACOSX" not in parts
    if not is_wanted:
        account.pass_over(path, "beside-files of macOS")
    return is_wanted


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
