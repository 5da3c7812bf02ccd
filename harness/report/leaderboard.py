"""From stored runs to leaderboard rows: seeds pooled, one interval each, nothing rendered yet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from harness import stats
from harness.runs import RunSpec
from harness.seeding import numpy_generator
from harness.store import Store, StoredRun

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Row:
    """One line of a leaderboard: method + backbone + configuration + recipe, its seeds pooled.

    Attributes:
        method, backbone, recipe: names.
        config: what differs from the method's defaults, as "key=value, …"; empty when nothing does.
        setting: name of the setting.
        runs: one stored run per seed, by seed.
        accuracy: (S, T) fractions on the episodes all seeds share.
        interval: the headline interval.
        badges: "transductive", "resized", …, sorted.
    """

    method: str
    backbone: str
    recipe: str
    config: str
    setting: str
    runs: tuple[StoredRun, ...]
    accuracy: npt.NDArray[np.float64]
    interval: stats.Interval
    badges: tuple[str, ...]

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
        return " ".join(p for p in (self.method, f"({self.config})" if self.config else "") if p)

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
        failed: runs that ended in an error; each is a hole in the table.
    """

    setting: str
    note: str
    rows: tuple[Row, ...]
    failed: tuple[StoredRun, ...]


def tables(
    store: Store, settings: Sequence[str] | None = None, methods: Sequence[str] | None = None
) -> list[Table]:
    """Read everything that is asked for; None means all."""
    filters: dict[str, Any] = {}
    if settings is not None:
        filters["setting"] = list(settings)
    if methods is not None:
        filters["method"] = list(methods)
    frame = store.runs(metrics=(), **filters)
    return list(_tables(store, frame))


def _tables(store: Store, frame: pd.DataFrame) -> Iterator[Table]:
    for setting, of_setting in frame.groupby("setting", sort=True):
        runs = [store.run(r.id, r.replicate) for r in of_setting.itertuples()]
        done = [run for run in runs if run.status == "done"]
        failed = tuple(run for run in runs if run.status == "failed")
        by_images: dict[tuple[str, str], list[StoredRun]] = {}
        for run in done:
            key = (run.spec.episode_digest, run.spec.data_digest.get("novel", ""))
            by_images.setdefault(key, []).append(run)
        for (episodes, images), members in sorted(by_images.items()) or [(("", ""), [])]:
            rows = [_row(store, str(setting), group) for group in _by_row(members).values()]
            note = f"images {images[:8]}, episodes {episodes[:8]}" if len(by_images) > 1 else ""
            yield Table(str(setting), note, tuple(sorted(rows, key=lambda r: -r.mean)), failed)


def row_key(spec: RunSpec) -> str:
    """Digest of what makes a row: everything in the identity but seed, episodes and setting."""
    identity = {
        "method": [spec.method.name, spec.method.version, spec.method.source_sha256],
        "config": spec.values(),
        "images": [spec.backbone, spec.image_size, spec.pipeline, dict(spec.data_digest)],
        "training": [spec.recipe, spec.weights_sha256, spec.precision, spec.world_size, spec.per_rank_batch],
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


def _row(store: Store, setting: str, runs: list[StoredRun]) -> Row:
    spec = runs[0].spec
    _, accuracy = store.accuracy_matrix([run.pk for run in runs], "top1")
    rng = numpy_generator(0, "bootstrap", *sorted(run.id for run in runs))
    badges = {badge for run in runs for badge in run.provenance.get("badges", [])}
    badges |= {"as-published"} if spec.recipe == "as-published" else set()
    return Row(
        method=spec.method.name,
        backbone=spec.backbone,
        recipe=spec.recipe,
        config=changed(spec),
        setting=setting,
        runs=tuple(runs),
        accuracy=accuracy,
        interval=stats.headline_interval(accuracy, rng),
        badges=tuple(sorted(badges)),
    )


def changed(spec: RunSpec) -> str:
    """Name the hyper-parameters given with ``--set``, and what else is not the default."""
    parts = [
        f"{name}={entry.value}" for name, entry in sorted(spec.config.items()) if entry.origin == "--set"
    ]
    parts += [spec.precision] if spec.precision != "fp32" else []
    return ", ".join(parts)
