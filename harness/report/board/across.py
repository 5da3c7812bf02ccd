"""What holds over several settings, on the largest table without holes: verdicts, ranks, superiority, profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from harness import benchmarks, stats
from harness.errors import FsbenchError
from harness.report.pages.setting_page import SettingPage
from harness.runs import RunSpec
from harness.seeding import numpy_generator

MIN_ACROSS = 2  # settings and methods below which nothing is said across settings
N_STEPS = 40  # of a performance profile

Identity = tuple[str, ...]
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


def identity(spec: RunSpec, label: str) -> Identity:
    """What makes two rows of different settings one line: all but the values of DEFAULTS, and the benchmark's images."""
    method, usual = spec.method, _usual_images(spec.setting)
    return (
        label, method.name, method.version, method.source_sha256, spec.backbone, spec.recipe,
        "" if str(spec.image_size) == usual[0] else str(spec.image_size),
        "" if spec.pipeline == usual[1] else spec.pipeline,
        spec.weights_sha256, str(spec.world_size), str(spec.per_rank_batch),
    )  # fmt: skip


@cache
def _usual_images(setting: str) -> tuple[str, str]:
    """Image size and pipeline that a benchmark asks for; empty when it no longer exists."""
    try:
        benchmark = benchmarks.load(setting).benchmark
    except FsbenchError:
        return "", ""
    return str(benchmark.image_size), benchmark.pipeline


def build(pages: Sequence[SettingPage]) -> Across | None:
    """Keep the complete sub-matrix and say what holds over it; None when it is too small."""
    place: list[dict[Identity, int]] = [
        {identity(row.spec, row.label): i for i, row in reversed(list(enumerate(page.table.ranked)))}
        for page in pages
    ]
    keys = sorted({key for column in place for key in column})
    if not keys:
        return None
    is_there = np.array([[0.0 if key in column else np.nan for column in place] for key in keys])
    kept = stats.complete_submatrix(is_there)
    if min(len(kept.method), len(kept.benchmark)) < MIN_ACROSS:
        return None
    chosen = [keys[i] for i in kept.method]
    columns = [(pages[j], [place[j][key] for key in chosen]) for j in kept.benchmark]
    return _across([f"{key[0]}, {key[4]}" for key in chosen], columns, len(keys), len(pages))


def _across(
    labels: Sequence[str], columns: Sequence[tuple[SettingPage, list[int]]], n_methods: int, n_settings: int
) -> Across:
    """Say what holds, given for each setting where its methods stand among the ranked rows."""
    counts = stats.win_tie_loss(np.stack([_verdicts(page, rows) for page, rows in columns]))
    scores = _scores(columns)  # (M, N, S)
    table = np.stack([_means(page, rows) for page, rows in columns], axis=1)  # (M, N)
    mean = stats.mean_ranks(table).mean
    order = np.argsort(mean, kind="stable")
    names = [labels[i] for i in order]
    win, tie, loss, undecided = (tuple(part.sum(axis=1)[order].tolist()) for part in counts)
    return Across(
        labels=tuple(names),
        settings=tuple(page.table.name for page, _ in columns),
        n_methods=n_methods,
        n_settings=n_settings,
        mean_rank=tuple(mean[order].tolist()),
        win=win,
        tie=tuple(n - len(columns) for n in tie),  # each method ties with itself everywhere
        loss=loss,
        undecided=undecided,
        note=stats.friedman(table).note if len(table) > 2 else "",
        superiority=_superiority(names, scores[order]),
        profiles=_profiles(names, scores[order]),
        n_seeds=scores.shape[2],
    )


def _means(page: SettingPage, rows: Sequence[int]) -> FloatArray:
    """(M,) mean accuracies over seeds and the episodes that all ranked rows have."""
    n = page.table.n_ranked
    return np.array([page.table.ranked[i].accuracy[:, :n].mean() for i in rows])


def _scores(columns: Sequence[tuple[SettingPage, list[int]]]) -> FloatArray:
    """(M, N, S) mean accuracies of the first S trainings, as many as every method has in every setting."""
    ranked = [[page.table.ranked[i] for i in rows] for page, rows in columns]
    n_seeds = min(len(row.seeds) for rows in ranked for row in rows)
    means = [
        [row.accuracy[:n_seeds, : page.table.n_ranked].mean(axis=1) for row in rows]
        for (page, _), rows in zip(columns, ranked, strict=True)
    ]
    return np.swapaxes(np.array(means), 0, 1)


def _verdicts(page: SettingPage, rows: Sequence[int]) -> npt.NDArray[np.str_]:
    assert page.table.pairs is not None, "a setting with ranked rows has pairs"
    return page.table.pairs.verdicts()[np.ix_(rows, rows)]


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
