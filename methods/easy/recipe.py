"""Hyper-parameters of EASY, and short trainings for the small benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.api import check_ranges, hyper

Table = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class EasyConfig:
    """Hyper-parameters; the field defaults are the authors' for mini-ImageNet."""

    networks: int = hyper(3, "trained apart, whose features stand side by side, ≥ 1")
    member: int = hyper(0, "which of them a single network is, ≥ 0: other weights, other batches")
    epochs: int = hyper(500, "passes over the base images of each network, ≥ 1", in_epochs=True)
    restart_every: int = hyper(100, "epochs of a cosine of the step size, ≥ 1", in_epochs=True)
    restart_factor: float = hyper(0.9, "of the step size from one cosine to the next, > 0")
    batch_size: int = hyper(128, "images per step, ≥ 2")
    lr: float = hyper(0.1, "first step size of SGD with Nesterov's momentum 0.9, > 0")
    weight_decay: float = hyper(5e-4, "L2 of all weights, ≥ 0")
    alpha: float = hyper(2.0, "of Beta(alpha, alpha), the shares of mixup, > 0")
    validate_every: int = hyper(1, "epochs between two validations, ≥ 1", in_epochs=True)
    validation_shot: int = hyper(1, "shots of the 5-way validation episodes that choose the epoch, ≥ 1")
    crops: int = hyper(
        0, "random crops whose features are averaged, ≥ 0; 0: the image as it is", phase="adapt"
    )

    def __post_init__(self) -> None:
        """Check ranges."""
        single = {"member is of a single network, set networks=1": self.networks == 1 or not self.member}
        check_ranges(
            self,
            {
                "≥ 0": "member weight_decay crops",
                "≥ 1": "networks epochs restart_every validate_every validation_shot",
                "≥ 2": "batch_size",
                "> 0": "restart_factor lr alpha",
            },
            single,
        )


_CROPS = {"crops": 30}
_QUICK = {  # epochs
    "glyphs": 20,
    "glyphs-digits": 20,
    "omniglot-small": 10,
    "omniglot-lake": 5,
    "cifar10": 30,
}


def _short(n: int) -> dict[str, int]:
    return {"epochs": n, "restart_every": n, "batch_size": 64, "validate_every": n // 5}


DEFAULTS: Table = {
    **dict.fromkeys(("mini", "cub-closerlook", "cifarfs", "fc100"), _CROPS),
    **{name: _short(n_epochs) for name, n_epochs in _QUICK.items()},
}
RECIPES: dict[str, Table] = {  # as many images as other methods: one network
    "budget": {name: {"networks": 1} for name in _QUICK}
}
