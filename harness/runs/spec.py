"""What makes a run, declared once: each field says what it decides, what tells rows apart, and how it is named.

Run ids, fit keys, the keys of rows and their labels are derived from these fields; what a user types for them is in
``request``. A field added later has a default, says ``later=True`` and leaves every older id as it is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from harness.errors import ConfigError, RecordError
from harness.images.augmentations import ORIGINALS, crops_told
from harness.method.hyper import REQUIRED_BY, ConfigValue
from harness.method.recipe import SelectionRole as SelectionRole
from harness.method.registry import MethodReference, called_by
from harness.runs.starts import starts_from
from harness.system import records

EMBED_BATCH = 256  # images per embedding call
FEATURES = "features"  # the hyper-parameter of a head that names its encoder
SCORED = "scored"  # reference of what has no method here
Precision = Literal["fp32", "bf16", "fp16"]
Tuning = Literal["none", "support-CV", "validation", "novel"]
"""What hyper-parameters were chosen on: nothing (they are declared), cross-validation of each support, validation classes, or
the novel classes themselves."""
Between = Literal["rows", "seeds", "settings", "prefixes"]


def part(
    default: Any = dataclasses.MISSING,
    *,
    factory: Any = dataclasses.MISSING,
    between: Between = "rows",
    label: str = "",
    told: Callable[[Any], str] = str,
    in_label: bool = False,
    later: bool = False,
    in_old_rows: bool = True,
    in_fit: bool = True,
) -> Any:
    """Declare a field of a specification.

    Args:
        default: the value of runs that do not say; ``factory`` makes it where it is mutable.
        between: what two runs that differ in it are: "rows" of a table, "seeds" of a row, runs of two "settings", or
            "prefixes", of which a row takes the longer one.
        label: what the value is called where it tells two rows apart; empty where another field says it.
        told: the value in words.
        in_label: whether a value that is not the default is part of every label of the row.
        later: left out of the hash at its default: ids from before it was recorded stay.
        in_old_rows: False leaves it out of the keys of rows, too, at its default: signatures from before it stay.
        in_fit: whether the key of a fit holds it (fields of ``FitSpec`` alone).
    """
    metadata = {
        "between": between,
        "label": label,
        "told": told,
        "in_label": in_label,
        "later": later,
        "in_old_rows": in_old_rows,
        "in_fit": in_fit,
    }
    return dataclasses.field(default=default, default_factory=factory, metadata=metadata)


def _short(digest: str) -> str:
    return digest[:8]


def _seen(seen: tuple[str, ...]) -> str:
    from harness.benchmarks import (
        leaks,
    )  # with the benchmarks, which most readers of a specification do without

    return leaks.told(seen)


@dataclass(frozen=True, kw_only=True)
class FitSpec:
    """Everything that decides a training, as JSON: no setting, way or shot; what shares it shares one checkpoint.

    Attributes:
        method: which method.
        benchmark: name of whose images these are; not in the key, the digests say which data it is.
        config: resolved hyper-parameters by name; those of phase "fit".
        recipe: "clean" or another declaration of all that the numbers rest on (``method.recipe``), such as "as-published".
        backbone, image_size, channels, pipeline: what the images pass through.
        data_digest: sha256 by role, over decoded pixels; base, and whatever chooses the weights.
        seed: the run seed; episodes do not depend on it.
        weights_sha256: of imported weights, else empty.
        seen: what imported weights were trained on, as the user says.
        precision: of training and embedding.
        select_on: whose accuracy chooses the weights; "novel" is what some papers did, and gets a badge.
        is_compiled: whether the backbone goes through torch.compile, which may move the last bit.
        world_size: processes that train together; each takes its part of every batch.
        budget: training images after which the training ends, its epochs being fitted to them; 0: as many as it asks for.
        augmentation: of every training batch, by name; empty for that of the pipeline, where the method asks for one.
        cut_from: edge in pixels of the map of whole pictures that random training crops are cut from; ``ORIGINALS``:
            from the pictures at their own size; 0: from the stored squares, or nothing is cut.
        required: the fits that this one is built on, by the need that names each (``method.needs``).
        encoder: the need of that one whose features a head is given; empty where a method embeds images itself.
        n_way, shot: of the novel episodes that choose the weights; 0 where validation does.
    """

    method: MethodReference = part()
    benchmark: str = part(between="settings")
    config: Mapping[str, ConfigValue] = part()
    backbone: str = part()
    image_size: int = part(label="input")
    channels: int = part(label="channels")
    pipeline: str = part(label="pipeline")
    data_digest: Mapping[str, str] = part(
        label="images",
        told=lambda digests: ", ".join(
            f"{role} {_short(d)}" for role, d in digests.items() if role != "novel"
        ),
    )
    seed: int = part(between="seeds")
    recipe: str = part("clean")
    weights_sha256: str = part("", label="weights", told=lambda sha256: _short(sha256) or "own")
    seen: tuple[str, ...] = part(
        (), label="trained on", told=lambda seen: _seen(seen) or "base", later=True, in_fit=False
    )
    precision: Precision = part("fp32", in_label=True)
    select_on: SelectionRole = part(
        "validation", in_label=True, told=lambda role: f"selected on {role}", later=True
    )
    is_compiled: bool = part(False, in_label=True, told=lambda _: "compiled", later=True)
    world_size: int = part(1, in_label=True, told=lambda n: f"{n} processes")
    augmentation: str = part("", label="augmentation", told=lambda name: name or "the pipeline's", later=True)
    budget: int = part(
        0, label="training images", told=lambda n: f"{n:,}" if n else "as many as it asks for", later=True
    )
    cut_from: int = part(0, label="crops from", told=crops_told, later=True)
    required: Mapping[str, FitSpec] = part(
        factory=dict,
        label="on",
        told=lambda fits: ", ".join(_short(fit.row_key) for fit in fits.values()) or "nothing",
        later=True,
    )
    encoder: str = part("", label="features of", told=lambda need: need or "its own", later=True)
    n_way: int = part(0)
    shot: int = part(0)

    @property
    def called(self) -> str:
        """The method, and for a head whose features it is given: ``tim[softmax]``."""
        return f"{self.method.name}[{self._on}]" if self.encoder else self.method.name

    @property
    def shown_backbone(self) -> str:
        """The backbone as tables name it: ``images`` where a method looks at those themselves."""
        is_given = self.encoder or self.weights_sha256  # features of another fit, or of a file
        return "images" if self.backbone == "none" and not is_given else self.backbone

    @property
    def _on(self) -> str:
        """How the fit is named whose features a head is given: the one place that decides it."""
        fit = self.required.get(self.encoder)
        return fit.name_below if fit else self.encoder

    @property
    def name_below(self) -> str:
        """How a fit is named in the label of what is built on it.

        That is its method, with the values that were asked of it; where the method says by which hyper-parameter its
        fits are called (``called_by = "aux"``) and that was asked, the value alone: ``sgm``.
        """
        asked = {k: v.value for k, v in sorted(self.config.items()) if v.origin.startswith(REQUIRED_BY)}
        name = str(asked.pop(called_by(self.method.name), self.called))
        told = ", ".join(f"{key}={value}" for key, value in asked.items())
        return f"{name}({told})" if told else name

    @property
    def fit_key(self) -> str:
        """12 hex digits over what decides the training alone: equal keys share one checkpoint."""
        identity = _identity(self)
        for name, field in _FIT_FIELDS.items():
            if not field.metadata["in_fit"]:
                identity.pop(name, None)
        chosen_on = "novel" if self.select_on == "novel" else "validation"
        identity["data_digest"] = {r: d for r, d in self.data_digest.items() if r in ("base", chosen_on)}
        if self.select_on == "validation":
            del identity["n_way"], identity["shot"]
        return _digest(
            {**identity, "benchmark": ""}, 12
        )  # the images say which data it is, under whatever name

    @property
    def started_from(self) -> tuple[str, ...]:
        """What the published weights had seen that it, or what it is built on, starts from, in the words of ``--seen``."""
        below = (word for fit in self.required.values() for word in fit.started_from)
        return tuple(dict.fromkeys((*starts_from(self.config), *below)))

    @property
    def row_key(self) -> str:
        """Digest of what makes a row of a table: all of the identity, and of what it is built on, but seeds, prefixes and settings."""
        return _digest(_between_rows(self))

    def values(self) -> dict[str, Any]:
        """Hyper-parameters by name, without their origins."""
        return {key: entry.value for key, entry in self.config.items()}

    def to_json(self) -> dict[str, Any]:
        """The whole spec, origins and reference included, as JSON types."""
        found = {name: getattr(self, name) for name in _fields(self)}
        found["method"] = dataclasses.asdict(self.method)
        found["config"] = {k: dataclasses.asdict(v) for k, v in self.config.items()}
        found["data_digest"], found["seen"] = dict(self.data_digest), list(self.seen)
        found["required"] = {need: fit.to_json() for need, fit in self.required.items()}
        return found if self.required else {k: v for k, v in found.items() if k != "required"}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a spec from ``to_json``.

        Raises:
            RecordError: when a field is missing or unknown, or its value is not one that the field may have.
        """
        try:
            fields = dict(data)
            fields.pop("per_rank_batch", None)
            (_RUN_SHAPE if issubclass(cls, RunSpec) else _FIT_SHAPE)(fields, "spec")
            fields["method"] = MethodReference(**fields["method"])
            fields["config"] = {k: ConfigValue(**v) for k, v in fields["config"].items()}
            fields["seen"] = tuple(fields.get("seen", ()))
            fields["required"] = {k: FitSpec.from_json(v) for k, v in fields.get("required", {}).items()}
            return cls(**fields)
        except (TypeError, KeyError, AttributeError, ValueError, RecursionError) as error:
            raise RecordError(f"This is not a run specification of this version: {error}.") from error


