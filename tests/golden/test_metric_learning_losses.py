"""Magnet loss, its clusters and batches, kNC and RepMet against vectors of public implementations.

What was computed in float64 is met to float64 rounding, what is stored as float32 to the manifest's tolerance.
"""

from __future__ import annotations

import json
from typing import Any, cast

import numpy as np
import pytest
import torch
from golden_files import FOLDER, load, tensor
from torch import Tensor

from harness.ops.clusters import ClusterIndex, cluster_index
from harness.ops.magnet import (
    Scale,
    cluster_losses,
    draw_cluster_batch,
    impostors,
    magnet_loss,
    seed_probability,
)
from harness.ops.mixtures import (
    KncRule,
    Measure,
    RepMetLoss,
    background_probability,
    centre_distances,
    hard_posterior,
    nearest_cluster_posterior,
    owners,
    repmet_loss,
    soft_posterior,
)

FAMILY = "metric_learning"
MEASURES: dict[str, Measure] = {
    "euc": "squared",
    "cos": "cosine",
    "euclidean_squared": "squared",
    "euclidean": "euclidean",
}


def _files(kind: str) -> list[str]:
    cases = json.loads((FOLDER / FAMILY / "manifest.json").read_text())["cases"]
    found = [case["file"] for case in cases if case["kind"] == kind]
    assert found, f"the manifest has no case of kind {kind}"
    return found


def _close(found: Tensor, expected: np.ndarray, entry: dict[str, Any], atol: float = 1e-7) -> None:
    rtol = entry["suggested_tolerance_rel"]
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("scale", ["plain", "squared"])
@pytest.mark.parametrize("file", _files("magnet_loss"))
def test_magnet_loss(file: str, scale: Scale) -> None:
    arrays, entry = load(FAMILY, file)
    c, short = entry["config"], {"plain": "plain", "squared": "sq"}[scale]
    x = tensor(arrays["embedding"]).requires_grad_()
    cluster_class = torch.tensor(c["cluster_class"])
    found = magnet_loss(x, cluster_class, alpha=c["alpha"], scale=scale, eps=c["epsilon"])
    (gradient,) = torch.autograd.grad(found.loss, x)
    np.testing.assert_allclose(found.variance.detach(), arrays["variance"], rtol=1e-12)
    _close(found.loss, arrays[f"{short}_loss"], entry)
    _close(found.per_example, arrays[f"{short}_per_example"], entry, atol=1e-6)
    np.testing.assert_allclose(gradient, arrays[f"{short}_grad_f64"], rtol=1e-7, atol=1e-12)
    np.testing.assert_array_equal(found.nearest, arrays["batch_pred"])
    is_right = cluster_class[found.nearest] == torch.from_numpy(arrays["label"])
    assert float(is_right.double().mean()) == pytest.approx(float(arrays["batch_acc"]))


@pytest.mark.parametrize("file", _files("magnet_loss"))
def test_magnet_loss_where_all_other_clusters_repel(file: str) -> None:
    arrays, entry = load(FAMILY, file)
    x = tensor(arrays["embedding"]).requires_grad_()
    found = magnet_loss(x, torch.arange(entry["config"]["m"]), alpha=entry["config"]["alpha"])
    (gradient,) = torch.autograd.grad(found.loss, x)
    _close(found.loss, arrays["mbanani_loss"], entry, atol=1e-6)
    if np.isfinite(arrays["mbanani_grad"]).all():
        _close(gradient, arrays["mbanani_grad"], entry, atol=1e-6)
    else:  # theirs divides 0 by 0 where everything underflows
        assert gradient.isfinite().all()


@pytest.mark.parametrize("file", _files("magnet_batch_sampler"))
def test_cluster_losses_and_seeds(file: str) -> None:
    arrays, entry = load(FAMILY, file)
    losses = torch.zeros(len(arrays["labels"]), dtype=torch.float64)
    for rows, latest in zip(arrays["update_index"], arrays["update_loss"], strict=True):
        losses[torch.from_numpy(rows)] = tensor(latest)
    np.testing.assert_array_equal(losses, arrays["example_losses"])
    n_clusters = entry["config"]["classes"] * entry["config"]["k"]
    is_measured = torch.from_numpy(arrays["has_loss"])  # theirs: a loss of exactly 0 is none
    found = cluster_losses(losses, is_measured, torch.from_numpy(arrays["assignments"]), n_clusters)
    np.testing.assert_allclose(found, arrays["cluster_losses"], rtol=1e-12)
    np.testing.assert_allclose(seed_probability(found), arrays["seed_probability"], rtol=1e-12)


