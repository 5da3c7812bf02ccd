"""Pickles of arrays, Pillow's pictures, lists, dictionaries, text and numbers; nothing else is ever built or called.

Arrays are rebuilt here from what the pickle says of them, so not even numpy's own unpickling meets foreign
input. Python-2 pickles need no second attempt with another encoding: their text is taken as bytes, which leaves
the contents of arrays uncopied, and keys become text.
"""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Callable
from functools import partial
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from harness.errors import DataError

Array = npt.NDArray[Any]
_BROKEN = (
    pickle.UnpicklingError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|[SU]\d{1,6})")
_NDARRAY = "numpy.ndarray"
_OPEN = object()  # stands for a container that is being looked at
_PLAIN = (str, bytes, int, float, bool, type(None), np.ndarray)


def load(stream: IO[bytes], name: str) -> Any:
    """Read a pickle of any protocol, written by Python 2 or 3.

    Args:
        stream: its bytes.
        name: for messages.

    Returns:
        lists, tuples, dictionaries (keys that are bytes become text), arrays (read-only; a picture is one of
        (H, W, 3) uint8), str, bytes, int, float,
        bool or None.

    Raises:
        DataError: when it is broken, or asks for anything else; names the class refused.
    """
    try:
        return _plain(_Reader(stream, encoding="bytes").load(), name, {})
    except _BROKEN as error:
        raise DataError(
            f"{name} is not a whole pickle: {error or type(error).__name__}. Copy or download it again."
        ) from error


def text(value: Any) -> str:
    """A name out of a pickle, which is bytes where Python 2 wrote it.

    Raises:
        DataError: when it is neither text nor bytes.
    """
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if not isinstance(value, str):
        raise DataError(f"{value!r:.60} stands where a name was expected.")
    return value


class _Reader(pickle._Unpickler):  # type: ignore[misc,name-defined,unused-ignore]
    """The unpickler in Python: unlike the one in C, no number in a broken file makes it claim memory."""

    def find_class(self, module: str, name: str) -> Any:
        """Stand-ins for the few names that arrays are made of."""
        if (module, name) == ("PIL.Image", "Image"):
            return type(
                "Picture", (_Picture,), {}
            )  # pickles make it without calling it, so it has to be a class
        found = _ADMITTED.get((module.replace("numpy._core", "numpy.core"), name))
        if found is None:
            raise DataError(
                f"The pickle asks for {module}.{name}; only arrays, lists, dictionaries, text and numbers are read, "
                "because anything else could run a program. Save it again as arrays."
            )
        return partial(found) if callable(found) else found  # a fresh one: what a pickle does to it is lost


class _Dtype:
    """A dtype as a pickle describes it."""

    def __init__(self, code: object, *_: object) -> None:
        self.code, self.order = _name(code), ""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[3] is not None or state[2] is not None:
            raise DataError(f"An array of dtype {self.code} with fields or subarrays is not read.")
        self.order = _name(state[1])

    def build(self) -> np.dtype[Any]:
        if not _DTYPE.fullmatch(self.code):
            raise DataError(f"An array of dtype {self.code!r:.30} is not read; only numbers and text are.")
        order = self.order if self.order in ("<", ">") else ""
        return np.dtype(order + self.code.lstrip("<>=|"))


class _Picture:
    """A picture as Pillow describes it: what else it knows, mode, (width, height), palette, pixels."""

    value: Array | None = None

    def __setstate__(self, state: Any) -> None:
        _, mode, (width, height), _, content = state
        if mode != "RGB" or not isinstance(content, bytes):
            raise DataError(f"A picture of mode {mode!r:.30} is not read; RGB is.")
        self.value = np.frombuffer(content, np.uint8).reshape(int(height), int(width), 3)


class _Array:
    """An array as a pickle describes it."""

    def __init__(self) -> None:
        self.value: Array | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, content = state
        self.value = _array(content, dtype, shape, is_fortran)


def _array(content: Any, dtype: Any, shape: Any, is_fortran: object) -> Array:
    if isinstance(content, str):  # what the C pickler of Python 3 makes of bytes at protocol 0
        content = content.encode("latin1")
    if not isinstance(dtype, _Dtype) or not isinstance(content, bytes | bytearray):
        raise DataError("An array of objects is not read; only numbers and text are.")
    flat = np.frombuffer(content, dtype.build()) if content else np.empty(0, dtype.build())
    return flat.reshape(tuple(map(int, shape)), order="F" if is_fortran else "C")


def _reconstruct(kind: object, *_: object) -> _Array:
    if kind != _NDARRAY:
        raise DataError(f"An array of class {kind!r:.60} is not read.")
    return _Array()


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.value = _array(content, dtype, shape, _name(order) == "F")
    return array


def _scalar(dtype: Any, content: Any) -> Any:
    return _array(content, dtype, (), False).item()


def _encode(characters: str, encoding: Any) -> bytes:
    """Bytes as Python 3 writes them at protocol 2."""
    if _name(encoding) not in ("latin1", "latin-1"):
        raise DataError(f"Bytes in encoding {encoding!r:.30} are not read.")
    return characters.encode("latin1")


def _name(value: object) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


_ADMITTED: dict[tuple[str, str], Callable[..., Any] | str] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): lambda: b"",  # how Python 3 writes b"" at protocol 2
}


def _plain(value: Any, name: str, known: dict[int, tuple[Any, Any]]) -> Any:
    """Put arrays in the place of their descriptions, in place within lists, so that nothing is held twice.

    Args:
        value: what was read.
        name: for messages.
        known: what became of the containers met so far: a few bytes can nest one in another a million times.
    """
    if isinstance(value, _Array | _Picture):
        if value.value is None:
            raise DataError(f"{name} has an array or picture without contents.")
        return value.value
    if isinstance(value, list | dict | tuple):
        if id(value) not in known:
            known[id(value)] = value, _OPEN  # the value itself is kept, else another could have its id
            known[id(value)] = value, _plain_parts(value, name, known)
        if known[id(value)][1] is _OPEN:
            raise DataError(f"{name} is not a whole pickle: it holds something that holds itself.")
        return known[id(value)][1]
    if not isinstance(value, _PLAIN):
        raise DataError(f"{name} holds a {type(value).__name__}, which is not read.")
    return value


def _plain_parts(
    value: list[Any] | dict[Any, Any] | tuple[Any, ...], name: str, known: dict[int, Any]
) -> Any:
    if isinstance(value, list):
        for i, item in enumerate(value):
            value[i] = _plain(item, name, known)
        return value
    if isinstance(value, dict):
        return {_key(k): _plain(v, name, known) for k, v in value.items()}
    return tuple(_plain(item, name, known) for item in value)


def _key(key: Any) -> str | int:
    if isinstance(key, str | int):
        return key
    return text(key)
