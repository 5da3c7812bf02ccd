"""What a run rests on that the recipe "clean" has otherwise, value by value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from harness import benchmarks
from harness.benchmarks import Benchmark
from harness.images.augmentations import ORIGINALS, augmentation, crops_told, is_cropped
from harness.method import Recipe, defaults, hyper
from harness.runs.spec import RunSpec

_USUAL = "originals, where they are kept"  # what training crops are cut from
_FREE = "as many as it asks for"  # training images
_SIZE = "image_size"  # a hyper-parameter of many methods, and a condition of all: told once


def against_clean(spec: RunSpec, cls: type[Any]) -> list[dict[str, str]]:
    """List what is not as in a clean run of the same method on the same benchmark, as texts.

    Args:
        spec: of the run.
        cls: the method's class.

    Returns:
        {name, clean, used} of each value that differs, conditions first; empty where none does.
    """
    benchmark = benchmarks.named(spec.benchmark)
    keys = hyper.layers(benchmark.name, spec.setting, spec.backbone)
    how = spec.augmentation or spec.pipeline
    used = {
        **_conditions(spec.pipeline, spec.augmentation, spec.image_size, spec.n_query, spec.n_episodes),
        "training crops": _crops(how, spec.cut_from),
        "training images": spec.budget or _FREE,
        "selected on": spec.select_on,
        **{name: entry.value for name, entry in sorted(spec.config.items()) if name != _SIZE},
    }
    return _differences(_clean(benchmark, keys, cls), used)


def declared_against_clean(cls: type[Any], recipe: Recipe, key: str) -> list[dict[str, str]]:
    """List what a recipe says under one of its keys that "clean" has otherwise, as ``against_clean`` does."""
    backbone, _, target = key.rpartition("/")
    benchmark = (
        next((b for b in benchmarks.every() if b.name == target), None) or benchmarks.load(target).benchmark
    )
    keys = hyper.layers(benchmark.name, target, backbone or benchmark.backbone)
    said, clean = recipe.conditions_of([key]), _clean(benchmark, keys, cls)
    table = dict(recipe.hyperparameters.get(key, {}))
    used = {
        "pipeline": said.pipeline,
        "augmentation": said.augmentation,
        "image size": table.pop(_SIZE, said.image_size),
        "queries": said.n_query,
        "episodes": said.n_episodes,
        "training crops": {None: None, "originals": _USUAL, "stored": crops_told(0)}.get(
            said.crops_from, "map"
        ),
        "training images": said.n_images,
        "selected on": said.select_on,
    }
    spoken = {name: value for name, value in used.items() if value is not None}
    return _differences(clean, {**spoken, **table})


def _clean(benchmark: Benchmark, keys: tuple[str, ...], cls: type[Any]) -> dict[str, Any]:
    values = hyper.resolve(cls.Config, [defaults(cls)], keys, {}, method=cls.name)
    size = values["image_size"].value if "image_size" in values else None
    n_query = benchmark.settings()[0].n_query
    return {
        **_conditions(
            benchmark.pipeline, "", size or benchmark.image_size, n_query, benchmark.settings()[0].n_episodes
        ),
        "training crops": _crops(benchmark.pipeline, ORIGINALS),
        "training images": _FREE,
        "selected on": "validation",
        **{f.name: f.default for f in dataclasses.fields(cls.Config)},  # of what is left out at its default
        **{name: entry.value for name, entry in values.items()},
    }


def _conditions(pipeline: str, named: str, image_size: int, n_query: int, n_episodes: int) -> dict[str, Any]:
    how = named or f"{augmentation(pipeline).name}, where the method asks for one"
    return {
        "pipeline": pipeline,
        "augmentation": how,
        "image size": image_size,
        "queries": n_query,
        "episodes": n_episodes,
    }


def _differences(clean: Mapping[str, Any], used: Mapping[str, Any]) -> list[dict[str, str]]:
    return [
        {"name": name, "clean": _told(clean.get(name)), "used": _told(value)}
        for name, value in used.items()
        if hyper.as_json(value) != hyper.as_json(clean.get(name))
    ]


def _told(value: Any) -> str:
    return str(hyper.as_json(value))


def _crops(how: str, cut_from: int) -> str:
    if not is_cropped(how):
        return "whole squares"
    return _USUAL if cut_from == ORIGINALS else crops_told(cut_from)
