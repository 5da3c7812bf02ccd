"""What a protocol decides: how a list is predicted and counted, what is stored of it, and over what rows are paired.

One object each; everything else asks the object. ``harness.report`` reads what they say without loading torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from harness.benchmarks.episodes import AnyList, EpisodeList, JointList
from harness.evaluation import counting
from harness.runs.result import Counts, EpisodeTable

if TYPE_CHECKING:
    from harness.evaluation.features import Source

Predictions = npt.NDArray[np.int64]
AfterBatch = Callable[[int, Predictions], None]


class Protocol(ABC):
    """How a method is asked.

    Attributes:
        name: as benchmarks and methods write it.
        item: what one element of a list is called.
        unit: over what two rows are paired.
        metrics: names of all numbers of a run, in the order of the published tables.
        headlines: those that may rank a setting; the first that a run has does.
        has_pictures: whether an element is small enough to be shown as pictures.
    """

    name: ClassVar[str]
    item: ClassVar[str]
    unit: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    headlines: ClassVar[tuple[str, ...]]
    has_pictures: ClassVar[bool]

    @abstractmethod
    def predict(
        self,
        method: Any,
        asked: Any,
        source: Source,
        seed: int,
        first: int,
        after_batch: AfterBatch,
        at_once: int | None,
    ) -> Predictions:
        """Predict every query of a list.

        Args:
            method: fitted.
            asked: the list from position ``first`` on.
            source: features or images by row.
            seed: the run seed.
            first: position of its first element in the whole list.
            after_batch: told (position in ``asked``, predictions) after each batch.
            at_once: elements in one call of the method; None for as many as suit it.
        """

    @abstractmethod
    def at_once(self, method: Any, asked: Any, source: Source) -> int:
        """Elements in one call of the method."""

    @abstractmethod
    def counts(self, asked: Any, predictions: Predictions) -> dict[str, Counts]:
        """Count right predictions by metric."""

    @abstractmethod
    def table(self, asked: Any, names: tuple[str, ...], groups: tuple[str, ...]) -> EpisodeTable:
        """The list as it is stored, with the names and groups of the store's classes."""


class Episodic(Protocol):
    """Episodes of way × shot novel classes, each a problem of its own."""

    name, item, unit = "episodic", "episode", "episodes"
    metrics = headlines = ("top1",)
    has_pictures = True

    def predict(
        self, method: Any, asked: EpisodeList, source: Source, seed: int, first: int, after_batch: AfterBatch,
        at_once: int | None,
    ) -> Predictions:  # fmt: skip
        """(E, n_query) labels."""
        from harness.evaluation import predict

        return predict.predict(
            method, asked, source, seed, first=first, batch=at_once, after_batch=after_batch
        )

    def at_once(self, method: Any, asked: EpisodeList, source: Source) -> int:
        """As many as stay in the processor's cache, or what the method asks for."""
        from harness.evaluation import predict

        return predict.episodes_at_once(method, asked, source)

    def counts(self, asked: EpisodeList, predictions: Predictions) -> dict[str, Counts]:
        """The "top1" of each episode."""
        n_query = np.full(len(asked), asked.n_query, dtype=np.int64)
        dtype: type[np.unsignedinteger[Any]] = counting.smallest_dtype(asked.n_way)
        n_correct = counting.n_correct(predictions, asked.query_label)
        return {"top1": Counts(n_correct, n_query, predictions.astype(dtype))}

    def table(self, asked: EpisodeList, names: tuple[str, ...], groups: tuple[str, ...]) -> EpisodeTable:
        """Classes, support and queries of every episode."""
        classes, support, query = (a.astype(np.int32) for a in (asked.classes, asked.support, asked.query))
        return EpisodeTable(classes, support, query, names, groups)


class Joint(Protocol):
    """Base and novel classes in one label space (Hariharan and Girshick 2017): five experiments of the whole benchmark."""

    name, item, unit = "joint", "experiment", "classes"
    metrics = tuple(f"top{k}/{group}" for group in counting.GROUPS for k in counting.TOPS)
    headlines = ("top5/novel", "top1/novel")
    has_pictures = False

    def predict(
        self, method: Any, asked: JointList, source: Source, seed: int, first: int, after_batch: AfterBatch,
        at_once: int | None,
    ) -> Predictions:  # fmt: skip
        """(E, 2, n_query) labels, counted for top-1 and top-5."""
        from harness.evaluation import predict_jointly

        return predict_jointly.predict(method, asked, source, seed, first=first, after_batch=after_batch)

    def at_once(self, method: Any, asked: JointList, source: Source) -> int:
        """One; its queries are given in parts."""
        return 1

    def counts(self, asked: JointList, predictions: Predictions) -> dict[str, Counts]:
        """Six numbers of each experiment; the labels are kept with those over all classes."""
        dtype: type[np.unsignedinteger[Any]] = counting.smallest_dtype(asked.n_way)
        found = counting.joint_counts(predictions, asked.query_label, asked.n_base)
        kept = {f"top{k}/all": predictions[:, i].astype(dtype) for i, k in enumerate(counting.TOPS)}
        return {name: Counts(*counted, kept.get(name)) for name, counted in found.items()}

    def table(self, asked: JointList, names: tuple[str, ...], groups: tuple[str, ...]) -> EpisodeTable:
        """Classes asked and queries, which all experiments share, and the novel support of each."""
        shared = (np.broadcast_to(part, (len(asked), *part.shape)) for part in (asked.asked, asked.query))
        classes, query = (part.astype(np.int32) for part in shared)
        return EpisodeTable(classes, asked.support.astype(np.int32), query, names, groups)


EPISODIC, JOINT = Episodic(), Joint()
PROTOCOLS: Mapping[str, Protocol] = {protocol.name: protocol for protocol in (EPISODIC, JOINT)}


def protocol_of(asked: AnyList) -> Protocol:
    """The protocol of a list."""
    return JOINT if isinstance(asked, JointList) else EPISODIC


def protocol_of_metrics(metrics: tuple[str, ...]) -> Protocol:
    """The protocol of a stored run, by the names of its numbers; episodic where it has none."""
    return next((p for p in PROTOCOLS.values() if set(metrics) & set(p.metrics)), EPISODIC)
