"""Heads beside easy-few-shot-learning's: episodes a second on the same features, one thread each.

Prints a table, in processor time. Theirs classify one episode after another, as they are used; ours many at once, in their definition where
we have it (steps, logits and weights of fine-tuning and TIM) and in our own else. Logistic regression is beside
scikit-learn's, as RFS calls it. Turns alternate, medians are shown.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # before torch is there

import itertools
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import torch
from sklearn.linear_model import LogisticRegression as Sklearn
from torch import Tensor, nn

from harness.api import EpisodeBatch, l2_normalise
from harness.backbones.torchvision_import import import_torchvision
from harness.method import registry, traits
from harness.ops.sinkhorn import power_transform, unit_and_centred

WAY, N_QUERY = 5, 15
WIDTHS = 64, 640  # of features: of conv4 at 28 pixels, of ResNet-12
N_TURNS, OURS, THEIRS = 3, 256, 8  # episodes a turn


class Beside(NamedTuple):
    """One of our heads, and what does the same elsewhere."""

    head: str
    config: dict[str, Any]
    peer: str
    options: dict[str, Any]


PAIRS = (
    Beside("centroid", {"normalise": "l2n"}, "SimpleShot", {}),
    Beside("bd-cspn", {"normalise": "l2n"}, "BDCSPN", {}),
    Beside("laplacianshot", {"normalise": "l2n", "strength": 0.7}, "LaplacianShot", {}),
    Beside("pt-map", {"steps": 10}, "PTMAP", {}),
    Beside("finetune", {}, "Finetune", {}),
    Beside(
        "transductive-finetune", {"likeness": "distance", "temperature": 1.0}, "TransductiveFinetuning", {}
    ),
    Beside(
        "tim",
        {"solver": "gd", "steps": 50, "ce": 1.0, "likeness": "cosine", "temperature": 10.0},
        "TIM",
        {},
    ),
    Beside("logistic", {}, "scikit-learn", {}),
)


def episodes(width: int, shot: int, n: int) -> tuple[Tensor, Tensor]:
    """Features as after a ReLU: supports (E, W, S, D) and queries (E, W·Q, D)."""
    rng = torch.Generator().manual_seed(shot)
    centre = torch.randn(n, WAY, 1, width, generator=rng)
    x = (centre + 1.5 * torch.randn(n, WAY, shot + N_QUERY, width, generator=rng)).relu()
    return x[:, :, :shot].contiguous(), x[:, :, shot:].flatten(1, 2)


def ours(pair: Beside, support: Tensor, query: Tensor) -> Tensor:
    """Predictions (E, W·Q) of all episodes at once."""
    cls = registry.load(pair.head).cls
    with torch.no_grad():
        head = cls(cls.Config(**pair.config), nn.Identity())
        at_once = traits(cls).episode_batch or 64  # as a run gives them
        parts = zip(support.split(at_once), query.split(at_once), strict=True)
        return torch.cat([head.predict_batch(EpisodeBatch(s, q, [])).argmax(-1) for s, q in parts])


def prepared(support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """As PT-MAP's authors prepare features."""
    x, query = (power_transform(side) for side in (support.flatten(1, 2), query))
    x, query = unit_and_centred(x, query)
    return x.unflatten(1, support.shape[1:3]), query


def theirs(pair: Beside, support: Tensor, query: Tensor) -> Tensor:
    """The same, one episode after another."""
    label = torch.arange(WAY).repeat_interleave(support.shape[2])
    if pair.peer == "scikit-learn":
        s, q = l2_normalise(support.flatten(1, 2)).numpy(), l2_normalise(query).numpy()
        fitted = (Sklearn(C=1.0, max_iter=1000).fit(x, label) for x in s)
        return torch.stack([torch.from_numpy(one.predict(x)) for one, x in zip(fitted, q, strict=True)])
    import_torchvision()
    from easyfsl import methods

    method = getattr(methods, pair.peer)(nn.Identity(), feature_normalization=2, **pair.options)
    if pair.peer == "PTMAP":  # theirs neither centres nor normalises: give its solver what ours prepares
        method.compute_features = lambda x: x
        support, query = prepared(support, query)
    found = []
    for s, q in zip(support, query, strict=True):
        with torch.no_grad():
            method.process_support_set(s.flatten(0, 1), label)
            found.append(method(q).argmax(-1))
    return torch.stack(found)


def seconds(work: Callable[..., Tensor], *given: Any) -> float:
    """Processor time of one call: on a busy machine the clock runs ahead of the work."""
    start = time.process_time()
    work(*given)
    return time.process_time() - start


def main() -> None:
    """Print the table."""
    print(
        f"{'head':24}{'beside':24}{'D':>5}{'shot':>5}{'ours/s':>10}{'theirs/s':>10}{'ratio':>8}{'same labels':>13}"
    )
    for pair in PAIRS:
        for width, shot in itertools.product(WIDTHS, (1, 5)):
            support, query = episodes(width, shot, OURS)
            few = support[:THEIRS], query[:THEIRS]
            same = (ours(pair, *few) == theirs(pair, *few)).float().mean().item()  # warms both up
            turns = [
                (seconds(ours, pair, support, query) / OURS, seconds(theirs, pair, *few) / THEIRS)
                for _ in range(N_TURNS)
            ]
            mine, other = median(a for a, _ in turns), median(b for _, b in turns)
            rates = f"{1 / mine:10,.0f}{1 / other:10,.0f}{other / mine:7.0f}×{same:13.1%}"
            print(f"{pair.head:24}{pair.peer:24}{width:5}{shot:5}{rates}", flush=True)


if __name__ == "__main__":
    main()
