"""Files given as weights: taken where tensors are in them, else refused in a sentence; nothing in them is executed."""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import pathlib
import pickle
import random
import re
import struct
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.errors import ConfigError
from harness.method.checkpoint_files import read

STATE = {"fc.weight": torch.ones(3, 2), "fc.bias": torch.zeros(3)}
BESIDE: dict[str, Any] = {
    "a number of numpy": np.float64(0.7),
    "a whole number of numpy": np.int32(7),
    "a truth of numpy": np.bool_(True),
    "an array": np.arange(5.0),
    "an array of text": np.array(["a", "b"]),
    "an empty array": np.empty((0, 3)),
    "a type": np.dtype("f4"),
    "numpy's old generator": np.random.RandomState(0).get_state(),
    "numpy's generator": np.random.default_rng(0),
    "python's generator": random.getstate(),
    "torch's generator": torch.get_rng_state(),
    "options": argparse.Namespace(lr=0.1, path=pathlib.PurePosixPath("/x")),
    "a namespace": types.SimpleNamespace(a=1),
    "a date": datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
    "a duration": datetime.timedelta(seconds=3),
    "a path": pathlib.PosixPath("/home/somebody"),
    "a counter": collections.Counter("abc"),
    "a set": {1, 2},
    "an optimiser": torch.optim.Adam([torch.nn.Parameter(torch.ones(2))]).state_dict(),
    "deep tables": {"a": [{"b": ({"c": np.float32(1)},)}]},
}
ENVELOPES: dict[str, Any] = {
    "bare": lambda s: s,
    "ordered": lambda s: collections.OrderedDict(s),
    **{name: lambda s, name=name: {name: s, "epoch": 3} for name in (
        "state_dict", "state", "model", "net", "model_state_dict", "params", "network", "weights")},
    "two deep": lambda s: {"epoch": 1, "model": {"epoch": 2, "state_dict": s}},
    "parameters": lambda s: {k: torch.nn.Parameter(v) for k, v in s.items()},
    "half precision": lambda s: {k: v.half() for k, v in s.items()},
}  # fmt: skip


class Attack:
    """A pickle that would make a folder when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        import os

        return os.mkdir, (str(self.path),)


class Trainer:
    """An object of somebody's own code."""

    def __init__(self) -> None:
        self.steps = 3


def saved(path: Path, content: Any, **how: Any) -> bytes:
    torch.save(content, path, **how)
    return path.read_bytes()


@pytest.mark.parametrize("what", BESIDE)
@pytest.mark.parametrize("is_new", [True, False])
def test_what_is_beside_the_tensors_does_not_matter(tmp_path: Path, what: str, is_new: bool) -> None:
    torch.save(
        {"state_dict": STATE, "beside": BESIDE[what]},
        tmp_path / "w.pth",
        _use_new_zipfile_serialization=is_new,
    )
    assert list(read(tmp_path / "w.pth")) == list(STATE)


@pytest.mark.parametrize("how", ENVELOPES)
def test_the_tensors_are_found_in_any_usual_envelope(tmp_path: Path, how: str) -> None:
    torch.save(ENVELOPES[how](STATE), tmp_path / "w.pth")
    found = read(tmp_path / "w.pth")
    assert list(found) == list(STATE) and found["fc.weight"].float().equal(STATE["fc.weight"])


def safetensors(header: Any, content: bytes = bytes(36), n: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if n is None else n) + text + content


