"""Ridge regression on the features of any fit, the head of R2-D2 (Bertinetto et al. 2019, arXiv:1805.08136).

The support's one-hot labels are regressed on its features in closed form, without an intercept; scores are what the
regression says of a query. The authors learn a scale of the scores (and λ) with the backbone, on features that are not
normalised; the order of the classes does not depend on a scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from harness.api import (
    Backbone,
    BaseSet,
    EpisodeBatch,
    FitContext,
    Normalisation,
    Normaliser,
    OnFeatures,
    Support,
    hyper,
)
from harness.ops.closed_form import ridge_scores


class Ridge(nn.Module):
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
    takes: ClassVar[str] = "vectors"
    equivariant: ClassVar[bool] = True
    reference: ClassVar[str] = r"""@inproceedings{bertinetto2019meta,
      title={Meta-learning with differentiable closed-form solvers},
      author={Bertinetto, Luca and Henriques, Jo{\~a}o F. and Torr, Philip H. S. and Vedaldi, Andrea},
      booktitle={International Conference on Learning Representations},
      year={2019},
      eprint={1805.08136},
      archivePrefix={arXiv},
    }"""

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        self.config, self.normalise = config, Normaliser(config.normalise)

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Keep the mean base feature."""
        self.normalise.settle(ctx, self.config.features)

    def adapt(self, support: Support) -> Tensor:
        """Features of the support, by class: (n_way, shot, D)."""
        return self.normalise(support.by_class())

    def predict(self, state: Tensor, query: Tensor) -> Tensor:
        """Scores: (n_query, n_way)."""
        return self._scores(state[None], query[None])[0]

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        return self._scores(self.normalise(batch.support), batch.query)

    def _scores(self, support: Tensor, query: Tensor) -> Tensor:
        n_episodes, n_way, shot = support.shape[:3]
        target = torch.eye(n_way).to(support).repeat_interleave(shot, 0)  # (W·S, W)
        return ridge_scores(
            support.flatten(1, 2), target.expand(n_episodes, -1, -1), self.normalise(query), self.config.ridge
        )
