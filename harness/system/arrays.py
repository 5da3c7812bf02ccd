"""Arrays from outside: shape and type are read from the header and checked before anything is allocated."""

from __future__ import annotations

import io
import lzma
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

MOST_BYTES = 512 << 20  # of the arrays of a run, or of one blob
_MOST_MEMBERS = 256
_CHUNK = 8 << 20  # bytes between two looks at Ctrl-C
_HEADER = 16 << 10  # bytes that the header of an array may take
_XZ = b"\xfd7zXZ\x00"  # what such a stream begins with; none of zlib does
_XZ_WINDOW = 1 << 20  # bytes that it looks back, which an unpacker sets aside
_XZ_MEMORY = 4 << 20  # bytes that an unpacker may take
_READ_HEADER: Mapping[tuple[int, int], Callable[..., tuple[tuple[int, ...], bool, np.dtype[Any]]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class _Header(NamedTuple):
    """What a ``.npy`` file says of its array, and where its numbers begin."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]
    start: int

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_npz(path: Path, *, kinds: str = "iu", most_bytes: int = MOST_BYTES) -> dict[str, npt.NDArray[Any]]:
    """Read a ``.npz`` file.

    Args:
        path: the file.
        kinds: numpy's letters of the types that may be in it.
        most_bytes: of all arrays together, unpacked.

    Raises:
        ValueError: when it holds anything else or more; nothing has been allocated for it then.
        OSError, EOFError, zipfile.BadZipFile: when it cannot be read.
    """
    found, left = {}, most_bytes
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > _MOST_MEMBERS:
                raise ValueError(f"it has {len(members):,} members, at most {_MOST_MEMBERS} are read")
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name in found:
                    raise ValueError(f"it holds {name[:60]!a} twice")
                if (
                    member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                    or member.flag_bits & 1
                ):
                    raise ValueError(f"{name[:60]!a} is packed in a way that is not read")
                with archive.open(member) as stream:
                    found[name] = _read(stream, kinds, left)
                left -= found[name].nbytes
    except (zlib.error, NotImplementedError, RuntimeError, OverflowError) as error:
        raise ValueError(str(error)) from error
    return found


def pack(array: npt.NDArray[Any], *, small: bool = False) -> bytes:
    """An array as a ``.npy`` file, which records shape and dtype itself, compressed by zlib or xz.

    Read one by hand with ``numpy.load(io.BytesIO(zlib.decompress(blob)))``, or with ``lzma`` in place of ``zlib``.

    Args:
        array: numbers.
        small: the smallest of three ways, one of them xz, at a hundred times the time; by runs and Huffman codes otherwise,
            which is as small as level 1 of zlib, predictions smaller, in half its time.
    """
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    packer = zlib.compressobj(strategy=zlib.Z_RLE)
    packed = packer.compress(file.getbuffer()) + packer.flush()
    if not small:
        return packed
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": _XZ_WINDOW}]
    by_xz = lzma.compress(file.getbuffer(), lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=filters)
    return min(packed, zlib.compress(file.getbuffer(), 9), by_xz, key=len)


def unpack(blob: bytes, *, kinds: str = "iu", most_bytes: int = MOST_BYTES) -> npt.NDArray[Any]:
    """Read an array out of what ``pack`` made.

    Raises:
        ValueError: when it is no such thing, or larger; nothing has been allocated for it then.
    """
    try:
        return _read(_Inflating(blob), kinds, most_bytes)
    except (zlib.error, lzma.LZMAError) as error:
        raise ValueError(str(error)) from error


class _Inflating:
    """A stream of zlib or xz that is unpacked as far as it is read."""

    def __init__(self, blob: bytes) -> None:
        is_xz = blob.startswith(_XZ)
        self._unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY) if is_xz else zlib.decompressobj()
        self._packed = blob

    def read(self, n: int) -> bytes:
        parts = []
        while n > 0 and not self._unpacker.eof:
            part = self._unpacker.decompress(self._packed, n)
            self._packed = getattr(self._unpacker, "unconsumed_tail", b"")  # xz keeps what is left itself
            if not part and not self._packed:
                break
            parts.append(part)
            n -= len(part)
        return b"".join(parts)


def _read(stream: IO[bytes] | _Inflating, kinds: str, most_bytes: int) -> npt.NDArray[Any]:
    begin = stream.read(_HEADER)
    header = _header(begin)
    if header.dtype.kind not in kinds or header.dtype.itemsize > 1 << 16:
        raise ValueError(f"an array of type {header.dtype.str[:20]} is not read here")
    if header.n_bytes > most_bytes:
        raise ValueError(f"an array would take {header.n_bytes:,} bytes; at most {most_bytes:,} are read")
    content = bytearray(begin[header.start :])
    while len(content) <= header.n_bytes:
        part = stream.read(min(_CHUNK, header.n_bytes + 1 - len(content)))
        if not part:
            break
        content += part
    if len(content) != header.n_bytes:
        raise ValueError("an array is not of the length that its header says")
    flat = np.frombuffer(content, header.dtype) if content else np.empty(0, header.dtype)
    return flat.reshape(header.shape, order="F" if header.is_fortran else "C")


def _header(begin: bytes) -> _Header:
    """Read the header; the shape may be any, so nothing is made of it yet."""
    file = io.BytesIO(begin)
    try:
        version = tuple(np.lib.format.read_magic(file))  # type: ignore[no-untyped-call]
        if version not in _READ_HEADER:
            raise ValueError(f"an array of format {version} is not read")
        shape, is_fortran, dtype = _READ_HEADER[version](file, max_header_size=_HEADER)
    except (TypeError, SyntaxError, RecursionError, MemoryError, OverflowError) as error:
        raise ValueError(f"the header of an array cannot be read ({type(error).__name__})") from error
    if any(type(n) is not int or not 0 <= n < 2**48 for n in shape) or len(shape) > 8:
        raise ValueError("an array has a shape that cannot be")
    return _Header(shape, is_fortran, dtype, file.tell())
