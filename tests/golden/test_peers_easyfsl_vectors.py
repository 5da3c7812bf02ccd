"""Heads against vectors of easy-few-shot-learning 1.5.0, by its own defaults and by those behind its table of results.

Where its definition can be asked of a head of ours, the scores are equal. BD-CSPN, LaplacianShot and PT-MAP are other
methods in detail: what differs is written out here, on our parts, and has to be all of the difference.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from golden_files import load
from test_peers import FAMILY, MANIFEST, Given, assert_golden, both_precisions, episode, of_episode, scores
from torch import Tensor

from harness.api import centre_and_normalise, class_means, cosine_scores, l2_normalise, labelled
from harness.ops import rectification, sinkhorn
from harness.ops.prototypes import squared_distances

BY_DEFAULT, AS_IN_ITS_TABLE = "easyfsl_heads.npz", "easyfsl_benchmark.npz"
DEFAULTS: dict[str, dict[str, float]] = {  # of easyfsl/methods; of those behind its table the manifest tells
    "finetune": {"fine_tuning_steps": 200, "fine_tuning_lr": 1e-4, "temperature": 1.0},
    "transductivefinetuning": {"fine_tuning_steps": 25, "fine_tuning_lr": 5e-5, "temperature": 1.0},
    "tim": {
        "fine_tuning_steps": 50,
        "fine_tuning_lr": 1e-4,
        "cross_entropy_weight": 1.0,
        "marginal_entropy_weight": 1.0,
        "conditional_entropy_weight": 0.1,
        "temperature": 10.0,
    },
    "laplacianshot": {"inference_steps": 20, "knn": 3, "lambda_regularization": 0.7},
    "ptmap": {
        "fine_tuning_steps": 10,
        "fine_tuning_lr": 0.2,
        "lambda_regularization": 10.0,
        "power_factor": 0.5,
    },
}
WORDS = {
    "fine_tuning_steps": "steps",
    "fine_tuning_lr": "lr",
    "cross_entropy_weight": "ce",
    "marginal_entropy_weight": "marginal",
    "conditional_entropy_weight": "conditional",
    "temperature": "temperature",
}
EQUAL: dict[str, tuple[str, dict[str, Any]]] = {
    "prototypicalnetworks": ("centroid", {}),
    "simpleshot": ("finetune", {"steps": 0}),  # a cosine classifier at the class means
    "finetune": ("finetune", {}),
    "transductivefinetuning": ("transductive-finetune", {"likeness": "distance"}),
    "tim": ("tim", {"solver": "gd", "likeness": "cosine"}),
}
DIFFERENT = {"bdcspn", "laplacianshot", "ptmap"}


class Case(NamedTuple):
    """One array of a file: the episode, the peer's name in small letters, the normalisation, the peer's options."""

    file: str
    key: str
    name: str
    peer: str
    rule: str
    options: dict[str, float]


def case(file: str, key: str) -> Case:
    name, rest = of_episode(key)
    if file == BY_DEFAULT:
        method, _, features = rest.rpartition("_")
        peer, rule = method.lower(), {"raw": "un", "CL2N": "cl2n"}[features]
        return Case(file, key, name, peer, rule, DEFAULTS.get(peer, {}))
    options = dict(MANIFEST[file]["hyper_parameters"][rest])
    rule = {2: "l2n"}[options.pop("feature_normalization")]
    return Case(file, key, name, rest.replace("_", ""), rule, options)


CASES = [case(file, key) for file in (BY_DEFAULT, AS_IN_ITS_TABLE) for key in MANIFEST[file]["arrays"]]


def of(*peers: str) -> pytest.MarkDecorator:
    """The cases of some peers."""
    cases = [pytest.param(c, id=f"{c.file}-{c.key}") for c in CASES if c.peer in peers]
    return pytest.mark.parametrize("asked", cases)


def prepared(asked: Case, dtype: torch.dtype) -> Given:
    """The episode with its features normalised."""
    given = episode(asked.name, dtype)
    made = {"un": lambda x: x, "l2n": l2_normalise, "cl2n": lambda x: centre_and_normalise(x, given.mean)}
    return given._replace(support=made[asked.rule](given.support), query=made[asked.rule](given.query))


def theirs(asked: Case) -> np.ndarray:
    return load(FAMILY, asked.file)[0][asked.key]


def test_every_array_is_asked_of_a_method() -> None:
    for file in (BY_DEFAULT, AS_IN_ITS_TABLE):
        asked = [c for c in CASES if c.file == file]
        assert {c.key for c in asked} == set(load(FAMILY, file)[0])
        assert {c.peer for c in asked} == set(EQUAL) | DIFFERENT


@of(*EQUAL)
@both_precisions
def test_equal_definitions_have_their_scores(asked: Case, dtype: torch.dtype) -> None:
    head, config = EQUAL[asked.peer]
    config = config | {WORDS[word]: value for word, value in asked.options.items()}
    found = scores(head, episode(asked.name, dtype), normalise=asked.rule, **config)
    # theirs multiply by the temperature in the loss alone
    assert_golden(found / config.get("temperature", 1.0), theirs(asked), asked.file)


@of("simpleshot")
@both_precisions
def test_their_simpleshot_brings_the_means_of_ours_to_unit_length(asked: Case, dtype: torch.dtype) -> None:
    given = prepared(asked, dtype)
    length, size = given.query.norm(dim=1, keepdim=True), class_means(given.support).norm(dim=1)
    distance = scores("centroid", episode(asked.name, dtype), normalise=asked.rule)
    cosine = (length**2 + size**2 - distance**2) / (2 * length * size)
    assert_golden(cosine, theirs(asked), asked.file)


def their_prototypes(given: Given) -> Tensor:
    """Weights exp(cos), of the support for its own classes, that sum to 1 in a class: (W, D)."""
    support, label = (part[0] for part in labelled(given.support[None]))
    rows = torch.cat([support, given.query + (support.mean(0) - given.query.mean(0))])
    cosine = cosine_scores(rows, class_means(given.support))  # (n, W)
    nearest = torch.cat([label, cosine[len(support) :].argmax(1)])
    weight = torch.nn.functional.one_hot(nearest, cosine.shape[1]) * cosine.exp()
    return (weight / weight.sum(0)).mT @ rows


def assert_apart(found: Tensor, other: Tensor, file: str) -> None:
    """Further than the vectors' tolerance, so that one definition cannot pass for the other."""
    with pytest.raises(AssertionError):
        assert_golden(found, other.double().numpy(), file)


