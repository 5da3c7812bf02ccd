"""The same tables for other programs: CSV, JSON, Markdown, LaTeX, and BibTeX of the methods."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.errors import ConfigError, nearest
from harness.report.board.joint import METRICS
from harness.report.board.rows import Row
from harness.report.formats import percent
from harness.report.pages.method_page import MethodPage
from harness.report.pages.setting_page import Entry, SettingPage

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
    file = io.StringIO()
    is_joint = any(entry.row.joint for page in pages for entry in page.entries)
    writer = csv.DictWriter(file, (*FIELDS, *(METRICS if is_joint else ())), lineterminator="\n")
    writer.writeheader()
    for page in pages:
        writer.writerows({k: csv_cell(v) for k, v in record.items()} for record in records(page))
    return file.getvalue()


def as_json(pages: Sequence[SettingPage]) -> str:
    """A list of tables, one line a row; of a single table its pairs too: upper triangle, row minus column."""
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
        pairs = _pairs(page) if len(pages) == 1 else {}
        parts = [
            f'"{name}": {_json(value)}'
            for name, value in (*head.items(), *((f"pairs_{k}", v) for k, v in pairs.items()))
        ]
        parts.append('"rows": [\n' + ",\n".join(_json(row) for row in rows) + "\n]")
        tables.append("{" + ",\n ".join(parts) + "}")
    return "[" + ",\n".join(tables) + "]\n"


def _pairs(page: SettingPage) -> dict[str, list[list[float]]]:
    return {
        "difference": [[round(cell.difference, 5) for cell in cells] for cells in page.matrix],
        "p_holm": [[float(f"{cell.p:.3g}") for cell in cells] for cells in page.matrix],
        "detectable": [[round(cell.detectable, 5) for cell in cells] for cells in page.matrix],
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def as_markdown(pages: Sequence[SettingPage]) -> str:
    """A pipe table per setting; the top tie group is bold."""
    parts = []
    for page in pages:
        more = _joint_metrics(page)
        accuracy = f"{page.entries[0].row.metric} %" if more else "accuracy %"
        lines = [
            f"### {markdown(page.table.name)}", "",
            f"| method | backbone | {accuracy} | ± 95% | rank | episodes | seeds | badges |" + "".join(f" {m} |" for m in more),
            "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |" + " ---: |" * len(more),
        ]  # fmt: skip
        for entry in page.entries:
            row, mean = entry.row, percent(entry.row.mean)
            cells = (
                markdown(row.label), markdown(row.backbone), f"**{mean}**" if entry.group == 1 else mean, percent(row.half_width),
                rank_text(entry), f"{row.n_episodes:,}", str(len(row.seeds)), markdown(", ".join(row.badges)),
                *_joint_numbers(row, more),
            )  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n" if parts else ""


def as_latex(pages: Sequence[SettingPage]) -> str:
    """A booktabs table per setting; bold is the top tie group: nothing tells them from the best."""
    parts = ["% needs \\usepackage{booktabs}\n"]
    for page in pages:
        more = _joint_metrics(page)
        accuracy = page.entries[0].row.metric if more else "Accuracy"
        head = " & ".join(("Method", "Backbone", rf"{accuracy} (\%)", "Rank", *more))
        lines = [
            rf"\begin{{tabular}}{{llrr{'r' * len(more)}}}", r"\toprule",
            rf"\multicolumn{{{4 + len(more)}}}{{l}}{{{latex(page.table.name)}}} \\", r"\midrule",
            rf"{head} \\", r"\midrule",
        ]  # fmt: skip
        for entry in page.entries:
            mean, half = percent(entry.row.mean), percent(entry.row.half_width)
            mean = rf"\mathbf{{{mean}}}" if entry.group == 1 else mean
            value = f"${mean} \\pm {half}$" if entry.row.half_width is not None else f"${mean}$"
            rank = rank_text(entry).replace("–", "--")
            six = _joint_numbers(entry.row, more)
            cells = (latex(entry.row.label), latex(entry.row.backbone), value, rank, *six)
            lines.append(rf"{' & '.join(cells)} \\")
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""]))
    return "\n".join(parts)


def as_bibtex(methods: Sequence[MethodPage]) -> str:
    """The entries that methods give as their reference, each once."""
    entries = (method.reference.strip() for method in methods)
    return "\n\n".join(dict.fromkeys(entry for entry in entries if entry.startswith("@")))


def rank_text(entry: Entry) -> str:
    """``1``, ``2–4``, or a dash for a row without a rank."""
    if entry.rank is None:
        return "–"
    low, high = entry.rank
    return str(low) if low == high else f"{low}–{high}"


def latex(text: str) -> str:
    r"""Escape text for LaTeX.

    >>> print(latex("50% of_x"))
    50\% of\_x
    """
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def _record(page: SettingPage, entry: Entry) -> dict[str, Any]:
    row, by_class = entry.row, entry.by_class
    return {
        "setting": row.setting, "note": page.table.note, "metric": row.metric, "method": row.method, "config": row.config,
        "recipe": row.recipe, "backbone": row.backbone, "image_size": row.spec.image_size,
        "accuracy": row.mean, "half_width_95": row.half_width, "interval": row.interval.kind,
        "class_low": by_class.low if by_class else None, "class_high": by_class.high if by_class else None,
        "rank_low": entry.rank[0] if entry.rank else None, "rank_high": entry.rank[1] if entry.rank else None,
        "tie_group": entry.group, "worst_10": entry.worst.mean_worst_10,
        "sigma_seed": entry.seeds.sigma_seed if entry.seeds else None,
        "episodes": row.n_episodes, "queries_per_class": row.spec.n_query, "seeds": list(row.seeds),
        "badges": list(row.badges), "fit_seconds": entry.cost.fit_seconds, "runs": [run.id for run in row.runs],
        **(row.joint.means if row.joint else {}),
    }  # fmt: skip


def _joint_metrics(page: SettingPage) -> Sequence[str]:
    """Names of the joint protocol's six numbers; none in an episodic setting."""
    return METRICS if any(entry.row.joint for entry in page.entries) else ()


def _joint_numbers(row: Row, metrics: Sequence[str]) -> list[str]:
    """Their values in percent."""
    return [percent(row.joint.means[name] if row.joint else None) for name in metrics]


FIELDS = (
    "setting", "note", "metric", "method", "config", "recipe", "backbone", "image_size", "accuracy", "half_width_95",
    "interval", "class_low", "class_high", "rank_low", "rank_high", "tie_group", "worst_10", "sigma_seed", "episodes",
    "queries_per_class", "seeds", "badges", "fit_seconds", "runs",
)  # fmt: skip


def csv_cell(value: Any) -> Any:
    """Write lists in one cell; a text that a spreadsheet would run as a formula gets an apostrophe."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") and value else value


def markdown(text: str) -> str:
    """Escape text for a cell of a pipe table."""
    flat = " ".join(text.split())
    return "".join(rf"\{c}" if c in r"\`*_|<>[]" else c for c in flat)


FORMS: Mapping[str, Callable[[Sequence[SettingPage]], str]] = {
    "csv": as_csv,
    "json": as_json,
    "md": as_markdown,
    "tex": as_latex,
}
