"""A network with weights from elsewhere, as it is: nothing is trained here.

``--backbone timm:NAME`` or ``torchvision:NAME`` (or one of fsbench's own) with ``--weights FILE``, what those weights have
seen (``--seen``), and the input that the network was made for. By itself it is the nearest class mean of features of unit
length; its use is below heads: ``fsbench run -m 'centroid[frozen]' …``. ``table`` is the same on features that another
program made, a row for each image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness.api import (
    Backbone,
    BaseSet,
    EpisodeBatch,
    FitContext,
    Support,
    backbone_names,
    class_means,
    distance_scores,
    l2_normalise,
)


class _UnitMeans(nn.Module):
    """Nearest class mean of features of unit length, with weights from elsewhere."""

    @dataclass(frozen=True)
    class Config:
        """Nothing to choose."""

    version: ClassVar[str] = "1"
    needs_weights: ClassVar[bool] = True
    equivariant: ClassVar[bool] = True

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Train nothing."""

    def adapt(self, support: Support) -> Tensor:
        """Class means of unit features: (n_way, D)."""
        return class_means(l2_normalise(support.by_class()))

    def predict(self, state: Tensor, query: Tensor) -> Tensor:
        """Minus squared distances to the means: (..., n_query, n_way)."""
        return distance_scores(l2_normalise(query), state)

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        return self.predict(class_means(l2_normalise(batch.support)), batch.query)


class Frozen(_UnitMeans):
    """Nearest class mean on a network with weights from elsewhere."""

    name: ClassVar[str] = "frozen"
    official_extras: ClassVar[tuple[str, ...]] = ("",)  # the classifier of what it was trained for

    def __init__(self, config: _UnitMeans.Config, backbone: Backbone) -> None:
        super().__init__()
        self.config, self.backbone = config, backbone

    def official_names(self) -> dict[str, tuple[str, ...]]:
        """Own state key → the library's name, or ours of one of our backbones."""
        return self._tables()[0]

    def other_names(self) -> tuple[dict[str, tuple[str, ...]], ...]:
        """What others call the tensors of one of our backbones."""
        return self._tables()[1:]

    def _tables(self) -> tuple[dict[str, tuple[str, ...]], ...]:
        names: Any = getattr(self.backbone, "names", None)
        if names is None:
            return tuple(backbone_names(self.backbone.stages, "backbone.stages."))
        return ({f"backbone.stages.{key}": theirs for key, theirs in names.items()},)

    def embed(self, images: Tensor) -> Tensor:
        """(b, c, H, W) → (b, D): the average over the map, or conv4's flattened map."""
        return self.backbone.pooled(self.backbone(images))


class Table(_UnitMeans):
    """Nearest class mean on a table of features that another program made (``fsbench features import``)."""

    name: ClassVar[str] = "table"
    takes: ClassVar[str] = "names"
    uses_backbone: ClassVar[bool] = False
    official_extras: ClassVar[tuple[str, ...]] = ()

    features: Tensor
    names: Tensor

    def __init__(self, config: _UnitMeans.Config, backbone: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("features", torch.zeros(0, 0))  # (N, D)
        self.register_buffer("names", torch.zeros(0, dtype=torch.uint8))  # of the N images, a line each
        self._row: dict[str, int] = {}

    def size_for(self, found: Mapping[str, Tensor]) -> None:
        """Have room for the table of a file."""
        for key in ("features", "names"):
            if key in found:
                setattr(self, key, torch.empty_like(found[key]))

    def official_names(self) -> dict[str, tuple[str, ...]]:
        """Own state key → its name in the file."""
        return {key: (key,) for key in ("features", "names")}

    def embed(self, images: Sequence[str]) -> Tensor:
        """Names of b images → (b, D).

        Raises:
            ValueError: naming an image that the table lacks.
        """
        if not self._row:
            told = bytes(self.names.cpu().tolist()).decode()
            self._row = {name: i for i, name in enumerate(told.split("\n"))}
        if missing := sorted({name for name in images if name not in self._row}):
            raise ValueError(
                f"the table has no features of {len(missing)} images asked for, such as {missing[0]}"
            )
        return self.features[[self._row[name] for name in images]]

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Take the table at the size that it was kept with."""
        self.size_for({key.removeprefix(prefix): value for key, value in state.items()})
        super()._load_from_state_dict(state, prefix, *rest)
