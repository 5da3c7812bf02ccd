"""From predictions to what a run stores: counts by metric, and the evaluated list."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from harness.benchmarks.episodes import AnyList, JointList
from harness.evaluation import counting
from harness.runs import Counts, EpisodeTable


def counts_of(episodes: AnyList, predictions: npt.NDArray[np.int64]) -> dict[str, Counts]:
    """Count right predictions: "top1" of episodes, the six numbers of the joint protocol.

    Args:
        episodes: the evaluated list.
        predictions: (E, …) labels, as the list's ``predicted_shape`` says.
    """
    dtype: type[np.unsignedinteger[Any]] = counting.smallest_dtype(episodes.n_way)
    if isinstance(episodes, JointList):
        counted = counting.joint_counts(predictions, episodes.query_label, episodes.n_base)
        kept = {f"top{k}/all": predictions[:, i].astype(dtype) for i, k in enumerate(counting.TOPS)}
        return {name: Counts(*found, kept.get(name)) for name, found in counted.items()}
    n_query = np.full(len(episodes), episodes.n_query, dtype=np.int64)
    n_correct = counting.n_correct(predictions, episodes.query_label)
    return {"top1": Counts(n_correct, n_query, predictions.astype(dtype))}


def table_of(episodes: AnyList, names: tuple[str, ...], groups: tuple[str, ...]) -> EpisodeTable:
    """The list as it is stored, with the names and groups of the store's classes."""
    classes, query = (
        (_repeated(episodes.asked, len(episodes)), _repeated(episodes.query, len(episodes)))
        if isinstance(episodes, JointList)
        else (episodes.classes, episodes.query)
    )
    support = episodes.support.astype(np.int32)
    return EpisodeTable(classes.astype(np.int32), support, query.astype(np.int32), names, groups)


def _repeated(array: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    return np.broadcast_to(array, (n, *array.shape))
