"""One network and classifier of all base classes; then a small classifier for each episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import (
    Backbone,
    BaseSet,
    Conv4,
    EpisodeBatch,
    FitContext,
    Sgd,
    Similarity,
    Support,
    add_drop_layers,
    draw_heads,
    draw_orders,
    fit_heads,
    full_precision,
    hyper,
    margin_scores,
    official_names,
    similarities,
    warmup_cosine,
    with_bias,
)
from methods.margin.recipe import COMMON, Recipe, Scaled, Table, WithMargin, as_published, defaults, from_zero

_THUML = {"weight_decay": 3e-3, "drop_rate": 0.0}  # of the baselines' CUB training: thuml/few-shot


class MarginClassifier(nn.Module):
    """What the four share; ``kind`` is the similarity, ``is_affine`` adds a bias and drops scale and margin."""

    config: Any  # its own Config
    kind: ClassVar[Similarity]
    is_affine: ClassVar[bool] = False
    official_extras: ClassVar[tuple[str, ...]] = ("classifier.",)  # of the base classes
    version: ClassVar[str] = "1"
    reference: ClassVar[str] = """@inproceedings{liu2020negative,
      title={Negative Margin Matters: Understanding Margin in Few-shot Classification},
      author={Liu, Bin and Cao, Yue and Lin, Yutong and Li, Qi and Zhang, Zheng and Long, Mingsheng and Hu, Han},
      booktitle={European Conference on Computer Vision},
      year={2020},
      eprint={2003.12060},
      archivePrefix={arXiv},
    }"""
    episode_batch: ClassVar[int] = 256  # the heads of many episodes are trained at once
    CONTRACT: ClassVar[dict[str, Any]] = {
        "epochs": 6,
        "warmup_epochs": 1,
        "batch_size": 32,
        "validate_every": 3,
    }

    def __init__(self, config: Recipe, backbone: Backbone) -> None:
        super().__init__()
        if backbone.init != "fan_out":
            backbone.init = "fan_out"
            backbone.draw_weights(backbone.stages)
        add_drop_layers(backbone, config.drop_rate, config.block_size, config.squares)
        self.config, self.backbone = config, backbone
        self.is_flat = isinstance(backbone, Conv4)  # residual networks average their map

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Train the network and a classifier of all base classes."""
        rows = base.n_classes + self.config.unused_rows
        width = self.backbone.flat_features if self.is_flat else self.backbone.channels
        self._train(nn.Linear(width, rows, bias=self.is_affine).to(ctx.device), base, ctx)

    def _train(self, head: nn.Linear, base: BaseSet, ctx: FitContext) -> None:
        c, steps = self.config, base.n_batches(self.config.batch_size)
        n_warmup, n_total = c.warmup_epochs * steps, c.epochs * steps
        optimiser = torch.optim.Adam([*self.parameters(), *head.parameters()], weight_decay=c.weight_decay)
        for epoch in ctx.epochs(c.epochs, model=self, head=head, optimiser=optimiser):
            seen = []
            for i, (x, y) in enumerate(base.batches(c.batch_size, augment=True)):
                done = max(epoch * steps + i - 1, 0)  # the rate is set after a step, with that step's index
                for group in optimiser.param_groups:
                    group["lr"] = warmup_cosine(done, base=c.lr, n_warmup=n_warmup, n_total=n_total)
                for part, target in zip(x.chunk(c.parts_per_step), y.chunk(c.parts_per_step), strict=True):
                    with ctx.autocast():
                        features = self.embed(part)
                    loss, similarity = self._loss(full_precision(features), head, target)
                    ctx.backward(loss * len(part) / len(x))
                    seen.append(
                        torch.stack([loss.detach(), (similarity.argmax(1) == target).to(loss).mean()])
                    )
                ctx.step(optimiser)
            points = dict(zip(("loss", "train_accuracy"), torch.stack(seen).mean(0).tolist(), strict=True))
            if (epoch + 1) % c.validate_every == 0 or epoch + 1 == c.epochs:
                validation = ctx.keep_best(self, way=5, shot=c.validation_shot)
                points |= {} if validation is None else {"validation_accuracy": validation}
            ctx.log((epoch + 1) * steps, **points)

    def _loss(self, features: Tensor, head: nn.Linear, target: Tensor) -> tuple[Tensor, Tensor]:
        """() loss and (n, W) similarities without margin."""
        scale, margin = getattr(self.config, "scale", 1.0), getattr(self.config, "margin", 0.0)
        similarity = head(features) if self.is_affine else similarities(features, head.weight, self.kind)
        scores = margin_scores(similarity, target, scale=scale, margin=margin)
        return functional.cross_entropy(scores, target), similarity.detach()

    def embed(self, images: Tensor) -> Tensor:
        """(b, c, H, W) → (b, D): the average over the map, or conv4's flattened map."""
        maps: Tensor = self.backbone(images)  # (b, C, h, w)
        return maps.flatten(1) if self.is_flat else maps.mean((2, 3))

    def adapt(self, support: Support) -> Tensor:
        """Train a classifier on the support: (n_way, D), with a bias (n_way, D + 1)."""
        return self._fit_heads(support.x[None], support.y[None], support.n_way, [support.rng])[0]

    def predict(self, state: Tensor, query: Tensor) -> Tensor:
        """Scaled similarities to the classes: (..., n_query, n_way)."""
        query = with_bias(query) if self.is_affine else query
        return getattr(self.config, "head_scale", 1.0) * similarities(query, state, self.kind)

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        n_episodes, n_way, shot = batch.support.shape[:3]
        target = torch.arange(n_way, device=batch.support.device).repeat_interleave(shot)  # (W·S,)
        support = batch.support.flatten(1, 2)  # (E, W·S, D)
        heads = self._fit_heads(support, target.expand(n_episodes, -1), n_way, list(batch.rng))
        return self.predict(heads, batch.query)

    def _fit_heads(self, x: Tensor, y: Tensor, n_way: int, rng: Sequence[torch.Generator]) -> Tensor:
        """Fit (E, n, D) features with labels (E, n) from each episode's own start and orders: (E, n_way, D)."""
        c, dim = self.config, x.shape[-1]
        weight = getattr(c, "head_start", 1.0) * draw_heads(rng, n_way, dim)
        if self.is_affine:
            x, weight = (
                with_bias(x),
                torch.cat([weight, c.head_start * draw_heads(rng, n_way, 1) / dim**0.5], dim=-1),
            )
        orders = draw_orders(rng, x.shape[1], c.passes).to(x.device)
        sgd = Sgd(lr=c.head_lr, weight_decay=c.head_decay, batch_size=c.head_batch_size)
        scale = getattr(c, "head_scale", 1.0)
        return fit_heads(x, y, weight.to(x), orders, kind=self.kind, scale=scale, sgd=sgd)

    def official_names(self) -> dict[str, tuple[str, ...]]:
        """Own state key → names in the authors' checkpoints."""
        return official_names(self.backbone.stages, "negative-margin", "backbone.stages.", "feature.")


