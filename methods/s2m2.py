"""Charting the right manifold: S2M2_R (Mangla et al. 2020, arXiv:1907.12087).

First a backbone learns the base classes and by how many quarters an image was turned; then it learns them with manifold
mixup, images or hidden maps of two images mixed before a block drawn for each batch, while a quarter of the batch goes on
telling turns. An episode's classes are told by cosines with a learned gain each, fitted to the support by SGD.

What differs from the authors' code (github.com/nupurkmr9/S2M2_fewshot): validation episodes choose the epoch among both
stages (theirs: each stage's own loss); networks of four blocks mix before each of them, as their WRN-28-10 does before its
three and its last norm; on mini they ask all other images of a class (``mini-5w1s-qall`` here).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from harness.api import (
    Backbone,
    BaseSet,
    EpisodeBatch,
    FitContext,
    Sgd,
    Support,
    check_ranges,
    draw_heads,
    draw_orders,
    full_precision,
    hyper,
)
from harness.ops.linear_head import Gained, fit_gained_heads, nearly_unit
from harness.ops.mixup import draw_mix
from harness.ops.rotation import Turned, every_turn


class S2m2(nn.Module):
    """Turns and manifold mixup; cosines with a gain for each episode."""

    @dataclass(frozen=True)
    class Config:
        """Hyper-parameters; the field defaults are the authors' for CUB."""

        epochs: int = hyper(
            300, "passes over the base images in both stages, > rotation_epochs", in_epochs=True
        )
        rotation_epochs: int = hyper(200, "of them in the first stage, without mixup, ≥ 0", in_epochs=True)
        batch_size: int = hyper(64, "images per step, ≥ 2; the first stage shows each in four turns")
        lr: float = hyper(1e-3, "Adam's step size, > 0")
        alpha: float = hyper(2.0, "of Beta(alpha, alpha), the shares of mixup, > 0")
        scale: float = hyper(2.0, "factor on the cosines, > 0")
        validate_every: int = hyper(10, "epochs between two validations, ≥ 1", in_epochs=True)
        passes: int = hyper(
            301, "passes over an episode's support, ≥ 1; theirs are told at 101, 201, 301", phase="adapt"
        )

        def __post_init__(self) -> None:
            """Check ranges."""
            mixes = {f"rotation_epochs must be < epochs = {self.epochs}": self.rotation_epochs < self.epochs}
            check_ranges(
                self,
                {
                    "≥ 0": "rotation_epochs",
                    "≥ 1": "passes validate_every",
                    "≥ 2": "batch_size",
                    "> 0": "lr alpha scale",
                },
                mixes,
            )

    name: ClassVar[str] = "s2m2"
    version: ClassVar[str] = "1"
    reference: ClassVar[str] = """@inproceedings{mangla2020charting,
      title={Charting the Right Manifold: Manifold Mixup for Few-shot Learning},
      author={Mangla, Puneet and Singh, Mayank and Sinha, Abhishek and Kumari, Nupur and Balasubramanian, Vineeth N
              and Krishnamurthy, Balaji},
      booktitle={IEEE Winter Conference on Applications of Computer Vision},
      year={2020},
      eprint={1907.12087},
      archivePrefix={arXiv},
    }"""
    episode_batch: ClassVar[int] = 256  # the heads of many episodes are trained at once
    CONTRACT: ClassVar[dict[str, Any]] = {"epochs": 8, "rotation_epochs": 4, "passes": 30}
    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {
        "glyphs": {"epochs": 15, "rotation_epochs": 8, "validate_every": 3},
        "glyphs-digits": {"epochs": 15, "rotation_epochs": 8, "validate_every": 3},
        "omniglot-small": {"epochs": 8, "rotation_epochs": 4, "validate_every": 2},
        "omniglot-lake": {"epochs": 6, "rotation_epochs": 3, "validate_every": 2},
        "cifar10": {"epochs": 24, "rotation_epochs": 12, "validate_every": 4},
    }

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        self.config, self.backbone = config, backbone

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Train the backbone, a classifier of the base classes, and one of turns."""
        c, steps, width = self.config, base.n_batches(self.config.batch_size), self.backbone.width
        classes = weight_norm(nn.Linear(width, base.n_classes, bias=False), dim=0).to(ctx.device)
        turns = nn.Linear(width, 4).to(ctx.device)
        parts = {"model": self, "classes": classes, "turns": turns}
        optimiser = torch.optim.Adam([p for part in parts.values() for p in part.parameters()], lr=c.lr)

        def told(features: Tensor) -> Tensor:
            return c.scale * classes(nearly_unit(full_precision(features)))

        def of_turns(turned: Turned, y: Tensor) -> Tensor:
            with ctx.autocast():
                features = self.embed(turned.images)
            by_turn = functional.cross_entropy(full_precision(turns(features)), turned.quarters)
            return (functional.cross_entropy(told(features), y[turned.source]) + by_turn) / 2

        for epoch in ctx.epochs(c.epochs, **parts, optimiser=optimiser):
            losses = []
            for x, y in base.batches(c.batch_size, augment=True):
                if epoch < c.rotation_epochs:
                    loss = of_turns(every_turn(x), y)
                else:
                    mix = draw_mix(len(x), c.alpha, ctx.rng)
                    part = int(torch.randint(len(self.backbone.parts), (), generator=ctx.rng))
                    with ctx.autocast():
                        features = self.backbone.pooled(self.backbone.changed(x, part, mix.of))
                    loss = mix.loss(told(features), y)
                    ctx.backward(loss)
                    few = torch.randperm(len(x), generator=ctx.rng)[: max(1, len(x) // 4)].to(x.device)
                    loss = of_turns(every_turn(x[few]), y[few])
                ctx.backward(loss)
                ctx.step(optimiser)
                losses.append(loss.detach())
            points = {"loss": float(torch.stack(losses).mean())}
            if (epoch + 1) % c.validate_every == 0 or epoch + 1 == c.epochs:
                validation = ctx.keep_best(self, way=5, shot=1)
                points |= {} if validation is None else {"validation_accuracy": validation}
            ctx.log((epoch + 1) * steps, **points)

    def embed(self, images: Tensor) -> Tensor:
        """(b, c, H, W) → (b, D)."""
        return self.backbone.pooled(self.backbone(images))

    def adapt(self, support: Support) -> Gained:
        """Fit an episode's classifier."""
        return self._fit(support.x[None], support.y[None], support.n_way, [support.rng])

    def predict(self, state: Gained, query: Tensor) -> Tensor:
        """Scaled cosines times the gains: (n_query, n_way)."""
        return state.scores(query[None], self.config.scale)[0]

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        n_episodes, n_way, shot = batch.support.shape[:3]
        label = torch.arange(n_way, device=batch.support.device).repeat_interleave(shot)
        fitted = self._fit(batch.support.flatten(1, 2), label.expand(n_episodes, -1), n_way, list(batch.rng))
        return fitted.scores(batch.query, self.config.scale)

    def _fit(self, x: Tensor, y: Tensor, n_way: int, rng: Sequence[torch.Generator]) -> Gained:
        """Fit (E, n, D) features with labels (E, n) from each episode's own start and orders."""
        c, weight = self.config, draw_heads(rng, n_way, x.shape[-1]).to(x)  # (E, W, D)
        orders = draw_orders(rng, x.shape[1], c.passes).to(x.device)
        start = Gained(weight, weight.norm(dim=-1, keepdim=True))
        return fit_gained_heads(x, y, start, orders, scale=c.scale, sgd=Sgd())
