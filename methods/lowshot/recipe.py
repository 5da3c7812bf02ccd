"""Hyper-parameters of low-shot learning: the published ones for ImageNet, short ones for the small benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from harness.api import OnFeatures, check_ranges, hyper
from harness.ops.auxiliary_losses import AUXILIARY_LOSSES
from methods.lowshot.generation import STRATEGIES

Table = dict[str, dict[str, Any]]
PAPER = """@inproceedings{hariharan2017lowshot,
  title={Low-shot Visual Recognition by Shrinking and Hallucinating Features},
  author={Hariharan, Bharath and Girshick, Ross},
  booktitle={IEEE International Conference on Computer Vision},
  year={2017},
  eprint={1606.02819},
  archivePrefix={arXiv},
}"""
TWINS = ("glyphs-lowshot", "omniglot-small-lowshot")
SMALL = ("glyphs", "glyphs-digits", "omniglot-small", "omniglot-lake", *TWINS)
FEATURES = "imagenet-lowshot-features"


@dataclass(frozen=True)
class RepresentationConfig:
    """Hyper-parameters of a representation; the field defaults are the authors' for ResNet-10."""

    aux: str = hyper(
        "none", f"auxiliary loss by name: {', '.join(AUXILIARY_LOSSES)}, or one that you registered"
    )
    sgm_weight: float = hyper(0.02, "weight of sgm, ≥ 0 (0.005 for ResNet-50)")
    batchsgm_weight: float = hyper(5.0, "weight of batchsgm, ≥ 0")
    l2_weight: float = hyper(0.03, "weight of l2, ≥ 0")
    aux_weight: float | None = hyper(None, "weight, ≥ 0, in place of these; 1 for a loss that you registered")
    epochs: int = hyper(90, "passes over the base images, ≥ 1")
    batch_size: int = hyper(256, "images per step, ≥ 2 (100 for ResNet-50)")
    lr: float = hyper(0.1, "step size of SGD, > 0; a tenth after every decay_every epochs")
    decay_every: int = hyper(30, "epochs, ≥ 1")
    warmup_epochs: int = hyper(0, "first epochs at step size 0.01, ≥ 0 (1 for ResNet-50)")
    momentum: float = hyper(0.9, "of SGD, in [0, 1)")
    weight_decay: float = hyper(1e-4, "L2 of all weights, ≥ 0")
    warp: float = hyper(0.0, "strength of random affine maps of training images, ≥ 0, for drawings")
    classifier_steps: int = hyper(
        10_000,
        "where no network is trained: steps of 1,000 features that train the classifier of base classes, ≥ 1",
    )

    def __post_init__(self) -> None:
        """Check ranges, and that there is such a loss."""
        ranges: dict[Any, str] = {
            "≥ 0": "sgm_weight batchsgm_weight l2_weight warmup_epochs weight_decay warp",
            "≥ 1": "epochs decay_every classifier_steps",
            "≥ 2": "batch_size",
            "> 0": "lr",
            "in [0, 1)": "momentum",
        }
        known = {
            f"aux must be one of {', '.join(AUXILIARY_LOSSES)}, found {self.aux}": self.aux
            in AUXILIARY_LOSSES,
            "aux_weight must be ≥ 0": (self.aux_weight or 0) >= 0,
        }
        check_ranges(self, ranges, known)

    @property
    def weight(self) -> float:
        """Weight of the auxiliary loss."""
        own: float = getattr(self, f"{self.aux}_weight", 1.0)
        return own if self.aux_weight is None else self.aux_weight


# Chosen on the validation half of omniglot-small-lowshot at n = 1 (top-5 novel of lowshot-logistic, seed 0, `make
# results-lowshot`): none 75.8; sgm 0.001 77.0, 0.004 77.0, 0.016 75.6; batchsgm 0.01 75.0, 0.04 74.3, 0.2 62.1; l2 0.0015
# 79.1, 0.006 77.3.
_DRAWINGS = {"epochs": 30, "batch_size": 64, "decay_every": 10, "warp": 1.0, "sgm_weight": 0.004, "batchsgm_weight": 0.01,
             "l2_weight": 0.0015}  # fmt: skip
_DEEP = {"sgm_weight": 0.005, "batch_size": 100, "warmup_epochs": 1}
REPRESENTATION: Table = {
    **{f"resnet50/{name}": _DEEP for name in ("imagenet-lowshot",)},
    **dict.fromkeys(SMALL, _DRAWINGS),
}


@dataclass(frozen=True)
class LogisticConfig(OnFeatures):
    """Hyper-parameters of the low-shot classifier; the field defaults are the authors' for SGM on ResNet-10."""

    features: str = hyper(
        "representation(aux=sgm)", "whose features; any method with `embed`, fitted once for all heads"
    )
    lr: float = hyper(1.0, "step size of SGD, > 0 (0.1 without SGM, and for ResNet-50)", phase="adapt")
    weight_decay: float = hyper(
        1e-3, "L2 of weights and biases, ≥ 0 (0.01 without SGM or examples made up)", phase="adapt"
    )
    batch_size: int = hyper(
        1000, "rows per step, base and novel in proportion to their classes, ≥ 2", phase="adapt"
    )
    n_steps: int = hyper(10_000, "steps, ≥ 0", phase="adapt")

    def __post_init__(self) -> None:
        """Check ranges; all that is wrong is said together."""
        check_ranges(self, _HEAD_RANGES, self._rules())

    def _rules(self) -> dict[str, bool]:
        """What must hold beside."""
        return {}


