"""What holds over several settings, on the largest table without holes: verdicts, ranks, superiority, profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness import stats
from harness.report.board.lines import Line, lines
from harness.report.board.tables import Table
from harness.seeding import numpy_generator

MIN_ACROSS = 2  # settings and methods below which nothing is said across settings
N_STEPS = 40  # of a performance profile

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Profile:
    """Share of a method's scores (settings × seeds) above each threshold, (threshold, share) pairs of fractions."""

    label: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Across:
    """What holds over several settings.

    Attributes:
        labels: methods kept, best mean rank first.
        settings: settings kept.
        n_methods, n_settings: size before holes were removed.
        mean_rank: per method, 1 the best.
        win, tie, loss, undecided: paired verdicts against the other methods, summed over settings.
        note: N, and how little mean ranks can tell; empty below three methods.
        superiority: upper triangle: ``superiority[i][j - i - 1]`` is row i over row j.
        profiles: one per method.
        n_seeds: trainings per method and setting behind superiority and profiles, those that all have.
    """

    labels: tuple[str, ...]
    settings: tuple[str, ...]
    n_methods: int
    n_settings: int
    mean_rank: tuple[float, ...]
    win: tuple[int, ...]
    tie: tuple[int, ...]
    loss: tuple[int, ...]
    undecided: tuple[int, ...]
    note: str
    superiority: tuple[tuple[stats.Superiority, ...], ...]
    profiles: tuple[Profile, ...]
    n_seeds: int


def build(tables: Sequence[Table]) -> Across | None:
    """Keep the complete sub-matrix and say what holds over it; None when it is too small."""
    named = [(_name(tables, line), line) for line in lines([[r.spec for r in t.ranked] for t in tables])]
    if not named:
        return None
    named.sort(key=lambda one: one[0])
    is_there = np.array([[0.0 if j in line else np.nan for j in range(len(tables))] for _, line in named])
    kept = stats.complete_submatrix(is_there)
    if min(len(kept.method), len(kept.benchmark)) < MIN_ACROSS:
        return None
    chosen = [named[i] for i in kept.method]
    columns = [(tables[j], [line[j] for _, line in chosen]) for j in kept.benchmark]
    return _across([name for name, _ in chosen], columns, len(named), len(tables))


def _name(tables: Sequence[Table], line: Line) -> str:
    column, i = next(iter(line.items()))
    row = tables[column].ranked[i]
    return f"{row.label}, {row.backbone}"


def _across(
    labels: Sequence[str], columns: Sequence[tuple[Table, list[int]]], n_methods: int, n_settings: int
) -> Across:
    """Say what holds, given for each setting where its methods stand among the ranked rows."""
    counts = stats.win_tie_loss(np.stack([_verdicts(table, rows) for table, rows in columns]))
    scores = _scores(columns)  # (M, N, S)
    means = np.stack([_means(table, rows) for table, rows in columns], axis=1)  # (M, N)
    mean = stats.mean_ranks(means).mean
    order = np.argsort(mean, kind="stable")
    names = [labels[i] for i in order]
    win, tie, loss, undecided = (tuple(part.sum(axis=1)[order].tolist()) for part in counts)
    return Across(
        labels=tuple(names),
        settings=tuple(table.name for table, _ in columns),
        n_methods=n_methods,
        n_settings=n_settings,
        mean_rank=tuple(mean[order].tolist()),
        win=win,
        tie=tuple(n - len(columns) for n in tie),  # each method ties with itself everywhere
        loss=loss,
        undecided=undecided,
        note=stats.friedman(means).note if len(means) > 2 else "",
        superiority=_superiority(names, scores[order]),
        profiles=_profiles(names, scores[order]),
        n_seeds=scores.shape[2],
    )


def _means(table: Table, rows: Sequence[int]) -> FloatArray:
    """(M,) mean accuracies over seeds and the episodes that all ranked rows have."""
    n = table.n_ranked
    return np.array([table.ranked[i].accuracy[:, :n].mean() for i in rows])


def _scores(columns: Sequence[tuple[Table, list[int]]]) -> FloatArray:
    """(M, N, S) mean accuracies of the first S trainings, as many as every method has in every setting."""
    ranked = [[table.ranked[i] for i in rows] for table, rows in columns]
    n_seeds = min(len(row.seeds) for rows in ranked for row in rows)
    means = [
        [row.accuracy[:n_seeds, : table.n_ranked].mean(axis=1) for row in rows]
        for (table, _), rows in zip(columns, ranked, strict=True)
    ]
    return np.swapaxes(np.array(means), 0, 1)


def _verdicts(table: Table, rows: Sequence[int]) -> npt.NDArray[np.str_]:
    assert table.pairs is not None, "a setting with ranked rows has pairs"
    return table.pairs.verdicts()[np.ix_(rows, rows)]


def _superiority(labels: Sequence[str], scores: FloatArray) -> tuple[tuple[stats.Superiority, ...], ...]:
    return tuple(
        tuple(
            stats.probability_of_superiority(
                scores[i], scores[j], numpy_generator(0, "superiority", labels[i], labels[j])
            )
            for j in range(i + 1, len(labels))
        )
        for i in range(len(labels))
    )


def _profiles(labels: Sequence[str], scores: FloatArray) -> tuple[Profile, ...]:
    """Profiles on one grid from below the lowest score to the highest."""
    low, high = np.floor(100 * scores.min() - 1) / 100, np.ceil(100 * scores.max()) / 100
    grid = np.linspace(max(0.0, low), min(1.0, high), N_STEPS + 1)
    shares = (stats.performance_profile(of_one, grid) for of_one in scores)
    return tuple(
        Profile(label, tuple(zip(grid.tolist(), share.tolist(), strict=True)))
        for label, share in zip(labels, shares, strict=True)
    )
