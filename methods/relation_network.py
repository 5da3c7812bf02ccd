"""Relation networks (Sung et al. 2018, arXiv:1711.06025).

An encoder gives a map of each image; the maps of a class are added up, and a second small network says of the sum beside
the map of a query how alike they are, between 0 and 1. Both are trained on episodes by the squared distance of these
numbers to 1 for the true class and 0 for the others (eq. 2). So that the second network has maps to work on, the last two
max pools of conv4 and resnet12 are left out (§3.3).

What differs from the authors' code (github.com/floodsung/LearningToCompare_FSL): they never leave training mode, so that
a query is normalised together with all queries of its episode, and their numbers are transductive. ``relation-network``
uses running statistics at test, and ``transductive-relation-network`` is their form (all queries of an episode at once,
where they give 5 of each class). Maps below 10×10 are padded before a convolution of the relation module, convolutions of
the encoder always are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import (
    Backbone,
    BaseSet,
    EpisodeBatch,
    EpisodeLoss,
    FitContext,
    OnEpisodes,
    Support,
    TrainingEpisode,
    episode_loss,
    full_precision,
    hyper,
    train_on_episodes,
)
from harness.backbones.larger_maps import remove_last_pools
from harness.ops.batch_statistics import batch_statistics
from harness.ops.relation import RelationModule


class Relations(nn.Module):
    """What the two share: the networks and their training."""

    @dataclass(frozen=True)
    class Config(OnEpisodes):
        """Hyper-parameters; the field defaults are the authors' for mini-ImageNet (queries at 5 shots: 10)."""

        epochs: int = hyper(5000, "passes of steps_per_epoch steps, ≥ 0", in_epochs=True)
        loss: Literal["squared", "ce"] = hyper("squared", "of scores and 0 or 1 (eq. 2), or cross-entropy")
        pool: Literal["sum", "mean"] = hyper(
            "sum", "of a class's maps; means fit other shots than train_shot"
        )
        hidden: int = hyper(8, "width of the relation module's linear layer, ≥ 1")
        lr: float = hyper(1e-3, "Adam's step size, > 0")
        halve_every: int = hyper(1000, "epochs until the step size is halved, ≥ 1", in_epochs=True)
        longest: float = hyper(0.5, "length to which the gradient of each network is cut, > 0")

        def __post_init__(self) -> None:
            """Check ranges."""
            self.check({"≥ 1": "hidden halve_every", "> 0": "lr longest"})

    version: ClassVar[str] = "1"
    equivariant: ClassVar[bool] = True
    reference: ClassVar[str] = """@inproceedings{sung2018learning,
      title={Learning to Compare: Relation Network for Few-Shot Learning},
      author={Sung, Flood and Yang, Yongxin and Zhang, Li and Xiang, Tao and Torr, Philip H. S. and Hospedales, Timothy M.},
      booktitle={IEEE Conference on Computer Vision and Pattern Recognition},
      year={2018},
      eprint={1711.06025},
      archivePrefix={arXiv},
    }"""
    CONTRACT: ClassVar[dict[str, Any]] = {"epochs": 1, "steps_per_epoch": 40}
    _SMALL: ClassVar[dict[str, Any]] = {"train_query": 5, "epochs": 20, "halve_every": 7, "pool": "mean"}
    _FIVE: ClassVar[dict[str, Any]] = {"train_shot": 5, "train_query": 10, "validation_shot": 5}
    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {
        **dict.fromkeys(("glyphs", "glyphs-digits", "omniglot-small"), _SMALL),
        "cifar10": {**_SMALL, "train_query": 15, "epochs": 30, "halve_every": 10},
        **dict.fromkeys(("mini-5w5s", "tiered-5w5s"), _FIVE),
    }

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        self.config, self.backbone = config, backbone
        remove_last_pools(backbone, 2)
        self.relation = RelationModule(backbone.channels, backbone.feature_size, config.hidden)

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Train encoder and relation module together on episodes of base classes."""
        c, shot = self.config, self.config.train_shot
        networks = [{"params": list(part.parameters())} for part in (self.backbone, self.relation)]
        optimiser = torch.optim.Adam(networks, lr=c.lr)
        schedule = torch.optim.lr_scheduler.StepLR(optimiser, c.halve_every, gamma=0.5)

        def loss(episode: TrainingEpisode) -> EpisodeLoss:
            with ctx.autocast():
                scores = self._episode_scores(episode.images, shot)
            found = episode_loss(full_precision(scores))
            if c.loss == "ce":
                return found
            truth = functional.one_hot(found.target, found.scores.shape[1]).to(found.scores)
            return found._replace(loss=functional.mse_loss(found.scores.sigmoid(), truth))

        train_on_episodes(self, base, ctx, optimiser, loss, schedule=schedule, longest=c.longest)

    def _episode_scores(self, images: Tensor, shot: int) -> Tensor:
        """Of a training episode (W, S + Q, c, H, W): (W·Q, W), queries by class, one batch statistic of all images."""
        maps = self.backbone(images.flatten(0, 1)).unflatten(0, images.shape[:2])  # (W, S + Q, C, h, w)
        return self.relation(self._of_class(maps[:, :shot]), maps[:, shot:].flatten(0, 1))

    def _of_class(self, maps: Tensor) -> Tensor:
        """(..., W, S, C, h, w) → (..., W, C, h, w)."""
        return maps.sum(-4) if self.config.pool == "sum" else maps.mean(-4)


class RelationNetwork(Relations):
    """A learned measure between the map of a query and the sum of a class's maps."""

    name: ClassVar[str] = "relation-network"

    def embed(self, images: Tensor) -> Tensor:
        """(b, c, H, W) → (b, C, h, w) maps."""
        return self.backbone(images)

    def adapt(self, support: Support) -> Tensor:
        """One map of each class: (n_way, C, h, w)."""
        return self._of_class(support.by_class())

    def predict(self, state: Tensor, query: Tensor) -> Tensor:
        """Relation scores before the sigmoid: (n_query, n_way)."""
        return self.relation(state, query)

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        return self.relation(self._of_class(batch.support), batch.query)


class TransductiveRelationNetwork(Relations):
    """The same with the statistics of each batch at test, as published: the support's, the queries', the pairs'."""

    name: ClassVar[str] = "transductive-relation-network"
    transductive: ClassVar[bool] = True
    takes: ClassVar[str] = "images"

    @staticmethod
    def passes(config: Relations.Config) -> int:
        """Through the encoder, of each image of an episode."""
        return 1

    def _episode_scores(self, images: Tensor, shot: int) -> Tensor:
        return self._scores(images[:, :shot], images[:, shot:].flatten(0, 1))

    def adapt(self, support: Support) -> Tensor:
        """Images of the support, by class: (n_way, shot, c, H, W)."""
        return support.by_class()

    def predict(self, state: Tensor, query: Tensor) -> Tensor:
        """Relation scores before the sigmoid: (n_query, n_way)."""
        with batch_statistics(self):
            return self._scores(state, query)

    def _scores(self, support: Tensor, query: Tensor) -> Tensor:
        maps = self.backbone(support.flatten(0, 1)).unflatten(0, support.shape[:2])  # (W, S, C, h, w)
        return self.relation(self._of_class(maps), self.backbone(query))
