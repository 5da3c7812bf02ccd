"""What holds over several settings, on the largest table without holes: verdicts on their mean, counts, profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness import stats
from harness.report.board.lines import Line, lines
from harness.report.board.rows import Row
from harness.report.board.tables import Table

MIN_FOR_RANKS = 10  # independent pieces of evidence below which mean ranks are not tested
MIN_ACROSS = 2  # settings and methods below which nothing is said across settings
N_STEPS = 40  # of a performance profile


@dataclass(frozen=True)
class Profile:
    """Share of a method's scores (settings × seeds) above each threshold, (threshold, share) pairs of fractions."""

    label: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class MeanCell:
    """Row minus column, averaged over the settings.

    Attributes:
        difference: of the means over the settings, a fraction.
        p: adjusted for all pairs.
        word: on the row.
        chance: that one new training of the row beats one of the column, on the mean over the settings, in [0, 1].
        low, high: ends of its 95% interval.
        p_elsewhere: of signed ranks over data sets, Holm over the pairs; None below six independent data sets.
    """

    difference: float
    p: float
    word: str
    chance: float
    low: float
    high: float
    p_elsewhere: float | None


@dataclass(frozen=True)
class Across:
    """What holds over several settings.

    Attributes:
        labels: methods kept, best mean rank first.
        settings: settings kept.
        n_methods, n_settings: size before holes were removed.
        mean_rank: per method, 1 the best.
        win, tie, loss, undecided: paired verdicts against the other methods, summed over settings.
        n_data_sets: independent ones: settings that share trainings are one; below six nothing is said about others.
        note: what a test of mean ranks says; empty below ten data sets or three methods.
        matrix: upper triangle: ``matrix[i][j - i - 1]`` is row i minus row j.
        profiles: one per method.
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
    n_data_sets: int
    note: str
    matrix: tuple[tuple[MeanCell, ...], ...]
    profiles: tuple[Profile, ...]


def build(tables: Sequence[Table]) -> Across | None:
    """Keep the complete sub-matrix and say what holds over it; None when it is too small."""
    tables = [table for table in tables if table.n_ranked > 1]
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
    ranked = [[table.ranked[i] for i in rows] for table, rows in columns]
    means = np.array([[row.mean for row in rows] for rows in ranked]).T  # (M, N)
    rank = stats.mean_ranks(means).mean
    order = np.argsort(rank, kind="stable")
    names = [labels[i] for i in order]
    win, tie, loss, undecided = (tuple(part.sum(axis=1)[order].tolist()) for part in counts)
    evidence = [[rows[i].evidence for i in order] for rows in ranked]
    found = stats.judge_settings(evidence, columns[0][0].prior)
    by_data_set = np.array(
        [means[order][:, found.piece == k].mean(axis=1) for k in range(found.n_pieces)]
    ).T  # (M, data sets)
    return Across(
        labels=tuple(names),
        settings=tuple(table.name for table, _ in columns),
        n_methods=n_methods,
        n_settings=n_settings,
        mean_rank=tuple(rank[order].tolist()),
        win=win,
        tie=tuple(n - len(columns) for n in tie),  # each method ties with itself everywhere
        loss=loss,
        undecided=undecided,
        n_data_sets=found.n_pieces,
        note=stats.friedman(by_data_set).note if len(means) > 2 and found.n_pieces >= MIN_FOR_RANKS else "",
        matrix=_matrix(found, stats.wilcoxon_pairs(by_data_set)),
        profiles=_profiles(names, [[rows[i] for rows in ranked] for i in order]),
    )


def _verdicts(table: Table, rows: Sequence[int]) -> npt.NDArray[np.str_]:
    if table.pairs is None:  # one episode: nothing is said but that a row ties with itself
        return np.where(np.eye(len(rows), dtype=bool), "tied", "undecided")
    return table.pairs.words[np.ix_(rows, rows)]


def _matrix(
    found: stats.OverSettings, elsewhere: npt.NDArray[np.float64] | None
) -> tuple[tuple[MeanCell, ...], ...]:
    pairs, chance, n = found.pairs, found.superiority, len(found.pairs.p)
    return tuple(
        tuple(
            MeanCell(
                float(pairs.difference[i, j]), float(pairs.p_adjusted[i, j]), str(pairs.words[i, j]),
                float(chance.probability[i, j]), float(chance.low[i, j]), float(chance.high[i, j]),
                None if elsewhere is None else float(elsewhere[i, j]),
            )
            for j in range(i + 1, n)
        )
        for i in range(n)
    )  # fmt: skip


def _profiles(labels: Sequence[str], rows: Sequence[Sequence[Row]]) -> tuple[Profile, ...]:
    """Profiles of the trainings of each method in all settings, on one grid from below the lowest score to the highest."""
    scores = [np.concatenate([row.accuracy.mean(axis=1) for row in of_one]) for of_one in rows]
    lowest, highest = min(s.min() for s in scores), max(s.max() for s in scores)
    low, high = np.floor(100 * lowest - 1) / 100, np.ceil(100 * highest) / 100
    grid = np.linspace(max(0.0, low), min(1.0, high), N_STEPS + 1)
    return tuple(
        Profile(
            label, tuple(zip(grid.tolist(), stats.performance_profile(of_one, grid).tolist(), strict=True))
        )
        for label, of_one in zip(labels, scores, strict=True)
    )
