"""Steps that can be differentiated through, and batch norm by a context."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.backbones import build
from harness.ops.inner_loop import ContextNorm, context_of, descend, use_context_norm


def inputs() -> tuple[nn.Linear, Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    x, y = torch.randn(12, 4, dtype=torch.float64), torch.arange(12) % 3
    return nn.Linear(4, 3).double(), x[:6], y[:6], x[6:], y[6:]


def after(layer: nn.Linear, *, second_order: bool) -> Tensor:
    """The query loss after three steps on the support."""
    _, x, y, query, label = inputs()
    moved = descend(
        lambda p: functional.cross_entropy(functional.linear(x, p["weight"], p["bias"]), y),
        dict(layer.named_parameters()), steps=3, lr=0.5, second_order=second_order,
    )  # fmt: skip
    return functional.cross_entropy(functional.linear(query, moved["weight"], moved["bias"]), label)


def test_the_outer_gradient_is_that_of_finite_differences() -> None:
    layer = inputs()[0]
    before = layer.weight.detach().clone()
    [found] = torch.autograd.grad(after(layer, second_order=True), [layer.weight])
    expected, h = torch.empty_like(found), 1e-5
    for i in range(3):
        for j in range(4):
            ends = []
            for sign in (1, -1):
                other = inputs()[0]
                other.weight.data[i, j] += sign * h
                ends.append(after(other, second_order=True).item())
            expected[i, j] = (ends[0] - ends[1]) / (2 * h)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    assert torch.equal(layer.weight, before)


def test_without_second_derivatives_the_steps_are_the_same_and_lead_nowhere_back() -> None:
    layer = inputs()[0]
    first, second = after(layer, second_order=False), after(layer, second_order=True)
    torch.testing.assert_close(first, second)
    assert torch.autograd.grad(first, [layer.weight], allow_unused=True) == (None,)


def test_context_norm_is_batch_norm_of_the_context() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 5, 3, 3)
    plain, own = nn.BatchNorm2d(5), ContextNorm(5, track_running_stats=False)
    for layer in (plain, own):
        layer.weight.data, layer.bias.data = torch.linspace(0.5, 2, 5), torch.linspace(-1, 1, 5)
    torch.testing.assert_close(own(x), plain(x))
    with context_of(own, 4):
        together, alone = own(x), own(torch.cat([x[:4], x[6:]]))
        torch.testing.assert_close(together[:4], plain(x[:4]))
    torch.testing.assert_close(together[6:], alone[4:])  # a query by the context alone
    assert own.n_context is None
    torch.testing.assert_close(own.eval()(x), plain(x))  # the same in evaluation


def test_a_network_without_running_statistics_has_the_same_parameters() -> None:
    for name in ("conv4", "resnet12"):
        backbone = build(name, 32, 3)
        before = [key for key, _ in backbone.named_parameters()]
        use_context_norm(backbone)
        assert [key for key, _ in backbone.named_parameters()] == before and not list(backbone.buffers())
        assert not any(type(layer) is nn.BatchNorm2d for layer in backbone.modules())
        assert backbone(torch.randn(2, 3, 32, 32)).shape[1:] == (backbone.channels, *backbone.feature_size)
