"""What the page of one benchmark says: its methods × settings, holes included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.board.labels import told_apart
from harness.report.board.lines import lines
from harness.report.board.rows import Row
from harness.report.pages import six_blocks
from harness.report.pages.setting_page import Entry, SettingPage
from harness.report.pages.six_blocks import Block
from harness.runs import RunSpec
from harness.store import StoredRun

Cell = Entry | StoredRun | None


@dataclass(frozen=True)
class Line:
    """One row of a family's table.

    Attributes:
        label, method, backbone, recipe: names; ``label`` says what is not the default.
        apart: what tells it from lines of the same label and backbone.
        image_size: side in pixels.
        badges: of any of its cells, sorted.
        seeds: training seeds of any of its cells, sorted.
        cells: one per setting of the family, in order: an entry, a failed run, or None where there is a hole.
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

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The cells that hold a result."""
        return tuple(cell for cell in self.cells if isinstance(cell, Entry))

    @property
    def seeds_told(self) -> str:
        """How many seeds its cells have: ``3``, or ``1–3``."""
        n = [len(entry.row.seeds) for entry in self.entries]
        return "–" if not n else str(max(n)) if min(n) == max(n) else f"{min(n)}–{max(n)}"

    @property
    def images(self) -> tuple[float, float] | None:
        """The fewest and the most training images that its cells took, fits below included; None where it is not known."""
        took = [entry.cost.images if entry.row.is_trained else 0.0 for entry in self.entries]
        known = [images for images in took if images is not None]
        return (min(known), max(known)) if known else None

    @property
    def images_told(self) -> str:
        """The same in words."""
        if self.images is None:
            return "–"
        low, high = (f"{value:,.0f}" for value in self.images)
        return "none" if high == "0" else low if low == high else f"{low}–{high}"


@dataclass(frozen=True)
class Shift:
    """One line under equal and under unequal numbers of queries, on the same support.

    Attributes:
        line: the method.
        setting: the balanced one.
        balanced, unbalanced: its rows in both.
    """

    line: Line
    setting: str
    balanced: Row
    unbalanced: Row

    @property
    def change(self) -> float:
        """What inequality costs or gives: the difference of the means, a fraction."""
        return self.unbalanced.mean - self.balanced.mean


@dataclass(frozen=True)
class Family:
    """A benchmark: its settings are the columns, its methods the lines.

    Attributes:
        name, title, about: of the benchmark.
        pages: of its settings, in the order of columns.
        lines: its methods, the best first.
        blocks: the six of low-shot papers, of a joint benchmark.
        shifts: the lines that were asked with equal and with unequal numbers of queries, by setting, the best first under
            unequal ones.
    """

    name: str
    title: str
    about: str
    pages: tuple[SettingPage, ...]
    lines: tuple[Line, ...]
    shifts: tuple[Shift, ...]
    blocks: tuple[Block, ...] = ()


def build(pages: Sequence[SettingPage]) -> tuple[Family, ...]:
    """Arrange the pages of all settings by benchmark."""
    by_family: dict[str, list[SettingPage]] = {}
    for page in pages:
        by_family.setdefault(page.family, []).append(page)
    return tuple(_family(name, members) for name, members in sorted(by_family.items()))


def _family(name: str, pages: Sequence[SettingPage]) -> Family:
    made = lines_of([[*page.entries, *page.table.failed] for page in pages])
    return Family(
        name,
        pages[0].title,
        pages[0].about,
        tuple(pages),
        tuple(made),
        _shifts(pages, made),
        six_blocks.build(pages, made),
    )


def _shifts(pages: Sequence[SettingPage], made: Sequence[Line]) -> tuple[Shift, ...]:
    found = []
    column = {page.table.name: i for i, page in enumerate(pages)}
    for name, unbalanced in column.items():
        balanced = column.get(name.replace("-dir2", "", 1)) if "-dir2" in name else None
        if balanced is None:
            continue
        for line in made:
            before, after = line.cells[balanced], line.cells[unbalanced]
            if isinstance(before, Entry) and isinstance(after, Entry):
                found.append(Shift(line, pages[balanced].table.setting, before.row, after.row))
    return tuple(sorted(found, key=lambda shift: (shift.setting, -shift.unbalanced.mean)))


def lines_of(columns: Sequence[Sequence[Entry | StoredRun]]) -> list[Line]:
    """Arrange what stands in some settings as lines over them, the best first."""
    found = [
        {column: columns[column][i] for column, i in line.items()}
        for line in lines([[spec_of(cell) for cell in column] for column in columns])
    ]
    specs = [spec_of(next(iter(cells.values()))) for cells in found]
    apart = told_apart(specs, [(spec.label, spec.backbone) for spec in specs])
    made = [
        line_of(spec, text, cells, len(columns))
        for spec, text, cells in zip(specs, apart, found, strict=True)
    ]
    return sorted(made, key=lambda line: (order(line), line.label, line.backbone))


def line_of(spec: RunSpec, apart: str, cells: dict[int, Entry | StoredRun], n_columns: int) -> Line:
    """One line, named by one of its specifications; ``cells`` by column."""
    entries = [cell for cell in cells.values() if isinstance(cell, Entry)]
    return Line(
        label=spec.label if entries else spec.method.name,
        apart=next((entry.apart for entry in entries if entry.apart), apart),
        method=spec.method.name,
        backbone=spec.shown_backbone,
        recipe=spec.recipe,
        image_size=spec.image_size,
        badges=tuple(sorted({badge for entry in entries for badge in entry.row.badges})),
        seeds=tuple(sorted({seed for entry in entries for seed in entry.row.seeds})),
        cells=tuple(cells.get(column) for column in range(n_columns)),
    )


def spec_of(cell: Entry | StoredRun) -> RunSpec:
    """What was run."""
    return cell.row.spec if isinstance(cell, Entry) else cell.spec


def order(line: Line) -> tuple[float, float]:
    """Best mean rank first; lines without any rank last."""
    rows = [cell.row for cell in line.cells if isinstance(cell, Entry)]
    ranks, means = [sum(row.rank) / 2 for row in rows if row.rank], [row.mean for row in rows]
    return (float(np.mean(ranks)) if ranks else float("inf"), -float(np.mean(means)) if means else 0.0)
