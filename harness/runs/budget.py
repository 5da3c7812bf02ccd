"""What the training behind a run took: images, steps, seconds, FLOP; its own, and that of the fits it is built on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Spent:
    """What trainings took together; None where one of them did not record it.

    Attributes:
        images: training images seen, each as often as it was drawn.
        steps: optimiser steps.
        seconds: of the trainings, their validations included.
        flop: of matrix products and convolutions, forward and backward.
    """

    images: float | None
    steps: float | None
    seconds: float | None
    flop: float | None

    @classmethod
    def of_records(cls, records: Iterable[Mapping[str, Any]]) -> Self:
        """Sum what the records of fits say; imported weights and records of earlier versions say nothing."""
        known = [{"seconds": r["seconds"], **r.get("effort", {})} if "effort" in r else {} for r in records]
        return cls(*(_sum([one.get(name) for one in known]) for name in cls.__dataclass_fields__))

    @classmethod
    def mean(cls, several: Iterable[Self]) -> Self:
        """The mean over trainings of one row."""
        found = list(several)
        sums = (_sum([getattr(one, name) for one in found]) for name in cls.__dataclass_fields__)
        return cls(*(None if total is None or not found else total / len(found) for total in sums))

    def and_below(self, below: Self) -> Self:
        """Add what a training is built on."""
        names = type(self).__dataclass_fields__
        return type(self)(*(_sum([getattr(self, name), getattr(below, name)]) for name in names))


@dataclass(frozen=True)
class Budget:
    """What a run's training took, and what the fits below it took, each of them once."""

    own: Spent
    below: Spent

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what a provenance says; a run from before it was recorded says nothing."""
        unknown = dict.fromkeys(Spent.__dataclass_fields__)
        return cls(*(Spent(**{**unknown, **data.get(name, {})}) for name in ("own", "below")))


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
