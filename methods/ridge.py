"""Ridge regression on the features of any fit, the head of R2-D2 (Bertinetto et al. 2019, arXiv:1805.08136).

The support's one-hot labels are regressed on its features in closed form, without an intercept; scores are what the
regression says of a query. The authors learn a scale of the scores (and λ) with the backbone, on features that are not
normalised; the order of the classes does not depend on a scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.api import Normalisation, NormalisedHead, OnFeatures, hyper
from harness.ops.closed_form import ridge_scores


class Ridge(NormalisedHead):
    """Ridge regression onto one-hot labels."""

    @dataclass(frozen=True)
    class Config(OnFeatures):
        """Hyper-parameters."""

        ridge: float = hyper(50.0, "λ, > 0", phase="adapt")
        normalise: Normalisation = hyper("un", "of features: un, l2n or cl2n", phase="adapt")

        def __post_init__(self) -> None:
            """Check ranges."""
            if self.ridge <= 0:
                raise ValueError("ridge must be > 0")

    name: ClassVar[str] = "ridge"
    version: ClassVar[str] = "1"
    equivariant: ClassVar[bool] = True
    reference: ClassVar[str] = r"""@inproceedings{bertinetto2019meta,
      title={Meta-learning with differentiable closed-form solvers},
      author={Bertinetto, Luca and Henriques, Jo{\~a}o F. and Torr, Philip H. S. and Vedaldi, Andrea},
      booktitle={International Conference on Learning Representations},
      year={2019},
      eprint={1805.08136},
      archivePrefix={arXiv},
    }"""

    def scores(self, support: Tensor, query: Tensor) -> Tensor:
        """Scores: (E, Q, W)."""
        n_episodes, n_way, shot = support.shape[:3]
        target = torch.eye(n_way).to(support).repeat_interleave(shot, 0)  # (W·S, W)
        return ridge_scores(
            self.normalise(support.flatten(1, 2)),
            target.expand(n_episodes, -1, -1),
            self.normalise(query),
            self.config.ridge,
        )
