"""Linear support vector machines on the features of any fit, as RFS has them (Tian et al. 2020, arXiv:2003.11539).

Features of unit length are standardised by the mean and the (population) deviation of the support, a dimension without
spread is left as it is; one machine for each pair of classes, and a query goes to the class with most votes, of equal
ones to the smaller label. scikit-learn's ``decision_function`` mixes margins into the votes and orders some queries
otherwise than its ``predict``; the votes are what is returned here. The authors (github.com/WangYueFt/rfs) fit five
augmented views of each support image: ``views=5``; by default every image is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from harness.api import Backbone, Normalisation, NormalisedHead, OnFeatures, SupportViews, check_ranges, hyper
from harness.ops.closed_form import PairwiseSvm, pairwise_svm, votes_of


class State(NamedTuple):
    """Mean and deviation (E, 1, D) of the support, the standardised support (E, n, D), and the machines on it."""

    mean: Tensor
    deviation: Tensor
    support: Tensor
    machines: PairwiseSvm
    n_way: int


class Svm(NormalisedHead):
    """One linear support vector machine a pair of classes."""

    @dataclass(frozen=True)
    class Config(OnFeatures):
        """Hyper-parameters."""

        c: float = hyper(1.0, "bound of a coefficient, > 0", phase="adapt")
        normalise: Normalisation = hyper("l2n", "of features: un, l2n or cl2n", phase="adapt")
        views: int = hyper(
            0, "changed views of each support image, ≥ 0; 0: the image as it is", phase="adapt", later=True
        )

        def __post_init__(self) -> None:
            """Check ranges."""
            check_ranges(self, {"> 0": "c", "≥ 0": "views"})

    name: ClassVar[str] = "svm"
    version: ClassVar[str] = "1"
    reference: ClassVar[str] = """@inproceedings{tian2020rethinking,
      title={Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need?},
      author={Tian, Yonglong and Wang, Yue and Krishnan, Dilip and Tenenbaum, Joshua B. and Isola, Phillip},
      booktitle={European Conference on Computer Vision},
      year={2020},
      eprint={2003.11539},
      archivePrefix={arXiv},
    }"""

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__(config, backbone)
        self.views = SupportViews(config.views) if config.views else None

    def fit(self, support: Tensor) -> State:
        """All pairs' machines; of support (E, W, S, D), or with views (E, W, S, v, D), whose first is the image as it is."""
        x = self.views.changed(support) if self.views else support  # (E, W, S · views, D)
        x = self.normalise(x.flatten(1, 2))  # (E, W · S · views, D)
        mean, deviation = x.mean(1, keepdim=True), x.std(1, correction=0, keepdim=True)
        deviation = deviation.where(deviation > 1e-7, 1.0)  # rounding leaves some where all are equal
        x = (x - mean) / deviation
        return State(
            mean, deviation, x, pairwise_svm(x @ x.mT, support.shape[1], self.config.c), support.shape[1]
        )

    def scores(self, state: State, query: Tensor) -> Tensor:
        """Votes: (E, Q, W)."""
        query = self.views.as_it_is(query) if self.views else query
        x = (self.normalise(query) - state.mean) / state.deviation
        return votes_of(state.machines.margins(x @ state.support.mT), state.n_way)
