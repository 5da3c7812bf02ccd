"""From what was typed to RunSpecs: method, setting, hyper-parameters, images and seed, all resolved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness import benchmarks
from harness.backbones import check_name
from harness.benchmarks import ROLES, Benchmark, Setting, leaks
from harness.errors import ConfigError, FsbenchError, nearest
from harness.images.augmentations import is_cropped
from harness.method import defaults, hyper, recipes, registry, traits
from harness.runs.result import ConfigValue, Precision, RunSpec
from harness.runs.spec import SelectionRole


@dataclass(frozen=True)
class Options:
    """What a user may say about a run beside method, setting and seed.

    Attributes:
        overrides: ``--set`` texts by key.
        recipe, backbone, precision: names; backbone None means the benchmark's.
        n_episodes: None means the setting's standard count.
        pipeline: None means the benchmark's.
        weights: file of weights to import in place of a training.
        seen: what they were trained on, as ``leaks.named`` reads it.
        select_on, is_compiled, world_size: as in RunSpec.
        uses_stored_crops: whether random training crops are cut from the stored squares all the same.
        allow_leak: whether runs whose novel classes were seen in training are planned all the same.
    """

    overrides: Mapping[str, str] = field(default_factory=dict)
    recipe: str = "clean"
    backbone: str | None = None
    precision: Precision = "fp32"
    n_episodes: int | None = None
    pipeline: str | None = None
    weights: Path | None = None
    seen: Sequence[str] = ()
    allow_leak: bool = False
    select_on: SelectionRole = "validation"
    is_compiled: bool = False
    world_size: int = 1
    uses_stored_crops: bool = False


def plan(
    methods: Sequence[str], settings: Sequence[str], seeds: Sequence[int], options: Options, data: Path
) -> list[RunSpec]:
    """Resolve every combination.

    Each method is loaded, each combination resolved and each image set opened once, however many seeds there are.

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
    loaded = [registry.load(name) for name in _unique(n for m in methods for n in registry.expand(m))]
    chosen = {s.name: s for pattern in settings for s in benchmarks.expand(pattern)}
    images = Images(data)
    weights_sha256 = _weights(options, loaded)
    templates = (
        make_spec(method, setting, options, images) for method in loaded for setting in chosen.values()
    )
    return [
        replace(template, seed=seed, weights_sha256=weights_sha256)
        for template in templates
        for seed in seeds
    ]