CARD = {"dtype": "F32", "shape": [3, 3], "data_offsets": [0, 36]}
NO_CHECKPOINT: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is empty"),
    "a web page": (b"<!DOCTYPE html><html>404", "a web page"),
    "a web page after a mark": (b"\xef\xbb\xbf\n<html>quota", "a web page"),
    "a pointer of Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "git lfs pull",
    ),
    "Keras": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
    "an array": (b"\x93NUMPY\x01\x00v\x00", "a numpy array"),
    "compressed": (b"\x1f\x8b\x08\x00", "unpack it first"),
    "text": (b"hello, world " * 9, "begins like no kind"),
    "noise": (random.Random(0).randbytes(999), "begins like no kind"),
    "a zip of something else": (b"PK\x05\x06" + bytes(18), "cut or damaged"),
    "half a zip": (b"PK\x03\x04" + bytes(40), "cut or damaged"),
    "a plain pickle of text": (pickle.dumps("text"), "pickle|no state dict"),
    "safetensors without a header": (
        safetensors(b"{}", n=10**6),
        "no whole file of safetensors|begins like no kind",
    ),
    "safetensors that are cut": (safetensors({"a": CARD}, bytes(12)), "lies outside the file"),
    "safetensors of another shape": (safetensors({"a": {**CARD, "shape": [9, 9]}}), "shape does not fit"),
    "safetensors with a shape below nothing": (
        safetensors({"a": {**CARD, "shape": [-3, -3]}}),
        "whole numbers",
    ),
    "safetensors that point back": (safetensors({"a": {**CARD, "data_offsets": [36, 0]}}), "lies outside"),
    "safetensors of a strange type": (safetensors({"a": {**CARD, "dtype": "F8"}}), "is of type F8"),
    "safetensors that are nested": (safetensors(b'{"a":' + b"[" * 100_000), "no whole file"),
    "safetensors without tensors": (safetensors({"__metadata__": {}}), "no state dict"),
    "safetensors of lists": (safetensors({"a": [1, 2]}), "no whole file"),
}


@pytest.mark.parametrize("what", NO_CHECKPOINT)
def test_what_is_no_checkpoint_is_named_as_what_it_is(tmp_path: Path, what: str) -> None:
    content, says = NO_CHECKPOINT[what]
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=says) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "operand" not in str(caught.value) and "0x" not in str(caught.value)


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_checkpoint_that_is_cut_anywhere_is_said_to_be(tmp_path: Path, part: float, is_new: bool) -> None:
    content = saved(tmp_path / "w.pth", {"state_dict": STATE}, _use_new_zipfile_serialization=is_new)
    (tmp_path / "w.pth").write_bytes(content[: int(len(content) * part)])
    with pytest.raises(ConfigError, match=r"cut|no kind"):
        read(tmp_path / "w.pth")


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_checkpoint_is_read_or_refused_in_words(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    content = bytearray(saved(tmp_path / "w.pth", {"state_dict": STATE, "beside": np.float64(1)}))
    for _ in range(rng.randint(1, 20)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    (tmp_path / "w.pth").write_bytes(content)
    try:
        assert all(isinstance(value, torch.Tensor) for value in read(tmp_path / "w.pth").values())
    except ConfigError as error:
        assert str(tmp_path / "w.pth") in str(error)


def test_an_attack_is_refused_and_the_lines_advised_save_the_tensors_alone(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"state_dict": STATE, "attack": Attack(tmp_path / "made")}, path)
    with pytest.raises(ConfigError, match=r"holds (posix|os)\.mkdir"):
        read(path)
    assert not (tmp_path / "made").exists()
    torch.save({"state_dict": STATE, "trainer": Trainer(), "net": STATE}, path)
    with pytest.raises(ConfigError, match=r"holds \S*test_hostile_weights\.Trainer") as caught:
        read(path)
    lines = [line.strip() for line in str(caught.value).splitlines()[1:]]
    assert len(lines) == 2
    code = f"import sys; sys.path[:0] = {sys.path!r}\n" + "\n".join(lines)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert list(read(tmp_path / "tensors.pth")) == list(STATE)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    torch.save({"net": {**STATE, "fc.bias": torch.full((3,), value)}}, tmp_path / "w.pth")
    with pytest.raises(
        ConfigError, match=re.escape("1 of 2 tensors hold numbers that are not finite (fc.bias)")
    ):
        read(tmp_path / "w.pth")
