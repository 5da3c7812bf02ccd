"""A method fitted on a small set of drawn characters, and the few ways in which promises look at it."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness import backbones, benchmarks
from harness.benchmarks.episodes import EpisodeList, IntArray
from harness.benchmarks.sampling import sample
from harness.errors import PluginError
from harness.evaluation import counting
from harness.evaluation.features import FeatureTable, Flat, Images, Source, below_head
from harness.evaluation.protocols import EPISODIC, Predictions
from harness.images.inputs import Inputs
from harness.images.sources import glyphs
from harness.images.stores import ImageStore
from harness.method import (
    Embeds,
    Learns,
    Need,
    defaults,
    encoder_of,
    hyper,
    needs_of,
    registry,
    traits,
    views_of,
)
from harness.method.support import EpisodeBatch, Support
from harness.seeding import stream, torch_generator
from harness.system.progress import Silent
from harness.testing.tiny import PIPELINE, tiny_store
from harness.training.base_set import BaseSet
from harness.training.fit_context import BaseFeatures, FitContext

SECONDS = 60.0  # that a fit may take
SEED = 0  # of every run of the contract
N_QUERY = 5  # of each class
BACKBONE, EMBED_BATCH = "conv4", 80
CPU = torch.device("cpu")
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Problem:
    """One episode as the method's input.

    Attributes:
        support: (W, S, *F) features, or images where the method has no ``embed``.
        query: (n_query, *F).
        index: of the episode, from which its generator comes.
    """

    support: Tensor
    query: Tensor
    index: int

    def for_adapt(self) -> Support:
        """Copy the support side, with a new generator in its first state."""
        way, shot = self.support.shape[:2]
        y = torch.arange(way).repeat_interleave(shot)
        return Support(self.support.flatten(0, 1).clone(), y, way, self.rng())

    def rng(self) -> torch.Generator:
        """Open the episode's generator in its first state."""
        return torch_generator(SEED, "episode", self.index)


@dataclass(frozen=True)
class Fitted:
    """What came of ``fit_base``: a method ready for episodes, or the error that ended it, and its seconds of work."""

    method: Any
    error: Exception | None
    seconds: float


