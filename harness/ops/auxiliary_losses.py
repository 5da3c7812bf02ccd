"""Losses beside the cross-entropy of a base classifier, by name: what shrinks features or classifier gradients.

Hariharan and Girshick (2017, arXiv:1606.02819) train representations whose base classifier would hardly move if it saw
the examples again. A further loss is a function of (scores, features, weight, labels), registered by name::

    @auxiliary_loss("l1")
    def l1(scores, features, weight, labels):
        return features.abs().sum(1).mean()
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

AuxiliaryLoss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(n, K) scores, (n, D) features, (K, D) classifier weight, (n,) int64 labels → () loss; nothing is detached."""
AUXILIARY_LOSSES: dict[str, AuxiliaryLoss] = {}


def auxiliary_loss(name: str) -> Callable[[AuxiliaryLoss], AuxiliaryLoss]:
    """Register a loss under a name.

    Raises:
        ValueError: when another one has it.
    """

    def register(loss: AuxiliaryLoss) -> AuxiliaryLoss:
        if AUXILIARY_LOSSES.setdefault(name, loss) is not loss:
            raise ValueError(f"two auxiliary losses are called {name}")
        return loss

    return register


@auxiliary_loss("none")
def none(scores: Tensor, features: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Nothing: cross-entropy alone."""
    return scores.new_zeros(())


@auxiliary_loss("sgm")
def sgm(scores: Tensor, features: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Mean squared norm of the classifier's gradient at each example (squared gradient magnitude).

    The gradient at an example is the outer product of residual and feature, so its squared norm is a product too.
    """
    return (residuals(scores, labels).square().sum(1) * features.square().sum(1)).mean()


@auxiliary_loss("batchsgm")
def batch_sgm(scores: Tensor, features: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Squared norm of the classifier's gradient averaged over the batch."""
    mean_gradient = residuals(scores, labels).T @ features / len(features)  # (K, D)
    return mean_gradient.square().sum()


@auxiliary_loss("l2")
def l2(scores: Tensor, features: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Half the mean squared length of the features."""
    return features.square().sum(1).mean() / 2


def residuals(scores: Tensor, labels: Tensor) -> Tensor:
    """One-hot labels minus the soft-max of (n, K) scores: (n, K).

    >>> import torch
    >>> residuals(torch.zeros(1, 2), torch.tensor([0]))
    tensor([[ 0.5000, -0.5000]])
    """
    return functional.one_hot(labels, scores.shape[1]).to(scores.dtype) - scores.softmax(1)
