"""One run in progress: build the method, fit it, embed the novel images, evaluate, and assemble the result.

Whatever ends it (a signal, a time limit, ``kill -9``), the same call goes on: training from the last epoch, the feature
table from the last record, evaluation from the last saved piece.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from harness import benchmarks, config, evaluate, metrics, pieces, provenance, registry
from harness.backbones import build
from harness.baseset import BaseSet
from harness.benchmarks import Setting
from harness.claims import claim
from harness.data.images import ImageStore
from harness.errors import ConfigError, DataError
from harness.features import FeatureTable, Images, Source
from harness.fitting import Fit, FitContext, Stateful
from harness.method import Embeds, traits
from harness.places import Places
from harness.progress import Progress, stage
from harness.run_folders import partial_folder, wants_new_features
from harness.runs import Counts, EpisodeTable, RunResult, RunSpec
from harness.seeding import stream, torch_generator
from harness.types import EpisodeList
from harness.validation import Validator

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
class Job:
    """One run in progress.

    Attributes:
        spec, places, device, progress: what, where, on what, and whom to tell.
        source: the file that stands for the user's own (a snapshot), else empty.
    """

    spec: RunSpec
    places: Places
    device: torch.device
    progress: Progress
    source: str = ""

    @property
    def partial(self) -> Path:
        """Where an unfinished run keeps its log, its locks and its predictions so far."""
        return partial_folder(self.places.runs, self.spec.id)

    @cached_property
    def setting(self) -> Setting:
        """The setting, its list checked against the plan."""
        setting = benchmarks.load(self.spec.setting)
        if setting.episodes.digest != self.spec.episode_digest:
            raise DataError(
                f"The episode list of {setting.name} is not the one this run was planned with. Plan it again."
            )
        return setting

    def run(self, episodes: range | None = None) -> RunResult | None:
        """Fit, embed, evaluate.

        Args:
            episodes: only these; None for all.

        Returns:
            The result once every episode is there, else None: other jobs have the rest.
        """
        ready = self.ready()
        self._evaluate(ready, episodes or range(self.spec.n_episodes))
        done = pieces.load(self.partial)
        predictions = pieces.whole(done, self.spec.n_episodes)
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
    def _episodes(self) -> EpisodeList:
        return self.setting.episodes[: self.spec.n_episodes]

    def _build(self, *, for_fit: bool = False) -> Any:
        """Make the method with fresh weights from the run's "initial weights" stream.

        ``for_fit`` leaves "adapt" values at their declared defaults: the fit's key does not hold them, so they must
        not choose the epoch either.
        """
        spec = self.spec
        values = {k: v.value for k, v in spec.config.items() if v.phase == "fit" or not for_fit}
        loaded = registry.load(self.source or spec.method.reference)
        if loaded.reference.source_sha256 != spec.method.source_sha256:
            raise ConfigError(
                f"{spec.method.reference} was changed after the run was planned. Type the command again."
            )
        torch.manual_seed(stream(spec.seed, "initial weights"))
        backbone = (
            torch.nn.Identity()
            if spec.backbone == "none"
            else build(spec.backbone, spec.image_size, spec.channels)
        )
        method = loaded.cls(config.from_json(loaded.cls.Config, values), backbone)
        if isinstance(method, torch.nn.Module):
            method.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return method

    def _fit(self, method: Any) -> dict[str, Any]:
        """Train, resume the training, or load its weights."""
        fit = Fit(self.places.cache, self.spec.fit_key)
        if not isinstance(method, Stateful):
            return self._train(method, fit)
        if fit.is_done:
            log.info("the fit %s is there already", self.spec.fit_key)
        else:
            self._train(self._build(for_fit=True), fit)
        fit.restore(method, self.device)
        if isinstance(method, torch.nn.Module):
            method.eval().requires_grad_(False)
        return fit.record()

    def _train(self, method: Any, fit: Fit) -> dict[str, Any]:
        spec = self.spec
        torch.manual_seed(stream(spec.seed, "training"))
        rng = torch_generator(spec.seed, "training")
        validate = (
            Validator(spec, self._open("validation"), self.setting.benchmark.seed, self.device)
            if "validation" in spec.data_digest
            else None
        )
        ctx = FitContext(
            fit.folder, device=self.device, rng=rng, seed=spec.seed, precision=spec.precision,
            validate=validate, progress=self.progress,
        )  # fmt: skip
        if isinstance(method, torch.nn.Module):
            method.train()
        with benchmarks.novel_closed():
            method.fit_base(BaseSet(self._open("base"), spec.pipeline, self.device, rng, ctx.tick), ctx)
        fit.finish(method, ctx.record())
        return fit.record()

    def _open(self, role: benchmarks.RoleName) -> ImageStore:
        spec, benchmark = self.spec, self.setting.benchmark
        store = benchmark.open(role, self.places.data, spec.pipeline, spec.image_size)
        if store.digest != spec.data_digest[role]:
            raise DataError(
                f"The {role} images of {benchmark.key} changed after the run was planned. Type the command again."
            )
        return store

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
        todo = list(pieces.missing(pieces.load(self.partial), episodes))
        n_done = len(episodes) - sum(map(len, todo))
        if n_done:
            log.info("evaluation resumes: %d of %d episodes are there", n_done, len(episodes))
        with stage(self.progress, "evaluate", len(episodes), "episodes", n_done) as shown:
            for stretch in todo:
                piece = pieces.Growing(self.partial, stretch, self._episodes.n_query, shown)
                try:
                    self._predict(ready, piece, stretch)
                finally:  # also when a signal ends it
                    piece.save()

    def _predict(self, ready: Ready, piece: pieces.Growing, stretch: range) -> None:
        """Predict a stretch; when the device's memory does not suffice, with half as many episodes at once."""
        batch = evaluate.EPISODE_BATCH
        while piece.n_done < len(stretch):
            first = stretch.start + piece.n_done
            try:
                evaluate.predict(
                    ready.method, self._episodes[first : stretch.stop], ready.source, self.spec.seed,
                    first=first, batch=batch, after_batch=piece.add,
                )  # fmt: skip
            except torch.OutOfMemoryError:
                if batch == 1:
                    raise
                batch //= 2
                log.warning("out of device memory: evaluation goes on with %d episodes at once", batch)
                torch.cuda.empty_cache()

    def _result(self, ready: Ready, predictions: evaluate.Predictions) -> RunResult:
        episodes, method = self._episodes, ready.method
        counts = Counts(
            n_correct=metrics.n_correct(predictions, episodes.query_label),
            n_query=np.full(len(episodes), episodes.n_query, dtype=np.int64),
            predictions=predictions.astype(metrics.smallest_dtype(episodes.n_way)),
        )
        table = EpisodeTable(
            classes=episodes.classes.astype(np.int32),
            support=episodes.support.astype(np.int32),
            query=episodes.query.astype(np.int32),
            class_names=tuple(ready.novel.class_names),
            class_groups=tuple(ready.novel.groups),
        )
        is_module = isinstance(method, torch.nn.Module)
        facts = {
            **provenance.describe(self.device),
            "seconds": ready.seconds,
            "selection": ready.record["selection"],
            "badges": self._badges(method),
            "parameters": sum(p.numel() for p in method.parameters()) if is_module else 0,
        }
        return RunResult(self.spec, "done", {"top1": counts}, table, facts, tuple(ready.record["curves"]))

    def _badges(self, method: Any) -> list[str]:
        badges = ["transductive"] if traits(type(method)).transductive else []
        is_selected = "validation" in self.spec.data_digest or not isinstance(method, Stateful)
        badges += [] if is_selected else ["no validation"]
        return badges + (["resized"] if self.spec.image_size != self.setting.benchmark.image_size else [])


class _Clock:
    """Seconds between laps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name], self._last = now - self._last, now
