"""How many trainings and episodes it takes to tell two methods apart: simulated plans, and their cost in hours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness import benchmarks, stats
from harness.errors import ConfigError, FsbenchError
from harness.report.board.rivals import Judged, judged, rows_in_common
from harness.report.board.rows import Row
from harness.report.board.tables import tables
from harness.store import Store

EPISODES = (600, 2_000, 10_000)


@dataclass(frozen=True)
class Power:
    """What one setting says about a true difference of ``delta``.

    Attributes:
        setting, a, b: names.
        delta: the true difference, a fraction.
        level: size of the test of this pair, among all pairs of its page.
        n_episodes: at hand.
        n_trainings: at hand, of the row that has fewer; rows without training do not count.
        detectable: smallest true difference found with 80% power by what is at hand, a fraction.
        plan: the cheapest with 80% power; None where none of those tried has it.
        episodes_suffice: whether any number of episodes has 80% power with the trainings at hand.
        unit: what is counted.
    """

    setting: str
    a: str
    b: str
    delta: float
    level: float
    n_episodes: int
    n_trainings: int
    detectable: float
    plan: stats.Plan | None
    episodes_suffice: bool
    unit: str = "episodes"

    @property
    def sentence(self) -> str:
        """The answer in words."""
        at_hand = f"{_trainings(self.n_trainings)} on {self.n_episodes:,} {self.unit}"
        points = f"{100 * self.delta:.2f} points"
        never = (
            ""
            if self.episodes_suffice
            else f", which no number of {self.unit} would with {_trainings(self.n_trainings)}"
        )
        return (
            f"{self.setting}: a true difference of {points} between {self.a} and {self.b} is found with 80% power by "
            f"{plan_text(self.plan, self.unit)}{never}. Now, with {at_hand}, {100 * self.detectable:.2f} points can be told "
            f"(p < {self.level:.2g} for this pair)."
        )


def plan_text(plan: stats.Plan | None, unit: str) -> str:
    """Name a plan, or say that none was found."""
    if plan is None:
        return f"none of the plans tried (up to {max(stats.TRAININGS)} trainings each)"
    hours = f" ({_time(plan.hours)} on the machines of these runs)" if plan.hours else ""
    return f"{_trainings(plan.n_trainings)} each on {plan.n_episodes:,} {unit}{hours}"


def _trainings(n: int) -> str:
    return f"{n} training" if n == 1 else f"{n} trainings"


def power(store: Store, a: str, b: str, delta: float, settings: Sequence[str] | None = None) -> list[Power]:
    """Plan the comparison of two methods, or runs, on every setting that both have, as the page would judge them.

    Args:
        store: the database.
        a, b: method names, labels of rows, or the beginning of run ids.
        delta: the true difference to be found with 80% power, a fraction > 0.
        settings: only these; None for all.

    Raises:
        ConfigError: for a delta that is not positive, or a name that means nothing or several rows.
        StoreError: when there is nothing to pair, or one episode only.
    """
    if not 0 < delta <= 1:
        raise ConfigError(f"--delta {100 * delta:g}: expected points between 0 and 100, like --delta 0.5.")
    return [
        _power(judged(table, x, y), delta) for table, x, y in rows_in_common(tables(store, settings), a, b)
    ]


def _power(found: Judged, delta: float) -> Power:
    a, b, n = found.a, found.b, _n_trainings(found)
    first, level = stats.pilot(a.evidence, b.evidence, found.prior), found.level(n, on_page=True)
    return Power(
        setting=a.setting,
        a=a.label,
        b=b.label,
        delta=delta,
        level=level,
        n_episodes=a.n_episodes,
        n_trainings=n,
        detectable=stats.detectable(first, n, a.n_episodes, level),
        plan=_cheapest(found, first, delta, on_page=True),
        episodes_suffice=stats.episodes_can_decide(first, n, delta, level),
        unit=a.unit,
    )


def advice(found: Judged, difference: float) -> str:
    """Say what would decide an undecided pair alone, if the difference seen were the true one; empty where it is 0."""
    if difference < 1e-9:
        return ""
    a, b, n = found.a, found.b, _n_trainings(found)
    first = stats.pilot(a.evidence, b.evidence, found.prior)
    plan = _cheapest(found, first, difference, on_page=False)
    suffices = stats.episodes_can_decide(first, n, difference, found.level(n, on_page=False))
    never = "" if suffices else f" No number of {a.unit} would with {_trainings(n)}."
    return (
        f"If the {100 * difference:.2f} points seen are the true difference, what would decide it with 80% power: "
        f"{plan_text(plan, a.unit)}.{never}"
    )


def _cheapest(found: Judged, first: stats.Pilot, delta: float, *, on_page: bool) -> stats.Plan | None:
    a, b = found.a, found.b
    is_trained = a.evidence.is_trained or b.evidence.is_trained
    cost = stats.Cost(
        _hours(a, "fit") + _hours(b, "fit"),
        sum(_hours(row, "evaluate") / row.spec.n_episodes for row in (a, b)),
    )
    return stats.cheapest_plan(
        first, delta, lambda n: found.level(n, on_page=on_page), cost, stats.TRAININGS if is_trained else (1,), _episodes(a)
    )  # fmt: skip


def _hours(row: Row, stage: str) -> float:
    return (row.seconds[stage] or 0.0) / 3600


def _n_trainings(found: Judged) -> int:
    """Trainings of the row that has fewer; rows without training do not count."""
    return min((row.evidence.n_trainings for row in (found.a, found.b) if row.evidence.is_trained), default=1)


def _episodes(row: Row) -> list[int]:
    """Numbers of episodes that a plan may ask: those at hand, and the usual ones that the list has."""
    try:
        longest = benchmarks.load(row.setting).list_length
    except FsbenchError:
        longest = row.n_episodes
    return sorted({row.n_episodes, *(n for n in EPISODES if n <= longest)})


def _time(hours: float) -> str:
    """Hours, or minutes where they are few.

    >>> _time(3.52), _time(0.4), _time(0.002)
    ('3.5 hours', '24 minutes', 'a minute')
    """
    minutes = 60 * hours
    return f"{hours:.1f} hours" if hours >= 1 else f"{minutes:.0f} minutes" if minutes >= 1.5 else "a minute"