@dataclass(frozen=True, kw_only=True)
class RunSpec(FitSpec):
    """Everything that decides a run's counts on one device type, as JSON: a fit, and what is asked of it.

    Attributes:
        setting: benchmark × way × shot.
        n_way, shot, n_query, n_episodes: of the evaluation; ``n_query`` per class, in unbalanced lists on average, and where all
            images are asked those of the largest class. ``shot`` is 0 where classes are closed.
        episode_digest: sha256 of the setting's full list, of which the first ``n_episodes`` are run.
        embed_batch: images per embedding call (fixed, since it may move the last bit).
        tuning: what its hyper-parameters were chosen on, as the user says.
    """

    setting: str = part(between="settings")
    n_way: int = part(between="settings")
    shot: int = part(between="settings")
    n_query: int = part(between="settings")
    n_episodes: int = part(between="prefixes")
    episode_digest: str = part(between="settings")
    embed_batch: int = part(EMBED_BATCH, label="embedding batch")
    tuning: Tuning = part(
        "none", in_label=True, told=lambda on: f"tuned on {on}", later=True, in_old_rows=False
    )

    @property
    def is_scored(self) -> bool:
        """Whether its predictions were made elsewhere and only counted here."""
        return self.method.reference == SCORED

    @property
    def id(self) -> str:
        """12 hex digits of the sha256 of the identity."""
        return _digest(_identity(self), 12)

    @property
    def fit(self) -> FitSpec:
        """What decides its training."""
        on_novel = self.select_on == "novel"
        roles = ("base", "validation", "novel") if on_novel else ("base", "validation")
        own = {name: getattr(self, name) for name in _FIT_FIELDS}
        own["config"] = {k: v for k, v in self.config.items() if v.phase == "fit"}
        own["data_digest"] = {k: v for k, v in self.data_digest.items() if k in roles}
        own["n_way"], own["shot"] = (self.n_way, self.shot) if on_novel else (0, 0)
        return FitSpec(**own)

    @property
    def fit_key(self) -> str:
        """Of its fit."""
        return self.fit.fit_key

    @property
    def read_from(self) -> tuple[FitSpec, ...]:
        """The fits whose checkpoints counting it again takes: its own, and that of its features."""
        return (self.fit, *(fit for need, fit in self.required.items() if need == self.encoder))

    @property
    def imported(self) -> tuple[str, ...]:
        """The sha256 of the weights that others trained, those of its features and its own; none where all was trained here."""
        fit = self.required.get(self.encoder)
        both = (fit.weights_sha256 if fit else "", self.weights_sha256)
        return tuple(filter(None, both))

    @property
    def training_key(self) -> str:
        """Of the training that its numbers hang on: for a head that of its features, which all heads on it share."""
        fit = self.required.get(self.encoder)
        return fit.fit_key if fit else self.fit_key

    @property
    def label(self) -> str:
        """Method and whatever sets its row apart from the default."""
        told = ", ".join(filter(None, (self.changed, self.recipe if self.recipe != "clean" else "")))
        return f"{self.whole_name} ({told})" if told else self.whole_name

    @property
    def whole_name(self) -> str:
        """As ``called``, with the backbone that the features come from: ``tim[softmax, conv4]``."""
        return f"{self.method.name}[{self._on}, {self.backbone}]" if self.encoder else self.method.name

    @property
    def changed(self) -> str:
        """What is not the default beside recipe and backbone, ``--set`` values first; empty when nothing is."""
        told = [f"{name}={v.value}" for name, v in sorted(self.config.items()) if _is_chosen(self, name, v)]
        for name, field in _RUN_FIELDS.items():
            if field.metadata["in_label"] and getattr(self, name) != field.default:
                told.append(field.metadata["told"](getattr(self, name)))
        return ", ".join(told)

    def line_key(self, usual_size: int | None, usual_pipeline: str | None) -> str:
        """Digest of what makes rows of two settings one line: all of a row but what its benchmark gives.

        Args:
            usual_size, usual_pipeline: of the benchmark; None when it no longer exists.
        """
        return _digest(_between_lines(self, usual_size, usual_pipeline))

    def particulars(self) -> dict[str, str]:
        """What may tell it from a row of the same label: name of a value → the value in words."""
        found = {"version": self.method.version, "source": _short(self.method.source_sha256) or "built in"}
        for name, field in _RUN_FIELDS.items():
            if field.metadata["label"]:
                found[field.metadata["label"]] = field.metadata["told"](getattr(self, name))
        return {**found, **{name: str(entry.value) for name, entry in self.config.items()}}


