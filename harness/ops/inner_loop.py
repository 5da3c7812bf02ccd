"""Gradient steps that can be differentiated through: the inner loop of meta-learning (Finn et al. 2017, arXiv:1703.03400)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Parameters = dict[str, Tensor]


def descend(
    loss: Callable[[Parameters], Tensor],
    start: Mapping[str, Tensor],
    *,
    steps: int,
    lr: float,
    second_order: bool = True,
) -> Parameters:
    """Take plain gradient steps (eq. 1).

    Args:
        loss: parameters by name → () loss; a sum over episodes where tensors have an axis for them.
        start: tensors that take gradients, or depend on some that do.
        steps: ≥ 0.
        lr: step size, > 0.
        second_order: whether what comes out can be differentiated with respect to ``start``, the dependence of the
            gradients included; otherwise it is a new beginning.

    Returns:
        The moved parameters; ``start`` stays as it is.

    >>> w = {"w": torch.tensor(1.0, requires_grad=True)}
    >>> moved = descend(lambda p: p["w"] ** 2, w, steps=1, lr=0.1)["w"]
    >>> round(moved.item(), 4), round(torch.autograd.grad(moved, w["w"])[0].item(), 4)
    (0.8, 0.8)
    """
    here = dict(start)
    for _ in range(steps):
        slopes = torch.autograd.grad(loss(here), list(here.values()), create_graph=second_order)
        here = {name: value - lr * slope for (name, value), slope in zip(here.items(), slopes, strict=True)}
        if not second_order:
            here = {name: value.detach().requires_grad_() for name, value in here.items()}
    return here


def draw_rows(n_way: int, n_rows: int, rng: torch.Generator) -> Tensor:
    """Draw at which row of a classifier each class of an episode begins: none twice while there are rows left.

    Args:
        n_way: classes of the episode.
        n_rows: of the classifier, as many as classes in training.
        rng: CPU generator of the episode.

    Returns:
        (n_way,) int64 in [0, n_rows).

    >>> draw_rows(7, 5, torch.Generator().manual_seed(0)).bincount().sort().values
    tensor([1, 1, 1, 2, 2])
    """
    return torch.randperm(n_rows, generator=rng)[torch.arange(n_way) % n_rows]


class ContextNorm(nn.BatchNorm2d):
    """Batch norm by the statistics of the first images alone, the context; without running ones.

    Bronskill et al. 2020 (arXiv:2003.03284) call it MetaBN: what the support is normalised by normalises a query too, so
    that queries do not depend on each other. Where no context is set, it is the whole batch.
    """

    n_context: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(b, C, h, w) → (b, C, h, w)."""
        context = x[: self.n_context]
        variance, mean = torch.var_mean(context, dim=(0, 2, 3), correction=0, keepdim=True)  # (1, C, 1, 1)
        scale = self.weight[:, None, None] * (variance + self.eps).rsqrt()
        return (x - mean) * scale + self.bias[:, None, None]


def use_context_norm(module: nn.Module) -> None:
    """Put a ``ContextNorm`` in the place of every 2-D batch norm of a module, in place."""
    for parent in list(module.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, _BatchNorm):
                setattr(parent, name, ContextNorm(layer.num_features, layer.eps, track_running_stats=False))


@contextmanager
def context_of(module: nn.Module, n: int | None) -> Iterator[None]:
    """Say how many of the images that pass through come first and are the context; None for all."""
    norms = [layer for layer in module.modules() if isinstance(layer, ContextNorm)]
    for layer in norms:
        layer.n_context = n
    try:
        yield
    finally:
        for layer in norms:
            layer.n_context = None
