"""Nearest local descriptors on the maps of any fit: DN4's image-to-class measure (Li et al. 2019, arXiv:1903.12290).

Every location of a query's map looks for its k nearest descriptors among those of a class, by cosine; the sum over
locations and neighbours is the score. It has no weights of its own; the authors train the backbone through it on
episodes, which makes its numbers. The authors' code: github.com/WenbinLee/DN4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from harness.api import (
    Backbone,
    BaseSet,
    EpisodeBatch,
    FitContext,
    OnFeatures,
    Support,
    hyper,
)
from harness.ops.dense_heads import descriptor_scores, descriptors


class Dn4:
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

    def __init__(self, config: Config, backbone: Backbone) -> None:
        self.config = config

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Learn nothing."""

    def adapt(self, support: Support) -> Tensor:
        """Maps of the support, by class: (n_way, shot, C, h, w)."""
        return support.by_class()

    def predict(self, state: Tensor, query: Tensor) -> Tensor:
        """Scores: (n_query, n_way)."""
        return self._scores(state[None], query[None])[0]

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        return self._scores(batch.support, batch.query)

    def _scores(self, support: Tensor, query: Tensor) -> Tensor:
        return descriptor_scores(descriptors(query), descriptors(support), self.config.k)
