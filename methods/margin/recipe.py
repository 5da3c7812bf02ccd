"""Hyper-parameters of the margin classifiers, and the published values of each table cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from harness.api import Conditions, Similarity, check_ranges, hyper


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of an affine classifier; the field defaults are the authors' for mini-ImageNet."""

    epochs: int = hyper(400, "passes over the base images, > warmup_epochs", in_epochs=True)
    warmup_epochs: int = hyper(
        100, "epochs in which the step size rises from lr / 16 to lr, ≥ 1", in_epochs=True
    )
    batch_size: int = hyper(256, "images per step, ≥ 2")
    parts_per_step: int = hyper(1, "parts of a batch, one after the other, for small cards, ≥ 1")
    lr: float = hyper(3e-3, "Adam's largest step size, > 0; falls to 1e-6 along half a cosine")
    weight_decay: float = hyper(1e-4, "L2 of all weights, added to the gradient (not AdamW), ≥ 0")
    drop_rate: float = hyper(0.0, "share dropped after residual blocks, in [0, 1)")
    block_size: int = hyper(5, "side of the DropBlock squares in cells of the map, ≥ 1")
    squares: Literal["full", "as-published"] = hyper("full", "what DropBlock clears; the authors' code less")
    unused_rows: int = hyper(0, "classifier rows without a class, ≥ 0; the authors train CUB with 100")
    validate_every: int = hyper(20, "epochs between two validations, ≥ 1", in_epochs=True)
    validation_shot: int = hyper(5, "shots of the 5-way validation episodes that choose the epoch, ≥ 1")
    image_size: int | None = hyper(None, "edge of the images in pixels, where it is not the benchmark's")
    passes: int = hyper(100, "passes over an episode's support, ≥ 1", phase="adapt")
    head_lr: float = hyper(0.01, "step size of the episode's SGD, > 0", phase="adapt")
    head_decay: float = hyper(1e-3, "weight decay of the episode's SGD, ≥ 0", phase="adapt")
    head_batch_size: int = hyper(4, "support images per step, ≥ 1", phase="adapt")

    def __post_init__(self) -> None:
        """Check ranges; all that is wrong is said together."""
        ranges: dict[Any, str] = {
            "≥ 0": "weight_decay unused_rows head_decay head_start",
            "≥ 1": "block_size parts_per_step validate_every validation_shot warmup_epochs passes head_batch_size",
            "≥ 2": "batch_size",
            "> 0": "lr scale head_lr head_scale",
            "in [0, 1)": "drop_rate",
            "in [-1, 1]": "margin",
        }
        warms_up = {f"warmup_epochs must be < epochs = {self.epochs}": self.warmup_epochs < self.epochs}
        check_ranges(self, ranges, warms_up)


def from_zero() -> float:
    """Where the classifier of an episode begins, for inner products; a cosine has no start at zero."""
    doc = "factor on the random start of an episode's classifier, ≥ 0; the authors' is 1"
    return hyper(0.0, doc, phase="adapt")


@dataclass(frozen=True)
class Scaled(Recipe):
    """Hyper-parameters of a scaled similarity."""

    scale: float = hyper(30.0, "factor on the similarity in training, > 0")
    head_scale: float = hyper(5.0, "factor on the similarity in an episode, > 0", phase="adapt")


@dataclass(frozen=True)
class WithMargin(Scaled):
    """Hyper-parameters of a scaled similarity with a margin."""

    margin: float = hyper(-0.02, "subtracted from the true class's similarity, in [-1, 1]; < 0 helps it")


Table = dict[str, dict[str, Any]]
_SMALL = {"warmup_epochs": 2, "batch_size": 64, "validate_every": 1, "validation_shot": 1}
COMMON: Table = {
    "cub-closerlook": {"epochs": 200, "warmup_epochs": 50},
    **{f"resnet18/{benchmark}": {"image_size": 224} for benchmark in ("mini", "mini-cub", "cub-closerlook")},
    "wrn28_10/mini": {"image_size": 80, "batch_size": 128, "weight_decay": 0.0},
    "glyphs": {**_SMALL, "epochs": 20},
    "glyphs-digits": {**_SMALL, "epochs": 20},
    "omniglot-small": {**_SMALL, "epochs": 10},
    "omniglot-lake": {**_SMALL, "epochs": 6, "batch_size": 256},
    "cifar10": {**_SMALL, "epochs": 40, "warmup_epochs": 5},
}
_FIELDS = ("weight_decay", "margin", "scale", "drop_rate", "block_size")
_CELLS = {  # one training a cell; the values of Neg-Cosine, then those of Neg-Softmax
    "resnet18/mini-5w1s": ((5e-5, -0.05, 30.0, 0.2, 3), (1e-4, -0.3, 5.0, 0.0, 5)),
    "resnet18/mini-5w5s": ((1e-4, -0.02, 30.0, 0.2, 3), (5e-5, -0.3, 5.0, 0.0, 5)),
    "resnet18/cub-closerlook-5w1s": ((5e-4, -0.01, 30.0, 0.1, 5), (5e-3, -0.05, 5.0, 0.0, 5)),
    "resnet18/cub-closerlook-5w5s": ((1e-3, -0.01, 30.0, 0.1, 5), (3e-3, -0.005, 5.0, 0.0, 5)),
    "resnet18/mini-cub-5w5s": ((5e-5, -0.05, 30.0, 0.0, 5), (1e-6, -0.005, 5.0, 0.0, 5)),
    "resnet12/mini-5w1s": ((1e-4, -0.02, 30.0, 0.1, 5), (3e-4, -0.01, 10.0, 0.1, 5)),
    "resnet12/mini-5w5s": ((1e-4, -0.01, 30.0, 0.1, 5), (1e-5, -0.1, 10.0, 0.1, 5)),
}


def defaults(kind: Similarity, left_out: tuple[str, ...] = ()) -> Table:
    """DEFAULTS of one method; the values of a cell are those of its setting with any number of queries."""
    table = dict(COMMON)
    for key, (cosine, dot) in _CELLS.items():
        values = dict(zip(_FIELDS, cosine if kind == "cosine" else dot, strict=True))
        values["validation_shot"] = 1 if key.endswith("1s") else 5
        cell = {name: value for name, value in values.items() if name not in left_out}
        table[key] = cell
    return table


_THEIRS = Conditions(  # lib/dataset.py, lib/config.py of the authors
    pipeline="negative-margin",
    augmentation="resized-jitter-flip-8bit",
    crops_from="originals",
    n_query=16,
    n_episodes=600,
)


def as_published(
    head: Mapping[str, float] = MappingProxyType({}), cub: Mapping[str, float] = MappingProxyType({})
) -> dict[str, Table]:
    """RECIPES of one method: ``head`` is what its episodes' classifiers have beside, ``cub`` its published CUB training."""
    values: dict[str, Any] = {"squares": "as-published", "validation_shot": 5, "conditions": _THEIRS}
    values |= head
    table = {"mini": values, "mini-cub": values, "cub-closerlook": {**values, "unused_rows": 100, **cub}}
    return {"as-published": table}
