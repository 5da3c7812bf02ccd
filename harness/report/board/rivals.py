"""Two rows found by name, and judged as the page judges them: with the family that holds both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from harness import stats
from harness.errors import ConfigError, StoreError, nearest
from harness.report.board.rows import Row
from harness.report.board.tables import Table


class Common(NamedTuple):
    """Two rows of one table."""

    table: Table
    a: Row
    b: Row


def rows_in_common(every: Sequence[Table], a: str, b: str) -> list[Common]:
    """Find the tables that hold both rows.

    Raises:
        StoreError: when there is none, or they have one episode only.
        ConfigError: when a name is neither a stored method nor a run, or means several rows.
    """
    found = {(table.setting, table.note): table for table in every}
    rows_a, rows_b = (_rows(list(found.values()), name) for name in (a, b))
    if rows_a.keys() == rows_b.keys() and all(rows_a[place] is rows_b[place] for place in rows_a):
        raise ConfigError(f"`{a}` and `{b}` are the same row; name two methods, or two runs by their ids.")
    common = [
        Common(found[place], x, rows_b[place])
        for place, x in rows_a.items()
        if place in rows_b and x is not rows_b[place] and x.metric == rows_b[place].metric
    ]
    if not common:
        raise StoreError(
            f"{a} has runs on {_names(rows_a)}, {b} on {_names(rows_b)}: no setting, images and episodes in common. "
            "Run both on one setting."
        )
    if short := [x.setting for _, x, y in common if min(x.n_episodes, y.n_episodes) < 2]:
        raise StoreError(
            f"{a} and {b} share one episode on {', '.join(short)}, which has no spread; run more with --episodes."
        )
    return common


@dataclass(frozen=True)
class Judged:
    """Two rows on the episodes both have, and the family that they were judged with.

    Attributes:
        a, b: the rows.
        i, j: where they stand in the family.
        pairs: of the family.
        prior: what the database says about training again.
        is_on_page: whether a page shows this family.
        is_prefix: whether one of them has more episodes than the other.
    """

    a: Row
    b: Row
    i: int
    j: int
    pairs: stats.Pairs
    prior: stats.Prior
    is_on_page: bool
    is_prefix: bool

    @property
    def p_page(self) -> float | None:
        """P adjusted for all pairs of the page's family; None where no page holds both, or no other pair."""
        if not self.is_on_page or len(self.pairs.p) < 3:
            return None
        return float(self.pairs.p_adjusted[self.i, self.j])

    def level(self, n_trainings: int, *, on_page: bool) -> float:
        """Size of the test of this pair after so many trainings: alone, or as the page's family leaves it."""
        n_planned = max(self.a.evidence.n_planned, self.b.evidence.n_planned)
        alpha = stats.size_of_test(n_trainings, n_planned)
        return self.pairs.pair_level(alpha) if on_page and self.p_page is not None else alpha


def judged(table: Table, a: Row, b: Row, margin: float = stats.MARGIN) -> Judged:
    """Judge two rows with the family of the page that holds both; rows of no common family by themselves."""
    for family in (table.judged.ranked, *table.judged.variants):
        keys = [row.key for row in family.rows]
        if family.pairs and a.key in keys and b.key in keys:
            evidence = [row.evidence for row in family.rows]
            is_usual = margin == family.pairs.margin
            found = family.pairs if is_usual else stats.judge(evidence, table.prior, margin).pairs
            return Judged(a, b, keys.index(a.key), keys.index(b.key), found, table.prior, True, False)
    n, is_prefix = min(a.n_episodes, b.n_episodes), a.n_episodes != b.n_episodes
    a, b = a.cut(n), b.cut(n)
    pairs = stats.judge([a.evidence, b.evidence], table.prior, margin).pairs
    return Judged(a, b, 0, 1, pairs, table.prior, False, is_prefix)


def _rows(found: Sequence[Table], name: str) -> dict[tuple[str, str], Row]:
    """The row of each (setting, images) that a name means."""
    chosen: dict[tuple[str, str], Row] = {}
    for table in found:
        rows = [row for row in table.rows if row.label == name]
        rows = rows or [row for row in table.rows if name in (row.called, row.spec.whole_name)]
        rows = rows or [row for row in table.rows if row.method == name]
        rows = rows or _of_file(table, name)
        rows = rows or [row for row in table.rows if any(run.id.startswith(name) for run in row.runs)]
        plain = [row for row in rows if not row.config] if len(rows) > 1 else rows
        if len(rows) > 1 and len(plain) != 1:
            is_told_by_label = len({row.label for row in rows}) == len(rows)
            how = "its run, or its label in quotes" if is_told_by_label else "its run"
            ids = ", ".join(f"{row.runs[0].id} ('{row.label}', {row.backbone})" for row in rows)
            raise ConfigError(
                f"`{name}` means {len(rows)} rows on {table.setting}; name one by {how}: {ids}."
            )
        if rows:
            chosen[table.setting, table.note] = plain[0]
    if not chosen:
        known = {row.called for table in found for row in table.rows}
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
