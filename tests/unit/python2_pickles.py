"""Pickles as Python 2 wrote them: text is STRING, not unicode, and arrays carry their bytes as such strings."""

from __future__ import annotations

import io
import pickle
import struct
from typing import Any, ClassVar

import numpy as np


class _Python2(pickle._Pickler):  # type: ignore[misc,name-defined]
    """Writes str and bytes with the opcodes of Python 2's `str`."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_string(self, value: str | bytes) -> None:
        content = value.encode("latin1", "replace") if isinstance(value, str) else value
        if not self.bin:
            quoted = repr(content)[1:].encode("ascii")
            self.write(pickle.STRING + quoted + b"\n")
        elif len(content) < 256:
            self.write(pickle.SHORT_BINSTRING + struct.pack("<B", len(content)) + content)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(value)

    dispatch[str] = save_string
    dispatch[bytes] = save_string

    def save_global(self, obj: Any, name: str | None = None) -> None:
        module = obj.__module__.replace("numpy._core", "numpy.core")
        self.write(pickle.GLOBAL + f"{module}\n{name or obj.__qualname__}\n".encode())
        self.memoize(obj)

    dispatch[type(np.empty)] = save_global
    dispatch[type] = save_global


def python2(value: Any, protocol: int = 2) -> bytes:
    """Pickle as Python 2 would, protocols 0 to 2."""
    assert protocol <= 2
    stream = io.BytesIO()
    _Python2(stream, protocol).dump(value)
    return stream.getvalue()
