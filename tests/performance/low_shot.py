"""Low-shot heads: analogies against bare matrix products, batches against a loader as usually written, experiments at once.

Seconds are processor time of one thread, the smaller of two turns, taken in turn with what stands beside them.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.method.support import BaseSupport, Support
from harness.ops.analogies import mine_analogies
from harness.ops.softmax_regression import Linear, Sgd, batch_parts, draw_linear, fit_softmax
from methods.lowshot.logistic import batches

CLASSES, CLUSTERS, DIM = 64, 20, 512
N_BASE, N_NOVEL, PER_CLASS, SHOT = 196, 311, 200, 2  # of ImageNet's half, with fewer images of a base class
LABELS, BATCH, STEPS = 1000, 1000, 300


def seconds(*works: Callable[[], object], turns: int = 2) -> list[float]:
    """Processor time of each, the smallest of its turns."""
    found = [[0.0] * turns for _ in works]
    for turn in range(turns):
        for i, work in enumerate(works):
            began = time.process_time()
            work()
            found[i][turn] = time.process_time() - began
    return [min(times) for times in found]


def analogies() -> None:
    centroids = torch.rand(CLASSES, CLUSTERS, DIM, generator=torch.Generator().manual_seed(0))
    rows = torch.rand(CLUSTERS**2, DIM)

    def bare() -> None:
        for _ in range(CLASSES * (CLASSES - 1)):
            rows @ rows.T

    ours, product = seconds(lambda: mine_analogies(centroids), bare)
    n_flop = 2 * CLASSES * (CLASSES - 1) * CLUSTERS**4 * DIM
    print(
        f"analogies of {CLASSES} classes × {CLUSTERS} clusters, {DIM} numbers: {ours:.2f} s, {n_flop / ours / 1e9:.0f} GFLOP/s "
        f"of the whole product; the bare products {product:.2f} s, {n_flop / product / 1e9:.0f} GFLOP/s: "
        f"{100 * product / ours:.0f}% of their speed"
    )


class Literal:
    """Batches as the reference makes them: one at a time, rows by numpy's choice, read from HDF5."""

    def __init__(self, file: h5py.File, novel: np.ndarray, novel_y: np.ndarray) -> None:
        self.features, self.labels = file["all_feats"], file["all_labels"][()]
        self.pool = np.flatnonzero(self.labels < N_BASE)
        self.novel, self.novel_y = novel, novel_y
        self.parts = batch_parts(N_BASE, N_NOVEL, BATCH)

    def batches(self, n: int) -> Iterator[tuple[Tensor, Tensor]]:
        random = np.random.RandomState(0)
        for _ in range(n):
            rows = np.sort(random.choice(self.pool, self.parts.base, replace=False))
            picks = random.choice(len(self.novel), self.parts.novel)
            x = np.concatenate([self.features[rows], self.novel[picks]])
            y = np.concatenate([self.labels[rows], self.novel_y[picks]]).astype(np.int64)
            yield torch.from_numpy(x), torch.from_numpy(y)

    def fit(self, n: int) -> None:
        layer = nn.Linear(DIM, LABELS)
        optimiser = torch.optim.SGD(layer.parameters(), 0.1, 0.9, 0.9, 1e-3)
        for x, y in self.batches(n):
            optimiser.zero_grad()
            functional.cross_entropy(layer(x), y).backward()
            optimiser.step()


def supports(x: Tensor, y: Tensor, novel: Tensor, novel_y: Tensor, n: int) -> list[Support]:
    base = BaseSupport(y, lambda index: x.index_select(0, index))
    return [Support(novel, novel_y, LABELS, torch.Generator().manual_seed(i), N_BASE, base) for i in range(n)]


def drain(given: Iterator[tuple[Tensor, Tensor]]) -> None:
    for _ in given:
        pass


