"""A table on a terminal of any width: columns that matter less are left out, and named; texts wrap at words."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence

from harness.errors import visible

Cells = Sequence[str]
_GAP = 2  # characters between two columns
_TEXT = 22  # a column of longer cells with spaces in them is text, and wraps; no narrower than this


def show_table(
    columns: Cells, rows: Iterable[Cells], *, title: str = "", right: Sequence[int] = (), less: Cells = ()
) -> None:
    """Print a table, a line a row when piped.

    Args:
        columns: what stands above each column.
        rows: the cells, as many as columns.
        title: what stands above the table.
        right: numbers of the columns that are aligned to the right.
        less: names of columns that a narrow terminal does without, the first first; what is left out is said.
    """
    cells = [[visible(cell) for cell in row] for row in (columns, *rows)]
    if not sys.stdout.isatty():
        _print_plain(cells, visible(title), right)
        return
    width = shutil.get_terminal_size().columns
    shown = fitting(cells, less, width)
    aligned = [shown.index(i) for i in right if i in shown]
    _draw([[row[i] for i in shown] for row in cells], visible(title), aligned, width)
    left_out = [columns[i] for i in range(len(columns)) if i not in shown]
    if left_out:
        sys.stdout.write(
            f"Left out at {width} columns: {', '.join(left_out)}. A wider terminal or --json shows them.\n\n"
        )


def fitting(cells: Sequence[Cells], less: Cells, width: int) -> list[int]:
    """Numbers of the columns that fit into a width, when those named in ``less`` go, the first first, until they do.

    >>> fitting([["method", "rank", "run"], ["protonet", "1–2", "3dcbe0"]], ["run"], 20)
    [0, 1]
    """
    widths = [_least(column) for column in zip(*cells, strict=True)]
    shown = list(range(len(widths)))
    for name in less:
        if sum(widths[i] + _GAP for i in shown) - _GAP <= width:
            break
        shown = [i for i in shown if cells[0][i] != name]
    return shown


def _least(column: Sequence[str]) -> int:
    """The fewest characters that a column reads well in."""
    longest = max(map(len, column))
    return (
        min(longest, max(_TEXT, max(len(word) for cell in column for word in cell.split() or [""])))
        if _is_text(column)
        else longest
    )


def _is_text(column: Sequence[str]) -> bool:
    return any(len(cell) > _TEXT and " " in cell for cell in column)


def _print_plain(cells: Sequence[Cells], title: str, right: Sequence[int]) -> None:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [title] if title else []
    for row in cells:
        padded = (
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )  # fmt: skip
        lines.append("  ".join(padded).rstrip())
    sys.stdout.write("\n".join(lines) + "\n")


def _draw(cells: Sequence[Cells], title: str, right: Sequence[int], width: int) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=escape(title) or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False,
        header_style="bold", padding=(0, 1, 0, 0), show_edge=False,
    )  # fmt: skip
    for i, column in enumerate(zip(*cells, strict=True)):
        justify = "right" if i in right else "left"
        table.add_column(escape(column[0]), justify=justify, overflow="fold", min_width=_least(column))  # type: ignore[arg-type]
    for row in cells[1:]:
        table.add_row(*map(escape, row))
    Console(highlight=False, width=width).print(table)
