"""Is A really better than B: rows found by name, paired on the episodes and seeds both have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness import stats
from harness.errors import ConfigError, StoreError, nearest
from harness.report.leaderboard import Row, Table, tables
from harness.store import Store


@dataclass(frozen=True)
class Pair:
    """Two rows of one setting and the verdict on the first."""

    setting: str
    a: Row
    b: Row
    comparison: stats.Comparison

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
            "undecided": f"undecided between {a} and {b}: {points} apart, and less than "
            f"{100 * (c.detectable or 1):.2f} points cannot be told here",
        }[c.verdict]
        return f"{self.setting}: {found} (p = {c.p:.2g}, {c.n_episodes:,} paired episodes){about}."


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
    pairs = [
        _pair(x, rows_b[place], margin)
        for place, x in rows_a.items()
        if place in rows_b and x is not rows_b[place]
    ]
    if not pairs:
        raise StoreError(
            f"{a} has runs on {_names(rows_a)}, {b} on {_names(rows_b)}: no setting, images and episodes in common. "
            "Run both on one setting."
        )
    return pairs


def _pair(a: Row, b: Row, margin: float) -> Pair:
    """Pair by seed where both have three or more in common, else average each one's seeds."""
    n = min(a.n_episodes, b.n_episodes)
    shared = sorted(set(a.seeds) & set(b.seeds))
    if shared:
        first = np.stack([a.accuracy[a.seeds.index(s), :n] for s in shared])
        second = np.stack([b.accuracy[b.seeds.index(s), :n] for s in shared])
    else:
        first, second = a.accuracy[:, :n].mean(0, keepdims=True), b.accuracy[:, :n].mean(0, keepdims=True)
    ids = tuple("+".join(run.id for run in row.runs) for row in (a, b))
    return Pair(a.setting, a, b, stats.compare(first, second, (ids[0], ids[1]), margin))


def _rows(found: Sequence[Table], name: str) -> dict[tuple[str, str], Row]:
    """The row of each (setting, images) that a name means."""
    chosen: dict[tuple[str, str], Row] = {}
    for table in found:
        rows = [row for row in table.rows if row.method == name]
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


def _names(rows: dict[tuple[str, str], Row]) -> str:
    return ", ".join(sorted({setting for setting, _ in rows}))