class Workbench:
    """Builds one method, fits it once, and gives it episodes.

    Attributes:
        cls: the method's class.
        traits: its optional attributes.
        is_quick: whether its training, and those that it is built on, end after one pass over the base images.
    """

    def __init__(self, cls: type[Any], given: Mapping[str, Any] = NOTHING, *, is_quick: bool = False) -> None:
        self.cls, self.traits, self._given, self.is_quick = cls, traits(cls), given, is_quick
        self._below: dict[str, Workbench] = {}
        self._scratch = TemporaryDirectory(prefix="fsbench-contract-")

    @property
    def folder(self) -> Path:
        """A folder that goes when the workbench goes."""
        return Path(self._scratch.name)

    @cached_property
    def config(self) -> Any:
        """``DEFAULTS`` for glyphs-5w1s with the class's ``CONTRACT`` above them."""
        keys = (*hyper.layers("glyphs", "glyphs-5w1s", BACKBONE), "CONTRACT")
        layered = [defaults(self.cls), {"CONTRACT": getattr(self.cls, "CONTRACT", {})}]
        name = self.cls.name
        values = hyper.resolve(self.cls.Config, layered, keys, {}, method=name)
        values = hyper.given(self.cls.Config, values, self._given, method=name, by="the method above it")
        return hyper.from_json(self.cls.Config, {name: entry.value for name, entry in values.items()})

    @property
    def image_size(self) -> int:
        """Edge of the images in pixels: the method's own wish, or 28."""
        own = getattr(self.config, "image_size", None)
        return self.below(self.encoder).image_size if self.encoder else own or glyphs.SIDE

    @property
    def encoder(self) -> Need | None:
        """The fit whose features a head is given."""
        return encoder_of(self.cls, self.config)

    @cached_property
    def fit(self) -> Fitted:
        """Fit once, as a run does; afterwards the method is in evaluation mode without gradients."""
        return self.fit_again()

    def fit_again(self, seed: int = SEED) -> Fitted:
        """Fit another instance, with the same seed unless another is given."""
        watch, method = _Stopwatch(), None
        try:
            method = self.build(self.config, BACKBONE, self.image_size, 1, seed)
            self._train(method, seed)
            _demand_copyable(method)
        except Exception as error:  # noqa: BLE001 -- a plugin may raise anything; a promise reports it
            return Fitted(method, error, watch.seconds)
        return Fitted(method, None, watch.seconds)

    def build(self, settled: Any, backbone: str, image_size: int, channels: int, seed: int) -> Any:
        """Make the method with fresh weights, as a run does."""
        torch.manual_seed(stream(seed, "initial weights"))
        uses = self.traits.uses_backbone and not self.traits.is_head
        method = self.cls(settled, backbones.build(backbone, image_size, channels) if uses else nn.Identity())
        if isinstance(method, nn.Module):
            method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return method

    def fresh(self) -> Any:
        """Copy the fitted method, so that no check sees what another left."""
        return copy.deepcopy(self.fit.method)

    @cached_property
    def source(self) -> Source:
        """Features of all novel images, or the images where the method has no ``embed``.

        Raises:
            PluginError: when the features are not well formed.
        """
        return self.source_of("novel")

    def source_of(self, role: benchmarks.RoleName) -> Source:
        """Features of all images of a role, or the images where the method has no ``embed``."""
        return self._source(self.fresh(), tiny_store(role, self.image_size))

    def images(self, n: int) -> Tensor:
        """Take n novel images as ``embed`` is given them: (n, 1, H, W) float32, or their views (n, v, 1, H, W)."""
        store = tiny_store("novel", self.image_size)
        rows = np.linspace(0, len(store) - 1, n).astype(np.int64)  # from all classes
        with Inputs(store, PIPELINE, CPU, views_of(self.fit.method)) as inputs:
            return inputs.take(rows)

    def episodes(self, way: int, shot: int, n: int, n_query: int = N_QUERY) -> EpisodeList:
        """Sample novel episodes, always the same."""
        return sample(tiny_store("novel").counts, way, shot, n_query, n, stream(SEED, "contract"))

    def problem(self, way: int = 5, shot: int = 1, index: int = 0) -> Problem:
        """Gather one novel episode."""
        episode = self.episodes(way, shot, index + 1)[index]
        support = self.source.take(episode.support).unflatten(0, (way, shot))  # (W, S, *F)
        return Problem(support, self.source.take(episode.query), index)

    def predictions(self, method: Any, episodes: EpisodeList) -> Predictions:
        """Predict a list as a run does: (E, n_query)."""
        with steady():
            return EPISODIC.predict(method, episodes, self.source, SEED)

    def _train(self, method: Any, seed: int) -> None:
        torch.manual_seed(stream(seed, "training"))
        rng = torch_generator(seed, "training")
        store = tiny_store("base", self.image_size)
        with TemporaryDirectory(dir=self.folder) as scratch, benchmarks.novel_closed():
            ctx = FitContext(
                Path(scratch), device=CPU, rng=rng, seed=seed, precision="fp32",
                validate=self._validate, progress=_Deadline(), required=_Below(self),
                budget=len(store) if self.is_quick else 0,
            )  # fmt: skip
            if isinstance(method, nn.Module):
                method.train()
            base_set = BaseSet(store, PIPELINE, CPU, rng, ctx.tick, is_spent=ctx.is_spent)
            with closing(ctx), closing(base_set) as base:
                if isinstance(method, Learns):
                    method.fit_base(base, ctx)
        ready(method)

    def below(self, need: Need) -> Workbench:
        """The workbench of a fit that the method is built on."""
        if need not in needs_of(self.cls, self.config):
            raise PluginError(f"ctx.require asks for {need.key}, which requires(config) does not name.")
        if need.key not in self._below:
            loaded = registry.load(need.method)
            self._below[need.key] = _bench_of(loaded, tuple(need.config.items()), self.is_quick)
        return self._below[need.key]

    def _source(self, method: Any, store: ImageStore) -> Source:
        if self.encoder:
            below = self.below(self.encoder)
            fitted = below.fresh()
            embeds = below_head(method, fitted)
            return below._table(embeds, store) if embeds is not fitted else Flat(below._source(fitted, store))
        if not isinstance(method, Embeds):
            return Images(method, store, PIPELINE, CPU)
        return self._table(method, store)

    def _table(self, method: Any, store: ImageStore) -> FeatureTable:
        inputs = Inputs(store, PIPELINE, CPU, views_of(method))
        table = FeatureTable(self.folder / f"features-{store.name}", method, inputs, EMBED_BATCH, "fp32")
        table.forget()  # of the weights an epoch ago
        with steady():
            table.ensure(np.arange(len(store)))
        return table

    def _validate(self, method: Any, way: int, shot: int) -> float:
        store = tiny_store("validation", self.image_size)
        way = min(way, store.n_classes)
        n = 10 if self.is_quick else 40
        episodes = sample(store.counts, way, shot, N_QUERY, n, stream(SEED, "validation"))
        try:
            given = EPISODIC.predict(method, episodes, self._source(method, store), SEED)
        except PluginError:
            return 0.0  # the training is not at fault: the promises about scores say what is wrong
        return float(counting.n_correct(given, episodes.query_label).mean() / episodes.n_query)