@of("bdcspn")
@both_precisions
def test_their_bd_cspn_has_other_weights_and_ends_with_a_cosine(asked: Case, dtype: torch.dtype) -> None:
    given = prepared(asked, dtype)
    prototypes = their_prototypes(given)
    assert_golden(cosine_scores(given.query, prototypes), theirs(asked), asked.file)
    assert_apart(rectification.rectify(*given[:2]).prototypes, prototypes, asked.file)


@of("laplacianshot")
@both_precisions
def test_their_laplacianshot_has_their_prototypes_and_queries_as_they_are(
    asked: Case, dtype: torch.dtype
) -> None:
    given, options = prepared(asked, dtype), asked.options
    knn, strength = int(options["knn"]), options["lambda_regularization"]
    near = rectification.neighbours(given.query, knn)[None]

    def smoothed(prototypes: Tensor, query: Tensor) -> Tensor:
        unary = squared_distances(query, prototypes)[None]
        rounds = int(options["inference_steps"])
        return rectification.smooth_assignments(unary, near, strength, rounds).assignment[0]

    found = smoothed(their_prototypes(given), given.query)
    assert_golden(found, theirs(asked), asked.file)
    ours = scores(
        "laplacianshot", episode(asked.name, dtype), normalise=asked.rule, knn=knn, strength=strength
    )
    assert_golden(smoothed(*rectification.rectify(*given[:2])), ours.double().numpy(), asked.file)
    assert_apart(ours, found, asked.file)


@of("ptmap")
@both_precisions
def test_their_pt_map_neither_centres_nor_has_unit_length(asked: Case, dtype: torch.dtype) -> None:
    given, options = prepared(asked, dtype), asked.options
    support, query = (sinkhorn.power_transform(x, options["power_factor"]) for x in given[:2])
    told = {"rate": options["fine_tuning_lr"], "strength": options["lambda_regularization"]}
    steps = int(options["fine_tuning_steps"])
    found = their_map(support, query, steps=steps, **told)
    assert_golden(found, theirs(asked), asked.file)
    if asked.rule != "un" and len(query) % len(support) == 0:  # else see ``their_plan``
        plan = sinkhorn.map_plan(support[None], query[None], steps=steps, **told)[0]
        assert_golden(plan, theirs(asked), asked.file)
    ours = scores("pt-map", given, power=options["power_factor"], steps=steps, **told)
    assert_apart(ours, found, asked.file)


def their_map(support: Tensor, query: Tensor, *, steps: int, rate: float, strength: float) -> Tensor:
    """Of support (W, S, D) and queries (Q, D), the last plan (Q, W)."""
    centre = class_means(support)
    for _ in range(steps):
        plan = their_plan(query, centre, strength)
        there = (support.sum(1) + plan.mT @ query) / (support.shape[1] + plan.sum(0)).unsqueeze(-1)
        centre = centre + rate * (there - centre)
    return their_plan(query, centre, strength)


def their_plan(query: Tensor, centre: Tensor, strength: float) -> Tensor:
    """``balanced_plan`` but for two things: a class has Q // W queries, and 1e-10 is added to what is divided by.

    Without unit length rows begin near or below that, and rounds that change little end where they are.
    """
    share = len(query) // len(centre)
    plan = (-strength * squared_distances(query.double(), centre.double())).exp()
    plan = plan / plan.sum()
    for _ in range(1000):
        sums = plan.sum(1)
        plan = plan / (sums + 1e-10).unsqueeze(1)
        plan = plan * share / (plan.sum(0) + 1e-10)
        if (sums - plan.sum(1)).abs().max() < 1e-6:
            break
    return plan.to(query)
