"""Hyper-parameters of DeepEMD and of its pre-training, with short trainings for the small benchmarks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from harness.api import Conditions, check_ranges, hyper

Table = dict[str, dict[str, Any]]
_RANGES: dict[Any, str] = {
    "≥ 0": "epochs weight_decay weight_eps sfc_wd sfc_update_step",
    "≥ 1": "decay_every validate_every image_size num_patch test_num_patch episodes_per_epoch train_query sfc_bs",
    "≥ 2": "batch_size train_way",
    "> 0": "lr decay_factor patch_ratio temperature l2_strength sfc_lr",
    "in [0, 1)": "momentum",
}


@dataclass(frozen=True)
class Schedule:
    """Hyper-parameters of SGD with Nesterov's momentum, in both stages."""

    momentum: float = hyper(0.9, "Nesterov's momentum of SGD, in [0, 1)")
    weight_decay: float = hyper(5e-4, "L2 of all weights, ≥ 0")
    validate_every: int = hyper(
        1, "epochs between two validations, ≥ 1; by 5-way 1-shot episodes", in_epochs=True
    )
    image_size: int | None = hyper(None, "edge of the images in pixels, where it is not the benchmark's")

    def __post_init__(self) -> None:
        """Check ranges; all that is wrong is said together."""
        check_ranges(self, _RANGES, self._rules())

    def _rules(self) -> dict[str, bool]:
        """What must hold beside."""
        return {}


@dataclass(frozen=True)
class PretrainConfig(Schedule):
    """Hyper-parameters; the field defaults are the authors'."""

    epochs: int = hyper(120, "passes over the base images, ≥ 0", in_epochs=True)
    batch_size: int = hyper(128, "images per step, ≥ 2")
    lr: float = hyper(0.1, "first step size of SGD, > 0")
    decay_every: int = hyper(
        30, "epochs until the step size is multiplied by decay_factor, ≥ 1", in_epochs=True
    )
    decay_factor: float = hyper(0.2, "its factor, > 0")
    classifier: Literal["emd", "mean"] = hyper(
        "emd",
        "scores at test: DeepEMD's of the map, or the cosine to class means of its average",
        phase="adapt",
    )


