"""What a training takes, counted by the harness as batches and episodes leave it: images, steps, multiplications."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Effort:
    """Counts one training.

    FLOP are those of matrix products and convolutions, forward and backward, two for each multiplication with its
    addition. They are counted over one whole step and scaled by images, since counting every step would slow them all.

    Attributes:
        images: training images seen, each as often as it was drawn; a crop of several counts as one.
        steps: optimiser steps.
    """

    def __init__(self, n_processes: int = 1, counts_flop: bool = True) -> None:
        """Start at nothing.

        Args:
            n_processes: that share every batch, of which this one counts its part of the FLOP.
            counts_flop: False where compiled kernels hide what they multiply.
        """
        self.images, self.steps = 0, 0
        self._n_processes, self._counts_flop = n_processes, counts_flop
        self._flop_per_image: float | None = None
        self._counter: _Counter | None = None
        self._first = 0  # images before the step that is counted

    def step(self) -> None:
        """Count a step; the FLOP of the one after the first that is not cut off by an epoch's end or a validation."""
        self.steps += 1
        if self._counter is not None:
            flop, n_images = self._counter.flop, self.images - self._first
            self.pause()
            if n_images:
                self._flop_per_image = self._n_processes * flop / n_images
        elif self._counts_flop and self._flop_per_image is None:
            self._counter, self._first = _Counter(), self.images
            self._counter.__enter__()  # type: ignore[no-untyped-call]

    def pause(self) -> None:
        """Give up the step that is being counted: what follows is no part of it."""
        if self._counter is not None:
            self._counter.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._counter = None

    def state(self) -> dict[str, Any]:
        """What goes into a checkpoint."""
        return {"images": self.images, "steps": self.steps, "flop_per_image": self._flop_per_image}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.images, self.steps, self._flop_per_image = (
            state[name] for name in ("images", "steps", "flop_per_image")
        )

    def record(self) -> dict[str, Any]:
        """Images, steps and FLOP as JSON types; FLOP are None where no step was counted."""
        flop = None if self._flop_per_image is None else round(self._flop_per_image * self.images)
        return {"images": self.images, "steps": self.steps, "flop": flop}


class _Counter(TorchDispatchMode):
    """Adds up the FLOP of what passes by; changes nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flop = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        out = func(*args, **given)
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.flop += int(count(*args, **given, out_val=out))
        return out
