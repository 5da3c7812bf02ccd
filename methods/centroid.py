"""Nearest class mean on the features of any fit: SimpleShot's three (Wang et al. 2019, arXiv:1911.04623).

A class is the mean of its support features, a query goes to the nearest mean in Euclidean distance. What is averaged are
the features as they are (UN), of unit length (L2N), or centred on the mean of all base images and then of unit length
(CL2N); the means are not brought to unit length again, so that from two shots on the rule is not that of the cosine
(``nearest-mean`` has that one). Beside the rows of methods that train a backbone this is the plain readout of it. The
authors' code: github.com/mileyan/simple_shot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from harness.api import Normalisation, NormalisedHead, OnFeatures, class_means, hyper, squared_distances


class Centroid(NormalisedHead):
    """Nearest class mean on the features of another fit."""

    @dataclass(frozen=True)
    class Config(OnFeatures):
        """Hyper-parameters."""

        normalise: Normalisation = hyper("cl2n", "of features: un, l2n or cl2n (§3.1)", phase="adapt")

    name: ClassVar[str] = "centroid"
    version: ClassVar[str] = "1"
    equivariant: ClassVar[bool] = True
    reference: ClassVar[str] = """@misc{wang2019simpleshot,
      title={SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot Learning},
      author={Wang, Yan and Chao, Wei-Lun and Weinberger, Kilian Q. and van der Maaten, Laurens},
      year={2019},
      eprint={1911.04623},
      archivePrefix={arXiv},
    }"""

    def fit(self, support: Tensor) -> Tensor:
        """Class means: (E, W, D)."""
        return class_means(self.normalise(support))

    def scores(self, means: Tensor, query: Tensor) -> Tensor:
        """Minus the Euclidean distances to the means: (E, Q, W)."""
        return -squared_distances(self.normalise(query), means).clamp(min=0).sqrt()
