"""What identifies a run: everything that decides its counts, as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from harness.errors import StoreError
from harness.method.registry import MethodReference

SCORED = "scored"  # reference of what has no method here
Precision = Literal["fp32", "bf16", "fp16"]
SelectionRole = Literal["validation", "novel"]


@dataclass(frozen=True)
class ConfigValue:
    """One resolved hyper-parameter.

    Attributes:
        value: JSON value.
        origin: "default", a DEFAULTS key such as "glyphs", or "--set".
        phase: "fit" values decide the training; "adapt" values only what follows it.
    """

    value: Any
    origin: str
    phase: Literal["fit", "adapt"] = "fit"


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides a run's counts on one device type, as JSON.

    Attributes:
        method: which method.
        benchmark, setting: names; ``setting`` = benchmark × way × shot.
        n_way, shot, n_query, n_episodes: of the evaluation; ``n_query`` per class.
        config: resolved hyper-parameters by name.
        recipe: "clean" or "as-published".
        backbone, image_size, channels, pipeline: what the images pass through.
        episode_digest: sha256 of the setting's full list, of which the first ``n_episodes`` are run.
        data_digest: sha256 by role, over decoded pixels.
        weights_sha256: of imported weights, else empty.
        seen: what imported weights were trained on, as the user says.
        seed: the run seed; episodes do not depend on it.
        precision: of training and embedding.
        select_on: whose accuracy chooses the weights; "novel" is what some papers did, and gets a badge.
        is_compiled: whether the backbone goes through torch.compile, which may move the last bit.
        embed_batch: images per embedding call (fixed, since it may move the last bit).
        cut_from: edge in pixels of the whole pictures that random training crops are cut from; 0: they are cut from the
            stored squares, or nothing is.
        world_size: processes that train together; each takes its part of every batch.
        per_rank_batch: 0: the method's own batch, divided by ``world_size``.
    """

    method: MethodReference
    benchmark: str
    setting: str
    n_way: int
    shot: int
    n_query: int
    n_episodes: int
    config: Mapping[str, ConfigValue]
    backbone: str
    image_size: int
    channels: int
    pipeline: str
    episode_digest: str
    data_digest: Mapping[str, str]
    seed: int
    recipe: str = "clean"
    weights_sha256: str = ""
    seen: tuple[str, ...] = ()
    precision: Precision = "fp32"
    embed_batch: int = 256
    select_on: SelectionRole = "validation"
    is_compiled: bool = False
    world_size: int = 1
    per_rank_batch: int = 0
    cut_from: int = 0

    @property
    def is_scored(self) -> bool:
        """Whether its predictions were made elsewhere and only counted here."""
        return self.method.reference == SCORED

    @property
    def id(self) -> str:
        """12 hex digits of the sha256 of the identity."""
        return self._key(self._identity())

    @property
    def fit_key(self) -> str:
        """12 hex digits over what decides the training alone: equal keys share one checkpoint."""
        identity = self._identity()
        for evaluation in (
            "setting",
            "n_way",
            "shot",
            "n_query",
            "n_episodes",
            "episode_digest",
            "embed_batch",
            "seen",
        ):
            if self.select_on == "validation" or evaluation not in ("n_way", "shot"):
                identity.pop(evaluation, None)
        identity["benchmark"] = ""  # the images say which data it is, under whatever name
        roles = ("base", "validation") if self.select_on == "validation" else ("base", "novel")
        identity["data_digest"] = {k: v for k, v in self.data_digest.items() if k in roles}
        identity["config"] = {k: v.value for k, v in sorted(self.config.items()) if v.phase == "fit"}
        return self._key(identity)

    def values(self) -> dict[str, Any]:
        """Hyper-parameters by name, without their origins."""
        return {key: entry.value for key, entry in self.config.items()}

    def to_json(self) -> dict[str, Any]:
        """The whole spec, origins and reference included, as JSON types."""
        return {**asdict(self), "config": {k: asdict(v) for k, v in self.config.items()}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunSpec:
        """Rebuild a spec from ``to_json``.

        Raises:
            StoreError: when a field is missing or unknown.
        """
        try:
            fields = dict(data)
            fields["method"] = MethodReference(**fields["method"])
            fields["config"] = {k: ConfigValue(**v) for k, v in fields["config"].items()}
            fields["seen"] = tuple(fields.get("seen", ()))
            return cls(**fields)
        except (TypeError, KeyError, AttributeError) as error:
            raise StoreError(f"This is not a run specification of this version: {error}.") from error

    def _identity(self) -> dict[str, Any]:
        identity = dict(vars(self))  # asdict would copy every value: a plan asks for thousands of ids
        identity["method"] = {k: v for k, v in vars(self.method).items() if k != "reference"}
        identity["config"] = {k: v.value for k, v in sorted(self.config.items())}
        later_fields = (("seen", ()), ("select_on", "validation"), ("is_compiled", False), ("cut_from", 0))
        for later, default in later_fields:
            if identity[later] == default:
                del identity[later]  # ids from before it was recorded stay
        return identity

    @staticmethod
    def _key(identity: Mapping[str, Any]) -> str:
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]
