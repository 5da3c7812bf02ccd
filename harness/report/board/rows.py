"""From stored runs to the rows of one setting: seeds pooled, one interval each, badges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from harness import benchmarks, stats
from harness.errors import FsbenchError
from harness.report.board import joint
from harness.runs import RunSpec
from harness.runs.findings import Family, config_text, family_of
from harness.seeding import numpy_generator
from harness.store import Store, StoredRun

Matrix = npt.NDArray[np.float64]
Tried = Mapping[Family, Set[str]]
HEADLINES = ("top1", "top5/novel", "top1/novel")  # the metric that ranks a setting: the first a run has


@dataclass(frozen=True)
class Row:
    """One line of a leaderboard: method + backbone + configuration + recipe, its seeds pooled.

    Attributes:
        method, backbone, recipe: names.
        config: what differs from the method's defaults, as "key=value, …"; empty when nothing does.
        setting: name of the setting.
        metric: what ``accuracy`` counts, such as "top1".
        runs: one stored run per seed, by seed.
        accuracy: (S, T) fractions on the episodes all seeds share.
        interval: the headline interval.
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
    interval: stats.Interval
    badges: tuple[str, ...]
    joint: joint.JointNumbers | None = None

    def units(self, n: int) -> Matrix:
        """What tests pair: (S, n) accuracies of the first n episodes; jointly (S, C) of classes, over n experiments."""
        return self.accuracy[:, :n] if self.joint is None else self.joint.by_class[:, :n].mean(axis=1)

    @property
    def unit(self) -> str:
        """What those are."""
        return "episodes" if self.joint is None else "classes"

    @property
    def spec(self) -> RunSpec:
        """Specification of the first seed."""
        return self.runs[0].spec

    @property
    def mean(self) -> float:
        """Mean accuracy, a fraction."""
        return self.interval.mean

    @property
    def half_width(self) -> float | None:
        """Half-width of the 95% interval, a fraction; None where it is undefined."""
        return self.interval.half_width

    @property
    def n_episodes(self) -> int:
        """Episodes that every seed has."""
        return int(self.accuracy.shape[1])

    @property
    def seeds(self) -> tuple[int, ...]:
        """Training seeds."""
        return tuple(run.spec.seed for run in self.runs)

    @property
    def label(self) -> str:
        """Method and whatever sets this row apart from its default."""
        return self.spec.label

    @property
    def key(self) -> str:
        """The ids of its runs: a name of the row for random streams."""
        return "+".join(run.id for run in self.runs)

    @cached_property
    def seconds(self) -> dict[str, float | None]:
        """Mean seconds of fit, embed and evaluate over the seeds that took any; None where none did."""
        laps = [run.provenance.get("seconds", {}) for run in self.runs]
        known = {k: [lap[k] for lap in laps if lap.get(k)] for k in ("fit", "embed", "evaluate")}
        return {k: float(np.mean(values)) if values else None for k, values in known.items()}


def row_as_json(row: Row) -> dict[str, Any]:
    """A row as JSON types, in the words that the terminal and the exports share; accuracies are fractions."""
    return {
        "setting": row.setting, "metric": row.metric, "method": row.method, "backbone": row.backbone, "recipe": row.recipe,
        "config": row.config, "accuracy": row.mean, "half_width_95": row.half_width, "interval": row.interval.kind,
        "interval_note": row.interval.note, "episodes": row.n_episodes, "seeds": list(row.seeds), "badges": list(row.badges),
        **{f"{stage}_seconds": seconds for stage, seconds in row.seconds.items()}, "runs": [run.id for run in row.runs],
        **({"metrics": dict(row.joint.means)} if row.joint else {}),
    }  # fmt: skip


def standard_episodes(setting: str) -> int | None:
    """The benchmark's number of episodes; None when there is no such benchmark any more."""
    try:
        return benchmarks.load(setting).n_episodes
    except FsbenchError:
        return None


def partial_badge(n_episodes: int, n_standard: int | None) -> set[str]:
    """The badge of fewer episodes than the benchmark asks."""
    return {"partial"} if n_standard and n_episodes < n_standard else set()


def headline_metric(run: StoredRun) -> str:
    """The metric that ranks a run."""
    return next((name for name in HEADLINES if name in run.metrics), run.metrics[0])


def by_row(runs: Sequence[StoredRun]) -> dict[str, list[StoredRun]]:
    """Runs by row; of one seed the run with most episodes, of its replicates one made here, the one seen first."""
    best: dict[tuple[str, int], StoredRun] = {}
    for run in sorted(runs, key=lambda r: (-r.spec.n_episodes, r.self_reported, r.created, r.replicate)):
        best.setdefault((run.spec.row_key, run.spec.seed), run)
    groups: dict[str, list[StoredRun]] = {}
    for (key, _), run in sorted(best.items()):
        groups.setdefault(key, []).append(run)
    return groups


def pooled(store: Store, setting: str, runs: list[StoredRun], n_standard: int | None, tried: Tried) -> Row:
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
    rng = numpy_generator(0, "bootstrap", *sorted(run.id for run in runs))
    numbers = joint.read(store, runs, metric) if joint.is_joint(runs[0]) else None
    badges = {badge for run in runs for badge in run.badges}
    badges -= {"spot-checked"} if any(run.trust != "spot-checked" for run in runs) else set()
    badges |= _tuned(spec, tried)
    badges |= {"as-published"} if spec.recipe == "as-published" else set()
    badges |= partial_badge(accuracy.shape[1], n_standard)
    return Row(
        method=spec.method.name,
        backbone=spec.backbone,
        recipe=spec.recipe,
        config=spec.changed,
        setting=setting,
        metric=metric,
        runs=tuple(runs),
        accuracy=accuracy,
        interval=stats.joint_interval(numbers.by_class.mean(axis=0), rng)
        if numbers
        else stats.headline_interval(accuracy, rng),
        badges=tuple(sorted(badges)),
        joint=numbers,
    )


def _tuned(spec: RunSpec, tried: Tried) -> set[str]:
    """How many configurations were tried, on a row that is one of them."""
    configs = tried.get(family_of(spec), set())
    return {f"tuned ({len(configs)})"} if config_text(spec) in configs else set()
