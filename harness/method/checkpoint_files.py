"""Files of weights: what torch.save wrote, or safetensors, read without executing anything in them."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.errors import ConfigError

ENVELOPES = (
    "state_dict", "model_state_dict", "state", "model", "net", "network", "params", "weights", "module", "encoder", "backbone",
)  # fmt: skip
_DEPTH = 3  # envelopes within each other
_MOST_HEADER = 100 << 20
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_SAVE = """torch.save({{k: v for k, v in c.items() if torch.is_tensor(v) or isinstance(v, dict)}}, "tensors.pth")"""
_OTHERS = {
    b"\x89HDF": "an HDF5 file, as Keras writes them",
    b"version https://git-lfs": "a pointer of Git LFS and not the file itself; `git lfs pull` fetches it",
    b"\x93NUMPY": "a numpy array",
    b"\x1f\x8b": "compressed; unpack it first",
    b"\x08": "an ONNX or TensorFlow file",
}


def read(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint by name, out of whatever envelope they are in.

    Numbers, arrays, dates, options and states of generators beside the tensors do not matter.

    Raises:
        ConfigError: when it is not a checkpoint, saying what it is; when its tensors are beside objects that torch does not
            read without running code; when there are no tensors by name; when weights are not finite.
    """
    content = read_all(path)
    found = _state(content, _DEPTH)
    if not found:
        raise ConfigError(
            f"--weights {path} holds no state dict: expected tensors by name, or such a table under one of "
            f"{', '.join(ENVELOPES)}. It holds {_told(content)}."
        )
    refuse_infinite(found, path)
    return found


def read_all(path: Path) -> Any:
    """Read what a checkpoint holds, as it was saved, for whom the tensors by name are not all.

    Raises:
        ConfigError: when it is not a checkpoint, or torch does not read it without running code.
    """
    head = _head(path)
    return _safetensors(path) if _is_safetensors(path, head) else _torch(path, head)


