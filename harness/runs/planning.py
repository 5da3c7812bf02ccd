"""From what was typed to RunSpecs: method, setting, hyper-parameters, images and seed, all resolved."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import filterfalse
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from harness import benchmarks
from harness.backbones import check_name, is_named
from harness.benchmarks import ROLES, Benchmark, Setting, leaks
from harness.errors import ConfigError, DataError, FsbenchError, MisfitError, nearest
from harness.images.augmentations import CropsFrom, augmentation, is_cropped
from harness.method import (
    CLEAN,
    Conditions,
    Need,
    Recipe,
    defaults,
    embeds,
    encoder_of,
    hyper,
    length,
    needs_of,
    recipes,
    registry,
    traits,
)
from harness.runs import starts
from harness.runs.request import FAMILY, Request
from harness.runs.spec import FEATURES, FitSpec, RunSpec, check_spec

Spec = TypeVar("Spec", bound=FitSpec)


class Given(NamedTuple):
    """What a method says of a fit that it needs: hyper-parameters, and the image size and conditions it has itself."""

    config: Mapping[str, Any] = MappingProxyType({})
    by: str = ""
    image_size: int | None = None
    conditions: Conditions | None = None


NOTHING_GIVEN = Given()


class LeftOut(NamedTuple):
    """A method on a setting that a glob named and that cannot be run here.

    Attributes:
        method, setting: names.
        error: why not: images that are not prepared (DataError), or two that do not go together (MisfitError).
    """

    method: str
    setting: str
    error: DataError | MisfitError


class Survey(NamedTuple):
    """What can be run of what was asked, and what globs named beside it."""

    specs: list[RunSpec]
    left_out: list[LeftOut]


def plan(
    methods: Sequence[str], settings: Sequence[str], seeds: Sequence[int], request: Request, data: Path
) -> list[RunSpec]:
    """Resolve every combination.

    Each method is loaded, each combination resolved and each image set opened once, however many seeds there are.

    Args:
        methods, settings: names, globs or (methods) files.
        seeds: run seeds.
        request: everything else.
        data: where prepared images are.

    Returns:
        One spec per method × setting × seed, in that order.

    Raises:
        FsbenchError: for the first thing that cannot be run, with what to type.
    """
    found = survey(methods, settings, seeds, request, data)
    if found.left_out:
        raise found.left_out[0].error
    return found.specs


def survey(
    methods: Sequence[str], settings: Sequence[str], seeds: Sequence[int], request: Request, data: Path
) -> Survey:
    """Resolve every combination as ``plan`` does, and go past those that only a glob names and that cannot be run.

    A set that is not prepared is passed over where its setting was named by a glob; a method and a setting that do not
    go together, where either was.

    Raises:
        FsbenchError: for the first thing that was named and cannot be run, with what to type.
    """
    request = _with_seen(request)
    loaded = {name: one for typed in methods for name, one in _asked(typed).items()}
    chosen = {s.name: s for pattern in settings for s in benchmarks.expand(pattern)}
    named = {typed for typed in methods if not _is_glob(registry.pair_of(typed)[0])}
    named |= {s.name for pattern in filterfalse(_is_glob, settings) for s in benchmarks.expand(pattern)}
    images = Images(data)
    weights = _weights(request)
    specs: list[RunSpec] = []
    left_out: list[LeftOut] = []
    for name, (method, features) in loaded.items():
        for setting in chosen.values():
            try:
                template = make_spec(method, setting, on_features(method, features, request), images)
            except (DataError, MisfitError) as error:
                decides = {setting.name} if isinstance(error, DataError) else {name, setting.name}
                if decides <= named:
                    raise
                left_out.append(LeftOut(method.reference.name, setting.name, error))
                continue
            template = _importing(template, weights)
            check_spec(template)
            specs += [with_seed(template, seed) for seed in seeds]
    return Survey(specs, left_out)


class _Asked(NamedTuple):
    """A method as it was typed, and whose features it is to have; empty where that was not said."""

    method: registry.Loaded
    features: str


def _asked(typed: str) -> dict[str, _Asked]:
    """What a name, a glob or a pair like ``tim[softmax]`` or ``*[softmax]`` means; of a glob, the heads alone."""
    pattern, features = registry.pair_of(typed)
    found = {name: registry.load(name) for name in registry.expand(pattern)}
    if features and _is_glob(pattern):
        found = {name: method for name, method in found.items() if traits(method.cls).is_head}
    return {f"{name}[{features}]" if features else name: _Asked(m, features) for name, m in found.items()}


def on_features(method: registry.Loaded, features: str, request: Request) -> Request:
    """The request with the features that were typed in brackets.

    Raises:
        ConfigError: when the method is no head.
    """
    if features and not traits(method.cls).is_head:
        raise ConfigError(
            f"{method.reference.name}[{features}]: {method.reference.name} makes its own features. "
            "`fsbench methods` says which methods are built on those of another."
        )
    return replace(request, overrides={**request.overrides, FEATURES: features}) if features else request


def _is_glob(pattern: str) -> bool:
    return any(c in pattern for c in "*?[")


class Images:
    """The digests of prepared images; a set that several runs share is opened once."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._known: dict[tuple[str, str, int], dict[str, str]] = {}
        self._base: dict[str, tuple[int, int]] = {}
        self._edges: dict[tuple[str, str, int, str, str | None], int] = {}

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

    def cut_from(
        self, benchmark: Benchmark, pipeline: str, image_size: int, how: str, crops_from: CropsFrom | None
    ) -> int:
        """What random training crops are cut from, as ``FitSpec.cut_from`` says it.

        Raises:
            DataError: when originals are asked for and not kept.
        """
        if not is_cropped(how or pipeline):
            return 0
        key = benchmark.key, pipeline, image_size, how, crops_from
        if key not in self._edges:
            base = benchmark.open("base", self._data, pipeline, image_size)
            self._edges[key] = base.cut_from(image_size, pipeline, how, crops_from)
        return self._edges[key]

    def base_counts(self, benchmark: Benchmark) -> tuple[int, int]:
        """Images and classes of the base set."""
        if benchmark.key not in self._base:
            base = benchmark.open("base", self._data, benchmark.pipeline, benchmark.image_size)
            self._base[benchmark.key] = len(base), len(base.counts)
        return self._base[benchmark.key]

    def channels(self, benchmark: Benchmark, pipeline: str, image_size: int) -> int:
        """Channels of the prepared images, for benchmarks that leave them open."""
        return benchmark.open("base", self._data, pipeline, image_size).shape[2]


