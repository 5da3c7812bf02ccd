"""Hyper-parameters of binocular mutual learning and its two baselines, with the schedule of each benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from harness.api import Conditions, check_ranges, hyper

Table = dict[str, dict[str, Any]]
_RANGES: dict[Any, str] = {
    "≥ 0": "weight_decay global_weight local_weight mutual_weight elastic_strength elastic_slope",
    "≥ 1": "epochs parts_per_step block_size validate_every validation_shot train_shot steps_per_epoch",
    "≥ 2": "train_way batch_size",
    "> 0": "lr temperature",
    "in [0, 1)": "momentum drop_rate",
}


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters that all three share; the field defaults are the authors' for mini-ImageNet."""

    epochs: int = hyper(100, "epochs, ≥ 1", in_epochs=True)
    parts_per_step: int = hyper(2, "episodes (batches) whose gradients are averaged in a step, ≥ 1")
    optimiser: Literal["sgd", "adam"] = hyper(
        "sgd", "the authors' adam: also lr=1e-3, weight_decay=0, decay_factors=0.1,0.1", later=True
    )
    lr: float = hyper(0.1, "first step size, > 0")
    momentum: float = hyper(0.9, "momentum of SGD, in [0, 1)")
    weight_decay: float = hyper(5e-4, "L2 of all weights, ≥ 0")
    decay_epochs: tuple[int, ...] = hyper(
        (50, 70), "epochs after which the step size changes", in_epochs=True
    )
    decay_factors: tuple[float, ...] = hyper((0.06, 0.2), "its factors, > 0, one for each of decay_epochs")
    drop_rate: float = hyper(0.1, "share dropped after residual blocks, in [0, 1); 0 for conv4")
    block_size: int = hyper(5, "side of the DropBlock squares in cells of the map, ≥ 1")
    squares: Literal["full", "as-published"] = hyper("full", "what DropBlock clears; the authors' code less")
    image_size: int | None = hyper(None, "edge of the images in pixels, where it is not the benchmark's")
    validate_every: int = hyper(20, "epochs between two validations, ≥ 1", in_epochs=True)
    validation_shot: int = hyper(5, "shots of the 5-way validation episodes that choose the epoch, ≥ 1")
    classifier: Literal["root", "pooled"] = hyper(
        "root", "features at test: square-rooted flat maps, or averages over the map", phase="adapt"
    )

    def __post_init__(self) -> None:
        """Check ranges; all that is wrong is said together."""
        is_paired = (
            len(self.decay_factors) == len(self.decay_epochs) and min(self.decay_factors, default=1) > 0
        )
        query = getattr(self, "train_query", 1)
        rules = {
            "decay_factors must be one number > 0 for each of decay_epochs": is_paired,
            f"train_query must be ≥ 1, or -1, found {query}": query >= 1 or query == -1,
        }
        check_ranges(self, _RANGES, rules)


@dataclass(frozen=True)
class Episodic(Recipe):
    """Hyper-parameters of training on episodes."""

    train_way: int = hyper(15, "classes per training episode, ≥ 2; at most the number of base classes")
    train_shot: int = hyper(5, "support images per class in training, ≥ 1")
    train_query: int = hyper(7, "queries per class in training, ≥ 1; -1: all the smallest class has left")
    steps_per_epoch: int = hyper(500, "steps per epoch, ≥ 1")


@dataclass(frozen=True)
class BmlConfig(Episodic):
    """Hyper-parameters."""

    global_weight: float = hyper(2.0, "weight of the global loss, ≥ 0")
    local_weight: float = hyper(1.0, "weight of the local loss, ≥ 0")
    mutual_weight: float = hyper(0.5, "weight of the divergence between the views, ≥ 0")
    follows: Literal["both", "global", "local"] = hyper(
        "both", "which view that divergence pulls to the other: each, or one way", later=True
    )
    temperature: float = hyper(4.0, "of that divergence, > 0")
    elastic_strength: float = hyper(
        5.5, "largest extra distance to the true class, ≥ 0; grows with the epochs"
    )
    elastic_slope: float = hyper(0.1, "steepness in the distance to the nearest wrong class, ≥ 0")
    views: Literal["both", "global", "local"] = hyper("both", "whose scores count at test", phase="adapt")


@dataclass(frozen=True)
class LocalConfig(Episodic):
    """Hyper-parameters."""

    classifier: Literal["root", "pooled"] = hyper("pooled", "features at test, as in bml", phase="adapt")
    is_dense: bool = hyper(False, "whether queries are matched location by location in training")


@dataclass(frozen=True)
class GlobalConfig(Recipe):
    """Hyper-parameters."""

    classifier: Literal["root", "pooled"] = hyper("pooled", "features at test, as in bml", phase="adapt")
    batch_size: int = hyper(128, "images per part of a step, ≥ 2")
    is_dense: bool = hyper(False, "whether every location is classified in training")


_SMALL = {"parts_per_step": 1, "drop_rate": 0.0, "validate_every": 1, "validation_shot": 1}
EPISODES = {**_SMALL, "epochs": 15, "decay_epochs": (8, 12), "steps_per_epoch": 40}
ELASTIC = {"elastic_strength": 0.3}  # chosen on validation classes of omniglot-small, among 0, 0.3, 1 and 5.5
BATCHES = {**_SMALL, "epochs": 20, "decay_epochs": (10, 15), "batch_size": 64}
_RESIZED, _PADDED = "resized-jitter-flip-8bit", "padded8-jitter-flip-8bit"
_TRANSFORMS = {  # of the authors, by benchmark: pipeline and augmentation (their letter)
    "mini": ("bml-mini", _RESIZED),  # A, of ready squares of 84 pixels
    "tiered": ("bml-tiered", _PADDED),  # B
    "tiered-trainval": ("bml-tiered", _PADDED),
    "fc100": ("bml-tiered", _PADDED),  # C
    "cifarfs": ("bml-cifarfs", _PADDED),  # D
    "cub-feat-mixedcrop": ("bml", _RESIZED),  # E, of photographs
}
AS_PUBLISHED: dict[str, Table] = {
    "as-published": {
        benchmark: {
            "squares": "as-published",
            "conditions": Conditions(
                pipeline=pipeline,
                augmentation=augmentation,
                crops_from="originals",
                select_on="novel",
                n_query=15,
                n_episodes=2000,
            ),
        }
        for benchmark, (pipeline, augmentation) in _TRANSFORMS.items()
    }
}


def defaults(tiered_epochs: int, small: dict[str, Any]) -> Table:
    """DEFAULTS of one method: tieredImageNet's own schedule, and short trainings of conv4."""
    milestones = tuple(range(40, tiered_epochs, 40))
    tiered: dict[str, Any] = {
        "epochs": tiered_epochs, "decay_epochs": milestones, "decay_factors": (0.1,) * len(milestones)
    }  # fmt: skip
    quick = ("glyphs", "glyphs-digits", "omniglot-small", "omniglot-lake", "cifar10")
    enlarged: dict[str, Any] = {"image_size": 84}  # stored at 32 pixels
    published = {"tiered": tiered, "tiered-trainval": tiered, "cifarfs": enlarged, "fc100": enlarged}
    return published | dict.fromkeys(quick, small)
