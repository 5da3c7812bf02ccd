"""Is A really better than B: the verdict, what it rests on, and what would decide it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from harness import stats
from harness.report.board.joint import kept_list, predictions_of
from harness.report.board.power import advice
from harness.report.board.rivals import Judged, judged, rows_in_common
from harness.report.board.rows import Row
from harness.report.board.tables import Table, tables
from harness.report.formats import p_text
from harness.store import Store

Scope = Literal["training", "checkpoints"]


@dataclass(frozen=True)
class Pair:
    """Two rows of one setting and the verdict on the first.

    Attributes:
        setting: name.
        a, b: the rows, on the episodes both have.
        scope: "training" asks whether it would hold if both were trained again, "checkpoints" which of the trained
            models is better; both on other episodes of these classes.
        verdict: on a; of the pair alone.
        difference: a minus b, a fraction.
        low, high: ends of its 95% interval.
        p: of this pair alone.
        p_page: adjusted for all pairs of the family that the page judges; None where no page holds both.
        is_prefix: whether one of them has more episodes, which are left out.
        margin: below it two rows are tied, a fraction.
        models: the same over episodes alone, about these models: companions, and the verdict of the scope "checkpoints".
        p_shared: t over the trainings that both rows share; None below three.
        advice: what would decide it; empty where it is decided.
        overlap: whether they fail on the same queries, first seeds of each; None where one kept no predictions, or the list cannot be read.
    """

    setting: str
    a: Row
    b: Row
    scope: Scope
    verdict: stats.Verdict
    difference: float
    low: float
    high: float
    p: float
    p_page: float | None
    is_prefix: bool
    margin: float
    models: stats.Checkpoints
    p_shared: float | None
    advice: str
    overlap: stats.ErrorOverlap | None

    @property
    def n_episodes(self) -> int:
        """Episodes (jointly: experiments) over which they are paired."""
        return self.a.n_episodes

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
        a, b, points = self.a.label, self.b.label, f"{100 * abs(self.difference):.2f} points"
        found = {
            "better": f"{a} is better than {b} by {points}",
            "worse": f"{a} is worse than {b} by {points}",
            "tied": f"{a} and {b} are tied: the difference is within ±{100 * self.margin:.1f} points",
            "undecided": f"undecided between {a} and {b}: {points} apart, surely less than {100 * self.verdict.bound:.1f}",
        }[self.verdict.word]
        why = REASONS[self.verdict.reason].format(margin=f"{100 * self.margin:.1f}", n=self._n_models)
        page = "" if self.p_page is None else f"; on the page, among all its pairs, {p_text(self.p_page)}"
        about = " (about these trained models)" if self.scope == "checkpoints" else ""
        paired = f"{self.n_episodes:,} paired {self.a.unit}" + (
            ", the prefix both have" if self.is_prefix else ""
        )
        return f"{self.setting}: {found}{why} ({p_text(self.p)}, {paired}{page}){about}."

    @property
    def _n_models(self) -> int:
        return self.a.evidence.n_trainings + self.b.evidence.n_trainings


REASONS: dict[stats.Reason, str] = {
    "": "",
    "below the margin": ", by less than the margin of {margin} points",
    "no training was repeated": "; no training was repeated, and fewer than 8 rows of this database were",
    "between looks": "; between looks: extended rows are judged at 3, 5 and 10 trainings",
    "on these models only": "; ahead on these {n} models only",
}


def compare(
    store: Store,
    a: str,
    b: str,
    settings: Sequence[str] | None,
    margin: float = stats.MARGIN,
    scope: Scope = "training",
) -> list[Pair]:
    """Compare two methods, or two runs, on every setting that both have.

    Args:
        store: the database.
        a, b: method names, labels of rows, or the beginning of run ids.
        settings: only these; None for all.
        margin: differences within ± margin are tied, a fraction.
        scope: what the verdict is about.

    Raises:
        StoreError: when there is nothing to pair, or one episode only.
        ConfigError: when a name is neither a stored method nor a run, or means several rows.
    """
    return compare_among(store, tables(store, settings), a, b, margin, scope)


def compare_among(
    store: Store,
    every: Sequence[Table],
    a: str,
    b: str,
    margin: float = stats.MARGIN,
    scope: Scope = "training",
) -> list[Pair]:
    """Do so on tables that are read and judged already, so that many pairs need that once."""
    return [
        pair_of(store, judged(table, x, y, margin), margin, scope)
        for table, x, y in rows_in_common(every, a, b)
    ]


def pair_of(store: Store, found: Judged, margin: float = stats.MARGIN, scope: Scope = "training") -> Pair:
    """Say what is known of two rows that were judged; arguments as of ``compare``."""
    a, b, told = found.a, found.b, _told(found)
    models = stats.compare_checkpoints(a.evidence.by_episode, b.evidence.by_episode, (a.key, b.key), margin)
    if scope == "checkpoints":
        bound = abs(models.difference) + models.half_width
        told = _Told(stats.Verdict(models.word, "", bound), models.p, models.half_width)
    difference = a.evidence.mean - b.evidence.mean
    is_open = told.verdict.word == "undecided" and scope == "training"
    return Pair(
        setting=a.setting,
        a=a,
        b=b,
        scope=scope,
        verdict=told.verdict,
        difference=difference,
        low=difference - told.half_width,
        high=difference + told.half_width,
        p=told.p,
        p_page=found.p_page if scope == "training" else None,
        is_prefix=found.is_prefix,
        margin=margin,
        models=models,
        p_shared=_p_shared(a.evidence, b.evidence),
        advice=advice(found, abs(difference)) if is_open else "",
        overlap=_overlap(store, a, b),
    )


class _Told(NamedTuple):
    """A verdict with its p and the half-width of the difference."""

    verdict: stats.Verdict
    p: float
    half_width: float


def _told(found: Judged) -> _Told:
    """Read the pair from its family; equal results differ by nothing, whatever the trainings."""
    if stats.equal_rows([found.a.evidence, found.b.evidence])[1] == 0:
        return _Told(stats.Verdict("tied", "", 0.0), 1.0, 0.0)
    pairs, i, j = found.pairs, found.i, found.j
    return _Told(stats.verdict_alone(pairs, i, j), float(pairs.p[i, j]), float(pairs.half_width[i, j]))


def _p_shared(a: stats.Row, b: stats.Row) -> float | None:
    """Student's t over the trainings that both rows share: judged alone, the moderated test is cautious there (s.1)."""
    common = sorted(set(a.fits) & set(b.fits)) if a.is_trained and b.is_trained else []
    if len(common) < 3:
        return None
    first, second = (row.accuracy[[row.fits.index(f) for f in common]].mean(axis=1) for row in (a, b))
    return stats.paired_t_p(first - second)