@pytest.mark.parametrize("file", _files("magnet_batch_sampler"))
def test_impostors_and_batches(file: str) -> None:
    arrays, entry = load(FAMILY, file)
    c, centroid = entry["config"], tensor(arrays["centroids"])
    owner = owners(c["classes"], c["k"])
    for seed, expected in enumerate(arrays["impostors"]):
        found = impostors(centroid, owner, seed, c["m"] - 1)
        np.testing.assert_array_equal(found.sort().values, expected)
        distance = (centroid[found] - centroid[seed]).square().sum(1)
        assert (distance.diff() >= 0).all()

    assignment = torch.from_numpy(arrays["assignments"])
    index = ClusterIndex(centroid, assignment, assignment.bincount(minlength=len(owner)))
    rng, losses = torch.Generator().manual_seed(0), tensor(arrays["cluster_losses"])
    for _ in range(20):
        batch = draw_cluster_batch(index, losses, c["k"], c["m"], c["d"], rng)
        clusters = assignment[batch.rows]  # (m, d)
        assert (clusters == clusters[:, :1]).all()
        np.testing.assert_array_equal(clusters[:, 0] // c["k"], batch.cluster_class)
        np.testing.assert_array_equal(clusters[1:, 0].sort().values, arrays["impostors"][int(clusters[0, 0])])
        assert all(len(set(rows.tolist())) == c["d"] for rows in batch.rows)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("file", _files("cluster_index"))
def test_cluster_index(file: str, seed: int) -> None:
    arrays, entry = load(FAMILY, file)
    n_classes, k = entry["config"]["classes"], entry["config"]["k"]
    x, label = tensor(arrays["embedding"]), torch.from_numpy(arrays["labels"])
    found = cluster_index(x, label, n_classes, k, rng=torch.Generator().manual_seed(seed))
    np.testing.assert_array_equal(found.assignment // k, label)
    pairs = {(int(a), int(b)) for a, b in zip(found.assignment, arrays["partition"], strict=True)}
    assert len(pairs) == n_classes * k  # one to one
    order = [theirs for _, theirs in sorted(pairs)]
    np.testing.assert_allclose(found.centroid, arrays["centroid"][order], rtol=1e-9, atol=1e-9)
    again = cluster_index(
        x, label, n_classes, k, rng=torch.Generator(), start=tensor(arrays["centroid"]), max_iter=3
    )
    np.testing.assert_array_equal(again.assignment, arrays["partition"])


@pytest.mark.parametrize("file", _files("knc"))
def test_nearest_cluster_rules(file: str) -> None:
    arrays, entry = load(FAMILY, file)
    c, owner = entry["config"], torch.from_numpy(arrays["centroid_class"])
    distance = centre_distances(tensor(arrays["query"]), tensor(arrays["centroid"]))

    def posterior(rule: KncRule, variance: float, n_nearest: int) -> Tensor:
        return nearest_cluster_posterior(
            distance, owner, c["classes"], variance, n_nearest=n_nearest, rule=rule
        )

    for rule, name in {"plain": "prob_plain", "squared": "prob_sq", "root": "prob_mbanani"}.items():
        found = posterior(cast(KncRule, rule), c["variance"], c["L"])
        _close(found, arrays[name], entry)
    np.testing.assert_array_equal(posterior("squared", c["variance"], c["L"]).argmax(1), arrays["pred_sq"])
    np.testing.assert_array_equal(posterior("plain", c["variance"], 128).argmax(1), arrays["pred_plain_L128"])
    np.testing.assert_array_equal(
        posterior("plain", c["variance"], len(owner)).argmax(1), arrays["pred_repmet"]
    )
    np.testing.assert_array_equal(posterior("plain", c["variance"], 1).argmax(1), arrays["pred_nearest"])


@pytest.mark.parametrize("file", _files("repmet_hinge"))
def test_repmet_hinge(file: str) -> None:
    arrays, entry = load(FAMILY, file)
    c = entry["config"]
    x = tensor(arrays["embedding"]).requires_grad_()
    centre = tensor(arrays["representative"]).requires_grad_()
    owner, label = owners(c["N"], c["k"]), torch.from_numpy(arrays["label"])
    distance = centre_distances(x, centre, MEASURES[c["dist"]])
    found = repmet_loss(distance, label, owner, alpha=c["alpha"])
    gradients = torch.autograd.grad(found.loss, (x, centre), retain_graph=True)
    _close(distance, arrays["distance"], entry, atol=1e-6)
    _close(found.loss, arrays["loss"], entry)
    _close(found.per_example, arrays["per_example"], entry, atol=1e-6)
    _close(gradients[0], arrays["grad_embedding"], entry)
    _close(gradients[1], arrays["grad_representative"], entry)
    soft = soft_posterior(distance, owner, c["N"], sigma=c["sigma"], eps=1e-8)
    _close(hard_posterior(distance, owner, c["N"], sigma=c["sigma"]), arrays["class_prob_hard"], entry)
    _close(background_probability(distance, sigma=c["sigma"]), arrays["background_prob"], entry, atol=1e-6)
    _close(soft, arrays["class_prob_soft"], entry)
    np.testing.assert_array_equal(soft.argmax(1), arrays["pred"])
    assert float((soft.argmax(1) == label).double().mean()) == pytest.approx(float(arrays["acc"]))


@pytest.mark.parametrize("kind", ["v1", "v2", "v3"])
@pytest.mark.parametrize("file", _files("repmet_v1_v2_v3"))
def test_repmet_softmax_losses(file: str, kind: RepMetLoss) -> None:
    arrays, entry = load(FAMILY, file)
    c = entry["config"]
    x = tensor(arrays["embedding"]).requires_grad_()
    centre = tensor(arrays["representative"]).requires_grad_()
    owner, label = owners(c["N"], c["k"]), torch.from_numpy(arrays["label"])
    distance = centre_distances(x, centre, MEASURES[c["measure"]])
    found = repmet_loss(
        distance, label, owner, kind=kind, alpha=c["alpha"], sigma=c["sigma"], eps=c["epsilon"]
    )
    gradients = torch.autograd.grad(found.loss, (x, centre))
    _close(found.loss, arrays[f"{kind}_loss"], entry)
    _close(found.per_example, arrays[f"{kind}_per_example"], entry, atol=1e-6)
    _close(gradients[0], arrays[f"{kind}_grad_embedding"], entry)
    _close(gradients[1], arrays[f"{kind}_grad_representative"], entry)
    soft = soft_posterior(distance.detach(), owner, c["N"], sigma=0.5**0.5)  # theirs: exponent −d / (2 · 0.5)
    np.testing.assert_array_equal(soft.argmax(1), arrays["pred_repmet"])
