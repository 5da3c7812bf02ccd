"""The front page: for each benchmark its methods × settings, holes included, and what holds across settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness import stats
from harness.report.setting_page import Beside, Entry, SettingPage
from harness.runs import RunSpec
from harness.store import StoredRun

MIN_ACROSS = 2  # settings and methods below which nothing is said across settings


@dataclass(frozen=True)
class Line:
    """One row of a family's table.

    Attributes:
        label, method, backbone, recipe: names; ``label`` says what is not the default.
        apart: what tells it from lines of the same label and backbone.
        image_size: side in pixels.
        badges: of any of its cells, sorted.
        seeds: training seeds of any of its cells, sorted.
        cells: one per setting of the family, in order.
    """

    label: str
    apart: str
    method: str
    backbone: str
    recipe: str
    image_size: int
    badges: tuple[str, ...]
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]

    @property
    def is_inductive(self) -> bool:
        """Whether each query is predicted alone."""
        return "transductive" not in self.badges


@dataclass(frozen=True)
class Cell:
    """A method on a setting: an entry, a failure, or a hole (neither)."""

    entry: Entry | None
    failed: StoredRun | None

    @property
    def published(self) -> Beside | None:
        """The published number to show beside it: a comparable one if there is one."""
        if self.entry is None or not self.entry.published:
            return None
        return min(self.entry.published, key=lambda b: (bool(b.comparability.reasons), b.entry.is_quoted))


@dataclass(frozen=True)
class Family:
    """A benchmark: its settings are the columns, its methods the lines."""

    name: str
    title: str
    about: str
    pages: tuple[SettingPage, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Across:
    """What holds over several settings, on the largest table without holes.

    Attributes:
        labels: methods kept.
        settings: settings kept.
        n_methods, n_settings: size before holes were removed.
        mean_rank: per method, 1 the best.
        win, tie, loss, undecided: paired verdicts against the other methods, summed over settings.
        note: N, and how little mean ranks can tell; empty below three methods.
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


@dataclass(frozen=True)
class IndexPage:
    """The front page."""

    families: tuple[Family, ...]
    across: Across | None
    n_runs: int


def build(pages: Sequence[SettingPage], n_runs: int) -> IndexPage:
    """Arrange the pages of all settings by family."""
    by_family: dict[str, list[SettingPage]] = {}
    for page in pages:
        by_family.setdefault(page.family, []).append(page)
    families = tuple(_family(name, members) for name, members in sorted(by_family.items()))
    return IndexPage(families, _across(pages), n_runs)


Identity = tuple[str, ...]


def identity(spec: RunSpec, label: str) -> Identity:
    """What makes two rows of different settings one line: all but the values of DEFAULTS, and the images."""
    method = spec.method
    return (
        label, method.name, method.version, method.source_sha256, spec.backbone, spec.recipe, str(spec.image_size),
        spec.pipeline, spec.weights_sha256, str(spec.world_size), str(spec.per_rank_batch),
        spec.select_on, str(spec.is_compiled),
    )  # fmt: skip


def _family(name: str, pages: Sequence[SettingPage]) -> Family:
    cells: dict[Identity, dict[int, Cell]] = {}
    for column, page in enumerate(pages):
        for entry in page.entries:
            cells.setdefault(identity(entry.row.spec, entry.row.label), {}).setdefault(
                column, Cell(entry, None)
            )
        for run in page.table.failed:
            label = run.spec.method.name
            cells.setdefault(identity(run.spec, label), {}).setdefault(column, Cell(None, run))
    lines = [_line(key, found, len(pages)) for key, found in cells.items()]
    lines.sort(key=lambda line: (_order(line), line.label, line.backbone))
    return Family(name, pages[0].title, pages[0].about, tuple(pages), tuple(lines))


def _line(key: Identity, found: dict[int, Cell], n_columns: int) -> Line:
    entries = [cell.entry for cell in found.values() if cell.entry]
    return Line(
        label=key[0],
        apart=next((entry.apart for entry in entries if entry.apart), ""),
        method=key[1],
        backbone=key[4],
        recipe=key[5],
        image_size=int(key[6]),
        badges=tuple(sorted({badge for entry in entries for badge in entry.row.badges})),
        seeds=tuple(sorted({seed for entry in entries for seed in entry.row.seeds})),
        cells=tuple(found.get(column, Cell(None, None)) for column in range(n_columns)),
    )


def _order(line: Line) -> tuple[float, float]:
    """Best mean rank first; lines without any rank last."""
    ranks = [sum(cell.entry.rank) / 2 for cell in line.cells if cell.entry and cell.entry.rank]
    means = [cell.entry.row.mean for cell in line.cells if cell.entry]
    return (float(np.mean(ranks)) if ranks else float("inf"), -float(np.mean(means)) if means else 0.0)


def _across(pages: Sequence[SettingPage]) -> Across | None:
    """Count verdicts and average ranks over the complete sub-matrix; None when it is too small."""
    place: list[dict[Identity, int]] = [
        {identity(row.spec, row.label): i for i, row in reversed(list(enumerate(page.table.ranked)))} for page in pages
    ]  # fmt: skip
    keys = sorted({key for column in place for key in column})
    if not keys or not pages:
        return None
    score = np.full((len(keys), len(pages)), np.nan)
    for j, page in enumerate(pages):
        for key, i in place[j].items():
            row = page.table.ranked[i]
            score[keys.index(key), j] = row.accuracy[:, : page.table.n_ranked].mean()
    kept = stats.complete_submatrix(score)
    if min(len(kept.method), len(kept.benchmark)) < MIN_ACROSS:
        return None
    verdicts = np.stack(
        [_verdicts(pages[j], [place[j][keys[i]] for i in kept.method]) for j in kept.benchmark]
    )
    counts = stats.win_tie_loss(verdicts)
    table = score[np.ix_(kept.method, kept.benchmark)]
    mean = stats.mean_ranks(table).mean
    order = np.argsort(mean, kind="stable")
    win, tie, loss, undecided = (tuple(part.sum(axis=1)[order].tolist()) for part in counts)
    return Across(
        labels=tuple(f"{keys[kept.method[i]][0]}, {keys[kept.method[i]][4]}" for i in order),
        settings=tuple(pages[j].table.name for j in kept.benchmark),
        n_methods=len(keys),
        n_settings=len(pages),
        mean_rank=tuple(mean[order].tolist()),
        win=win,
        tie=tuple(n - len(kept.benchmark) for n in tie),  # each method ties with itself everywhere
        loss=loss,
        undecided=undecided,
        note=stats.friedman(table).note if len(table) > 2 else "",
    )  # fmt: skip


def _verdicts(page: SettingPage, rows: Sequence[int]) -> np.ndarray[tuple[int, int], np.dtype[np.str_]]:
    assert page.table.pairs is not None, "a setting with ranked rows has pairs"
    return page.table.pairs.verdicts()[np.ix_(rows, rows)]
