"""How far a training was seen to move on other hardware: runs of one id that gave other counts elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harness.report.board.rows import headline_metric, is_trained
from harness.store import Store, StoredRun

SEEN_ELSEWHERE = 0.0064  # the mean of two seeds trained by one thread and by two: README, "Threads"


class Moved(NamedTuple):
    """How many runs were repeated on other hardware, and how far their means lie apart: the largest, and root mean square."""

    n_runs: int
    largest: float
    typical: float

    @property
    def sentence(self) -> str:
        """What to expect of a row that is trained again elsewhere."""
        if not self.n_runs:
            return (
                "No training here was repeated on other hardware; one with another number of threads moved by "
                f"{100 * SEEN_ELSEWHERE:.1f} points elsewhere."
            )
        many = f"{self.n_runs} trainings here were" if self.n_runs > 1 else "One training here was"
        told = f"{many} repeated on other hardware and moved by up to {100 * self.largest:.1f} points"
        return f"{told} (root mean square {100 * self.typical:.1f})." if self.n_runs > 1 else f"{told}."


def moved(store: Store, runs: Sequence[StoredRun]) -> Moved:
    """Look at trained runs of which several results are stored, made on hardware that differs as far as it was recorded."""
    by_id: dict[str, list[StoredRun]] = {}
    for run in runs:
        if len(run.replicates) > 1 and run.status == "done" and not run.spec.is_scored and is_trained(run):
            by_id.setdefault(run.id, []).append(run)
    apart = [_apart(store, group) for group in by_id.values() if _is_other_hardware(group)]
    if not apart:
        return Moved(0, 0.0, 0.0)
    return Moved(len(apart), max(apart), float(np.sqrt(np.mean(np.square(apart)))))


def _is_other_hardware(group: Sequence[StoredRun]) -> bool:
    told = [run.trained_on for run in group]
    return any(one[name] != told[0][name] for one in told[1:] for name in one.keys() & told[0].keys())


def _apart(store: Store, group: Sequence[StoredRun]) -> float:
    """The largest distance between the means of results of one id, a fraction."""
    means = []
    for run in group:
        n_correct, n_query = store.counts(run.pk, headline_metric(run))
        means.append(float((n_correct / np.maximum(n_query, 1)).mean()))
    return max(means) - min(means)
