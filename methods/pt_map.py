"""Balanced optimal transport on the features of any fit: PT-MAP (Hu, Gripon and Pateux 2021, arXiv:2006.03806).

Features are raised to a power, brought to unit length and centred, support and queries apart; queries are shared out to
the classes by Sinkhorn's iterations, as many to each, and the class centres move towards what was assigned to them, in
turn. That every class has as many queries is a hard constraint of it. Features have to be ≥ 0, as after a ReLU; negative
ones, of which the authors' code (github.com/yhu01/PT-MAP) makes NaN, are refused. The authors' stopping rule looks at
all episodes of a batch, which moves plans by up to 4e-4; here each episode stops alone. One query is shared out evenly:
nothing is learned of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from harness.api import Head, OnFeatures, check_ranges, hyper
from harness.ops.sinkhorn import map_plan, power_transform, unit_and_centred


class PtMap(Head):
    """Queries shared out evenly to class centres that follow them."""

    @dataclass(frozen=True)
    class Config(OnFeatures):
        """Hyper-parameters; the defaults are the authors'."""

        power: float = hyper(0.5, "to which features are raised, > 0 (eq. 1)", phase="adapt")
        strength: float = hyper(10.0, "λ of exp(−λ · squared distance), > 0", phase="adapt")
        steps: int = hyper(20, "of the centres, ≥ 0", phase="adapt")
        rate: float = hyper(0.2, "share of the way that centres go, > 0", phase="adapt")

        def __post_init__(self) -> None:
            """Check ranges."""
            check_ranges(self, {"≥ 0": "steps", "> 0": "power strength rate"})

    name: ClassVar[str] = "pt-map"
    version: ClassVar[str] = "1"
    transductive: ClassVar[bool] = True
    assumes_balance: ClassVar[bool] = True
    equivariant: ClassVar[bool] = True
    reference: ClassVar[str] = r"""@inproceedings{hu2021leveraging,
      title={Leveraging the Feature Distribution in Transfer-based Few-Shot Learning},
      author={Hu, Yuqing and Gripon, Vincent and Pateux, St{\'e}phane},
      booktitle={International Conference on Artificial Neural Networks},
      year={2021},
      eprint={2006.03806},
      archivePrefix={arXiv},
    }"""

    def scores(self, support: Tensor, query: Tensor) -> Tensor:
        """The plan, rows sum to 1: (E, Q, W)."""
        c, classes = self.config, support.shape[1:3]
        x, query = (power_transform(side, c.power) for side in (support.flatten(1, 2), query))
        x, query = unit_and_centred(x, query)
        return map_plan(x.unflatten(1, classes), query, steps=c.steps, rate=c.rate, strength=c.strength)
