"""Count some episodes of a run again: same checkpoint, images embedded anew, one episode at a time."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.benchmarks.episodes import AnyList, IntArray, JointList
from harness.errors import ConfigError, DataError
from harness.evaluation import predict, predict_jointly
from harness.evaluation.features import FeatureTable, Source
from harness.evaluation.run_results import counts_of
from harness.jobs.run import Job
from harness.method import Embeds, registry
from harness.seeding import numpy_generator
from harness.training.fit_context import Fit, Stateful


@dataclass
class Recount(Job):
    """A run of which a few episodes are counted again; nothing of it is kept.

    Only the checkpoint is taken from the cache, not the feature table.
    """

    def counts(self, chosen: IntArray) -> dict[str, IntArray]:
        """Correct predictions of some episodes by metric.

        Args:
            chosen: (n,) int, positions in the list.

        Returns:
            Metric → (n,) int64.

        Raises:
            ConfigError: when the method is of another version.
            DataError: when there is no checkpoint, or other images.
        """
        self._check_version()
        method = self._restored()
        parts = [self.setting.episodes[i : i + 1] for i in chosen.tolist()]
        rows = np.unique(np.concatenate([part.rows() for part in parts]))
        with tempfile.TemporaryDirectory() as scratch:
            source = self._anew(method, Path(scratch), rows)
            found = [
                counts_of(part, self._predicted(method, part, source, i))
                for i, part in zip(chosen.tolist(), parts, strict=True)
            ]
        return {name: np.concatenate([counts[name].n_correct for counts in found]) for name in found[0]}

    def _predicted(self, method: Any, part: AnyList, source: Source, i: int) -> IntArray:
        if isinstance(part, JointList):
            return predict_jointly.predict(method, part, source, self.spec.seed, first=i)
        return predict.predict(method, part, source, self.spec.seed, first=i, batch=1)

    def _check_version(self) -> None:
        spec = self.spec
        found = registry.load(self.source or spec.method.reference).reference
        if found.version != spec.method.version:
            raise ConfigError(
                f"Run {spec.id} was made by {spec.method.name} {spec.method.version}; here is version {found.version}, "
                "which may count otherwise. Install the fsbench that made it, or run anew."
            )

    def _restored(self) -> Any:
        """The method with the weights of its finished training."""
        method, spec = self._build(), self.spec
        if isinstance(method, Stateful) and not Fit(self.places.cache, spec.fit_key).is_done:
            raise DataError(
                f"The checkpoint of run {spec.id} is not in {self.places.cache}/fits/{spec.fit_key}, so nothing can be "
                "counted again. Import a bundle that was exported with --with-fits, or set FSBENCH_CACHE to where it is."
            )
        self._fit(method)
        return method

    def _anew(self, method: Any, scratch: Path, rows: IntArray) -> Source:
        novel, spec = self._open("novel"), self.spec
        if not isinstance(method, Embeds):
            return self._images(novel)
        table = FeatureTable.open(
            scratch, spec.fit_key, method, novel, spec.pipeline, spec.embed_batch, spec.precision, self.device
        )
        table.ensure(rows, self.progress)
        return table


def sample(run_id: str, n_episodes: int, n: int, seed: int) -> IntArray:
    """Which episodes of a run to count again, (n,) int64, sorted; all of them when there are no more than n."""
    order = numpy_generator(seed, "recheck", run_id).permutation(n_episodes)
    return np.sort(order[:n]).astype(np.int64)
