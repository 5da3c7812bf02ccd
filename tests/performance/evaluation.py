"""Evaluation: episodes per second beside easy-few-shot-learning, sampling time, memory.

Prints a table. Both sides score the same 10,000 5-way 1-shot 15-query episodes from one 12,000 × 640 float32 table,
each in a process of its own: ours as a run settles threads and memory, theirs as Python starts. Turns alternate, and
medians are shown.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from harness.system import process

if "theirs" not in sys.argv:
    process.settle_threads()  # before torch is there

import numpy as np
import torch

from harness.backbones.torchvision_import import import_torchvision
from harness.benchmarks.episodes import EpisodeList
from harness.benchmarks.sampling import sample
from harness.evaluation.protocols import EPISODIC
from harness.system.process import keep_freed_memory
from methods.protonet import ProtoNet

N_IMAGES, D, N_CLASSES, E = 12_000, 640, 20, 10_000
PEER_EPISODES = 1000
N_TURNS = 3


class Table:
    """Features by row, from a memory map."""

    def __init__(self, path: Path) -> None:
        rows = np.memmap(path, dtype=np.float32, mode="w+", shape=(N_IMAGES, D))
        rng = np.random.default_rng(0)
        centres = rng.normal(size=(N_CLASSES, D)).astype(np.float32)
        for start in range(0, N_IMAGES, 600):
            noise = rng.normal(size=(600, D)).astype(np.float32)
            rows[start : start + 600] = centres[start // 600] + 3 * noise
        self.tensor = torch.from_numpy(rows)

    def take(self, rows: np.ndarray) -> torch.Tensor:
        """(n,) rows → (n, D)."""
        return self.tensor.index_select(0, torch.from_numpy(rows))


def ours(table: Table) -> dict[str, float]:
    """Time the sampling and the evaluation of 10,000 episodes."""
    keep_freed_memory()
    start = time.perf_counter()
    episodes = sample([600] * N_CLASSES, 5, 1, 15, E, seed=0)
    sampling = time.perf_counter() - start
    method = ProtoNet(ProtoNet.Config(), torch.nn.Identity())
    EPISODIC.predict(method, episodes[:64], table, seed=0)  # page the table in
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    predictions = EPISODIC.predict(method, episodes, table, seed=0)
    seconds = time.perf_counter() - start
    return {
        "sampling": sampling,
        "seconds": seconds,
        "megabytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        "accuracy": float((predictions == episodes.query_label)[:PEER_EPISODES].mean()),
    }


def theirs(table: Table) -> dict[str, float]:
    """Time easyfsl's PrototypicalNetworks on the first episodes, features given."""
    import_torchvision()
    from easyfsl.methods import PrototypicalNetworks

    episodes: EpisodeList = sample([600] * N_CLASSES, 5, 1, 15, E, seed=0)[:PEER_EPISODES]
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
    return {"seconds": time.perf_counter() - start, "accuracy": hits / len(episodes)}


def measured(side: str) -> dict[str, float]:
    """Run one side in a process of its own."""
    answer = subprocess.run([sys.executable, __file__, side], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(answer.stdout)


def main() -> None:
    """Print the table, or measure one side and print it as JSON."""
    if len(sys.argv) > 1:
        with tempfile.TemporaryDirectory() as folder:
            table = Table(Path(folder) / "table.f32")
            print(json.dumps(theirs(table) if sys.argv[1] == "theirs" else ours(table)))
        return
    turns = [(measured("ours"), measured("theirs")) for _ in range(N_TURNS)]
    mine = median(a["seconds"] for a, _ in turns)
    other = median(b["seconds"] for _, b in turns) * E / PEER_EPISODES
    print(f"{'sample a list of 10,000 episodes':52}{median(a['sampling'] for a, _ in turns):8.2f} s")
    print(f"{f'evaluate 10,000 episodes (median of {N_TURNS})':52}{mine:8.2f} s{E / mine:12,.0f} episodes/s")
    print(
        f"{f'by easyfsl (from {PEER_EPISODES}, median of {N_TURNS})':52}{other:8.2f} s{E / other:12,.0f} episodes/s"
    )
    print(f"{'ratio':52}{other / mine:8.1f} ×")
    print(f"{'peak memory added by the evaluation':52}{max(a['megabytes'] for a, _ in turns):8.0f} MB")
    a, b = turns[0]
    print(
        f"{f'accuracy on the first {PEER_EPISODES}: ours, theirs':52}{a['accuracy']:8.4f}  {b['accuracy']:.4f}"
    )


if __name__ == "__main__":
    main()
