"""Transport solvers, node weights, similarities, scores and their gradients against the official code of DeepEMD."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import FOLDER, load, tensor
from torch import Tensor
from torch.nn import functional

from harness.ops.binocular import locations
from harness.ops.node_matching import (
    OPENCV_EXTRA,
    cross_reference_weights,
    map_nodes,
    masses,
    node_scores,
    node_similarities,
)
from harness.ops.transport import transport
from harness.stats import sampler_interval

FAMILY = "deepemd"
MANIFEST = json.loads((FOLDER / FAMILY / "manifest.json").read_text())


def _files(start: str) -> list[str]:
    found = [entry["file"] for entry in MANIFEST["files"] if entry["file"].startswith(start)]
    assert found
    return found


HEADS = [file for file in _files("head_") if "proto_in" in load(FAMILY, file)[0]]
# qpth needs a second per problem of 25 nodes
HEADS_OF_QPTH = [
    pytest.param(file, marks=[pytest.mark.slow] * (load(FAMILY, file)[0]["proto_in"][0, 0].size > 20))
    for file in HEADS
    if "logits_qp_l2" in load(FAMILY, file)[0]
]


def _nodes(maps: Tensor, entry: dict[str, Any]) -> Tensor:
    """Pooled levels in the order given, then the map: (n, C, h, w) to (n, L, C)."""
    return map_nodes(maps, entry.get("feature_pyramid") or ())


def _length(x: Tensor) -> float:
    return float(x.detach().norm())


@pytest.mark.parametrize("file", _files("weights_"))
def test_cross_reference_weights(file: str) -> None:
    arrays, entry = load(FAMILY, file)
    a, b = (locations(tensor(arrays[name])) for name in "AB")
    np.testing.assert_allclose(cross_reference_weights(a, b), arrays["w"], **entry["tolerance"]["w"])


@pytest.mark.parametrize("file", _files("similarity_map"))
def test_similarities(file: str) -> None:
    arrays, entry = load(FAMILY, file)
    query, proto = (locations(tensor(arrays[name])) for name in ("query", "proto"))
    np.testing.assert_allclose(
        node_similarities(query, proto), arrays["map"], rtol=0, **entry["tolerance"]["map"]
    )


@pytest.mark.parametrize("solver", ["exact", "pot", "opencv"])
@pytest.mark.parametrize("file", _files("emd_solver"))
def test_flows_and_costs_of_the_opencv_convention(file: str, solver: Any) -> None:
    arrays, entry = load(FAMILY, file)
    similarity = tensor(arrays["similarity"])
    a, b = (masses(tensor(arrays[f"weight_{side}"]), extra=OPENCV_EXTRA) for side in ("query", "proto"))
    found = transport(1 - similarity, a, b, solver)
    n = similarity.shape[1]
    np.testing.assert_allclose(found.value, arrays["cost_cv"], rtol=0, **entry["tolerance"]["cost_cv"])
    np.testing.assert_allclose(n * found.flow, arrays["flow_cv"], rtol=0, **entry["tolerance"]["flow_cv"])


@pytest.mark.qpth
@pytest.mark.parametrize(
    ("name", "form", "l2_strength"), [("l2_1e-6", "L2", 1e-6), ("l2_1e-4", "L2", 1e-4), ("qp", "QP", 1e-6)]
)
@pytest.mark.parametrize("file", _files("emd_solver"))
def test_flows_and_scores_of_qpth(file: str, name: str, form: Any, l2_strength: float) -> None:
    arrays, entry = load(FAMILY, file)
    similarity = tensor(arrays["similarity"])
    a, b = (masses(tensor(arrays[f"weight_{side}"])) for side in ("query", "proto"))
    found = transport(1 - similarity, a, b, "qpth", form=form, l2_strength=l2_strength)
    n = similarity.shape[1]
    np.testing.assert_allclose(
        n * found.flow, arrays[f"flow_{name}"], rtol=0, **entry["tolerance"][f"flow_{name}"]
    )
    score = n * (found.flow * similarity).sum((1, 2))
    np.testing.assert_allclose(score, arrays[f"score_{name}"], rtol=0, **entry["tolerance"]["score_*"])


def _check_head(file: str, name: str, dtype: torch.dtype, **options: Any) -> None:
    """Scores, and where the file has them the gradients of the weighted sum and of the cross-entropy."""
    arrays, entry = load(FAMILY, file)
    tolerance = entry["tolerance"]
    of_scores = tolerance.get(f"logits_{name}", tolerance["logits_exact(_cvweights)"])
    query, proto = (tensor(arrays[f"{side}_in"], dtype).requires_grad_() for side in ("query", "proto"))
    scores = node_scores(
        _nodes(query, entry), _nodes(proto, entry), temperature=entry["temperature"], **options
    )
    assert scores.dtype == dtype
    np.testing.assert_allclose(scores.detach(), arrays[f"logits_{name}"], rtol=0, **of_scores)
    if f"gproto_{name}" in arrays:
        of_gradients = tolerance[f"gproto_{name}/gquery_{name}"]["rel_l2"]
        found = torch.autograd.grad((scores * tensor(arrays["R"])).sum(), (proto, query), retain_graph=True)
        for side, gradient in zip(("proto", "query"), found, strict=True):
            expected = tensor(arrays[f"g{side}_{name}"])
            assert _length(gradient - expected) <= of_gradients * _length(expected), side
    if f"ce_{name}" in arrays:
        loss = functional.cross_entropy(scores, torch.as_tensor(arrays["label"]))
        assert float(loss.detach()) == pytest.approx(float(arrays[f"ce_{name}"]), abs=of_scores["atol"])
        (gradient,) = torch.autograd.grad(loss, proto)
        expected = tensor(arrays[f"ce_gproto_{name}"])
        assert _length(gradient - expected) <= of_gradients * _length(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("solver", ["exact", "pot"])
@pytest.mark.parametrize("file", HEADS)
def test_exact_heads_with_the_full_gradient(file: str, solver: Any, dtype: torch.dtype) -> None:
    _check_head(file, "exact", dtype, solver=solver)
    _check_head(file, "exact_cvweights", dtype, solver=solver, extra=OPENCV_EXTRA)


@pytest.mark.parametrize("solver", ["exact", "opencv"])
@pytest.mark.parametrize("file", HEADS)
def test_heads_of_the_opencv_mode(file: str, solver: Any) -> None:
    _check_head(file, "cv", torch.float32, solver=solver, grad="flow-only", extra=OPENCV_EXTRA)


@pytest.mark.qpth
@pytest.mark.parametrize(("name", "form"), [("qp_l2", "L2"), ("qp_qp", "QP")])
@pytest.mark.parametrize("file", HEADS_OF_QPTH)
def test_heads_of_the_qpth_mode(file: str, name: str, form: Any) -> None:
    _check_head(file, name, torch.float32, solver="qpth", form=form)


@pytest.mark.parametrize("file", HEADS_OF_QPTH)
def test_the_exact_gradient_is_within_the_tolerance_of_the_qpth_mode(file: str) -> None:
    arrays, entry = load(FAMILY, file)
    for name in ("qp_l2", "qp_qp"):
        within = entry["tolerance"][f"gproto_{name}/gquery_{name}"]["rel_l2"]
        for side in ("proto", "query"):
            official = tensor(arrays[f"g{side}_{name}"])
            assert _length(tensor(arrays[f"g{side}_exact"]) - official) <= within * _length(official)


@pytest.mark.parametrize("solver", ["exact", "opencv"])
@pytest.mark.parametrize("file", [file for file in _files("head_") if file not in HEADS])
def test_evaluation_scores(file: str, solver: Any) -> None:
    arrays, entry = load(FAMILY, file)
    query, proto = (locations(tensor(arrays[name], torch.float32)) for name in ("query", "proto"))
    scores = node_scores(query, proto, solver=solver, grad="flow-only", extra=OPENCV_EXTRA)
    np.testing.assert_allclose(scores, arrays["logits"], rtol=0, **entry["tolerance"]["logits"])


def test_the_papers_half_width_follows_from_our_standard_error() -> None:
    """Theirs is 1.96 population deviations over √n; ours is Student's, of the sample deviation."""
    arrays, entry = load(FAMILY, "confidence_interval.npz")
    ours, n = sampler_interval(arrays["acc"] / 100), len(arrays["acc"])  # from percent
    theirs = 1.96 * ours.standard_error * np.sqrt((n - 1) / n)
    np.testing.assert_allclose(
        [100 * ours.mean, 100 * theirs], arrays["mean_pm"], **entry["tolerance"]["mean_pm"]
    )