@torch.no_grad()
def scores(method: Any, problem: Problem) -> Tensor:
    """Adapt and predict on copies of a problem's tensors: (n_query, W)."""
    with steady():
        return method.predict(method.adapt(problem.for_adapt()), problem.query.clone())


@torch.no_grad()
def batch_scores(method: Any, problems: list[Problem]) -> Tensor:
    """Predict several episodes at once: (E, n_query, W)."""
    with steady():
        return method.predict_batch(batch_of(problems))


def batch_of(problems: list[Problem]) -> EpisodeBatch:
    """Stack problems of one shape for ``predict_batch``."""
    support = torch.stack([p.support for p in problems])  # (E, W, S, *F)
    query = torch.stack([p.query for p in problems])  # (E, n_query, *F)
    return EpisodeBatch(support, query, [p.rng() for p in problems])


@contextmanager
def steady() -> Iterator[None]:
    """Give global randomness the same state each time, so that a promise does not break for it but the one on it."""
    with preserved_random_state():
        torch.manual_seed(SEED)
        np.random.seed(SEED)  # noqa: NPY002 -- plugins may use the global state; here it is held still
        random.seed(SEED)
        yield


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Put the global random states of torch, numpy and Python back afterwards."""
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002 -- as above
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])  # noqa: NPY002 -- as above
        random.setstate(before[2])


def ready(method: Any) -> None:
    """Bring a fitted method to evaluation mode, without gradients, as a run does."""
    if isinstance(method, nn.Module):
        method.eval().requires_grad_(False)


def _demand_copyable(method: Any) -> None:
    try:
        copy.deepcopy(method)
    except Exception as error:
        raise PluginError(
            f"The fitted method cannot be copied ({type(error).__name__}: {error}). Keep plain values, modules and "
            "detached tensors in it."
        ) from error


@cache
def _bench_of(method: registry.Loaded, given: tuple[tuple[str, Any], ...], is_quick: bool) -> Workbench:
    """One fit below all methods that are built on it."""
    return Workbench(method.cls, dict(given), is_quick=is_quick)


class _Below:
    """Gives the small fits of the methods that one is built on."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._given: list[tuple[Any, Workbench]] = []

    def fitted(self, need: Need) -> Any:
        """The method of a need, fitted and frozen."""
        bench = self._bench.below(need)
        if bench.fit.error is not None:
            raise PluginError(f"The fit of {need.key} failed: {bench.fit.error}") from bench.fit.error
        self._given.append((bench.fresh(), bench))
        return self._given[-1][0]

    def source(self, head: Any, store: ImageStore, rows: IntArray) -> Source:
        """The features of some images that a head is given."""
        return self._bench._source(head, store)

    def features(self, fitted: Any, role: benchmarks.RoleName) -> BaseFeatures:
        """Its features of all images of a role."""
        bench = next((bench for known, bench in self._given if known is fitted), None)
        if bench is None or not isinstance(fitted, Embeds) or role == "novel":
            raise PluginError("ctx.features takes what ctx.require gave, and base or validation images.")
        store = tiny_store(role, bench.image_size)
        x = bench.source_of(role).take(np.arange(len(store)))
        return BaseFeatures(x, torch.from_numpy(store.label))


class _Stopwatch:
    """Measures work: on a busy machine the clock runs ahead of it, with idle threads that spin the CPU time does."""

    def __init__(self) -> None:
        self._clock, self._cpu = time.perf_counter(), time.process_time()

    @property
    def seconds(self) -> float:
        """The shorter of clock and CPU time so far."""
        return min(time.perf_counter() - self._clock, time.process_time() - self._cpu)


class _Deadline(Silent):
    """Ends a training that goes on for too long, at the end of an epoch or a batch."""

    def __init__(self) -> None:
        self._watch = _Stopwatch()

    def advance(self, n: int, note: str = "", part: float = 0.0) -> None:
        """Look at the clock."""
        if self._watch.seconds > SECONDS:
            raise TimeoutError(f"stopped after {SECONDS:.0f} s")
