"""What a protocol decides: how a list is predicted and counted, what is stored of it, and what its numbers are called.

One object each; everything else asks the object. What they say is read without loading torch, which only predicting needs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from harness.benchmarks.episodes import AnyList, ClosedList, EpisodeList, IntArray, JointList
from harness.evaluation import counting
from harness.method import AdaptsTogether, Batched, traits
from harness.method.support import BaseSupport, EpisodeBatch, Support
from harness.runs.result import Counts, EpisodeTable
from harness.seeding import stream, torch_generator

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harness.evaluation.features import Source

Predictions = npt.NDArray[np.int64]
GATHERED_BYTES = 13 * 2**20  # of features gathered at once: small chunks stay in the processor's cache
AT_ONCE = 64  # episodes at most, unless a method asks for more
_ORDER_STREAM = stream(0, "query order")


class Protocol(ABC):
    """How a method is asked.

    Attributes:
        name: as benchmarks and methods write it.
        item: what one element of a list is called; two rows are paired over them.
        metrics: names of all numbers of a run, in the order of the published tables.
        headlines: those that may rank a setting; the first that a run has does.
        is_episodic: whether an element is small: a problem of a few classes that has pictures and a hardness of its own.
        is_grouped: whether its numbers are of groups of classes, each over the queries of its own.
    """

    name: ClassVar[str]
    item: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    headlines: ClassVar[tuple[str, ...]]
    is_episodic: ClassVar[bool]
    is_grouped: ClassVar[bool] = False

    def predict(
        self, method: Any, asked: Any, source: Source, seed: int, *, first: int = 0, at_once: int | None = None,
        after_batch: Callable[[int, Predictions], None] | None = None,
    ) -> Predictions:  # fmt: skip
        """Predict every query of a list.

        The queries of an element reach the method in an order of their own, so that it says nothing about labels.

        Args:
            method: fitted; ``predict_batch`` is used where there is one.
            asked: E elements, the list from position ``first`` on.
            source: features or images by row.
            seed: the run seed, from which the generator of each element comes.
            first: position of ``asked[0]`` in the whole list.
            at_once: elements in one call of the method; changes no prediction.
            after_batch: told (position in ``asked``, predictions) after each of them.

        Returns:
            (E, *asked.predicted_shape) int64 labels in [0, n_way), in the order of the list.

        Raises:
            PluginError: when scores have the wrong shape or type, are not finite, or an input was changed.
        """
        import torch

        predictions = np.empty((len(asked), *asked.predicted_shape), dtype=np.int64)
        at_once = at_once or self.at_once(method, asked, source)
        with torch.no_grad():
            for start in range(0, len(asked), at_once):
                here = predictions[start : start + at_once]
                here[:] = self._predict(method, asked[start : start + at_once], source, seed, first + start)
                if after_batch:
                    after_batch(start, here)
        return predictions

    @abstractmethod
    def at_once(self, method: Any, asked: Any, source: Source) -> int:
        """Elements in one call of the method, at least 1."""

    @abstractmethod
    def counts(self, asked: Any, predictions: Predictions) -> dict[str, Counts]:
        """Count right predictions by metric."""

    @abstractmethod
    def table(self, asked: Any, names: tuple[str, ...], groups: tuple[str, ...]) -> EpisodeTable:
        """The list as it is stored, with the names and groups of the store's classes."""

    @abstractmethod
    def _predict(self, method: Any, asked: Any, source: Source, seed: int, first: int) -> Predictions:
        """Predict a few elements, the first of which is at a position of the whole list."""


