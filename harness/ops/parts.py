"""Episodes a few at a time, so that what is read again and again stays in the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

_NEAR_BYTES = 2**20


def cached_parts(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split tensors (E, …) along their first axis into parts that together take about a megabyte; at least one episode.

    >>> import torch
    >>> [part.shape[0] for part, _ in cached_parts(torch.zeros(5, 2**17), torch.zeros(5, 1))]
    [1, 1, 1, 1, 1]
    """
    n_bytes = sum(t.nbytes for t in tensors) // max(1, len(tensors[0]))
    at_once = max(1, _NEAR_BYTES // max(1, n_bytes))
    yield from zip(*(t.split(at_once) for t in tensors), strict=True)
