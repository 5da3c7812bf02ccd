"""The table of low-shot papers: six blocks, rows of a representation and what is done on it, a column for each n.

Blocks and their order are those of Hariharan and Girshick's release (2017): top-1 and top-5 over queries of novel, of
base and of all classes; the last column is the mean over n. Their published rows stand below ours where there are any.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from harness.evaluation.protocols import JOINT
from harness.report.board import published
from harness.report.board.rows import Row
from harness.report.formats import percent
from harness.runs import RunSpec

if TYPE_CHECKING:
    from harness.report.pages.setting_page import SettingPage

_WORDS = {"novel": "novel classes", "base": "base classes", "all": "all classes"}


class Cells(Protocol):
    """A line of a family: one cell a setting, of which those with a ``row`` count."""

    @property
    def label(self) -> str:
        """Name of the line."""

    @property
    def apart(self) -> str:
        """What tells it from lines of the same label."""

    @property
    def cells(self) -> Sequence[Any]:
        """In the order of the settings."""


@dataclass(frozen=True)
class BlockRow:
    """A row of one block.

    Attributes:
        representation, phase: what the features are of, and what is done on them.
        backbone: of the features.
        cells: fractions, one for each n; None where it was not run.
        source: of a published row; empty for ours.
    """

    representation: str
    phase: str
    backbone: str
    cells: tuple[float | None, ...]
    source: str = ""

    @property
    def mean(self) -> float | None:
        """Over all n; None where one is missing."""
        known = [cell for cell in self.cells if cell is not None]
        return sum(known) / len(known) if known and len(known) == len(self.cells) else None

    @property
    def values(self) -> tuple[float | None, ...]:
        """The cells and their mean."""
        return (*self.cells, self.mean)


@dataclass(frozen=True)
class Block:
    """One number of the protocol over all n.

    Attributes:
        metric: such as "top1/novel".
        shots: n of each column, ascending.
        rows: ours, then published ones.
    """

    metric: str
    shots: tuple[int, ...]
    rows: tuple[BlockRow, ...]

    @property
    def title(self) -> str:
        """In words: "Top-1, novel classes"."""
        top, _, group = self.metric.partition("/")
        return f"{top.capitalize().replace('op', 'op-')}, {_WORDS[group]}"

    @property
    def best(self) -> tuple[float | None, ...]:
        """The highest of our values in each column."""
        own = [row.values for row in self.rows if not row.source]
        return tuple(
            max((v for v in column if v is not None), default=None) for column in zip(*own, strict=True)
        )


def build(pages: Sequence[SettingPage], lines: Sequence[Cells]) -> tuple[Block, ...]:
    """Arrange the settings of a joint benchmark as six blocks; none for other benchmarks.

    Args:
        pages: of its settings.
        lines: of its table, the best first; a cell for each page.
    """
    columns = sorted(
        (i for i, page in enumerate(pages) if any(entry.row.several for entry in page.entries)),
        key=lambda i: pages[i].entries[0].row.spec.shot,
    )
    if not columns:
        return ()
    shots = tuple(pages[i].entries[0].row.spec.shot for i in columns)
    settings = [pages[i].table.setting for i in columns]
    return tuple(
        Block(metric, shots, (*_by_features(_ours(metric, columns, lines)), *_theirs(metric, settings)))
        for metric in JOINT.metrics
    )


def _ours(metric: str, columns: Sequence[int], lines: Sequence[Cells]) -> Iterable[BlockRow]:
    for line in lines:
        rows: list[Row | None] = [getattr(line.cells[i], "row", None) for i in columns]
        spec = next((row.spec for row in rows if row), None)
        if spec is None:
            continue
        representation, phase = _pair(spec)
        told = ", ".join(filter(None, (spec.changed, line.apart)))
        cells = tuple(row.several.get(metric) if row else None for row in rows)
        yield BlockRow(representation, f"{phase} ({told})" if told else phase, spec.shown_backbone, cells)


def _by_features(rows: Iterable[BlockRow]) -> list[BlockRow]:
    """Rows on the same features stand together, and what is done on them comes in the same order, the best first."""
    groups: dict[tuple[str, str], list[BlockRow]] = {}
    phases: dict[str, int] = {}
    for row in rows:
        groups.setdefault((row.backbone, row.representation), []).append(row)
        phases.setdefault(row.phase, len(phases))
    return [row for group in groups.values() for row in sorted(group, key=lambda row: phases[row.phase])]


def _pair(spec: RunSpec) -> tuple[str, str]:
    """Whose features, and the head; a method that has its own is its own representation."""
    fit = spec.required.get(spec.encoder)
    return (fit.name_below, spec.method.name) if fit else (spec.method.name, "–")


def _theirs(metric: str, settings: Sequence[str]) -> Iterable[BlockRow]:
    """Published rows; the ledger calls a method "SGM / Generation"."""
    found: dict[tuple[str, str], dict[str, published.Published]] = {}
    for setting in settings:
        for entry in published.ledger_of(setting):
            if entry.metric == metric:
                found.setdefault((entry.method, entry.backbone), {})[setting] = entry
    for (method, backbone), entries in found.items():
        representation, _, phase = method.partition(" / ")
        known = (entries.get(setting) for setting in settings)
        cells = tuple(entry.accuracy if entry else None for entry in known)
        name = published.backbone_name(backbone)
        yield BlockRow(representation, phase or "–", name, cells, next(iter(entries.values())).source)


def as_rows(block: Block, bold: str = "**{}**", hole: str = "–") -> list[list[str]]:
    """The cells of a block as texts, our best of each column in bold."""
    return [
        [
            row.representation, row.phase, row.backbone + (" (published)" if row.source else ""),
            *(_cell(v, None if row.source else best, bold) if v is not None else hole for v, best in zip(row.values, block.best, strict=True)),
        ]
        for row in block.rows
    ]  # fmt: skip


def _cell(value: float, best: float | None, bold: str) -> str:
    text = percent(value)
    return bold.format(text) if value == best else text


def head(block: Block) -> list[str]:
    """The names of the columns."""
    return ["Representation", "Low-shot phase", "Backbone", *(f"n={n}" for n in block.shots), "mean"]


def result_lines(shots: Sequence[int], accuracies: npt.NDArray[np.float64]) -> list[str]:
    r"""One row's table as the authors' release prints it: a line for each n, six percentages, then their mean.

    Args:
        shots: N of them.
        accuracies: (N, X, 6) fractions of X experiments, in the order of the six numbers.

    >>> result_lines([1], np.full((1, 5, 6), 0.5))[-1]
    'mean\t50.00\t50.00\t50.00\t50.00\t50.00\t50.00'
    """
    table = 100 * accuracies.mean(axis=1)  # (N, 6)
    rule = "=" * 53
    named = [*zip(map(str, shots), table, strict=True), ("mean", table.mean(axis=0))]
    lines = ["\t".join([name, *(f"{value:.2f}" for value in row)]) for name, row in named]
    tops = [f"Top-{k}" for _ in range(3) for k in (1, 5)]
    groups = [group for group in ("Novel", "Base", "All") for _ in range(2)]
    return [
        "\t".join(["n ", *_spaced(groups)]),
        "\t".join(["  ", *_spaced(tops)]),
        rule,
        *lines[:-1],
        rule,
        lines[-1],
    ]


def _spaced(names: Sequence[str]) -> list[str]:
    """All but the last followed by a space, as theirs are."""
    return [*(f"{name} " for name in names[:-1]), names[-1]]
