"""FEAT: embedding adaptation by set-to-set functions (Ye, Hu, Zhan, Sha 2020, arXiv:1812.03664).

From a pre-trained encoder on, encoder and a block of attention are trained on episodes: the class means of an episode look
at each other through the block and become prototypes for this task. A second loss asks that images of a class, passed
through the same block together, lie near their own mean (eq. 8).

``likeness=squared`` is what all published runs use, ``cosine`` multiplies queries, which are not normalised, with prototypes
of length 1. The defaults are the authors' for mini-ImageNet with resnet12 at 1 shot; at 5 shots they train another network
with temperature2 32 and balance 0.1.

What differs from the authors' code (github.com/Sha-Lab/FEAT): the encoder starts from the fit that ``start`` names, theirs
from a classifier that was chosen by nearest class means; on small images, whose features are short, the temperatures are
smaller and nothing is dropped.
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
    distance_scores,
    episode_loss,
    full_precision,
    go_on_from,
    hyper,
    l2_normalise,
    need_of,
    train_on_episodes,
)
from harness.backbones.embedding import Embedding
from harness.ops.attention import SetAttention


class Feat(nn.Module):
    """Class means that look at each other before queries are compared with them."""

    @dataclass(frozen=True)
    class Config(OnEpisodes, StartsFrom):
        """Hyper-parameters; the field defaults are the authors' for mini-ImageNet at 1 shot."""

        likeness: Literal["squared", "cosine"] = hyper("squared", "of queries and prototypes")
        temperature: float = hyper(64.0, "divisor of the scores, > 0")
        temperature2: float = hyper(64.0, "divisor of the scores of the second loss, > 0")
        balance: float = hyper(0.01, "weight of the second loss, ≥ 0 (eq. 8)")
        dropout: float = hyper(0.5, "share dropped of attention and of the block's output, in [0, 1)")
        lr: float = hyper(2e-4, "SGD's step size of the encoder, > 0")
        block_lr: float = hyper(2e-3, "SGD's step size of the block, > 0")
        momentum: float = hyper(0.9, "SGD's momentum, in [0, 1)")
        weight_decay: float = hyper(5e-4, "L2 of all weights, ≥ 0")
        decay_every: int = hyper(40, "epochs until the step sizes are halved, ≥ 1", in_epochs=True)

        def __post_init__(self) -> None:
            """Check ranges."""
            positive = "temperature temperature2 lr block_lr"
            self.check(
                {
                    "≥ 0": "balance weight_decay",
                    "≥ 1": "decay_every",
                    "> 0": positive,
                    "in [0, 1)": "dropout momentum",
                }
            )

    name: ClassVar[str] = "feat"
    version: ClassVar[str] = "1"
    equivariant: ClassVar[bool] = True
    reference: ClassVar[str] = """@inproceedings{ye2020fewshot,
      title={Few-Shot Learning via Embedding Adaptation with Set-to-Set Functions},
      author={Ye, Han-Jia and Hu, Hexiang and Zhan, De-Chuan and Sha, Fei},
      booktitle={IEEE Conference on Computer Vision and Pattern Recognition},
      year={2020},
      eprint={1812.03664},
      archivePrefix={arXiv},
    }"""
    CONTRACT: ClassVar[dict[str, Any]] = {"epochs": 1, "steps_per_epoch": 10}
    _SMALL: ClassVar[dict[str, Any]] = {
        "temperature": 8.0, "temperature2": 8.0, "dropout": 0.0, "epochs": 4, "decay_every": 3, "lr": 5e-4, "block_lr": 2e-2,
    }  # fmt: skip
    _FIVE: ClassVar[dict[str, Any]] = {
        "train_shot": 5,
        "temperature2": 32.0,
        "balance": 0.1,
        "validation_shot": 5,
    }
    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {
        "glyphs": _SMALL,
        "glyphs-digits": _SMALL,
        "omniglot-small": _SMALL,
        "cifar10": _SMALL,
        "mini-5w5s": _FIVE,
        "tiered": {"balance": 0.1},
        "tiered-5w1s": {"decay_every": 20},
        "tiered-5w5s": {"train_shot": 5, "temperature": 32.0, "validation_shot": 5},
    }

    embed: Embedding

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        self.config, self.embed = config, Embedding(backbone)  # (b, c, H, W) → (b, D)
        self.block = SetAttention(self.embed.width, config.dropout)

    @staticmethod
    def requires(config: Config) -> list[Any]:
        """The pre-training of the encoder."""
        return [need_of(config.start)]

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Train encoder and block on episodes of base classes."""
        c = self.config
        go_on_from(ctx.require(c.start), self.embed.backbone, c.start)
        parts = [
            {"params": self.embed.parameters(), "lr": c.lr},
            {"params": self.block.parameters(), "lr": c.block_lr},
        ]
        optimiser = torch.optim.SGD(parts, momentum=c.momentum, weight_decay=c.weight_decay)
        schedule = torch.optim.lr_scheduler.StepLR(optimiser, c.decay_every, gamma=0.5)

        def loss(episode: TrainingEpisode) -> EpisodeLoss:
            with ctx.autocast():  # support and query in one pass: batch statistics of the whole episode
                features = self.embed(episode.images.flatten(0, 1))
            x = full_precision(features).unflatten(0, episode.images.shape[:2])  # (W, S + Q, D)
            found, again = map(episode_loss, self.episode_scores(x, c.train_shot))
            return found._replace(loss=found.loss + c.balance * again.loss)

        train_on_episodes(self, base, ctx, optimiser, loss, schedule=schedule, augment=True)

    def episode_scores(self, x: Tensor, shot: int) -> tuple[Tensor, Tensor]:
        """Scores of a training episode (W, S + Q, D): of its queries (W·Q, W), and for the second loss of all (W·(S + Q), W)."""
        scores = self._scores(x[:, shot:].flatten(0, 1), self.block(class_means(x[:, :shot])))
        centres = self.block(x).mean(1)  # (W, D)
        return scores / self.config.temperature, self._scores(
            x.flatten(0, 1), centres
        ) / self.config.temperature2

    def adapt(self, support: Support) -> Tensor:
        """Prototypes of this task (n_way, D), eq. 5."""
        prototypes: Tensor = self.block(class_means(support.by_class()))
        return prototypes

    def predict(self, state: Tensor, query: Tensor) -> Tensor:
        """Scores (n_query, n_way)."""
        return self._scores(query, state) / self.config.temperature

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        return self.predict(self.block(class_means(batch.support)), batch.query)

    def _scores(self, query: Tensor, prototypes: Tensor) -> Tensor:
        """(..., Q, D), (..., W, D) → (..., Q, W) before the temperature."""
        if self.config.likeness == "cosine":
            return query @ l2_normalise(prototypes).mT
        return distance_scores(query, prototypes)