def make_spec(method: registry.Loaded, setting: Setting, request: Request, images: Images) -> RunSpec:
    """Resolve one method on one setting, with seed 0.

    Raises:
        ConfigError: unknown recipe or hyper-parameter, an episode count beyond the list, or fits that cannot be had.
        MisfitError: a protocol that the method does not speak, novel classes that were seen in training, or a recipe
            that says nothing of the setting or what the setting cannot give.
        DataError: when the images are not prepared.
    """
    benchmark = setting.benchmark
    if benchmark.protocol not in traits(method.cls).protocols:
        raise MisfitError(
            f"{method.reference.name} speaks the {', '.join(sorted(traits(method.cls).protocols))} protocol; "
            f"{benchmark.key} is {benchmark.protocol}. `fsbench methods` shows which methods fit."
        )
    _refuse_leak(setting, request)
    fits = _Fits(benchmark, request, images)
    said = fits.conditions(method, setting.name)
    setting = _with_queries(setting, said, request)
    fit = fits.parts(method, setting.name, request.overrides, said)
    spec = RunSpec(
        **{**fit, **request.as_fields()},
        setting=setting.name,
        select_on=said.select_on or "validation",
        n_way=setting.way,
        shot=setting.shot,
        n_query=setting.n_query,
        n_episodes=_n_episodes(setting, said.n_episodes, request),
        episode_digest=setting.digest,
    )
    if spec.started_from:
        _refuse_leak(setting, request, spec.started_from)
    return spec


def with_seed(spec: Spec, seed: int) -> Spec:
    """The same with another run seed, down to the fits it is built on."""
    required = {need: with_seed(fit, seed) for need, fit in spec.required.items()}
    return replace(spec, seed=seed, required=required)


