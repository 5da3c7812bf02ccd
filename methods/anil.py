"""Almost no inner loop (Raghu, Raghu, Bengio, Vinyals 2020, arXiv:1909.09157).

MAML whose gradient steps move the last, linear layer alone: the network below is trained through them, but an image's
feature is the same in every episode, so that each image is embedded once. The defaults are LibFewShot's for mini-ImageNet;
the step size goes with the length of the features, which are shorter on small images.

What differs from the authors' code, read in LibFewShot's: features are normalised by running statistics at test, where that
leaves its encoder in training mode after the first episode, which makes its numbers transductive. The classes of an episode
are given the rows of the classifier in an order drawn for it, and start from rows again where there are more of them than
in training.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

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
    labelled,
    train_on_episodes,
)
from harness.backbones.embedding import Embedding
from harness.ops.inner_loop import descend, draw_rows


class Classifiers(NamedTuple):
    """One of each episode: weight (E, W, D), bias (E, W)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """(E, n, D) → (E, n, W)."""
        return x @ self.weight.mT + self.bias.unsqueeze(-2)


class Anil(nn.Module):
    """A network whose linear classifier a few gradient steps adapt."""

    @dataclass(frozen=True)
    class Config(OnEpisodes):
        """Hyper-parameters; the field defaults are LibFewShot's for mini-ImageNet at 1 shot."""

        epochs: int = hyper(600, "passes of steps_per_epoch steps, ≥ 0", in_epochs=True)
        episodes_per_step: int = hyper(4, "training episodes in one outer step, ≥ 1")
        steps: int = hyper(10, "gradient steps of the classifier on the support, ≥ 1")
        inner_lr: float = hyper(0.001, "their size, > 0")
        order: Literal["second", "first"] = hyper("second", "derivatives that the outer gradient holds")
        lr: float = hyper(1e-3, "Adam's step size, > 0")

        def __post_init__(self) -> None:
            """Check ranges."""
            self.check({"≥ 1": "steps", "> 0": "lr inner_lr"})

    name: ClassVar[str] = "anil"
    version: ClassVar[str] = "1"
    reference: ClassVar[str] = """@inproceedings{raghu2020rapid,
      title={Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of {MAML}},
      author={Raghu, Aniruddh and Raghu, Maithra and Bengio, Samy and Vinyals, Oriol},
      booktitle={International Conference on Learning Representations},
      year={2020},
      eprint={1909.09157},
      archivePrefix={arXiv},
    }"""
    CONTRACT: ClassVar[dict[str, Any]] = {"epochs": 1, "steps_per_epoch": 40, "episodes_per_step": 1}
    _SMALL: ClassVar[dict[str, Any]] = {
        "inner_lr": 0.1, "train_query": 5, "epochs": 10, "steps_per_epoch": 100, "episodes_per_step": 2,
    }  # fmt: skip
    _FIVE: ClassVar[dict[str, Any]] = {"train_shot": 5, "validation_shot": 5}
    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {
        **dict.fromkeys(("glyphs", "glyphs-digits", "omniglot-small"), _SMALL),
        "cifar10": {**_SMALL, "epochs": 30},
        **dict.fromkeys(("mini-5w5s", "tiered-5w5s"), _FIVE),
    }

    embed: Embedding

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        self.config, self.embed = config, Embedding(backbone)  # (b, c, H, W) → (b, D)
        self.head = nn.Linear(self.embed.width, config.train_way)

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Train network and classifier through the steps of the classifier."""
        shot, second_order = self.config.train_shot, self.config.order == "second"

        def loss(episode: TrainingEpisode) -> EpisodeLoss:
            with ctx.autocast():  # support and query in one pass: batch statistics of the whole episode
                features = self.embed(episode.images.flatten(0, 1))
            x = full_precision(features).unflatten(0, episode.images.shape[:2])  # (W, S + Q, D)
            support, query = x.tensor_split([shot], dim=1)
            rows = torch.arange(len(x), device=x.device)
            classifier = self.adapted(support[None], rows[None], second_order=second_order)
            return episode_loss(classifier(query.flatten(0, 1))[0])

        train_on_episodes(self, base, ctx, torch.optim.Adam(self.parameters(), lr=self.config.lr), loss)

    def adapted(self, support: Tensor, rows: Tensor, *, second_order: bool = False) -> Classifiers:
        """Take the steps on features (E, W, S, D), from the rows (E, W) of the classifier."""
        x, label = labelled(support)  # (E, W·S, D), (E, W·S)
        start = {"weight": self.head.weight[rows], "bias": self.head.bias[rows]}
        if not start["weight"].requires_grad:
            start = {name: value.requires_grad_() for name, value in start.items()}

        def loss(p: dict[str, Tensor]) -> Tensor:
            scores = Classifiers(**p)(x).flatten(0, 1)  # (E·W·S, W)
            return functional.cross_entropy(scores, label.flatten(), reduction="sum") / x.shape[1]

        return Classifiers(
            **descend(
                loss, start, steps=self.config.steps, lr=self.config.inner_lr, second_order=second_order
            )
        )

    def adapt(self, support: Support) -> Classifiers:
        """The classifier of an episode: (1, n_way, D) and (1, n_way)."""
        return self._alone(support.by_class()[None], [support.rng])

    def predict(self, state: Classifiers, query: Tensor) -> Tensor:
        """Logits (n_query, n_way)."""
        return state(query[None])[0]

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        return self._alone(batch.support, batch.rng)(batch.query)

    def _alone(self, support: Tensor, rng: Iterable[torch.Generator]) -> Classifiers:
        """Those of episodes (E, W, S, D), without gradients of the rest."""
        drawn = [draw_rows(support.shape[1], self.config.train_way, one) for one in rng]
        rows = torch.stack(drawn).to(support.device)  # (E, W)
        with torch.enable_grad():
            found = self.adapted(support, rows)
        return Classifiers(found.weight.detach(), found.bias.detach())
