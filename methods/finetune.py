"""Class weights fine-tuned on the support, on the features of any fit: Baseline++ as peers run it, and its transductive form.

``finetune`` starts a cosine classifier at the class means and takes Adam steps on the support's cross-entropy (after
Chen et al. 2019, arXiv:1904.04232, in the form of easy-few-shot-learning). ``transductive-finetune`` lowers the entropy
of the queries' predictions too (Dhillon et al. 2020, arXiv:1909.02729), in the form that the code of alpha-TIM calls
Entropy-min: weights alone, one joint step. Dhillon's own method moves the whole network and starts from logits of the base
classes: that is ``transductive-finetune-network``, and its published numbers are not those of this row.
``likeness=distance`` with temperature 1 is easy-few-shot-learning's form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.api import Normalisation, NormalisedHead, OnFeatures, check_ranges, hyper, labelled
from harness.ops.information import Likeness, LossWeights, class_logits, fit_class_weights
from harness.ops.parts import cached_parts


class Finetune(NormalisedHead):
    """A cosine classifier from the class means, fine-tuned on the support."""

    @dataclass(frozen=True)
    class Config(OnFeatures):
        """Hyper-parameters."""

        steps: int = hyper(200, "of Adam, ≥ 0", phase="adapt")
        lr: float = hyper(1e-4, "Adam's step size, > 0", phase="adapt")
        temperature: float = hyper(1.0, "of the logits, > 0", phase="adapt")
        likeness: Likeness = hyper("cosine", "of the logits: squared, distance or cosine", phase="adapt")
        normalise: Normalisation = hyper("l2n", "of features: un, l2n or cl2n", phase="adapt")

        def __post_init__(self) -> None:
            """Check ranges."""
            check_ranges(self, {"≥ 0": "steps", "> 0": "lr temperature"})

    name: ClassVar[str] = "finetune"
    version: ClassVar[str] = "2"
    equivariant: ClassVar[bool] = True
    loss: ClassVar[LossWeights] = LossWeights(1.0, 0.0, 0.0)
    reference: ClassVar[str] = """@inproceedings{chen2019closer,
      title={A Closer Look at Few-shot Classification},
      author={Chen, Wei-Yu and Liu, Yen-Cheng and Kira, Zsolt and Wang, Yu-Chiang Frank and Huang, Jia-Bin},
      booktitle={International Conference on Learning Representations},
      year={2019},
      eprint={1904.04232},
      archivePrefix={arXiv},
    }"""

    def scores(self, support: Tensor, query: Tensor) -> Tensor:
        """Logits of the final weights: (E, Q, W)."""
        return torch.cat([self._logits(*part) for part in cached_parts(support, query)])

    def _logits(self, support: Tensor, query: Tensor) -> Tensor:
        c, query = self.config, self.normalise(query)
        x, label = labelled(self.normalise(support))
        weight = fit_class_weights(
            x, label, query, loss=self.loss, temperature=c.temperature, steps=c.steps, lr=c.lr, likeness=c.likeness
        )  # fmt: skip
        return class_logits(query, weight, c.temperature, c.likeness)


class TransductiveFinetune(Finetune):
    """Class weights fine-tuned on the support and on the entropy of the queries' predictions.

    The authors' code, which moves the whole network: github.com/amazon-science/few-shot-baseline.
    """

    @dataclass(frozen=True)
    class Config(OnFeatures):
        """Hyper-parameters."""

        steps: int = hyper(25, "of Adam, ≥ 0", phase="adapt")
        lr: float = hyper(5e-5, "Adam's step size, > 0", phase="adapt")
        temperature: float = hyper(15.0, "of the logits, > 0", phase="adapt")
        likeness: Likeness = hyper("squared", "of the logits: squared, distance or cosine", phase="adapt")
        normalise: Normalisation = hyper("l2n", "of features: un, l2n or cl2n", phase="adapt")

        def __post_init__(self) -> None:
            """Check ranges."""
            check_ranges(self, {"≥ 0": "steps", "> 0": "lr temperature"})

    name: ClassVar[str] = "transductive-finetune"
    transductive: ClassVar[bool] = True
    loss: ClassVar[LossWeights] = LossWeights(1.0, 0.0, 1.0)
    reference: ClassVar[str] = """@inproceedings{dhillon2020baseline,
      title={A Baseline for Few-Shot Image Classification},
      author={Dhillon, Guneet Singh and Chaudhari, Pratik and Ravichandran, Avinash and Soatto, Stefano},
      booktitle={International Conference on Learning Representations},
      year={2020},
      eprint={1909.02729},
      archivePrefix={arXiv},
    }"""
