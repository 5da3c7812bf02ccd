"""Prototypical networks (Snell, Swersky, Zemel, NIPS 2017, arXiv:1703.05175).

An embedding is trained so that a class is well described by the mean of its support features, its prototype;
a query is a soft-max over minus squared Euclidean distances to the prototypes (eq. 2), and the loss is its
cross-entropy over training episodes with many more classes than the test will have (§2.7, "60-way").

What differs from the authors' code: the best weights are chosen by validation accuracy on a fixed list (theirs:
validation loss, then retraining on train + validation for as many epochs); the learning rate is halved after
every ``halve_every`` epochs (under current torch their loop halves one epoch early); epochs are as many as a
DEFAULTS entry says instead of early stopping.
"""

from __future__ import annotations

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
    class_means_by_label,
    hyper,
    linear_scores,
    prototypical_loss,
)


class ProtoNet(nn.Module):
    """Nearest prototype in a space trained for it."""

    @dataclass(frozen=True)
    class Config:
        """Hyper-parameters; the field defaults are the Omniglot protocol of the authors' code."""

        train_way: int = hyper(
            60, "classes per training episode, ≥ 2; at most the number of base classes (§3.1)"
        )
        train_shot: int = hyper(
            1, "support images per class in training, ≥ 1; the paper matches the test (§2.7)"
        )
        train_query: int = hyper(5, "queries per class in training, ≥ 1 (§3.1)")
        epochs: int = hyper(100, "passes of episodes_per_epoch episodes, ≥ 1")
        episodes_per_epoch: int = hyper(100, "training episodes between two validations, ≥ 1")
        lr: float = hyper(1e-3, "Adam's step size, > 0 (§3.1)")
        halve_every: int = hyper(20, "epochs until the step size is halved, ≥ 1 (§3.1: 2,000 episodes)")
        validation_shot: int = hyper(1, "shots of the 5-way validation episodes that choose the epoch, ≥ 1")

        def __post_init__(self) -> None:
            """Check ranges."""
            for name in (
                "train_shot",
                "train_query",
                "epochs",
                "episodes_per_epoch",
                "halve_every",
                "validation_shot",
            ):
                if getattr(self, name) < 1:
                    raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")
            if self.train_way < 2 or self.lr <= 0:
                raise ValueError(f"train_way must be ≥ 2 and lr > 0, found {self.train_way} and {self.lr}")

    name: ClassVar[str] = "protonet"
    version: ClassVar[str] = "1"
    reference: ClassVar[str] = """@inproceedings{snell2017prototypical,
      title={Prototypical Networks for Few-shot Learning},
      author={Snell, Jake and Swersky, Kevin and Zemel, Richard},
      booktitle={Advances in Neural Information Processing Systems},
      year={2017},
      eprint={1703.05175},
      archivePrefix={arXiv},
    }"""
    equivariant: ClassVar[bool] = True
    official_extras: ClassVar[tuple[str, ...]] = (
        "",
    )  # of a checkpoint the backbone is wanted, whatever is beside it
    CONTRACT: ClassVar[dict[str, Any]] = {"epochs": 1, "episodes_per_epoch": 10, "train_way": 10}
    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {
        "glyphs": {"train_way": 20, "epochs": 6},
        "glyphs-digits": {"train_way": 20, "epochs": 6},
        "omniglot-5w5s": {"train_shot": 5, "validation_shot": 5},
        "omniglot-20w5s": {"train_shot": 5, "validation_shot": 5},
        "omniglot-small": {"epochs": 6},
        "omniglot-lake": {"epochs": 6},
    }

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        self.config, self.backbone = config, backbone

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Train on episodes of base classes with Adam (alg. 1)."""
        c = self.config
        optimiser = torch.optim.Adam(self.parameters(), lr=c.lr)
        schedule = torch.optim.lr_scheduler.StepLR(optimiser, c.halve_every, gamma=0.5)
        for epoch in ctx.epochs(c.epochs, model=self, optimiser=optimiser, schedule=schedule):
            total, hits = 0.0, 0.0
            for episode in base.episodes(c.episodes_per_epoch, c.train_way, c.train_shot, c.train_query):
                with ctx.autocast():  # support and query in one pass: batch statistics of the whole episode
                    flat = self.embed(episode.images.flatten(0, 1))
                features = flat.float().unflatten(0, episode.images.shape[:2])  # (W, S + Q, D)
                result = prototypical_loss(features[:, : c.train_shot], features[:, c.train_shot :])
                ctx.backward(result.loss)
                ctx.step(optimiser)
                total += result.loss.item()
                hits += (result.scores.argmax(-1) == result.target).float().mean().item()
            schedule.step()
            scores = {"loss": total / c.episodes_per_epoch, "train_accuracy": hits / c.episodes_per_epoch}
            validation = ctx.keep_best(self, way=5, shot=c.validation_shot)
            if validation is not None:
                scores["validation_accuracy"] = validation
            ctx.log((epoch + 1) * c.episodes_per_epoch, **scores)

    def official_names(self) -> dict[str, tuple[str, ...]]:
        """Own state key → own name; only the backbone has weights."""
        return backbone_names(self.backbone.stages, "backbone.stages.")[0]

    def other_names(self) -> tuple[dict[str, tuple[str, ...]], ...]:
        """What others call the backbone's tensors."""
        return backbone_names(self.backbone.stages, "backbone.stages.")[1:]

    def embed(self, images: Tensor) -> Tensor:
        """(b, c, H, W) → (b, D), the flattened feature map."""
        return self.backbone(images).flatten(1)

    def adapt(self, support: Support) -> Tensor:
        """Prototypes (n_way, D), eq. 1."""
        return class_means_by_label(support.x, support.y, support.n_way)

    def predict(self, state: Tensor, query: Tensor) -> Tensor:
        """Minus squared distances to the prototypes, up to |query|² (n_query, n_way), eq. 8."""
        return linear_scores(query[None], state[None])[0]

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        return linear_scores(batch.query, class_means(batch.support))
