"""Logistic regression on the features of any fit, RFS-simple (Tian et al. 2020, arXiv:2003.11539).

Each episode's support is fitted by multinomial logistic regression with an L2 penalty on the weights and a free bias. The
authors call scikit-learn, which stops at a tolerance of 1e-4; here it is at the optimum. They fit five augmented views of
each support image, which weighs the data five times against the penalty: ``views=5``; by default every image is one. The
authors' code: github.com/WangYueFt/rfs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from harness.api import Backbone, Normalisation, NormalisedHead, OnFeatures, SupportViews, check_ranges, hyper
from harness.ops.logistic import OnSupport, fit_support


class LogisticRegression(NormalisedHead):
    """Multinomial logistic regression on the support."""

    @dataclass(frozen=True)
    class Config(OnFeatures):
        """Hyper-parameters."""

        c: float = hyper(1.0, "weight of the data against the penalty, > 0", phase="adapt")
        normalise: Normalisation = hyper("l2n", "of features: un, l2n or cl2n", phase="adapt")
        views: int = hyper(
            0, "changed views of each support image, ≥ 0; 0: the image as it is", phase="adapt", later=True
        )

        def __post_init__(self) -> None:
            """Check ranges."""
            check_ranges(self, {"> 0": "c", "≥ 0": "views"})

    name: ClassVar[str] = "logistic"
    version: ClassVar[str] = "1"
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
        super().__init__(config, backbone)
        self.views = SupportViews(config.views) if config.views else None

    def fit(self, support: Tensor) -> OnSupport:
        """Weights; of support (E, W, S, D), or with views (E, W, S, v, D), whose first is the image as it is."""
        x = self.views.changed(support) if self.views else support  # (E, W, S · views, D)
        return fit_support(self.normalise(x), self.config.c)

    def scores(self, state: OnSupport, query: Tensor) -> Tensor:
        """Log-odds of the classes: (E, Q, W)."""
        return state.scores(self.normalise(self.views.as_it_is(query) if self.views else query))
