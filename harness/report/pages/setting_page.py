"""What the page of one setting says: rows with all their intervals, pairs, classes, costs, published numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from harness import benchmarks, stats
from harness.errors import FsbenchError
from harness.report.board import hardness, published
from harness.report.board.families import RowFamily
from harness.report.board.joint import kept_list, members, predictions_of
from harness.report.board.labels import told_apart
from harness.report.board.pairs import Pair, pair_of
from harness.report.board.rivals import judged
from harness.report.board.rows import Row
from harness.report.board.sweeps import Sweep, sweeps
from harness.report.board.tables import Table
from harness.runs import EpisodeTable
from harness.seeding import numpy_generator
from harness.store import Store

Counts = npt.NDArray[np.int64]
MAX_CLASSES_OF = 5  # rows told apart in the picture of classes


@dataclass(frozen=True)
class Cost:
    """What a row costs, means over its seeds; None where a run did not record it.

    Attributes:
        images, flop: of its training and of the fits below it.
        fit_seconds: its own training.
        episode_ms: evaluation, milliseconds per episode, features at hand.
        parameters: number of weights.
        peak_bytes: memory, of the GPU where one was used.
    """

    images: float | None
    flop: float | None
    fit_seconds: float | None
    episode_ms: float | None
    parameters: float | None
    peak_bytes: float | None


@dataclass(frozen=True)
class Beside:
    """A published number beside ours, and what our runs predict for one more training on their episodes.

    Attributes:
        entry: theirs.
        comparability: of the protocols.
        gap: ours minus theirs, a fraction.
        prediction: None where ours is about one episode.
    """

    entry: published.Published
    comparability: published.Comparability
    gap: float
    prediction: stats.Prediction | None

    @property
    def word(self) -> str:
        """Say agrees, differs, or not comparable."""
        if self.comparability.reasons or not self.entry.is_protocol_known or self.prediction is None:
            return "not comparable"
        return "agrees" if self.prediction.agrees() else "differs"

    @property
    def sentence(self) -> str:
        """The word with what it rests on."""
        return f"{self.word}: {self.reason}"

    @property
    def reason(self) -> str:
        """What the word rests on."""
        told, also = self.prediction, "; ".join(self.comparability.caveats)
        if self.comparability.reasons:
            parts = list(self.comparability.reasons)
        elif not self.entry.is_protocol_known:
            parts = ["protocol unknown"]
        elif told is None:
            parts = ["one episode has no spread"]
        else:
            parts = [f"±{100 * told.half_width:.1f} points are to be expected"]
            parts += ["its half-width is taken from our episodes"] if told.is_borrowed else []
            parts += [f"the best of {told.best_of} trainings would explain it"] if told.best_of else []
        return "; ".join(parts) + (f" ({also})" if also else "")


@dataclass(frozen=True)
class ClassCounts:
    """Correct predictions and queries of each class over all episodes and seeds, (C,) each."""

    n_correct: Counts
    n_query: Counts


@dataclass(frozen=True)
class Entry:
    """One row with everything that is said about it.

    Attributes:
        row: the row.
        apart: what tells it from rows of the same label and backbone; empty where there is none.
        by_class: interval for other classes and other trainings (jointly: other experiments and classes); None without list.
        worst: the bad end of its episodes.
        cost: time and memory.
        published: the same method in the literature.
        classes: counts per class, of the first ``MAX_CLASSES_OF`` rows that kept their predictions; else, or not asked yet, None.
    """

    row: Row
    apart: str
    by_class: stats.Interval | None
    worst: stats.WorstEpisodes
    cost: Cost
    published: tuple[Beside, ...]
    classes: ClassCounts | None


@dataclass(frozen=True)
class PairCell:
    """Row minus column of a pair matrix, fractions.

    Attributes:
        difference: of the means.
        half_width: of its 95% interval.
        p: adjusted for all pairs of the family.
        p_alone: of this pair alone.
        bound: the difference is surely smaller than this.
        word: on the row.
        reason: why no more can be said; may be empty.
    """

    difference: float
    half_width: float
    p: float
    p_alone: float
    bound: float
    word: str
    reason: str

    @property
    def other(self) -> PairCell:
        """Column minus row."""
        return replace(self, difference=-self.difference, word=OTHER_WAY.get(self.word, self.word))


OTHER_WAY = {"better": "worse", "worse": "better"}
Matrix = tuple[tuple[PairCell, ...], ...]


@dataclass(frozen=True)
class Variants:
    """A method's rows, best first, and their pairs: ``matrix[i][j - i - 1]`` is row i minus row j."""

    rows: tuple[Row, ...]
    matrix: Matrix


