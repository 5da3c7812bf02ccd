"""Heads: classifiers on the frozen features of another fit, one training of which serves all of them.

A class that says ``takes = "vectors"`` (what the ``embed`` of that fit gives, flattened) or ``"maps"`` (what its
``backbone`` gives) has no ``embed`` of its own; ``Config.features`` names the fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from harness.method.hyper import hyper
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
