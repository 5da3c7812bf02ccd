"""The validator against ten thousand records that nobody would write: a refusal or a record, never a traceback."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import HONEST

from harness.errors import FsbenchError
from harness.runs import RunResult, RunSpec, agreement, schema
from harness.system import records, text

HEADER, ARRAYS = json.loads(json.dumps(HONEST._header())), HONEST._arrays()
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(0, 100), st.floats(), st.text(max_size=20),
    st.sampled_from(["done", "failed", "fp32", "a\x1bb", "\ud800", "", "top1", "../x"]),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
shapes = st.lists(st.integers(0, 25), max_size=4).map(tuple)
some_arrays = st.builds(
    lambda shape, kind, value: np.full(shape, value).astype(kind),
    shapes, st.sampled_from(["i8", "u1", "i4", "f8", "U3", "?"]), st.integers(-3, 120),
)  # fmt: skip


def places_in(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a record has values, as ways of keys."""
    if isinstance(value, dict):
        return [way, *(p for key, part in value.items() for p in places_in(part, (*way, key)))]
    return [way]


WAYS = [way for way in places_in(HEADER) if way]


@st.composite
def spoilt(draw: st.DrawFn) -> tuple[Any, dict[str, Any]]:
    """The honest record with one to four values replaced, added or left out."""
    header, arrays = copy.deepcopy(HEADER), dict(ARRAYS)
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(WAYS))
        place = header
        for key in way:
            place = place.get(key) if isinstance(place, dict) else None
        if isinstance(place, dict):
            how = draw(st.integers(0, 5))
            if how == 0:
                place.pop(last, None)
            elif how == 1:
                place[draw(st.text(max_size=10))] = draw(values)
            else:
                place[last] = draw(values)
    if draw(st.integers(0, 3)) == 0:
        arrays[draw(st.sampled_from(sorted(arrays)))] = draw(some_arrays)
    return header, arrays


def judged(header: Any, arrays: dict[str, Any]) -> list[str]:
    """What a reader of a folder, a bundle or a database says of a record: problems, or none."""
    try:
        schema.HEADER(header, "run.json")
        result = RunResult._assemble(header, arrays)
    except (FsbenchError, ValueError, KeyError, TypeError) as error:  # what `load` turns into a message
        return [str(error)]
    problems = agreement.find_problems(result)
    if not problems:
        assert isinstance(result.made_visible(), RunResult)
        agreement.without_predictions(result)
        problems = [agreement.differs_from_ours(result)]
    return [problem for problem in problems if problem]


@pytest.mark.parametrize("n", [1_000, pytest.param(10_000, marks=pytest.mark.nightly)])
def test_no_record_ends_in_a_traceback(n: int) -> None:
    settings(max_examples=n, deadline=None, suppress_health_check=list(HealthCheck), database=None)(
        no_traceback
    )()


@given(record=spoilt())
def no_traceback(record: tuple[Any, dict[str, Any]]) -> None:
    for problem in judged(*record):
        assert text.is_plain(text.visible(problem, lines=True), lines=True) and len(problem) < 5_000


def test_the_honest_record_has_no_problem() -> None:
    assert judged(copy.deepcopy(HEADER), dict(ARRAYS)) == []


@settings(max_examples=300, deadline=None)
@given(value=values)
def test_whatever_is_made_visible_is_plain_and_plain_text_stays(value: Any) -> None:
    def texts(part: Any) -> list[str]:
        if isinstance(part, dict):
            return [t for key, entry in part.items() for t in (key, *texts(entry))]
        return (
            [t for entry in part for t in texts(entry)]
            if isinstance(part, list)
            else [part]
            if isinstance(part, str)
            else []
        )

    shown = text.all_visible(value)
    assert all(text.is_plain(t, lines=True) for t in texts(shown))
    assert text.all_visible(shown) == shown or shown != shown  # NaN


@pytest.mark.parametrize("name", sorted(RunSpec.__dataclass_fields__))
def test_every_field_of_a_specification_has_a_shape(name: str) -> None:
    """A list of itself is what no field may be; a field without a shape would take it."""
    spoilt_spec = {**HEADER["spec"], name: [[{"x": [None]}]]}
    with pytest.raises(FsbenchError, match=rf"spec\.{name}"):
        RunSpec.from_json(spoilt_spec)


def test_json_from_outside_is_read_within_limits() -> None:
    for content in (
        b"[" * 100_000,
        b'{"a":' * 5_000,
        b"9" * 10_000,
        b"\xff",
        b"x" * 100,
        b"[1" + b",1" * 1000,
    ):
        with pytest.raises(ValueError, match=r"."):
            records.load_json(content, 1_000 if content.startswith(b"[1") else 1 << 20)
