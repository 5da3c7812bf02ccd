"""The batched episode classifier against torch's SGD, one episode and one batch at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from harness.ops.linear_head import Sgd, draw_heads, draw_orders, fit_heads, with_bias
from harness.ops.margin import Similarity, similarities

N_EPISODES, N_WAY, DIM = 3, 4, 11


def _generators(first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(first + e) for e in range(N_EPISODES)]


def _problem(shot: int, n_passes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Support, targets, initial weights and orders of a few episodes, in float64."""
    generators, n = _generators(), N_WAY * shot
    support = torch.stack([torch.randn(n, DIM, dtype=torch.float64, generator=g) for g in generators])
    target = torch.stack([torch.randperm(n, generator=g) % N_WAY for g in generators])
    return support, target, draw_heads(generators, N_WAY, DIM).double(), draw_orders(generators, n, n_passes)


def _by_torch(
    support: Tensor, target: Tensor, weight: Tensor, orders: Tensor, kind: Similarity, scale: float, sgd: Sgd
) -> Tensor:
    fitted = []
    for x, y, w, passes in zip(support, target, weight, orders, strict=True):
        w = w.clone().requires_grad_()
        optimiser = torch.optim.SGD([w], sgd.lr, sgd.momentum, sgd.dampening, sgd.weight_decay)
        for order in passes:
            for batch in order.split(sgd.batch_size):
                optimiser.zero_grad()
                functional.cross_entropy(scale * similarities(x[batch], w, kind), y[batch]).backward()
                optimiser.step()
        fitted.append(w.detach())
    return torch.stack(fitted)


@pytest.mark.parametrize("kind", ["cosine", "dot"])
@pytest.mark.parametrize("shot", [1, 3])
@pytest.mark.parametrize(
    "sgd",
    [
        Sgd(),
        Sgd(lr=0.1, momentum=0.9, dampening=0.0, weight_decay=0.0, batch_size=5),
        Sgd(lr=0.05, momentum=0.0, dampening=0.0, weight_decay=0.1, batch_size=1),
        Sgd(lr=0.02, momentum=0.5, dampening=0.3, weight_decay=0.01, batch_size=100),
    ],
)
def test_weights_equal_those_of_torch_sgd(kind: Similarity, shot: int, sgd: Sgd) -> None:
    problem = _problem(shot, n_passes=10)
    got = fit_heads(*problem, kind=kind, scale=5.0, sgd=sgd)
    # The same recursion in other coordinates: float64 rounding over at most 120 steps.
    torch.testing.assert_close(got, _by_torch(*problem, kind, 5.0, sgd), rtol=1e-9, atol=1e-11)


def test_long_fits_stay_accurate_in_single_precision() -> None:
    support, target, weight, orders = _problem(5, n_passes=100)
    exact = fit_heads(support, target, weight, orders, kind="cosine", scale=5.0)
    single = fit_heads(support.float(), target, weight.float(), orders, kind="cosine", scale=5.0)
    # 500 steps in float32; torch's own float32 loop deviates from float64 by about as much.
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-5)


def test_episodes_do_not_influence_each_other() -> None:
    problem = _problem(2, n_passes=5)
    together = fit_heads(*problem, kind="cosine", scale=5.0)
    for e in range(N_EPISODES):
        alone = fit_heads(*(part[e : e + 1] for part in problem), kind="cosine", scale=5.0)
        # Batched and single matrix products may sum in another order: float64 rounding.
        torch.testing.assert_close(together[e : e + 1], alone, rtol=1e-12, atol=1e-13)


def test_a_constant_feature_is_a_bias() -> None:
    support, target, weight, orders = _problem(2, n_passes=6)
    generator = torch.Generator().manual_seed(9)
    bias = torch.randn(N_EPISODES, N_WAY, 1, dtype=torch.float64, generator=generator)
    got = fit_heads(
        with_bias(support), target, torch.cat([weight, bias], dim=-1), orders, kind="dot", scale=1.0
    )
    for e in range(N_EPISODES):
        layer = torch.nn.Linear(DIM, N_WAY).double()
        with torch.no_grad():
            layer.weight.copy_(weight[e])
            layer.bias.copy_(bias[e, :, 0])
        sgd = Sgd()
        optimiser = torch.optim.SGD(layer.parameters(), sgd.lr, sgd.momentum, sgd.dampening, sgd.weight_decay)
        for order in orders[e]:
            for batch in order.split(sgd.batch_size):
                optimiser.zero_grad()
                functional.cross_entropy(layer(support[e, batch]), target[e, batch]).backward()
                optimiser.step()
        torch.testing.assert_close(got[e, :, :DIM], layer.weight.detach(), rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(got[e, :, DIM], layer.bias.detach(), rtol=1e-9, atol=1e-11)


def test_arguments_are_left_alone() -> None:
    problem = _problem(2, n_passes=2)
    before = [part.clone() for part in problem]
    fit_heads(*problem, kind="cosine", scale=5.0)
    assert all(torch.equal(a, b) for a, b in zip(problem, before, strict=True))


def test_each_episode_draws_from_its_own_generator() -> None:
    weights = draw_heads(_generators(), N_WAY, DIM)
    orders = draw_orders(_generators(), 6, 7)
    assert weights.shape == (N_EPISODES, N_WAY, DIM)
    assert orders.shape == (N_EPISODES, 7, 6)
    assert torch.equal(weights[1:2], draw_heads(_generators()[1:2], N_WAY, DIM))
    assert torch.equal(orders[1:2], draw_orders(_generators()[1:2], 6, 7))
    assert torch.equal(orders.sort(dim=-1).values, torch.arange(6).expand(N_EPISODES, 7, 6))
    assert float(weights.abs().max()) <= DIM**-0.5


def test_every_order_is_equally_likely() -> None:
    orders = draw_orders([torch.Generator().manual_seed(0)], 3, 6000)[0]
    kind = (orders * torch.tensor([9, 3, 1])).sum(-1)
    counts = torch.unique(kind, return_counts=True)[1]
    # Six orders, 1000 expected of each, standard deviation 29: five of them either way.
    assert len(counts) == 6
    assert int((counts - 1000).abs().max()) < 150
