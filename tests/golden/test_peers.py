"""Heads against vectors of the authors' own code, in both precisions, alone and in a batch."""

from __future__ import annotations

import json
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from golden_files import FOLDER, load, tensor
from torch import Tensor, nn

from harness.api import EpisodeBatch, Support, centre_and_normalise, l2_normalise, labelled, squared_distances
from harness.method import registry
from harness.ops import closed_form, dense_heads, information, linear_head, rectification, rotation, sinkhorn

FAMILY = "peers"
MANIFEST = {
    entry["file"]: entry for entry in json.loads((FOLDER / FAMILY / "manifest.json").read_text())["files"]
}
EPISODES = sorted(MANIFEST["episodes.npz"]["hyper_parameters"])
TYPES = [torch.float64, torch.float32]
RULES = {"UN": "un", "L2N": "l2n", "CL2N": "cl2n"}

every_episode = pytest.mark.parametrize("name", EPISODES)
both_precisions = pytest.mark.parametrize("dtype", TYPES, ids=["float64", "float32"])


def of_episode(key: str) -> tuple[str, str]:
    """The episode whose name an array's begins with, and the rest of the name."""
    name = max((name for name in EPISODES if key.startswith(f"{name}_")), key=len)
    return name, key.removeprefix(f"{name}_")


class Given(NamedTuple):
    """One episode: support (W, S, D), queries (Q, D), their labels, the mean base feature (D,)."""

    support: Tensor
    query: Tensor
    label: np.ndarray
    mean: Tensor


def episode(name: str, dtype: torch.dtype) -> Given:
    arrays, _ = load(FAMILY, "episodes.npz")
    support, query, mean = (
        tensor(arrays[f"{name}_{part}"], dtype) for part in ("support", "query", "base_mean")
    )
    way = int(arrays[f"{name}_support_label"].max()) + 1
    return Given(support.unflatten(0, (way, -1)), query, arrays[f"{name}_query_label"], mean)


def scores(head: str, given: Given, **config: Any) -> Tensor:
    """What a head says of an episode: alone, and the same in a batch beside another order of the queries."""
    cls = registry.load(head).cls
    method = cls(cls.Config(**config), nn.Identity())
    if isinstance(method, nn.Module):
        method.normalise.mean = given.mean
    way, shot = given.support.shape[:2]
    rng = torch.Generator()
    label = torch.arange(way).repeat_interleave(shot)
    with torch.no_grad():
        state = method.adapt(Support(given.support.flatten(0, 1), label, way, rng))
        alone = method.predict(state, given.query)
        both = EpisodeBatch(
            torch.stack([given.support] * 2), torch.stack([given.query, given.query.flip(0)]), [rng] * 2
        )
        batch = method.predict_batch(both)
    close = (
        {"rtol": 1e-9, "atol": 1e-9} if given.query.dtype == torch.float64 else {"rtol": 1e-3, "atol": 1e-3}
    )
    torch.testing.assert_close(batch[0], alone, **close)
    torch.testing.assert_close(batch[1].flip(0), alone, **close)
    return alone


def assert_golden(found: Tensor, expected: np.ndarray, file: str, **looser: float) -> None:
    tolerance, kind = MANIFEST[file]["tolerance"], str(found.dtype).removeprefix("torch.")
    allowed = {"rtol": tolerance[f"{kind}_rtol"], "atol": tolerance[f"{kind}_atol"], **looser}
    np.testing.assert_allclose(found.double().numpy(), expected.astype(np.float64), **allowed)


@every_episode
@both_precisions
@pytest.mark.parametrize("rule", RULES)
def test_centroid_is_simpleshot_in_its_three_forms(name: str, dtype: torch.dtype, rule: str) -> None:
    arrays, given = load(FAMILY, "nearest.npz")[0], episode(name, dtype)
    found = scores("centroid", given, normalise=RULES[rule])
    assert_golden(found, arrays[f"{name}_{rule}"], "nearest.npz")
    hits = (found.argmax(1).numpy() == given.label).mean()
    assert hits == pytest.approx(float(arrays[f"{name}_{rule}_accuracy"][0]))


@every_episode
@both_precisions
def test_knn_of_one_is_the_nearest_neighbour_of_rfs(name: str, dtype: torch.dtype) -> None:
    arrays = load(FAMILY, "nearest.npz")[0]
    found = scores("knn", episode(name, dtype)).argmax(1).numpy()
    np.testing.assert_array_equal(found, arrays[f"{name}_rfs_nn"])
    np.testing.assert_array_equal(found, arrays[f"{name}_rfs_cosine"])


