"""Several processes that train one method together, each on its part of every batch.

All draw the same global batches from the same stream and keep their own rows; each gradient is averaged over the processes
as soon as it is computed, before clipping, scaling and the optimiser's step, so a method's code is that of one process.
Batch statistics are those of a process's own rows; running statistics, validation and everything that is kept are those
of rank 0. This is what torch's DistributedDataParallel does, without its wrapper around ``forward``: methods call their
parts as they like, and classifiers made in ``fit_base`` take part too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, distributed

from harness.errors import ConfigError, PluginError


@dataclass
class World:
    """The processes of one training, as one of them sees them.

    Attributes:
        rank, size: this process, in [0, size).
    """

    rank: int = 0
    size: int = 1
    _shared: list[Tensor] = field(default_factory=list)

    @property
    def is_first(self) -> bool:
        """Whether this process writes, validates and reports."""
        return self.rank == 0

    def own(self, n: int) -> slice | None:
        """The rows of a global batch of n that are this process's: n // size of them.

        Where n does not divide, as at the end of a pass, the last rows are left out.

        Returns:
            None when a process would have fewer than two rows: their batch statistics are undefined.
        """
        each = n // self.size
        return slice(self.rank * each, (self.rank + 1) * each) if each > 1 else None

    def check_batches(self, size: int) -> None:
        """Refuse to train on batches that cannot be divided, or before gradients are shared.

        Raises:
            ConfigError: when the batch size is no multiple of the number of processes.
            PluginError: outside of ``ctx.epochs``.
        """
        if size % self.size:
            raise ConfigError(
                f"--gpus {self.size}: batches of {size} images cannot be divided among {self.size} processes; choose a "
                f"batch size that is a multiple of {self.size}."
            )
        if self.size > 1 and not self._shared:
            raise PluginError(
                f"--gpus {self.size}: this method trains before it opens `ctx.epochs(n, model=…, optimiser=…)`, which "
                "shares its gradients. Give every module and optimiser to ctx.epochs, or run with --gpus 1."
            )

    def refuse_episodes(self) -> None:
        """Refuse training episodes: their loss joins all images of an episode, so it cannot be divided.

        Raises:
            ConfigError: with more than one process.
        """
        if self.size > 1:
            raise ConfigError(
                f"--gpus {self.size}: this method trains on episodes, each of which one process must see whole; several "
                "processes divide the batches of methods that train by base.batches. Run it with --gpus 1."
            )

    def join(self, state: Mapping[str, Any]) -> None:
        """Start from the weights of rank 0, and average every gradient from now on.

        Args:
            state: modules and optimisers, as ``ctx.epochs`` was given them.
        """
        if self.size == 1:
            return
        known = {id(p) for p in self._shared}
        new = [p for p in _parameters(state.values()) if id(p) not in known]
        for parameter in new:
            _broadcast(parameter.data)
            if parameter.requires_grad:
                parameter.register_hook(self._averaged)
        self._shared += new
        self._share_buffers(state)

    def settle(self, state: Mapping[str, Any], rng: torch.Generator) -> None:
        """Take rank 0's buffers at the end of an epoch, and make sure that all are at the same point.

        Raises:
            PluginError: when weights or random states drifted apart.
        """
        if self.size == 1:
            return
        self._share_buffers(state)
        here = _fingerprint(self._shared, rng)
        first = here.clone()
        _broadcast(first)
        if not torch.equal(here, first):
            raise PluginError(
                f"--gpus {self.size}: the processes drifted apart in this epoch: the method changes weights that no "
                "optimiser of ctx.epochs holds, or draws other numbers for other images. Run it with --gpus 1."
            )

    def told(self, compute: Callable[[], float]) -> float:
        """A number that rank 0 computes and all use."""
        if self.size == 1:
            return compute()
        number = torch.tensor([compute() if self.is_first else 0.0], dtype=torch.float64, device=_device())
        distributed.broadcast(number, 0)
        return float(number)

    def _averaged(self, gradient: Tensor) -> Tensor:
        total = gradient.div(self.size).contiguous()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def _share_buffers(state: Mapping[str, Any]) -> None:
        for part in state.values():
            for buffer in part.buffers() if isinstance(part, torch.nn.Module) else ():
                _broadcast(buffer)


ALONE = World()


def _parameters(parts: Iterable[Any]) -> Iterator[Tensor]:
    """Every parameter of modules and optimisers, once."""
    seen: set[int] = set()
    for part in parts:
        found: list[Tensor] = []
        if isinstance(part, torch.nn.Module):
            found = list(part.parameters())
        elif isinstance(part, torch.optim.Optimizer):
            found = [p for group in part.param_groups for p in group["params"]]
        for parameter in found:
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield parameter


def _broadcast(tensor: Tensor) -> None:
    """Give everybody rank 0's values, whatever the strides."""
    if tensor.numel():
        dense = tensor.contiguous()
        distributed.broadcast(dense, 0)
        tensor.copy_(dense)


def _fingerprint(weights: Iterable[Tensor], rng: torch.Generator) -> Tensor:
    """Sums of weights and a digest of the random states, (n + 1,) float64 on the device of the collectives."""
    state = torch.cat([rng.get_state(), torch.get_rng_state()])
    digest = int(hashlib.sha256(state.numpy().tobytes()).hexdigest()[:12], 16)
    sums = [weight.detach().double().sum().to(_device()) for weight in weights]
    return torch.stack([*sums, torch.tensor(float(digest), dtype=torch.float64, device=_device())])


def _device() -> torch.device:
    """Where collectives work: NCCL moves what is on the GPU, gloo what is not."""
    on_gpu = distributed.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
