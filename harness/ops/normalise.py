"""Centring and length normalisation of features, batched over any leading axes."""

from __future__ import annotations

import torch
from torch import Tensor


def l2_normalise(x: Tensor, *, eps: float = 1e-12) -> Tensor:
    """Divide each vector by its Euclidean length, which is clamped below at ``eps``.

    Args:
        x: (..., D) float.
        eps: smallest length divided by, > 0; a zero vector stays zero.

    Returns:
        (..., D) of unit length, same dtype.

    >>> l2_normalise(torch.tensor([3.0, 4.0]))
    tensor([0.6000, 0.8000])
    """
    return torch.nn.functional.normalize(x, dim=-1, eps=eps)


def centre_and_normalise(x: Tensor, mean: Tensor) -> Tensor:
    """Subtract the base-class mean, then divide by the length (Wang et al. 2019, SimpleShot: "CL2N").

    Args:
        x: (..., D) float features.
        mean: (D,) mean feature of the base-class images.

    Returns:
        (..., D) of unit length.
    """
    return l2_normalise(x - mean)


def unit_products(gram: Tensor, *, eps: float = 1e-12) -> Tensor:
    """Inner products of the rows brought to unit length, from those of the rows: (..., n, n) → (..., n, n).

    >>> unit_products(torch.tensor([[4.0, 2.0], [2.0, 4.0]]))
    tensor([[1.0000, 0.5000],
            [0.5000, 1.0000]])
    """
    scale = 1 / gram.diagonal(dim1=-2, dim2=-1).clamp(min=eps**2).sqrt()  # (..., n)
    return gram * scale.unsqueeze(-1) * scale.unsqueeze(-2)
