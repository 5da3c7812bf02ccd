"""A fitted method, whatever it takes: train it, go on with its training, load it, or import its weights.

What a fit is built on is fitted before, and shared by all that require it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from harness import benchmarks
from harness.benchmarks.episodes import IntArray
from harness.errors import ConfigError, PluginError
from harness.evaluation.features import FeatureTable, Flat, Source, below_head, features_of
from harness.images.stores import ImageStore
from harness.method import Embeds, Need, official_weights
from harness.method.hyper import ConfigValue
from harness.runs import badges
from harness.runs.spec import FitSpec
from harness.seeding import torch_generator
from harness.system.folders import Places
from harness.system.locks import claim
from harness.system.progress import Progress
from harness.training import launch
from harness.training.base_set import BaseSet
from harness.training.build import Workplace, build, open_role
from harness.training.checkpoints import Fit, Stateful
from harness.training.fit_context import BaseFeatures
from harness.training.processes import World
from harness.training.train import train

log = logging.getLogger("fsbench.job")


class Fitted(NamedTuple):
    """A fitted method, frozen, and the record of its training."""

    method: Any
    record: dict[str, Any]


def fitted(fit: FitSpec, at: Workplace, config: Mapping[str, ConfigValue] | None = None) -> Fitted:
    """Have a fitted method; one process at a time for each fit.

    Args:
        fit: its training.
        at: where.
        config: the hyper-parameters of a run, those of phase "adapt" too; None for those of the training.
    """
    method, kept = build(fit, at, config or fit.config), Fit(at.places.cache, fit.fit_key)
    for need in fit.required.values() if not kept.is_done else ():
        fitted(need, at)
    with claim(kept.folder / "lock", f"the training of {fit.method.name}"):
        if not isinstance(method, Stateful) and not fit.weights_sha256:
            return Fitted(method, train(method, fit, at, Required(fit, at)))
        if kept.is_done:
            log.info("the fit %s is there already", fit.fit_key)
        else:
            _make(fit, at, kept)
        kept.restore(method, at.device)
    return Fitted(_frozen(method), kept.record())


class Encoder(NamedTuple):
    """What embeds images for a method: itself, or the fit that it is a head of.

    Attributes:
        method: frozen, with ``embed``.
        fit: whose key its feature tables have.
        is_flat: whether the method is given vectors, whatever shape a feature has.
    """

    method: Any
    fit: FitSpec
    is_flat: bool = False

    def source(self, table: Source) -> Source:
        """The table as the method is given it."""
        return Flat(table) if self.is_flat else table


def encoder_of(spec: FitSpec, method: Any, at: Workplace) -> Encoder | None:
    """What embeds images for a fitted method; None where it is given images."""
    if spec.encoder:
        fit = spec.required[spec.encoder]
        below = fitted(fit, at).method
        embeds = below_head(method, below)
        return Encoder(embeds, fit, is_flat=embeds is below)
    return Encoder(method, spec) if isinstance(method, Embeds) else None


def _make(fit: FitSpec, at: Workplace, kept: Fit) -> None:
    """Leave the fit on disk.

    The method is built without "adapt" values: the fit's key does not hold them, so they must not choose the epoch either.
    """
    if fit.weights_sha256:
        _import(build(fit, at, fit.config), fit, at, kept)
    elif fit.world_size > 1:
        work = partial(_train_as, fit=fit, places=at.places, sources=dict(at.sources))
        launch.together(work, fit.world_size, at.device, at.progress)
    else:
        train(build(fit, at, fit.config, is_start=True), fit, at, Required(fit, at))


def _train_as(
    world: World, device: torch.device, progress: Progress, *, fit: FitSpec, places: Places, sources: Mapping[str, str]
) -> None:  # fmt: skip
    """Train as one of several processes."""
    at = Workplace(places, device, progress, sources)
    train(build(fit, at, fit.config, is_start=True), fit, at, Required(fit, at), world)


def _import(method: Any, fit: FitSpec, at: Workplace, kept: Fit) -> None:
    """Take weights that others trained in place of a training."""
    file = official_weights.kept(at.places.cache, fit.weights_sha256)
    imported = official_weights.import_weights(method, file, fit.weights_sha256)
    with benchmarks.novel_closed():
        if fit.encoder:
            _check_features(method, fit, at, imported)
        elif hasattr(method, "settle"):
            rng = torch_generator(fit.seed, "training")
            with closing(BaseSet(open_role(fit, "base", at), fit.pipeline, at.device, rng)) as base:
                method.settle(base)
    record = {"seconds": 0.0, "curves": [], "selection": {}, "weights": asdict(imported)}
    kept.finish(method, {**record, "saw": badges.saw(fit, benchmarks.named(fit.benchmark))})


def _check_features(head: Any, fit: FitSpec, at: Workplace, imported: official_weights.Imported) -> None:
    """Refuse a head whose imported weights are made for other features than it is given.

    Raises:
        ConfigError: saying what differs.
    """
    store, first = open_role(fit, "base", at), np.arange(1)
    dim = Required(fit, at).source(head, store, first).take(first).shape[1]
    try:
        head.check_features(len(store.counts), dim)
    except ValueError as error:
        raise ConfigError(f"{imported.file} does not fit {fit.called} on {fit.benchmark}: {error}") from error


def _frozen(method: Any) -> Any:
    if isinstance(method, torch.nn.Module):
        method.eval().requires_grad_(False)
    return method


class Required:
    """The fits that a training is built on; they are there before it begins."""

    def __init__(self, fit: FitSpec, at: Workplace) -> None:
        self._by, self._at = fit, at
        self._given: list[tuple[Any, FitSpec]] = []
        self._encoder: Encoder | None = None

    def fitted(self, need: Need) -> Any:
        """The method of a need, fitted and frozen.

        Raises:
            PluginError: when it was not planned.
        """
        fit = self._by.required.get(need.key)
        if fit is None:
            known = ", ".join(self._by.required) or "none"
            raise PluginError(
                f"{self._by.method.name} asks for the fit {need.key}, which its requires(config) does not name "
                f"(it names {known}); name it there by the same words."
            )
        method = fitted(fit, self._at).method
        self._given.append((method, fit))
        return method

    def source(self, head: Any, store: ImageStore, rows: IntArray) -> Source:
        """The features of some images that a head is given, embedded once whoever asks."""
        self._encoder = self._encoder or encoder_of(self._by, head, self._at)
        assert self._encoder, "only heads ask"
        method, fit, _ = self._encoder
        return self._encoder.source(self._table(method, fit, store, rows))

    def features(self, method: Any, role: benchmarks.RoleName) -> BaseFeatures:
        """Its features of all images of a role.

        Raises:
            PluginError: when the method did not come from ``fitted``, or has no ``embed``.
        """
        fit = next((fit for known, fit in self._given if known is method), None)
        if fit is None or not isinstance(method, Embeds):
            raise PluginError(
                f"{self._by.method.name}: ctx.features takes a method with `embed` that ctx.require gave."
            )
        if role == "novel" or role not in fit.data_digest:
            there = ", ".join(fit.data_digest)
            raise PluginError(f"{self._by.method.name}: ctx.features of {role} images; there are {there}.")
        store = open_role(fit, role, self._at)
        table = self._table(method, fit, store, np.arange(len(store)))
        return BaseFeatures(table.tensor, torch.from_numpy(store.label))

    def _table(self, method: Any, fit: FitSpec, store: ImageStore, rows: IntArray) -> FeatureTable:
        cache = self._at.places.cache
        with claim(Fit(cache, fit.fit_key).folder / "lock", f"the features of {fit.method.name}"):
            table = features_of(method, store, fit, cache, self._at.device)
            table.ensure(rows, self._at.progress)
        return table