@every_episode
@both_precisions
def test_logistic_is_at_the_optimum(name: str, dtype: torch.dtype) -> None:
    arrays = load(FAMILY, "rfs_heads.npz")[0]
    found = scores("logistic", episode(name, dtype))
    np.testing.assert_array_equal(found.argmax(1).numpy(), arrays[f"{name}_lr_predicted"])
    centred = found - found.mean(1, keepdim=True)
    assert_golden(centred, arrays[f"{name}_lr_converged"], "rfs_heads.npz", rtol=0, atol=1e-5)
    theirs = arrays[f"{name}_lr_scores"]  # scikit-learn's, which stop at 1e-4 of the gradient
    theirs = theirs - theirs.mean(1, keepdims=True)
    assert_golden(centred, theirs, "rfs_heads.npz", rtol=0, atol=1e-2)


@every_episode
@both_precisions
def test_svm_votes_as_libsvm_predicts(name: str, dtype: torch.dtype) -> None:
    arrays, given = load(FAMILY, "rfs_heads.npz")[0], episode(name, dtype)
    found = scores("svm", given)
    np.testing.assert_array_equal(found.argmax(1).numpy(), arrays[f"{name}_svm_predicted"])
    cls = registry.load("svm").cls
    state = cls(cls.Config(), nn.Identity()).fit(given.support[None])
    query = (l2_normalise(given.query) - state.mean) / state.deviation
    margins = state.machines.margins(query @ state.support.mT)[0]
    # libsvm stops at a violation of 1e-3, which margins of size 1 may be off by
    assert_golden(margins, arrays[f"{name}_svm_ovo"], "rfs_heads.npz", rtol=0, atol=1e-3)


@every_episode
@both_precisions
@pytest.mark.parametrize("rule", ["raw", "unit"])
def test_ridge_and_metaopt_svm_are_the_authors(name: str, dtype: torch.dtype, rule: str) -> None:
    arrays, given = load(FAMILY, "closed_form_heads.npz")[0], episode(name, dtype)
    hyper = MANIFEST["closed_form_heads.npz"]["hyper_parameters"]
    normalise = {"raw": "un", "unit": "l2n"}[rule]
    ridge = scores("ridge", given, normalise=normalise, ridge=float(hyper["lambda"]))
    assert_golden(ridge, arrays[f"{name}_{rule}_r2d2"], "closed_form_heads.npz")
    svm = scores("metaopt-svm", given, normalise=normalise, c=hyper["C"])
    exact = {} if dtype == torch.float32 else {"atol": 1e-6}
    assert_golden(svm, arrays[f"{name}_{rule}_svm"], "closed_form_heads.npz", **exact)
    assert_golden(svm, arrays[f"{name}_{rule}_svm_authors"], "closed_form_heads.npz", **exact)
    x, y = labelled((l2_normalise if rule == "unit" else lambda z: z)(given.support[None]))
    one_hot = nn.functional.one_hot(y).to(x)
    dual = closed_form.crammer_singer_dual(x @ x.mT, one_hot, hyper["C"])
    assert_golden(dual[0], arrays[f"{name}_{rule}_svm_dual"], "closed_form_heads.npz", **exact)


def test_ridge_scaled_and_shifted_is_that_of_libfewshot() -> None:
    arrays, entry = load(FAMILY, "closed_form_heads.npz")
    for key in (key for key in arrays if key.endswith("libfewshot_r2d2")):
        words = entry["arrays"][key]["meaning"].replace(",", " ").split()
        alpha, beta, gamma = (float(words[words.index(word) + 1]) for word in ("alpha", "beta", "gamma"))
        found = scores("ridge", episode(of_episode(key)[0], torch.float64), ridge=gamma)
        assert_golden(alpha * found + beta, arrays[key], "closed_form_heads.npz")


def names(arrays: dict[str, np.ndarray], ending: str) -> list[str]:
    """What stands before an ending, in the arrays that have it."""
    return [key.removesuffix(ending) for key in arrays if key.endswith(ending)]


def maps_of(arrays: dict[str, np.ndarray], name: str, dtype: torch.dtype) -> Given:
    way, shot, _ = arrays[f"{name}_shape"].tolist()
    maps = tensor(arrays[f"{name}_maps"], dtype)
    support = maps[: way * shot].unflatten(0, (way, shot))
    return Given(support, maps[way * shot :], np.array([]), torch.zeros(0))


