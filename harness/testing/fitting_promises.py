"""Promises about building, fitting, embedding and saving a method: docstrings are the promises."""

from __future__ import annotations

import dataclasses
import json
import typing

import numpy as np
import torch

from harness import benchmarks
from harness.errors import ConfigError, DataError, PluginError, StoreError
from harness.images.augmentations import augmentation
from harness.images.pipelines import pipeline
from harness.method import Embeds, Recipe, defaults, hyper, recipes
from harness.testing.promise import NotChecked, demand, demand_close
from harness.testing.workbench import BACKBONE, CPU, SECONDS, SEED, Workbench, ready, scores, steady
from harness.training.checkpoints import Fit, Stateful


def builds_from_every_entry(bench: Workbench) -> str:
    """Every DEFAULTS and recipe entry names a benchmark and known hyper-parameters, and the method builds from it."""
    own = defaults(bench.cls)
    entries = [([own], key) for key in own]
    for recipe in recipes(bench.cls).values():
        entries += [([own, recipe.hyperparameters], key) for key in recipe.keys]
        _name_what_there_is(bench, recipe)
    for layered, key in entries:
        _build_from(bench, layered, key)
    return f"{len(entries)} entries"


def _name_what_there_is(bench: Workbench, recipe: Recipe) -> None:
    """Refuse conditions with a pipeline or an augmentation that does not exist."""
    for key, said in recipe.conditions.items():
        try:
            pipeline(said.pipeline or "stored")
            augmentation(said.augmentation or "none")
        except ConfigError as error:
            raise PluginError(f"The conditions of {key!r} of {bench.cls.name}: {error}") from error


def _build_from(bench: Workbench, layered: list[hyper.Defaults], key: str) -> None:
    backbone, _, target = key.rpartition("/")
    try:
        known = {b.name: b for b in benchmarks.every()}
        benchmark = known.get(target) or benchmarks.load(target).benchmark
        backbone = backbone or benchmark.backbone
        keys = hyper.layers(benchmark.name, target, backbone)
        resolved = hyper.resolve(bench.cls.Config, layered, keys, {}, method=bench.cls.name)
        values = {name: entry.value for name, entry in resolved.items()}
        try:
            sent = hyper.from_json(bench.cls.Config, json.loads(json.dumps(values)))
        except TypeError:  # a type that cannot be written: `config_is_documented` says so
            return
        written = {name: value for table in layered for k in keys for name, value in table.get(k, {}).items()}
        settled = bench.cls.Config(**written)
        size = getattr(settled, "image_size", None) or benchmark.image_size
        bench.build(settled, backbone, size, benchmark.channels, SEED)
    except ConfigError as error:
        raise PluginError(f"The entry {key!r} of {bench.cls.name}: {error}") from error
    demand(sent == settled, f"The entry {key!r} does not survive JSON: {settled} comes back as {sent}.")


def config_is_documented(bench: Workbench) -> str:
    """Every hyper-parameter has a description, and a type that `--set` can read."""
    hints, problems = typing.get_type_hints(bench.cls.Config), []
    for field in dataclasses.fields(bench.cls.Config):
        name, value = field.name, field.default
        if value is dataclasses.MISSING or not str(field.metadata.get("doc", "")).strip():
            problems.append(f"`{name}` is not declared as hyper(default, description)")
            continue
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        try:
            read = hyper.parse(text, hints[name])
        except ValueError as error:
            problems.append(f"--set {name}={text} fails: {error}")
        else:
            problems += [f"--set {name}={text} is read as {read!r}, not {value!r}"] if read != value else []
    demand(not problems, "; ".join(problems) + ".")
    return ""


def keeps_novel_closed(bench: Workbench) -> str:
    """`fit_base` opens no novel image."""
    if isinstance(bench.fit.error, DataError):
        raise AssertionError(f"fit_base asked for images that are not open to it: {bench.fit.error}")
    if bench.fit.error:
        raise NotChecked("not checked: fit_base did not finish")
    return ""


def fits_in_seconds(bench: Workbench) -> str:
    """`fit_base` takes less than a minute for 16 classes of 20 images on a CPU."""
    error, seconds = bench.fit.error, bench.fit.seconds
    if seconds > SECONDS:
        raise AssertionError(
            f"fit_base took {seconds:.0f} s, more than {SECONDS:.0f} s. Give the class a smaller training for "
            'this check, such as CONTRACT = {"epochs": 1}.'
        ) from error
    if error:
        raise error
    return f"{seconds:.1f} s"


def features_are_well_formed(bench: Workbench) -> str:
    """`embed` gives one finite feature per image, all of one shape."""
    _demand_embed(bench)
    return f"F = {tuple(bench.source.take(np.arange(1)).shape[1:])}"


@torch.no_grad()
def embed_is_independent(bench: Workbench) -> str:
    """An image's feature does not depend on the other images of its batch."""
    _demand_embed(bench)
    method, images = bench.fresh(), bench.images(12)
    with steady():
        together = method.embed(images.clone())
        alone = torch.cat([method.embed(image.clone()) for image in images.split(1)])
        pairs = torch.cat([method.embed(pair.flip(0)).flip(0) for pair in images.split(2)])
    demand_close(alone, together, "Images embedded one at a time and together have other features")
    demand_close(pairs, together, "Images embedded in pairs and together have other features")
    return ""


@torch.no_grad()
def survives_a_checkpoint(bench: Workbench) -> str:
    """A fresh instance with the saved weights has the same features and scores (without weights: a second fit)."""
    if isinstance(bench.fit.method, Stateful):
        fit = Fit(bench.folder, "contract")
        other = bench.build(bench.config, BACKBONE, bench.image_size, 1, SEED + 1)
        try:
            fit.finish(bench.fresh(), {})
            fit.restore(other, CPU)
        except StoreError as error:
            raise AssertionError(f"The weights cannot be saved and loaded. {error}") from error
        ready(other)
    else:
        again = bench.fit_again()
        if again.error:
            raise again.error
        other = again.method
    problem, images = bench.problem(shot=3), bench.images(8)
    if isinstance(other, Embeds):
        expected = bench.fresh().embed(images.clone())
        demand_close(other.embed(images.clone()), expected, "Features are other ones after restoring")
    expected = scores(bench.fresh(), problem)
    demand_close(scores(other, problem), expected, "Scores are other ones after restoring")
    return ""


@torch.no_grad()
def untrained_means_it(bench: Workbench) -> str:
    """Another seed gives the same features and scores (where `untrained`)."""
    if not bench.traits.untrained:
        raise NotChecked("does not apply: it is trained")
    other = bench.fit_again(SEED + 1)
    if other.error:
        raise other.error
    problem, images = bench.problem(shot=3), bench.images(8)
    if isinstance(other.method, Embeds):
        expected = bench.fresh().embed(images.clone())
        demand_close(other.method.embed(images.clone()), expected, "Another seed gives other features")
    demand_close(
        scores(other.method, problem), scores(bench.fresh(), problem), "Another seed gives other scores"
    )
    return ""


def _demand_embed(bench: Workbench) -> None:
    if not isinstance(bench.fit.method, Embeds):
        raise NotChecked("does not apply: it has no embed")
