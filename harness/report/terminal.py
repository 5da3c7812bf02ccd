"""Tables for people: drawn on a terminal, plain aligned text when piped."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from harness.report.comparison import Pair
from harness.report.leaderboard import Row, Table
from harness.store import StoredRun

Cells = Sequence[str]


def show_table(columns: Cells, rows: Iterable[Cells], *, title: str = "", right: Sequence[int] = ()) -> None:
    """Print a table; the columns numbered in ``right`` are aligned to the right."""
    is_terminal = sys.stdout.isatty()
    console = Console(width=None if is_terminal else 200, highlight=False)
    table = RichTable(
        title=title or None, title_justify="left", title_style="bold",
        box=box.SIMPLE_HEAD if is_terminal else None, pad_edge=False, header_style="bold",
    )  # fmt: skip
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    console.print(table)


def say(sentence: str) -> None:
    """Print a sentence."""
    sys.stdout.write(sentence + "\n")


def percent(fraction: float | None, digits: int = 2) -> str:
    """Write a fraction in percent; a dash where there is none."""
    return "–" if fraction is None else f"{100 * fraction:.{digits}f}"


def duration(seconds: float) -> str:
    """Write seconds as people say them.

    >>> duration(5.04), duration(75)
    ('5.0 s', '1:15 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds) // 60
    if minutes < 60:
        return f"{minutes}:{int(seconds) % 60:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"


def leaderboard(table: Table) -> None:
    """Print the rows of one setting."""
    title = f"{table.setting}" + (f" ({table.note})" if table.note else "")
    columns = (
        "method",
        "backbone",
        "accuracy %",
        "±95%",
        "interval",
        "episodes",
        "seeds",
        "fit",
        "badges",
        "run",
    )
    show_table(columns, [leaderboard_cells(row) for row in table.rows], title=title, right=(2, 3, 5, 7))
    for run in table.failed:
        last = run.traceback.strip().splitlines()[-1:] or ["no message"]
        show_table(("failed", "run", "reason"), [(run.spec.method.name, run.id, last[0])])


def leaderboard_cells(row: Row) -> Cells:
    """One line of a leaderboard."""
    return (
        row.label, row.backbone, percent(row.mean), percent(row.half_width), row.interval.kind,
        f"{row.n_episodes:,}", ",".join(map(str, row.seeds)), duration(row.seconds["fit"]),
        ", ".join(row.badges), row.runs[0].id,
    )  # fmt: skip


def comparison(pairs: Sequence[Pair]) -> None:
    """Print paired verdicts as a table and in words."""
    columns = ("setting", "A %", "B %", "A − B", "95% interval", "p", "p flips", "p Wilcoxon", "verdict")
    rows = []
    for pair in pairs:
        c = pair.comparison
        low, high = c.interval.low, c.interval.high
        rows.append((
            pair.setting, percent(c.mean_a), percent(c.mean_b), f"{100 * c.difference:+.2f}",
            "–" if low is None or high is None else f"[{100 * low:+.2f}, {100 * high:+.2f}]",
            _small(c.p), _small(c.p_permutation), _small(c.p_wilcoxon), c.verdict,
        ))  # fmt: skip
    show_table(
        columns, rows, title=f"A = {pairs[0].a.label}, B = {pairs[0].b.label}", right=(1, 2, 3, 5, 6, 7)
    )
    for pair in pairs:
        say(" ".join(filter(None, (pair.sentence, pair.overlap_sentence))))


def _small(p: float) -> str:
    return f"{p:.2g}" if p >= 1e-4 else "<0.0001"


def run_details(run: StoredRun, accuracy: Mapping[str, float]) -> None:
    """Print all that is known of one run."""
    spec = run.spec
    facts = {
        "run": f"{run.id} ({run.status})",
        "method": f"{spec.method.name} {spec.method.version} ({spec.method.reference})",
        "setting": f"{spec.setting}, {spec.n_query} queries a class, {spec.n_episodes:,} episodes",
        "accuracy %": ", ".join(f"{name} {percent(value)}" for name, value in accuracy.items()) or "–",
        "backbone": f"{spec.backbone}, {spec.image_size}×{spec.image_size}×{spec.channels}, pipeline {spec.pipeline}, {spec.precision}",
        "recipe, seed": f"{spec.recipe}, {spec.seed}",
        "episodes": spec.episode_digest[:16],
        "images": ", ".join(f"{role} {digest[:12]}" for role, digest in spec.data_digest.items()),
    }
    if len(run.replicates) > 1:
        facts["replicates"] = ", ".join(digest[:12] for digest in run.replicates)
    show_table(("", ""), list(facts.items()))
    config = [
        (name, str(entry.value), entry.origin, entry.phase) for name, entry in sorted(spec.config.items())
    ]
    if config:
        show_table(("hyper-parameter", "value", "from", "phase"), config)
    show_table(("provenance", ""), [(k, _flat(v)) for k, v in sorted(run.provenance.items())])
    if run.traceback:
        sys.stdout.write(run.traceback.rstrip() + "\n")


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_flat(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_flat, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
