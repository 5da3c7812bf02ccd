"""Nearest class mean on raw pixels: the floor that every table needs.

Nothing is learned: a class is the average of its support images, a query goes to the closest average in squared
Euclidean distance. What a method gains over this row it gained by its representation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from harness.api import (
    Backbone,
    BaseSet,
    EpisodeBatch,
    FitContext,
    LabelMeans,
    Support,
    distance_scores,
    streamed_means,
)


class Pixels:
    """Nearest class mean on pixel values in [0, 1]."""

    @dataclass(frozen=True)
    class Config:
        """No hyper-parameters."""

    name: ClassVar[str] = "pixels"
    version: ClassVar[str] = "1"
    uses_backbone: ClassVar[bool] = False
    equivariant: ClassVar[bool] = True
    untrained: ClassVar[bool] = True
    protocols: ClassVar[set[str]] = {"episodic", "joint", "closed"}

    def __init__(self, config: Config, backbone: Backbone) -> None:
        """Take nothing from either."""

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Learn nothing."""

    def adapt(self, support: Support) -> LabelMeans:
        """Average each class: (n_way, c·H·W)."""
        return streamed_means(((x.flatten(1), y) for x, y in support.batches()), support.n_way)

    def predict(self, state: LabelMeans, query: Tensor) -> Tensor:
        """Score by minus the squared distance: (n_query, n_way)."""
        return state.unknown_last(distance_scores(query.flatten(1), state.means))

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        means = batch.support.flatten(3).mean(2)  # (E, W, c·H·W)
        return distance_scores(batch.query.flatten(2), means)