def heads(folder: Path) -> None:
    n = N_BASE * PER_CLASS
    with h5py.File(folder / "train.hdf5", "w") as file:  # as saved: chunks that h5py chooses
        features = file.create_dataset("all_feats", (n, DIM), "f4", maxshape=(n, DIM), chunks=True)
        table = np.memmap(folder / "table.f32", np.float32, "w+", shape=(n, DIM))
        random = np.random.default_rng(0)
        for start in range(0, n, 4096):
            part = random.random((min(4096, n - start), DIM), dtype=np.float32)
            features[start : start + len(part)] = table[start : start + len(part)] = part
        file["all_labels"] = np.repeat(np.arange(N_BASE), PER_CLASS)
    novel = random.random((N_NOVEL * SHOT, DIM), dtype=np.float32)
    novel_y = np.repeat(N_BASE + np.arange(N_NOVEL), SHOT)
    x, y = torch.from_numpy(table), torch.arange(N_BASE).repeat_interleave(PER_CLASS)
    tensors = torch.from_numpy(novel), torch.from_numpy(novel_y)
    with h5py.File(folder / "train.hdf5") as file:
        literal = Literal(file, novel, novel_y)
        one = supports(x, y, *tensors, 1)
        ours, theirs = seconds(
            lambda: drain(batches(one, BATCH, STEPS)), lambda: drain(literal.batches(STEPS))
        )
        print(
            f"{STEPS} batches of {BATCH} rows from {n:,} × {DIM}: {ours:.2f} s; as usually written {theirs:.2f} s, {theirs / ours:.1f}×"
        )
        ours, theirs = seconds(lambda: fit(one, LABELS, DIM, BATCH, STEPS), lambda: literal.fit(STEPS))
        print(
            f"the head of {LABELS} labels, {STEPS} steps: {ours:.2f} s; as usually written {theirs:.2f} s, {theirs / ours:.2f}×"
        )
    compare_experiments("ImageNet's size", x, y, *tensors, dim=DIM, labels=LABELS, batch=BATCH, steps=20)
    small = torch.rand(47 * 15, 64), torch.arange(47).repeat_interleave(15)
    compare_experiments(
        "Omniglot's size",
        *small,
        torch.rand(74, 64),
        94 + torch.arange(74),
        dim=64,
        labels=242,
        batch=200,
        steps=500,
    )


def fit(given: list[Support], labels: int, dim: int, batch: int, steps: int) -> Linear:
    start = draw_linear(labels, dim, [s.rng for s in given])
    return fit_softmax(start, batches(given, batch, steps), Sgd())


def compare_experiments(name: str, x: Tensor, y: Tensor, novel: Tensor, novel_y: Tensor, *, dim: int, labels: int, batch: int,
                        steps: int) -> None:  # fmt: skip
    """Five experiments in one run, and one after the other; and the matrix products alone, which both have to do."""

    def together() -> Linear:
        return fit(supports(x, y, novel, novel_y, 5), labels, dim, batch, steps)

    def alone() -> list[Linear]:
        return [fit([s], labels, dim, batch, steps) for s in supports(x, y, novel, novel_y, 5)]

    rows, weight, error = (torch.rand(batch, dim), torch.rand(labels, dim), torch.rand(batch, labels))

    def products() -> None:
        for _ in range(5 * steps):
            torch.mm(rows, weight.T)
            torch.mm(error.T, rows)

    first, second = together(), alone()
    worst = max(float((first.weight[i] - second[i].weight[0]).abs().max()) for i in range(5))
    ours, one_by_one, bare = seconds(together, alone, products)
    print(
        f"five experiments at {name}, {steps} steps: {ours:.2f} s at once, {one_by_one:.2f} s one by one, {one_by_one / ours:.2f}×; "
        f"the products alone {bare:.2f} s, so at most {one_by_one / bare:.2f}×; weights differ by {worst:.1g}"
    )


if __name__ == "__main__":
    analogies()
    with tempfile.TemporaryDirectory() as scratch:
        heads(Path(scratch))
