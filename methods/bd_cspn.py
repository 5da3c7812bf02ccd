"""Prototype rectification on the features of any fit: BD-CSPN (Liu, Song and Qin 2020, arXiv:1911.10713).

Queries are shifted so that their mean is that of the support, every image is assigned to its nearest class mean by
cosine, and prototypes are averaged anew with confident images weighing more. Its authors left no code; this is the form
in which the codes of LaplacianShot and alpha-TIM have it. They agree on the prototypes; the first measures Euclidean
distances from the shifted queries (``shifted=true``), the second, the default here, from the queries as they were. A
class to which nothing is assigned keeps its mean, where both codes drop it and mislabel those after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.api import Normalisation, NormalisedHead, OnFeatures, hyper
from harness.ops.parts import cached_parts
from harness.ops.prototypes import squared_distances
from harness.ops.rectification import rectify


class BdCspn(NormalisedHead):
    """Nearest of the class means that the queries have corrected."""

    @dataclass(frozen=True)
    class Config(OnFeatures):
        """Hyper-parameters."""

        shifted: bool = hyper(False, "whether distances are those of the shifted queries", phase="adapt")
        normalise: Normalisation = hyper("cl2n", "of features: un, l2n or cl2n", phase="adapt")

    name: ClassVar[str] = "bd-cspn"
    version: ClassVar[str] = "1"
    transductive: ClassVar[bool] = True
    equivariant: ClassVar[bool] = True
    reference: ClassVar[str] = """@inproceedings{liu2020prototype,
      title={Prototype Rectification for Few-Shot Learning},
      author={Liu, Jinlu and Song, Liang and Qin, Yongqiang},
      booktitle={European Conference on Computer Vision},
      year={2020},
      eprint={1911.10713},
      archivePrefix={arXiv},
    }"""

    def scores(self, support: Tensor, query: Tensor) -> Tensor:
        """Minus the distances to the corrected means: (E, Q, W)."""
        return torch.cat([self._distances(*part) for part in cached_parts(support, query)])

    def _distances(self, support: Tensor, query: Tensor) -> Tensor:
        query = self.normalise(query)
        found = rectify(self.normalise(support), query)
        seen = found.query if self.config.shifted else query
        return -squared_distances(seen, found.prototypes).clamp(min=0).sqrt()
