"""Count some episodes of a run again: same checkpoint, images embedded anew, one episode at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.benchmarks.episodes import IntArray
from harness.errors import DataError
from harness.evaluation.features import Images, Source, features_of
from harness.evaluation.protocols import protocol_of
from harness.jobs.run import planned_setting
from harness.method import registry
from harness.runs import Counts, RunSpec
from harness.seeding import numpy_generator
from harness.training.build import Workplace, build, open_role
from harness.training.checkpoints import Fit, Stateful
from harness.training.fits import encoder_of, fitted


def recount(spec: RunSpec, at: Workplace, chosen: IntArray) -> dict[str, Counts]:
    """Counts and predictions of some episodes by metric; nothing of it is kept.

    Only the checkpoint is taken from the cache, not the feature table.

    Args:
        spec: of the run.
        at: where its checkpoint and images are.
        chosen: (n,) int, positions in the list.

    Returns:
        Metric → counts of n episodes.

    Raises:
        ConfigError: when the method is of another version.
        DataError: when there is no checkpoint, or other images.
    """
    method, episodes = restored(spec, at), planned_setting(spec).episodes
    protocol = protocol_of(episodes)
    parts = [episodes[i : i + 1] for i in chosen.tolist()]
    rows = np.unique(np.concatenate([part.rows() for part in parts]))
    with tempfile.TemporaryDirectory() as scratch:
        source = _anew(spec, method, at, Path(scratch), rows)
        found = [
            protocol.counts(part, protocol.predict(method, part, source, spec.seed, first=i, at_once=1))
            for i, part in zip(chosen.tolist(), parts, strict=True)
        ]
    return {name: _joined([counts[name] for counts in found]) for name in found[0]}


def _joined(parts: Sequence[Counts]) -> Counts:
    """Counts of single episodes as those of all."""
    labels = [part.predictions for part in parts if part.predictions is not None]
    return Counts(
        np.concatenate([part.n_correct for part in parts]),
        np.concatenate([part.n_query for part in parts]),
        np.concatenate(labels) if labels else None,
    )


def restored(spec: RunSpec, at: Workplace) -> Any:
    """The method of a run with the weights of its finished training.

    Raises:
        ConfigError: when it is of another version.
        DataError: when there is no checkpoint.
    """
    registry.load_stored(spec.method, at.places.cache, at.sources.get(spec.method.reference, ""))
    for fit in spec.read_from:
        is_kept = Fit(at.places.cache, fit.fit_key).is_done
        if not is_kept and isinstance(build(fit, at, fit.config), Stateful):
            raise DataError(
                f"The checkpoint of run {spec.id} is not in {at.places.cache}/fits/{fit.fit_key}, so nothing can be "
                "counted again. Import a bundle that was exported with --with-fits, or set FSBENCH_CACHE to where it is."
            )
    return fitted(spec.fit, at, spec.config).method


def _anew(spec: RunSpec, method: Any, at: Workplace, scratch: Path, rows: IntArray) -> Source:
    novel = open_role(spec, "novel", at)
    encoder = encoder_of(spec, method, at)
    if not encoder:
        return Images(method, novel, spec.pipeline, at.device)
    table = features_of(encoder.method, novel, encoder.fit, scratch, at.device, spec.embed_batch)
    table.ensure(rows, at.progress)
    return encoder.source(table)


def sample(run_id: str, n_episodes: int, n: int, seed: int) -> IntArray:
    """Which episodes of a run to count again, (n,) int64, sorted; all of them when there are no more than n."""
    order = numpy_generator(seed, "recheck", run_id).permutation(n_episodes)
    return np.sort(order[:n]).astype(np.int64)
