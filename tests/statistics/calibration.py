"""Print what the statistics promise beside what simulation measures: `make calibration` (about two minutes)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import rates


class Line(NamedTuple):
    """One promise: what was simulated, nominal, measured, and what the first edition gave, in percent."""

    what: str
    nominal: str
    measured: str
    first: str


def lines() -> Iterator[Line]:
    """Simulate every promise."""
    yield from family_wise_errors()
    yield from powers()
    yield from pairs()
    yield from intervals()
    yield from others()


def family_wise_errors() -> Iterator[Line]:
    """Tables of equal methods."""
    for n_rows, seeds, n, first in (
        (2, (3,), 1000, "5.8"),
        (3, (1,), 600, "92"),
        (3, (3,), 600, "10"),
        (5, (3,), 500, "19"),
        (10, (1,), 400, "100"),
        (10, (3,), 400, "46"),
        (10, (5,), 400, "9.6"),
        (10, (1, 3, 5), 400, "100"),
        (20, (3,), 200, "84"),
        (40, (3,), 100, "100"),
    ):
        found = rates.claims(np.full(n_rows, 0.6), [seeds[k % len(seeds)] for k in range(n_rows)], n)
        name = f"{n_rows} equal methods, {' '.join(map(str, seeds))} trainings"
        yield Line(f"{name}: some false claim", "≤ 5", f"{100 * found.false / n:.1f}", first)
        yield Line(f"{name}: all ranks covered", "≥ 95", f"{100 * found.covered / n:.1f}", "–")


def powers() -> Iterator[Line]:
    """Ten rows, one point apart."""
    for seeds, first in ((1, "89 (wrong order somewhere: 93)"), (3, "11"), (5, "33")):
        found = rates.claims(0.55 + 0.01 * np.arange(10), [seeds] * 10, 150)
        name = f"10 methods a point apart, {seeds} training(s)"
        yield Line(f"{name}: true orders claimed", "–", f"{100 * found.power:.0f}", first)
        yield Line(f"{name}: a wrong order somewhere", "≤ 5", f"{100 * found.false / 150:.1f}", "–")


def pairs() -> Iterator[Line]:
    """One pair of equal methods."""
    for seeds, first in ((1, "71"), (3, "5.8")):
        p = rates.pair_p(seeds, 2000)
        for level in (0.05, 0.01, 0.001):
            name = f"one pair, {seeds} training(s): p below {level:g}"
            yield Line(
                name, f"{100 * level:g}", f"{100 * (p < level).mean():.2f}", first if level == 0.05 else "–"
            )


def intervals() -> Iterator[Line]:
    """The interval beside a mean."""
    for mean, seeds, first in (
        (0.6, 1, "52"),
        (0.6, 3, "94"),
        (0.9, 3, "–"),
        (0.98, 1, "71"),
        (0.98, 3, "91"),
    ):
        found = rates.headline_coverage(mean, seeds, 600, n_draws=2000)
        name = f"interval beside a mean of {100 * mean:g}%, {seeds} training(s) (± {100 * found.half_width:.2f} points)"
        yield Line(name, "95", f"{100 * found.covered / found.n:.1f}", first)


def others() -> Iterator[Line]:
    """Shared trainings, plans, published numbers, repeated looks, ties."""
    shared = rates.shared_trainings(0.7, 400)
    yield Line("two variants of the same 3 trainings: claimed", "≤ 5", f"{shared.false / 4:.1f}", "–")
    yield Line("two variants a point apart: claimed", "–", f"{shared.found / 4:.1f}", "–")
    made, succeeded = rates.plans_that_succeed(200)
    yield Line("plans with 80% power that succeed", "80", f"{100 * succeeded / made:.0f}", "63 to 75")
    for seeds, first in ((1, "56"), (3, "–"), (5, "29")):
        flagged = rates.published_flagged(seeds, 1000) / 10
        yield Line(
            f"a published number of the same method differs, {seeds} training(s)",
            "5",
            f"{flagged:.1f}",
            first,
        )
    planned = rates.claimed_at_some_look(600, (0.05, 0.02, 0.02)) / 6
    strict = rates.claimed_at_some_look(600, (0.02, 0.02, 0.02)) / 6
    yield Line(
        "3 trainings as planned, then 5 and 10 at .02: claimed at some look", "–", f"{planned:.1f}", "10"
    )
    yield Line("3, 5 and 10 trainings, each at .02: claimed at some look", "≤ 5", f"{strict:.1f}", "10")
    ties = rates.false_ties(200) / 2
    yield Line(
        "10 methods exactly half a point apart: some false tie", "≤ 5", f"{ties:.1f}", "48 to 52 a pair"
    )


def main() -> None:
    start = time.time()
    print(f"Calibration, {datetime.now(UTC):%Y-%m-%d}; percent, T=600 episodes of 75 queries\n")
    print("| simulated | nominal | measured | first edition |\n|---|---|---|---|")
    for line in lines():
        print(f"| {' | '.join(line)} |", flush=True)
    print(f"\n{time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
