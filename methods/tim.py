"""Transductive information maximisation on the features of any fit: TIM (Boudiaf et al. 2020, arXiv:2008.11297) and alpha-TIM.

Class weights start at the class means of the support and move so that the support is told apart (cross-entropy), each
query is decided (low conditional entropy) and the queries spread over the classes (high entropy of the mean
prediction). The last term asks for as many queries of every class; alpha-TIM (Veilleux et al. 2021, arXiv:2204.11181)
asks less by Tsallis' entropies. ``solver=gd`` takes 1,000 Adam steps of 1e-4 as all scripts of the authors do,
``adm`` alternates 150 times without gradients; both look at one episode alone. Where features hardly separate the
classes, adm does not settle but wanders, in the authors' form too, and carries rounding to the second digit of a score.

``--recipe gd`` is the scripts' form; ``--recipe dirichlet`` that of the code of alpha-TIM under unbalanced queries, whose
weights are 1, 1, 1 there, which is another method; with equal ones it runs the first, times ten.
``likeness=cosine`` with 50 steps, weights 1, 1, 0.1 and temperature 10 is what easy-few-shot-learning calls TIM.
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
    FitContext,
    Normalisation,
    Normaliser,
    OnFeatures,
    Support,
    check_ranges,
    hyper,
    labelled,
)
from harness.ops.information import (
    Likeness,
    LossWeights,
    alternate_class_weights,
    class_logits,
    fit_class_weights,
)
from harness.ops.parts import cached_parts

# Benchmarks of the authors, and those that this project has images of.
_SETS = (
    "mini",
    "tiered",
    "cub-closerlook",
    "cub-feat",
    "cifarfs",
    "fc100",
    "omniglot-small",
    "cifar10",
    "glyphs",
)


class Tim(nn.Module):
    """Class weights that decide queries and spread them evenly over the classes.

    The authors' code: github.com/mboudiaf/TIM.
    """

    @dataclass(frozen=True)
    class Config(OnFeatures):
        """Hyper-parameters; the defaults are the authors'."""

        solver: Literal["adm", "gd"] = hyper("adm", "alternating directions, or Adam (§3.3)", phase="adapt")
        steps: int | None = hyper(None, "of the solver, ≥ 0; none: 150 of adm, 1000 of gd", phase="adapt")
        lr: float = hyper(1e-4, "Adam's step size, > 0", phase="adapt")
        ce: float = hyper(0.1, "weight of the support's cross-entropy, ≥ 0", phase="adapt")
        marginal: float = hyper(1.0, "weight of the entropy of the mean prediction, ≥ 0", phase="adapt")
        conditional: float = hyper(0.1, "weight of the mean entropy of predictions, ≥ 0", phase="adapt")
        temperature: float = hyper(15.0, "of the logits, > 0", phase="adapt")
        likeness: Likeness = hyper("squared", "of gd's logits: squared, distance or cosine", phase="adapt")
        normalise: Normalisation = hyper("l2n", "of features: un, l2n or cl2n", phase="adapt")

        def __post_init__(self) -> None:
            """Check ranges."""
            check_ranges(self, {"≥ 0": "steps ce marginal conditional", "> 0": "lr temperature"})

    name: ClassVar[str] = "tim"
    RECIPES: ClassVar[dict[str, dict[str, dict[str, Any]]]] = {
        "gd": {key: {"solver": "gd"} for key in _SETS},
        "dirichlet": {key: {"solver": "gd", "ce": 1.0, "marginal": 1.0, "conditional": 1.0} for key in _SETS},
    }
    CONTRACT: ClassVar[dict[str, Any]] = {"steps": 20}
    version: ClassVar[str] = "2"
    takes: ClassVar[str] = "vectors"
    transductive: ClassVar[bool] = True
    assumes_balance: ClassVar[bool] = True
    equivariant: ClassVar[bool] = True
    reference: ClassVar[str] = r"""@inproceedings{boudiaf2020transductive,
      title={Transductive Information Maximization For Few-Shot Learning},
      author={Boudiaf, Malik and Masud, Ziko Imtiaz and Rony, J{\'e}r{\^o}me and Dolz, Jos{\'e} and Piantanida, Pablo
              and Ben Ayed, Ismail},
      booktitle={Advances in Neural Information Processing Systems},
      year={2020},
      eprint={2008.11297},
      archivePrefix={arXiv},
    }"""

    config: Any

    def __init__(self, config: Any, backbone: Backbone) -> None:
        super().__init__()
        self.config, self.normalise = config, Normaliser(config.normalise)

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Keep the mean base feature."""
        self.normalise.settle(ctx, self.config.features)

    def adapt(self, support: Support) -> Tensor:
        """Features of the support, by class: (n_way, shot, D)."""
        return support.by_class()

    def predict(self, state: Tensor, query: Tensor) -> Tensor:
        """Logits of the final weights: (n_query, n_way)."""
        return self._scores(state[None], query[None])[0]

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        return self._scores(batch.support, batch.query)

    def _scores(self, support: Tensor, query: Tensor) -> Tensor:
        return torch.cat([self._logits(*part) for part in cached_parts(support, query)])

    def _logits(self, support: Tensor, query: Tensor) -> Tensor:
        c, query = self.config, self.normalise(query)
        x, label = labelled(self.normalise(support))
        weight = self._weights(x, label, query, support.shape[2])
        return class_logits(query, weight, c.temperature, c.likeness)

    def _weights(self, support: Tensor, label: Tensor, query: Tensor, shot: int) -> Tensor:
        c = self.config
        loss = LossWeights(c.ce, c.marginal, c.conditional)
        if c.solver == "adm":
            return alternate_class_weights(
                support, label, query, loss=loss, temperature=c.temperature, steps=150 if c.steps is None else c.steps
            )  # fmt: skip
        return fit_class_weights(
            support, label, query, loss=loss, temperature=c.temperature,
            steps=1000 if c.steps is None else c.steps, lr=c.lr, likeness=c.likeness,
        )  # fmt: skip


class AlphaTim(Tim):
    """TIM with entropies that mind unequal numbers of queries less.

    The authors' code: github.com/oveilleux/Realistic_Transductive_Few_Shot.
    """

    @dataclass(frozen=True)
    class Config(OnFeatures):
        """Hyper-parameters; the defaults are the authors'."""

        alpha: float | None = hyper(
            None,
            "of Tsallis' entropies, > 0, not 1; none: 2 at one shot, 7 from five on, else 5",
            phase="adapt",
        )
        steps: int = hyper(1000, "of Adam, ≥ 0", phase="adapt")
        lr: float = hyper(1e-4, "Adam's step size, > 0", phase="adapt")
        ce: float = hyper(1.0, "weight of the support's cross-entropy, ≥ 0", phase="adapt")
        marginal: float = hyper(1.0, "weight of the entropy of the mean prediction, ≥ 0", phase="adapt")
        conditional: float = hyper(1.0, "weight of the mean entropy of predictions, ≥ 0", phase="adapt")
        temperature: float = hyper(15.0, "of the logits, > 0", phase="adapt")
        normalise: Normalisation = hyper("l2n", "of features: un, l2n or cl2n", phase="adapt")

        likeness: ClassVar[Likeness] = "squared"

        def __post_init__(self) -> None:
            """Check ranges."""
            is_entropy = {"alpha must be > 0, and 1 is tim's": self.alpha is None or 0 < self.alpha != 1}
            check_ranges(self, {"≥ 0": "ce marginal conditional steps", "> 0": "lr temperature"}, is_entropy)

    name: ClassVar[str] = "alpha-tim"
    RECIPES: ClassVar[dict[str, dict[str, dict[str, Any]]]] = {}
    CONTRACT: ClassVar[dict[str, Any]] = {"steps": 100}
    assumes_balance: ClassVar[bool] = False
    reference: ClassVar[str] = """@inproceedings{veilleux2021realistic,
      title={Realistic Evaluation of Transductive Few-Shot Learning},
      author={Veilleux, Olivier and Boudiaf, Malik and Piantanida, Pablo and Ben Ayed, Ismail},
      booktitle={Advances in Neural Information Processing Systems},
      year={2021},
      eprint={2204.11181},
      archivePrefix={arXiv},
    }"""

    def _weights(self, support: Tensor, label: Tensor, query: Tensor, shot: int) -> Tensor:
        c = self.config
        usual = 2.0 if shot == 1 else 7.0 if shot >= 5 else 5.0
        return fit_class_weights(
            support, label, query, loss=LossWeights(c.ce, c.marginal, c.conditional), temperature=c.temperature,
            steps=c.steps, lr=c.lr, alpha=usual if c.alpha is None else c.alpha,
        )  # fmt: skip