class _Fits:
    """Resolves trainings on one benchmark, as one request asks for them."""

    def __init__(self, benchmark: Benchmark, request: Request, images: Images) -> None:
        self._benchmark, self._request, self._images = benchmark, request, images

    def conditions(self, method: registry.Loaded, setting: str) -> Conditions:
        """What was typed, and beneath it what the recipe says.

        Raises:
            ConfigError: when the method has no such recipe.
            MisfitError: when the recipe does not speak of the setting.
        """
        recipe, keys = _recipe(method, self._request.recipe), self._keys(method, setting)
        if self._request.recipe != CLEAN and not set(keys) & set(recipe.keys):
            raise MisfitError(
                f"The recipe `{self._request.recipe}` of {method.reference.name} says nothing of {setting}. It speaks of "
                f"{', '.join(recipe.keys)}."
            )
        return self._request.conditions.over(recipe.conditions_of(keys))

    def _keys(self, method: registry.Loaded, setting: str) -> tuple[str, ...]:
        return hyper.layers(self._benchmark.name, setting, self._backbone(method))

    def _backbone(self, method: registry.Loaded) -> str:
        chosen = self._request.backbone or self._benchmark.backbone
        check_name(chosen)
        return chosen if traits(method.cls).uses_backbone else "none"

    def parts(
        self, method: registry.Loaded, setting: str, overrides: Mapping[str, str], said: Conditions, *,
        given: Given = NOTHING_GIVEN, trail: tuple[Need, ...] = (),
    ) -> dict[str, Any]:  # fmt: skip
        """What a specification of a training holds, with seed 0.

        Args:
            method: whose training.
            setting: whose values of DEFAULTS apply beside the benchmark's; empty for none.
            overrides: texts of ``--set``.
            said: the conditions, typed and of the recipe.
            given: what the method that needs this fit says of it.
            trail: the needs that led here.
        """
        benchmark, request = self._benchmark, self._request
        if getattr(method.cls, "needs_weights", False) and not request.weights:
            raise MisfitError(
                f"{method.reference.name} trains nothing: give the weights of its network with --weights FILE, and what they "
                "have seen with --seen imagenet1k, lvd142m, … or unknown."
            )
        keys, recipe = self._keys(method, setting), request.recipe
        if trail and not set(keys) & set(recipes(method.cls).get(recipe, Recipe()).keys):
            recipe = CLEAN  # a fit that others are built on, of which the recipe says nothing
        values, n_images = _resolve(method, recipe, keys, overrides, given, said), said.n_images or 0
        if n_images:
            n_base = self._images.base_counts(benchmark)
            values = length.stretched(method.cls, values, n_images, *n_base)
        config = hyper.from_json(method.cls.Config, {name: v.value for name, v in values.items()})
        backbone, encoder = self._backbone(method), encoder_of(method.cls, config)
        own = own_input(backbone) if is_named(backbone) else None
        image_size = (
            getattr(config, "image_size", None)
            or given.image_size
            or said.image_size
            or (own.image_size if own else benchmark.image_size)
        )
        required = {
            need.key: self._required(method, need, image_size, said, trail)
            for need in (
                () if request.weights and not encoder else needs_of(method.cls, config)
            )  # no training
        }
        if encoder and encoder.key in required:  # its images are those that the encoder is given
            _check_encoder(method, encoder)
            image_size, backbone = required[encoder.key].image_size, required[encoder.key].backbone
        pipeline = said.pipeline or (own.pipeline if own else benchmark.pipeline)
        how = "" if said.augmentation == FAMILY else said.augmentation or ""
        channels = benchmark.channels or self._images.channels(benchmark, pipeline, image_size)
        _refuse_channels(benchmark, pipeline, how, channels)
        starts.refuse_unfit(values, backbone, channels)
        return {
            "method": method.reference,
            "benchmark": benchmark.key,
            "config": values,
            "recipe": recipe,
            "backbone": backbone,
            "image_size": image_size,
            "channels": channels,
            "pipeline": pipeline,
            "augmentation": how,
            "budget": n_images,
            "data_digest": self._images.digests(benchmark, pipeline, image_size),
            "seed": 0,
            "cut_from": self._images.cut_from(benchmark, pipeline, image_size, how, said.crops_from),
            "required": required,
            "encoder": encoder.key if encoder else "",
        }

    def _required(
        self, by: registry.Loaded, need: Need, image_size: int, said: Conditions, trail: tuple[Need, ...]
    ) -> FitSpec:
        if need in trail:
            circle = " ← ".join(n.method for n in (*trail[trail.index(need) :], need))
            raise ConfigError(
                f"{by.reference.name} requires its own fit: {circle}. One of them has to do without."
            )
        try:
            method = registry.load(need.method)
        except ConfigError as error:
            raise ConfigError(
                f"{by.reference.name} requires the fit of a method that is not here. {error}"
            ) from error
        given = Given(need.config, by.reference.name, image_size)
        parts = self.parts(method, "", {}, said, given=given, trail=(*trail, need))
        trained_alike = {
            name: getattr(self._request, name) for name in ("precision", "is_compiled", "world_size")
        }
        parts["config"] = {name: value for name, value in parts["config"].items() if value.phase == "fit"}
        parts["data_digest"] = {r: d for r, d in parts["data_digest"].items() if r != "novel"}
        return FitSpec(**parts, **trained_alike)


