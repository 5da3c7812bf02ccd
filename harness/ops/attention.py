"""Attention in an episode: over a support set in full context (Vinyals et al. 2016, arXiv:1606.04080), among class means.

In full context support features are encoded as one sequence by a bidirectional LSTM, so their order matters: keep it fixed (by class).
Queries read the encoded support several times. A label's probability is the attention that its support has.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

N_READS = 5  # of the support by a query


class ContextEncoder(nn.Module):
    """Encodes support and queries in the context of the support.

    Args:
        dim: D of a feature.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query_cell = nn.LSTMCell(2 * dim, dim)
        self.support_lstm = nn.LSTM(dim, dim, batch_first=True, bidirectional=True)

    def support(self, x: Tensor) -> Tensor:
        """Add to each feature the forward and the backward state: (E, n, D) → (E, n, D)."""
        states, _ = self.support_lstm(x)  # (E, n, 2·D)
        forward, backward = states.chunk(2, dim=-1)
        return x + forward + backward

    def query(self, x: Tensor, support: Tensor, n_reads: int = N_READS) -> Tensor:
        """Let queries read the encoded support.

        Args:
            x: (E, Q, D) features.
            support: (E, n, D) encoded.
            n_reads: ≥ 0.

        Returns:
            (E, Q, D).
        """
        flat = x.flatten(0, 1)  # (E·Q, D)
        hidden, cell = flat, torch.zeros_like(flat)
        for _ in range(n_reads):
            attention = (hidden.unflatten(0, x.shape[:2]) @ support.mT).softmax(-1)  # (E, Q, n)
            read = (attention @ support).flatten(0, 1)  # (E·Q, D)
            hidden, cell = self.query_cell(torch.cat([flat, read], 1), (hidden, cell))
            hidden = hidden + flat
        return hidden.unflatten(0, x.shape[:2])


class SetAttention(nn.Module):
    """Lets the members of a set look at each other: FEAT's set-to-set function (Ye et al. 2020, arXiv:1812.03664, eq. 5-7).

    One head of attention, a linear layer, and layer norm of the sum with what came in. The names of its tensors are those
    of the authors' code.

    Args:
        dim: D of a member.
        dropout: share of attention weights, and of what the linear layer gives, that is dropped in training, in [0, 1).
    """

    def __init__(self, dim: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.w_qs, self.w_ks, self.w_vs = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.fc, self.layer_norm, self.dropout = nn.Linear(dim, dim), nn.LayerNorm(dim), nn.Dropout(dropout)
        for layer in (self.w_qs, self.w_ks, self.w_vs):
            nn.init.normal_(layer.weight, std=dim**-0.5)
        nn.init.xavier_normal_(self.fc.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(..., n, D) → (..., n, D); the order of the members does not matter."""
        logits = self.w_qs(x) @ self.w_ks(x).mT / x.shape[-1] ** 0.5  # (..., n, n)
        read = self.dropout(logits.softmax(-1)) @ self.w_vs(x)  # (..., n, D)
        found: Tensor = self.layer_norm(self.dropout(self.fc(read)) + x)
        return found


def row_normalised(support: Tensor, eps: float = 1e-5) -> Tensor:
    """Divide each support vector (..., D) by its length plus ``eps``; queries keep their length."""
    return support / (support.norm(dim=-1, keepdim=True) + eps)


def attention_scores(query: Tensor, support: Tensor, label: Tensor, n_way: int) -> Tensor:
    """Log of the attention that the support of each label has.

    Args:
        query: (E, Q, D) encoded queries.
        support: (E, n, D) encoded support, of which only this side is normalised (``row_normalised``).
        label: (E, n) int64 in [0, n_way).
        n_way: number of labels W.

    Returns:
        (E, Q, W) log-probabilities; minus infinity where a label has no support.

    >>> one = torch.ones(1, 2, 1)
    >>> attention_scores(one, one, torch.tensor([[0, 1]]), 2).exp()[0, 0]
    tensor([0.5000, 0.5000])
    """
    logits = query @ support.mT  # (E, Q, n)
    where = label.unsqueeze(1).expand_as(logits)
    shape = (*logits.shape[:2], n_way)
    highest = logits.new_full(shape, -torch.inf).scatter_reduce(
        2, where, logits.detach(), "amax"
    )  # (E, Q, W)
    offset = highest.where(highest > -torch.inf, 0.0)
    total = logits.new_zeros(shape).scatter_add(2, where, (logits - offset.gather(2, where)).exp())
    return total.log() + offset - logits.logsumexp(2, keepdim=True)


def plain_attention_scores(query: Tensor, support: Tensor, label: Tensor, n_way: int) -> Tensor:
    """Sum of the products of a query with each label's support vectors, without soft-max.

    The form of the matching network beside FEAT (Ye et al. 2020, arXiv:1812.03664); arguments as of
    ``attention_scores``.
    """
    logits = query @ support.mT  # (E, Q, n)
    where = label.unsqueeze(1).expand_as(logits)
    return logits.new_zeros(*logits.shape[:2], n_way).scatter_add(2, where, logits)
