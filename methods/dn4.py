"""Nearest local descriptors on the maps of any fit: DN4's image-to-class measure (Li et al. 2019, arXiv:1903.12290).

Every location of a query's map looks for its k nearest descriptors among those of a class, by cosine; the sum over
locations and neighbours is the score. It has no weights of its own; the authors train the backbone through it on
episodes, which makes its numbers. The authors' code: github.com/WenbinLee/DN4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from harness.api import Head, OnFeatures, hyper
from harness.ops.dense_heads import descriptor_scores, descriptors


class Dn4(Head):
    """Sum of cosines to the nearest descriptors of a class."""

    @dataclass(frozen=True)
    class Config(OnFeatures):
        """Hyper-parameters."""

        k: int = hyper(3, "nearest descriptors of each location, ≥ 1", phase="adapt")

        def __post_init__(self) -> None:
            """Check ranges."""
            if self.k < 1:
                raise ValueError("k must be ≥ 1")

    name: ClassVar[str] = "dn4"
    version: ClassVar[str] = "1"
    takes: ClassVar[str] = "maps"
    equivariant: ClassVar[bool] = True
    reference: ClassVar[str] = """@inproceedings{li2019revisiting,
      title={Revisiting Local Descriptor based Image-to-Class Measure for Few-shot Learning},
      author={Li, Wenbin and Wang, Lei and Xu, Jinglin and Huo, Jing and Gao, Yang and Luo, Jiebo},
      booktitle={IEEE Conference on Computer Vision and Pattern Recognition},
      year={2019},
      eprint={1903.12290},
      archivePrefix={arXiv},
    }"""

    def scores(self, support: Tensor, query: Tensor) -> Tensor:
        """Scores: (E, Q, W)."""
        return descriptor_scores(descriptors(query), descriptors(support), self.config.k)
