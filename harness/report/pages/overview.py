"""Methods × settings in one table: for each method the row that stands for it, its variants folded under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from harness.report.board.labels import told_apart
from harness.report.board.rows import Row
from harness.report.pages.family_page import Cell, Line, line_of, lines_of, order, spec_of
from harness.report.pages.setting_page import Entry, SettingPage
from harness.store import StoredRun

MANY_SEEDS = 3  # from here on a row's own trainings tell something of training again


class Kind(NamedTuple):
    """What the filters ask of a cell: backbone, side of the input, how it was trained, inductive, many seeds."""

    backbone: str
    image_size: int
    trained: str
    is_inductive: bool
    has_seeds: bool


@dataclass(frozen=True)
class Group:
    """A method: the line of the rows that stand for it, and the lines of its variants, the best first."""

    head: Line
    variants: tuple[Line, ...]

    @property
    def lines(self) -> tuple[Line, ...]:
        """The head, then the variants."""
        return (self.head, *self.variants)


@dataclass(frozen=True)
class Overview:
    """The table of the front page.

    Attributes:
        pages: of the settings, in the order of columns: benchmarks with most methods first.
        groups: the methods, sorted by the chosen column.
        chosen: the column that most methods have: sorted by, and pictured first.
        kinds: each once.
    """

    pages: tuple[SettingPage, ...]
    groups: tuple[Group, ...]
    chosen: int
    kinds: tuple[Kind, ...]

    def kind(self, entry: Entry) -> int:
        """The number of an entry's kind."""
        return self.kinds.index(kind_of(entry.row))


def build(pages: Sequence[SettingPage]) -> Overview:
    """Arrange the pages of all settings: benchmarks with most methods first, their settings side by side."""
    most = {page.family: max(_n_pictured(p) for p in pages if p.family == page.family) for page in pages}
    pages = sorted(pages, key=lambda page: ([-n for n in most[page.family]], page.family))
    heads: dict[str, dict[int, Entry | StoredRun]] = {}
    others: dict[str, list[list[Entry | StoredRun]]] = {}
    for column, page in enumerate(pages):
        cells: list[Entry | StoredRun] = [*page.entries, *page.table.failed]
        for cell in cells:
            if stands_for_method(cell) and column not in heads.setdefault(_called(cell), {}):
                heads[_called(cell)][column] = cell
            else:
                rest = others.setdefault(_called(cell), [[] for _ in pages])
                rest[column].append(cell)
    groups = [
        _group(name, heads.get(name, {}), others.get(name, []), len(pages)) for name in {**heads, **others}
    ]
    chosen = max(range(len(pages)), key=lambda i: (_n_pictured(pages[i]), -i), default=0)
    entries = [entry for page in pages for entry in page.entries]
    kinds = tuple(sorted({kind_of(entry.row) for entry in entries}))
    return Overview(
        tuple(pages), tuple(sorted(groups, key=lambda g: _by_column(g.head, chosen))), chosen, kinds
    )


def stands_for_method(cell: Entry | StoredRun) -> bool:
    """Whether it is no variant; of what is left the first in a column stands for its method."""
    return isinstance(cell, StoredRun) or not cell.row.variant_of


def kind_of(row: Row) -> Kind:
    """What the filters ask of a row."""
    return Kind(
        row.backbone, row.spec.image_size, trained_how(row), "transductive" not in row.badges,
        len(row.seeds) >= MANY_SEEDS or not row.is_trained,
    )  # fmt: skip


def trained_how(row: Row) -> str:
    """In a few words: by which recipe, from what, or not at all."""
    if not row.is_trained:
        return "untrained"
    if row.spec.imported:
        return "imported weights"
    return f"recipe {row.recipe}" + (", extra data" if "extra data" in row.badges else "")


def _called(cell: Entry | StoredRun) -> str:
    return cell.row.called if isinstance(cell, Entry) else cell.spec.called


def _group(
    name: str, head: dict[int, Entry | StoredRun], rest: Sequence[Sequence[Entry | StoredRun]], n_columns: int
) -> Group:
    variants = lines_of(rest) if rest else []
    if not head:
        return Group(variants[0], tuple(variants[1:]))
    line = line_of(spec_of(next(iter(head.values()))), "", head, n_columns)
    named = replace(line, label=name, apart="")  # however its settings configure it
    return Group(named, tuple(_beside(named, variant) for variant in variants))


def _beside(head: Line, variant: Line) -> Line:
    """A variant that is called as its method says what it does not share with it."""
    if variant.label != head.label or variant.apart:
        return variant
    specs = [spec_of(next(cell for cell in line.cells if cell is not None)) for line in (variant, head)]
    return replace(variant, apart=told_apart(specs, ("", ""))[0])


def _n_pictured(page: SettingPage) -> tuple[int, int]:
    """How many methods a setting has, and of how many it is known what their training saw."""
    return len(page.table.ranked), sum(entry.cost.images is not None for entry in page.entries)


def _by_column(line: Line, column: int) -> tuple[bool, float, tuple[float, float], str]:
    cell: Cell = line.cells[column] if line.cells else None
    mean = cell.row.mean if isinstance(cell, Entry) else None
    return (mean is None, -(mean or 0.0), order(line), line.label)
