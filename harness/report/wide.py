"""The tables of the front page for other programs: methods × settings as CSV, JSON, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

from harness.report.exports import csv_cell, latex, markdown, rank_text
from harness.report.formats import percent
from harness.report.pages.index_page import Cell, Family, Line


def as_csv(family: Family) -> str:
    """A line per method; mean, half-width (fractions) and rank of each setting are columns of their own."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = [page.table.name for page in family.pages]
    kinds = ("accuracy", "half_width_95", "rank")
    writer.writerow([*_FIXED, *(f"{name} {kind}" for name in names for kind in kinds)])
    for line in family.lines:
        cells = (value for cell in line.cells for value in _numbers(cell))
        writer.writerow([csv_cell(value) for value in (*_fixed(line).values(), *cells)])
    return file.getvalue()


def as_json(family: Family) -> str:
    """An object with the benchmark and a line per method; a hole is null, a failure names its run."""
    names = [page.table.name for page in family.pages]
    lines = [
        {**_fixed(line), "cells": {name: _cell(cell) for name, cell in zip(names, line.cells, strict=True)}}
        for line in family.lines
    ]
    rows = ",\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    return f'{{"benchmark": {json.dumps(family.name, ensure_ascii=False)}, "rows": [\n{rows}\n]}}\n'


def as_markdown(family: Family) -> str:
    """A pipe table; bold is the top tie group, a dash a hole."""
    head = ["method", "backbone", *(markdown(page.table.name) for page in family.pages)]
    rows = [
        [markdown(line.label), markdown(line.backbone), *(_text(cell, "**{}**", " ±") for cell in line.cells)]
        for line in family.lines
    ]
    rule = ["---", "---", *("---:" for _ in family.pages)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))


def as_latex(family: Family) -> str:
    """A booktabs table; bold is the top tie group, a dash a hole."""
    columns = "ll" + "r" * len(family.pages)
    head = ["Method", "Backbone", *(latex(page.table.name) for page in family.pages)]
    rows = [
        [latex(line.label), latex(line.backbone), *(_text(cell, r"\textbf{{{}}}", r" $\pm$ ") for cell in line.cells)]
        for line in family.lines
    ]  # fmt: skip
    lines = [
        "% needs \\usepackage{booktabs}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule", " & ".join(head) + r" \\",
        r"\midrule", *(" & ".join(row) + r" \\" for row in rows), r"\bottomrule", r"\end{tabular}", "",
    ]  # fmt: skip
    return "\n".join(lines)


FORMS: Mapping[str, Callable[[Family], str]] = {
    "csv": as_csv,
    "json": as_json,
    "md": as_markdown,
    "tex": as_latex,
}
_FIXED = ("method", "label", "apart", "backbone", "recipe", "image_size", "badges", "seeds")


def _fixed(line: Line) -> dict[str, Any]:
    values = (
        line.method, line.label, line.apart, line.backbone, line.recipe, line.image_size, list(line.badges), list(line.seeds),
    )  # fmt: skip
    return dict(zip(_FIXED, values, strict=True))


def _numbers(cell: Cell) -> tuple[float | None, float | None, str | None]:
    if cell.entry is None:
        return None, None, "failed" if cell.failed else None
    row = cell.entry.row
    half = None if row.half_width is None else round(row.half_width, 8)
    return round(row.mean, 8), half, rank_text(cell.entry)


def _cell(cell: Cell) -> dict[str, Any] | None:
    if cell.failed:
        return {"failed": cell.failed.id}
    if cell.entry is None:
        return None
    mean, half, _ = _numbers(cell)
    return {"accuracy": mean, "half_width_95": half, "rank": cell.entry.rank, "tie_group": cell.entry.group}


def _text(cell: Cell, bold: str, plus_minus: str) -> str:
    if cell.entry is None:
        return "failed" if cell.failed else "–"
    row, mean = cell.entry.row, percent(cell.entry.row.mean)
    half = "" if row.half_width is None else f"{plus_minus}{percent(row.half_width)}"
    return (bold.format(mean) if cell.entry.group == 1 else mean) + half
