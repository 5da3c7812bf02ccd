"""Multi-class support vector machine on the features of any fit, the head of MetaOptNet (Lee et al. 2019, arXiv:1904.03758).

Crammer and Singer's dual over the support's inner products, with an identity beside them as in the authors' code
(github.com/kjunelee/MetaOptNet), is solved to its optimum (they take 15 interior-point steps, which is 1e-9 from it);
no qpth is needed. The authors learn a scale of the scores with the backbone; the order of the classes does not depend
on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.api import Normalisation, NormalisedHead, OnFeatures, hyper
from harness.ops.closed_form import crammer_singer_dual


class MetaOptSvm(NormalisedHead):
    """Crammer and Singer's multi-class SVM."""

    @dataclass(frozen=True)
    class Config(OnFeatures):
        """Hyper-parameters."""

        c: float = hyper(0.1, "bound of a dual variable, > 0", phase="adapt")
        normalise: Normalisation = hyper("un", "of features: un, l2n or cl2n", phase="adapt")

        def __post_init__(self) -> None:
            """Check ranges."""
            if self.c <= 0:
                raise ValueError("c must be > 0")

    name: ClassVar[str] = "metaopt-svm"
    version: ClassVar[str] = "1"
    equivariant: ClassVar[bool] = True
    reference: ClassVar[str] = """@inproceedings{lee2019meta,
      title={Meta-Learning with Differentiable Convex Optimization},
      author={Lee, Kwonjoon and Maji, Subhransu and Ravichandran, Avinash and Soatto, Stefano},
      booktitle={IEEE Conference on Computer Vision and Pattern Recognition},
      year={2019},
      eprint={1904.03758},
      archivePrefix={arXiv},
    }"""

    def fit(self, support: Tensor) -> Tensor:
        """Class weights: (E, W, D)."""
        n_episodes, n_way, shot = support.shape[:3]
        x = self.normalise(support.flatten(1, 2))  # (E, W·S, D)
        target = torch.eye(n_way).to(x).repeat_interleave(shot, 0).expand(n_episodes, -1, -1)  # (E, W·S, W)
        return crammer_singer_dual(x @ x.mT, target, self.config.c).mT @ x  # (E, W, D)

    def scores(self, weight: Tensor, query: Tensor) -> Tensor:
        """Inner products: (E, Q, W)."""
        return self.normalise(query) @ weight.mT