class Images:
    """The digests of prepared images; a set that several runs share is opened once."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._known: dict[tuple[str, str, int], dict[str, str]] = {}
        self._edges: dict[tuple[str, str, int], int] = {}

    def digests(self, benchmark: Benchmark, pipeline: str, image_size: int) -> dict[str, str]:
        """Role → digest of its images, as the pipeline gives them.

        Raises:
            DataError: when the images are not prepared.
        """
        key = benchmark.key, pipeline, image_size
        if key not in self._known:
            self._known[key] = {
                role: benchmark.open(role, self._data, pipeline, image_size).digest
                for role in ROLES
                if role in benchmark.roles
            }
        return self._known[key]

    def cut_from(self, benchmark: Benchmark, pipeline: str, image_size: int) -> int:
        """Edge of the whole pictures that random training crops are cut from; 0 where nothing is, or from the squares."""
        if not is_cropped(pipeline):
            return 0
        key = benchmark.key, pipeline, image_size
        if key not in self._edges:
            base = benchmark.open("base", self._data, pipeline, image_size)
            self._edges[key] = base.whole_edge(image_size, pipeline)
        return self._edges[key]

    def channels(self, benchmark: Benchmark, pipeline: str, image_size: int) -> int:
        """Channels of the prepared images, for benchmarks that leave them open."""
        return benchmark.open("base", self._data, pipeline, image_size).shape[2]


def make_spec(method: registry.Loaded, setting: Setting, options: Options, images: Images) -> RunSpec:
    """Resolve one method on one setting, with seed 0.

    Raises:
        ConfigError: unknown recipe or hyper-parameter, an episode count beyond the list, a protocol that the
            method does not speak, or novel classes that were seen in training.
        DataError: when the images are not prepared.
    """
    benchmark, own = setting.benchmark, traits(method.cls)
    if benchmark.protocol not in own.protocols:
        raise ConfigError(
            f"{method.reference.name} speaks the {', '.join(sorted(own.protocols))} protocol; {benchmark.key} is "
            f"{benchmark.protocol}. `fsbench methods` shows which methods fit."
        )
    check_name(options.backbone or benchmark.backbone)
    backbone = (options.backbone or benchmark.backbone) if own.uses_backbone else "none"
    resolved = _resolve(method, setting, backbone, options)
    _refuse_leak(setting, options)
    image_size = getattr(resolved.config, "image_size", None) or benchmark.image_size
    pipeline = options.pipeline or benchmark.pipeline
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
        channels=benchmark.channels or images.channels(benchmark, pipeline, image_size),
        pipeline=pipeline,
        episode_digest=setting.digest,
        data_digest=images.digests(benchmark, pipeline, image_size),
        seed=0,
        recipe=options.recipe,
        precision=options.precision,
        seen=tuple(options.seen),
        select_on=options.select_on,
        is_compiled=options.is_compiled,
        world_size=options.world_size,
        cut_from=0 if options.uses_stored_crops else images.cut_from(benchmark, pipeline, image_size),
    )


def grouped(specs: Iterable[RunSpec]) -> list[list[RunSpec]]:
    """Bring runs that share a fit together, keeping the order in which fits first appear."""
    groups: dict[str, list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault(spec.fit_key, []).append(spec)
    return list(groups.values())


def _weights(options: Options, methods: Sequence[registry.Loaded]) -> str:
    """sha256 of the weights to import; refuses methods that import none, and weights of untold origin."""
    if options.weights is None:
        if options.seen:
            raise ConfigError(
                "--seen says what imported weights were trained on; give them with --weights FILE."
            )
        return ""
    if not options.seen:
        raise ConfigError(
            f"--weights {options.weights}: say what they were trained on, like --seen mini or --seen "
            f"tiered:base,tiered:validation; --seen {leaks.UNKNOWN} gives the row the badge `leak`."
        )
    from harness.method.official_weights import file_sha256, is_importable

    unable = [method.reference.name for method in methods if not is_importable(method.cls)]
    if unable:
        raise ConfigError(
            f"--weights {options.weights}: {', '.join(unable)} does not say what official checkpoints call its "
            f"weights, so it imports none. {', '.join(filter(_imports_weights, registry.installed()))} do."
        )
    return file_sha256(options.weights)


def _imports_weights(name: str) -> bool:
    from harness.method.official_weights import is_importable

    try:
        return is_importable(registry.load(name).cls)
    except FsbenchError:
        return False


def _refuse_leak(setting: Setting, options: Options) -> None:
    """Refuse a run whose novel classes were seen in training, unless the user says otherwise."""
    benchmark = setting.benchmark
    found = leaks.of_run(options.seen, benchmark)
    who = f"--seen {','.join(options.seen)}" if options.seen else f"the base images of {benchmark.key}"
    if found and not options.allow_leak:
        raise ConfigError(
            f"{setting.name} asks as novel what was seen in training: {who} hold {found}. --allow-leak runs it all "
            "the same, and marks the row with the badge `leak`."
        )


def _resolve(method: registry.Loaded, setting: Setting, backbone: str, options: Options) -> hyper.Resolved:
    known = recipes(method.cls)
    name = method.reference.name
    if options.recipe not in known:
        raise ConfigError(
            f"`{options.recipe}` is not a recipe of {name}.{nearest(options.recipe, known)} Known: {', '.join(known)}."
        )
    benchmark = setting.benchmark
    keys = hyper.layers(benchmark.name, setting.name, backbone)
    layered = [defaults(method.cls), known[options.recipe]]
    recipe = "" if options.recipe == "clean" else options.recipe
    return hyper.resolve(method.cls.Config, layered, keys, options.overrides, method=name, recipe=recipe)


def _values(config_class: type[Any], resolved: hyper.Resolved) -> dict[str, ConfigValue]:
    return {
        name: ConfigValue(
            hyper.as_json(getattr(resolved.config, name)), origin, hyper.phase_of(config_class, name)
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