class Cosine(MarginClassifier):
    """Cosine to a class weight, without a margin."""

    name: ClassVar[str] = "cosine"
    kind, Config = "cosine", Scaled
    DEFAULTS: ClassVar[Table] = defaults("cosine", ("margin",))
    RECIPES: ClassVar[dict[str, Table]] = as_published(cub=_THUML)


class NegCosine(MarginClassifier):
    """Cosine to a class weight, with a negative margin."""

    name: ClassVar[str] = "neg-cosine"
    kind, Config = "cosine", WithMargin
    DEFAULTS: ClassVar[Table] = defaults("cosine") | {
        "wrn28_10/mini": {**COMMON["wrn28_10/mini"], "margin": -0.2}
    }
    RECIPES: ClassVar[dict[str, Table]] = as_published()


class NegSoftmax(MarginClassifier):
    """Inner product with a class weight, with a negative margin in units of that product."""

    @dataclass(frozen=True)
    class Config(WithMargin):
        """Hyper-parameters of inner products, which go with the length of the features."""

        scale: float = hyper(5.0, "factor on the inner product in training, > 0")
        margin: float = hyper(-0.3, "subtracted from the true class's product, in [-1, 1]; < 0 helps it")

        head_scale: float = hyper(
            1.0, "factor on the product in an episode, > 0; the authors' is 5", phase="adapt"
        )
        head_start: float = from_zero()

    name: ClassVar[str] = "neg-softmax"
    version: ClassVar[str] = "2"
    kind = "dot"
    DEFAULTS: ClassVar[Table] = defaults("dot")
    RECIPES: ClassVar[dict[str, Table]] = as_published({"head_scale": 5.0, "head_start": 1.0})


class Softmax(MarginClassifier):
    """An affine layer, without scale or margin."""

    @dataclass(frozen=True)
    class Config(Recipe):
        """Hyper-parameters of inner products, which go with the length of the features."""

        head_start: float = from_zero()

    name: ClassVar[str] = "softmax"
    version: ClassVar[str] = "2"
    kind, is_affine = "dot", True
    DEFAULTS: ClassVar[Table] = defaults("dot", ("margin", "scale"))
    RECIPES: ClassVar[dict[str, Table]] = as_published({"head_start": 1.0}, _THUML)
