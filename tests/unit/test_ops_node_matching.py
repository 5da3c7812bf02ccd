"""Comparison of node sets against loops, and what it must not depend on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from harness.errors import ConfigError, TransportError
from harness.ops.node_matching import (
    cross_reference_weights,
    masses,
    node_scores,
    node_similarities,
)


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.3


def _slow_score(x: np.ndarray, y: np.ndarray, temperature: float, extra: float) -> float:
    """One query (L, D) against one prototype (M, D), by loops and a linear program."""
    p = np.array([max(node @ y.mean(0), 0.0) + 1e-3 + extra for node in x])
    q = np.array([max(node @ x.mean(0), 0.0) + 1e-3 + extra for node in y])
    similarity = np.array([[np.corrcoef(i, j)[0, 1] for j in y] for i in x])
    rows = np.kron(np.eye(len(x)), np.ones(len(y)))
    columns = np.kron(np.ones(len(x)), np.eye(len(y)))
    found = linprog(
        (1 - similarity).ravel(),
        A_eq=np.vstack([rows, columns])[:-1],
        b_eq=np.concatenate([p / p.sum(), q / q.sum()])[:-1],
        method="highs",
    )
    return float(temperature * (similarity.ravel() @ found.x))


@pytest.mark.parametrize(("n_nodes", "n_others"), [(4, 4), (3, 6), (1, 1)])
@pytest.mark.parametrize("extra", [0.0, 1e-2])
def test_scores_equal_loops(n_nodes: int, n_others: int, extra: float) -> None:
    query, prototypes = _draw(3, n_nodes, 7), _draw(2, n_others, 7, seed=1)
    got = node_scores(query, prototypes, temperature=5.0, extra=extra)
    assert got.shape == (3, 2) and got.dtype == torch.float64
    expected = [[_slow_score(x, y, 5.0, extra) for y in prototypes.numpy()] for x in query.numpy()]
    # HiGHS meets constraints to 1e-7 of the unit mass; times the temperature
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("grad", ["full", "flow-only"])
def test_both_gradients_give_the_same_scores(grad: Any) -> None:
    query, prototypes = _draw(3, 5, 8), _draw(2, 5, 8, seed=1)
    torch.testing.assert_close(
        node_scores(query, prototypes, grad=grad), node_scores(query, prototypes), rtol=0, atol=1e-13
    )


def test_the_full_gradient_is_that_of_central_differences() -> None:
    query, prototypes = _draw(2, 4, 5).requires_grad_(), _draw(2, 3, 5, seed=1).requires_grad_()
    # steps of 1e-6 stay on one side of every kink here: error about 1e-9 in float64
    assert torch.autograd.gradcheck(node_scores, (query, prototypes), atol=1e-6)


def test_the_flow_only_gradient_holds_flow_and_masses() -> None:
    query, prototypes = _draw(2, 4, 5).requires_grad_(), _draw(2, 3, 5, seed=1)
    flow_only = torch.autograd.grad(node_scores(query, prototypes, grad="flow-only").sum(), query)[0]
    full = torch.autograd.grad(node_scores(query, prototypes).sum(), query)[0]
    assert float((flow_only - full).norm() / full.norm()) > 0.01
    # similarities do not change when all channels of a node move alike, masses do
    assert float(flow_only.sum(-1).abs().max()) < 1e-12
    assert float(full.sum(-1).abs().max()) > 1e-3


def test_leading_axes_are_episodes() -> None:
    query, prototypes = _draw(2, 3, 4, 6), _draw(2, 5, 4, 6, seed=1)
    together = node_scores(query, prototypes)
    assert together.shape == (2, 3, 5)
    for e in range(2):
        torch.testing.assert_close(together[e], node_scores(query[e], prototypes[e]), rtol=0, atol=1e-13)


def test_the_order_of_nodes_does_not_matter() -> None:
    query, prototypes = _draw(3, 6, 8), _draw(4, 5, 8, seed=1)
    mixed = node_scores(
        query[:, torch.tensor([3, 0, 5, 1, 4, 2])], prototypes[:, torch.tensor([4, 2, 0, 1, 3])]
    )
    torch.testing.assert_close(mixed, node_scores(query, prototypes), rtol=0, atol=1e-12)


def test_a_constant_on_all_channels_moves_masses_and_no_similarity() -> None:
    query, prototypes = _draw(3, 4, 8), _draw(2, 4, 8, seed=1)
    torch.testing.assert_close(
        node_similarities(query + 2, prototypes + 2), node_similarities(query, prototypes), rtol=0, atol=1e-13
    )
    moved = masses(cross_reference_weights(query + 2, prototypes + 2))
    assert float((moved - masses(cross_reference_weights(query, prototypes))).abs().max()) > 1e-2


def test_similarity_does_not_see_the_length_of_nodes_and_is_zero_where_all_channels_are_equal() -> None:
    query, prototypes = _draw(3, 4, 8), _draw(2, 4, 8, seed=1)
    expected = node_similarities(query, prototypes)
    torch.testing.assert_close(
        node_similarities(1e-6 * query, 1e6 * prototypes), expected, rtol=0, atol=1e-11
    )
    query[1, 2] = 0.5
    got = node_similarities(query, prototypes)
    assert torch.equal(got[1, :, 2], torch.zeros(2, 4, dtype=torch.float64))
    assert torch.equal(got[0], expected[0])


def test_l2_similarity_is_one_minus_the_squared_distance_of_centred_nodes() -> None:
    query, prototypes = _draw(2, 3, 6), _draw(2, 4, 6, seed=1)
    got = node_similarities(query, prototypes, metric="l2")
    assert got.shape == (2, 2, 3, 4)
    for q in range(2):
        for w in range(2):
            for i in range(3):
                for j in range(4):
                    x, y = query[q, i] - query[q, i].mean(), prototypes[w, j] - prototypes[w, j].mean()
                    torch.testing.assert_close(
                        got[q, w, i, j], 1 - (x - y).square().sum(), rtol=1e-12, atol=1e-12
                    )


def test_float32_scores_are_those_of_float64() -> None:
    query, prototypes = _draw(6, 25, 64), _draw(5, 25, 64, seed=1)
    got = node_scores(query.float(), prototypes.float())
    assert got.dtype == torch.float32
    # rounding of similarities and weights of about 1e-7, times the temperature of 12.5
    torch.testing.assert_close(got.double(), node_scores(query, prototypes), rtol=0, atol=1e-5)
    assert node_scores(query.bfloat16(), prototypes.bfloat16()).dtype == torch.float32


def test_masses_of_float32_weights_have_equal_sums_in_float64() -> None:
    weights = torch.rand(100, 38, generator=torch.Generator().manual_seed(0)) + 1e-3
    assert float((masses(weights).sum(-1) - 1).abs().max()) < 1e-15


def test_the_full_gradient_is_not_asked_of_opencv() -> None:
    query, prototypes = _draw(2, 3, 5), _draw(2, 3, 5, seed=1)
    with pytest.raises(ConfigError, match="grad=flow-only"):
        node_scores(query, prototypes, solver="opencv")
    assert node_scores(query, prototypes, solver="opencv", grad="flow-only").shape == (2, 2)


@pytest.mark.timeout(60)
def test_features_of_a_diverged_training_are_refused() -> None:
    query, prototypes = _draw(2, 3, 5), _draw(2, 3, 5, seed=1)
    query[1, 2, 0] = torch.nan
    with pytest.raises(TransportError, match="diverged"):
        node_scores(query, prototypes)


def test_the_similarity_is_never_spread_over_channels() -> None:
    """75 queries, 5 classes, 25 nodes and 640 channels as products would take 0.6 GB."""
    query, prototypes = _draw(75, 25, 640).float(), _draw(5, 25, 640, seed=1).float()
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.numel())
            return out

    with Watch():
        node_similarities(query, prototypes)
    assert largest == max(75 * 5 * 25 * 25, 75 * 25 * 640)
