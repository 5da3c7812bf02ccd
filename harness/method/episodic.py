"""What a training on episodes of base classes is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.method.hyper import hyper
from harness.method.ranges import Range, check_ranges

_RANGES: Mapping[Range, str] = {
    "≥ 0": "epochs",
    "≥ 1": "train_shot train_query steps_per_epoch episodes_per_step validation_shot",
    "≥ 2": "train_way",
}


@dataclass(frozen=True)
class OnEpisodes:
    """Their size and number; ``Config`` inherits it, and ``train_on_episodes`` reads it."""

    train_way: int = hyper(5, "classes per training episode, ≥ 2; at most the number of base classes")
    train_shot: int = hyper(1, "support images per class in training, ≥ 1; papers match the test")
    train_query: int = hyper(15, "queries per class in training, ≥ 1")
    epochs: int = hyper(200, "passes of steps_per_epoch steps, ≥ 0", in_epochs=True)
    steps_per_epoch: int = hyper(100, "steps between two validations, ≥ 1")
    episodes_per_step: int = hyper(1, "training episodes in one step, ≥ 1")
    validation_shot: int = hyper(1, "shots of the 5-way validation episodes that choose the epoch, ≥ 1")

    def __post_init__(self) -> None:
        """Check ranges."""
        self.check({})

    def check(self, further: Mapping[Range, str]) -> None:
        """Check the ranges of these and of further fields, for the ``__post_init__`` of a heir; all is said together."""
        both = {kind: f"{_RANGES.get(kind, '')} {further.get(kind, '')}" for kind in {**_RANGES, **further}}
        check_ranges(self, both)

    def epoch_images(self, n_classes: int) -> int:
        """Training images of one epoch, of so many base classes."""
        each = min(self.train_way, n_classes) * (self.train_shot + self.train_query)
        return self.steps_per_epoch * self.episodes_per_step * each
