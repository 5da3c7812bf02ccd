"""A copy of a frozen module that an episode may train: gradients on, randomness its own, nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


@contextmanager
def trainable(module: Module, rng: torch.Generator, *, training: bool = False) -> Iterator[Module]:
    """Open a copy of a module for an optimisation inside ``adapt`` or ``predict``, where gradients are off.

    Inside the block gradients are on, and what draws from torch's global generator (dropout, fresh layers) draws from one
    that ``rng`` seeds, so that an episode has the same numbers wherever it is evaluated. Behind it the copy is frozen and
    in evaluation mode; the module itself never changes. For losses of losses take the parameters of the copy and
    ``torch.func.functional_call``.

    Args:
        module: a part of the method, or all of it.
        rng: of the episode (``support.rng``); one number is drawn from it.
        training: whether the copy is in training mode: batch statistics of what passes through it, which makes a method
            whose queries pass through it ``transductive``.

    Yields:
        The copy; every parameter takes gradients.
    """
    copy = deepcopy(module).requires_grad_().train(training)
    device = next((p.device for p in copy.parameters()), torch.device("cpu"))
    seed = int(torch.randint(2**62, (), generator=rng))
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        torch.manual_seed(seed)
        yield copy
    copy.requires_grad_(False).eval()
