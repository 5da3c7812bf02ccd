"""Batch normalisation by what passes through now, without a trace in the module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def batch_statistics(module: nn.Module) -> Iterator[None]:
    """Let every batch norm of a module use the statistics of its input in place of the running ones, which stay.

    What passes through together then depends on each other: a method whose queries do is ``transductive``.

    Args:
        module: in either mode; all else in it (dropout) stays in its own.
    """
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    before = [(layer.training, layer.track_running_stats) for layer in norms]
    for layer in norms:
        layer.training, layer.track_running_stats = True, False
    try:
        yield
    finally:
        for layer, (training, tracks) in zip(norms, before, strict=True):
            layer.training, layer.track_running_stats = training, tracks