def square(matrix: Matrix) -> list[list[PairCell | None]]:
    """Both triangles of a matrix, row minus column; None on the diagonal."""
    n = len(matrix)
    return [
        [None if i == j else matrix[i][j - i - 1] if j > i else matrix[j][i - j - 1].other for j in range(n)]
        for i in range(n)
    ]


@dataclass(frozen=True)
class SettingPage:
    """Everything on the page of one table.

    Attributes:
        table: its rows.
        title, about: of the benchmark; empty when it no longer exists.
        family: name of the benchmark.
        entries: one per row, ranked rows first.
        matrix: upper triangle over the ranked rows: ``matrix[i][j - i - 1]`` is row i minus row j.
        variants: of each method that has some.
        episodes: the stored list; None when no run brought it.
        ledger: every published number of the setting.
        hardness: accuracy against the hardness of episodes; None where it was not measured.
        sweeps: hyper-parameters that were varied among the ranked rows.
        is_same_list: whether the stored list is the locked one; None when none is locked.
        first_pair: the two best methods compared; None where there are no two, or one episode, or it was not asked yet.
    """

    table: Table
    title: str
    about: str
    family: str
    entries: tuple[Entry, ...]
    matrix: Matrix
    variants: tuple[Variants, ...]
    episodes: EpisodeTable | None
    ledger: tuple[published.Published, ...]
    hardness: hardness.HardnessPart | None
    sweeps: tuple[Sweep, ...]
    is_same_list: bool | None
    first_pair: Pair | None = None

    @property
    def methods(self) -> tuple[Entry, ...]:
        """The rows that stand for their methods, the best first."""
        return tuple(entry for entry in self.entries if entry.row.rank is not None)

    @property
    def unranked(self) -> tuple[Entry, ...]:
        """Rows that are neither: fewer episodes, or weights that have seen nobody knows what."""
        return tuple(e for e in self.entries if e.row.rank is None and not e.row.variant_of)

    def of_method(self, called: str) -> tuple[Entry, ...]:
        """The row that stands for a method, and its variants, the best first."""
        found = [e for e in self.entries if e.row.called == called and (e.row.rank or e.row.variant_of)]
        return tuple(sorted(found, key=lambda entry: -entry.row.mean))

    @property
    def shot(self) -> int | None:
        """Labelled images of each novel class; None when every run failed and none says it."""
        return next(
            (run.spec.shot for run in (*(e.row.runs[0] for e in self.entries), *self.table.failed)), None
        )

    @property
    def scale(self) -> tuple[float, float]:
        """Between what accuracies, fractions, its bars are drawn.

        All intervals of trained rows lie there; what is untrained and far below squeezes nothing.
        """
        found = [e.row.interval for e in self.entries if e.row.is_trained] or [
            e.row.interval for e in self.entries
        ]
        lows = [one.mean if one.low is None else one.low for one in found]
        highs = [one.mean if one.high is None else one.high for one in found]
        return min(lows, default=0.0), max(highs, default=1.0)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the novel classes; empty when the list is not stored."""
        return self.episodes.class_names if self.episodes else ()


def build(store: Store, table: Table) -> SettingPage:
    """Compute the page of one table, without what only the page itself shows (``complete``)."""
    episodes = _episodes(store, table)
    benchmark = _benchmark(table.setting)
    rows = table.rows
    apart = told_apart([row.spec for row in rows], [(row.label, row.backbone) for row in rows])
    first = next((run.spec for run in (*(r.runs[0] for r in table.rows), *table.failed)), None)
    locked = benchmarks.locked_digests().get(table.setting)
    return SettingPage(
        table=table,
        title=benchmark.title if benchmark else "",
        about=benchmark.about if benchmark else "",
        family=benchmark.key if benchmark else (first.benchmark if first else ""),
        entries=tuple(_entry(table, row, text, episodes) for row, text in zip(rows, apart, strict=True)),
        matrix=_matrix(table.judged.ranked),
        variants=tuple(Variants(one.rows, _matrix(one)) for one in table.judged.variants),
        episodes=episodes,
        ledger=tuple(published.ledger_of(table.setting)),
        hardness=hardness.build(store, table),
        sweeps=sweeps([row for row in table.rows if row.n_episodes == table.n_ranked]),
        is_same_list=None if locked is None or not table.list_digest else locked == table.list_digest,
    )


def complete(store: Store, page: SettingPage) -> SettingPage:
    """Add what takes long and what neither other pages nor exports need: classes, and the first pair with its advice."""
    entries = _with_classes(store, page.episodes, page.entries)
    return replace(page, entries=entries, first_pair=_first_pair(store, page.table))


def _first_pair(store: Store, table: Table) -> Pair | None:
    if table.pairs is None or len(table.ranked) < 2:
        return None
    first, second = table.ranked[:2]
    return pair_of(store, judged(table, first, second))


def ours(row: Row) -> published.Ours:
    """The protocol of a row."""
    spec = row.spec
    method = published.printed_as(spec.called, {name: value.value for name, value in spec.config.items()})
    return published.Ours(
        row.setting,
        row.metric,
        method,
        row.backbone,
        spec.image_size,
        spec.n_query,
        spec.pipeline,
        spec.recipe,
        row.badges,
    )


def _episodes(store: Store, table: Table) -> EpisodeTable | None:
    """The stored list; None also where it is damaged, so that the page goes without classes, or nobody brought it."""
    if not table.list_digest:
        return None
    is_external = any(
        "external list" in row.badges for row in table.rows
    )  # answers to what nobody need bring
    return kept_list(store, table.list_digest, is_told=not is_external)


def _benchmark(setting: str) -> benchmarks.Benchmark | None:
    try:
        return benchmarks.load(setting).benchmark
    except FsbenchError:
        return None


def _entry(table: Table, row: Row, apart: str, episodes: EpisodeTable | None) -> Entry:
    return Entry(
        row=row,
        apart=apart,
        by_class=_class_interval(row, episodes),
        worst=stats.worst_episodes(row.accuracy.mean(axis=0)),
        cost=_cost(row),
        published=tuple(_beside(row, table.prior)),
        classes=None,
    )


def _with_classes(store: Store, episodes: EpisodeTable | None, entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Count by class where it is shown; predictions are most of a database."""
    found, n = [], 0
    for entry in entries:
        counts = class_counts(store, entry.row, episodes) if n < MAX_CLASSES_OF else None
        n += counts is not None
        found.append(replace(entry, classes=counts))
    return tuple(found)


