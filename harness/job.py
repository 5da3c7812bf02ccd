"""One run in progress: build the method, fit it, embed the novel images, evaluate, and assemble the result.

Whatever ends it (a signal, a time limit, ``kill -9``), the same call goes on: training from the last epoch, the feature
table from the last record, evaluation from the last saved piece.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch

from harness import (
    badges,
    benchmarks,
    config,
    evaluate,
    joint_evaluation,
    keepsakes,
    parallel,
    pieces,
    provenance,
    registry,
    selection,
    thumbnails,
    weights,
)
from harness.backbones import build
from harness.baseset import BaseSet
from harness.benchmarks import Setting
from harness.claims import claim
from harness.data.images import ImageStore
from harness.errors import ConfigError, DataError
from harness.features import FeatureTable, Images, Source
from harness.fitting import IMPORTED, Fit, FitContext, Stateful
from harness.method import Embeds, traits
from harness.places import Places
from harness.progress import Progress, stage
from harness.run_folders import partial_folder, wants_new_features
from harness.run_results import counts_of, table_of
from harness.runs import RunResult, RunSpec
from harness.seeding import stream, torch_generator
from harness.types import AnyList, JointList
from harness.validation import Validator
from harness.world import ALONE, World

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
    def _episodes(self) -> AnyList:
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
        if spec.is_compiled:
            backbone.compile()
        method = loaded.cls(config.from_json(loaded.cls.Config, values), backbone)
        if isinstance(method, torch.nn.Module):
            method.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return method

    def _fit(self, method: Any) -> dict[str, Any]:
        """Train, resume the training, or load its weights."""
        fit = Fit(self.places.cache, self.spec.fit_key)
        if not isinstance(method, Stateful) and not self.spec.weights_sha256:
            return self._train(method, fit)
        if fit.is_done:
            log.info("the fit %s is there already", self.spec.fit_key)
        elif self.spec.weights_sha256:
            self._import(self._build(for_fit=True), fit)
        elif self.spec.world_size > 1:
            parallel.train(self)
        else:
            self._train(self._build(for_fit=True), fit)
        fit.restore(method, self.device)
        if isinstance(method, torch.nn.Module):
            method.eval().requires_grad_(False)
        return fit.record()

    def _import(self, method: Any, fit: Fit) -> None:
        """Take weights that others trained in place of a training."""
        imported = weights.import_weights(
            method, weights.kept(self.places.cache, self.spec.weights_sha256), self.spec.weights_sha256
        )
        record = {"seconds": 0.0, "curves": [], "selection": {}, "weights": asdict(imported)}
        fit.finish(method, {**record, "saw": badges.saw(self.spec, self.setting.benchmark)})

    def train_as(self, world: World) -> None:
        """Train as one of several processes; the first of them keeps the fit."""
        self._train(self._build(for_fit=True), Fit(self.places.cache, self.spec.fit_key), world)

    def _train(self, method: Any, fit: Fit, world: World = ALONE) -> dict[str, Any]:
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
            validate=validate, progress=self.progress, keeps_all=spec.select_on == "novel",
            world=world,
        )  # fmt: skip
        if isinstance(method, torch.nn.Module):
            method.train()
        with benchmarks.novel_closed():
            base = BaseSet(self._open("base"), spec.pipeline, self.device, rng, ctx.tick, world)
            method.fit_base(base, ctx)
        record = ctx.record()
        if not world.is_first:
            return record
        if spec.select_on == "novel":
            novel = Validator(spec, self._open("novel"), self.setting.benchmark.seed, self.device)
            record["selection"] = selection.select(method, fit.folder, novel, spec.n_way, spec.shot)
        fit.finish(method, {**record, "saw": badges.saw(self.spec, self.setting.benchmark)})
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
                piece = pieces.Growing(self.partial, stretch, self._episodes.predicted_shape, shown)
                try:
                    self._predict(ready, piece, stretch)
                finally:  # also when a signal ends it
                    piece.save()

    def _predict(self, ready: Ready, piece: pieces.Growing, stretch: range) -> None:
        """Predict a stretch; when the device's memory does not suffice, with half as many episodes at once."""
        episodes = self._episodes
        if isinstance(episodes, JointList):
            joint_evaluation.predict(
                ready.method, episodes[stretch.start : stretch.stop], ready.source, self.spec.seed,
                first=stretch.start, after_batch=piece.add,
            )  # fmt: skip
            return
        batch = evaluate.episodes_at_once(ready.method, episodes, ready.source)
        while piece.n_done < len(stretch):
            first = stretch.start + piece.n_done
            try:
                evaluate.predict(
                    ready.method, episodes[first : stretch.stop], ready.source, self.spec.seed,
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
            )
            + (["imported fit"] if IMPORTED in ready.record else []),
            **badges.origin(self.spec, self.setting.benchmark, ready.record),
            "parameters": sum(p.numel() for p in method.parameters()) if is_module else 0,
            "about": keepsakes.about(type(method), self.spec.method, self.places.cache),
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
