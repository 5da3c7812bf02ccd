"""A method fitted on a small set of drawn characters, and the few ways in which promises look at it."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from harness import backbones, benchmarks, config, evaluate, metrics
from harness.baseset import BaseSet, as_input
from harness.data import glyphs
from harness.data.images import ImageStore, store_of_arrays
from harness.data.pipelines import pipeline
from harness.features import Images, Source
from harness.fitting import FitContext
from harness.method import Embeds, defaults, traits
from harness.progress import Silent
from harness.sampling import sample
from harness.seeding import stream, torch_generator
from harness.types import EpisodeBatch, EpisodeList, IntArray, Support

SECONDS = 60.0  # that a fit may take
SEED = 0  # of every run of the contract
# Whole alphabets of the glyphs benchmark, all from its base classes: nobody tunes on its novel ones here.
CLASSES = {"base": slice(0, 16), "validation": slice(16, 24), "novel": slice(24, 40)}
N_IMAGES = 20  # of each class
N_QUERY = 5  # of each class
PIPELINE, BACKBONE = "stored", "conv4"
CPU = torch.device("cpu")


@cache
def tiny_store(role: benchmarks.RoleName, size: int = glyphs.SIDE) -> ImageStore:
    """Make the small set of one role: 16 base, 8 validation or 16 novel characters, 20 drawings of each.

    Args:
        role: "base", "validation" or "novel".
        size: edge in pixels.

    Returns:
        A store in memory; its pipeline is "stored", with one channel.
    """
    drawn, classes = _drawings(), CLASSES[role]
    pixels = drawn.pixels[classes, :N_IMAGES]  # (C, n, 28, 28)
    geometry = pipeline(PIPELINE).geometry
    resized = np.stack([geometry(Image.fromarray(p), size) for p in pixels.reshape(-1, *pixels.shape[2:])])
    resized = resized.reshape(*pixels.shape[:2], size, size, 1)
    names, groups = drawn.class_names[classes], drawn.groups[classes]
    return store_of_arrays(f"tiny {role}", resized, names, groups, PIPELINE)


@cache
def _drawings() -> glyphs.GlyphSet:
    return glyphs.draw()


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
    """What came of ``fit_base``: a method ready for episodes, or the error that ended it."""

    method: Any
    error: Exception | None
    seconds: float


class Workbench:
    """Builds one method, fits it once, and gives it episodes.

    Attributes:
        cls: the method's class.
        traits: its optional attributes.
    """

    def __init__(self, cls: type[Any]) -> None:
        self.cls, self.traits = cls, traits(cls)
        self._scratch = TemporaryDirectory(prefix="fsbench-contract-")

    @property
    def folder(self) -> Path:
        """A folder that goes when the workbench goes."""
        return Path(self._scratch.name)

    @cached_property
    def config(self) -> Any:
        """``DEFAULTS`` for glyphs-5w1s with the class's ``CONTRACT`` above them."""
        keys = (*config.layers("glyphs", "glyphs-5w1s", BACKBONE), "CONTRACT")
        layered = [defaults(self.cls), {"CONTRACT": getattr(self.cls, "CONTRACT", {})}]
        return config.resolve(self.cls.Config, layered, keys, {}, method=self.cls.name).config

    @property
    def image_size(self) -> int:
        """Edge of the images in pixels: the method's own wish, or 28."""
        return getattr(self.config, "image_size", None) or glyphs.SIDE

    @cached_property
    def fit(self) -> Fitted:
        """Fit once, as a run does; afterwards the method is in evaluation mode without gradients."""
        return self.fit_again()

    def fit_again(self) -> Fitted:
        """Fit another instance with the same seed."""
        began, method = time.perf_counter(), None
        try:
            method = self.build(self.config, BACKBONE, self.image_size, 1, SEED)
            self._train(method)
            copy.deepcopy(method)
        except Exception as error:  # noqa: BLE001 -- a plugin may raise anything; a promise reports it
            return Fitted(method, error, time.perf_counter() - began)
        return Fitted(method, None, time.perf_counter() - began)

    def build(self, settled: Any, backbone: str, image_size: int, channels: int, seed: int) -> Any:
        """Make the method with fresh weights, as a run does."""
        torch.manual_seed(stream(seed, "initial weights"))
        uses = self.traits.uses_backbone
        method = self.cls(settled, backbones.build(backbone, image_size, channels) if uses else nn.Identity())
        if isinstance(method, nn.Module):
            method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return method

    def fresh(self) -> Any:
        """Copy the fitted method, so that no check sees what another left."""
        return copy.deepcopy(self.fit.method)

    @cached_property
    def source(self) -> Source:
        """Features of all novel images, or the images where the method has no ``embed``."""
        return _source(self.fresh(), tiny_store("novel", self.image_size))

    def images(self, n: int) -> Tensor:
        """Take n novel images as ``embed`` is given them: (n, 1, H, W) float32."""
        store = tiny_store("novel", self.image_size)
        rows = np.linspace(0, len(store) - 1, n).astype(np.int64)  # from all classes
        return as_input(store, rows, PIPELINE, CPU)

    def episodes(self, way: int, shot: int, n: int, n_query: int = N_QUERY) -> EpisodeList:
        """Sample novel episodes, always the same."""
        return sample(tiny_store("novel").counts, way, shot, n_query, n, stream(SEED, "contract"))

    def problem(self, way: int = 5, shot: int = 1, index: int = 0) -> Problem:
        """Gather one novel episode."""
        episode = self.episodes(way, shot, index + 1)[index]
        support = self.source.take(episode.support).unflatten(0, (way, shot))  # (W, S, *F)
        return Problem(support, self.source.take(episode.query), index)

    def predictions(self, method: Any, episodes: EpisodeList) -> evaluate.Predictions:
        """Predict a list as a run does: (E, n_query)."""
        with steady():
            return evaluate.predict(method, episodes, self.source, SEED)

    def _train(self, method: Any) -> None:
        torch.manual_seed(stream(SEED, "training"))
        rng = torch_generator(SEED, "training")
        store = tiny_store("base", self.image_size)
        with TemporaryDirectory(dir=self.folder) as scratch, benchmarks.novel_closed():
            ctx = FitContext(
                Path(scratch), device=CPU, rng=rng, seed=SEED, precision="fp32",
                validate=self._validate, progress=_Deadline(),
            )  # fmt: skip
            if isinstance(method, nn.Module):
                method.train()
            method.fit_base(BaseSet(store, PIPELINE, CPU, rng), ctx)
        if isinstance(method, nn.Module):
            method.eval().requires_grad_(False)

    def _validate(self, method: Any, way: int, shot: int) -> float:
        store = tiny_store("validation", self.image_size)
        way = min(way, store.n_classes)
        episodes = sample(store.counts, way, shot, N_QUERY, 40, stream(SEED, "validation"))
        given = evaluate.predict(method, episodes, _source(method, store), SEED)
        return float(metrics.n_correct(given, episodes.query_label).mean() / episodes.n_query)


@torch.no_grad()
def scores(method: Any, problem: Problem) -> Tensor:
    """Adapt and predict on copies of a problem's tensors: (n_query, W)."""
    with steady():
        return method.predict(method.adapt(problem.for_adapt()), problem.query.clone())


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


def _source(method: Any, store: ImageStore) -> Source:
    if not isinstance(method, Embeds):
        return Images(store, PIPELINE, CPU)
    with torch.no_grad(), steady():
        parts = [
            method.embed(as_input(store, rows, PIPELINE, CPU))
            for rows in np.array_split(np.arange(len(store)), len(store) // 80)
        ]
    return _Table(torch.cat(parts))


class _Table:
    """Features of every row, in memory."""

    def __init__(self, features: Tensor) -> None:
        self._features = features

    def take(self, rows: IntArray) -> Tensor:
        """(n,) rows → (n, *F), a copy."""
        return self._features[torch.from_numpy(rows)]


class _Deadline(Silent):
    """Ends a training that goes on for too long, at the end of an epoch."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def advance(self, n: int, note: str = "") -> None:
        """Look at the clock."""
        if time.perf_counter() - self._began > SECONDS:
            raise TimeoutError(f"stopped after {SECONDS:.0f} s")
