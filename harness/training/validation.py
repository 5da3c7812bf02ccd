"""Validation during training: one fixed list over the validation images, scored as that of the novel ones is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from harness.benchmarks.episodes import ClosedList, EpisodeList, IntArray
from harness.benchmarks.sampling import sample
from harness.evaluation import counting
from harness.evaluation.features import Images, Source, Stacked
from harness.evaluation.protocols import protocol_of
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
        asked = self._asked(way, shot)
        given = protocol_of(asked).predict(method, asked, self._source(method, asked.rows()), self._fit.seed)
        return counting.n_correct(given, asked.query_label), asked.n_query

    def _source(self, method: Any, rows: IntArray) -> Source:
        return self._of_store(method, self._store, rows)

    def _of_store(self, method: Any, store: ImageStore, rows: IntArray) -> Source:
        if self._frozen:
            return self._frozen(method, store, rows)
        if isinstance(method, Embeds):
            return self._embedded(method, store, rows)
        return Images(method, store, self._fit.pipeline, self._device)

    def _asked(self, way: int, shot: int) -> EpisodeList | ClosedList:
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

    def _embedded(self, method: Embeds, store: ImageStore, rows: IntArray) -> Source:
        inputs = Inputs(store, self._fit.pipeline, self._device, views_of(method))
        with inputs, torch.no_grad(), autocast(self._device, self._fit.precision):
            parts = [
                method.embed(inputs.take(chunk)).float()
                for chunk in np.array_split(rows, max(1, len(rows) // EMBED_BATCH))
            ]
        return _Rows(rows, torch.cat(parts))


class ClosedValidator(Validator):
    """Scores a method on held-out images of the classes it is trained on; ways and shots are not asked.

    Args:
        fit: the training.
        stores: of the images, whose rows are numbered one after the other.
        asked: training images, to which the method adapts, and those that are held out.
        device: where it is scored.
        frozen: as for episodes.
    """

    def __init__(
        self, fit: FitSpec, stores: Sequence[ImageStore], asked: ClosedList, device: torch.device,
        frozen: Callable[[Any, ImageStore, IntArray], Source] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(fit, stores[0], 0, device, frozen)
        self._stores, self._list = stores, asked

    @classmethod
    def on_validation(
        cls, fit: FitSpec, base: ImageStore, held_out: ImageStore, device: torch.device,
        frozen: Callable[[Any, ImageStore, IntArray], Source] | None = None,
    ) -> ClosedValidator:  # fmt: skip
        """Score on all images of one store, whose classes are those of the training images."""
        query = len(base) + np.arange(len(held_out))
        rows, classes = np.arange(len(base)), held_out.label[:, None]
        asked = ClosedList(base.n_classes, rows, base.label, classes, query[:, None, None])
        return cls(fit, (base, held_out), asked, device, frozen)

    def _asked(self, way: int, shot: int) -> EpisodeList | ClosedList:
        return self._list

    def _source(self, method: Any, rows: IntArray) -> Source:
        sizes = [len(store) for store in self._stores]
        starts = np.cumsum([0, *sizes])
        own = [rows[(a <= rows) & (rows < b)] - a for a, b in pairwise(starts.tolist())]
        parts = [self._of_store(method, store, r) for store, r in zip(self._stores, own, strict=True)]
        return Stacked(parts, sizes)


class _Rows:
    """Features of a sorted subset of rows, in memory."""

    def __init__(self, rows: IntArray, features: torch.Tensor) -> None:
        self._rows, self._features = rows, features

    def take(self, rows: IntArray) -> torch.Tensor:
        """(n,) rows → (n, *F)."""
        return self._features.index_select(
            0, torch.from_numpy(np.searchsorted(self._rows, rows)).to(self._features.device)
        )
