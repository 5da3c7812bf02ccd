"""What ``adapt`` and ``predict_batch`` are given of an episode: tensors, and the generator of its randomness."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harness.method.trainable import Module


@dataclass(frozen=True)
class BaseSupport:
    """The training images of the base classes in an experiment of the joint protocol, gathered when asked for.

    Attributes:
        y: (N,) int64 labels in [0, n_base), ascending, on the device of the features.
        gather: (b,) positions in [0, N) on the CPU → (b, *F).
    """

    y: Tensor
    gather: Callable[[Tensor], Tensor]

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: Tensor) -> Tensor:
        """Positions (b,) int64 in [0, N) → (b, *F) features, or images when the method has no ``embed``."""
        return self.gather(index.cpu())


@dataclass(frozen=True)
class Support:
    """What ``adapt`` sees of an episode.

    In the joint protocol ``x`` and ``y`` are the few images of the novel classes, and the many of the base classes
    are in ``base``, gathered when asked for; ``batches`` goes over both. In the closed-set protocol all classes are base
    classes, in the label order of ``fit_base``: ``x`` is empty, and ``base`` has their training images.

    Attributes:
        x: (n_support, *F) features, or images when the method has no ``embed``: in [0, 1], or normalised as in training where
            it ``takes`` "images".
        y: (n_support,) int64 in [0, n_way).
        n_way: number of classes; in the joint protocol of all labels, some without support.
        n_base: labels below it are base classes (0 in episodic benchmarks).
        rng: CPU generator, the only randomness allowed in ``adapt``; seeded by (run seed, episode).
        base: the base classes' training images; None in episodic benchmarks.
    """

    x: Tensor
    y: Tensor
    n_way: int
    rng: torch.Generator
    n_base: int = 0
    base: BaseSupport | None = None

    def batches(self, size: int = 1024) -> Iterator[tuple[Tensor, Tensor]]:
        """Go once over all support, base classes included.

        Args:
            size: images per batch of the base classes.

        Yields:
            x (b, *F), y (b,); a whole episode at once where there is no ``base``.
        """
        n_base = len(self.base) if self.base else 0
        for start in range(0, n_base, size):
            assert self.base is not None
            stop = min(start + size, n_base)
            yield self.base.take(_positions(start, stop)), self.base.y[start:stop]
        yield self.x, self.y

    def trainable(self, module: Module, *, training: bool = False) -> AbstractContextManager[Module]:
        """Open a copy of a part of the method for gradients, as ``harness.method.trainable`` says."""
        from harness.method.trainable import trainable

        return trainable(module, self.rng, training=training)

    @property
    def is_closed(self) -> bool:
        """Whether the classes are those that the method was trained on, all of them."""
        return self.n_base == self.n_way

    def gathered(self) -> tuple[Tensor, Tensor]:
        """All support at once, base classes included: x (N, *F), y (N,)."""
        import torch

        x, y = zip(*self.batches(), strict=True)
        return torch.cat(x), torch.cat(y)

    def by_class(self) -> Tensor:
        """Group the support by class.

        Returns:
            (n_way, shot, *F), classes in label order, images in the order given.

        Raises:
            ValueError: when classes have different numbers of support images, or those of base classes are apart.
        """
        counts = self.y.bincount(minlength=self.n_way)
        if len(counts) != self.n_way or (counts != counts[0]).any() or not counts[0]:
            raise ValueError(
                f"classes have between {int(counts.min())} and {int(counts.max())} support images; use x and y, and "
                "batches() or gathered() for those of base classes"
            )
        order = self.y.argsort(stable=True)
        return self.x[order].unflatten(0, (self.n_way, int(counts[0])))  # (W, S, *F)


def _positions(start: int, stop: int) -> Tensor:
    import torch  # the types alone do not need it

    return torch.arange(start, stop)


@dataclass(frozen=True)
class EpisodeBatch:
    """Several balanced episodes at once, for ``predict_batch``.

    Attributes:
        support: (E, n_way, shot, *F) features.
        query: (E, n_query, *F) features.
        rng: one CPU generator per episode, made when it is asked for.
    """

    support: Tensor
    query: Tensor
    rng: Sequence[torch.Generator]

    @property
    def n_way(self) -> int:
        """Classes per episode."""
        return self.support.shape[1]
