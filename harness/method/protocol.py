"""The protocol of a method: three functions, and optional members that make it faster or richer."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from harness.errors import PluginError

if TYPE_CHECKING:
    from torch import Tensor

    from harness.benchmarks.episodes import EpisodeBatch, Support
    from harness.training.base_set import BaseSet
    from harness.training.fit_context import FitContext

REQUIRED = ("fit_base", "adapt", "predict")


class Method(Protocol):
    """What every method has; built as ``Mine(config, backbone)``, usually also an ``nn.Module``.

    Class attributes beside the three functions:
        Config: frozen dataclass of hyper-parameters (``harness.api.hyper`` declares one).
        DEFAULTS: optional, values by benchmark, setting or "backbone/setting".
        RECIPES: optional, further DEFAULTS by recipe name ("as-published").
        name, version: of the method; a version changes when its numbers may.
        uses_backbone: optional, default True; False builds none and passes an identity.
        transductive: optional, default False; True when predictions depend on the other queries.
        equivariant: optional, default False; True when renaming classes renames the columns exactly.
        protocols: optional, default {"episodic"}.
        episode_batch: optional, episodes in one ``predict_batch`` (default 0: as many as fit the processor's cache).
        reference: optional BibTeX of the paper, for the pages.
        CONTRACT: optional hyper-parameters of a training that takes seconds, for the contract's tiny images.
    """

    name: ClassVar[str]
    version: ClassVar[str]

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Learn from base classes. May ask for validation accuracy; novel images are not open yet."""

    def adapt(self, support: Support) -> Any:
        """Return any object that describes the support: prototypes, a head. Must not change self.

        Gradients are off; a method that optimises here opens ``torch.enable_grad()``.
        """

    def predict(self, state: Any, query: Tensor) -> Tensor:
        """Query (n_query, *F) → scores (n_query, n_way), float, higher is likelier, finite."""


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
