"""What a build changed: the rows of the last build of a folder beside those of this one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from harness.report.formats import rank_text, slug
from harness.report.pages.setting_page import SettingPage

MOST = 12  # changes that the front page shows


@dataclass(frozen=True)
class State:
    """What the pages of a build said.

    Attributes:
        n_runs: behind it.
        latest: day of the newest of them, or empty.
        rows: for each row (setting and key) its setting, its file, its name, its mean (a fraction), and its rank in words.
    """

    n_runs: int
    latest: str
    rows: Mapping[str, Sequence[Any]]

    @classmethod
    def of(cls, pages: Sequence[SettingPage], n_runs: int) -> Self:
        """Read it from the pages."""
        rows, days = {}, [""]
        for page in pages:
            for entry in page.entries:
                row, spec = entry.row, entry.row.spec
                days += [str(run.provenance.get("finished", ""))[:10] for run in row.runs]
                rows[f"{page.table.name} {spec.row_key}"] = [
                    page.table.name, f"{slug(page.table.name)}.html", row.label, round(row.mean, 6), rank_text(row), len(row.runs),
                ]  # fmt: skip
        return cls(n_runs, max(days), rows)


@dataclass(frozen=True)
class Change:
    """One row that came, went or moved.

    Attributes:
        setting, href, label: where it stands, and its name.
        word: "new", "changed" or "gone".
        before, after: its mean, a fraction; None where it was not there.
        rank: in words, now or when it was last seen.
    """

    setting: str
    href: str
    label: str
    word: str
    before: float | None
    after: float | None
    rank: str


@dataclass(frozen=True)
class Changes:
    """What happened since the last build.

    Attributes:
        n_before, n_after: runs.
        latest: day of the newest run behind the last build.
        n_rows: rows that came, went or moved.
        shown: of them, at most ``MOST``: what moved, then what came, then what went; the largest first.
    """

    n_before: int
    n_after: int
    latest: str
    n_rows: int
    shown: tuple[Change, ...]

    @classmethod
    def between(cls, old: State, new: State) -> Self:
        """Compare two builds."""
        found = sorted(_changes(old, new), key=_order)
        return cls(old.n_runs, new.n_runs, old.latest, len(found), tuple(found[:MOST]))


def _changes(old: State, new: State) -> Iterator[Change]:
    for key in {**old.rows, **new.rows}:
        was, now = old.rows.get(key), new.rows.get(key)
        if was and now and _said(was) == _said(now):
            continue
        setting, href, label, _, rank, _ = now or was or ()
        word = "new" if was is None else "gone" if now is None else "changed"
        before, after = (None if side is None else float(side[3]) for side in (was, now))
        yield Change(setting, href if now else "", label, word, before, after, rank)


def _said(row: Sequence[Any]) -> tuple[Any, ...]:
    """What a row says by itself: ranks move with what others say."""
    *_, mean, _, n_runs = row
    return mean, n_runs


def _order(change: Change) -> tuple[int, float, str, str]:
    moved = abs((change.after or 0.0) - (change.before or 0.0))
    return ("changed", "new", "gone").index(change.word), -moved, change.setting, change.label


def as_json(state: State, changes: Changes | None) -> dict[str, Any]:
    """What a build remembers for the next one."""
    return {"state": asdict(state), "changes": None if changes is None else asdict(changes)}


def since(remembered: Mapping[str, Any], new: State) -> Changes | None:
    """What changed since the last build of other rows; None where there was none, or what it left cannot be read.

    Args:
        remembered: by ``as_json`` of the last build; a build of the same rows again says what that one said.
        new: of this build.
    """
    try:
        old, told = State(**remembered["state"]), remembered["changes"]
        if old == new:
            return told and Changes(**{**told, "shown": tuple(Change(**one) for one in told["shown"])})
        return Changes.between(old, new)
    except (KeyError, TypeError, ValueError):
        return None
