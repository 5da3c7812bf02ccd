"""From stored runs to the rows of one setting: seeds pooled, badges, and what the statistics need of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from harness import benchmarks, stats
from harness.errors import FsbenchError
from harness.evaluation.protocols import Protocol, protocol_with
from harness.report.board import joint
from harness.runs import RunSpec
from harness.runs.budget import Budget, Spent
from harness.runs.findings import Family, config_text, family_of
from harness.runs.signature import signature
from harness.runs.spec import Tuning
from harness.store import Store, StoredRun

Matrix = npt.NDArray[np.float64]
Tried = Mapping[Family, Set[str]]
UNTRAINED_BEFORE = {("pixels", "1")}  # runs stored before methods declared it lack the badge


@dataclass(frozen=True)
class Pooled:
    """One line of a leaderboard before it is judged: method + backbone + configuration + recipe, its seeds pooled.

    Attributes:
        method, backbone, recipe: names.
        config: what differs from the method's defaults, as "key=value, …"; empty when nothing does.
        setting: name of the setting.
        metric: what ``accuracy`` counts, such as "top1".
        runs: one stored run per seed, by seed.
        accuracy: (S, T) fractions on the episodes all seeds share; jointly of experiments.
        n_answers: queries that one episode counts.
        badges: "transductive", "resized", "partial", "tuned (12)", …, sorted.
        joint: the numbers of the joint protocol; None in episodic settings.
    """

    method: str
    backbone: str
    recipe: str
    config: str
    setting: str
    metric: str
    runs: tuple[StoredRun, ...]
    accuracy: Matrix
    n_answers: int
    badges: tuple[str, ...]
    joint: joint.JointNumbers | None

    @property
    def unit(self) -> str:
        """What rows are paired over."""
        return f"{self.protocol.item}s"

    @property
    def protocol(self) -> Protocol:
        """How it was asked."""
        return protocol_with(self.runs[0].metrics)

    @property
    def tuning(self) -> Tuning:
        """What its values were chosen on: as the user said, else by what is stored of tries and of the chosen weights."""
        if self.spec.tuning == "none" and self.spec.select_on == "novel":
            return "novel"
        if self.spec.tuning == "none" and any(badge.startswith("tuned (") for badge in self.badges):
            return "validation"
        return self.spec.tuning

    @property
    def several(self) -> Mapping[str, float]:
        """Means by metric, as fractions, of a protocol that has several numbers; empty otherwise."""
        return self.joint.means if self.joint else {}

    @property
    def spec(self) -> RunSpec:
        """Specification of the first seed."""
        return self.runs[0].spec

    @property
    def n_episodes(self) -> int:
        """Episodes that every seed has."""
        return int(self.accuracy.shape[1])

    @property
    def seeds(self) -> tuple[int, ...]:
        """Training seeds."""
        return tuple(run.spec.seed for run in self.runs)

    @property
    def called(self) -> str:
        """The method, and for a head whose features it is given: what its rows are found by, like ``tim[softmax]``."""
        return self.spec.called

    @property
    def label(self) -> str:
        """Method and whatever sets this row apart from its default."""
        return self.spec.label

    @property
    def key(self) -> str:
        """The ids of its runs: a name of the row for random streams."""
        return row_name(self.runs)

    @property
    def signature(self) -> str:
        """What was done, in one line to print beside the number."""
        return str(signature(self.runs, self.n_episodes))

    @property
    def is_trained(self) -> bool:
        """Whether other seeds would give other weights, as the method declares."""
        return is_trained(self.runs[0])

    @cached_property
    def evidence(self) -> stats.Row:
        """What the error model sees of it; rows built on one training share it."""
        fits = [run.training for run in self.runs]
        n_planned = planned_trainings(self.setting)
        return stats.summarise(self.key, self.accuracy, self.n_answers, fits, self.is_trained, n_planned)

    @cached_property
    def seconds(self) -> dict[str, float | None]:
        """Mean seconds of fit, embed and evaluate over the seeds that took any; None where none did."""
        laps = [run.provenance.get("seconds", {}) for run in self.runs]
        known = {k: [lap[k] for lap in laps if lap.get(k)] for k in ("fit", "embed", "evaluate")}
        return {k: float(np.mean(values)) if values else None for k, values in known.items()}

    @cached_property
    def budget(self) -> Budget:
        """What one training of it takes, means over the seeds, and what the fits below it take."""
        told = [Budget.from_json(run.provenance.get("budget", {})) for run in self.runs]
        return Budget(Spent.mean(one.own for one in told), Spent.mean(one.below for one in told))

    def cut(self, n: int) -> Self:
        """Keep the first n episodes."""
        return replace(self, accuracy=self.accuracy[:, :n])


@dataclass(frozen=True)
class Row(Pooled):
    """A line of a leaderboard, judged together with others on the same episodes.

    Attributes:
        interval: of the mean, for other trainings and other episodes of these classes.
        seed_sd: standard deviation between trainings, moderated; 0 without training, None where it is undefined.
        seed: what other trainings add to the error of the mean; None where it is undefined.
        rank: (lowest, highest) it may have among the methods of its table; None for variants and short rows.
        marks: what must be known beside the interval, such as a borrowed seed error.
        same_as: label of a row above it with equal results on every episode; empty where there is none.
        variant_of: its method, where another row of the method stands for it in the ranking; else empty.
    """

    interval: stats.Interval
    seed_sd: float | None
    seed: stats.SeedPart | None
    rank: tuple[int, int] | None
    marks: tuple[str, ...]
    same_as: str
    variant_of: str

    @property
    def mean(self) -> float:
        """Mean accuracy, a fraction."""
        return self.interval.mean

    @property
    def half_width(self) -> float | None:
        """Half the length of the 95% interval, a fraction; None where it is undefined."""
        return self.interval.half_width

    @cached_property
    def sampler(self) -> stats.Interval:
        """The interval over episodes alone, as papers print it."""
        return stats.sampler_interval(self.accuracy.mean(axis=0))

    @property
    def is_top(self) -> bool:
        """Whether no method of the table is better."""
        return self.rank is not None and self.rank[0] == 1


def row_as_json(row: Row) -> dict[str, Any]:
    """A row as JSON types, in the words that the terminal and the exports share; accuracies are fractions."""
    return {
        "setting": row.setting, "metric": row.metric, "method": row.called, "backbone": row.backbone, "recipe": row.recipe,
        "config": row.config, "tuning": row.tuning, "accuracy": row.mean, "low_95": row.interval.low, "high_95": row.interval.high,
        "interval_note": row.interval.note, "episodes_half_width_95": row.sampler.half_width, "seed_sd": row.seed_sd,
        "rank_low": row.rank[0] if row.rank else None, "rank_high": row.rank[1] if row.rank else None,
        "variant_of": row.variant_of, "same_as": row.same_as, "marks": list(row.marks), "episodes": row.n_episodes,
        "seeds": list(row.seeds), "badges": list(row.badges),
        **{f"{stage}_seconds": seconds for stage, seconds in row.seconds.items()},
        **{f"train_{what}": value for what, value in vars(row.budget.own).items() if what != "seconds"},
        **{f"below_{what}": value for what, value in vars(row.budget.below).items()}, "runs": [run.id for run in row.runs],
        "signature": row.signature,
        **({"metrics": dict(row.several)} if row.several else {}),
    }  # fmt: skip


def row_name(runs: Sequence[StoredRun]) -> str:
    """Name a row by the ids of its runs."""
    return "+".join(run.id for run in runs)


def is_trained(run: StoredRun) -> bool:
    """Whether another seed would give other weights, as the method declares."""
    method = run.spec.method
    return "untrained" not in run.badges and (method.name, method.version) not in UNTRAINED_BEFORE


def standard_episodes(setting: str) -> int | None:
    """The benchmark's number of episodes; None when there is no such benchmark any more."""
    try:
        return benchmarks.load(setting).n_episodes
    except FsbenchError:
        return None


