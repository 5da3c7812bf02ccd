"""The same tables for other programs: CSV, JSON, Markdown, LaTeX, and BibTeX of the methods.

First the tables of settings, a line a row; then those of the front page, methods × settings; then what both are
written with.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from harness.errors import ConfigError, nearest, visible
from harness.report.board.rows import Row, row_as_json
from harness.report.formats import images_text, percent, rank_text, span, told_of
from harness.report.pages import six_blocks
from harness.report.pages.family_page import Cell, Family, Line
from harness.report.pages.method_page import MethodPage
from harness.report.pages.setting_page import Entry, Matrix, PairCell, SettingPage, Variants

FIELDS = (
    "setting", "note", "metric", "method", "config", "recipe", "tuning", "backbone", "image_size", "accuracy", "low_95", "high_95",
    "episodes_half_width_95", "class_low", "class_high", "rank_low", "rank_high", "variant_of", "same_as", "marks",
    "worst_10", "seed_sd", "episodes", "queries_per_class", "seeds", "badges", "fit_seconds", "train_images",
    "train_steps", "train_flop", "below_images", "below_steps", "below_seconds", "below_flop", "runs", "signature",
)  # fmt: skip
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def as_text(pages: Sequence[SettingPage], form: str) -> str:
    """Write all tables in one form: "csv", "json", "md" or "tex".

    Raises:
        ConfigError: for another form.
    """
    check_form(form)
    return FORMS[form](pages)


def check_form(form: str) -> None:
    """Refuse an unknown form before anything is read.

    Raises:
        ConfigError: naming the known ones.
    """
    if form not in FORMS:
        raise ConfigError(f"--format {form}: known are {', '.join(FORMS)}.{nearest(form, FORMS)}")


def records(page: SettingPage) -> list[dict[str, Any]]:
    """One flat record per row, accuracies as fractions to eight decimals."""
    flat = (_record(page, entry) for entry in page.entries)
    return [{k: round(v, 8) if isinstance(v, float) else v for k, v in record.items()} for record in flat]


def as_csv(pages: Sequence[SettingPage]) -> str:
    """One CSV for all tables; the setting is a column."""
    columns = (*FIELDS, *dict.fromkeys(name for page in pages for name in _metrics(page)))
    found = (record for page in pages for record in records(page))
    return _csv(columns, ([record.get(name, "") for name in columns] for record in found))


def as_json(pages: Sequence[SettingPage]) -> str:
    """A list of tables, one line a row; of a single table its pairs and those of variants too: upper triangle, row minus column."""
    tables = []
    for page in pages:
        head = {
            "setting": page.table.setting,
            "note": page.table.note,
            "episode_list": page.table.list_digest,
            "failed": [run.id for run in page.table.failed],
        }
        ranked = {row.key: i for i, row in enumerate(page.table.ranked)}
        rows = [
            {**record, "pair_index": ranked.get(e.row.key)}
            for record, e in zip(records(page), page.entries, strict=True)
        ]
        pairs = {f"pairs_{k}": v for k, v in _pairs(page.matrix).items()} if len(pages) == 1 else {}
        variants = {"variants": [_variants(one) for one in page.variants]} if len(pages) == 1 else {}
        parts = [f'"{name}": {_json(value)}' for name, value in {**head, **pairs, **variants}.items()]
        parts.append('"rows": [\n' + ",\n".join(_json(row) for row in rows) + "\n]")
        tables.append("{" + ",\n ".join(parts) + "}")
    return "[" + ",\n".join(tables) + "]\n"


def as_markdown(pages: Sequence[SettingPage]) -> str:
    """A pipe table per setting; bold are the methods that none is better than."""
    parts = []
    for page in pages:
        more = _metrics(page)
        accuracy = f"{page.entries[0].row.metric} %" if more else "accuracy %"
        head = (
            "method",
            "backbone",
            accuracy,
            "95%",
            "± over episodes",
            "rank",
            "episodes",
            "seeds",
            "training images",
            "badges and marks",
            *more,
        )
        rows = []
        for entry in page.entries:
            row, mean = entry.row, percent(entry.row.mean)
            rows.append((
                markdown(row.label), markdown(row.backbone), f"**{mean}**" if row.is_top else mean, span(row.interval),
                percent(row.sampler.half_width), rank_text(row), f"{row.n_episodes:,}", str(len(row.seeds)),
                images_text(row.budget), markdown(", ".join(told_of(row))),
                *_several(row, more),
            ))  # fmt: skip
        parts.append(
            f"### {markdown(page.table.name)}\n\n{_pipes(head, 'llrrrrrrrl' + 'r' * len(more), rows)}"
        )
    return "\n".join(parts)


def as_latex(pages: Sequence[SettingPage]) -> str:
    """A booktabs table per setting; bold are the methods that none is better than, notes below it the signatures."""
    parts = ["% needs \\usepackage{booktabs}\n"]
    for page in pages:
        more = _metrics(page)
        accuracy = page.entries[0].row.metric if more else "Accuracy"
        rows = []
        for number, entry in enumerate(page.entries, 1):
            mean, ends = percent(entry.row.mean), span(entry.row.interval).replace("–", "--")
            mean = rf"\mathbf{{{mean}}}" if entry.row.is_top else mean
            value = f"${mean}$ [{ends}]" if entry.row.half_width is not None else f"${mean}$"
            rank = rank_text(entry.row).replace("–", "--")
            six = _several(entry.row, more)
            label = rf"{latex(entry.row.label)}\textsuperscript{{{number}}}"
            rows.append((label, latex(entry.row.backbone), value, rank, *six))
        head = ("Method", "Backbone", rf"{accuracy} (\%)", "Rank", *more)
        parts.append(_booktabs(head, "llrr" + "r" * len(more), rows, page.table.name))
        parts.append(_notes([entry.row.signature for entry in page.entries]))
    return "\n".join(parts)


def as_bibtex(methods: Sequence[MethodPage]) -> str:
    """The entries that methods give as their reference, each once."""
    entries = (method.reference.strip() for method in methods)
    return "\n\n".join(dict.fromkeys(entry for entry in entries if entry.startswith("@")))


FORMS: Mapping[str, Callable[[Sequence[SettingPage]], str]] = {
    "csv": as_csv,
    "json": as_json,
    "md": as_markdown,
    "tex": as_latex,
}


def family_as_csv(family: Family) -> str:
    """A line per method; mean, ends of its interval (fractions), rank and signature of each setting are columns of their own."""
    names = [page.table.name for page in family.pages]
    kinds = ("accuracy", "low_95", "high_95", "rank", "signature")
    rows = (
        (
            *_line(line).values(),
            *(value for cell in line.cells for value in (*_numbers(cell), _signature(cell))),
        )
        for line in family.lines
    )
    return _csv((*_LINE, *(f"{name} {kind}" for name in names for kind in kinds)), rows)


def family_as_json(family: Family) -> str:
    """An object with the benchmark and a line per method; a hole is null, a failure names its run."""
    names = [page.table.name for page in family.pages]
    lines = [
        {**_line(line), "cells": {name: _cell(cell) for name, cell in zip(names, line.cells, strict=True)}}
        for line in family.lines
    ]
    rows = ",\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    return f'{{"benchmark": {json.dumps(family.name, ensure_ascii=False)}, "rows": [\n{rows}\n]}}\n'


def family_as_markdown(family: Family) -> str:
    """A pipe table; bold are the methods that none is better than, a dash a hole."""
    head = ["method", "backbone", *(markdown(page.table.name) for page in family.pages)]
    rows = [
        [markdown(line.label), markdown(line.backbone), *(_text(cell, "**{}**", "–") for cell in line.cells)]
        for line in family.lines
    ]
    return _pipes(head, "ll" + "r" * len(family.pages), rows)


def family_as_latex(family: Family) -> str:
    """A booktabs table; bold are the methods that none is better than, a dash a hole."""
    head = ["Method", "Backbone", *(latex(page.table.name) for page in family.pages)]
    rows = [
        [latex(line.label), latex(line.backbone), *(_text(cell, r"\textbf{{{}}}", "--") for cell in line.cells)]
        for line in family.lines
    ]  # fmt: skip
    return "% needs \\usepackage{booktabs}\n" + _booktabs(head, "ll" + "r" * len(family.pages), rows)


def blocks_as_markdown(family: Family) -> str:
    """The six blocks of low-shot papers as pipe tables, our best of each column in bold; empty for other families."""
    return "\n".join(map(block_as_markdown, family.blocks))


def block_as_markdown(block: six_blocks.Block) -> str:
    """One of the six, under its title."""
    head, rows = six_blocks.head(block), six_blocks.as_rows(block)
    cells = [[*map(markdown, row[:3]), *row[3:]] for row in rows]
    return f"**{block.title}**\n\n{_pipes(head, 'lll' + 'r' * (len(head) - 3), cells)}"


def blocks_as_latex(family: Family) -> str:
    """The same as booktabs tables."""
    parts = []
    for block in family.blocks:
        head, rows = six_blocks.head(block), six_blocks.as_rows(block, r"\textbf{{{}}}", "--")
        cells = [[*map(latex, row[:3]), *row[3:]] for row in rows]
        n_ours = sum(not row.source for row in block.rows)
        if 0 < n_ours < len(cells):
            cells.insert(n_ours, [])  # a rule above published rows
        parts.append(_booktabs(head, "lll" + "r" * (len(head) - 3), cells, block.title))
    return "% needs \\usepackage{booktabs}\n" + "\n".join(parts) if parts else ""


BLOCK_FORMS: Mapping[str, Callable[[Family], str]] = {"md": blocks_as_markdown, "tex": blocks_as_latex}
FAMILY_FORMS: Mapping[str, Callable[[Family], str]] = {
    "csv": family_as_csv,
    "json": family_as_json,
    "md": family_as_markdown,
    "tex": family_as_latex,
}


def latex(text: str) -> str:
    r"""Escape text for LaTeX.

    >>> print(latex("50% of_x"))
    50\% of\_x
    """
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def markdown(text: str) -> str:
    """Escape text for a cell of a pipe table."""
    flat = " ".join(text.split())
    return "".join(rf"\{c}" if c in r"\`*_|<>[]" else c for c in flat)


def csv_cell(value: Any) -> Any:
    """Write lists in one cell, control characters as escapes; what a spreadsheet would run gets an apostrophe."""
    if isinstance(value, list):
        gap = "; " if any(" " in str(part) for part in value) else " "
        return visible(gap.join(map(str, value)))
    value = visible(value) if isinstance(value, str) else value
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") and value else value


def _record(page: SettingPage, entry: Entry) -> dict[str, Any]:
    row, by_class = entry.row, entry.by_class
    said = {
        **row_as_json(row), **row.several, "note": page.table.note, "image_size": row.spec.image_size, "queries_per_class": row.spec.n_query,
        "class_low": by_class.low if by_class else None, "class_high": by_class.high if by_class else None,
        "worst_10": entry.worst.mean_worst_10 if row.spec.shot else None,  # of single images it says nothing
    }  # fmt: skip
    return {name: said[name] for name in (*FIELDS, *row.several)}


def _variants(found: Variants) -> dict[str, Any]:
    """A method's rows, best first, and their pairs."""
    return {"method": found.rows[0].called, "rows": [row.label for row in found.rows], **_pairs(found.matrix)}