_FIT_FIELDS = {field.name: field for field in dataclasses.fields(FitSpec)}
_RUN_FIELDS = {field.name: field for field in dataclasses.fields(RunSpec)}


def _fields(spec: FitSpec) -> dict[str, dataclasses.Field[Any]]:
    return _RUN_FIELDS if isinstance(spec, RunSpec) else _FIT_FIELDS


def _identity(spec: FitSpec) -> dict[str, Any]:
    """What is hashed, as JSON types: not where a method's file lies, nor where a value came from."""
    identity = {
        name: getattr(spec, name)
        for name, field in _fields(spec).items()
        if not field.metadata["later"] or getattr(spec, name) != field.default
    }
    identity["method"] = {k: v for k, v in vars(spec.method).items() if k != "reference"}
    identity["config"] = {k: v.value for k, v in sorted(spec.config.items())}
    identity["per_rank_batch"] = 0  # a field of earlier versions; it never had another value
    if spec.required:
        identity["required"] = {need: fit.fit_key for need, fit in spec.required.items()}
    else:
        identity.pop("required", None)
    return identity


def _between_rows(spec: FitSpec) -> dict[str, Any]:
    identity = _identity(spec)
    found = {
        name: identity.get(name)
        for name, field in _fields(spec).items()
        if field.metadata["between"] == "rows" and (name in identity or field.metadata["in_old_rows"])
    }
    return {**found, "required": {need: _between_rows(fit) for need, fit in spec.required.items()}}


