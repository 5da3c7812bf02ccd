"""Soft k-means of an episode on the features of any fit: the transductive form of EASY (Bendou et al. 2022, arXiv:2201.09699).

All features of the episode are centred on their own mean and brought to unit length. Class means start at those of the
support; in each round every query is shared out by a soft-max over minus squared distances, and the means take their
shares in. As in the authors' code the distances of the last round are the scores, before its means move. Their row is
``soft-kmeans[easy]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.api import (
    Normalisation,
    NormalisedHead,
    OnFeatures,
    centre_and_normalise,
    check_ranges,
    hyper,
    squared_distances,
)


class SoftKmeans(NormalisedHead):
    """Class means that take in their shares of the queries."""

    @dataclass(frozen=True)
    class Config(OnFeatures):
        """Hyper-parameters; the defaults are those of the authors' commands."""

        temperature: float = hyper(5.0, "factor on the squared distances, > 0", phase="adapt")
        rounds: int = hyper(30, "of shares and means, ≥ 1", phase="adapt")
        normalise: Normalisation = hyper(
            "un", "of features before the episode's own: un, l2n or cl2n", phase="adapt"
        )

        def __post_init__(self) -> None:
            """Check ranges."""
            check_ranges(self, {"≥ 1": "rounds", "> 0": "temperature"})

    name: ClassVar[str] = "soft-kmeans"
    version: ClassVar[str] = "1"
    transductive: ClassVar[bool] = True
    equivariant: ClassVar[bool] = True
    reference: ClassVar[str] = r"""@article{bendou2022easy,
      title={{EASY}: Ensemble Augmented-Shot-{Y}-shaped Learning: State-of-the-Art Few-Shot Classification with Simple
             Components},
      author={Bendou, Yassir and Hu, Yuqing and Lafargue, Raphael and Lioi, Giulia and Pasdeloup, Bastien and
              Pateux, St{\'e}phane and Gripon, Vincent},
      journal={Journal of Imaging},
      year={2022},
      eprint={2201.09699},
      archivePrefix={arXiv},
    }"""

    def scores(self, support: Tensor, query: Tensor) -> Tensor:
        """Minus distances to the means of the last round: (E, Q, W)."""
        n_rows = support.shape[1] * support.shape[2]
        rows = self.normalise(torch.cat([support.flatten(1, 2), query], dim=1))  # (E, W·S + Q, D)
        rows = centre_and_normalise(rows, rows.mean(1, keepdim=True))
        support, query = rows[:, :n_rows].unflatten(1, support.shape[1:3]), rows[:, n_rows:]
        total, shot = support.sum(2), support.shape[2]  # (E, W, D)
        means = total / shot
        for _ in range(self.config.rounds):
            squared = squared_distances(query, means).clamp(min=0)  # (E, Q, W)
            share = (-self.config.temperature * squared).softmax(-1)
            means = (total + share.mT @ query) / (shot + share.sum(1).unsqueeze(-1))
        return -squared.sqrt()
