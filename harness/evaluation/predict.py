"""Episodes → scores → predictions: the loop, the fast path, and the checks on what a method returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.benchmarks.episodes import EpisodeList, IntArray
from harness.errors import PluginError
from harness.evaluation import counting
from harness.evaluation.features import Source
from harness.method import Batched, traits
from harness.method.support import EpisodeBatch, Support
from harness.seeding import stream, torch_generator

_GATHERED_BYTES = 13 * 2**20  # of features gathered at once: small chunks stay in the processor's cache
_AT_ONCE = 64  # episodes at most, unless a method asks for more
_ORDER_STREAM = stream(0, "query order")
Predictions = npt.NDArray[np.int64]


def predict(
    method: Any,
    episodes: EpisodeList,
    source: Source,
    seed: int,
    *,
    first: int = 0,
    batch: int | None = None,
    after_batch: Callable[[int, Predictions], None] | None = None,
) -> Predictions:
    """Predict every query of a list.

    The queries of an episode reach the method in an order of their own, so that it says nothing about labels.

    Args:
        method: fitted; ``predict_batch`` is used where there is one.
        episodes: E episodes, the list from ``first`` on.
        source: features or images by row.
        seed: the run seed, from which each episode's generator comes.
        first: position of ``episodes[0]`` in the whole list.
        batch: episodes per gather, see ``episodes_at_once``; changes no prediction.
        after_batch: told (index of the first episode, predictions) after each batch.

    Returns:
        (E, n_query) int64 in [0, W), in the order of the list.

    Raises:
        PluginError: when scores have the wrong shape or type, are not finite, or an input was changed.
    """
    predictions = np.empty((len(episodes), episodes.n_query), dtype=np.int64)
    run = _predict_fast if isinstance(method, Batched) else _predict_loop
    batch = batch or episodes_at_once(method, episodes, source)
    with torch.no_grad():
        for start in range(0, len(episodes), batch):
            chunk = episodes[start : start + batch]
            order = query_order(chunk.n_query, range(first + start, first + start + len(chunk)))
            x = _gather(chunk, order, source)
            versions = x.support._version, x.query._version
            given = run(method, x, _Generators(seed, first + start, len(chunk)), first + start)
            check_unchanged(method, x.support, versions[0], "support")
            check_unchanged(method, x.query, versions[1], "query")
            here = predictions[start : start + batch]
            np.put_along_axis(here, order, given, axis=1)
            if after_batch:
                after_batch(start, here)
    return predictions


def episodes_at_once(method: Any, episodes: EpisodeList, source: Source) -> int:
    """How many episodes to gather: what a method asks for, else as many as stay in the processor's cache.

    Returns:
        At least 1; ``traits(type(method)).episode_batch`` where it is set.
    """
    asked = traits(type(method)).episode_batch
    if asked:
        return asked
    image = source.take(episodes.support[0, 0, :1])
    n_images = episodes.n_way * episodes.shot + episodes.n_query
    return max(1, min(_AT_ONCE, _GATHERED_BYTES // (n_images * image.nbytes)))


@dataclass(frozen=True)
class _Gathered:
    """Support (E, W, S, *F) and query (E, n_query, *F) of a few episodes."""

    support: Tensor
    query: Tensor


class _Generators(Sequence[torch.Generator]):
    """One CPU generator per episode, made when asked: seeded by (run seed, episode)."""

    def __init__(self, seed: int, first: int, n: int) -> None:
        self._seed, self._first, self._n = seed, first, n

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._n))]
        return torch_generator(self._seed, "episode", self._first + range(self._n)[index])


def query_order(n_query: int, episodes: range) -> IntArray:
    """In which order the queries of consecutive episodes are shown, from the episode's index alone.

    Args:
        n_query: queries of an episode.
        episodes: positions in the whole list.

    Returns:
        (E, n_query) int64, a permutation per episode.
    """
    blocks = -(-n_query // 4)  # Philox gives four words a block, and each episode owns as many
    philox = np.random.Philox(key=[_ORDER_STREAM, 0], counter=[episodes.start * blocks, 0, 0, 0])
    keys = philox.random_raw(len(episodes) * blocks * 4).reshape(len(episodes), -1)[:, :n_query]
    return np.argsort(keys, axis=1)


def _gather(chunk: EpisodeList, order: IntArray, source: Source) -> _Gathered:
    n = len(chunk)
    query_rows = np.take_along_axis(chunk.query.reshape(n, -1), order, axis=1)
    support = source.take(chunk.support.ravel()).unflatten(0, chunk.support.shape)  # (E, W, S, *F)
    query = source.take(query_rows.ravel()).unflatten(0, query_rows.shape)  # (E, n_query, *F)
    return _Gathered(support, query)


def _predict_fast(method: Any, x: _Gathered, rng: Sequence[torch.Generator], first: int) -> Predictions:
    scores = method.predict_batch(EpisodeBatch(x.support, x.query, rng))
    name = f"{type(method).__name__}.predict_batch"
    check_scores(scores, (*x.query.shape[:2], x.support.shape[1]), f"{name} for episodes from {first}")
    return counting.predicted(scores)


def _predict_loop(method: Any, x: _Gathered, rng: Sequence[torch.Generator], first: int) -> Predictions:
    n_way, shot = x.support.shape[1:3]
    label = torch.arange(n_way, device=x.support.device).repeat_interleave(shot)
    rows = []
    for i in range(len(x.support)):
        support = Support(x.support[i].flatten(0, 1), label.clone(), n_way, rng[i])
        scores = method.predict(method.adapt(support), x.query[i])
        name = f"{type(method).__name__}.predict for episode {first + i}"
        check_scores(scores, (x.query.shape[1], n_way), name)
        rows.append(counting.predicted(scores))
    return np.stack(rows)


def check_scores(scores: Any, shape: tuple[int, ...], where: str) -> None:
    """Refuse what is not a finite float tensor of the right shape.

    Raises:
        PluginError: saying what was returned, and where.
    """
    if not isinstance(scores, Tensor):
        raise PluginError(
            f"{where} returned {type(scores).__name__}; expected a float tensor of shape {shape}."
        )
    if tuple(scores.shape) != shape:
        hint = " (one column per class of the episode)" if scores.shape[:-1] == shape[:-1] else ""
        raise PluginError(f"{where} returned scores of shape {tuple(scores.shape)}; expected {shape}{hint}.")
    if not scores.is_floating_point():
        raise PluginError(
            f"{where} returned {scores.dtype} scores; expected floating point, higher is likelier."
        )
    if not bool(scores.isfinite().all()):
        bad = int((~scores.isfinite()).sum())
        raise PluginError(f"{where} returned {bad} scores that are NaN or infinite.")


def check_unchanged(method: Any, given: Tensor, version: int, name: str) -> None:
    """Refuse a method that changed what it was given in place; torch counts every such change.

    Raises:
        PluginError: naming what was changed.
    """
    if given._version != version:
        raise PluginError(
            f"{type(method).__name__} changed its {name} in place; work on a copy (x = x.clone())."
        )