def _pairs(matrix: Matrix) -> dict[str, list[list[Any]]]:
    """The numbers of a pair matrix, upper triangle, row minus column."""

    def cells(write: Callable[[PairCell], Any]) -> list[list[Any]]:
        return [[write(cell) for cell in row] for row in matrix]

    return {
        "difference": cells(lambda cell: round(cell.difference, 5)),
        "half_width_95": cells(lambda cell: round(cell.half_width, 5)),
        "p": cells(lambda cell: float(f"{cell.p_alone:.3g}")),
        "p_adjusted": cells(lambda cell: float(f"{cell.p:.3g}")),
        "bound": cells(lambda cell: round(cell.bound, 5)),
        "word": cells(lambda cell: cell.word),
        "reason": cells(lambda cell: cell.reason),
    }


def _metrics(page: SettingPage) -> Sequence[str]:
    """Names of the numbers of a protocol that has several; none in an episodic setting."""
    return next((tuple(entry.row.several) for entry in page.entries if entry.row.several), ())


def _several(row: Row, metrics: Sequence[str]) -> list[str]:
    """Their values in percent."""
    return [percent(row.several.get(name)) for name in metrics]


_LINE = ("method", "label", "apart", "backbone", "recipe", "image_size", "badges", "seeds")


def _line(line: Line) -> dict[str, Any]:
    values = (
        line.method, line.label, line.apart, line.backbone, line.recipe, line.image_size, list(line.badges), list(line.seeds),
    )  # fmt: skip
    return dict(zip(_LINE, values, strict=True))