def _check_encoder(head: registry.Loaded, encoder: Need) -> None:
    """Refuse features that there are none of; maps need an attribute ``backbone``, which only the fit itself shows."""
    if traits(head.cls).takes == "vectors" and not embeds(registry.load(encoder.method).cls):
        raise ConfigError(
            f"features={encoder.key}: {encoder.method} embeds nothing, so {head.reference.name} cannot be built on it. "
            "Choose a method that trains a backbone, like softmax or protonet. (A class shows that it embeds by a function "
            "`embed`, or by a line `embed: nn.Module` for what its __init__ sets.)"
        )


def methods_of(specs: Iterable[FitSpec]) -> set[registry.MethodReference]:
    """The methods of some specifications and of every fit that they require."""
    every = list(specs)
    return {fit.method for fit in (*every, *built_on(every))}


def built_on(specs: Iterable[FitSpec]) -> list[FitSpec]:
    """Every fit that some specifications require, directly or not, once; those that others require come first."""
    found: dict[str, FitSpec] = {}
    for spec in specs:
        for fit in spec.required.values():
            for lower in (*built_on([fit]), fit):
                found.setdefault(lower.fit_key, lower)
    return list(found.values())


def grouped(specs: Iterable[RunSpec]) -> list[list[RunSpec]]:
    """Bring runs that share a fit together, keeping the order in which fits first appear."""
    groups: dict[str, list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault(spec.fit_key, []).append(spec)
    return list(groups.values())


class OwnInput(NamedTuple):
    """What a network of another library was made for: pixels, and the name of its pipeline."""

    image_size: int
    pipeline: str


@cache
def own_input(backbone: str) -> OwnInput:
    """What a network of another library was made for.

    Raises:
        ConfigError: when it is none.
    """
    from harness.backbones.named import input_of
    from harness.images.pipelines import network_pipeline

    made_for = input_of(backbone)
    return OwnInput(made_for.size, network_pipeline(*made_for[1:]))


def _with_seen(request: Request) -> Request:
    """The request with what the name of a ready-made network says that its weights have seen, where nothing was typed."""
    if not request.weights or request.seen or not request.backbone:
        return request
    return replace(request, seen=leaks.told_by(request.backbone))


def _weights(request: Request) -> dict[Path, str]:
    """The files of weights to import, each with its sha256; refuses those of untold origin."""
    if not request.weights:
        if request.seen:
            raise ConfigError(
                "--seen says what imported weights were trained on; give them with --weights FILE."
            )
        return {}
    if not request.seen:
        raise ConfigError(
            f"--weights {request.weights[0]}: say what they were trained on, like --seen mini or --seen "
            f"tiered:base,tiered:validation; --seen {leaks.UNKNOWN} gives the row the badge `leak`."
        )
    from harness.method.official_weights import file_sha256

    return {path: file_sha256(path) for path in request.weights}


def _importing(spec: RunSpec, weights: Mapping[Path, str]) -> RunSpec:
    """The run with imported weights; those of a head are those of its features, but for a file of its own.

    Raises:
        ConfigError: when that method imports none, or two files are of one.
    """
    if not weights:
        return spec
    from harness.method.official_weights import is_importable, is_of_head

    cls = registry.load(spec.method.reference).cls
    for path, sha256 in weights.items():
        is_own = not spec.encoder or is_of_head(cls, path)
        fit = spec if is_own else spec.required[spec.encoder]
        name = fit.method.name
        if not is_importable(registry.load(fit.method.reference).cls):
            raise ConfigError(
                f"--weights: {name} does not say what official checkpoints call its weights, so it imports none. "
                f"{', '.join(filter(_imports_weights, registry.installed()))} do."
            )
        if fit.weights_sha256:
            raise ConfigError(
                f"--weights {path}: weights of {name} were given before it. Give one file of each."
            )
        if is_own:
            spec = replace(spec, weights_sha256=sha256)
            continue
        imported = replace(fit, weights_sha256=sha256, seen=spec.seen)
        spec = replace(spec, required={**spec.required, spec.encoder: imported})
    return spec


def _imports_weights(name: str) -> bool:
    from harness.method.official_weights import is_importable

    try:
        return is_importable(registry.load(name).cls)
    except FsbenchError:
        return False


def _refuse_leak(setting: Setting, request: Request, started_from: Sequence[str] = ()) -> None:
    """Refuse a run whose novel classes were seen in training, unless the user says otherwise."""
    benchmark = setting.benchmark
    found = leaks.of_run(request.seen, benchmark, started_from)
    who = f"--seen {','.join(request.seen)}" if request.seen else f"the base images of {benchmark.key}"
    who = f"the weights of {', '.join(started_from)} that it starts from" if started_from else who
    if found and not request.allow_leak:
        raise MisfitError(
            f"{setting.name} asks as novel what was seen in training: {who} hold {found}. --allow-leak runs it all "
            "the same, and marks the row with the badge `leak`."
        )


def _recipe(method: registry.Loaded, name: str) -> Recipe:
    known = recipes(method.cls)
    if name not in known:
        raise ConfigError(
            f"`{name}` is not a recipe of {method.reference.name}.{nearest(name, known)} Known: {', '.join(known)}."
        )
    return known[name]


def _resolve(
    method: registry.Loaded, recipe: str, keys: Sequence[str], overrides: Mapping[str, str], given: Given,
    said: Conditions,
) -> dict[str, hyper.ConfigValue]:  # fmt: skip
    name, config = method.reference.name, method.cls.Config
    layered = [defaults(method.cls), _recipe(method, recipe).hyperparameters]
    if said.image_size and "image_size" in {f.name for f in dataclasses.fields(config)}:
        layered.append({keys[0]: {"image_size": said.image_size}})
    told = "" if recipe == CLEAN else recipe
    values = hyper.resolve(config, layered, keys, overrides, method=name, recipe=told)
    return hyper.given(config, values, given.config, by=given.by, method=name)


def _with_queries(setting: Setting, said: Conditions, request: Request) -> Setting:
    """The setting with the queries of a recipe, unless its name said how many."""
    if said.n_query in (None, setting.n_query) or setting.is_query_typed:
        return setting
    benchmark = setting.benchmark
    if benchmark.joint or benchmark.fixed_episodes != "sampled":
        raise MisfitError(
            f"The recipe `{request.recipe}` asks {said.n_query} queries of a class; {setting.name} has published lists "
            f"with {setting.n_query}."
        )
    return benchmark.setting(setting.way, setting.shot, said.n_query, setting.list_seed)


def _refuse_channels(benchmark: Benchmark, pipeline_name: str, how: str, channels: int) -> None:
    """Refuse a pipeline or an augmentation of colours where there is none.

    Raises:
        ConfigError: an unknown name.
        MisfitError: another number of channels.
    """
    from harness.images.pipelines import pipeline  # with Pillow, which commands that only read do without

    n_normalised, jitters = len(pipeline(pipeline_name).mean), bool(how and augmentation(how).jitter)
    if n_normalised not in (0, channels) or (jitters and channels != 3):
        asked = f"augmentation `{how}`" if jitters and channels != 3 else f"pipeline `{pipeline_name}`"
        raise MisfitError(
            f"The {asked} is for colours; the images of {benchmark.key} have {channels} channels."
        )


def _n_episodes(setting: Setting, asked: int | None, request: Request) -> int:
    if asked is None:
        return setting.n_episodes
    if not 1 <= asked <= setting.list_length:
        is_typed = request.n_episodes is not None
        who = "--episodes" if is_typed else f"The recipe `{request.recipe}` asks for episodes:"
        kind = ConfigError if is_typed else MisfitError
        raise kind(f"{who} {asked}: the list of {setting.name} has {setting.list_length} episodes.")
    return asked
