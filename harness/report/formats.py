"""How things are written: percentages, p-values, durations, texts, and names of files made from what users may call things."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from harness.runs.findings import StoredRun

if TYPE_CHECKING:
    from harness.runs.budget import Budget, Spent
    from harness.stats import Interval


class Told(Protocol):
    """What is said of a row in a table; see ``board.rows.Row``."""

    @property
    def rank(self) -> tuple[int, int] | None:
        """Lowest and highest."""

    @property
    def badges(self) -> tuple[str, ...]:
        """Badges."""

    @property
    def marks(self) -> tuple[str, ...]:
        """What must be known beside the interval."""

    @property
    def same_as(self) -> str:
        """A row with equal results."""


def slug(name: str) -> str:
    """Turn a name into part of a file name: letters, digits, ``.``, ``_`` and ``-``, different names different.

    >>> slug("glyphs-5w1s"), slug("<script>")
    ('glyphs-5w1s', 'script-5b63e5b2')
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80]
    if plain == name == name.lower():  # some file systems take ProtoNet and protonet for one
        return plain
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain}-{digest}" if plain else digest


def run_file(run: StoredRun) -> str:
    """The page of a run below the report; one for each replicate."""
    is_one = len(run.replicates) < 2
    return f"run/{slug(run.id)}.html" if is_one else f"run/{slug(run.id)}-{run.replicate[:8]}.html"


def method_file(name: str) -> str:
    """The page of a method below the report."""
    return f"method/{slug(name)}.html"


def percent(fraction: float | None, digits: int = 2) -> str:
    """Write a fraction in percent; a dash where there is none."""
    return "–" if fraction is None else f"{100 * fraction:.{digits}f}"


def signed(fraction: float) -> str:
    """Write a difference in points with its sign, a minus and no hyphen.

    >>> signed(-0.0146), signed(-0.00001)
    ('−1.46', '0.00')
    """
    text = f"{100 * fraction:+.2f}"
    return text.replace("-", "−") if float(text) else "0.00"


def span(interval: Interval | None, digits: int = 2) -> str:
    """Write both ends of an interval in percent; a dash where it is undefined.

    >>> from harness.stats import Interval
    >>> span(Interval(0.5, 0.4, 0.61, 0.05, "training", 3))
    '40.00–61.00'
    """
    if interval is None or interval.low is None or interval.high is None:
        return "–"
    return f"{percent(interval.low, digits)}–{percent(interval.high, digits)}"


def ends(interval: Interval, scale: tuple[float, float]) -> str:
    """Where an interval lies on a scale, as the style of a bar: its beginning, its length and its mean, in percent of the scale.

    >>> from harness.stats import Interval
    >>> ends(Interval(0.5, 0.4, 0.6, 0.05, "training", 3), (0.2, 0.7))
    '--a:40;--b:40;--m:60'
    """
    low, high = (interval.mean if end is None else end for end in (interval.low, interval.high))
    a, b, m = (on_scale(value, scale) for value in (low, high, interval.mean))
    return f"--a:{a:.0f};--b:{max(b - a, 1):.0f};--m:{m:.0f}"


def on_scale(value: float, scale: tuple[float, float]) -> float:
    """In percent of the scale; what lies outside stands at its end."""
    return min(100.0, max(0.0, 100 * (value - scale[0]) / ((scale[1] - scale[0]) or 1.0)))


def rank_text(row: Told) -> str:
    """``1``, ``2–4``, or a dash for a row without a rank."""
    if row.rank is None:
        return "–"
    low, high = row.rank
    return str(low) if low == high else f"{low}–{high}"


def budget_text(budget: Budget) -> str:
    """What a training took, and the fits below it, in words; empty where it was not recorded.

    >>> from harness.runs.budget import Budget, Spent
    >>> budget_text(Budget(Spent(100_000, 1563, 50.0, 2e12), Spent(0, 0, 0.0, 0)))
    '100,000 images, 1,563 steps, 2e+12 FLOP in 50.0 s'
    """
    own, below = (_spent(spent) for spent in (budget.own, budget.below))
    return f"{own}; below it {below}" if below and budget.below.seconds else own


def _spent(spent: Spent) -> str:
    if spent.images is None or spent.steps is None:
        return ""
    flop = "" if spent.flop is None else f", {spent.flop:.3g} FLOP"
    time = "" if spent.seconds is None else f" in {duration(spent.seconds)}"
    return f"{spent.images:,.0f} images, {spent.steps:,.0f} steps{flop}{time}"


def told_of(row: Told) -> list[str]:
    """Badges and marks of a row, and which row has equal results."""
    return [*row.badges, *row.marks, *([f"= {row.same_as}"] if row.same_as else [])]


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


def images_text(budget: Budget) -> str:
    """Training images seen, and those of the fits below; a dash where they were not recorded.

    >>> from harness.runs.budget import Budget, Spent
    >>> none, some = Spent(0, 0, 0.0, 0), Spent(100_000, 1563, 50.0, None)
    >>> images_text(Budget(some, none)), images_text(Budget(none, some))
    ('100,000', '0 + 100,000')
    """
    own, below = (
        "–" if spent.images is None else f"{spent.images:,.0f}" for spent in (budget.own, budget.below)
    )
    return own if budget.below.images == 0 or own == below else f"{own} + {below}"


def p_value(p: float) -> str:
    """Write a p-value; below 0.0001 only that it is.

    >>> p_value(0.0312), p_value(0.0)
    ('0.031', '<0.0001')
    """
    return f"{p:.2g}" if p >= 1e-4 else "<0.0001"


def p_text(p: float) -> str:
    """Write a p-value in a sentence.

    >>> p_text(0.0312), p_text(0.0)
    ('p = 0.031', 'p < 0.0001')
    """
    written = p_value(p)
    return f"p < {written[1:]}" if written[0] == "<" else f"p = {written}"


def p_short(p: float) -> str:
    """Write a p-value in the cell of a matrix.

    >>> p_short(0.0312), p_short(2e-9), p_short(1.0)
    ('p .031', 'p <.001', 'p 1')
    """
    if p < 0.001:
        return "p <.001"
    return "p 1" if p > 0.9995 else f"p {p:.3f}".replace("0.", ".", 1)


def flat(value: Any) -> str:
    """Write a JSON value in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {flat(v)}" for k, v in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(flat, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def last_line(text: str) -> str:
    """The last line of a traceback, which says what went wrong."""
    return (text.strip().splitlines() or ["no message"])[-1]