def _is_chosen(spec: FitSpec, name: str, value: ConfigValue) -> bool:
    """Whether a value was typed, and is not that of the encoder, which has a place of its own in every name."""
    return value.origin == "--set" and not (spec.encoder and name == FEATURES)


def _between_lines(spec: FitSpec, usual_size: int | None, usual_pipeline: str | None) -> dict[str, Any]:
    found = _between_rows(spec)
    for from_the_benchmark in ("data_digest", "channels"):
        del found[from_the_benchmark]
    return {
        **found,
        "config": {k: v.value for k, v in sorted(spec.config.items()) if _is_chosen(spec, k, v)},
        "cut_from": min(spec.cut_from, 1),
        "image_size": None if spec.image_size == usual_size else spec.image_size,
        "pipeline": None if spec.pipeline == usual_pipeline else spec.pipeline,
        "required": {
            need: _between_lines(fit, usual_size, usual_pipeline) for need, fit in spec.required.items()
        },
    }


def _digest(identity: Mapping[str, Any], length: int | None = None) -> str:
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def _check_fit(value: Any, name: str) -> None:
    _FIT_SHAPE(value, name)


# What the types above leave open: ranges, and text that may be longer. A record from anybody is checked against it.
_OPEN: Mapping[str, records.Shape] = {
    "method": records.of(MethodReference, reference=records.text(1_000)),
    "config": records.mapping(records.of(ConfigValue, value=records.anything(is_finite=False))),
    "image_size": records.whole(0, 1 << 16),  # 0: nobody said, of a list that is not here
    "channels": records.whole(0, 1 << 16),
    "cut_from": records.whole(ORIGINALS, 1 << 16),
    "budget": records.whole(0, 1 << 48),
    "world_size": records.whole(1, 1 << 20),
    "required": records.mapping(_check_fit, 100),
}
_FIT_SHAPE = records.of(FitSpec, **_OPEN)
_RUN_SHAPE = records.of(
    RunSpec,
    **_OPEN,
    n_way=records.whole(1, 1 << 16),
    shot=records.whole(0, 1_000_000),  # 0: nothing is drawn, all training images are given
    n_query=records.whole(1, 1_000_000),
    n_episodes=records.whole(1, 1_000_000),
    embed_batch=records.whole(1, 1 << 30),
)


def check_spec(spec: RunSpec) -> None:
    """Check a specification made here as one from elsewhere is checked, before anything is done for it.

    Raises:
        ConfigError: when a value would be refused by whoever reads it.
    """
    try:
        _RUN_SHAPE(json.loads(json.dumps(spec.to_json())), "spec")
    except (ValueError, TypeError) as error:
        raise ConfigError(f"This run cannot be planned: {error}.") from error
