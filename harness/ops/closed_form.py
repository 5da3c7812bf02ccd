"""Linear classifiers of an episode in closed form, or at the optimum of a small quadratic programme, many at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_ROUNDS = 60  # of the interior-point method; 15 to 25 are taken
_GAP, _WRONG = 1e-15, 1e-9  # mean complementarity and largest residual at which it stops
_MOST_PAIRS = 20_000  # steps of sequential minimal optimisation


def ridge_scores(support: Tensor, target: Tensor, query: Tensor, ridge: float) -> Tensor:
    """Scores of ridge regression onto one-hot targets (Bertinetto et al. 2019, R2-D2, eq. 5), on the smaller side.

    Args:
        support: (E, n, D) float.
        target: (E, n, W) float, one-hot.
        query: (E, Q, D) float.
        ridge: λ > 0.

    Returns:
        (E, Q, W): q sᵀ (s sᵀ + λ)⁻¹ Y.
    """
    n, dim = support.shape[1:]
    if n <= dim:
        gram = support @ support.mT + ridge * torch.eye(n).to(support)
        return (query @ support.mT) @ torch.linalg.solve(gram, target)
    gram = support.mT @ support + ridge * torch.eye(dim).to(support)
    return query @ torch.linalg.solve(gram, support.mT @ target)


def crammer_singer_dual(kernel: Tensor, target: Tensor, c: float) -> Tensor:
    """Dual variables of the multi-class SVM of MetaOptNet (Lee et al. 2019, eq. 7 to 9), by an interior-point method.

    minimise ½ tr(Bᵀ (K + 1) B) − Σ Y·B subject to B ≤ c·Y and rows that sum to 0

    The identity beside the kernel belongs to the method. Mehrotra's predictor and corrector in float64; an episode that
    has arrived stays as it is.

    Args:
        kernel: (E, n, n) float, inner products of the support.
        target: (E, n, W) float, one-hot.
        c: bound, > 0.

    Returns:
        (E, n, W) float of the kernel's type.
    """
    n = kernel.shape[-1]
    quadratic = kernel.double() + torch.eye(n, dtype=torch.float64, device=kernel.device)
    y = target.double().mT  # (E, W, n)
    b, slack, dual = torch.zeros_like(y), c * torch.ones_like(y), torch.ones_like(y)
    multiplier = y.new_zeros(len(y), n)  # (E, n), of the sums of rows
    is_open = torch.ones(len(y), 1, 1, dtype=torch.bool, device=y.device)
    for _ in range(_ROUNDS):
        off = b @ quadratic - y + dual + multiplier.unsqueeze(1)  # from stationarity
        apart = b + slack - c * y  # from the bounds
        gap = (slack * dual).mean((1, 2), keepdim=True)  # (E, 1, 1)
        wrong = torch.maximum(off.abs(), apart.abs()).amax((1, 2), keepdim=True)
        is_open = is_open & ((gap > _GAP) | (wrong > _WRONG))
        if not bool(is_open.any()):
            break
        newton = _Newton.of(quadratic, slack, dual, off, apart, b.sum(1))
        ahead = newton.step(slack * dual)
        reached = (slack + _length(slack, ahead.slack, 1.0) * ahead.slack) * (
            dual + _length(dual, ahead.dual, 1.0) * ahead.dual
        )
        centre = (reached.mean((1, 2), keepdim=True) / gap.clamp(min=1e-300)) ** 3 * gap
        move = newton.step(slack * dual + ahead.slack * ahead.dual - centre)
        length = torch.minimum(_length(slack, move.slack, 0.99), _length(dual, move.dual, 0.99))
        b = torch.where(is_open, b + length * move.b, b)
        slack = torch.where(is_open, slack + length * move.slack, slack)
        dual = torch.where(is_open, dual + length * move.dual, dual)
        multiplier = torch.where(
            is_open.squeeze(1), multiplier + length.squeeze(1) * move.multiplier, multiplier
        )
    return b.mT.to(kernel)


class _Step(NamedTuple):
    """A step of all unknowns: (E, W, n) each, ``multiplier`` (E, n)."""

    b: Tensor
    slack: Tensor
    dual: Tensor
    multiplier: Tensor


class _Newton(NamedTuple):
    """The linear system of one round: classes apart, coupled by the sums of rows."""

    slack: Tensor
    dual: Tensor
    off: Tensor
    apart: Tensor
    sums: Tensor
    inverse: Tensor
    coupling: Tensor

    @classmethod
    def of(
        cls, quadratic: Tensor, slack: Tensor, dual: Tensor, off: Tensor, apart: Tensor, sums: Tensor
    ) -> _Newton:
        inverse = _inverse(quadratic.unsqueeze(1) + torch.diag_embed(dual / slack))  # (E, W, n, n)
        return cls(slack, dual, off, apart, sums, inverse, _inverse(inverse.sum(1)))

    def step(self, product: Tensor) -> _Step:
        """Towards slack·dual − product = 0, to first order."""
        pull = (product - self.dual * self.apart) / self.slack - self.off  # (E, W, n)
        free = (self.inverse @ pull.unsqueeze(-1)).squeeze(-1)
        multiplier = (self.coupling @ (free.sum(1) + self.sums).unsqueeze(-1)).squeeze(-1)  # (E, n)
        b = free - (self.inverse @ multiplier[:, None, :, None]).squeeze(-1)
        slack = -self.apart - b
        return _Step(b, slack, (-product - self.dual * slack) / self.slack, multiplier)


def _inverse(positive: Tensor) -> Tensor:
    return torch.cholesky_inverse(torch.linalg.cholesky(positive))


def _length(value: Tensor, step: Tensor, share: float) -> Tensor:
    """How far a step may go until a positive value is 0, times a share; at most 1: (E, 1, 1)."""
    limit = torch.where(step < 0, -value / step, torch.inf).amin((1, 2), keepdim=True)
    return (share * limit).clamp(max=1.0)


class PairwiseSvm(NamedTuple):
    """A linear support vector machine for every pair of classes, (0, 1), (0, 2), …, (1, 2), ….

    Attributes:
        coefficient: (E, P, n) of the support.
        bias: (E, P).
    """

    coefficient: Tensor
    bias: Tensor

    def margins(self, kernel: Tensor) -> Tensor:
        """(E, Q, n) inner products of queries with the support → (E, Q, P); positive is for the first of a pair."""
        return kernel @ self.coefficient.mT.to(kernel) + self.bias.unsqueeze(1).to(kernel)


def pairs_of(n_way: int) -> Tensor:
    """All pairs of classes, (P, 2) int64."""
    return torch.triu_indices(n_way, n_way, 1).T


def votes_of(margins: Tensor, n_way: int) -> Tensor:
    """One vote a pair: margins (..., P) → (..., W); the first of a pair needs a margin above 0."""
    first, second = (
        torch.nn.functional.one_hot(c, n_way).to(margins) for c in pairs_of(n_way).to(margins.device).T
    )
    return (margins > 0).to(margins) @ first + (margins <= 0).to(margins) @ second


def pairwise_svm(kernel: Tensor, n_way: int, c: float = 1.0, tolerance: float = 1e-7) -> PairwiseSvm:
    """Fit them by sequential minimal optimisation with second-order pairs (Fan, Chen and Lin 2005), as libsvm does.

    Args:
        kernel: (E, n, n) float, inner products of a support in class order, as many of every class.
        n_way: number of classes W, ≥ 2.
        c: bound of a coefficient, > 0.
        tolerance: largest violation at which a machine stops.
    """
    n, shot, pairs = kernel.shape[-1], kernel.shape[-1] // n_way, pairs_of(n_way).to(kernel.device)
    rows = (pairs.unsqueeze(-1) * shot + torch.arange(shot, device=kernel.device)).flatten(1)  # (P, 2S)
    k = kernel.double()[:, rows.unsqueeze(2), rows.unsqueeze(1)]  # (E, P, 2S, 2S)
    y = torch.ones(2 * shot, dtype=torch.float64, device=kernel.device)
    y[shot:] = -1
    signed, violation = _optimise(k, y, c, tolerance)  # y·α and y·(1 − Qα), (E, P, 2S)
    alpha = signed * y
    is_free = (alpha > 1e-9 * c) & (alpha < (1 - 1e-9) * c)
    may_rise, may_fall = _open_sides(alpha, y, c)
    upper = violation.masked_fill(~may_rise, -torch.inf).amax(-1)
    lower = violation.masked_fill(~may_fall, torch.inf).amin(-1)
    mean = (violation * is_free).sum(-1) / is_free.sum(-1).clamp(min=1)
    bias = torch.where(is_free.any(-1), mean, (upper + lower) / 2)
    coefficient = signed.new_zeros(*signed.shape[:2], n).scatter_(2, rows.expand_as(signed), signed)
    return PairwiseSvm(coefficient, bias)


def _open_sides(alpha: Tensor, y: Tensor, c: float) -> tuple[Tensor, Tensor]:
    """Whether y·α may rise and fall within 0 ≤ α ≤ c, (…, m) bool each."""
    below, above = alpha < c, alpha > 0
    return torch.where(y > 0, below, above), torch.where(y > 0, above, below)


def _optimise(k: Tensor, y: Tensor, c: float, tolerance: float) -> tuple[Tensor, Tensor]:
    """Maximise Σα − ½ (yα)ᵀ K (yα); returns y·α and its gradient y·(1 − Qα), (E, P, m) each."""
    signed, violation = torch.zeros_like(k[..., 0]), y.expand_as(k[..., 0]).clone()
    diagonal = k.diagonal(dim1=-2, dim2=-1)  # (E, P, m)
    for round_ in range(_MOST_PAIRS):
        may_rise, may_fall = _open_sides(signed * y, y, c)
        up = violation.masked_fill(~may_rise, -torch.inf)
        i = up.argmax(-1, keepdim=True)  # (E, P, 1)
        most = up.gather(-1, i)
        row = k.gather(-2, i.unsqueeze(-1).expand(*i.shape, k.shape[-1])).squeeze(-2)  # (E, P, m)
        curve = (diagonal.gather(-1, i) + diagonal - 2 * row).clamp(min=1e-12)
        distance = (most - violation).masked_fill(~may_fall, -torch.inf)
        gain = torch.where(distance > 0, distance.square() / curve, -torch.inf)
        j = gain.argmax(-1, keepdim=True)
        is_open = distance.amax(-1, keepdim=True) > tolerance
        if round_ % 8 == 0 and not bool(is_open.any()):
            break
        other = k.gather(-2, j.unsqueeze(-1).expand(*j.shape, k.shape[-1])).squeeze(-2)
        room_i = torch.where(y[i] > 0, c - signed.gather(-1, i), -signed.gather(-1, i))
        room_j = torch.where(y[j] > 0, signed.gather(-1, j), c + signed.gather(-1, j))
        step = torch.minimum(distance.gather(-1, j) / curve.gather(-1, j), torch.minimum(room_i, room_j))
        step = torch.where(is_open, step, 0.0)
        signed = signed.scatter_add(-1, i, step).scatter_add(-1, j, -step)
        violation = violation - step * (row - other)
    return signed, violation
