"""One run in progress: build the method, fit it, embed the novel images, evaluate, and assemble the result.

Whatever ends it (a signal, a time limit, ``kill -9``), the same call goes on: training from the last epoch, the feature
table from the last record, evaluation from the last saved piece.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from harness.benchmarks.episodes import AnyList, JointList
from harness.evaluation import partial, predict, predict_jointly, thumbnails
from harness.evaluation.features import FeatureTable, Images, Source
from harness.evaluation.run_results import counts_of, table_of
from harness.images.stores import ImageStore
from harness.method import Embeds, about, traits
from harness.runs import RunResult, badges
from harness.runs.folders import partial_folder, wants_new_features
from harness.system import provenance
from harness.system.locks import claim
from harness.system.progress import stage
from harness.training.fit_context import IMPORTED, Fit, Stateful
from harness.training.train import Training

log = logging.getLogger("fsbench.job")


class Ready(NamedTuple):
    """Everything that evaluation needs.

    Attributes:
        method: fitted.
        novel: images.
        source: features or images by row.
        record: of the fit.
        seconds: by stage.
    """

    method: Any
    novel: ImageStore
    source: Source
    record: dict[str, Any]
    seconds: dict[str, float]


@dataclass
class Job(Training):
    """One run in progress."""

    @property
    def partial_folder(self) -> Path:
        """Where an unfinished run keeps its log, its locks and its predictions so far."""
        return partial_folder(self.places.runs, self.spec.id)

    def run(self, episodes: range | None = None) -> RunResult | None:
        """Fit, embed, evaluate.

        Args:
            episodes: only these; None for all.

        Returns:
            The result once every episode is there, else None: other jobs have the rest.
        """
        ready = self.ready()
        self._evaluate(ready, episodes or range(self.spec.n_episodes))
        done = partial.load(self.partial_folder)
        predictions = partial.whole(done, self.spec.n_episodes)
        if predictions is None:
            return None
        ready.seconds["evaluate"] = sum(piece.seconds for piece in done)
        return self._result(ready, predictions)

    def ready(self) -> Ready:
        """Fit and embed, one process at a time for each fit."""
        clock = _Clock()
        folder = Fit(self.places.cache, self.spec.fit_key).folder
        with claim(folder / "lock", f"the training of {self.spec.method.name}"):
            method = self._build()
            record = self._fit(method)
            clock.lap("fit")
            novel = self._open("novel")
            source = self._source(method, novel)
            if isinstance(source, FeatureTable):
                source.ensure(self._episodes.rows(), self.progress)
            clock.lap("embed")
        return Ready(method, novel, source, record, {**clock.laps, "fit": record["seconds"]})

    @property
    def _episodes(self) -> AnyList:
        return self.setting.episodes[: self.spec.n_episodes]

    def _images(self, store: ImageStore) -> Images:
        return Images(store, self.spec.pipeline, self.device)

    def _source(self, method: Any, novel: ImageStore) -> Source:
        if not isinstance(method, Embeds):
            return self._images(novel)
        spec = self.spec
        table = FeatureTable.open(
            self.places.cache,
            spec.fit_key,
            method,
            novel,
            spec.pipeline,
            spec.embed_batch,
            spec.precision,
            self.device,
        )
        if wants_new_features(self.places.runs, spec.id):
            table.forget()
        return table

    def _evaluate(self, ready: Ready, episodes: range) -> None:
        """Predict every query that no saved piece holds."""
        todo = list(partial.missing(partial.load(self.partial_folder), episodes))
        n_done = len(episodes) - sum(map(len, todo))
        if n_done:
            log.info("evaluation resumes: %d of %d episodes are there", n_done, len(episodes))
        with stage(self.progress, "evaluate", len(episodes), "episodes", n_done) as shown:
            for stretch in todo:
                piece = partial.Growing(self.partial_folder, stretch, self._episodes.predicted_shape, shown)
                try:
                    self._predict(ready, piece, stretch)
                finally:  # also when a signal ends it
                    piece.save()

    def _predict(self, ready: Ready, piece: partial.Growing, stretch: range) -> None:
        """Predict a stretch; when the device's memory does not suffice, with half as many episodes at once."""
        episodes = self._episodes
        if isinstance(episodes, JointList):
            predict_jointly.predict(
                ready.method, episodes[stretch.start : stretch.stop], ready.source, self.spec.seed,
                first=stretch.start, after_batch=piece.add,
            )  # fmt: skip
            return
        batch = predict.episodes_at_once(ready.method, episodes, ready.source)
        while piece.n_done < len(stretch):
            first = stretch.start + piece.n_done
            try:
                predict.predict(
                    ready.method, episodes[first : stretch.stop], ready.source, self.spec.seed,
                    first=first, batch=batch, after_batch=piece.add,
                )  # fmt: skip
            except torch.OutOfMemoryError:
                if batch == 1:
                    raise
                batch //= 2
                log.warning("out of device memory: evaluation goes on with %d episodes at once", batch)
                torch.cuda.empty_cache()

    def _result(self, ready: Ready, predictions: predict.Predictions) -> RunResult:
        episodes, method = self._episodes, ready.method
        names, groups = tuple(ready.novel.class_names), tuple(ready.novel.groups)
        counts, table = counts_of(episodes, predictions), table_of(episodes, names, groups)
        is_module = isinstance(method, torch.nn.Module)
        facts = {
            **provenance.describe(self.device),
            "seconds": ready.seconds,
            "selection": ready.record["selection"],
            "badges": badges.badges(
                self.spec,
                self.setting.benchmark,
                is_transductive=traits(type(method)).transductive,
                is_trained=isinstance(method, Stateful),
                is_imported=IMPORTED in ready.record,
            ),
            **badges.origin(self.spec, self.setting.benchmark, ready.record),
            "parameters": sum(p.numel() for p in method.parameters()) if is_module else 0,
            "pictures": ready.novel.pictures,
            "about": about.about(type(method), self.spec.method, self.places.cache),
        }
        if not table.is_joint and thumbnails.are_allowed(self.setting.benchmark.roles["novel"].dataset):
            facts["thumbnails"] = thumbnails.of_run(ready.novel, table, counts["top1"])
        return RunResult(self.spec, "done", counts, table, facts, tuple(ready.record["curves"]))


class _Clock:
    """Seconds between laps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name], self._last = now - self._last, now
