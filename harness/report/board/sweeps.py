"""Hyper-parameters that were varied: rows of one setting that differ in one number alone, as curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.report.board.rows import Row
from harness.runs import RunSpec

N_VALUES = 3  # fewer are no curve
VALIDATION = "validation_accuracy"


@dataclass(frozen=True)
class Point:
    """One value of a hyper-parameter.

    Attributes:
        value: the value.
        row: the row that has it.
        validation: accuracy of the chosen weights on the validation episodes, of each seed; empty where there are none.
    """

    value: float
    row: Row
    validation: tuple[float, ...]


@dataclass(frozen=True)
class Sweep:
    """A hyper-parameter that at least ``N_VALUES`` rows differ in, and in nothing else; points by rising value."""

    method: str
    backbone: str
    name: str
    points: tuple[Point, ...]


def sweeps(rows: Sequence[Row]) -> tuple[Sweep, ...]:
    """Find what was varied among the rows of one setting, by method and name."""
    groups: dict[tuple[str, str], dict[float, Row]] = {}
    for row in rows:
        for name, value in row.spec.values().items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                groups.setdefault((name, _without(row.spec, name).row_key), {})[value] = row
    found = [
        Sweep(
            method=next(iter(by_value.values())).called,
            backbone=next(iter(by_value.values())).backbone,
            name=name,
            points=tuple(Point(value, row, _validation(row)) for value, row in sorted(by_value.items())),
        )
        for (name, _), by_value in groups.items()
        if len(by_value) >= N_VALUES
    ]
    return tuple(sorted(found, key=lambda sweep: (sweep.method, sweep.backbone, sweep.name)))


def _without(spec: RunSpec, name: str) -> RunSpec:
    return replace(spec, config={key: value for key, value in spec.config.items() if key != name})


def _validation(row: Row) -> tuple[float, ...]:
    found = (run.provenance.get("selection", {}).get(VALIDATION) for run in row.runs)
    return tuple(float(accuracy) for accuracy in found if accuracy is not None)
