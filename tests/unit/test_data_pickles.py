from __future__ import annotations

import collections
import contextlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from python2_pickles import python2

from harness.errors import DataError
from harness.images.sources.pickles import load, text

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
CONTENT = {
    "data": IMAGES,
    "labels": [0, 1, 1],
    "names": ["apple", "pâté"],
    "nested": {"n01": [0, 1], "n02": (2.5, None, True)},
    "raw": b"\x00\xff",
    "empty": b"",
    "wide": np.arange(6, dtype=">i4").reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "words": np.array(["ab", "c"]),
    "scalar": np.int64(7),
    "none": np.empty((0, 3), dtype=np.float32),
}


def loads(content: bytes) -> Any:
    return load(io.BytesIO(content), "x.pkl")


def same(found: Any, expected: Any) -> None:
    assert list(found) == list(expected)
    for key, value in expected.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(found[key], value)
            assert found[key].dtype == value.dtype
        else:
            assert found[key] == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol_are_read(protocol: int) -> None:
    same(loads(pickle.dumps(CONTENT, protocol)), CONTENT)


def test_numpy_2_names_are_the_same_arrays() -> None:
    content = pickle.dumps(IMAGES, 2).replace(b"numpy.core.multiarray", b"numpy._core.multiarray")
    assert b"_core" in content
    np.testing.assert_array_equal(loads(content), IMAGES)


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_python_2_pickles_are_read(protocol: int) -> None:
    content = {
        "image_data": IMAGES,
        "class_dict": {"n01": [0, 2], "n02": [1]},
        "names": ["apple", "b\xe9"],
        "label": np.int32(5),
    }
    found = loads(python2(content, protocol))
    np.testing.assert_array_equal(found["image_data"], IMAGES)
    assert found["class_dict"] == content["class_dict"]
    assert found["names"][0] == b"apple"
    assert [text(n) for n in found["names"]] == ["apple", "b�"]
    assert found["label"] == 5


def test_arrays_are_not_copied_out_of_the_file() -> None:
    found = loads(python2({"image_data": IMAGES}, 2))["image_data"]
    assert not found.flags.owndata
    assert not found.flags.writeable


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch evil",)


class Setting:
    def __init__(self) -> None:
        self.x = 1


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Evil(), r"(posix|nt)\.system"),
        (Setting(), r"Setting|_reconstructor"),
        (collections.OrderedDict(a=1), "OrderedDict"),
        (Path("x"), "Path"),
        (np.array([{}, []], dtype=object), "objects|dtype 'O8'"),
        (np.zeros(2, dtype=[("a", "i4")]), "dtype"),
        (np.array(["2020"], dtype="M8[D]"), "dtype 'M8'"),
        (np.ma.masked_array([1]), "_mareconstruct"),
        ({1, 2}, r"set"),
        (1j, "complex"),
        (range(3), "range"),
        (print, "print"),
        ({(1, 2): 3}, "name"),
    ],
    ids=lambda v: type(v).__name__,
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_anything_else_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: object, named: str, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=named):
        loads(pickle.dumps([value], protocol))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("attack", [
    b"cnumpy.core.multiarray\n_reconstruct\n(cos\nsystem\n(I0\ntS'b'\ntR.",
    b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.",
    b"cnumpy\nload\n(S'/etc/passwd'\ntR.",
    b"cbuiltins\neval\n(S'1'\ntR.",
    b"c__builtin__\ngetattr\n.",
    b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93.",
    b"(S'touch evil'\nios\nsystem\n.",
    b"Pid\n.",
    b"\x82\x01.",
    b"(l" + b"(l" * 5000 + b"a" * 5000 + b".",
    b"]q\x00h\x00a.",
    b"r\xff\xff\xff\x7f.",
    b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    b"",
    b".",
])  # fmt: skip
def test_crafted_pickles_are_data_errors(
    attack: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"x\.pkl|pickle|dtype|array"):
        loads(attack)
    assert not list(tmp_path.iterdir())


def test_what_a_pickle_does_to_a_stand_in_is_lost() -> None:
    poisoned = b"cnumpy.core.multiarray\n_reconstruct\n}S'__setstate__'\nI1\nsb."
    with pytest.raises(DataError):
        loads(poisoned)
    np.testing.assert_array_equal(loads(pickle.dumps(IMAGES, 2)), IMAGES)


SEEDS = [*(pickle.dumps(CONTENT, p) for p in (0, 2, 4, 5)), *(python2(CONTENT, p) for p in (0, 2))]


@settings(max_examples=400, deadline=None)
@given(
    seed=st.sampled_from(SEEDS),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=6),
    cut=st.floats(0, 1),
)
def test_damaged_pickles_give_plain_values_or_a_data_error(
    seed: bytes, flips: list[tuple[float, int]], cut: float
) -> None:
    content = bytearray(seed)
    for where, change in flips:
        content[int(where * len(content))] ^= change
    with contextlib.suppress(DataError):
        assert_plain(loads(bytes(content[: int(cut * len(content)) + 1])))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_give_plain_values_or_a_data_error(content: bytes) -> None:
    with contextlib.suppress(DataError):
        assert_plain(loads(content))


def assert_plain(value: Any) -> None:
    if isinstance(value, dict):
        assert all(isinstance(k, str | int) for k in value)
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            assert_plain(item)
    else:
        assert isinstance(value, str | bytes | int | float | None | np.ndarray)
        assert not (isinstance(value, np.ndarray) and value.dtype.hasobject)
