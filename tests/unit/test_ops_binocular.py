"""The losses of the two views against loops over locations and queries."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from harness.ops.binocular import (
    dense_cross_entropy,
    elastic_margin,
    elastic_scores,
    location_distances,
    locations,
    mutual_divergence,
    root_features,
)


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _slow_margin(d: list[float], true: int, progress: float, strength: float, slope: float) -> float:
    total = sum(math.exp(min(d) - v) for v in d)
    p = [math.exp(min(d) - v) / total for v in d]
    hardest = min((c for c in range(len(d)) if c != true), key=lambda c: d[c])
    if p[true] > 0.5 or p[hardest] > 0.5:
        return 0.0
    return strength * (progress + 1e-8) / (1 + math.exp(-slope * (d[true] - d[hardest])))


@given(
    st.lists(st.floats(0, 6), min_size=2, max_size=6),
    st.integers(0, 5),
    st.floats(0.01, 1),
    st.floats(0, 8),
    st.floats(0, 2),
)
@settings(max_examples=60, deadline=None)
def test_elastic_margin_equals_its_definition(
    d: list[float], true: int, progress: float, strength: float, slope: float
) -> None:
    true = true % len(d)
    distances = torch.tensor([[d]], dtype=torch.float64)
    target = torch.tensor([[true]])
    got = elastic_margin(distances, target, progress=progress, strength=strength, slope=slope)
    likeliest = float(torch.softmax(-distances, -1).max())
    if abs(likeliest - 0.5) > 1e-12:  # at exactly one half, rounding decides which side a query is on
        assert float(got) == pytest.approx(_slow_margin(d, true, progress, strength, slope), rel=1e-10)


def test_exactly_one_half_still_counts_as_open() -> None:
    distances = torch.zeros(1, 1, 2, dtype=torch.float64)  # two classes, p = 0.5 each
    assert float(elastic_margin(distances, torch.zeros(1, 1, dtype=torch.int64), progress=1.0)) > 0


def test_elastic_margin_is_a_constant_for_the_gradient() -> None:
    distances = _draw(4, 3, 5).square().requires_grad_()
    target = torch.tensor([0, 1, 2, 3])
    scores = elastic_scores(distances, target, progress=0.5)
    (gradient,) = torch.autograd.grad(scores.sum(), distances)
    assert torch.equal(gradient, -torch.ones_like(gradient))


def test_gradients_of_the_elastic_loss_are_finite_differences_of_it_with_the_margin_held() -> None:
    support, query = _draw(3, 2, 4, 2, 2).div(1.5), _draw(5, 4, 2, 2, seed=1).div(1.5)
    target = torch.tensor([0, 1, 2, 1, 0])
    held = elastic_margin(location_distances(support, query), target[:, None].expand(-1, 4), progress=0.7)
    assert 0.3 < float((held > 0).double().mean()) < 1  # both kinds of location are among them

    def loss_with_held_margin(support: Tensor, query: Tensor) -> Tensor:
        true = functional.one_hot(target, 3)[:, None]  # (n, 1, W)
        return dense_cross_entropy(-location_distances(support, query) - held[..., None] * true, target)

    inputs = (support.requires_grad_(), query.requires_grad_())
    # central differences with step 1e-6 in float64: error about 1e-9, gradcheck's default tolerances hold
    assert torch.autograd.gradcheck(loss_with_held_margin, inputs)
    loss = dense_cross_entropy(elastic_scores(location_distances(*inputs), target, progress=0.7), target)
    for found, expected in zip(
        torch.autograd.grad(loss, inputs),
        torch.autograd.grad(loss_with_held_margin(*inputs), inputs),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)
        assert float(found.abs().max()) > 1e-3


def test_without_strength_the_scores_are_minus_the_distances() -> None:
    distances = _draw(4, 3, 5).square()
    scores = elastic_scores(distances, torch.tensor([0, 1, 2, 3]), progress=0.5, strength=0.0)
    assert torch.equal(scores, -distances)


def test_dense_loss_is_the_mean_over_locations_of_the_mean_over_images() -> None:
    scores, target = _draw(5, 4, 3), torch.tensor([0, 2, 1, 1, 0])
    slow = torch.stack([functional.cross_entropy(scores[:, u], target) for u in range(4)]).mean()
    torch.testing.assert_close(dense_cross_entropy(scores, target), slow, rtol=1e-13, atol=0)


def test_location_distances_equal_loops() -> None:
    support, query = _draw(3, 2, 4, 2, 3), _draw(5, 4, 2, 3, seed=1)
    got = location_distances(support, query)
    assert got.shape == (5, 6, 3)
    for q in range(5):
        for u in range(6):
            for c in range(3):
                prototype = support[c].mean(dim=(0, 2, 3))
                expected = (query[q, :, u // 3, u % 3] - prototype).square().sum()
                # Expanded squares cancel: float64 rounding on sums of about 10.
                torch.testing.assert_close(got[q, u, c], expected, rtol=1e-12, atol=1e-13)


def test_locations_run_row_by_row() -> None:
    maps = torch.arange(12.0).reshape(1, 2, 2, 3)
    assert locations(maps)[0].tolist() == [[0, 6], [1, 7], [2, 8], [3, 9], [4, 10], [5, 11]]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_mutual_divergence_is_the_sum_of_both_directions(temperature: float) -> None:
    a, b = _draw(6, 5), _draw(6, 5, seed=1)

    def one_way(student: Tensor, teacher: Tensor) -> Tensor:
        log_p, q = (student / temperature).log_softmax(-1), (teacher / temperature).softmax(-1)
        return functional.kl_div(log_p, q, reduction="sum") * temperature**2 / len(a)

    got = mutual_divergence(a, b, temperature=temperature)
    torch.testing.assert_close(got, one_way(a, b) + one_way(b, a), rtol=1e-12, atol=0)


def test_mutual_divergence_moves_both_views() -> None:
    a, b = _draw(6, 5).requires_grad_(), _draw(6, 5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(mutual_divergence, (a, b))
    for gradient in torch.autograd.grad(mutual_divergence(a, b), (a, b)):
        assert float(gradient.abs().max()) > 1e-3


def test_root_features_clip_before_the_root() -> None:
    maps = torch.tensor([[[[4.0, -1.0]], [[0.0, 9.0]]]])
    assert root_features(maps).tolist() == [[2.0, 0.0, 0.0, 3.0]]
