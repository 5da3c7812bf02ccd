"""Training throughput of our Conv4 against the network as it is usually written.

Run with `python tests/performance/conv4_training.py`; prints images per second of forward and backward in
float32, each side in a process of its own: ours as a run settles threads and memory, the other as Python starts.
A batch of 360 is one training episode of 60 ways, 1 shot and 5 queries.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from itertools import pairwise

from harness.system import process

if "usual" not in sys.argv:
    process.settle_threads()  # before torch is there

import torch
from torch import nn

from harness.backbones import build
from harness.system.process import keep_freed_memory

BATCHES = (100, 360, 600)
N_TURNS = 3


def as_usually_written() -> nn.Module:
    """Convolution, batch norm, ReLU, pool, in the default memory layout."""
    layers: list[nn.Module] = []
    for a, b in pairwise([1, 64, 64, 64, 64]):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers)


def images_per_second(network: nn.Module, x: torch.Tensor) -> float:
    """Best of several passes."""
    best = float("inf")
    for _ in range(2000 // len(x) + 1):
        network.zero_grad()
        start = time.perf_counter()
        network(x).flatten(1).square().sum().backward()
        best = min(best, time.perf_counter() - start)
    return len(x) / best


def one_side(side: str) -> list[float]:
    """Speed at each batch size."""
    if side == "usual":
        network = as_usually_written()
        return [images_per_second(network, torch.rand(n, 1, 28, 28)) for n in BATCHES]
    keep_freed_memory()
    network = build("conv4", 28, 1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = (torch.rand(n, 1, 28, 28).contiguous(memory_format=torch.channels_last) for n in BATCHES)
    return [images_per_second(network, x) for x in images]


def measured(side: str) -> list[float]:
    """Run one side in a process of its own."""
    answer = subprocess.run([sys.executable, __file__, side], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(answer.stdout)


def main() -> None:
    """Print the table, or measure one side and print it as JSON."""
    if len(sys.argv) > 1:
        print(json.dumps(one_side(sys.argv[1])))
        return
    turns = [(measured("usual"), measured("ours")) for _ in range(N_TURNS)]
    print(f"{'batch':>6} {'as usual img/s':>15} {'ours img/s':>11} {'ratio':>6}   best of {N_TURNS} turns")
    for i, n in enumerate(BATCHES):
        usual, ours = max(t[0][i] for t in turns), max(t[1][i] for t in turns)
        print(f"{n:6} {usual:15,.0f} {ours:11,.0f} {ours / usual:6.2f}")


if __name__ == "__main__":
    main()
