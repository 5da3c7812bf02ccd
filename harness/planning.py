"""From what was typed to RunSpecs: method, setting, hyper-parameters, images and seed, all resolved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from harness import benchmarks, config, registry
from harness.benchmarks import ROLES, Setting
from harness.errors import ConfigError, nearest
from harness.method import defaults, recipes, traits
from harness.runs import ConfigValue, Precision, RunSpec


@dataclass(frozen=True)
class Options:
    """What a user may say about a run beside method, setting and seed.

    Attributes:
        overrides: ``--set`` texts by key.
        recipe, backbone, precision: names; backbone None means the benchmark's.
        n_episodes: None means the setting's standard count.
        pipeline: None means the benchmark's.
    """

    overrides: Mapping[str, str] = field(default_factory=dict)
    recipe: str = "clean"
    backbone: str | None = None
    precision: Precision = "fp32"
    n_episodes: int | None = None
    pipeline: str | None = None


def plan(
    methods: Sequence[str], settings: Sequence[str], seeds: Sequence[int], options: Options, data: Path
) -> list[RunSpec]:
    """Resolve every combination.

    Args:
        methods, settings: names, globs or (methods) files.
        seeds: run seeds.
        options: everything else.
        data: where prepared images are.

    Returns:
        One spec per method × setting × seed, in that order.

    Raises:
        FsbenchError: for the first thing that cannot be run, with what to type.
    """
    references = _unique(name for pattern in methods for name in registry.expand(pattern))
    chosen = {s.name: s for pattern in settings for s in benchmarks.expand(pattern)}
    return [
        make_spec(reference, setting, seed, options, data)
        for reference in references
        for setting in chosen.values()
        for seed in seeds
    ]


def make_spec(reference: str, setting: Setting, seed: int, options: Options, data: Path) -> RunSpec:
    """Resolve one run.

    Raises:
        ConfigError: unknown method, recipe or hyper-parameter, an episode count beyond the list, or a protocol
            that the method does not speak.
        DataError: when the images are not prepared.
    """
    method = registry.load(reference)
    benchmark, own = setting.benchmark, traits(method.cls)
    if benchmark.protocol not in own.protocols:
        raise ConfigError(
            f"{method.reference.name} speaks the {', '.join(sorted(own.protocols))} protocol; {benchmark.key} is "
            f"{benchmark.protocol}. `fsbench methods` shows which methods fit."
        )
    backbone = (options.backbone or benchmark.backbone) if own.uses_backbone else "none"
    resolved = _resolve(method, setting, backbone, options)
    image_size = getattr(resolved.config, "image_size", None) or benchmark.image_size
    pipeline = options.pipeline or benchmark.pipeline
    stores = {
        role: benchmark.open(role, data, options.pipeline, image_size)
        for role in ROLES
        if role in benchmark.roles
    }
    return RunSpec(
        method=method.reference,
        benchmark=benchmark.key,
        setting=setting.name,
        n_way=setting.way,
        shot=setting.shot,
        n_query=setting.n_query,
        n_episodes=_n_episodes(setting, options.n_episodes),
        config=_values(method.cls.Config, resolved),
        backbone=backbone,
        image_size=image_size,
        channels=benchmark.channels,
        pipeline=pipeline,
        episode_digest=setting.digest,
        data_digest={role: store.digest for role, store in stores.items()},
        seed=seed,
        recipe=options.recipe,
        precision=options.precision,
    )


def grouped(specs: Iterable[RunSpec]) -> Iterator[list[RunSpec]]:
    """Bring runs that share a fit together, keeping the order in which fits first appear."""
    order: dict[str, int] = {}
    specs = list(specs)
    for spec in specs:
        order.setdefault(spec.fit_key, len(order))
    for _, group in groupby(sorted(specs, key=lambda s: order[s.fit_key]), key=lambda s: s.fit_key):
        yield list(group)


def _resolve(method: registry.Loaded, setting: Setting, backbone: str, options: Options) -> config.Resolved:
    known = recipes(method.cls)
    name = method.reference.name
    if options.recipe not in known:
        raise ConfigError(
            f"`{options.recipe}` is not a recipe of {name}.{nearest(options.recipe, known)} Known: {', '.join(known)}."
        )
    benchmark = setting.benchmark
    keys = config.layers(benchmark.name, setting.name, backbone)
    layered = [defaults(method.cls), known[options.recipe]]
    return config.resolve(method.cls.Config, layered, keys, options.overrides, method=name)


def _values(config_class: type[Any], resolved: config.Resolved) -> dict[str, ConfigValue]:
    return {
        name: ConfigValue(
            config.as_json(getattr(resolved.config, name)), origin, config.phase_of(config_class, name)
        )
        for name, origin in resolved.origins.items()
    }


def _n_episodes(setting: Setting, asked: int | None) -> int:
    if asked is None:
        return setting.n_episodes
    if not 1 <= asked <= setting.list_length:
        raise ConfigError(
            f"--episodes {asked}: the list of {setting.name} has {setting.list_length} episodes."
        )
    return asked


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
