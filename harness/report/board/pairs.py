"""Is A really better than B: rows found by name, paired on the episodes and seeds both have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness import stats
from harness.errors import ConfigError, StoreError, nearest
from harness.report.board.joint import predictions_of
from harness.report.board.rows import Matrix, Row
from harness.report.board.tables import Table, tables
from harness.report.formats import p_text
from harness.stats.seeds import MIN_SEEDS
from harness.store import Store


@dataclass(frozen=True)
class Pair:
    """Two rows of one setting and the verdict on the first.

    Attributes:
        setting: name.
        a, b: the rows.
        comparison: paired, a minus b.
        overlap: whether they fail on the same queries, first seeds of each; None where one kept no predictions.
    """

    setting: str
    a: Row
    b: Row
    comparison: stats.Comparison
    overlap: stats.ErrorOverlap | None

    @property
    def overlap_sentence(self) -> str:
        """The overlap of errors in words; empty where it is unknown."""
        o = self.overlap
        if o is None:
            return ""
        total = o.both_right + o.only_a_wrong + o.only_b_wrong + o.both_wrong
        shares = [f"{100 * n / total:.1f}%" for n in (o.both_wrong, o.only_a_wrong, o.only_b_wrong)]
        kappa = "" if o.kappa is None else f"; Cohen's kappa of their errors {o.kappa:.2f}"
        return f"Queries wrong by both {shares[0]}, by {self.a.label} alone {shares[1]}, by {self.b.label} alone {shares[2]}{kappa}."

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        c, a, b = self.comparison, self.a.label, self.b.label
        points = f"{100 * abs(c.difference):.2f} points"
        about = "" if c.scope == "training" else " (about these trained models: fewer than three seeds)"
        found = {
            "better": f"{a} is better than {b} by {points}",
            "worse": f"{a} is worse than {b} by {points}",
            "tied": f"{a} and {b} are tied: the difference is within ±{100 * c.margin:.1f} points",
            "undecided": f"undecided between {a} and {b}: {points} apart; 80% power begins at "
            f"{100 * (c.detectable or 1):.2f} points",
        }[c.verdict]
        return f"{self.setting}: {found} ({p_text(c.p)}, {c.n_episodes:,} paired {self.a.unit}){about}."


def compare(store: Store, a: str, b: str, settings: Sequence[str] | None, margin: float) -> list[Pair]:
    """Compare two methods, or two runs, on every setting that both have.

    Args:
        store: the database.
        a, b: method names, or the beginning of run ids.
        settings: only these; None for all.
        margin: differences within ± margin are tied, a fraction.

    Raises:
        StoreError: when there is nothing to pair.
        ConfigError: when a name is neither a stored method nor a run, or means several rows.
    """
    found = tables(store, settings)
    rows_a, rows_b = (_rows(found, name) for name in (a, b))
    if rows_a.keys() == rows_b.keys() and all(rows_a[place] is rows_b[place] for place in rows_a):
        raise ConfigError(f"`{a}` and `{b}` are the same row; name two methods, or two runs by their ids.")
    pairs = [
        _pair(store, x, rows_b[place], margin)
        for place, x in rows_a.items()
        if place in rows_b and x is not rows_b[place] and x.metric == rows_b[place].metric
    ]
    if not pairs:
        raise StoreError(
            f"{a} has runs on {_names(rows_a)}, {b} on {_names(rows_b)}: no setting, images and episodes in common. "
            "Run both on one setting."
        )
    return pairs


def _pair(store: Store, a: Row, b: Row, margin: float) -> Pair:
    first, second = paired_accuracy(a, b)
    verdict = stats.compare(first, second, (a.key, b.key), margin)
    return Pair(a.setting, a, b, verdict, _overlap(store, a, b))


def _overlap(store: Store, a: Row, b: Row) -> stats.ErrorOverlap | None:
    first, second = (predictions_of(store, row.runs[0], row.metric) for row in (a, b))
    if first is None or second is None:
        return None
    n = min(len(first), len(second))
    truth = store.episode_list(a.spec.episode_digest).query_label
    return stats.error_overlap(first[:n], second[:n], truth)


def paired_accuracy(a: Row, b: Row) -> tuple[Matrix, Matrix]:
    """Accuracies on the episodes both have: (S, T) by seed where three or more are common, else (1, T) seed means.

    Of the joint protocol on the classes, which are the same for both.
    """
    n = min(a.n_episodes, b.n_episodes)
    units_a, units_b = a.units(n), b.units(n)
    shared = sorted(set(a.seeds) & set(b.seeds))
    if len(shared) < MIN_SEEDS:
        return units_a.mean(0, keepdims=True), units_b.mean(0, keepdims=True)
    first = np.stack([units_a[a.seeds.index(s)] for s in shared])
    return first, np.stack([units_b[b.seeds.index(s)] for s in shared])


def _rows(found: Sequence[Table], name: str) -> dict[tuple[str, str], Row]:
    """The row of each (setting, images) that a name means."""
    chosen: dict[tuple[str, str], Row] = {}
    for table in found:
        rows = [row for row in table.rows if row.method == name]
        rows = rows or _of_file(table, name)
        rows = rows or [row for row in table.rows if any(run.id.startswith(name) for run in row.runs)]
        plain = [row for row in rows if not row.config] if len(rows) > 1 else rows
        if len(rows) > 1 and len(plain) != 1:
            ids = ", ".join(f"{row.runs[0].id} ({row.label}, {row.backbone})" for row in rows)
            raise ConfigError(
                f"`{name}` means {len(rows)} rows on {table.setting}; name one by its run: {ids}."
            )
        if rows:
            chosen[table.setting, table.note] = plain[0]
    if not chosen:
        known = {row.method for table in found for row in table.rows}
        raise ConfigError(
            f"`{name}` is neither a method nor a run in this database.{nearest(name, known)} "
            f"Methods with runs: {', '.join(sorted(known)) or 'none'}."
        )
    return chosen


def _of_file(table: Table, name: str) -> list[Row]:
    """The row of a user's file, its latest text: ``./mine.py`` or ``./mine.py:Mine`` as given to ``run``."""
    if not name.partition(":")[0].endswith(".py"):
        return []
    wanted = str(Path(name))
    rows = [r for r in table.rows if r.runs[0].spec.method.reference.startswith(wanted)]
    return sorted(rows, key=lambda row: max(run.created for run in row.runs))[-1:]


def _names(rows: dict[tuple[str, str], Row]) -> str:
    return ", ".join(sorted({setting for setting, _ in rows}))
