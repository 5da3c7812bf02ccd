"""Backbones, losses, evaluation features and schedule of Binocular Mutual Learning against the official code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from golden_files import fill_by_hash, images, load, tensor
from torch import Tensor, nn
from torch.nn import functional

from harness.backbones import build
from harness.backbones.backbone import n_parameters
from harness.backbones.two_branch import TwoBranch
from harness.ops.binocular import (
    dense_cross_entropy,
    divergence,
    elastic_margin,
    elastic_scores,
    location_distances,
    locations,
    mutual_divergence,
    root_features,
)
from harness.ops.dropblock import drop, keep_mask, keep_mask_as_published, seed_rate
from harness.ops.prototypes import class_means, distance_scores
from harness.ops.schedules import milestone_decay, periodic_decay

FAMILY = "bml"


def _float64(entry: dict[str, Any]) -> dict[str, float]:
    return {"rtol": entry["tolerance"]["float64_rtol"], "atol": entry["tolerance"]["float64_atol"]}


def _slot_major(x: Tensor, n_way: int, shot: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split a batch whose row r is slot r // n_way of class r % n_way: (W, S, ...), (Q, ...), labels (Q,)."""
    support = x[: n_way * shot].unflatten(0, (shot, n_way)).transpose(0, 1)
    query = x[n_way * shot :]
    return support, query, torch.arange(len(query)) % n_way


def test_mutual_divergence() -> None:
    arrays, entry = load(FAMILY, "mutual_kl.npz")
    for i, temperature in enumerate(arrays["T"]):
        a, b = tensor(arrays["feat_a"]).requires_grad_(), tensor(arrays["feat_b"]).requires_grad_()
        loss = mutual_divergence(a, b, temperature=float(temperature))
        loss.backward()
        np.testing.assert_allclose(loss.detach(), arrays["mutual"][i], **_float64(entry))
        np.testing.assert_allclose(a.grad, arrays["mutual_grad_a"][i], **_float64(entry))
        np.testing.assert_allclose(b.grad, arrays["mutual_grad_b"][i], **_float64(entry))


def test_divergence_one_way() -> None:
    arrays, entry = load(FAMILY, "mutual_kl.npz")
    for i, temperature in enumerate(arrays["T"]):
        a, b = tensor(arrays["feat_a"]).requires_grad_(), tensor(arrays["feat_b"]).requires_grad_()
        loss = divergence(a, b, temperature=float(temperature))
        loss.backward()
        np.testing.assert_allclose(loss.detach(), arrays["kl"][i], **_float64(entry))
        np.testing.assert_allclose(a.grad, arrays["kl_grad_a"][i], **_float64(entry))
        np.testing.assert_allclose(b.grad, arrays["kl_grad_b"][i], **_float64(entry))


@pytest.mark.parametrize("case", range(5))
def test_elastic_margin(case: int) -> None:
    arrays, entry = load(FAMILY, "elastic.npz")
    distances = tensor(arrays["dist"]).requires_grad_()
    target = torch.from_numpy(arrays["labels"])
    options = {
        "progress": int(arrays["epoch"][case]) / int(arrays["max_epoch"][case]),
        "strength": float(arrays["alpha_1"][case]),
        "slope": float(arrays["alpha_2"][case]),
    }
    margin = elastic_margin(distances, target, **options)
    expected = arrays["constraint"][case]
    np.testing.assert_allclose(margin, expected[np.arange(18), arrays["labels"]], **_float64(entry))
    assert float((margin > 0).double().mean()) == pytest.approx(entry["active_fraction"][case])
    scores = elastic_scores(distances[:, None], target, **options)  # one location per query
    loss = dense_cross_entropy(scores, target)
    loss.backward()
    np.testing.assert_allclose(scores[:, 0].detach(), arrays["logits"][case], **_float64(entry))
    np.testing.assert_allclose(loss.detach(), arrays["loss"][case], **_float64(entry))
    np.testing.assert_allclose(distances.grad, arrays["grad_dist"][case], **_float64(entry))


@pytest.mark.parametrize("file", ["local_view.npz", "local_view_15way.npz"])
def test_local_view(file: str) -> None:
    arrays, entry = load(FAMILY, file)
    facts = entry["hyper_parameters"]
    maps = tensor(arrays["feat"]).requires_grad_()
    support, query, target = _slot_major(maps, facts["n_ways"], facts["n_shots"])
    np.testing.assert_array_equal(target, arrays["labels"])
    scores = elastic_scores(
        location_distances(support, query),
        target,
        progress=facts["epoch"] / facts["max_epoch"],
        strength=facts["alpha_1"],
        slope=facts["alpha_2"],
    )
    loss = dense_cross_entropy(scores, target)
    loss.backward()
    np.testing.assert_allclose(scores.mT.detach(), arrays["logits"], **_float64(entry))
    np.testing.assert_allclose(loss.detach(), arrays["loss"], **_float64(entry))
    np.testing.assert_allclose(maps.grad, arrays["grad_feat"], **_float64(entry))