@both_precisions
def test_dn4_and_frn_are_the_authors(dtype: torch.dtype) -> None:
    arrays, entry = load(FAMILY, "dense.npz")
    for name in names(arrays, "_maps"):
        given = maps_of(arrays, name, dtype)
        found = scores("dn4", given, k=entry["hyper_parameters"]["dn4_k"])
        assert_golden(found, arrays[f"{name}_dn4"], "dense.npz")
        overlap = dense_heads.class_overlap(dense_heads.descriptors(given.support))
        assert_golden(overlap[None], arrays[f"{name}_frn_auxiliary"], "dense.npz")
        for key in (key for key in arrays if key.startswith(f"{name}_frn_")):
            said = key.removeprefix(f"{name}_frn_")
            if said != "auxiliary":
                alpha, beta = map(float, said.split("_"))
                assert_golden(scores("frn", given, alpha=alpha, beta=beta), arrays[key], "dense.npz")


@both_precisions
@pytest.mark.parametrize(
    ("name", "rule"),
    [key.rsplit("_", 2)[:2] for key in load(FAMILY, "bdcspn.npz")[0] if key.endswith("_prototypes")],
)
def test_bd_cspn_in_both_forms(name: str, dtype: torch.dtype, rule: str) -> None:
    arrays, given = load(FAMILY, "bdcspn.npz")[0], episode(name, dtype)
    prepared = [
        (l2_normalise(x) if rule == "L2N" else centre_and_normalise(x, given.mean)) for x in given[:2]
    ]
    assert_golden(
        rectification.rectify(*prepared).prototypes, arrays[f"{name}_{rule}_prototypes"], "bdcspn.npz"
    )
    for shifted in (key for key in ("shifted", "unshifted") if f"{name}_{rule}_scores_{key}" in arrays):
        found = scores("bd-cspn", given, normalise=RULES[rule], shifted=shifted == "shifted")
        assert_golden(found, arrays[f"{name}_{rule}_scores_{shifted}"], "bdcspn.npz")


LAPLACIAN = [key for key in MANIFEST["laplacianshot.npz"]["arrays"] if key.endswith("_assignment")]


@pytest.mark.parametrize("key", LAPLACIAN)
@both_precisions
def test_laplacianshot_to_its_energies(key: str, dtype: torch.dtype) -> None:
    arrays, entry = load(FAMILY, "laplacianshot.npz")
    name, rule, kind, strength = key.removesuffix("_assignment").rsplit("_", 3)
    given, hyper = episode(name, dtype), entry["hyper_parameters"]
    strength = float(strength.removeprefix("lambda"))
    found = scores(
        "laplacianshot",
        given,
        normalise=RULES[rule],
        rectified=kind == "rect",
        strength=strength,
        knn=hyper["knn"],
    )
    assert_golden(found, arrays[key], "laplacianshot.npz")
    support, query = (
        (l2_normalise(x) if rule == "L2N" else centre_and_normalise(x, given.mean)) for x in given[:2]
    )
    prototypes, seen = rectification.rectify(support, query) if kind == "rect" else (support.mean(1), query)
    near = rectification.neighbours(query, hyper["knn"])
    unary = squared_distances(seen, prototypes)
    stem = key.removesuffix("assignment")
    if f"{stem}unary" in arrays:
        assert_golden(unary, arrays[f"{stem}unary"], "laplacianshot.npz")
        assert_golden(near, arrays[f"{stem}neighbours"], "laplacianshot.npz")
    if dtype == torch.float64:  # an energy that hardly moves may stop a round earlier or later in float32
        smooth = rectification.smooth_assignments(unary[None], near[None], strength, hyper["max_iterations"])
        assert int(smooth.rounds) == len(arrays[f"{stem}energy"])
        assert_golden(smooth.energy[:, 0], arrays[f"{stem}energy"], "laplacianshot.npz")


TIM_FILES = {"tim_gd.npz": "gd", "tim_adm.npz": "adm", "alpha_tim.npz": "alpha"}