class Episodic(Protocol):
    """Episodes of way × shot novel classes, each a problem of its own."""

    name, item = "episodic", "episode"
    metrics = headlines = ("top1",)
    is_episodic = True

    def at_once(self, method: Any, asked: EpisodeList, source: Source) -> int:
        """What the method asks for, else as many as stay in the processor's cache."""
        if wanted := traits(type(method)).episode_batch:
            return wanted
        image = source.take(asked.support[0, 0, :1])
        n_images = asked.n_way * asked.shot + int(asked.n_asked.max())
        return max(1, min(AT_ONCE, GATHERED_BYTES // (n_images * image.nbytes)))

    def counts(self, asked: EpisodeList, predictions: Predictions) -> dict[str, Counts]:
        """The "top1" of each episode: hits of its own queries, however many they are."""
        dtype: type[np.unsignedinteger[Any]] = counting.smallest_dtype(asked.n_way)
        n_correct = counting.n_correct(predictions, asked.query_label)
        return {"top1": Counts(n_correct, asked.n_asked, predictions.astype(dtype))}

    def table(self, asked: EpisodeList, names: tuple[str, ...], groups: tuple[str, ...]) -> EpisodeTable:
        """Classes, support and queries of every episode."""
        classes, support, query = (a.astype(np.int32) for a in (asked.classes, asked.support, asked.query))
        return EpisodeTable(classes, support, query, names, groups)

    def _predict(self, method: Any, asked: EpisodeList, source: Source, seed: int, first: int) -> Predictions:
        """Episodes of as many queries go to the method together; which class has how many does not show."""
        n, episodes = len(asked), np.arange(first, first + len(asked))
        flat = asked.query.reshape(n, -1)
        is_balanced = flat.min(initial=0) >= 0
        order = query_order(asked.n_query, range(first, first + n), None if is_balanced else flat < 0)
        rows = np.take_along_axis(flat, order, axis=1)
        predictions = np.zeros(rows.shape, dtype=np.int64)
        if is_balanced:
            given = self._alike(method, asked.support, rows, source, seed, episodes)
            np.put_along_axis(predictions, order, given, axis=1)
            return predictions
        n_asked = asked.n_asked
        for n_query in np.unique(n_asked).tolist():
            here = np.flatnonzero(n_asked == n_query)
            given = self._alike(
                method, asked.support[here], rows[here, :n_query], source, seed, episodes[here]
            )
            predictions[here[:, None], order[here, :n_query]] = given
        return predictions

    def _alike(
        self, method: Any, support_rows: IntArray, rows: IntArray, source: Source, seed: int, episodes: IntArray
    ) -> Predictions:  # fmt: skip
        """(E, n_query) labels of episodes with as many queries, in the order in which they are shown."""
        from harness.evaluation.scores import check_scores, check_unchanged

        support = source.take(support_rows.ravel()).unflatten(0, support_rows.shape)  # (E, W, S, *F)
        query = source.take(rows.ravel()).unflatten(0, rows.shape)  # (E, n_query, *F)
        versions = support._version, query._version
        rng = Generators(seed, episodes)
        if isinstance(method, Batched):
            scores = method.predict_batch(EpisodeBatch(support, query, rng))  # (E, n_query, W)
            where = f"{type(method).__name__}.predict_batch for episodes from {episodes[0]}"
            check_scores(scores, (*rows.shape, support.shape[1]), where)
        else:
            scores = self._loop(method, support, query, rng, episodes)
        check_unchanged(method, support, versions[0], "support")
        check_unchanged(method, query, versions[1], "query")
        return counting.predicted(scores)

    def _loop(
        self, method: Any, support: Tensor, query: Tensor, rng: Sequence[torch.Generator], episodes: IntArray
    ) -> Tensor:  # fmt: skip
        """(E, n_query, W) scores, episode by episode."""
        import torch

        from harness.evaluation.scores import check_scores

        n_way, shot = support.shape[1:3]
        label = torch.arange(n_way, device=support.device).repeat_interleave(shot)
        found = []
        for i in range(len(support)):
            given = Support(support[i].flatten(0, 1), label.clone(), n_way, rng[i])
            scores = method.predict(method.adapt(given), query[i])
            where = f"{type(method).__name__}.predict for episode {episodes[i]}"
            check_scores(scores, (query.shape[1], n_way), where)
            found.append(scores)
        return torch.stack(found)


@dataclass(frozen=True)
class Joint(Protocol):
    """Base and novel classes in one label space (Hariharan and Girshick 2017): experiments over the whole benchmark.

    Attributes:
        query_batch: queries in one call of ``predict``; a method sees them in an order that says nothing about labels.
    """

    name, item = "joint", "experiment"
    metrics = tuple(f"top{k}/{group}" for group in counting.GROUPS for k in counting.TOPS)
    headlines = ("top5/novel", "top1/novel")
    is_episodic, is_grouped = False, True

    query_batch: int = 1024

    def at_once(self, method: Any, asked: JointList, source: Source) -> int:
        """All where the method adapts to them together, else one; queries are given in parts."""
        return len(asked) if isinstance(method, AdaptsTogether) else 1

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

    def _predict(self, method: Any, asked: JointList, source: Source, seed: int, first: int) -> Predictions:
        """(E, 2, n_query) labels counted for top-1 and top-5 (``counting.counted``); nothing is masked."""
        from harness.evaluation.scores import check_unchanged

        predictions = np.empty((len(asked), *asked.predicted_shape), dtype=np.int64)
        supports = [make_support(asked[i : i + 1], source, seed, first + i) for i in range(len(asked))]
        versions = [support.x._version for support in supports]
        together = isinstance(method, AdaptsTogether)
        states = method.adapt_many(supports) if together else [method.adapt(one) for one in supports]
        for support, version in zip(supports, versions, strict=True):
            check_unchanged(method, support.x, version, "support")
        for i, state in enumerate(states):
            order = query_order(asked.n_query, range(first + i, first + i + 1))[0]
            for part in np.split(order, range(self.query_batch, len(order), self.query_batch)):
                predictions[i][:, part] = self._queries(
                    method, state, asked[i : i + 1], source, part, first + i
                )
        return predictions

    def _queries(
        self, method: Any, state: Any, asked: JointList, source: Source, part: IntArray, index: int
    ) -> Predictions:
        """(2, b) labels counted of the queries at ``part``."""
        import torch

        from harness.evaluation.scores import check_scores, check_unchanged

        query = source.take(asked.query.ravel()[part])
        label = torch.from_numpy(asked.query_label[part]).to(query.device)
        version = query._version
        scores: Tensor = method.predict(state, query)
        where = f"{type(method).__name__}.predict for experiment {index}"
        check_scores(scores, (len(part), asked.n_way), where)
        check_unchanged(method, query, version, "query")
        counted = [counting.counted(scores, label.to(scores.device), k) for k in counting.TOPS]
        return torch.stack(counted).cpu().numpy()


@dataclass(frozen=True)
class Closed(Protocol):
    """The test images of the classes that were trained on, each an element of its own: what classifiers are for.

    Rows are paired over images, so that the error of a mean is the binomial one and that of the trainings, and a
    difference is judged as McNemar's test would, with the trainings' part added.

    Attributes:
        query_batch: images in one call of ``predict``.
    """

    name, item = "closed", "image"
    metrics = headlines = ("top1/test",)
    is_episodic = False

    query_batch: int = 1024

    def at_once(self, method: Any, asked: ClosedList, source: Source) -> int:
        """All; they are given in parts to a method that adapts once."""
        return max(1, len(asked))

    def counts(self, asked: ClosedList, predictions: Predictions) -> dict[str, Counts]:
        """One query of each image."""
        dtype: type[np.unsignedinteger[Any]] = counting.smallest_dtype(asked.n_way)
        n_correct = counting.n_correct(predictions, asked.query_label)
        return {self.metrics[0]: Counts(n_correct, np.ones_like(n_correct), predictions.astype(dtype))}

    def table(self, asked: ClosedList, names: tuple[str, ...], groups: tuple[str, ...]) -> EpisodeTable:
        """Class and row of every test image; the training images are those of the benchmark."""
        classes, support, query = (a.astype(np.int32) for a in (asked.classes, asked.support, asked.query))
        return EpisodeTable(classes, support, query, names, groups)

    def _predict(self, method: Any, asked: ClosedList, source: Source, seed: int, first: int) -> Predictions:
        from harness.evaluation.scores import check_scores, check_unchanged

        state = method.adapt(closed_support(asked, source, seed))
        predictions = np.empty((len(asked), 1), dtype=np.int64)
        for start in range(0, len(asked), self.query_batch):
            rows = asked.query[start : start + self.query_batch].ravel()
            query = source.take(rows)
            version = query._version
            scores = method.predict(state, query)  # (b, C)
            where = f"{type(method).__name__}.predict for test images from {first + start}"
            check_scores(scores, (len(rows), asked.n_way), where)
            check_unchanged(method, query, version, "query")
            predictions[start : start + len(rows), 0] = counting.predicted(scores)
        return predictions


EPISODIC, JOINT, CLOSED = Episodic(), Joint(), Closed()
PROTOCOLS: Mapping[str, Protocol] = {protocol.name: protocol for protocol in (EPISODIC, JOINT, CLOSED)}


def protocol_of(asked: AnyList) -> Protocol:
    """The protocol of a list."""
    if isinstance(asked, ClosedList):
        return CLOSED
    return JOINT if isinstance(asked, JointList) else EPISODIC


def protocol_with(metrics: Collection[str]) -> Protocol:
    """The protocol of a stored run, by the names of its numbers; episodic where it has none."""
    return next((p for p in PROTOCOLS.values() if set(metrics) & set(p.metrics)), EPISODIC)


class Generators(Sequence["torch.Generator"]):
    """One CPU generator per episode, made when asked: seeded by (run seed, position of the episode in the whole list)."""

    def __init__(self, seed: int, episodes: IntArray) -> None:
        self._seed, self._episodes = seed, episodes

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return torch_generator(self._seed, "episode", int(self._episodes[index]))


def query_order(n_query: int, episodes: range, is_empty: npt.NDArray[np.bool_] | None = None) -> IntArray:
    """In which order the queries of consecutive episodes are shown, from the episode's index alone.

    Args:
        n_query: places for queries of an episode.
        episodes: positions in the whole list.
        is_empty: (E, n_query) places without a query, which come last; None where all are taken.

    Returns:
        (E, n_query) int64, a permutation per episode.
    """
    blocks = -(-n_query // 4)  # Philox gives four words a block, and each episode owns as many
    philox = np.random.Philox(key=[_ORDER_STREAM, 0], counter=[episodes.start * blocks, 0, 0, 0])
    keys = philox.random_raw(len(episodes) * blocks * 4).reshape(len(episodes), -1)[:, :n_query]
    if is_empty is None:
        return np.argsort(keys, axis=1)
    return np.argsort(np.where(is_empty, np.iinfo(np.uint64).max, keys), axis=1, kind="stable")


def make_support(experiment: JointList, source: Source, seed: int, index: int) -> Support:
    """What ``adapt`` sees of one experiment.

    Args:
        experiment: a list of one.
        source: features or images by row.
        seed: the run seed.
        index: of the experiment.
    """
    import torch

    x = source.take(experiment.support.ravel())  # (C·S, *F)
    label = torch.from_numpy(np.repeat(experiment.novel, experiment.shot)).to(x.device)
    base = _base_support(experiment, source, x.device)
    rng = torch_generator(seed, "episode", index)
    return Support(x, label, experiment.n_way, rng, experiment.n_base, base)


def closed_support(asked: ClosedList, source: Source, seed: int) -> Support:
    """What ``adapt`` sees of a closed set: the training images of all classes, and no others.

    Args:
        asked: the list, or a part of it.
        source: features or images by row.
        seed: the run seed.
    """
    none = source.take(asked.base[:1])[:0]  # (0, *F)
    base = _base_support(asked, source, none.device)
    rng = torch_generator(seed, "episode", 0)
    return Support(none, base.y[:0], asked.n_way, rng, asked.n_way, base)


def _base_support(asked: JointList | ClosedList, source: Source, device: torch.device) -> BaseSupport:
    import torch

    rows, label = asked.base, torch.from_numpy(asked.base_label).to(device)
    return BaseSupport(label, lambda index: source.take(rows[index.numpy()]))