def _class_interval(row: Row, episodes: EpisodeTable | None) -> stats.Interval | None:
    """Leave classes out, all rotations of a character together; jointly draw experiments and classes again."""
    if row.joint is not None:
        rng = numpy_generator(0, "bootstrap", *sorted(run.id for run in row.runs))
        return stats.joint_interval(row.joint.by_class.mean(axis=0), rng)
    if episodes is None or row.seed is None or len(episodes.classes) < row.n_episodes:
        return None
    names = [re.sub(r"/rot\d+$", "", name) for name in episodes.class_names]
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    clusters = [number[name] for name in names] if len(number) < len(names) else None
    by_episode, classes = row.accuracy.mean(axis=0), episodes.classes[: row.n_episodes]
    return stats.class_interval(by_episode, classes, clusters, seed=row.seed)


def class_counts(store: Store, row: Row, episodes: EpisodeTable | None) -> ClassCounts | None:
    """Count right answers by class over the seeds of a row; None where a run kept no predictions."""
    if episodes is None:
        return None
    n_classes, n_way = len(episodes.class_names), episodes.classes.shape[1]
    truth = episodes.query_label.reshape(
        len(episodes.classes), n_way, -1
    )  # (E, W, Q): places are ordered by class
    asked = members(episodes, row.metric.partition("/")[2] or "all")
    n_correct, n_query = np.zeros(n_classes, np.int64), np.zeros(n_classes, np.int64)
    for run in row.runs:
        labels = predictions_of(store, run, row.metric)
        if labels is None or labels.shape[1] % n_way or len(labels) > len(episodes.classes):
            return None
        by_label = labels.reshape(len(labels), n_way, -1)[:, asked]  # (E, W, Q)
        true = truth[: len(labels), asked]
        correct, n_asked = ((by_label == true).sum(axis=2), (true >= 0).sum(axis=2))  # (E, W) each
        classes = episodes.classes[: len(labels), asked].ravel()
        n_correct += np.bincount(classes, correct.ravel(), n_classes).astype(np.int64)
        n_query += np.bincount(classes, n_asked.ravel(), n_classes).astype(np.int64)
    return ClassCounts(n_correct, n_query)