def _numbers(cell: Cell) -> tuple[float | None, float | None, float | None, str | None]:
    if not isinstance(cell, Entry):
        return None, None, None, "failed" if cell else None
    row = cell.row
    low, high = (None if end is None else round(end, 8) for end in (row.interval.low, row.interval.high))
    return round(row.mean, 8), low, high, rank_text(row)


def _cell(cell: Cell) -> dict[str, Any] | None:
    if not isinstance(cell, Entry):
        return {"failed": cell.id} if cell else None
    mean, low, high, _ = _numbers(cell)
    return {
        "accuracy": mean,
        "low_95": low,
        "high_95": high,
        "rank": cell.row.rank,
        "signature": _signature(cell),
    }


def _signature(cell: Cell) -> str | None:
    return cell.row.signature if isinstance(cell, Entry) else None


def _text(cell: Cell, bold: str, dash: str) -> str:
    if not isinstance(cell, Entry):
        return "failed" if cell else "–"
    row, mean = cell.row, percent(cell.row.mean)
    ends = "" if row.half_width is None else f" [{span(row.interval).replace('–', dash)}]"
    return (bold.format(mean) if row.is_top else mean) + ends


def _csv(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([csv_cell(value) for value in row] for row in rows)
    return file.getvalue()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _pipes(head: Sequence[str], sides: str, rows: Iterable[Sequence[str]]) -> str:
    """A pipe table of escaped cells; ``sides`` has "l" or "r" for each column."""
    rule = ["---:" if side == "r" else "---" for side in sides]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))


def _booktabs(head: Sequence[str], sides: str, rows: Iterable[Sequence[str]], title: str = "") -> str:
    """A booktabs table of escaped cells; ``sides`` has "l" or "r" for each column, a row without cells is a rule."""
    above = [rf"\multicolumn{{{len(sides)}}}{{l}}{{{latex(title)}}} \\", r"\midrule"] if title else []
    lines = [
        rf"\begin{{tabular}}{{{sides}}}", r"\toprule", *above, " & ".join(head) + r" \\", r"\midrule",
        *(" & ".join(row) + r" \\" if row else r"\midrule" for row in rows), r"\bottomrule", r"\end{tabular}", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _notes(signatures: Sequence[str]) -> str:
    """Signatures as numbered notes below a table; a line may break after each bar."""
    broken = (latex(text).replace("|", r"|\allowbreak{}") for text in signatures)
    lines = [rf"\textsuperscript{{{number}}}\,\texttt{{{text}}}\par" for number, text in enumerate(broken, 1)]
    return "\n".join([r"\par\smallskip{\footnotesize\raggedright\noindent", *lines, "}", ""])
