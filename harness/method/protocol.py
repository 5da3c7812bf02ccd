"""The protocol of a method: two functions, a third for what is trained, and optional members that make it richer."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from harness.errors import ConfigError, PluginError

if TYPE_CHECKING:
    from torch import Tensor

    from harness.images.patches import View
    from harness.method.support import EpisodeBatch, Support

REQUIRED = ("adapt", "predict")
Takes = Literal["vectors", "maps", "images", "names"]
"""What episodes hold: of another fit what its ``embed`` gives, flattened, or the maps of its ``backbone``; or images, normalised
as those of the training, for a method that sends them through a network of its own at prediction. A method that takes names
has an ``embed`` that is given those of images (``ImageStore.image_names``) in their place."""


@runtime_checkable
class Learns(Protocol):
    """Optional: a training on base classes; a method without has none."""

    def fit_base(self, base: Any, ctx: Any) -> None:
        """Learn from a ``BaseSet``, with a ``FitContext``."""


@runtime_checkable
class Embeds(Protocol):
    """Optional: each image is embedded once and kept in a feature table.

    A method whose instances have an attribute ``views`` is given v crops of each original picture (``harness.api.Grid``,
    ``RandomCrops``), or the image and changes of it (``SupportViews``): (b, v, c, H, W). Of a head it says what its
    features are of: support and queries are (n, v, D).
    """

    def embed(self, images: Tensor) -> Tensor:
        """(b, c, H, W) normalised images → (b, *F) features, each independent of the others in the batch."""


@runtime_checkable
class Batched(Protocol):
    """Optional: many episodes in one call."""

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Support (E, n_way, shot, *F), query (E, n_query, *F) → scores (E, n_query, n_way).

        Equals ``adapt`` + ``predict``, episode by episode.
        """


@runtime_checkable
class AdaptsTogether(Protocol):
    """Optional, in the joint protocol: the experiments of a setting in one call."""

    def adapt_many(self, supports: Sequence[Support]) -> Sequence[Any]:
        """A state for each support; equals ``adapt``, one by one."""


class Need(NamedTuple):
    """A fit that a method is built on: a method's name or file, and what it is to be trained with.

    Attributes:
        method: name, ``./mine.py`` or ``./mine.py:Mine``.
        config: hyper-parameters that are not to be at their defaults.
    """

    method: str
    config: Mapping[str, Any] = MappingProxyType({})

    @property
    def key(self) -> str:
        """How it is named in a specification.

        >>> needs("representation", aux="sgm").key
        'representation(aux=sgm)'
        """
        told = ", ".join(f"{name}={value}" for name, value in sorted(self.config.items()))
        return f"{self.method}({told})" if told else self.method


def needs(method: str, **config: Any) -> Need:
    """Name a fit that a method is built on, for ``requires``."""
    return Need(method, config)


def need_of(text: str) -> Need:
    """Read a fit as it is typed: a method, and in parentheses what is not to be at its default.

    >>> need_of("representation(aux=sgm, epochs=5)").config
    {'aux': 'sgm', 'epochs': '5'}

    Raises:
        ConfigError: for anything else in the parentheses.
    """
    method, is_said, rest = text.strip().partition("(")
    if not is_said:
        return Need(method)
    pairs = [part.partition("=") for part in rest.removesuffix(")").split(",")]
    if not rest.endswith(")") or not all(name.strip() and sign for name, sign, _ in pairs):
        raise ConfigError(f"{text}: expected a method, or like softmax(epochs=5): values by name.")
    return Need(method, {name.strip(): value.strip() for name, _, value in pairs})


def encoder_of(cls: type[Any], config: Any) -> Need | None:
    """The fit whose features a method is given: a head says ``takes`` and names it in ``Config.features``.

    Raises:
        PluginError: when its Config has no such field.
    """
    if not traits(cls).is_head:
        return None
    if not isinstance(getattr(config, "features", None), str):
        raise PluginError(
            f"{cls.__name__} says what it `takes`, so its Config needs a text `features`: inherit harness.api.OnFeatures."
        )
    return need_of(config.features)


def needs_of(cls: type[Any], config: Any) -> tuple[Need, ...]:
    """The fits that a method is built on: that of its features, then what its static ``requires(config)`` returns.

    Raises:
        PluginError: when it returns something else.
    """
    encoder = encoder_of(cls, config)
    further = (need for need in _required(cls, config) if need != encoder)
    return (encoder, *further) if encoder else tuple(further)