@dataclass(frozen=True)
class HallucinationConfig(LogisticConfig):
    """Hyper-parameters of the classifier with examples made up beside the few real ones."""

    strategy: str = hyper(
        "analogies", f"how examples are made up: {', '.join(STRATEGIES)}, or what you registered"
    )
    max_per_label: int = hyper(
        5, "examples to which a novel class is filled up, ≥ 0 (20 without SGM)", phase="adapt"
    )
    clusters: int = hyper(100, "of each base class, ≥ 2")
    generator_lr: float = hyper(1.0, "first step size of the generator, > 0 (0.1 without SGM)")
    generator_steps: int = hyper(120_000, "steps of 128 analogies, ≥ 1; the step size falls twice to a tenth")
    squared_error_weight: float = hyper(
        10.0, "of the generator's squared error beside its cross-entropy, ≥ 0"
    )
    classifier_steps: int = hyper(
        10_000, "that train a classifier of base classes where the features have none, ≥ 1"
    )

    def _rules(self) -> dict[str, bool]:
        known = ", ".join(STRATEGIES)
        return {f"strategy must be one of {known}, found {self.strategy}": self.strategy in STRATEGIES}


@dataclass(frozen=True)
class MatchingConfig(OnFeatures):
    """Hyper-parameters of a matching network; the field defaults are the low-shot authors'."""

    context: bool = hyper(True, "whether support and queries are encoded in the context of the support")
    readout: Literal["attention", "sum"] = hyper(
        "attention", "score of a label: its log attention, or FEAT's sum of products without soft-max"
    )
    n_reads: int | None = hyper(
        5, "times that a query reads the support, ≥ 0; none: once for each support image"
    )
    train_way: int | None = hyper(None, "base classes in a training step, ≥ 2; none: all")
    most_shots: int = hyper(10, "support images of a class in training: 1 to so many, ≥ 1")
    n_steps: int = hyper(60_000, "training steps, ≥ 1")
    decay_every: int = hyper(20_000, "steps until the step size is a tenth, ≥ 1")
    lr: float = hyper(0.1, "first step size of SGD, > 0")
    momentum: float = hyper(0.9, "of SGD, in [0, 1)")
    dampening: float = hyper(0.9, "of SGD, in [0, 1)")
    weight_decay: float = hyper(1e-3, "L2 of all weights, ≥ 0")
    base_per_class: int = hyper(
        100, "joint: support images of a base class, ≥ 1; novel ones are repeated up to it", phase="adapt"
    )

    def __post_init__(self) -> None:
        """Check ranges; all that is wrong is said together."""
        rules = {
            "n_reads must be ≥ 0": (self.n_reads or 0) >= 0,
            "train_way must be ≥ 2": (self.train_way or 2) >= 2,
        }
        check_ranges(self, _HEAD_RANGES, rules)


_HEAD_RANGES: dict[Any, str] = {
    "≥ 0": "weight_decay max_per_label squared_error_weight",
    "≥ 1": "generator_steps classifier_steps most_shots base_per_class decay_every",
    "≥ 2": "batch_size clusters",
    "> 0": "lr generator_lr",
    "in [0, 1)": "momentum dampening",
}
_PLAIN = "representation(aux=none)"
_SMALL_LOGISTIC: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.01, "batch_size": 200, "n_steps": 500}
_SMALL_GENERATOR: dict[str, Any] = {"generator_lr": 0.01, "generator_steps": 3000, "classifier_steps": 500}
_SMALL_MATCHING: dict[str, Any] = {"train_way": 40, "most_shots": 5, "n_steps": 1500, "decay_every": 500}
LOGISTIC: Table = {
    "resnet50/imagenet-lowshot": {"lr": 0.1},
    **{name: {"features": _PLAIN, **_SMALL_LOGISTIC} for name in TWINS},
    FEATURES: {"features": _PLAIN, "lr": 0.1, "weight_decay": 0.01},
}
HALLUCINATION: Table = {
    "resnet50/imagenet-lowshot": {"lr": 0.1},
    "glyphs-lowshot": {"features": _PLAIN, **_SMALL_LOGISTIC, **_SMALL_GENERATOR, "clusters": 10},
    "omniglot-small-lowshot": {"features": _PLAIN, **_SMALL_LOGISTIC, **_SMALL_GENERATOR, "clusters": 6},
    FEATURES: {"features": _PLAIN, "lr": 0.1, "generator_lr": 0.1, "max_per_label": 20},
}
MATCHING: Table = {
    **{name: {"features": _PLAIN} for name in ("imagenet-lowshot", FEATURES)},
    **{name: {**_SMALL_MATCHING, "train_way": 20} for name in SMALL if name not in TWINS},
    "glyphs-lowshot": {"features": _PLAIN, **_SMALL_MATCHING, "base_per_class": 10},
    "omniglot-small-lowshot": {"features": _PLAIN, **_SMALL_MATCHING, "base_per_class": 10},
}
