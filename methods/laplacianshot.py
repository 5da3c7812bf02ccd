"""Laplacian regularisation on the features of any fit: LaplacianShot (Ziko et al. 2020, arXiv:2006.15486).

Squared distances to prototypes, corrected by the queries as in BD-CSPN, are a first opinion of each query; then those
of near queries are made to agree, by bound updates that need no step size. Each episode stops when its own energy
settles. λ was tuned by the authors on validation tasks for each number of shots; the default is what the code of
alpha-TIM runs on balanced mini-ImageNet. Under unbalanced queries that code leaves the correction out
and has another λ: ``--recipe dirichlet`` (its ResNet-18). The authors' code: github.com/imtiazziko/LaplacianShot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.api import Normalisation, NormalisedHead, OnFeatures, hyper
from harness.ops.parts import cached_parts
from harness.ops.rectification import FromProducts, from_products, smooth_assignments

_SETS = ("mini", "tiered", "omniglot-small", "cifar10", "glyphs")


class LaplacianShot(NormalisedHead):
    """Nearest class means, smoothed over neighbouring queries."""

    @dataclass(frozen=True)
    class Config(OnFeatures):
        """Hyper-parameters."""

        strength: float | None = hyper(
            None, "λ of the neighbours, ≥ 0; none: 0.7, from five shots on 0.3", phase="adapt"
        )
        knn: int = hyper(3, "nearest queries of each, itself counted, ≥ 1", phase="adapt")
        rectified: bool = hyper(True, "whether queries correct the class means first", phase="adapt")
        normalise: Normalisation = hyper("cl2n", "of features: un, l2n or cl2n", phase="adapt")

        def __post_init__(self) -> None:
            """Check ranges."""
            if self.knn < 1 or (self.strength is not None and self.strength < 0):
                raise ValueError("knn must be ≥ 1 and strength ≥ 0")

    name: ClassVar[str] = "laplacianshot"
    RECIPES: ClassVar[dict[str, dict[str, dict[str, Any]]]] = {
        "dirichlet": {
            **{key: {"rectified": False, "strength": 0.7} for key in _SETS},
            "tiered-5w1s-dir2": {"strength": 1.0},
            "cub-closerlook": {"rectified": False, "strength": 0.8},
            "cub-closerlook-5w1s-dir2": {"strength": 1.0},
        }
    }
    version: ClassVar[str] = "2"
    transductive: ClassVar[bool] = True
    equivariant: ClassVar[bool] = True
    reference: ClassVar[str] = """@inproceedings{ziko2020laplacian,
      title={Laplacian Regularized Few-Shot Learning},
      author={Ziko, Imtiaz Masud and Dolz, Jose and Granger, Eric and Ben Ayed, Ismail},
      booktitle={International Conference on Machine Learning},
      year={2020},
      eprint={2006.15486},
      archivePrefix={arXiv},
    }"""

    def scores(self, support: Tensor, query: Tensor) -> Tensor:
        """Shares of the classes, rows sum to 1: (E, Q, W)."""
        seen = [self._seen(*part) for part in cached_parts(support, query)]
        unary, near = (torch.cat(side) for side in zip(*seen, strict=True))
        usual = 0.3 if support.shape[2] >= 5 else 0.7
        strength = usual if self.config.strength is None else self.config.strength
        return smooth_assignments(unary, near, strength).assignment

    def _seen(self, support: Tensor, query: Tensor) -> FromProducts:
        """Squared distances of queries to the prototypes, and which queries are near."""
        n_way, shot = support.shape[1:3]
        gram = self.normalise.products(torch.cat([support.flatten(1, 2), query], dim=1))  # (E, n, n)
        return from_products(gram, n_way, shot, self.config.knn, rectified=self.config.rectified)