def test_global_view() -> None:
    arrays, entry = load(FAMILY, "global_view.npz")
    maps, weight = tensor(arrays["feat"]).requires_grad_(), tensor(arrays["weight"]).requires_grad_()
    bias = tensor(arrays["bias"]).requires_grad_()
    scores = locations(functional.conv2d(maps, weight, bias))
    loss = dense_cross_entropy(scores, torch.from_numpy(arrays["labels"]))
    loss.backward()
    np.testing.assert_allclose(scores.mT.detach(), arrays["logits"], **_float64(entry))
    np.testing.assert_allclose(loss.detach(), arrays["loss"], **_float64(entry))
    np.testing.assert_allclose(maps.grad, arrays["grad_feat"], **_float64(entry))
    np.testing.assert_allclose(weight.grad, arrays["grad_weight"], **_float64(entry))
    np.testing.assert_allclose(bias.grad, arrays["grad_bias"], **_float64(entry))


@pytest.mark.parametrize("file", ["eval_1shot.npz", "eval_5shot.npz"])
def test_evaluation_scores(file: str) -> None:
    arrays, entry = load(FAMILY, file)
    facts = entry["hyper_parameters"]
    both = []
    for view in ("global", "local"):
        features = root_features(tensor(arrays[f"feat_{view}"]))
        support, query, target = _slot_major(features, facts["n_ways"], facts["n_shots"])
        both.append(distance_scores(query, class_means(support)))
        np.testing.assert_allclose(both[-1], arrays[f"logits_{view}"], **_float64(entry))
    scores = both[0] + both[1]
    np.testing.assert_allclose(scores, arrays["logits"], **_float64(entry))
    np.testing.assert_array_equal(scores.argmax(-1), arrays["pred"])
    np.testing.assert_array_equal(target, arrays["labels"])
    assert (scores.argmax(-1) == target).double().mean() == pytest.approx(float(arrays["accuracy"]))


def test_single_view_baselines() -> None:
    arrays, entry = load(FAMILY, "baselines.npz")
    facts = entry["hyper_parameters"]
    maps, pooled = tensor(arrays["spatial"]), tensor(arrays["pooled"])
    np.testing.assert_allclose(maps.mean((2, 3)), pooled, **_float64(entry))
    support, query, _ = _slot_major(pooled, facts["n_ways"], facts["n_shots"])
    pooled_scores = distance_scores(query, class_means(support))
    for name in ("local_train_spatial0", "local_test", "global_test"):
        np.testing.assert_allclose(pooled_scores, arrays[name], **_float64(entry))
    support, query, _ = _slot_major(maps, facts["n_ways"], facts["n_shots"])
    dense_scores = -location_distances(support, query).mT
    np.testing.assert_allclose(dense_scores, arrays["local_train_spatial1"], **_float64(entry))
    for spatial, x in enumerate((pooled, locations(maps))):
        scores = functional.linear(x, tensor(arrays[f"gw{spatial}"]), tensor(arrays[f"gb{spatial}"]))
        scores = scores.mT if spatial else scores
        np.testing.assert_allclose(scores, arrays[f"global_train_spatial{spatial}"], **_float64(entry))


@pytest.mark.parametrize("case", range(3))
def test_dropblock(case: int) -> None:
    arrays, entry = load(FAMILY, "dropblock.npz")
    facts = entry["hyper_parameters"]["cases"][case]
    seeds = torch.from_numpy(arrays[f"mask_{case}"] == 1)
    published = keep_mask_as_published(seeds, facts["block_size"])
    dropped = int((~keep_mask(seeds, facts["block_size"])).sum())
    assert dropped == facts["dropped_by_a_correct_DropBlock"]
    np.testing.assert_array_equal(published, arrays[f"keep_{case}"] == 1)
    got = drop(tensor(arrays[f"x_{case}"], torch.float32), published)
    close = {"rtol": entry["tolerance"]["out_rtol"], "atol": entry["tolerance"]["out_atol"]}
    np.testing.assert_allclose(got, arrays[f"out_{case}"], **close)


def test_dropblock_ramp() -> None:
    arrays, entry = load(FAMILY, "dropblock.npz")
    for rate, block_size, side, n, gamma in arrays["gamma_table"]:
        got = seed_rate(float(rate), int(block_size), int(side), torch.tensor(int(n)))
        assert float(got) == pytest.approx(gamma, rel=entry["tolerance"]["gamma_rtol"])


def test_learning_rate_of_every_epoch() -> None:
    arrays, entry = load(FAMILY, "lr_schedule.npz")
    mini = [milestone_decay(e, base=0.1, milestones=((50, 0.06), (70, 0.2))) for e in range(100)]
    tiered = [periodic_decay(e, base=0.1, every=40, factor=0.1) for e in range(200)]
    np.testing.assert_allclose(mini, arrays["lr_0"], rtol=entry["tolerance"]["rtol"])
    np.testing.assert_allclose(tiered, arrays["lr_1"], rtol=entry["tolerance"]["rtol"])


