"""Validation during training: one fixed list of episodes over the validation classes, scored as novel ones are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from harness.benchmarks.episodes import EpisodeList, IntArray
from harness.benchmarks.sampling import sample
from harness.evaluation import counting
from harness.evaluation.features import Images, Source
from harness.evaluation.protocols import EPISODIC
from harness.images.inputs import Inputs
from harness.images.stores import ImageStore
from harness.method import Embeds, views_of
from harness.ops.precision import autocast
from harness.runs.spec import EMBED_BATCH, FitSpec
from harness.seeding import stream

N_EPISODES = 400
N_QUERY = 15


class Validator:
    """Scores a method on validation episodes, embedding only the images they touch.

    Args:
        fit: whose training it is.
        store: the validation images.
        benchmark_seed: from which the episodes come.
        device: where the method lives.
        frozen: for a head, (head, images, rows) → the features that it is given.
    """

    def __init__(
        self, fit: FitSpec, store: ImageStore, benchmark_seed: int, device: torch.device,
        frozen: Callable[[Any, ImageStore, IntArray], Source] | None = None,
    ) -> None:  # fmt: skip
        self._fit, self._store, self._device, self._frozen = fit, store, device, frozen
        self._seed = stream(benchmark_seed, "validation")
        self._lists: dict[tuple[int, int], EpisodeList] = {}

    def __call__(self, method: Any, way: int, shot: int) -> float:
        """Mean accuracy in [0, 1]."""
        n_correct, n_query = self.counts(method, way, shot)
        return float(n_correct.mean() / n_query)

    def counts(self, method: Any, way: int, shot: int) -> tuple[IntArray, int]:
        """Correct predictions of each validation episode, (E,) int64, and the queries of one."""
        episodes = self._episodes(way, shot)
        given = EPISODIC.predict(method, episodes, self._source(method, episodes.rows()), self._fit.seed)
        return counting.n_correct(given, episodes.query_label), episodes.n_query

    def _episodes(self, way: int, shot: int) -> EpisodeList:
        if (way, shot) not in self._lists:
            counts = self._store.counts
            n_shot = min(
                shot, int(counts.min()) - 1
            )  # small folders have fewer classes and images than are asked
            n_query = min(N_QUERY, int(counts.min()) - n_shot)
            self._lists[way, shot] = sample(
                counts, min(way, len(counts)), n_shot, n_query, N_EPISODES, self._seed
            )
        return self._lists[way, shot]

    def _source(self, method: Any, rows: IntArray) -> Source:
        if self._frozen:
            return self._frozen(method, self._store, rows)
        if isinstance(method, Embeds):
            return self._embedded(method, rows)
        return Images(method, self._store, self._fit.pipeline, self._device)

    def _embedded(self, method: Embeds, rows: IntArray) -> Source:
        inputs = Inputs(self._store, self._fit.pipeline, self._device, views_of(method))
        with inputs, torch.no_grad(), autocast(self._device, self._fit.precision):
            parts = [
                method.embed(inputs.take(chunk)).float()
                for chunk in np.array_split(rows, max(1, len(rows) // EMBED_BATCH))
            ]
        return _Rows(rows, torch.cat(parts))


class _Rows:
    """Features of a sorted subset of rows, in memory."""

    def __init__(self, rows: IntArray, features: torch.Tensor) -> None:
        self._rows, self._features = rows, features

    def take(self, rows: IntArray) -> torch.Tensor:
        """(n,) rows → (n, *F)."""
        return self._features.index_select(
            0, torch.from_numpy(np.searchsorted(self._rows, rows)).to(self._features.device)
        )
