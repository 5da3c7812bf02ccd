"""One row of a table as the error model sees it: its trainings on one episode list, reduced (STATISTICS s.1, s.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from harness.stats.checks import FloatArray, IntArray, seed_matrix
from harness.stats.looks import N_PLANNED

FEW_IMPERFECT = 10  # episodes; below them their variance is not worth an interval
DESIGN_EFFECT = 5.0  # assumed then: variance of a mean over that of independent queries (4.6 measured at 98%)


@dataclass(frozen=True)
class Row:
    """One method × backbone × configuration on one episode list.

    Attributes:
        id: name of the row, unique in its table; the joint draws are seeded by it.
        accuracy: (S, T) float64 fractions in [0, 1]: distinct trainings × episodes.
        fits: (S,) names of the trainings; rows that name the same one share it.
        n_answers: queries of one episode, W Q.
        is_trained: False for the same weights whatever the seed (raw pixels); it then counts once.
        mean: mean over trainings and episodes.
        between: v, variance of the means of trainings (ddof 1); 0 for one training.
        within: r, the part of ``between`` that the episodes explain, MS_res / T; 0 for one training.
        n_planned: trainings that the setting declares (s.9).
    """

    id: str
    accuracy: FloatArray
    fits: tuple[str, ...]
    n_answers: int
    is_trained: bool
    mean: float
    between: float
    within: float
    n_planned: int

    @property
    def n_trainings(self) -> int:
        """S, distinct trainings."""
        return len(self.accuracy)

    @property
    def n_episodes(self) -> int:
        """T."""
        return self.accuracy.shape[1]

    @property
    def by_episode(self) -> FloatArray:
        """(T,) accuracies averaged over trainings."""
        return np.asarray(self.accuracy.mean(axis=0))

    @property
    def shape(self) -> float:
        """Give g = m(1-m) with m = (right + 1/2) / (answers + 1), which keeps it off 0."""
        n = self.n_episodes * self.n_answers
        m = (self.mean * n + 0.5) / (n + 1)
        return m * (1 - m)

    @property
    def floor(self) -> float:
        """Least C_mm / g that the episodes are believed to have, 5 / (T W Q) where few are imperfect (s.3)."""
        lowest, highest = self.accuracy.min(axis=0), self.accuracy.max(axis=0)
        n_imperfect = min(int((lowest < 1).sum()), int((highest > 0).sum()))
        return DESIGN_EFFECT / (self.n_episodes * self.n_answers) if n_imperfect < FEW_IMPERFECT else 0.0

    @property
    def is_repeated(self) -> bool:
        """Whether it says anything about training again."""
        return self.is_trained and self.n_trainings > 1


def summarise(
    id: str,
    accuracy: npt.ArrayLike,
    n_answers: int,
    fits: Sequence[str] | None = None,
    is_trained: bool = True,
    n_planned: int = N_PLANNED,
) -> Row:
    """Reduce the runs of a row: those with equal results on every episode are one training.

    Args:
        id: name of the row.
        accuracy: (S, T) fractions in [0, 1], a run a row, every run on the same episodes; (T,) is one run.
        n_answers: queries of one episode.
        fits: (S,) the name of the training of each run; by default all differ from those of other rows.
        is_trained: False when every seed gives the same weights; then one run is kept.
        n_planned: trainings that the setting declares.

    Raises:
        ValueError: for NaN, values outside [0, 1], or names that do not fit the runs.

    >>> row = summarise("a", [[0.5, 0.7], [0.5, 0.7], [0.6, 0.6]], n_answers=10)
    >>> row.n_trainings, round(row.mean, 3)
    (2, 0.6)
    """
    y = seed_matrix(accuracy)
    names = [f"{id}/{k}" for k in range(len(y))] if fits is None else list(fits)
    if len(names) != len(y):
        raise ValueError(f"row {id} has {len(y)} runs but names {len(names)} trainings")
    distinct = {y[k].tobytes(): k for k in sorted(range(len(y)), key=names.__getitem__, reverse=True)}
    kept = sorted(distinct.values(), key=names.__getitem__)[: None if is_trained else 1]
    y = y[kept]
    between, within = training_variance(y)
    return Row(
        id,
        y,
        tuple(names[k] for k in kept),
        n_answers,
        is_trained,
        float(y.mean()),
        between,
        within,
        n_planned,
    )


def training_variance(y: FloatArray) -> tuple[float, float]:
    """Give v and r of (S, T) accuracies: variance between trainings, and what the episodes explain of it (s.1)."""
    n_trainings, n_episodes = y.shape
    if n_trainings == 1 or n_episodes == 1:
        return 0.0, 0.0
    by_training = y.mean(axis=1)
    residual = y - by_training[:, None] - y.mean(axis=0) + y.mean()
    ms_residual = float((residual**2).sum()) / ((n_trainings - 1) * (n_episodes - 1))
    return float(by_training.var(ddof=1)), ms_residual / n_episodes


def sharing(rows: Sequence[Row]) -> IntArray:
    """Number the clusters of rows that trainings link, directly or through other rows: (M,) int64.

    Rows without training share nothing.

    >>> a, b, c = (summarise(i, [0.5, 0.6], 10, [f]) for i, f in (("a", "x"), ("b", "y"), ("c", "x")))
    >>> sharing([a, b, c]).tolist()
    [0, 1, 0]
    """
    names = {name: k for k, name in enumerate(sorted({f for row in rows for f in row.fits}))}
    links = [(m, names[f]) for m, row in enumerate(rows) if row.is_trained for f in row.fits]
    n, entries = len(rows) + len(names), np.array(links, dtype=np.int64).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(entries)), (entries[:, 0], len(rows) + entries[:, 1])), shape=(n, n))
    label = connected_components(graph, directed=False)[1][: len(rows)]
    return np.unique(label, return_inverse=True)[1].astype(np.int64)


def equal_rows(rows: Sequence[Row]) -> IntArray:
    """Point each row at the first one given that has the same results: (M,) int64 positions (s.2).

    Rows with equal results on every episode are one entry of a table ("= cosine").
    """
    first: dict[bytes, int] = {}
    return np.array([first.setdefault(_results(row), m) for m, row in enumerate(rows)], dtype=np.int64)


def _results(row: Row) -> bytes:
    """The accuracies of a row, whatever the order of its trainings."""
    return b"".join(sorted(training.tobytes() for training in row.accuracy))
