"""Logistic regression on the features of any fit, RFS-simple (Tian et al. 2020, arXiv:2003.11539).

Each episode's support is fitted by multinomial logistic regression with an L2 penalty on the weights and a free bias.
The authors call scikit-learn, which stops at a tolerance of 1e-4; here it is at the optimum. They fit five augmented views of each support image, which weighs the data five times against the
penalty; here every image is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

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
from harness.ops.logistic import Logistic, fit_logistic


class State(NamedTuple):
    """Normalised support (E, n, D) and the classifier on its span."""

    support: Tensor
    fitted: Logistic


class LogisticRegression(nn.Module):
    """Multinomial logistic regression on the support."""

    @dataclass(frozen=True)
    class Config(OnFeatures):
        """Hyper-parameters."""

        c: float = hyper(1.0, "weight of the data against the penalty, > 0", phase="adapt")
        normalise: Normalisation = hyper("l2n", "of features: un, l2n or cl2n", phase="adapt")

        def __post_init__(self) -> None:
            """Check ranges."""
            if self.c <= 0:
                raise ValueError("c must be > 0")

    name: ClassVar[str] = "logistic"
    version: ClassVar[str] = "1"
    takes: ClassVar[str] = "vectors"
    episode_batch: ClassVar[int] = 256  # the fit works on small matrices, many at once
    equivariant: ClassVar[bool] = True
    reference: ClassVar[str] = """@inproceedings{tian2020rethinking,
      title={Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need?},
      author={Tian, Yonglong and Wang, Yue and Krishnan, Dilip and Tenenbaum, Joshua B. and Isola, Phillip},
      booktitle={European Conference on Computer Vision},
      year={2020},
      eprint={2003.11539},
      archivePrefix={arXiv},
    }"""

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        self.config, self.normalise = config, Normaliser(config.normalise)

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Keep the mean base feature."""
        self.normalise.settle(ctx, self.config.features)

    def adapt(self, support: Support) -> State:
        """Fit one episode."""
        return self._fit(support.by_class()[None])

    def predict(self, state: State, query: Tensor) -> Tensor:
        """Scores: (n_query, n_way)."""
        return self._scores(state, query[None])[0]

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        return self._scores(self._fit(batch.support), batch.query)

    def _fit(self, support: Tensor) -> State:
        n_episodes, n_way, shot = support.shape[:3]
        x = self.normalise(support.flatten(1, 2))  # (E, W·S, D)
        target = torch.eye(n_way).to(x).repeat_interleave(shot, 0).expand(n_episodes, -1, -1)  # (E, W·S, W)
        # of two classes scikit-learn penalises one vector, the difference of the two here: half their sum of squares
        c = self.config.c / 2 if n_way == 2 else self.config.c
        return State(x, fit_logistic(x @ x.mT, target, c))

    def _scores(self, state: State, query: Tensor) -> Tensor:
        return state.fitted.scores(self.normalise(query) @ state.support.mT)
