"""From stored runs to leaderboard rows: seeds pooled, one interval each, ranks by paired tests; nothing rendered."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from harness import benchmarks, stats
from harness.errors import FsbenchError
from harness.report import joint
from harness.runs import RunSpec
from harness.seeding import numpy_generator
from harness.store import Store, StoredRun
from harness.store.trials import Family, config_text, family_of

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
        told = ", ".join(filter(None, (self.config, self.recipe if self.recipe != "clean" else "")))
        return f"{self.method} ({told})" if told else self.method

    @property
    def key(self) -> str:
        """The ids of its runs: a name of the row for random streams."""
        return "+".join(run.id for run in self.runs)

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Mean seconds of fit, embed and evaluate over the seeds."""
        laps = [run.provenance.get("seconds", {}) for run in self.runs]
        return {k: float(np.mean([lap.get(k, 0.0) for lap in laps])) for k in ("fit", "embed", "evaluate")}


@dataclass(frozen=True)
class Table:
    """The rows of one setting that may be compared: one episode list, one set of images; best first.

    Attributes:
        setting: name; ``note`` tells apart tables of one setting over different images.
        rows: best mean first.
        failed: runs that ended in an error; each is a hole in the table.
        n_standard: the benchmark's number of episodes; rows with fewer have the badge "partial". None when the
            benchmark no longer exists.
        list_digest: of the episode list; empty when every run failed.
    """

    setting: str
    note: str
    rows: tuple[Row, ...]
    failed: tuple[StoredRun, ...]
    n_standard: int | None
    list_digest: str

    @property
    def name(self) -> str:
        """Setting and note in one word, for files and links."""
        return "-".join(filter(None, (self.setting, self.note.replace(", ", "-").replace(" ", "-"))))

    @cached_property
    def n_ranked(self) -> int:
        """Episodes that a row needs to be ranked: the standard number, or what most rows with a long list have."""
        lengths = [row.n_episodes for row in self.rows]
        if not lengths:
            return 0
        if self.n_standard is not None:
            return min(self.n_standard, max(lengths))
        return max(Counter(lengths).items(), key=lambda item: (item[1], item[0]))[0]

    @cached_property
    def ranked(self) -> tuple[Row, ...]:
        """Rows with enough episodes, best first on those that all of them share."""
        n = self.n_ranked
        rows = [row for row in self.rows if row.n_episodes >= n]
        return tuple(sorted(rows, key=lambda row: -row.accuracy[:, :n].mean()))

    @cached_property
    def pairs(self) -> stats.AllPairs | None:
        """Every ranked row against every other, paired; None when there is no row."""
        if not self.ranked:
            return None
        matrices = [row.units(self.n_ranked) for row in self.ranked]
        return stats.all_pairs(matrices, [row.seeds for row in self.ranked])

    @property
    def n_units(self) -> int:
        """Episodes, or jointly classes, over which rows are paired."""
        return int(self.ranked[0].units(self.n_ranked).shape[1]) if self.ranked else 0

    @cached_property
    def ranks(self) -> dict[str, tuple[int, int, int]]:
        """Row key → lowest rank, highest rank, tie group, of the ranked rows."""
        if self.pairs is None:
            return {}
        better = self.pairs.is_better()
        bounds = stats.rank_intervals(better)
        means = [float(row.accuracy[:, : self.n_ranked].mean()) for row in self.ranked]
        columns = (bounds.low, bounds.high, stats.tie_groups(means, better))
        cells = zip(*(column.tolist() for column in columns), strict=True)
        return {row.key: cell for row, cell in zip(self.ranked, cells, strict=True)}


def tables(
    store: Store, settings: Sequence[str] | None = None, methods: Sequence[str] | None = None
) -> list[Table]:
    """Read everything that is asked for; None means all."""
    return list(each_table(store, stored_runs(store, settings, methods)))


def stored_runs(
    store: Store, settings: Sequence[str] | None = None, methods: Sequence[str] | None = None
) -> list[StoredRun]:
    """Every run and replicate that is asked for, without its counts, by setting."""
    filters: dict[str, Any] = {}
    if settings is not None:
        filters["setting"] = list(settings)
    if methods is not None:
        filters["method"] = list(methods)
    return store.stored_runs(**filters)


def each_table(store: Store, runs: Sequence[StoredRun]) -> Iterator[Table]:
    """Make the tables of these runs, one after the other, by setting."""
    by_setting: dict[str, list[StoredRun]] = {}
    tried = store.tried()
    for run in runs:
        by_setting.setdefault(run.spec.setting, []).append(run)
    for setting, members in sorted(by_setting.items(), key=lambda item: setting_order(item[0])):
        failed = tuple(run for run in members if run.status == "failed")
        by_images: dict[tuple[str, str], list[StoredRun]] = {}
        for run in members:
            if run.status == "done":
                key = (run.spec.episode_digest, run.spec.data_digest.get("novel", ""))
                by_images.setdefault(key, []).append(run)
        n_standard = standard_episodes(setting)
        for (episodes, images), done in sorted(by_images.items()) or [(("", ""), [])]:
            rows = [_row(store, setting, group, n_standard, tried) for group in _by_row(done).values()]
            note = f"images {images[:8]}, episodes {episodes[:8]}" if len(by_images) > 1 else ""
            ordered = tuple(sorted(rows, key=lambda r: (-r.mean, r.key)))
            yield Table(setting, note, ordered, failed, n_standard, episodes)


def setting_order(setting: str) -> str:
    """What settings are sorted by: their names, n2 before n10.

    >>> sorted(["glyphs-lowshot-n10", "glyphs-lowshot-n2"], key=setting_order)
    ['glyphs-lowshot-n2', 'glyphs-lowshot-n10']
    """
    return re.sub(r"(?<=-n)\d+$", lambda match: match[0].zfill(4), setting)


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


def row_key(spec: RunSpec) -> str:
    """Digest of what makes a row: everything in the identity but seed, episodes and setting."""
    identity = {
        "method": [spec.method.name, spec.method.version, spec.method.source_sha256],
        "config": spec.values(),
        "images": [spec.backbone, spec.image_size, spec.pipeline, dict(spec.data_digest)],
        "training": [
            spec.recipe,
            spec.weights_sha256,
            spec.precision,
            spec.world_size,
            spec.per_rank_batch,
            *spec.seen,
            spec.select_on,
            spec.is_compiled,
        ],
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _by_row(runs: Sequence[StoredRun]) -> dict[str, list[StoredRun]]:
    """Runs by row; of one seed the run with most episodes, of its replicates the one seen first."""
    best: dict[tuple[str, int], StoredRun] = {}
    for run in sorted(runs, key=lambda r: (-r.spec.n_episodes, r.created, r.replicate)):
        best.setdefault((row_key(run.spec), run.spec.seed), run)
    groups: dict[str, list[StoredRun]] = {}
    for (key, _), run in sorted(best.items()):
        groups.setdefault(key, []).append(run)
    return groups


def _row(store: Store, setting: str, runs: list[StoredRun], n_standard: int | None, tried: Tried) -> Row:
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
        config=changed(spec),
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


def changed(spec: RunSpec) -> str:
    """Name the hyper-parameters given with ``--set``, and what else is not the default."""
    parts = [
        f"{name}={entry.value}" for name, entry in sorted(spec.config.items()) if entry.origin == "--set"
    ]
    parts += [spec.precision] if spec.precision != "fp32" else []
    parts += ["compiled"] if spec.is_compiled else []
    parts += ["selected on novel"] if spec.select_on == "novel" else []
    parts += [f"{spec.world_size} processes"] if spec.world_size != 1 else []
    return ", ".join(parts)