def _cost(row: Row) -> Cost:
    facts, spent = [run.provenance for run in row.runs], row.budget.own.and_below(row.budget.below)

    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value]
        return float(np.mean(known)) if known else None

    return Cost(
        images=spent.images,
        flop=spent.flop,
        fit_seconds=row.seconds["fit"],
        episode_ms=mean([
            1000 * f.get("seconds", {}).get("evaluate", 0.0) / run.spec.n_episodes
            for f, run in zip(facts, row.runs, strict=True)
        ]),
        parameters=mean([f.get("parameters") for f in facts]),
        peak_bytes=mean([f.get("peak_gpu_bytes") or f.get("peak_rss_bytes") for f in facts]),
    )  # fmt: skip


def _beside(row: Row, prior: stats.Prior) -> Iterator[Beside]:
    mine = ours(row)
    for entry in published.matching(mine):
        n = entry.n_episodes
        told = (
            stats.predict_published(row.evidence, prior, entry.accuracy, entry.standard_half_width, n)
            if row.n_episodes > 1
            else None
        )
        yield Beside(entry, published.comparability(entry, mine), row.mean - entry.accuracy, told)


def _matrix(family: RowFamily) -> Matrix:
    pairs, n = family.pairs, len(family.rows)
    if pairs is None:
        return ()
    return tuple(tuple(_cell(pairs, i, j) for j in range(i + 1, n)) for i in range(n))


def _cell(pairs: stats.Pairs, i: int, j: int) -> PairCell:
    told = stats.verdict(pairs, i, j)
    return PairCell(
        difference=float(pairs.difference[i, j]),
        half_width=float(pairs.half_width[i, j]),
        p=float(pairs.p_adjusted[i, j]),
        p_alone=float(pairs.p[i, j]),
        bound=told.bound,
        word=told.word,
        reason=told.reason,
    )


def mean_accuracy(counts: ClassCounts) -> npt.NDArray[np.float64]:
    """(C,) accuracies per class; NaN for a class that is never asked."""
    return np.divide(
        counts.n_correct, counts.n_query, out=np.full(len(counts.n_query), np.nan), where=counts.n_query > 0
    )
