"""Hyper-parameters of RFS, and short trainings for the small benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.api import check_ranges, hyper

Table = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class RfsConfig:
    """Hyper-parameters; the field defaults are the authors' for mini-ImageNet."""

    generation: int = hyper(0, "trainings that this one is distilled from, one after the other, ≥ 0 (§3.3)")
    epochs: int = hyper(100, "passes over the base images, ≥ 1", in_epochs=True)
    batch_size: int = hyper(64, "images per step, ≥ 2")
    lr: float = hyper(0.05, "first step size of SGD, > 0")
    decay_at: tuple[int, ...] = hyper((60, 80), "epochs before which it is divided by 10", in_epochs=True)
    momentum: float = hyper(0.9, "of SGD, in [0, 1)")
    weight_decay: float = hyper(5e-4, "L2 of all weights, ≥ 0")
    soft: float = hyper(0.5, "share of the teacher in the loss of a student, in [0, 1]")
    temperature: float = hyper(4.0, "of the soft predictions, > 0")
    validate_every: int = hyper(10, "epochs between two validations, ≥ 1", in_epochs=True)
    c: float = hyper(1.0, "weight of the data against the penalty in an episode, > 0", phase="adapt")
    views: int = hyper(0, "changed views of each support image, ≥ 0; 0: as it is", phase="adapt")

    def __post_init__(self) -> None:
        """Check ranges."""
        check_ranges(
            self,
            {
                "≥ 0": "generation weight_decay views",
                "≥ 1": "epochs validate_every",
                "≥ 2": "batch_size",
                "> 0": "lr temperature c",
                "in [0, 1)": "momentum",
            },
            {"soft must be in [0, 1]": 0 <= self.soft <= 1},
        )


_VIEWS = {"views": 5}


def _short(n: int) -> dict[str, Any]:
    return {"epochs": n, "decay_at": (n * 3 // 5, n * 4 // 5), "validate_every": n // 5}


_QUICK = {  # epochs
    "glyphs": 20,
    "glyphs-digits": 20,
    "omniglot-small": 10,
    "omniglot-lake": 5,
    "cifar10": 30,
}
DEFAULTS: Table = {
    **dict.fromkeys(("mini", "tiered", "cifarfs", "fc100"), _VIEWS),
    **{name: _VIEWS | _short(n_epochs) for name, n_epochs in _QUICK.items()},
}