@pytest.mark.parametrize("file", TIM_FILES)
@every_episode
@both_precisions
def test_tim_and_alpha_tim_along_their_iterations(file: str, name: str, dtype: torch.dtype) -> None:
    arrays, entry = load(FAMILY, file)
    hyper, given = entry["hyper_parameters"], episode(name, dtype)
    ce, marginal, conditional = hyper["loss_weights[CE,H(Y),H(Y|X)]"]
    config: dict[str, Any] = {
        "ce": ce,
        "marginal": marginal,
        "conditional": conditional,
        "temperature": float(hyper["temp"]),
    }
    head = "alpha-tim" if file == "alpha_tim.npz" else "tim"
    config |= {"lr": hyper["adam_lr"]} if "adam_lr" in hyper else {}
    solver = {} if head == "alpha-tim" else {"solver": TIM_FILES[file]}
    found = scores(head, given, steps=hyper["iterations"], **config, **solver)
    assert_golden(found, arrays[f"{name}_logits"], file)
    x, y = labelled(l2_normalise(given.support)[None])
    told = {"loss": information.LossWeights(ce, marginal, conditional), "temperature": float(hyper["temp"])}
    shot = given.support.shape[1]
    for key in (key for key in arrays if key.startswith(f"{name}_weights_")):
        steps, query = int(key.split("_")[-1]), l2_normalise(given.query)[None]
        if file == "tim_adm.npz":
            weight = information.alternate_class_weights(x, y, query, **told, steps=steps)
        else:
            alpha = 1.0 if file == "tim_gd.npz" else {1: 2.0, 2: 5.0, 3: 5.0, 4: 5.0}.get(shot, 7.0)
            weight = information.fit_class_weights(
                x, y, query, **told, steps=steps, lr=hyper["adam_lr"], alpha=alpha
            )
        assert_golden(weight[0], arrays[key], file)


def prepared_for_map(given: Given) -> tuple[Tensor, Tensor]:
    way, shot = given.support.shape[:2]
    support, query = sinkhorn.unit_and_centred(
        sinkhorn.power_transform(given.support.flatten(0, 1))[None],
        sinkhorn.power_transform(given.query)[None],
    )
    return support.unflatten(1, (way, shot)), query


@every_episode
@both_precisions
def test_pt_map_from_features_to_plans(name: str, dtype: torch.dtype) -> None:
    arrays, entry = load(FAMILY, "ptmap.npz")
    given, hyper = episode(name, dtype), entry["hyper_parameters"]
    support, query = prepared_for_map(given)
    x = torch.cat([support.flatten(1, 2), query], 1)[0]
    n = len(arrays[f"{name}_gram"])
    assert_golden((x @ x.mT)[:n, :n], arrays[f"{name}_gram"], "ptmap.npz")
    told = {"rate": hyper["alpha"], "strength": float(hyper["lambda"])}
    for key in (key for key in arrays if key.startswith(f"{name}_plan_") and not key.endswith("_final")):
        when = key.removeprefix(f"{name}_plan_")
        steps = 0 if when == "start" else int(when.removeprefix("epoch"))
        plan = sinkhorn.map_plan(support, query, steps=steps, **told)[0]
        assert_golden(plan, arrays[key], "ptmap.npz")
    found = scores("pt-map", given, power=hyper["beta"], steps=hyper["epochs"], **told)
    assert_golden(found, arrays[f"{name}_plan_final"], "ptmap.npz")


@both_precisions
def test_affinities_alone_with_every_option_and_in_the_batched_form(dtype: torch.dtype) -> None:
    arrays, entry = load(FAMILY, "bpa.npz")
    words = {
        "ot_reg": "reg",
        "sinkhorn_iterations": "rounds",
        "distance_metric": "metric",
        "sigmoid": "is_sigmoid",
    }
    meanings = [about["meaning"] for key, about in entry["arrays"].items() if key.startswith("small_")]
    (name,) = {m.partition("of episode ")[2].partition(",")[0] for m in meanings if "of episode " in m}
    for key in (key for key in arrays if key.startswith("small_")):
        given = episode(name, dtype)
        n = len(arrays[key])
        x = torch.cat([given.support.flatten(0, 1), given.query])[:n][None]
        meaning = entry["arrays"][key]["meaning"]
        if "batched" in key:
            options = {"reg": float(key.partition("reg")[2]), "stop_below": 0.1}
        else:
            told = meaning.partition("options ")[2].replace("'", '"').replace("True", "true")
            options = {words[k]: v for k, v in (json.loads(told) if told != "default" else {}).items()}
        assert_golden(sinkhorn.pairwise_affinities(x, **options)[0], arrays[key], "bpa.npz")