def names(content: Any) -> set[str]:
    """Names of all tensors in what ``read_all`` gave, in whatever tables they are."""
    if not isinstance(content, Mapping):
        return set()
    own = {key for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    return own.union(*map(names, content.values()))


def refuse_infinite(found: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that are not finite.

    Raises:
        ConfigError: naming some.
    """
    broken = [
        name for name, value in found.items() if value.is_floating_point() and not value.isfinite().all()
    ]
    if broken:
        raise ConfigError(
            f"--weights {path}: {len(broken)} of {len(found)} tensors hold numbers that are not finite ({', '.join(broken[:3])}"
            f"{' …' if len(broken) > 3 else ''}); its training went wrong, or the file is damaged. Take an earlier checkpoint."
        )


def _head(path: Path) -> bytes:
    """The first bytes; refuses what is no checkpoint by these."""
    if path.is_dir():
        raise ConfigError(f"--weights {path} is a folder. Give the file of weights in it.")
    with path.open("rb") as file:
        head = file.read(512)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    what = (
        "empty" if not head else next((what for magic, what in _OTHERS.items() if head.startswith(magic)), "")
    )
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")):
        what = "a web page, saved under the name of a checkpoint; download the file itself"
    if what:
        raise ConfigError(f"--weights {path} cannot be read as a checkpoint of tensors: it is {what}.")
    return head


def _torch(path: Path, head: bytes) -> Any:
    try:
        with torch.serialization.safe_globals(_set_aside()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever a broken file makes it raise
        raise ConfigError(_refusal(path, head, str(error))) from error


def _refusal(path: Path, head: bytes, error: str) -> str:
    """Why torch does not read a file, and what to do."""
    start = f"--weights {path} cannot be read as a checkpoint of tensors: "
    if asked := re.search(r"GLOBAL ([\w.]+)|(?:function|but got) <?(?:class )?'?([\w.]+)", error):
        return (
            f"{start}beside them it holds {asked[1] or asked[2]}, and reading that could run a program. If you trust its author, save the "
            f"tensors alone and give that file:\n"
            f'  import torch; c = torch.load({str(path)!r}, map_location="cpu", weights_only=False); '
            f'c = {{"state_dict": c.state_dict()}} if hasattr(c, "state_dict") else c\n'
            f"  {_SAVE.format()}"
        )
    if head.startswith(b"PK"):
        return f"{start}it begins like one and is cut or damaged. Copy or download it again."
    if head.startswith(b"\x80"):
        return f"{start}it is a pickle that is cut, or of something else than tensors. Copy or download it again."
    return f"{start}it begins like no kind of checkpoint that is known (torch.save, safetensors)."


class _Aside:
    """Stands for what official checkpoints hold beside tensors; takes everything and keeps nothing."""

    def __new__(cls, *_: object, **__: object) -> _Aside:
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        """Keep nothing."""

    def __setstate__(self, state: object) -> None:
        """Keep nothing."""


def _set_aside() -> list[Any]:
    """Names of what is set aside unread: numbers and arrays of numpy, generators, dates, paths, options."""
    arrays = [
        f"numpy.{core}.{name}"
        for core in ("core", "_core")
        for name in ("multiarray.scalar", "multiarray._reconstruct", "numeric._frombuffer")
    ]
    dtypes = [f"numpy.dtypes.{type(np.dtype(kind)).__name__}" for kind in "?bBhHiIlLqQefdgFDGSUOMmV"]
    generators = [
        f"numpy.random._pickle.__{name}_ctor" for name in ("randomstate", "generator", "bit_generator")
    ]
    bits = [
        f"numpy.random._{module}.{name}"
        for module, name in (("mt19937", "MT19937"), ("pcg64", "PCG64"), ("philox", "Philox"))
    ]
    plain = [
        "numpy.ndarray", "numpy.dtype", "argparse.Namespace", "types.SimpleNamespace", "datetime.datetime", "datetime.date",
        "datetime.time", "datetime.timedelta", "datetime.timezone", "pathlib.Path", "pathlib.PosixPath", "pathlib.PurePosixPath",
        "pathlib.WindowsPath", "pathlib.PureWindowsPath", "random.Random", "uuid.UUID", "decimal.Decimal",
        "bytes", "builtins.bytes",
    ]  # fmt: skip
    return [(_Aside, name) for name in (*arrays, *dict.fromkeys(dtypes), *generators, *bits, *plain)]


def _state(content: Any, depth: int) -> dict[str, Tensor]:
    """Tensors by name: the content itself, or what is in its envelope."""
    if not isinstance(content, Mapping) or not content:
        return {}
    if all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()):
        return dict(content)
    if not depth:
        return {}
    known = next((found for name in ENVELOPES if (found := _state(content.get(name), depth - 1))), {})
    others = [found for value in content.values() if (found := _state(value, 0))]
    return known or (others[0] if len(others) == 1 else {})  # the only table, whatever its name


def _told(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a table of {', '.join(map(str, list(content)[:8])) or 'nothing'}"
    return f"a {type(content).__name__}"


def _is_safetensors(path: Path, head: bytes) -> bool:
    return path.suffix == ".safetensors" or (
        head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < _MOST_HEADER
    )


def _safetensors(path: Path) -> dict[str, Tensor]:
    """Read a file of safetensors: the length of a JSON header, the header, then all tensors end to end."""
    content = path.read_bytes()
    try:
        (n_header,) = struct.unpack("<Q", content[:8])
        if n_header > min(len(content), _MOST_HEADER):
            raise ValueError(f"its header is said to have {n_header:,} bytes, the file has {len(content):,}")
        header = json.loads(content[8 : 8 + n_header])
        return dict(_tensors(header, memoryview(content)[8 + n_header :]))
    except (struct.error, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"--weights {path} cannot be read as a checkpoint of tensors: it is no whole file of safetensors ({error}). "
            "Copy or download it again."
        ) from error


def _tensors(header: dict[str, Any], content: memoryview) -> Iterator[tuple[str, Tensor]]:
    for name, card in header.items():
        if name == "__metadata__":
            continue
        if card["dtype"] not in _DTYPES:
            raise ValueError(f"{name} is of type {card['dtype']}; known are {', '.join(_DTYPES)}")
        dtype, shape, (start, end) = _DTYPES[card["dtype"]], card["shape"], card["data_offsets"]
        if not all(isinstance(n, int) and n >= 0 for n in (*shape, start, end)):
            raise ValueError(f"{name} has a shape or place that is not of whole numbers")
        if not start <= end <= len(content) or end - start != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name} lies outside the file, or its shape does not fit its bytes")
        flat = (
            torch.frombuffer(bytearray(content[start:end]), dtype=dtype)
            if end > start
            else torch.empty(0, dtype=dtype)
        )
        yield name, flat.reshape(shape)