def planned_trainings(setting: str) -> int:
    """Trainings of each row that the setting declares; the usual number where there is no such benchmark any more."""
    try:
        return benchmarks.load(setting).benchmark.n_seeds or stats.N_PLANNED
    except FsbenchError:
        return stats.N_PLANNED


def partial_badge(n_episodes: int, n_standard: int | None) -> set[str]:
    """The badge of fewer episodes than the benchmark asks."""
    return {"partial"} if n_standard and n_episodes < n_standard else set()


def headline_metric(run: StoredRun) -> str:
    """The metric that ranks a run."""
    headlines = protocol_with(run.metrics).headlines
    return next((name for name in headlines if name in run.metrics), run.metrics[0])


def by_row(runs: Sequence[StoredRun]) -> dict[str, list[StoredRun]]:
    """Runs by row; of one seed the run with most episodes, of its replicates one made here, the one seen first."""
    best: dict[tuple[str, int], StoredRun] = {}
    for run in sorted(runs, key=lambda r: (-r.spec.n_episodes, r.self_reported, r.created, r.replicate)):
        best.setdefault((run.spec.row_key, run.spec.seed), run)
    groups: dict[str, list[StoredRun]] = {}
    for (key, _), run in sorted(best.items()):
        groups.setdefault(key, []).append(run)
    return groups


def pooled(store: Store, setting: str, runs: list[StoredRun], n_standard: int | None, tried: Tried) -> Pooled:
    """Pool the runs of one row, one a seed, of one episode list.

    Args:
        store: has their counts.
        setting: its name.
        runs: by seed.
        n_standard: the benchmark's number of episodes; None when it no longer exists.
        tried: configurations that were tuned, by family.
    """
    spec, metric = runs[0].spec, headline_metric(runs[0])
    _, accuracy = store.accuracy_matrix([run.pk for run in runs], metric)
    protocol = protocol_with(runs[0].metrics)
    numbers = joint.read(store, runs, metric) if protocol.is_grouped else None
    badges = {badge for run in runs for badge in run.badges}
    badges -= {"spot-checked"} if any(run.trust != "spot-checked" for run in runs) else set()
    badges |= _tuned(spec, tried)
    badges |= {f"tuned on {spec.tuning}"} if spec.tuning != "none" else set()
    badges |= {"as-published"} if spec.recipe == "as-published" else set()
    badges |= partial_badge(accuracy.shape[1], n_standard)
    return Pooled(
        method=spec.method.name,
        backbone=spec.shown_backbone,
        recipe=spec.recipe,
        config=spec.changed,
        setting=setting,
        metric=metric,
        runs=tuple(runs),
        accuracy=accuracy,
        n_answers=spec.n_way * spec.n_query
        if protocol.is_episodic
        else int(store.counts(runs[0].pk, metric)[1][0]),
        badges=tuple(sorted(badges)),
        joint=numbers,
    )


def _tuned(spec: RunSpec, tried: Tried) -> set[str]:
    """How many configurations were tried, on a row that is one of them."""
    configs = tried.get(family_of(spec), set())
    return {f"tuned ({len(configs)})"} if config_text(spec) in configs else set()