@every_episode
@both_precisions
def test_affinities_before_pt_map_and_before_class_means(name: str, dtype: torch.dtype) -> None:
    arrays, given = load(FAMILY, "bpa.npz")[0], episode(name, dtype)
    x, y = labelled(given.support[None])
    n = x.shape[1]
    whole = torch.cat([x, given.query[None]], 1)
    if f"{name}_labelled" in arrays:  # stored in float32
        found = sinkhorn.pairwise_affinities(whole, support_label=y)[0]
        assert_golden(found, arrays[f"{name}_labelled"], "bpa.npz", atol=2e-6)
    if f"{name}_ptmap_plan" in arrays:
        assert_golden(scores("bpa", given), arrays[f"{name}_ptmap_plan"], "bpa.npz")
    if f"{name}_proto_scores" in arrays:
        assert_golden(scores("bpa", given, classifier="proto"), arrays[f"{name}_proto_scores"], "bpa.npz")
    if f"{name}_ptmap_train_logits" in arrays:  # the module for fine-tuning: labels, 20 rounds, 10 steps
        support, query = prepared_for_map(given)
        rows = sinkhorn.pairwise_affinities(
            torch.cat([support.flatten(1, 2), query], 1), rounds=20, support_label=y
        )
        plan = sinkhorn.map_plan(rows[:, :n].unflatten(1, support.shape[1:3]), rows[:, n:], steps=10)[0]
        assert_golden((plan + 1e-6).log(), arrays[f"{name}_ptmap_train_logits"], "bpa.npz")


@both_precisions
@pytest.mark.parametrize("name", names(load(FAMILY, "s2m2_easy.npz")[0], "_direction"))
def test_the_head_of_s2m2_along_its_passes(name: str, dtype: torch.dtype) -> None:
    arrays, given = load(FAMILY, "s2m2_easy.npz")[0], episode(name, dtype)
    x, label = labelled(given.support[None])
    start = linear_head.Gained(
        *(tensor(arrays[f"{name}_{part}"], dtype)[None] for part in ("direction", "gain"))
    )
    orders = torch.as_tensor(arrays[f"{name}_orders"].astype(np.int64))[None]  # (1, passes, n)
    said = MANIFEST["s2m2_easy.npz"]["hyper_parameters"]["scale"]
    for passes in (int(key.rpartition("_")[2]) for key in arrays if key.startswith(f"{name}_scores")):
        fitted = linear_head.fit_gained_heads(
            x, label, start, orders[:, : passes + 1], scale=said, sgd=linear_head.Sgd()
        )
        found = fitted.scores(given.query[None], said)[0]
        assert_golden(found, arrays[f"{name}_scores_{passes}"], "s2m2_easy.npz")


def test_images_are_turned_as_s2m2_and_easy_turn_them() -> None:
    arrays = load(FAMILY, "s2m2_easy.npz")[0]
    turns = tensor(arrays["rotations"])
    turned = rotation.every_turn(turns[:1])
    torch.testing.assert_close(turned.images, turns, rtol=0, atol=0)
    assert turned.quarters.tolist() == list(range(len(turns))) and not turned.source.any()
    expected = tensor(arrays["easy_rotated_batch"])
    batch = torch.arange(expected.numel(), dtype=torch.float64).view_as(expected)
    turned = rotation.quarterly(batch)
    torch.testing.assert_close(turned.images, expected, rtol=0, atol=0)
    assert turned.quarters.bincount().tolist() == [len(batch) // 4] * 4


@every_episode
@both_precisions
def test_features_and_soft_k_means_of_easy(name: str, dtype: torch.dtype) -> None:
    arrays, given = load(FAMILY, "nearest.npz")[0], episode(name, dtype)
    rows = torch.cat([given.support.flatten(0, 1), given.query])
    base = tensor(arrays[f"{name}_easy_base"], dtype).flatten(0, 1)
    for key in (key for key in arrays if key.startswith(f"{name}_easy_") and key.endswith("ME")):
        expected, steps = arrays[key], key.removeprefix(f"{name}_easy_").removesuffix("ME")
        first, of_base = (in_steps(x, steps) for x in (rows[: len(expected)], base))
        assert_golden(centre_and_normalise(first, of_base.mean(0)), expected, "nearest.npz")
    if f"{name}_easy_softkmeans" in MANIFEST["nearest.npz"]["arrays"]:  # theirs asks balanced queries
        found = scores("soft-kmeans", given)
        assert_golden(found, arrays[f"{name}_easy_softkmeans"], "nearest.npz")


def in_steps(x: Tensor, letters: str) -> Tensor:
    """EASY's letters before M and E, from left to right; M and E alone are CL2N, which is what ``easy`` has."""
    step = {"R": torch.relu, "P": torch.sqrt, "E": l2_normalise}
    return reduce(lambda made, letter: step[letter](made), letters, x)
