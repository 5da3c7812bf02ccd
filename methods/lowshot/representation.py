"""The representation: a network and a bias-free classifier of the base classes, with an auxiliary loss."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import (
    Backbone,
    BaseSet,
    EpisodeBatch,
    FitContext,
    LabelMeans,
    Later,
    Support,
    class_means,
    cosine_scores,
    full_precision,
    low_shot_names,
    streamed_means,
)
from harness.ops.auxiliary_losses import AUXILIARY_LOSSES
from harness.ops.schedules import stepped_decay
from harness.ops.warps import draw_warps, warp
from methods.lowshot.classifier import fit_classifier
from methods.lowshot.recipe import PAPER, REPRESENTATION, RepresentationConfig, Table


class Representation(nn.Module):
    """Features whose base classifier hardly moves at a further example; by itself, nearest class mean by cosine."""

    Config = RepresentationConfig
    name: ClassVar[str] = "representation"
    version: ClassVar[str] = "1"
    called_by: ClassVar[str] = "aux"
    reference: ClassVar[str] = PAPER
    equivariant: ClassVar[bool] = True
    protocols: ClassVar[set[str]] = {"episodic", "joint"}
    official_extras: ClassVar[tuple[str, ...]] = (
        "classifier.",
    )  # in the authors' order of labels; trained anew
    CONTRACT: ClassVar[dict[str, Any]] = {"epochs": 3, "batch_size": 32, "decay_every": 2}
    DEFAULTS: ClassVar[Table] = REPRESENTATION

    def __init__(self, config: RepresentationConfig, backbone: Backbone) -> None:
        super().__init__()
        if backbone.init != "fan_out":
            backbone.init = "fan_out"
            backbone.draw_weights(backbone.stages)
        self.config, self.backbone = config, backbone
        self.classifier = Later(lambda n: nn.Linear(backbone.channels, n, bias=False), "weight")

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Train network and classifier; where the images are saved features, the classifier alone."""
        if not list(self.backbone.parameters()):
            self.settle(base)
            return
        c, auxiliary = self.config, AUXILIARY_LOSSES[self.config.aux]
        classifier = self.classifier.of(base.n_classes).to(ctx.device)
        optimiser = torch.optim.SGD(self.parameters(), c.lr, c.momentum, weight_decay=c.weight_decay)
        for epoch in ctx.epochs(c.epochs, model=self, optimiser=optimiser):
            for group in optimiser.param_groups:
                group["lr"] = stepped_decay(
                    epoch, base=c.lr, every=c.decay_every, factor=0.1, n_warmup=c.warmup_epochs
                )
            seen = []
            for x, y in base.batches(c.batch_size, augment=True):
                with ctx.autocast():
                    features = self.embed(warp(x, draw_warps(len(x), c.warp, ctx.rng)) if c.warp else x)
                features = full_precision(features)
                scores = classifier(features)
                loss = functional.cross_entropy(scores, y)
                extra = c.weight * auxiliary(scores, features, classifier.weight, y)
                ctx.backward(loss + extra)
                ctx.step(optimiser)
                with torch.no_grad():
                    length = features.square().sum(1).mean()
                    seen.append(torch.stack([loss, extra, (scores.argmax(1) == y).float().mean(), length]))
            names = ("loss", "auxiliary_loss", "train_accuracy", "mean_square_length")
            points = dict(zip(names, torch.stack(seen).mean(0).tolist(), strict=True))
            ctx.log((epoch + 1) * base.n_batches(c.batch_size), **points)
            if epoch + 1 == c.epochs and points["train_accuracy"] < 2 / base.n_classes:
                ctx.warn(
                    f"The classifier has learnt nothing (accuracy {points['train_accuracy']:.3f}, features of mean square "
                    f"length {points['mean_square_length']:.2g}): a lighter {c.aux} loss than {c.weight:g} may help."
                )

    def settle(self, base: BaseSet) -> None:
        """Train a classifier of the base classes on the features of their images, for weights that came without one."""
        self.eval()
        x, y = self._features(base)
        classifier = self.classifier.of(base.n_classes).to(x.device)
        rng = torch.Generator().manual_seed(len(x))  # an import has no stream of its own
        fit_classifier(classifier, x, y, self.config.classifier_steps, rng)
        self.train()

    @torch.no_grad()
    def _features(self, base: BaseSet) -> tuple[Tensor, Tensor]:
        """Those of all base images, (N, D), and their classes, (N,); in memory once."""
        x, y, done = torch.empty(0), [], 0
        for images, labels in base.all_images():
            part = self.embed(images)
            x = x if done else part.new_empty(base.n_images, part.shape[1])
            x[done : done + len(part)] = part
            y.append(labels)
            done += len(part)
        return x, torch.cat(y)

    def embed(self, images: Tensor) -> Tensor:
        """(b, c, H, W) → (b, D), the average over the map, which is not negative."""
        maps: Tensor = self.backbone(images)  # (b, C, h, w)
        return maps.mean((2, 3))

    def adapt(self, support: Support) -> LabelMeans:
        """Means of each label's features: (n_way, D)."""
        return streamed_means(support.batches(), support.n_way)

    def predict(self, state: LabelMeans, query: Tensor) -> Tensor:
        """Cosines to the means: (n_query, n_way)."""
        return state.unknown_last(cosine_scores(query, state.means))

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        return cosine_scores(batch.query, class_means(batch.support))

    def official_names(self) -> dict[str, tuple[str, ...]]:
        """Own state key → names in the authors' checkpoints."""
        return low_shot_names(self.backbone.stages, "backbone.stages.")