def _overlap(store: Store, a: Row, b: Row) -> stats.ErrorOverlap | None:
    first, second = (predictions_of(store, row.runs[0], row.metric) for row in (a, b))
    if first is None or second is None:
        return None
    n = min(len(first), len(second))
    episodes = kept_list(store, a.spec.episode_digest)
    if episodes is None:
        return None
    truth = episodes.query_label
    return stats.error_overlap(first[:n], second[:n], truth[:n])


def pair_as_json(pair: Pair) -> dict[str, Any]:
    """A paired comparison as JSON types; differences are fractions."""
    return {
        "setting": pair.setting, "a": pair.a.label, "b": pair.b.label, "scope": pair.scope, "verdict": pair.verdict.word,
        "reason": pair.verdict.reason, "n_episodes": pair.n_episodes,
        "trainings": [row.evidence.n_trainings for row in (pair.a, pair.b)],
        "mean_a": pair.models.mean_a, "mean_b": pair.models.mean_b, "difference": pair.difference, "low": pair.low,
        "high": pair.high, "bound": pair.verdict.bound, "margin": pair.margin, "p": pair.p, "p_page": pair.p_page,
        "p_shared_trainings": pair.p_shared, "models": asdict(pair.models), "sentence": pair.sentence, "advice": pair.advice,
        "overlap": pair.overlap._asdict() if pair.overlap else None,
    }  # fmt: skip