@dataclass(frozen=True)
class DeepEmdConfig(Schedule):
    """Hyper-parameters; the field defaults are the authors', but for the solver's gradient."""

    variant: Literal["fcn", "grid", "sampling"] = hyper("fcn", "what the nodes of an image are")
    feature_pyramid: tuple[int, ...] = hyper(
        (), "fcn: levels k of k·k pooled nodes beside the map's, each ≥ 1"
    )
    patch_list: tuple[int, ...] = hyper(
        (2, 3), "grid: cells a side of each grid, ≥ 1; its cells are the nodes"
    )
    patch_ratio: float = hyper(
        2.0, "grid: edge of a crop over that of its cell at test, > 0; drawn in training"
    )
    num_patch: int = hyper(9, "sampling: random crops of an image, ≥ 1")
    test_num_patch: int | None = hyper(None, "sampling: crops at test, ≥ 1, if others", phase="adapt")
    temperature: float = hyper(12.5, "factor of the scores, > 0")
    metric: Literal["cosine", "l2"] = hyper(
        "cosine", "similarity of nodes less their mean over channels: cosine, or 1 - |x - y|²"
    )
    solver: Literal["exact", "pot", "opencv", "qpth", "sinkhorn"] = hyper(
        "exact", "of the transport; after a training by qpth, exact evaluates (theirs: opencv)"
    )
    form: Literal["L2", "QP"] = hyper("L2", "qpth: what it minimises")
    l2_strength: float = hyper(1e-6, "qpth: weight of the quadratic term of form L2, > 0")
    grad: Literal["full", "flow-only"] = hyper(
        "full", "through costs and masses, or as the authors' OpenCV mode through costs alone"
    )
    weight_eps: float = hyper(0.0, "added to the weights of nodes, ≥ 0; 1e-5 in the authors' OpenCV mode")
    epochs: int = hyper(100, "epochs of meta-training, ≥ 0; 0 keeps the pre-trained weights", in_epochs=True)
    episodes_per_epoch: int = hyper(50, "training episodes, one a step, between two validations, ≥ 1")
    train_way: int = hyper(5, "classes per training episode, ≥ 2; at most the number of base classes")
    train_query: int = hyper(15, "queries per class in training, ≥ 1; there is one support image")
    lr: float = hyper(5e-4, "first step size of SGD, > 0; the authors tune it by data set and nothing else")
    decay_every: int = hyper(
        10, "epochs until the step size is multiplied by decay_factor, ≥ 1", in_epochs=True
    )
    decay_factor: float = hyper(0.5, "its factor, > 0")
    sfc_lr: float = hyper(100.0, "SFC: step size of SGD, > 0 (0.1 moves nothing)", phase="adapt")
    sfc_wd: float = hyper(0.0, "SFC: weight decay, ≥ 0", phase="adapt")
    sfc_update_step: int = hyper(
        100, "SFC: passes over the support, ≥ 0; 0 keeps the class means", phase="adapt"
    )
    sfc_bs: int = hyper(4, "SFC: support images per step, ≥ 1", phase="adapt")

    def _rules(self) -> dict[str, bool]:
        return {
            "feature_pyramid must be levels ≥ 1": min(self.feature_pyramid, default=1) >= 1,
            "feature_pyramid is of variant=fcn": not self.feature_pyramid or self.variant == "fcn",
            "patch_list must be one level ≥ 1, or more": min(self.patch_list, default=0) >= 1,
            "solver=opencv has no gradient through the masses, set grad=flow-only": (
                self.solver != "opencv" or self.grad == "flow-only"
            ),
        }


_QUICK = ("glyphs", "glyphs-digits", "omniglot-small", "omniglot-lake", "cifar10")
_QUICK_PIXELS = 48  # the least of which four poolings leave a map of nine nodes
_32_PIXELS = ("cifarfs", "fc100")
_PUBLISHED = ("mini", "tiered", "cub-feat", "cub-feat+bbox", *_32_PIXELS)


def defaults(quick: dict[str, Any], **epochs: int) -> Table:
    """DEFAULTS of one stage: enlarged pictures where they are stored smaller, and short trainings of conv4.

    The step size of a short training falls twice.

    Args:
        quick: what the small benchmarks have, ``epochs`` among it.
        epochs: how many some of them have, by name with _ for -.
    """
    table: Table = {name: {"image_size": 84} for name in _32_PIXELS}
    for name in _QUICK:
        n_epochs = epochs.get(name.replace("-", "_"), quick["epochs"])
        table[name] = {
            "image_size": _QUICK_PIXELS,
            **quick,
            "epochs": n_epochs,
            "decay_every": math.ceil(n_epochs / 3),
        }
    return table


def _as_published() -> Table:
    """Their OpenCV mode and their pixels; 5,000 episodes at 1 shot and 600 at more."""
    table: Table = {}
    for name in _PUBLISHED:
        pipeline = {"cifarfs": "deepemd-cifarfs", "tiered": "deepemd-tiered"}.get(name, "deepemd")
        theirs = Conditions(
            pipeline=pipeline,
            augmentation="resized-flip-8bit",
            crops_from="originals",
            n_query=15,
            n_episodes=600,
        )
        table[name] = {"grad": "flow-only", "weight_eps": 1e-5, "conditions": theirs}
        table[f"{name}-5w1s"] = {"conditions": Conditions(n_episodes=5000)}
    return table


AS_PUBLISHED: dict[str, Table] = {"as-published": _as_published()}
PRETRAINED: dict[str, Table] = {  # the first stage, on the same pixels
    "as-published": {
        key: {"conditions": entry["conditions"]} for key, entry in AS_PUBLISHED["as-published"].items()
    }
}
