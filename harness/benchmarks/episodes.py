"""Episodes as indices: what is asked, as rows of an image store; no pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import numpy.typing as npt

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
    """A fixed list of episodes with equally many support images of each class, held as three arrays.

    A class may have fewer queries than there are places for; the places left over are at its end and hold -1. In a
    balanced list every place is taken.

    Attributes:
        classes: (E, W) int64, the class of the store behind each label.
        support: (E, W, S) int64 rows of the store.
        query: (E, W, Q) int64 rows of the store, where Q is the number of places for queries of a class; -1 where empty.

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
        """Places for queries per episode, all classes together; in balanced lists all are taken."""
        return int(self.query.shape[1] * self.query.shape[2])

    @property
    def n_asked(self) -> IntArray:
        """(E,) int64: the queries of each episode, at most ``n_query``."""
        return np.count_nonzero(self.query >= 0, axis=(1, 2))

    @property
    def query_label(self) -> IntArray:
        """(E, n_query) int64: the label of each query, class-major; -1 at a place without one."""
        return label_queries(self.query, np.arange(self.n_way))

    @property
    def predicted_shape(self) -> tuple[int, ...]:
        """Shape of one episode's predictions: a label for each place; 0 at a place without a query."""
        return (self.n_query,)

    @property
    def digest(self) -> str:
        """sha256 over the shapes and the little-endian int64 bytes of classes, support and query."""
        return _sha256(b"fsbench episodes v1", self.classes, self.support, self.query)

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
        label, row = np.nonzero(self.query[i] >= 0)
        return Episode(
            index=i,
            n_way=self.n_way,
            support=self.support[i].ravel(),
            support_label=np.repeat(np.arange(self.n_way), self.shot),
            query=self.query[i][label, row],
            query_label=label,
            classes=self.classes[i],
        )

    def __iter__(self) -> Iterator[Episode]:
        return (self[i] for i in range(len(self)))

    def rows(self) -> IntArray:
        """Every row of the store that the list touches, sorted, each once."""
        found = np.union1d(self.support, self.query)
        return found[found >= 0]


def label_queries(query: npt.NDArray[np.integer[Any]], label: IntArray) -> IntArray:
    """What is right at each place for a query.

    Args:
        query: (E, W, Q) int rows, -1 at a place without a query.
        label: (W,) int64, the label of each class.

    Returns:
        (E, W·Q) int64, class-major, -1 at a place without a query; read-only and of one row's memory where none is.
    """
    places = np.repeat(label, query.shape[2])  # (W·Q,)
    flat = query.reshape(len(query), len(places))
    if flat.min(initial=0) >= 0:
        return np.broadcast_to(places, flat.shape)
    return np.where(flat >= 0, places, -1)