def _required(cls: type[Any], config: Any) -> tuple[Need, ...]:
    if not hasattr(cls, "requires"):
        return ()
    try:
        found = tuple(cls.requires(config))
    except TypeError as error:
        raise PluginError(
            f"{cls.__name__}.requires could not be asked ({error}); write it as a static method: "
            '@staticmethod def requires(config): return [needs("protonet")].'
        ) from error
    if any(not isinstance(need, Need) for need in found):
        raise PluginError(
            f"{cls.__name__}.requires returned {found}; expected a list of harness.api.needs(…)."
        )
    return found


@dataclasses.dataclass(frozen=True)
class Traits:
    """The optional class attributes of a method, with their defaults."""

    uses_backbone: bool
    transductive: bool
    assumes_balance: bool
    takes: Takes | None
    untrained: bool
    equivariant: bool
    protocols: frozenset[str]
    episode_batch: int

    @property
    def is_head(self) -> bool:
        """Whether it is a classifier on another fit's features."""
        return self.takes in ("vectors", "maps")


def passes_of(cls: type[Any], config: Any) -> int:
    """What a method's static ``passes(config)`` states: how often each image of an episode passes through its backbone.

    It is the price of ``adapt`` and ``predict`` of methods that are given images; 0 where none is stated.

    Raises:
        PluginError: when it is no whole number above 0.
    """
    if not hasattr(cls, "passes"):
        return 0
    found = cls.passes(config)
    if not isinstance(found, int) or found < 1:
        raise PluginError(f"{cls.__name__}.passes returned {found!r}; expected a whole number, at least 1.")
    return found


def views_of(method: Any) -> View | None:
    """The views that a method wants of each picture; None for one square."""
    return getattr(method, "views", None)


def traits(cls: type[Any]) -> Traits:
    """Read a method's optional class attributes.

    A method without ``fit_base``, ``embed`` and ``takes`` has nothing to use a backbone for, and without one nothing that
    another seed would change.
    """
    protocols, learns = getattr(cls, "protocols", {"episodic"}), hasattr(cls, "fit_base")
    uses_backbone = getattr(
        cls, "uses_backbone", learns or embeds(cls) or getattr(cls, "takes", None) is not None
    )
    return Traits(
        uses_backbone=uses_backbone,
        transductive=getattr(cls, "transductive", False),
        assumes_balance=getattr(cls, "assumes_balance", False),
        takes=getattr(cls, "takes", None),
        untrained=getattr(cls, "untrained", not (learns or uses_backbone)),
        equivariant=getattr(cls, "equivariant", False),
        protocols=frozenset([protocols] if isinstance(protocols, str) else protocols),
        episode_batch=getattr(cls, "episode_batch", 0),
    )


def embeds(cls: type[Any]) -> bool:
    """Whether its class shows that a method embeds images: by a function ``embed``, or by declaring a module of that name."""
    return hasattr(cls, "embed") or any("embed" in vars(c).get("__annotations__", {}) for c in cls.__mro__)


def defaults(cls: type[Any]) -> Mapping[str, Mapping[str, Any]]:
    """Read a method's DEFAULTS (none is an empty table)."""
    return getattr(cls, "DEFAULTS", {})


def check_method(cls: type[Any], where: str) -> None:
    """Refuse a class that is not a method, naming everything that is missing at once.

    Raises:
        PluginError: with one line per problem.
    """
    problems = [f"it has no function `{name}`" for name in REQUIRED if not callable(getattr(cls, name, None))]
    config = getattr(cls, "Config", None)
    if not (dataclasses.is_dataclass(config) and config.__dataclass_params__.frozen):  # type: ignore[union-attr]
        problems.append("it has no frozen dataclass `Config` (an empty one will do)")
    for attribute in ("name", "version"):
        if not (isinstance(getattr(cls, attribute, None), str) and getattr(cls, attribute)):
            problems.append(
                f'it has no text `{attribute}`, such as {attribute} = "{_example(cls, attribute)}"'
            )
    if problems:
        raise PluginError(
            f"{where} is not a method: "
            + "; ".join(problems)
            + ". `fsbench new-method NAME` writes one that works."
        )


def _example(cls: type[Any], attribute: str) -> str:
    words = re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()
    return words if attribute == "name" else "1"
