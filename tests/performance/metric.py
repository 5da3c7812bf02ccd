"""Training episodes of prototypical networks and Magnet's re-index, each beside the usual way.

Run with `python tests/performance/metric.py`. Episodes are 20-way 5-shot 5-query at 28 pixels with conv4, forward and
backward and a step of Adam: ours drawn by index from the map, beside a torch DataLoader that decodes and resizes a PNG
of 105 pixels for each image, with the network as it is usually written; each side in a process of its own, in turn.
The re-index is of 20,000 × 64 features in 200 classes of 3 clusters, beside scikit-learn class by class.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from harness.system import process

if "usual" not in sys.argv:
    process.settle_threads()  # before torch is there

import numpy as np
import torch
from PIL import Image
from sklearn.cluster import KMeans
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from harness.backbones import build
from harness.images.sources import glyphs
from harness.images.stores import store_of_arrays
from harness.ops.clusters import cluster_index
from harness.ops.prototypes import prototypical_loss
from harness.seeding import torch_generator
from harness.system.process import keep_freed_memory
from harness.training.base_set import BaseSet

WAY, SHOT, N_QUERY = 20, 5, 5
N_EPISODES, N_TURNS = 15, 3
CPU = torch.device("cpu")


class Pngs(Dataset[torch.Tensor]):
    """An image at an index: opened, decoded, resized, made a tensor."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> torch.Tensor:
        with Image.open(self.files[i]) as image:
            small = np.asarray(image.convert("L").resize((28, 28)), dtype=np.float32)
        return 1 - torch.from_numpy(small / 255)[None]


def as_usually_written() -> nn.Module:
    layers: list[nn.Module] = []
    for a, b in pairwise([1, 64, 64, 64, 64]):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten())


class Cost(NamedTuple):
    """What an episode takes: seconds by the clock, and of the processor, workers included."""

    clock: float
    processor: float


class Watch:
    """Measures work from when it is made."""

    def __init__(self) -> None:
        self._clock, self._processor = time.perf_counter(), self._spent()

    @staticmethod
    def _spent() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used)

    def cost(self, n: int) -> Cost:
        """Of each of n episodes so far."""
        return Cost((time.perf_counter() - self._clock) / n, (self._spent() - self._processor) / n)


def usual() -> Cost:
    """An episode of a loader of two workers."""
    drawn = glyphs.draw().pixels[:96, :20]  # (C, n, 28, 28)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for i, pixels in enumerate(drawn.reshape(-1, 28, 28)):
            files.append(Path(folder) / f"{i:05}.png")
            Image.fromarray(pixels).resize((105, 105)).convert("1").save(files[-1])
        batches = []
        for _ in range(N_EPISODES):
            classes = rng.permutation(96)[:WAY]
            batches.append([int(c * 20 + j) for c in classes for j in rng.permutation(20)[: SHOT + N_QUERY]])
        network = as_usually_written()
        optimiser = torch.optim.Adam(network.parameters())
        watch = Watch()
        for x in DataLoader(Pngs(files), batch_sampler=batches, num_workers=2):
            z = network(x).unflatten(0, (WAY, SHOT + N_QUERY))
            means, query = z[:, :SHOT].mean(1), z[:, SHOT:].flatten(0, 1)
            scores = -(query[:, None] - means[None]).pow(2).sum(2)
            loss = functional.cross_entropy(scores, torch.arange(WAY).repeat_interleave(N_QUERY))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            loss.item()
        return watch.cost(N_EPISODES)


def ours() -> Cost:
    """An episode drawn from the map."""
    keep_freed_memory()
    store = store_of_arrays(
        "glyphs", glyphs.draw().pixels[:96, :20, :, :, None], [f"c{i}" for i in range(96)]
    )
    base = BaseSet(store, "stored", CPU, torch_generator(0, "training"))
    network = build("conv4", 28, 1)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(network.parameters())
    watch = Watch()
    for episode in base.episodes(N_EPISODES, WAY, SHOT, N_QUERY):
        z = network(episode.images.flatten(0, 1)).flatten(1).unflatten(0, (WAY, SHOT + N_QUERY))
        prototypical_loss(z[:, :SHOT], z[:, SHOT:]).loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return watch.cost(N_EPISODES)


def best_seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(N_TURNS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def reindex() -> tuple[float, float, float]:
    """Seconds of ours from new starts, of ours from the last centroids, and of scikit-learn."""
    x = torch.randn(20_000, 64, generator=torch.Generator().manual_seed(0))
    label = torch.arange(20_000) % 200

    def fresh() -> torch.Tensor:
        return cluster_index(x, label, 200, 3, rng=torch.Generator().manual_seed(0)).centroid

    def usual() -> None:
        for c in range(200):
            KMeans(3, n_init=1, max_iter=20, random_state=0).fit(x[label == c].numpy())

    start = fresh()
    moved = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    warm = best_seconds(lambda: cluster_index(moved, label, 200, 3, rng=torch.Generator(), start=start))
    return best_seconds(fresh), warm, best_seconds(usual)


def measured(side: str) -> Cost:
    """Run one side in a process of its own."""
    answer = subprocess.run([sys.executable, __file__, side], check=True, stdout=subprocess.PIPE, text=True)
    return Cost(*json.loads(answer.stdout))


def main() -> None:
    """Print both tables, or measure one side."""
    if len(sys.argv) > 1:
        print(json.dumps({"usual": usual, "ours": ours}[sys.argv[1]]()))
        return
    turns = [(measured("usual"), measured("ours")) for _ in range(N_TURNS)]
    print(f"{WAY}-way {SHOT}-shot {N_QUERY}-query training episodes, best of {N_TURNS} turns")
    for what in Cost._fields:
        theirs, mine = (min(getattr(turn[side], what) for turn in turns) for side in (0, 1))
        print(f"{what:>9} s: loader of PNGs {theirs:6.3f}   ours {mine:6.3f}   ratio {theirs / mine:5.2f}")
    fresh, warm, sklearn = reindex()
    print("re-index of 20,000 × 64, 200 classes × 3 clusters, s")
    print(f"scikit-learn {sklearn:6.2f}   ours, four starts {fresh:6.2f}   ours, from the last {warm:6.2f}")


if __name__ == "__main__":
    main()
