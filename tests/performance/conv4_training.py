"""Training throughput of our Conv4 against the network as it is usually written.

Run with `python tests/performance/conv4_training.py`; prints images per second of forward and backward in
float32, once with the C library's defaults and once told to keep freed blocks (glibc only), which spares the
page faults of large activations.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import pairwise

import torch
from torch import nn

from harness.backbones import build

KEEP_FREED_BLOCKS = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "10000000000"}
INSIDE = "CONV4_TRAINING_ALLOCATOR"


def as_usually_written() -> nn.Module:
    """Convolution, batch norm, ReLU, pool, in the default memory layout."""
    layers: list[nn.Module] = []
    for a, b in pairwise([1, 64, 64, 64, 64]):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers)


def images_per_second(networks: dict[str, nn.Module], n_images: int, n_repeats: int) -> dict[str, float]:
    """Best of several interleaved passes, so that a busy moment hits all networks alike."""
    x = torch.rand(n_images, 1, 28, 28)
    best = dict.fromkeys(networks, float("inf"))
    for _ in range(n_repeats):
        for name, network in networks.items():
            network.zero_grad()
            start = time.perf_counter()
            network(x).flatten(1).square().sum().backward()
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: n_images / seconds for name, seconds in best.items()}


def main() -> None:
    if INSIDE not in os.environ:
        print(f"{'allocator':14} {'images':>6} {'as usual /s':>12} {'ours /s':>10} {'ratio':>6}", flush=True)
        for name, extra in (("default", {}), ("keeps blocks", KEEP_FREED_BLOCKS)):
            environment = {**os.environ, **extra, INSIDE: name}
            subprocess.run([sys.executable, __file__], check=True, env=environment)
        return
    for n_images in (100, 600):
        networks = {"usual": as_usually_written(), "ours": build("conv4", 28, 1)}
        speed = images_per_second(networks, n_images, n_repeats=2000 // n_images)
        usual, ours = speed["usual"], speed["ours"]
        print(
            f"{os.environ[INSIDE]:14} {n_images:6} {usual:12.0f} {ours:10.0f} {ours / usual:6.2f}", flush=True
        )


if __name__ == "__main__":
    main()
