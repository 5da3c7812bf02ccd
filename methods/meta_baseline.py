"""Meta-Baseline (Chen, Liu, Xu, Darrell, Wang 2021, arXiv:2003.04390).

From a classifier of the base classes on, whose last layer is thrown away, the encoder is trained on episodes for what it
will be asked: a query goes to the class whose mean support feature has the largest cosine with it. The cosine is
multiplied by a number that is learned, too (eq. 4). ``--set epochs=0`` is their Classifier-Baseline, the same without
the second training.

What differs from the authors' code (github.com/cyvius96/few-shot-meta-baseline): the classifier is the fit that
``start`` names. They train one network at 1 shot, and change its configuration for the column of 5 shots, as
``mini-5w5s`` does here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from harness.api import (
    Backbone,
    BaseSet,
    EpisodeBatch,
    EpisodeLoss,
    FitContext,
    OnEpisodes,
    StartsFrom,
    Support,
    TrainingEpisode,
    class_means,
    cosine_scores,
    distance_scores,
    full_precision,
    go_on_from,
    hyper,
    need_of,
    prototypical_loss,
    train_on_episodes,
)
from harness.backbones.embedding import Embedding


class MetaBaseline(nn.Module):
    """Cosine to class means, trained on episodes from a classifier on."""

    @dataclass(frozen=True)
    class Config(OnEpisodes, StartsFrom):
        """Hyper-parameters; the field defaults are the authors' for mini-ImageNet at 1 shot."""

        epochs: int = hyper(
            20, "passes of steps_per_epoch steps, ≥ 0; 0: Classifier-Baseline", in_epochs=True
        )
        steps_per_epoch: int = hyper(200, "steps between two validations, ≥ 1")
        episodes_per_step: int = hyper(4, "training episodes in one step, ≥ 1")
        likeness: Literal["cosine", "squared"] = hyper(
            "cosine", "of queries and means, or minus the squared distance"
        )
        scale: float = hyper(10.0, "where the learned factor on the likeness begins, > 0")
        lr: float = hyper(1e-3, "SGD's step size, > 0")
        momentum: float = hyper(0.9, "SGD's momentum, in [0, 1)")
        weight_decay: float = hyper(5e-4, "L2 of all weights, ≥ 0")

        def __post_init__(self) -> None:
            """Check ranges."""
            self.check({"≥ 0": "weight_decay", "> 0": "lr scale", "in [0, 1)": "momentum"})

    name: ClassVar[str] = "meta-baseline"
    version: ClassVar[str] = "1"
    equivariant: ClassVar[bool] = True
    reference: ClassVar[str] = """@inproceedings{chen2021metabaseline,
      title={Meta-Baseline: Exploring Simple Meta-Learning for Few-Shot Learning},
      author={Chen, Yinbo and Liu, Zhuang and Xu, Huijuan and Darrell, Trevor and Wang, Xiaolong},
      booktitle={IEEE/CVF International Conference on Computer Vision},
      year={2021},
      eprint={2003.04390},
      archivePrefix={arXiv},
    }"""
    CONTRACT: ClassVar[dict[str, Any]] = {"epochs": 1, "steps_per_epoch": 4}
    _SMALL: ClassVar[dict[str, Any]] = {"epochs": 3, "steps_per_epoch": 50}
    _FIVE: ClassVar[dict[str, Any]] = {"train_shot": 5, "validation_shot": 5}
    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {
        **dict.fromkeys(("glyphs", "glyphs-digits", "omniglot-small", "cifar10"), _SMALL),
        **dict.fromkeys(("mini-5w5s", "tiered-5w5s"), _FIVE),
    }

    embed: Embedding

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        self.config, self.embed = config, Embedding(backbone)  # (b, c, H, W) → (b, D)
        self.scale = nn.Parameter(torch.tensor(config.scale))

    @staticmethod
    def requires(config: Config) -> list[Any]:
        """The classifier."""
        return [need_of(config.start)]

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Train encoder and factor on steps of several episodes of base classes."""
        c = self.config
        go_on_from(ctx.require(c.start), self.embed.backbone, c.start)
        optimiser = torch.optim.SGD(self.parameters(), c.lr, c.momentum, weight_decay=c.weight_decay)

        def loss(episode: TrainingEpisode) -> EpisodeLoss:
            with ctx.autocast():  # support and query in one pass: batch statistics of the whole episode
                features = self.embed(episode.images.flatten(0, 1))
            x = full_precision(features).unflatten(0, episode.images.shape[:2])  # (W, S + Q, D)
            support, query = x.tensor_split([c.train_shot], dim=1)
            return prototypical_loss(support, query, self._scores)

        train_on_episodes(self, base, ctx, optimiser, loss, augment=True)

    def adapt(self, support: Support) -> Tensor:
        """Mean of the features of each class, which are not normalised: (n_way, D)."""
        return class_means(support.by_class())

    def predict(self, state: Tensor, query: Tensor) -> Tensor:
        """Scaled cosines (n_query, n_way), eq. 4."""
        return self._scores(query, state)

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        return self._scores(batch.query, class_means(batch.support))

    def _scores(self, query: Tensor, prototypes: Tensor) -> Tensor:
        of = cosine_scores if self.config.likeness == "cosine" else distance_scores
        return self.scale * of(query, prototypes)
