"""alpha-TIM: the same with Tsallis' entropies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from harness.api import Normalisation, OnFeatures, check_ranges, hyper
from harness.ops.information import Likeness, LossWeights, fit_class_weights
from methods.tim.method import Tim


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