@dataclass(frozen=True)
class JointList(Sequence[Episode]):
    """The experiments of the joint protocol: base and novel classes asked together, in one label space.

    Labels are the classes of the store, base classes first. Training images of the base classes and the queries
    are the same in every experiment; what is drawn is the n support images of each novel class.

    Attributes:
        n_way: labels in all; those of the half that is not asked have neither support nor queries.
        n_base: labels below it are base classes.
        asked: (A,) int64 labels that have queries, ascending, so base classes first.
        base: (N,) int64 rows, every training image of the base classes asked.
        base_label: (N,) int64 label of each.
        support: (E, C, S) int64 rows, S images of each novel class asked, the last C of ``asked``.
        query: (A, Q) int64 rows, the held-out images of each class asked.
    """

    n_way: int
    n_base: int
    asked: IntArray
    base: IntArray
    base_label: IntArray
    support: IntArray
    query: IntArray

    @property
    def shot(self) -> int:
        """Support images per novel class."""
        return int(self.support.shape[2])

    @property
    def novel(self) -> IntArray:
        """(C,) int64: the novel labels asked."""
        return self.asked[len(self.asked) - self.support.shape[1] :]

    @property
    def n_query(self) -> int:
        """Queries per experiment."""
        return int(self.query.size)

    @property
    def query_label(self) -> IntArray:
        """(n_query,) int64: the label of each query, class-major, the same in every experiment."""
        return np.repeat(self.asked, self.query.shape[1])

    @property
    def predicted_shape(self) -> tuple[int, ...]:
        """Shape of one experiment's predictions: the label counted for top-1 and for top-5, per query."""
        return (2, self.n_query)

    @property
    def digest(self) -> str:
        """sha256 over the label space and the shapes and bytes of all rows."""
        size = np.array([self.n_way, self.n_base])
        parts = (self.asked, self.base, self.base_label, self.support, self.query)
        return _sha256(b"fsbench experiments v1", size, *parts)

    def __len__(self) -> int:
        return int(self.support.shape[0])

    @overload
    def __getitem__(self, index: int) -> Episode: ...
    @overload
    def __getitem__(self, index: slice) -> JointList: ...
    def __getitem__(self, index: int | slice) -> Episode | JointList:
        if isinstance(index, slice):
            return replace(self, support=self.support[index])
        i = range(len(self))[index]
        return Episode(
            index=i,
            n_way=self.n_way,
            support=np.concatenate([self.base, self.support[i].ravel()]),
            support_label=np.concatenate([self.base_label, np.repeat(self.novel, self.shot)]),
            query=self.query.ravel(),
            query_label=self.query_label,
            classes=np.arange(self.n_way),
            n_base=self.n_base,
        )

    def __iter__(self) -> Iterator[Episode]:
        return (self[i] for i in range(len(self)))

    def rows(self) -> IntArray:
        """Every row of the store that the list touches, sorted, each once."""
        return np.unique(np.concatenate([self.base, self.support.ravel(), self.query.ravel()]))


@dataclass(frozen=True)
class ClosedList(Sequence[Episode]):
    """The test images of the closed-set protocol, one an element, in an order that says nothing about their classes.

    All classes are base classes: their training images are what a method may adapt to, the same for every element.

    Attributes:
        n_way: classes.
        base: (N,) int64 rows, every training image, by label.
        base_label: (N,) int64 label of each, ascending.
        classes: (E, 1) int64, the class of each test image, which is its label.
        query: (E, 1, 1) int64, its row.

    Any prefix of a list is the list of that length, a random part of the test images.
    """

    n_way: int
    base: IntArray
    base_label: IntArray
    classes: IntArray
    query: IntArray

    shot = 0  # images drawn for an element
    n_query = 1  # of an element

    @property
    def support(self) -> IntArray:
        """(E, 0, 0) int64: nothing is drawn for an element."""
        return np.empty((len(self), 0, 0), dtype=np.int64)

    @property
    def query_label(self) -> IntArray:
        """(E, 1) int64: the label of each test image."""
        return self.classes

    @property
    def predicted_shape(self) -> tuple[int, ...]:
        """Shape of one element's predictions: a label."""
        return (1,)

    @property
    def digest(self) -> str:
        """sha256 over the number of classes and the shapes and bytes of all rows and labels."""
        parts = (self.base, self.base_label, self.classes, self.query)
        return _sha256(b"fsbench test images v1", np.array([self.n_way]), *parts)

    def __len__(self) -> int:
        return int(self.query.shape[0])

    @overload
    def __getitem__(self, index: int) -> Episode: ...
    @overload
    def __getitem__(self, index: slice) -> ClosedList: ...
    def __getitem__(self, index: int | slice) -> Episode | ClosedList:
        if isinstance(index, slice):
            return replace(self, classes=self.classes[index], query=self.query[index])
        i = range(len(self))[index]
        return Episode(
            index=i,
            n_way=self.n_way,
            support=self.base,
            support_label=self.base_label,
            query=self.query[i].ravel(),
            query_label=self.classes[i],
            classes=np.arange(self.n_way),
            n_base=self.n_way,
        )

    def __iter__(self) -> Iterator[Episode]:
        return (self[i] for i in range(len(self)))

    def rows(self) -> IntArray:
        """Every row of the store that the list touches, sorted, each once."""
        return np.union1d(self.base, self.query)


AnyList = EpisodeList | JointList | ClosedList


def _sha256(rule: bytes, *arrays: IntArray) -> str:
    digest = hashlib.sha256(rule)
    for array in arrays:
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    return digest.hexdigest()
