"""TIM: class weights moved by what the support says and by how the queries fall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from harness.api import Normalisation, NormalisedHead, OnFeatures, check_ranges, hyper, labelled
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


class Tim(NormalisedHead):
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

    def scores(self, support: Tensor, query: Tensor) -> Tensor:
        """Logits of the final weights: (E, Q, W)."""
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
