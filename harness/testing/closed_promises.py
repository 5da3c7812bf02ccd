"""The promises about the closed-set protocol: their docstrings are the promises."""

from __future__ import annotations

import numpy as np
import torch

from harness.benchmarks.episodes import ClosedList
from harness.evaluation.features import Source
from harness.evaluation.protocols import CLOSED, closed_support
from harness.testing.promise import demand, p_of_mean
from harness.testing.tiny import N_IMAGES, tiny_store
from harness.testing.workbench import SEED, Workbench, steady

N_HELD_OUT = 5  # of each class, after those that are given; the method was fitted on all of them
P_BEATS_CHANCE = 0.01


def closed_classes_are_named(bench: Workbench) -> str:
    """In the closed-set protocol images of the classes trained on are named better than chance."""
    asked, source = _asked(bench), bench.source_of("base")
    with steady():
        given = CLOSED.predict(bench.fresh(), asked, source, SEED)
    right = given[:, 0] == asked.classes[:, 0]  # (E,)
    by_class = np.array([right[asked.classes[:, 0] == c].mean() for c in range(asked.n_way)])
    p = p_of_mean(by_class, 1 / asked.n_way, "greater")
    demand(
        p < P_BEATS_CHANCE,
        f"The accuracy on {asked.n_way} classes trained on is {by_class.mean():.3f}, chance {1 / asked.n_way:.3f}, p = {p:.2g}.",
    )
    return f"accuracy {by_class.mean():.2f}, chance {1 / asked.n_way:.2f}"


def closed_images_are_independent(bench: Workbench) -> str:
    """In the closed-set protocol what an image is taken for depends neither on the images asked with it nor on their order."""
    asked, source = _asked(bench), bench.source_of("base")
    rows = asked.query.ravel()
    turned = rows[::-1].copy()
    whole, back = _scores(bench, asked, source, rows), _scores(bench, asked, source, turned).flip(0)
    alone = torch.cat([_scores(bench, asked, source, rows[i : i + 1]) for i in range(8)])
    scale = whole.abs().max().clamp(min=1e-6)
    for found, expected, what in ((back, whole, "in another order"), (alone, whole[:8], "alone")):
        gap = float((found - expected).abs().max() / scale)
        demand(gap < 1e-4, f"Scores of images asked {what} differ by {gap:.2g} of the largest score.")
    return "scores agree"


def _scores(bench: Workbench, asked: ClosedList, source: Source, rows: np.ndarray) -> torch.Tensor:  # type: ignore[type-arg]
    with steady(), torch.no_grad():
        method = bench.fresh()
        return method.predict(method.adapt(closed_support(asked, source, SEED)), source.take(rows)).double()


def _asked(bench: Workbench) -> ClosedList:
    """The last images of each base class, asked after the others are given."""
    store = tiny_store("base", bench.image_size)
    rows = np.arange(len(store)).reshape(store.n_classes, N_IMAGES)
    given, held_out = rows[:, :-N_HELD_OUT], rows[:, -N_HELD_OUT:]
    label = np.arange(store.n_classes)
    order = np.random.default_rng(SEED).permutation(held_out.size)
    return ClosedList(
        store.n_classes,
        given.ravel(),
        label.repeat(given.shape[1]),
        label.repeat(N_HELD_OUT)[order][:, None],
        held_out.ravel()[order][:, None, None],
    )
