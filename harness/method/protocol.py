"""The protocol of a method: three functions, and optional members that make it faster or richer."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from harness.errors import PluginError

if TYPE_CHECKING:
    from torch import Tensor

    from harness.method.support import EpisodeBatch

REQUIRED = ("fit_base", "adapt", "predict")


@runtime_checkable
class Embeds(Protocol):
    """Optional: each image is embedded once and kept in a feature table."""

    def embed(self, images: Tensor) -> Tensor:
        """(b, c, H, W) normalised images → (b, *F) features, each independent of the others in the batch."""


@runtime_checkable
class Batched(Protocol):
    """Optional: many episodes in one call."""

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Support (E, n_way, shot, *F), query (E, n_query, *F) → scores (E, n_query, n_way).

        Equals ``adapt`` + ``predict``, episode by episode.
        """


@dataclasses.dataclass(frozen=True)
class Traits:
    """The optional class attributes of a method, with their defaults."""

    uses_backbone: bool
    transductive: bool
    equivariant: bool
    protocols: frozenset[str]
    episode_batch: int


def traits(cls: type[Any]) -> Traits:
    """Read a method's optional class attributes."""
    protocols = getattr(cls, "protocols", {"episodic"})
    return Traits(
        uses_backbone=getattr(cls, "uses_backbone", True),
        transductive=getattr(cls, "transductive", False),
        equivariant=getattr(cls, "equivariant", False),
        protocols=frozenset([protocols] if isinstance(protocols, str) else protocols),
        episode_batch=getattr(cls, "episode_batch", 0),
    )


def defaults(cls: type[Any]) -> Mapping[str, Mapping[str, Any]]:
    """Read a method's DEFAULTS (none is an empty table)."""
    return getattr(cls, "DEFAULTS", {})


def recipes(cls: type[Any]) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """Read a method's recipes; "clean" always exists and adds nothing."""
    return {"clean": {}, **getattr(cls, "RECIPES", {})}


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
