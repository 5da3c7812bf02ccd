"""Margin classifiers against their definition and closed-form gradients."""

from __future__ import annotations

import pytest
import torch

from harness.ops.margin import Similarity, draw_class_weights, margin_loss, margin_scores, similarities


def _draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("margin", [-0.3, 0.0, 0.1])
def test_only_the_true_class_moves_and_by_the_scaled_margin(margin: float) -> None:
    similarity, target = _draw(5, 3, seed=0), torch.tensor([0, 2, 1, 1, 0])
    moved = margin_scores(similarity, target, scale=30.0, margin=margin) - 30.0 * similarity
    expected = torch.zeros(5, 3, dtype=torch.float64)
    expected[torch.arange(5), target] = -30.0 * margin
    # Differences of scores of about 50: float64 rounding.
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-12)


def test_a_negative_margin_lowers_the_loss() -> None:
    features, weight, target = _draw(8, 4, seed=0), _draw(3, 4, seed=1), torch.arange(8) % 3
    losses = [
        float(margin_loss(features, weight, target, kind="cosine", scale=10.0, margin=m))
        for m in (-0.1, 0, 0.1)
    ]
    assert losses == sorted(losses)
    assert losses[0] < losses[2]


@pytest.mark.parametrize("kind", ["cosine", "dot"])
def test_gradients_equal_finite_differences(kind: Similarity) -> None:
    features, weight = _draw(4, 5, seed=0).requires_grad_(), _draw(3, 5, seed=1).requires_grad_()
    target = torch.tensor([0, 1, 2, 1])
    assert torch.autograd.gradcheck(
        lambda f, w: margin_loss(f, w, target, kind=kind, scale=5.0, margin=-0.2), (features, weight)
    )


def test_cosine_ignores_lengths_and_dot_does_not() -> None:
    features, weight = _draw(4, 5, seed=0), _draw(3, 5, seed=1)
    torch.testing.assert_close(
        similarities(7 * features, weight, "cosine"), similarities(features, 3 * weight, "cosine")
    )
    torch.testing.assert_close(
        similarities(7 * features, weight, "dot"), 7 * similarities(features, weight, "dot")
    )


def test_class_weights_fill_their_interval() -> None:
    weight = draw_class_weights(100, 25, torch.Generator().manual_seed(0))
    assert weight.shape == (100, 25)
    # 2,500 uniform draws on (-0.2, 0.2): the extremes lie within 1 % of the ends, the mean within 5 sigma.
    assert 0.198 < float(weight.max()) < 0.2
    assert -0.2 < float(weight.min()) < -0.198
    assert abs(float(weight.mean())) < 5 * 0.4 / 12**0.5 / 50
