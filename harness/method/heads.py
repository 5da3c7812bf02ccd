"""Heads: classifiers on the frozen features of another fit, one training of which serves all of them.

A class that says ``takes = "vectors"`` (what the ``embed`` of that fit gives, flattened) or ``"maps"`` (what its
``backbone`` gives) has no ``embed`` of its own; ``Config.features`` names the fit. Most are a ``Head``, or a
``NormalisedHead``: one function of many episodes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from harness.method.hyper import hyper
from harness.method.support import EpisodeBatch, Support
from harness.ops.normalise import centre_and_normalise, l2_normalise, unit_products

Normalisation = Literal["un", "l2n", "cl2n"]
_CHUNK = 4096  # base features averaged at once


@dataclass(frozen=True)
class OnFeatures:
    """What every head is asked: whose features."""

    features: str = hyper(
        "softmax",
        "whose features: a method with `embed`, or like softmax(epochs=5); fitted once for all heads",
    )


class Asked(Protocol):
    """What a head asks of the ``FitContext``."""

    device: torch.device

    def require(self, method: str) -> Any:
        """A fit that it is built on."""

    def features(self, fitted: Any) -> Any:
        """Its features of all base images, ``x`` (N, *F)."""


class Normaliser(nn.Module):
    """Features as a head wants them (Wang et al. 2019, SimpleShot).

    Args:
        rule: "un" leaves them as they are, "l2n" gives them unit length, "cl2n" subtracts the mean of all base images
            first.
    """

    mean: Tensor

    def __init__(self, rule: Normalisation) -> None:
        super().__init__()
        self.rule = rule
        self.register_buffer("mean", torch.zeros(0))  # of (D,); how many is known with the features

    def settle(self, ctx: Asked, features: str) -> None:
        """Keep the mean base feature, for ``fit_base``; under every rule, so that one fit serves all of them."""
        x = ctx.features(ctx.require(features)).x.flatten(1)  # (N, D)
        total = sum(part.double().sum(0) for part in x.split(_CHUNK))
        self.mean = (total / len(x)).to(ctx.device, torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) → (..., D)."""
        if self.rule == "un":
            return x
        return l2_normalise(x) if self.rule == "l2n" else centre_and_normalise(x, self.mean)

    def products(self, x: Tensor) -> Tensor:
        """Inner products of normalised features, without writing these: (..., n, D) → (..., n, n)."""
        x = x - self.mean if self.rule == "cl2n" else x
        gram = x @ x.mT
        return gram if self.rule == "un" else unit_products(gram)

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Take the mean at the width that it was kept with."""
        if (kept := state.get(f"{prefix}mean")) is not None:
            self.mean = torch.empty_like(kept)
        super()._load_from_state_dict(state, prefix, *rest)


class Head(ABC):
    """A classifier on the features of another fit, as what it does to E episodes at once; one episode is E = 1.

    A head defines ``scores``, and ``fit`` where something follows from the support alone. It learns nothing before. What
    it is given is not changed in place, and no episode sees another. For episodes with as many images of every class:
    under the joint and the closed protocol a head writes ``adapt`` and ``predict`` itself, and so does one that draws,
    since neither function is given a generator (and ``predict_batch`` with the generators of its batch).

    Attributes:
        takes: "vectors", or "maps" in a subclass.
        config: an ``OnFeatures``.
    """

    takes: ClassVar[str] = "vectors"
    config: Any

    def __init__(self, config: Any, backbone: Any) -> None:
        self.config = config

    def fit_base(self, base: Any, ctx: Asked) -> None:  # noqa: B027 -- most learn nothing
        """Learn nothing."""

    def fit(self, support: Tensor, /) -> Any:
        """What the supports give before any query is seen; themselves here.

        Args:
            support: (E, W, S, *F) float features by class; with ``views`` (E, W, S, v, *F).
        """
        return support

    @abstractmethod
    def scores(self, state: Any, query: Tensor, /) -> Tensor:
        """Score the classes.

        Args:
            state: what ``fit`` gave.
            query: (E, Q, *F) float features; with ``views`` (E, Q, v, *F).

        Returns:
            (E, Q, W) float, finite, higher is likelier.
        """

    def adapt(self, support: Support) -> Any:
        """``fit`` of one episode."""
        return self.fit(support.by_class()[None])

    def predict(self, state: Any, query: Tensor) -> Tensor:
        """``scores`` of one episode: (n_query, n_way)."""
        return self.scores(state, query[None])[0]

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Both for many episodes: (E, n_query, n_way)."""
        return self.scores(self.fit(batch.support), batch.query)


class NormalisedHead(Head, nn.Module):
    """A head with ``self.normalise``, by the rule that its ``Config`` declares as ``normalise``; an ``nn.Module``, so that the mean base feature is kept with the fit."""

    def __init__(self, config: Any, backbone: Any) -> None:
        nn.Module.__init__(self)
        super().__init__(config, backbone)
        self.normalise = Normaliser(config.normalise)

    def fit_base(self, base: Any, ctx: Asked) -> None:
        """Keep the mean base feature."""
        self.normalise.settle(ctx, self.config.features)
