"""The front page: for each benchmark its methods × settings, holes included, and what holds across settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.board import across
from harness.report.board.across import Identity, identity
from harness.report.pages.setting_page import Beside, Entry, SettingPage
from harness.store import StoredRun


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
class IndexPage:
    """The front page."""

    families: tuple[Family, ...]
    across: across.Across | None
    n_runs: int


def build(pages: Sequence[SettingPage], n_runs: int) -> IndexPage:
    """Arrange the pages of all settings by family."""
    by_family: dict[str, list[SettingPage]] = {}
    for page in pages:
        by_family.setdefault(page.family, []).append(page)
    families = tuple(_family(name, members) for name, members in sorted(by_family.items()))
    return IndexPage(families, across.build(pages), n_runs)


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
        image_size=next(_sizes(found)),
        badges=tuple(sorted({badge for entry in entries for badge in entry.row.badges})),
        seeds=tuple(sorted({seed for entry in entries for seed in entry.row.seeds})),
        cells=tuple(found.get(column, Cell(None, None)) for column in range(n_columns)),
    )


def _sizes(found: dict[int, Cell]) -> Iterator[int]:
    """Image sizes of a line's cells, in pixels."""
    for cell in found.values():
        spec = cell.entry.row.spec if cell.entry else cell.failed.spec if cell.failed else None
        if spec:
            yield spec.image_size


def _order(line: Line) -> tuple[float, float]:
    """Best mean rank first; lines without any rank last."""
    ranks = [sum(cell.entry.rank) / 2 for cell in line.cells if cell.entry and cell.entry.rank]
    means = [cell.entry.row.mean for cell in line.cells if cell.entry]
    return (float(np.mean(ranks)) if ranks else float("inf"), -float(np.mean(means)) if means else 0.0)
