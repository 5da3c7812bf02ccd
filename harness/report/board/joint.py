"""What a run of the joint protocol says by metric and class by class.

Its experiments are the episodes over which rows are compared; classes and experiments together give the interval that
speaks for other classes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import RecordError, StoreError, visible
from harness.evaluation.counting import GROUPS, TOPS
from harness.evaluation.protocols import JOINT
from harness.runs import EpisodeTable
from harness.store import Store, StoredRun

log = logging.getLogger("fsbench.report")
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class JointNumbers:
    """The numbers of one row, its seeds pooled; all fractions.

    Attributes:
        by_class: (S, X, C) accuracies of the classes that the row's metric counts: seeds × experiments × classes.
        means: by metric, over the queries of each experiment, averaged over experiments and seeds.
        class_means: by metric, over classes.
    """

    by_class: FloatArray
    means: Mapping[str, float]
    class_means: Mapping[str, float]


def read(store: Store, runs: Sequence[StoredRun], metric: str) -> JointNumbers | None:
    """Read the numbers of a row; None where a run kept no predictions or its list is not stored.

    Args:
        store: the database.
        runs: one stored run a seed, of one list.
        metric: the one that ranks the row, such as "top5/novel".
    """
    n = min(run.spec.n_episodes for run in runs)
    tables = [class_table(store, run) for run in runs]
    if any(table is None for table in tables):
        return None
    found = [{name: values[:n] for name, values in table.items()} for table in tables if table]
    totals = [{name: _example_mean(store, run, name, n) for name in JOINT.metrics} for run in runs]
    return JointNumbers(
        np.stack([table[metric] for table in found]),
        {name: float(np.mean([total[name] for total in totals])) for name in JOINT.metrics},
        {name: float(np.mean([table[name].mean() for table in found])) for name in JOINT.metrics},
    )


def class_table(store: Store, run: StoredRun) -> dict[str, FloatArray] | None:
    """Metric → (X, C) accuracies of the classes it counts; None without predictions or list."""
    labels = {k: kept_predictions(store, run, f"top{k}/all") for k in TOPS}
    if any(given is None for given in labels.values()):
        return None
    episodes = kept_list(store, run.spec.episode_digest)
    if episodes is None:
        return None
    found = {}
    for k, given in labels.items():
        assert given is not None
        right = given == episodes.query_label[: len(given)]  # (X, A·Q)
        by_class = right.reshape(len(given), episodes.classes.shape[1], -1).mean(axis=2)  # (X, A)
        for group in GROUPS:
            found[f"top{k}/{group}"] = by_class[:, members(episodes, group)]
    return found


def members(episodes: EpisodeTable, group: str) -> slice:
    """Which of the classes asked belong to "novel" or "base"; every one to any other group."""
    n_base = episodes.classes.shape[1] - episodes.support.shape[1]
    return {"novel": slice(n_base, None), "base": slice(0, n_base)}.get(group, slice(None))


def predictions_of(store: Store, run: StoredRun, metric: str) -> npt.NDArray[np.unsignedinteger[Any]] | None:
    """Labels predicted for all queries of an element, as a metric of any group counts them: (E, n_query)."""
    top, _, _ = metric.partition("/")
    return kept_predictions(store, run, f"{top}/all" if metric in JOINT.metrics else metric)


def kept_list(store: Store, digest: str, *, is_told: bool = True) -> EpisodeTable | None:
    """A stored list; None, with a warning if told, where it is damaged or was never brought: one bad list is a hole."""
    try:
        return store.episode_list(digest)
    except StoreError as error:
        if is_told:
            log.warning("left out: what needs the episode list %s: %s", digest[:12], visible(str(error)))
        return None


def kept_predictions(
    store: Store, run: StoredRun, metric: str
) -> npt.NDArray[np.unsignedinteger[Any]] | None:
    """The predictions that a run kept of a metric; None also where they are damaged, so that one bad row is a hole."""
    try:
        return store.predictions(run.pk, metric)
    except RecordError as error:
        log.warning("left out: predictions of run %s: %s", run.id, visible(str(error)))
        return None


def _example_mean(store: Store, run: StoredRun, metric: str, n: int) -> float:
    n_correct, n_query = store.counts(run.pk, metric)
    return float((n_correct[:n] / n_query[:n]).mean())
