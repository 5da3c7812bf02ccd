"""Prototypes, distances and the prototypical loss against plain loops and finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.ops.normalise import centre_and_normalise, l2_normalise
from harness.ops.prototypes import (
    class_means,
    class_means_by_label,
    cosine_scores,
    distance_scores,
    prototypical_loss,
    squared_distances,
)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _slow_loss(support: Tensor, query: Tensor) -> float:
    """One episode, one query at a time, in Python floats."""
    prototypes = [[sum(float(v) for v in d) / len(d) for d in zip(*shots, strict=True)] for shots in support]
    losses = []
    for true, of_class in enumerate(query):
        for q in of_class:
            d = [sum((float(a) - b) ** 2 for a, b in zip(q, p, strict=True)) for p in prototypes]
            losses.append(d[true] + math.log(sum(math.exp(-v) for v in d)))
    return sum(losses) / len(losses)


def test_class_means_equal_a_loop() -> None:
    support = _random(2, 3, 4, 5)
    slow = torch.stack([torch.stack([sum(shots) / 4 for shots in episode]) for episode in support])
    # Both sum four float64 numbers, in possibly different order.
    torch.testing.assert_close(class_means(support), slow, rtol=1e-14, atol=1e-15)


def test_means_by_label_take_unequal_shots_in_any_order() -> None:
    x, y = _random(7, 4), torch.tensor([2, 0, 1, 0, 2, 2, 1])
    slow = torch.stack([x[y == c].mean(0) for c in range(3)])
    torch.testing.assert_close(class_means_by_label(x, y, 3), slow, rtol=1e-14, atol=1e-15)


def test_means_by_label_name_the_empty_classes() -> None:
    with pytest.raises(ValueError, match=r"\[1, 3\]"):
        class_means_by_label(_random(3, 2), torch.tensor([0, 2, 2]), 4)


@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 8), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_distances_equal_the_sum_of_squared_differences(n: int, m: int, d: int, seed: int) -> None:
    a, b = _random(3, n, d, seed=seed), _random(3, m, d, seed=seed + 1)
    slow = (a[:, :, None, :] - b[:, None, :, :]).square().sum(-1)
    # The expansion cancels: its error is float64 rounding on |a|² + |b|², here at most about 100.
    torch.testing.assert_close(squared_distances(a, b), slow, rtol=1e-12, atol=1e-12)


def test_cosine_scores_equal_a_loop_and_survive_zero_vectors() -> None:
    query, prototypes = _random(2, 3, 4), _random(2, 5, 4, seed=1)
    query[0, 0] = 0
    for e in range(2):
        for q in range(3):
            for w in range(5):
                a, b = query[e, q], prototypes[e, w]
                expected = float(a @ b) / max(float(a.norm() * b.norm()), 1e-12)
                assert float(cosine_scores(query, prototypes)[e, q, w]) == pytest.approx(expected, abs=1e-14)


def test_episodes_in_a_batch_do_not_meet() -> None:
    support, query = _random(4, 3, 2, 6), _random(4, 3, 5, 6, seed=1)
    together = prototypical_loss(support, query)
    alone = [prototypical_loss(s, q) for s, q in zip(support, query, strict=True)]
    torch.testing.assert_close(together.loss, torch.stack([a.loss for a in alone]).mean(), rtol=1e-13, atol=0)
    # Batched and single matrix products may sum in another order: float64 rounding.
    torch.testing.assert_close(
        together.scores, torch.stack([a.scores for a in alone]), rtol=1e-12, atol=1e-12
    )
    assert together.scores.shape == (4, 15, 3)
    assert together.target.shape == (4, 15)


def test_loss_equals_one_query_at_a_time() -> None:
    support, query = _random(4, 2, 5), _random(4, 3, 5, seed=1)
    got = prototypical_loss(support, query)
    assert float(got.loss) == pytest.approx(_slow_loss(support, query), rel=1e-12)
    torch.testing.assert_close(got.scores, distance_scores(query.flatten(0, 1), class_means(support)))
    assert got.target.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_loss_gradients_equal_finite_differences() -> None:
    support, query = _random(3, 2, 4).requires_grad_(), _random(3, 2, 4, seed=1).requires_grad_()
    # Central differences with step 1e-6 in float64: error about 1e-9, gradcheck's default tolerances hold.
    assert torch.autograd.gradcheck(lambda s, q: prototypical_loss(s, q).loss, (support, query))


def test_loss_gradients_equal_the_closed_form() -> None:
    """With P = softmax(-d) - onehot: dL/dq = (2/n) Σ_c P_qc p_c and dL/dp_c = (2/n) Σ_q P_qc (q - p_c)."""
    support, query = _random(3, 2, 4).requires_grad_(), _random(3, 5, 4, seed=1).requires_grad_()
    got = prototypical_loss(support, query)
    got.loss.backward()
    with torch.no_grad():
        q, p = query.flatten(0, 1), class_means(support)
        error = got.scores.softmax(-1) - torch.nn.functional.one_hot(got.target, 3)
        to_query = 2 / len(q) * error @ p
        to_class = 2 / len(q) * torch.einsum("qc,qcd->cd", error, q[:, None] - p)
    torch.testing.assert_close(query.grad.flatten(0, 1), to_query, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(support.grad, to_class[:, None].expand(3, 2, 4) / 2, rtol=1e-12, atol=1e-13)


def test_one_query_per_class_is_counted_right() -> None:
    support = torch.eye(3, dtype=torch.float64)[:, None] * 5
    got = prototypical_loss(support, support)
    assert (got.scores.argmax(-1) == got.target).all()


def test_normalised_vectors_have_length_one_and_zero_stays_zero() -> None:
    x = _random(2, 3, 4)
    x[1, 2] = 0
    lengths = l2_normalise(x).norm(dim=-1)
    assert lengths.flatten()[:5].tolist() == pytest.approx([1.0] * 5)
    assert float(lengths[1, 2]) == 0


def test_centring_comes_before_normalising() -> None:
    x, mean = _random(5, 4), _random(4, seed=1)
    shifted = x - mean
    expected = shifted / shifted.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(centre_and_normalise(x, mean), expected, rtol=1e-14, atol=1e-15)
