"""The joint protocol's experiments → scores over all labels → the labels counted for top-1 and top-5."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.benchmarks.episodes import IntArray, JointList
from harness.evaluation.counting import TOPS, counted
from harness.evaluation.features import Source
from harness.evaluation.predict import check_scores, check_unchanged, query_order
from harness.method.support import BaseSupport, Support
from harness.seeding import torch_generator

QUERY_BATCH = 1024  # queries scored at once; a method sees them in an order that says nothing about labels
Predictions = npt.NDArray[np.int64]


def predict(
    method: Any,
    experiments: JointList,
    source: Source,
    seed: int,
    *,
    first: int = 0,
    query_batch: int = QUERY_BATCH,
    after_batch: Callable[[int, Predictions], None] | None = None,
) -> Predictions:
    """Adapt to each experiment and predict its queries, over all labels: nothing is masked.

    Args:
        method: fitted; ``adapt`` is given the novel images as ``x`` and the base images as ``base``.
        experiments: E experiments, the list from ``first`` on.
        source: features or images by row.
        seed: the run seed, from which each experiment's generator comes.
        first: position of ``experiments[0]`` in the whole list.
        query_batch: queries in one call of ``predict``.
        after_batch: told (index, predictions) after each experiment.

    Returns:
        (E, 2, n_query) int64 in [0, n_way), the labels counted for top-1 and top-5 (``metrics.counted``).

    Raises:
        PluginError: when scores have the wrong shape or type, are not finite, or an input was changed.
    """
    predictions = np.empty((len(experiments), *experiments.predicted_shape), dtype=np.int64)
    with torch.no_grad():
        for i in range(len(experiments)):
            support = make_support(experiments[i : i + 1], source, seed, first + i)
            version = support.x._version
            state = method.adapt(support)
            check_unchanged(method, support.x, version, "support")
            order = query_order(experiments.n_query, range(first + i, first + i + 1))[0]
            for part in np.split(order, range(query_batch, len(order), query_batch)):
                predictions[i][:, part] = _predict(method, state, experiments, source, part, first + i)
            if after_batch:
                after_batch(i, predictions[i : i + 1])
    return predictions


def make_support(experiment: JointList, source: Source, seed: int, index: int) -> Support:
    """What ``adapt`` sees of one experiment.

    Args:
        experiment: a list of one.
        source: features or images by row.
        seed: the run seed.
        index: of the experiment.
    """
    x = source.take(experiment.support.ravel())  # (C·S, *F)
    label = torch.from_numpy(np.repeat(experiment.novel, experiment.shot)).to(x.device)
    rows = experiment.base
    base = BaseSupport(
        torch.from_numpy(experiment.base_label).to(x.device),
        lambda index: source.take(rows[index.numpy()]),
    )
    rng = torch_generator(seed, "episode", index)
    return Support(x, label, experiment.n_way, rng, experiment.n_base, base)


def _predict(
    method: Any, state: Any, experiments: JointList, source: Source, part: IntArray, index: int
) -> Predictions:
    """(2, b) labels counted of the queries at ``part``."""
    query = source.take(experiments.query.ravel()[part])
    label = torch.from_numpy(experiments.query_label[part]).to(query.device)
    version = query._version
    scores: Tensor = method.predict(state, query)
    name = type(method).__name__
    check_scores(scores, (len(part), experiments.n_way), f"{name}.predict for experiment {index}")
    check_unchanged(method, query, version, "query")
    return torch.stack([counted(scores, label.to(scores.device), k) for k in TOPS]).cpu().numpy()
