"""One run in progress: build the method, fit it, embed the novel images, evaluate, and assemble the result."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import benchmarks, config, evaluate, metrics, provenance, registry
from harness.backbones import build
from harness.baseset import BaseSet, as_input
from harness.benchmarks import Setting
from harness.data.images import ImageStore
from harness.errors import ConfigError, DataError
from harness.features import FeatureTable, Images, Source, autocast
from harness.files import save_array
from harness.fitting import Fit, FitContext, Stateful
from harness.method import Embeds, traits
from harness.places import Places
from harness.progress import Progress, stage
from harness.runs import Counts, EpisodeTable, RunResult, RunSpec
from harness.sampling import sample
from harness.seeding import stream, torch_generator
from harness.types import EpisodeList, IntArray

log = logging.getLogger("fsbench.job")
VALIDATION_EPISODES = 400
VALIDATION_QUERIES = 15
_SAVE_EVERY_SECONDS = 10.0


@dataclass
class Job:
    """One run in progress."""

    spec: RunSpec
    places: Places
    device: torch.device
    progress: Progress
    fresh_features: bool = False

    @property
    def partial(self) -> Path:
        """Where an unfinished run keeps its log and its predictions so far."""
        return self.places.runs / f".partial-{self.spec.id}"

    @cached_property
    def setting(self) -> Setting:
        """The setting, its list checked against the plan."""
        setting = benchmarks.load(self.spec.setting)
        if setting.episodes.digest != self.spec.episode_digest:
            raise DataError(
                f"The episode list of {setting.name} is not the one this run was planned with. Plan it again."
            )
        return setting

    def run(self) -> RunResult:
        """Fit, embed, evaluate."""
        clock = _Clock()
        method = self._build()
        record = self._fit(method)
        clock.lap("fit")
        novel = self._open("novel")
        source, rows = self._source(method, novel), self._episodes.rows()
        if isinstance(source, FeatureTable):
            source.ensure(rows, self.progress)
        clock.lap("embed")
        predictions = self._evaluate(method, source)
        clock.lap("evaluate")
        return self._result(method, novel, predictions, clock, record)

    @property
    def _episodes(self) -> EpisodeList:
        return self.setting.episodes[: self.spec.n_episodes]

    def _build(self) -> Any:
        """Make the method with fresh weights from the run's "initial weights" stream."""
        spec = self.spec
        loaded = registry.load(spec.method.reference)
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
        method = loaded.cls(config.from_json(loaded.cls.Config, spec.values()), backbone)
        if isinstance(method, torch.nn.Module):
            method.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return method

    def _fit(self, method: Any) -> dict[str, Any]:
        """Train, resume the training, or load its weights."""
        fit = Fit(self.places.cache, self.spec.fit_key)
        if fit.is_done and isinstance(method, Stateful):
            fit.restore(method, self.device)
            log.info("the fit %s is there already", self.spec.fit_key)
            record = fit.record()
        else:
            record = self._train(method, fit)
        if isinstance(method, torch.nn.Module):
            method.eval().requires_grad_(False)
        return record

    def _train(self, method: Any, fit: Fit) -> dict[str, Any]:
        spec = self.spec
        torch.manual_seed(stream(spec.seed, "training"))
        rng = torch_generator(spec.seed, "training")
        validate = self._validator() if "validation" in spec.data_digest else None
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

    def _validator(self) -> Callable[[Any, int, int], float]:
        """Score a method on fixed validation episodes, embedding only the images they touch."""
        store = self._open("validation")
        lists: dict[tuple[int, int], EpisodeList] = {}

        def validate(method: Any, way: int, shot: int) -> float:
            if (way, shot) not in lists:
                n_query = min(VALIDATION_QUERIES, int(store.counts.min()) - shot)
                seed = stream(self.setting.benchmark.seed, "validation")
                lists[way, shot] = sample(
                    store.counts, min(way, len(store.counts)), shot, n_query, VALIDATION_EPISODES, seed
                )
            episodes = lists[way, shot]
            source = (
                self._in_memory(method, store, episodes.rows())
                if isinstance(method, Embeds)
                else self._images(store)
            )
            given = evaluate.predict(method, episodes, source, self.spec.seed)
            return float(metrics.n_correct(given, episodes.query_label).mean() / episodes.n_query)

        return validate

    def _in_memory(self, method: Embeds, store: ImageStore, rows: IntArray) -> Source:
        with torch.no_grad(), autocast(self.device, self.spec.precision):
            pipeline = self.spec.pipeline
            parts = [
                method.embed(as_input(store, chunk, pipeline, self.device)).float()
                for chunk in np.array_split(rows, max(1, len(rows) // self.spec.embed_batch))
            ]
        return _Rows(rows, torch.cat(parts))

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
        if self.fresh_features:
            table.forget()
        return table

    def _evaluate(self, method: Any, source: Source) -> evaluate.Predictions:
        """Predict every query, from where an interrupted evaluation stopped."""
        path = self.partial / "predictions.npy"
        whole = np.zeros((self.spec.n_episodes, self._episodes.n_query), dtype=np.int64)
        done = 0
        if path.exists():
            saved = np.load(path)
            done = len(saved)
            whole[:done] = saved
            log.info("evaluation resumes after episode %d", done)
        last_saved = time.monotonic()

        def after(start: int, given: evaluate.Predictions) -> None:
            nonlocal last_saved
            end = done + start + len(given)
            whole[end - len(given) : end] = given
            shown.advance(len(given))
            if time.monotonic() - last_saved > _SAVE_EVERY_SECONDS:
                save_array(path, whole[:end])
                last_saved = time.monotonic()

        with stage(self.progress, "evaluate", self.spec.n_episodes, "episodes", done) as shown:
            evaluate.predict(
                method, self._episodes[done:], source, self.spec.seed, first=done, after_batch=after
            )
        return whole

    def _result(
        self,
        method: Any,
        novel: ImageStore,
        predictions: evaluate.Predictions,
        clock: _Clock,
        record: dict[str, Any],
    ) -> RunResult:
        episodes = self._episodes
        counts = Counts(
            n_correct=metrics.n_correct(predictions, episodes.query_label),
            n_query=np.full(len(episodes), episodes.n_query, dtype=np.int64),
            predictions=predictions.astype(metrics.smallest_dtype(episodes.n_way)),
        )
        table = EpisodeTable(
            classes=episodes.classes.astype(np.int32),
            support=episodes.support.astype(np.int32),
            query=episodes.query.astype(np.int32),
            class_names=tuple(novel.class_names),
            class_groups=tuple(novel.groups),
        )
        facts = {
            **provenance.describe(self.device),
            "seconds": {**clock.laps, "fit": record["seconds"]},
            "selection": record["selection"],
            "badges": self._badges(method),
            "parameters": sum(p.numel() for p in method.parameters())
            if isinstance(method, torch.nn.Module)
            else 0,
        }
        return RunResult(self.spec, "done", {"top1": counts}, table, facts, tuple(record["curves"]))

    def _badges(self, method: Any) -> list[str]:
        badges = ["transductive"] if traits(type(method)).transductive else []
        is_selected = "validation" in self.spec.data_digest or not isinstance(method, Stateful)
        badges += [] if is_selected else ["no validation"]
        return badges + (["resized"] if self.spec.image_size != self.setting.benchmark.image_size else [])


class _Rows:
    """Features of a sorted subset of rows, in memory."""

    def __init__(self, rows: IntArray, features: torch.Tensor) -> None:
        self._rows, self._features = rows, features

    def take(self, rows: IntArray) -> torch.Tensor:
        """(n,) rows → (n, *F)."""
        return self._features.index_select(
            0, torch.from_numpy(np.searchsorted(self._rows, rows)).to(self._features.device)
        )


class _Clock:
    """Seconds between laps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name], self._last = now - self._last, now
