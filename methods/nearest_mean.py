"""Nearest mean on features of a classifier: SimpleShot's CL2N (Wang et al. 2019, arXiv:1911.04623).

A backbone learns to tell the base classes apart by plain cross-entropy. At test time its features are centred on
the mean of the base features and scaled to unit length; a class is the mean of its support, and a query goes to
the class with the highest cosine. Every meta-learning method has to beat this.

What differs from the authors' code (github.com/mileyan/simple_shot): Adam with a cosine schedule instead of SGD
with steps (a choice of ours for short trainings), and the scores are cosines to the class means (theirs: minus
Euclidean distances between them).
"""

from __future__ import annotations

from dataclasses import dataclass
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
    Pretrained,
    Support,
    backbone_names,
    centre_and_normalise,
    class_means,
    cosine_scores,
    hyper,
    streamed_means,
)


class NearestMean(nn.Module):
    """Cosine to the class means of centred features."""

    @dataclass(frozen=True)
    class Config(Pretrained):
        """Hyper-parameters."""

        epochs: int = hyper(90, "passes over the base images, ≥ 1 (§4.1)", in_epochs=True)
        batch_size: int = hyper(256, "images per step, ≥ 2 (§4.1)")
        lr: float = hyper(1e-3, "Adam's first step size, > 0; decays to 0 along a cosine")
        validation_shot: int = hyper(1, "shots of the 5-way validation episodes that choose the epoch, ≥ 1")

        def __post_init__(self) -> None:
            """Check ranges."""
            if self.epochs < 1 or self.batch_size < 2 or self.lr <= 0 or self.validation_shot < 1:
                raise ValueError("epochs and validation_shot must be ≥ 1, batch_size ≥ 2 and lr > 0")

    name: ClassVar[str] = "nearest-mean"
    version: ClassVar[str] = "1"
    reference: ClassVar[str] = """@misc{wang2019simpleshot,
      title={SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot Learning},
      author={Wang, Yan and Chao, Wei-Lun and Weinberger, Kilian Q. and van der Maaten, Laurens},
      year={2019},
      eprint={1911.04623},
      archivePrefix={arXiv},
    }"""
    equivariant: ClassVar[bool] = True
    official_extras: ClassVar[tuple[str, ...]] = (
        "",
    )  # of a checkpoint the backbone is wanted, whatever is beside it
    protocols: ClassVar[set[str]] = {"episodic", "joint", "closed"}
    CONTRACT: ClassVar[dict[str, Any]] = {"epochs": 1}
    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {
        "glyphs": {"epochs": 20, "batch_size": 64},
        "glyphs-closed": {"epochs": 20, "batch_size": 64},
        "glyphs-digits": {"epochs": 20, "batch_size": 64},
        "glyphs-lowshot": {"epochs": 20, "batch_size": 64},
        "omniglot-small": {"epochs": 10, "batch_size": 64},
        "omniglot-small-lowshot": {"epochs": 20, "batch_size": 64},
        "omniglot-lake": {"epochs": 10, "batch_size": 64},
    }

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        self.config, self.backbone = config, backbone
        self.centre: Tensor
        self.register_buffer("centre", torch.zeros(backbone.flat_features))

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Train backbone and a linear classifier on all base classes, then keep the mean base feature."""
        c = self.config
        classifier = nn.Linear(self.backbone.flat_features, base.n_classes).to(ctx.device)
        optimiser = torch.optim.Adam([*self.parameters(), *classifier.parameters()], lr=c.lr)
        steps = base.n_batches(c.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, c.epochs * steps)
        for epoch in ctx.epochs(
            c.epochs, model=self, classifier=classifier, optimiser=optimiser, schedule=schedule
        ):
            losses, hits = list[float](), list[float]()
            for x, y in base.batches(c.batch_size):
                with ctx.autocast():
                    scores = classifier(self.embed(x))
                loss = functional.cross_entropy(scores.float(), y)
                ctx.backward(loss)
                ctx.step(optimiser)
                schedule.step()
                losses.append(loss.item())
                hits.append((scores.argmax(1) == y).float().mean().item())
            self.settle(base)
            points = {"loss": sum(losses) / len(losses), "train_accuracy": sum(hits) / len(hits)}
            validation = ctx.keep_best(self, way=5, shot=c.validation_shot)
            if validation is not None:
                points["validation_accuracy"] = validation
            ctx.log((epoch + 1) * steps, **points)

    @torch.no_grad()
    def settle(self, base: BaseSet) -> None:
        """Keep the mean base feature; after an import too, since a checkpoint of a backbone has none."""
        self.eval()
        total = torch.stack([self.embed(x).sum(0) for x, _ in base.all_images()]).sum(0)
        self.centre = total / base.n_images
        self.train()

    def official_names(self) -> dict[str, tuple[str, ...]]:
        """Own state key → own name; only the backbone has weights."""
        return backbone_names(self.backbone.stages, "backbone.stages.")[0]

    def other_names(self) -> tuple[dict[str, tuple[str, ...]], ...]:
        """What others call the backbone's tensors."""
        return backbone_names(self.backbone.stages, "backbone.stages.")[1:]

    def embed(self, images: Tensor) -> Tensor:
        """(b, c, H, W) → (b, D), the flattened feature map."""
        return self.backbone(images).flatten(1)

    def adapt(self, support: Support) -> LabelMeans:
        """Means of the centred, normalised support: (n_way, D)."""
        batches = ((centre_and_normalise(x, self.centre), y) for x, y in support.batches())
        return streamed_means(batches, support.n_way)

    def predict(self, state: LabelMeans, query: Tensor) -> Tensor:
        """Cosines to the class means: (n_query, n_way)."""
        return state.unknown_last(cosine_scores(centre_and_normalise(query, self.centre), state.means))

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        means = class_means(centre_and_normalise(batch.support, self.centre))  # (E, W, D)
        return cosine_scores(centre_and_normalise(batch.query, self.centre), means)
