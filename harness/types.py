"""What travels between the harness and a method: episodes as indices, supports and batches as tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch
    from torch import Tensor

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Episode:
    """One few-shot problem, as rows of an ImageStore; no pixels.

    Attributes:
        index: position in its list.
        n_way: number of classes in the label space.
        support: (n_support,) int64 rows, class-major in balanced episodes.
        support_label: (n_support,) int64 in [0, n_way).
        query: (n_query,) int64 rows.
        query_label: (n_query,) int64 in [0, n_way).
        classes: (n_way,) int64, the class of the store behind each label.
        n_base: labels below it are base classes (0 in episodic benchmarks).
    """

    index: int
    n_way: int
    support: IntArray
    support_label: IntArray
    query: IntArray
    query_label: IntArray
    classes: IntArray
    n_base: int = 0


@dataclass(frozen=True)
class EpisodeList(Sequence[Episode]):
    """A fixed list of balanced episodes, held as three arrays.

    Attributes:
        classes: (E, W) int64, the class of the store behind each label.
        support: (E, W, S) int64 rows of the store.
        query: (E, W, Q) int64 rows of the store, where Q is the number of queries per class.

    Any prefix of a list is the list of that length: ``episodes[:600]`` is the 600-episode list.
    """

    classes: IntArray
    support: IntArray
    query: IntArray

    def __post_init__(self) -> None:
        shapes = {self.classes.shape[:2], self.support.shape[:2], self.query.shape[:2]}
        if len(shapes) != 1 or self.support.ndim != 3 or self.query.ndim != 3:
            raise ValueError(f"classes, support and query disagree in (E, W): {sorted(shapes)}")

    @property
    def n_way(self) -> int:
        """Classes per episode."""
        return int(self.support.shape[1])

    @property
    def shot(self) -> int:
        """Support images per class."""
        return int(self.support.shape[2])

    @property
    def n_query(self) -> int:
        """Queries per episode (all classes together)."""
        return int(self.query.shape[1] * self.query.shape[2])

    @property
    def query_label(self) -> IntArray:
        """(n_query,) int64: the label of each query, class-major, the same in every episode."""
        return np.repeat(np.arange(self.n_way), self.query.shape[2])

    @property
    def digest(self) -> str:
        """sha256 over the shapes and the little-endian int64 bytes of classes, support and query."""
        digest = hashlib.sha256(b"fsbench episodes v1")
        for array in (self.classes, self.support, self.query):
            digest.update(str(array.shape).encode())
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return int(self.support.shape[0])

    @overload
    def __getitem__(self, index: int) -> Episode: ...
    @overload
    def __getitem__(self, index: slice) -> EpisodeList: ...
    def __getitem__(self, index: int | slice) -> Episode | EpisodeList:
        if isinstance(index, slice):
            return EpisodeList(self.classes[index], self.support[index], self.query[index])
        i = range(len(self))[index]
        return Episode(
            index=i,
            n_way=self.n_way,
            support=self.support[i].ravel(),
            support_label=np.repeat(np.arange(self.n_way), self.shot),
            query=self.query[i].ravel(),
            query_label=self.query_label,
            classes=self.classes[i],
        )

    def __iter__(self) -> Iterator[Episode]:
        return (self[i] for i in range(len(self)))

    def rows(self) -> IntArray:
        """Every row of the store that the list touches, sorted, each once."""
        return np.union1d(self.support, self.query)


@dataclass(frozen=True)
class Support:
    """What ``adapt`` sees of an episode.

    Attributes:
        x: (n_support, *F) features, or images when the method has no ``embed``.
        y: (n_support,) int64 in [0, n_way).
        n_way: number of classes.
        n_base: labels below it are base classes (0 in episodic benchmarks).
        rng: CPU generator, the only randomness allowed in ``adapt``; seeded by (run seed, episode).
    """

    x: Tensor
    y: Tensor
    n_way: int
    rng: torch.Generator
    n_base: int = 0

    def by_class(self) -> Tensor:
        """Group the support by class.

        Returns:
            (n_way, shot, *F), classes in label order, images in the order given.

        Raises:
            ValueError: when classes have different numbers of support images (joint protocol).
        """
        counts = self.y.bincount(minlength=self.n_way)
        if len(counts) != self.n_way or (counts != counts[0]).any():
            raise ValueError(
                f"classes have between {int(counts.min())} and {int(counts.max())} support images"
            )
        order = self.y.argsort(stable=True)
        return self.x[order].unflatten(0, (self.n_way, int(counts[0])))  # (W, S, *F)


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
