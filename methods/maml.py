"""Model-agnostic meta-learning (Finn, Abbeel, Levine 2017, arXiv:1703.03400).

A whole network, with a linear classifier at its end, is trained so that a few plain gradient steps on the support of an
episode make it good at the episode's queries. The loss after the steps is differentiated through them, second derivatives
included (alg. 2); ``order=first`` leaves those out (§5.2).

What differs from the authors' code: it normalises every batch by its own statistics, the queries' too, as all published
code does, so that its numbers are transductive; that is ``transductive-maml``. Here ``maml`` normalises support and queries
by the statistics of the support, in training and at test (MetaBN of Bronskill et al. 2020, arXiv:2003.03284), so that a
query depends on no other. The defaults are the paper's for mini-ImageNet at 1 shot (A.1), but with as many steps at test as
in training. The classes of an episode are given the rows of the classifier in an order drawn for it, and start from rows
again where there are more of them than in training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from harness.api import (
    Backbone,
    BaseSet,
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
from harness.backbones.embedding import Embedding
from harness.ops.inner_loop import Parameters, context_of, descend, draw_rows, use_context_norm


class Adapted(NamedTuple):
    """The network of one episode: its parameters, and the support images (n, c, H, W) that normalise its queries."""

    parameters: Parameters
    support: Tensor


class Maml(nn.Module):
    """A network that a few gradient steps adapt."""

    @dataclass(frozen=True)
    class Config(OnEpisodes):
        """Hyper-parameters; the field defaults are the paper's for mini-ImageNet at 1 shot (A.1)."""

        epochs: int = hyper(600, "passes of steps_per_epoch steps, ≥ 0", in_epochs=True)
        episodes_per_step: int = hyper(
            4, "training episodes in an outer step, ≥ 1; in the paper 2 at 5 shots"
        )
        steps: int = hyper(5, "gradient steps on the support, ≥ 1")
        inner_lr: float = hyper(0.01, "their size, > 0")
        order: Literal["second", "first"] = hyper("second", "of the derivatives in the outer gradient (§5.2)")
        lr: float = hyper(1e-3, "Adam's step size, > 0")

        def __post_init__(self) -> None:
            """Check ranges."""
            self.check({"≥ 1": "steps", "> 0": "lr inner_lr"})

    name: ClassVar[str] = "maml"
    version: ClassVar[str] = "1"
    takes: ClassVar[str] = "images"
    reference: ClassVar[str] = """@inproceedings{finn2017model,
      title={Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks},
      author={Finn, Chelsea and Abbeel, Pieter and Levine, Sergey},
      booktitle={International Conference on Machine Learning},
      year={2017},
      eprint={1703.03400},
      archivePrefix={arXiv},
    }"""
    CONTRACT: ClassVar[dict[str, Any]] = {"epochs": 1, "steps_per_epoch": 40, "episodes_per_step": 1, "steps": 1}  # fmt: skip
    _DRAWINGS: ClassVar[dict[str, Any]] = {
        "inner_lr": 0.1, "train_query": 5, "epochs": 4, "steps_per_epoch": 250, "episodes_per_step": 2,
    }  # fmt: skip
    _FIVE: ClassVar[dict[str, Any]] = {"train_shot": 5, "episodes_per_step": 2, "validation_shot": 5}
    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {
        **dict.fromkeys(("glyphs", "glyphs-digits", "omniglot-small"), _DRAWINGS),
        "cifar10": {**_DRAWINGS, "epochs": 12},
        **dict.fromkeys(("mini-5w5s", "tiered-5w5s"), _FIVE),
    }

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        features = Embedding(backbone)
        classifier = nn.Linear(features.width, config.train_way)
        self.config, self.network = config, nn.Sequential(features, classifier)
        use_context_norm(self.network)

    @property
    def backbone(self) -> Any:
        """What the images pass through."""
        return self.network[0].backbone

    @staticmethod
    def passes(config: Config) -> int:
        """Through the backbone: a support image in every step, and once more as what normalises the queries."""
        return config.steps + 1

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Train where the steps begin (alg. 2)."""
        shot, second_order = self.config.train_shot, self.config.order == "second"

        def loss(episode: TrainingEpisode) -> EpisodeLoss:
            support, query = (x.flatten(0, 1) for x in episode.images.tensor_split([shot], dim=1))
            classes = torch.arange(len(episode.images), device=support.device)
            label = classes.repeat_interleave(shot)
            with ctx.autocast():
                adapted = self.adapted(self.network, support, label, classes, second_order=second_order)
                scores = self.logits(adapted, query)
            return episode_loss(scores)

        train_on_episodes(self, base, ctx, torch.optim.Adam(self.parameters(), lr=self.config.lr), loss)

    def adapted(
        self, network: nn.Module, support: Tensor, label: Tensor, rows: Tensor, *, second_order: bool
    ) -> Adapted:
        """Take the steps on images (n, c, H, W) of classes (n,), each of which begins at its row (n_way,) of the classifier."""
        start: Parameters = dict(network.named_parameters())
        start |= {name: start[name][rows] for name in ("1.weight", "1.bias")}

        def loss(parameters: Parameters) -> Tensor:
            scores = full_precision(functional_call(network, parameters, (support,)))
            return functional.cross_entropy(scores, label)

        c = self.config
        return Adapted(descend(loss, start, steps=c.steps, lr=c.inner_lr, second_order=second_order), support)

    def logits(self, adapted: Adapted, query: Tensor) -> Tensor:
        """(n_query, n_way) of an adapted network; what normalises comes first and is left out again."""
        n = len(adapted.support)
        with context_of(self.network, n):
            both = functional_call(self.network, adapted.parameters, (torch.cat([adapted.support, query]),))
        return full_precision(both[n:])

    def adapt(self, support: Support) -> Adapted:
        """Take the steps on a copy."""
        rows = draw_rows(support.n_way, self.config.train_way, support.rng).to(support.y.device)
        with support.trainable(self.network) as copy:
            found = self.adapted(copy, support.x, support.y, rows, second_order=False)
        return Adapted({name: value.detach() for name, value in found.parameters.items()}, found.support)

    def predict(self, state: Adapted, query: Tensor) -> Tensor:
        """Logits (n_query, n_way)."""
        return self.logits(state, query)


class TransductiveMaml(Maml):
    """The same where queries are normalised by their own statistics, as published."""

    name: ClassVar[str] = "transductive-maml"
    transductive: ClassVar[bool] = True

    def logits(self, adapted: Adapted, query: Tensor) -> Tensor:
        """(n_query, n_way) of an adapted network."""
        return full_precision(functional_call(self.network, adapted.parameters, (query,)))
