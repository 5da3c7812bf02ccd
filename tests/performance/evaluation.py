"""Evaluation: episodes per second beside easy-few-shot-learning, sampling time, memory.

Prints a table. Both sides score the same 10,000 5-way 1-shot 15-query episodes from one 12,000 × 640 float32 table.
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from harness.data.vision import import_torchvision
from harness.evaluate import predict
from harness.sampling import sample
from harness.types import EpisodeList
from methods.protonet import ProtoNet

N_IMAGES, D, N_CLASSES, E = 12_000, 640, 20, 10_000
PEER_EPISODES = 500


class Table:
    """Features by row, from a memory map."""

    def __init__(self, path: Path) -> None:
        rows = np.memmap(path, dtype=np.float32, mode="w+", shape=(N_IMAGES, D))
        rng = np.random.default_rng(0)
        centres = rng.normal(size=(N_CLASSES, D)).astype(np.float32)
        for start in range(0, N_IMAGES, 600):
            rows[start : start + 600] = centres[start // 600] + 3 * rng.normal(size=(600, D)).astype(
                np.float32
            )
        self.tensor = torch.from_numpy(rows)

    def take(self, rows: np.ndarray) -> torch.Tensor:
        """(n,) rows → (n, D)."""
        return self.tensor.index_select(0, torch.from_numpy(rows))


def ours(table: Table, episodes: EpisodeList) -> tuple[float, float, float]:
    """Seconds, mean accuracy, and megabytes of memory that evaluation added."""
    method = ProtoNet(ProtoNet.Config(), torch.nn.Identity())
    predict(method, episodes[:64], table, seed=0)  # page the table in
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    predictions = predict(method, episodes, table, seed=0)
    seconds = time.perf_counter() - start
    added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return seconds, float((predictions == episodes.query_label).mean()), added


def peers(table: Table, episodes: EpisodeList) -> tuple[float, float]:
    """Seconds and mean accuracy of easyfsl's PrototypicalNetworks on the same episodes, features given."""
    import_torchvision()
    from easyfsl.methods import PrototypicalNetworks

    method = PrototypicalNetworks(torch.nn.Identity())
    support_label = torch.arange(episodes.n_way).repeat_interleave(episodes.shot)
    label = torch.from_numpy(episodes.query_label)
    hits = 0.0
    start = time.perf_counter()
    with torch.no_grad():
        for episode in episodes:
            method.process_support_set(table.take(episode.support), support_label)
            scores = method(table.take(episode.query))
            hits += (scores.argmax(1) == label).float().mean().item()
    return time.perf_counter() - start, hits / len(episodes)


def main() -> None:
    """Print the table."""
    start = time.perf_counter()
    episodes = sample([600] * N_CLASSES, 5, 1, 15, E, seed=0)
    sampling = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        table = Table(Path(folder) / "table.f32")
        rounds = [(ours(table, episodes), peers(table, episodes[:PEER_EPISODES])) for _ in range(3)]
    mine = sorted(a[0] for a, _ in rounds)[1]
    other = sorted(b[0] for _, b in rounds)[1] * E / PEER_EPISODES
    print(f"{'sample a list of 10,000 episodes':52}{sampling:8.2f} s")
    print(f"{'evaluate 10,000 episodes (median of 3)':52}{mine:8.2f} s{E / mine:12,.0f} episodes/s")
    print(f"{'the same by easyfsl (from 500, median of 3)':52}{other:8.2f} s{E / other:12,.0f} episodes/s")
    print(f"{'ratio':52}{other / mine:8.1f} ×")
    print(f"{'peak memory added by the evaluation':52}{max(a[2] for a, _ in rounds):8.0f} MB")
    same = abs(float(rounds[0][0][1]) - rounds[0][1][1])
    print(
        f"{'mean accuracy: ours on 10,000, theirs on 500':52}{rounds[0][0][1]:8.4f}  {rounds[0][1][1]:.4f} (apart {same:.4f})"
    )


if __name__ == "__main__":
    main()
