"""Multi-class support vector machine on the features of any fit, the head of MetaOptNet (Lee et al. 2019, arXiv:1904.03758).

Crammer and Singer's dual over the support's inner products, with an identity beside them as in the authors' code
(github.com/kjunelee/MetaOptNet), is solved to its optimum (they take 15 interior-point steps, which is 1e-9 from it);
no qpth is needed. The authors learn a scale of the scores with the backbone; the order of the classes does not depend
on it.
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
from harness.ops.closed_form import crammer_singer_dual


class MetaOptSvm(nn.Module):
    """Crammer and Singer's multi-class SVM."""

    @dataclass(frozen=True)
    class Config(OnFeatures):
        """Hyper-parameters."""

        c: float = hyper(0.1, "bound of a dual variable, > 0", phase="adapt")
        normalise: Normalisation = hyper("un", "of features: un, l2n or cl2n", phase="adapt")

        def __post_init__(self) -> None:
            """Check ranges."""
            if self.c <= 0:
                raise ValueError("c must be > 0")

    name: ClassVar[str] = "metaopt-svm"
    version: ClassVar[str] = "1"
    takes: ClassVar[str] = "vectors"
    equivariant: ClassVar[bool] = True
    reference: ClassVar[str] = """@inproceedings{lee2019meta,
      title={Meta-Learning with Differentiable Convex Optimization},
      author={Lee, Kwonjoon and Maji, Subhransu and Ravichandran, Avinash and Soatto, Stefano},
      booktitle={IEEE Conference on Computer Vision and Pattern Recognition},
      year={2019},
      eprint={1904.03758},
      archivePrefix={arXiv},
    }"""

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        self.config, self.normalise = config, Normaliser(config.normalise)

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Keep the mean base feature."""
        self.normalise.settle(ctx, self.config.features)

    def adapt(self, support: Support) -> Tensor:
        """Class weights: (n_way, D)."""
        return self._fit(support.by_class()[None])[0]

    def predict(self, state: Tensor, query: Tensor) -> Tensor:
        """Scores: (..., n_query, n_way)."""
        return self.normalise(query) @ state.mT

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        return self.predict(self._fit(batch.support), batch.query)

    def _fit(self, support: Tensor) -> Tensor:
        n_episodes, n_way, shot = support.shape[:3]
        x = self.normalise(support.flatten(1, 2))  # (E, W·S, D)
        target = torch.eye(n_way).to(x).repeat_interleave(shot, 0).expand(n_episodes, -1, -1)  # (E, W·S, W)
        return crammer_singer_dual(x @ x.mT, target, self.config.c).mT @ x  # (E, W, D)