RESNET18 = {"stem": "3x3"}


@pytest.mark.parametrize(
    ("file", "name", "options"),
    [
        ("backbone_res12_bml.npz", "resnet12", {"drop_rate": 0.1}),
        ("backbone_res18_bml.npz", "resnet18", {**RESNET18, "last_pool": True}),
    ],
)
def test_two_branch_backbone(file: str, name: str, options: dict[str, Any]) -> None:
    arrays, entry = load(FAMILY, file)
    network = TwoBranch(build(name, 84, 3, **options))
    assert n_parameters(network.trunk) == entry["n_trainable"]["shared"]
    assert n_parameters(network.global_branch) == entry["n_trainable"]["branch"]
    assert n_parameters(network.local_branch) == entry["n_trainable"]["branch"]
    fill_by_hash(network.trunk, entry["parameters_shared"])
    fill_by_hash(network.global_branch, entry["parameters_global"])
    fill_by_hash(network.local_branch, entry["parameters_local"])
    x = images(arrays["images_u8"])
    with torch.no_grad():
        shared = network.trunk(x)
        views = network.eval()(x)
    assert views.global_map.shape[1:] == (network.channels, *network.feature_size)
    rtol = entry["tolerance"]["float64_rtol"]
    statistics = [shared.mean(), shared.std(correction=0), shared.abs().max()]
    np.testing.assert_allclose(torch.stack(statistics), arrays["share_stats"], rtol=rtol)
    np.testing.assert_allclose(shared[:, :6, 0, :6], arrays["share_head"], rtol=rtol, atol=1e-10)
    for view, pooled in zip(views, ("global_pooled", "local_pooled"), strict=True):
        largest = np.abs(arrays[pooled]).max()
        np.testing.assert_allclose(view.mean((2, 3)), arrays[pooled], rtol=rtol, atol=1e-10 * largest)
    # The maps are stored as float32.
    rtol = entry["tolerance"]["float32_maps_rtol"]
    np.testing.assert_allclose(views.global_map[0], arrays["global_map"], rtol=rtol, atol=1e-5)
    np.testing.assert_allclose(views.local_map[0, :64], arrays["local_map_part"], rtol=rtol, atol=1e-5)


@pytest.mark.parametrize(
    ("file", "name", "options"),
    [("backbone_res12_baseline.npz", "resnet12", {}), ("backbone_res18_baseline.npz", "resnet18", RESNET18)],
)
def test_single_view_backbone(file: str, name: str, options: dict[str, Any]) -> None:
    arrays, entry = load(FAMILY, file)
    backbone = fill_by_hash(build(name, 84, 3, **options), entry["parameters"])
    with torch.no_grad():
        pooled = backbone(images(arrays["images_u8"])).mean((2, 3))
    largest = np.abs(arrays["pooled"]).max()
    rtol = entry["tolerance"]["float64_rtol"]
    np.testing.assert_allclose(pooled, arrays["pooled"], rtol=rtol, atol=1e-10 * largest)


class _Toy(nn.Module):
    """The network of the stored training step: a trunk, two one-layer branches and a dense classifier."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.weights = nn.ParameterDict(
            {name[6:]: nn.Parameter(tensor(arrays[name])) for name in arrays if name.startswith("init__")}
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        w = self.weights
        shared = functional.leaky_relu(functional.conv2d(x, w["encoder_0_weight"], padding=1), 0.1)
        global_map, local_map = (
            functional.max_pool2d(functional.leaky_relu(functional.conv2d(shared, w[name]), 0.1), 2)
            for name in ("global_view_0_weight", "local_view_0_weight")
        )
        scores = functional.conv2d(global_map, w["global_w_weight"], w["global_w_bias"])
        return global_map, local_map, locations(scores)


def test_training_step() -> None:
    arrays, entry = load(FAMILY, "train_step.npz")
    facts, close = entry["hyper_parameters"], _float64(entry)
    network = _Toy(arrays)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for t in range(len(arrays["x"])):
        global_map, local_map, scores = network(tensor(arrays["x"][t]))
        support, query, target = _slot_major(local_map, facts["n_ways"], facts["n_shots"])
        distances = location_distances(support, query)
        progress = facts["epoch"] / facts["max_epoch"]
        parts = {
            "global_loss": dense_cross_entropy(scores, torch.from_numpy(arrays["y"][t])),
            "local_loss": dense_cross_entropy(elastic_scores(distances, target, progress=progress), target),
            "mutual": mutual_divergence(
                global_map.mean((2, 3)), local_map.mean((2, 3)), temperature=facts["T"]
            ),
        }
        total = sum(w * part for w, part in zip(facts["weights"], parts.values(), strict=True))
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        np.testing.assert_allclose(total.detach(), arrays["total"][t], **close)
        for name, part in parts.items():
            np.testing.assert_allclose(part.detach(), arrays[name][t], **close)
        for name, weight in network.weights.items():
            np.testing.assert_allclose(weight.detach(), arrays[f"after__{name}"][t], **close)
