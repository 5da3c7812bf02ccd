"""Nearest support images on the features of any fit: RFS's nearest neighbour at k = 1 (Tian et al. 2020, arXiv:2003.11539).

A query takes the label that most of its k nearest support images have, in Euclidean distance; ties go to the smaller
label, of equally near images to the one of the smaller label. For k > 1 there is no published few-shot form. The
authors' code: github.com/WangYueFt/rfs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from harness.api import Normalisation, NormalisedHead, OnFeatures, hyper
from harness.ops.prototypes import squared_distances


class Knn(NormalisedHead):
    """Vote of the nearest support images."""

    @dataclass(frozen=True)
    class Config(OnFeatures):
        """Hyper-parameters."""

        k: int = hyper(1, "support images that vote, ≥ 1; all where there are fewer", phase="adapt")
        normalise: Normalisation = hyper("l2n", "of features: un, l2n or cl2n", phase="adapt")

        def __post_init__(self) -> None:
            """Check ranges."""
            if self.k < 1:
                raise ValueError("k must be ≥ 1")

    name: ClassVar[str] = "knn"
    version: ClassVar[str] = "1"
    reference: ClassVar[str] = """@inproceedings{tian2020rethinking,
      title={Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need?},
      author={Tian, Yonglong and Wang, Yue and Krishnan, Dilip and Tenenbaum, Joshua B. and Isola, Phillip},
      booktitle={European Conference on Computer Vision},
      year={2020},
      eprint={2003.11539},
      archivePrefix={arXiv},
    }"""

    def scores(self, support: Tensor, query: Tensor) -> Tensor:
        """Votes: (E, Q, W)."""
        n_way, shot = support.shape[1:3]
        distance = squared_distances(
            self.normalise(query), self.normalise(support).flatten(1, 2)
        )  # (E, Q, W·S)
        nearest = distance.argsort(stable=True, dim=-1)[..., : self.config.k]  # (E, Q, k)
        return functional.one_hot(nearest // shot, n_way).sum(-2).to(query)
