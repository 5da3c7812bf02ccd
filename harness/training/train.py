"""The training of one run: build the method, then train it, resume the training, or load or import its weights."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any

import torch

from harness import benchmarks
from harness.backbones import build
from harness.benchmarks import Setting
from harness.errors import ConfigError, DataError
from harness.images.stores import ImageStore, WholePictures
from harness.method import hyper, official_weights, registry
from harness.runs import RunSpec, badges
from harness.seeding import stream, torch_generator
from harness.system.folders import Places
from harness.system.progress import Progress
from harness.training import launch, selection
from harness.training.base_set import BaseSet
from harness.training.fit_context import Fit, FitContext, Stateful
from harness.training.processes import ALONE, World
from harness.training.validation import Validator

log = logging.getLogger("fsbench.job")


@dataclass
class Training:
    """A run up to its fitted method; what opens novel images comes after it.

    Attributes:
        spec, places, device, progress: what, where, on what, and whom to tell.
        source: the file that stands for the user's own (a snapshot), else empty.
    """

    spec: RunSpec
    places: Places
    device: torch.device
    progress: Progress
    source: str = ""

    @cached_property
    def setting(self) -> Setting:
        """The setting, its list checked against the plan."""
        setting = benchmarks.load(self.spec.setting)
        if setting.episodes.digest != self.spec.episode_digest:
            raise DataError(
                f"The episode list of {setting.name} is not the one this run was planned with. Plan it again."
            )
        return setting

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
        method = loaded.cls(hyper.from_json(loaded.cls.Config, values), backbone)
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
            work = partial(_train_as, spec=self.spec, places=self.places, source=self.source)
            launch.together(work, self.spec.world_size, self.device, self.progress)
        else:
            self._train(self._build(for_fit=True), fit)
        fit.restore(method, self.device)
        if isinstance(method, torch.nn.Module):
            method.eval().requires_grad_(False)
        return fit.record()

    def _import(self, method: Any, fit: Fit) -> None:
        """Take weights that others trained in place of a training."""
        imported = official_weights.import_weights(
            method,
            official_weights.kept(self.places.cache, self.spec.weights_sha256),
            self.spec.weights_sha256,
        )
        record = {"seconds": 0.0, "curves": [], "selection": {}, "weights": asdict(imported)}
        fit.finish(method, {**record, "saw": badges.saw(self.spec, self.setting.benchmark)})

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
            world=world, config=spec.values(),
        )  # fmt: skip
        if isinstance(method, torch.nn.Module):
            method.train()
        with benchmarks.novel_closed():
            store = self._open("base")
            whole = self._whole(store) if spec.cut_from else None
            method.fit_base(BaseSet(store, spec.pipeline, self.device, rng, ctx.tick, world, whole), ctx)
        record = ctx.record()
        if not world.is_first:
            return record
        if spec.select_on == "novel":
            novel = Validator(spec, self._open("novel"), self.setting.benchmark.seed, self.device)
            record["selection"] = selection.select(method, fit.folder, novel, spec.n_way, spec.shot)
        fit.finish(method, {**record, "saw": badges.saw(self.spec, self.setting.benchmark)})
        return fit.record()

    def _whole(self, store: ImageStore) -> WholePictures:
        """The base images uncropped; decoded when a training asks for them first."""
        told = [0]

        def tell(n_done: int, n: int) -> None:
            if not told[0]:
                self.progress.begin("decode", n, "pictures")
            self.progress.advance(n_done - told[0])
            told[0] = n_done
            if n_done == n:
                self.progress.end()

        return store.whole(self.spec.cut_from, tell)

    def _open(self, role: benchmarks.RoleName) -> ImageStore:
        spec, benchmark = self.spec, self.setting.benchmark
        store = benchmark.open(role, self.places.data, spec.pipeline, spec.image_size)
        if store.digest != spec.data_digest[role]:
            raise DataError(
                f"The {role} images of {benchmark.key} changed after the run was planned. Type the command again."
            )
        return store


def _train_as(
    world: World, device: torch.device, progress: Progress, *, spec: RunSpec, places: Places, source: str
) -> None:
    """Train as one of several processes; the first of them keeps the fit."""
    job = Training(spec, places, device, progress, source)
    job._train(job._build(for_fit=True), Fit(places.cache, spec.fit_key), world)
