"""Which rows are judged together, and what that says of each: intervals, ranks, pairs, marks.

The headline rows of all methods are one family; the variants of a method, with its headline row, are a family of their
own. Rows with equal results are one entry; shorter rows stand alone and have no rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness import benchmarks, stats
from harness.benchmarks import leaks
from harness.errors import FsbenchError
from harness.report.board.rows import Pooled, Row
from harness.stats.intervals import undefined_interval

IMPORTED = "† this checkpoint; other trainings not seen"


@dataclass(frozen=True)
class RowFamily:
    """Rows that were judged together, best first, and their pairs, in that order; None for lists of one episode."""

    rows: tuple[Row, ...]
    pairs: stats.Pairs | None


@dataclass(frozen=True)
class Judged:
    """All rows of one table.

    Attributes:
        rows: headline rows best first, then variants by method, then rows with fewer episodes or of unknown weights.
        ranked: the headline rows of the methods, one of those with equal results.
        variants: for each method with variants, its headline row and them.
    """

    rows: tuple[Row, ...]
    ranked: RowFamily
    variants: tuple[RowFamily, ...]


def judge(pooled: Sequence[Pooled], n_ranked: int, prior: stats.Prior) -> Judged:
    """Judge the rows of one table on its first ``n_ranked`` episodes.

    Shorter rows, and those whose weights have seen nobody knows what, stand alone and have no rank.
    """
    full = [row.cut(n_ranked) for row in pooled if row.n_episodes >= n_ranked and not _is_unknown(row)]
    short = sorted((row for row in pooled if row.n_episodes < n_ranked or _is_unknown(row)), key=_best_first)
    by_method: dict[str, list[Pooled]] = {}
    for row in sorted(full, key=_plainest_first):
        by_method.setdefault(row.called, []).append(row)
    heads = sorted((rows[0] for rows in by_method.values()), key=_best_first)
    groups = [sorted(rows, key=_best_first) for _, rows in sorted(by_method.items()) if len(rows) > 1]
    ranking = _judged_together(heads, prior)
    sets = [ranking, *(_judged_together(rows, prior, first=heads) for rows in groups)]
    sets += [_judged_together([row], prior) for row in short]
    variants = [row for rows in groups for row in rows if row not in heads]
    ordered = [*heads, *variants, *short]
    same = stats.equal_rows([row.evidence for row in ordered])
    made = {
        row.key: _row(row, sets, ranking, heads, prior, "" if same[i] == i else ordered[same[i]].label)
        for i, row in enumerate(ordered)
    }
    families = [RowFamily(tuple(made[row.key] for row in found.rows), found.pairs) for found in sets]
    return Judged(tuple(made.values()), families[0], tuple(families[1 : 1 + len(groups)]))


class _Set(NamedTuple):
    """Rows judged together: one of those with equal results, and where each of all rows stands among them."""

    rows: list[Pooled]
    place: dict[str, int]
    family: stats.Family | None

    @property
    def pairs(self) -> stats.Pairs | None:
        return self.family.pairs if self.family else None


def _judged_together(rows: Sequence[Pooled], prior: stats.Prior, first: Iterable[Pooled] = ()) -> _Set:
    """Judge rows of one length; of those with equal results one that stands in ``first``, or the first, is judged."""
    chosen = {row.key for row in first}
    candidates = sorted(rows, key=lambda row: row.key not in chosen)
    same = stats.equal_rows([row.evidence for row in candidates])
    entry = {row.key: candidates[same[i]].key for i, row in enumerate(candidates)}
    kept = [row for row in rows if entry[row.key] == row.key]
    position = {row.key: m for m, row in enumerate(kept)}
    is_judged = bool(kept) and kept[0].n_episodes > 1
    family = stats.judge([row.evidence for row in kept], prior) if is_judged else None
    return _Set(kept, {key: position[of] for key, of in entry.items()}, family)


def _row(
    row: Pooled,
    sets: Sequence[_Set],
    ranking: _Set,
    heads: Sequence[Pooled],
    prior: stats.Prior,
    same_as: str,
) -> Row:
    """Say what was found about one row, in the first set that holds it."""
    found = next(one for one in sets if row.key in one.place)
    m, evidence, told = found.place[row.key], row.evidence, found.family
    ranks = ranking.pairs.ranks if ranking.pairs and row.key in ranking.place else None
    interval = undefined_interval(
        evidence.mean, "training", evidence.n_trainings, "one episode has no spread"
    )
    is_variant = found is not ranking and row.called in {head.called for head in heads}
    return Row(
        **{name: getattr(row, name) for name in Pooled.__dataclass_fields__},
        interval=told.headline.interval(m, evidence.n_trainings) if told else interval,
        seed_sd=float(told.headline.seed_sd[m]) if told else None,
        seed=told.headline.seed_part(m, evidence.shape) if told else None,
        rank=(int(ranks.low[m]), int(ranks.high[m])) if ranks else None,
        marks=tuple(_marks(row, prior)),
        same_as=same_as,
        variant_of=row.called
        if is_variant and row.n_episodes == heads[0].n_episodes and not _is_unknown(row)
        else "",
    )


def _marks(row: Pooled, prior: stats.Prior) -> Iterable[str]:
    """What must be known beside the interval of a row."""
    evidence = row.evidence
    if any(run.provenance.get("warnings") for run in row.runs):
        yield "its training warns"
    if not evidence.is_trained:
        yield from () if "untrained" in row.badges else ("untrained",)
        return
    if row.spec.imported:
        yield IMPORTED
    if _is_unknown(row):
        yield "not ranked: what its weights have seen is unknown"
    if evidence.n_trainings < 3:
        borrowed = "seed error partly borrowed" if evidence.n_trainings == 2 else "seed error borrowed"
        yield f"{borrowed} from {prior.n_rows} rows" if prior.n_rows else f"{borrowed} from the default"
    if stats.size_of_test(evidence.n_trainings, evidence.n_planned) < stats.ALPHA:
        yield f"extended past the planned {evidence.n_planned} trainings: judged at .02"


def _is_unknown(row: Pooled) -> bool:
    """Whether its weights come from elsewhere and nobody says what they have seen."""
    return leaks.UNKNOWN in row.spec.seen


def _best_first(row: Pooled) -> tuple[float, str]:
    return -row.evidence.mean, row.key


def _plainest_first(row: Pooled) -> tuple[bool, bool, bool, int, str]:
    """What stands for a method: no configuration, no recipe, the benchmark's backbone and input, most trainings."""
    usual = _usual(row.setting)
    is_other = usual is not None and (
        row.spec.backbone not in (usual.backbone, "none") or row.spec.image_size != usual.image_size
    )
    return bool(row.config), row.recipe != "clean", is_other, -len(row.runs), row.key


def _usual(setting: str) -> benchmarks.Benchmark | None:
    try:
        return benchmarks.load(setting).benchmark
    except FsbenchError:
        return None
