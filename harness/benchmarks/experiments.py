"""The joint protocol's experiments: which images of base and novel classes are support, and which are asked.

Base and novel classes share one label space (Hariharan and Girshick 2017, arXiv:1606.02819): a classifier is made from
all training images of the base classes and n images of each novel class, and asked about held-out images of both. The
classes are halved: hyper-parameters are chosen on one half, numbers reported on the other. Each class of the store has
its training images first and its held-out images, equally many in every class, last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.benchmarks import sampling
from harness.benchmarks.episodes import IntArray, JointList
from harness.errors import DataError
from harness.images.sources.draws import Published

N_EXPERIMENTS = 5
_DRAWN_FROM = 1.5  # training images of a class for each one drawn: draws should differ between experiments


@dataclass(frozen=True)
class JointClasses:
    """The classes of a joint benchmark, as counts by name.

    Attributes:
        base: training images of each base class, both halves, in label order.
        novel: images of each novel class, training and held-out, both halves, in label order.
        asked: names of the classes of the half in use.
        n_query: held-out images of each class.
        published: published draws; None where the experiments are drawn by ``sampling``.
    """

    base: Mapping[str, int]
    novel: Mapping[str, int]
    asked: frozenset[str]
    n_query: int
    published: Published | None = None

    @property
    def counts(self) -> IntArray:
        """(W,) int64 images of each label, training and held-out."""
        base = [n + self.n_query for n in self.base.values()]
        return np.array([*base, *self.novel.values()], dtype=np.int64)

    @property
    def most_shots(self) -> int:
        """The largest n."""
        if self.published:
            return self.published.most_shots
        return int((min(self.novel.values()) - self.n_query) / _DRAWN_FROM)

    def experiments(self, shot: int, seed: int) -> JointList:
        """Make the five experiments at one n; fewer images are the first of more.

        Args:
            shot: n, images of each novel class.
            seed: the benchmark's.

        Raises:
            DataError: when n is beyond the draws.
        """
        if not 1 <= shot <= self.most_shots:
            raise DataError(
                f"n = {shot} images of each novel class were asked; the experiments have 1 to {self.most_shots}."
            )
        counts = self.counts
        first = np.cumsum(counts) - counts  # (W,) first row of each label
        asked = np.flatnonzero([name in self.asked for name in (*self.base, *self.novel)])
        base, novel = asked[asked < len(self.base)], asked[asked >= len(self.base)]
        n_training = counts - self.n_query
        return JointList(
            n_way=len(counts),
            n_base=len(self.base),
            asked=asked,
            base=np.concatenate([first[c] + np.arange(n_training[c]) for c in base]),
            base_label=np.repeat(base, n_training[base]),
            support=first[novel][:, None] + self._drawn(novel, shot, seed),
            query=(first + n_training)[asked][:, None] + np.arange(self.n_query),
        )

    def _drawn(self, novel: IntArray, shot: int, seed: int) -> IntArray:
        """(E, C, S) positions within each novel class."""
        if self.published:
            names = list(self.novel)
            rows = [self.published.rows(names[c - len(self.base)])[:, :shot] for c in novel]
            return np.stack(rows, axis=1)
        n_training = self.counts[novel] - self.n_query
        return sampling.within_classes(n_training, shot, N_EXPERIMENTS, seed, novel)
