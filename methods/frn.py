"""Reconstruction of maps of any fit: feature map reconstruction (Wertheimer, Tang and Hariharan 2021, arXiv:2012.01506).

A query's descriptors are rebuilt by ridge regression from those of each class; the class that rebuilds them with the
smallest error is its own. The authors train backbone, λ (``alpha``), a factor (``beta``) and a scale through it on
episodes; here the first two are at their starts, 0, unless they are set, and the order of classes needs no scale. They
divide the maps of a ResNet-12 by √640: ``--set divisor=25.298``. The authors' code: github.com/Tsingularity/FRN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from harness.api import Head, OnFeatures, hyper
from harness.ops.dense_heads import descriptors, reconstruction_scores


class Frn(Head):
    """Error of rebuilding a map from the descriptors of a class."""

    @dataclass(frozen=True)
    class Config(OnFeatures):
        """Hyper-parameters."""

        alpha: float = hyper(0.0, "λ is (descriptors of a class / channels) · exp(alpha)", phase="adapt")
        beta: float = hyper(0.0, "rebuilt descriptors are multiplied by exp(beta)", phase="adapt")
        divisor: float = hyper(1.0, "of the maps, > 0", phase="adapt")

        def __post_init__(self) -> None:
            """Check ranges."""
            if self.divisor <= 0:
                raise ValueError("divisor must be > 0")

    name: ClassVar[str] = "frn"
    version: ClassVar[str] = "1"
    takes: ClassVar[str] = "maps"
    equivariant: ClassVar[bool] = True
    reference: ClassVar[str] = """@inproceedings{wertheimer2021few,
      title={Few-Shot Classification with Feature Map Reconstruction Networks},
      author={Wertheimer, Davis and Tang, Luming and Hariharan, Bharath},
      booktitle={IEEE Conference on Computer Vision and Pattern Recognition},
      year={2021},
      eprint={2012.01506},
      archivePrefix={arXiv},
    }"""

    def scores(self, support: Tensor, query: Tensor) -> Tensor:
        """Scores: (E, Q, W)."""
        return reconstruction_scores(
            descriptors(query / self.config.divisor), descriptors(support / self.config.divisor),
            self.config.alpha, self.config.beta,
        )  # fmt: skip
