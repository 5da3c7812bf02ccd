"""Evaluation of dense features: BML's two maps of 640×5×5 numbers an image; prints time and memory.

2,000 5-way 5-shot 15-query episodes from a memory-mapped table of 6,000 images, 32,000 float32 numbers each.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

from harness.system import process

if __name__ == "__main__":
    process.settle_threads()  # before torch is there

import numpy as np
import torch

from harness.backbones import build
from harness.benchmarks.sampling import sample
from harness.evaluation.protocols import EPISODIC
from harness.system.process import keep_freed_memory
from methods.bml import Bml

N_CLASSES, N_EACH, E = 20, 300, 2000
SHAPE = (N_CLASSES * N_EACH, 2, 640, 5, 5)


class Table:
    """Maps by row, from a memory map."""

    def __init__(self, path: Path) -> None:
        rows = np.memmap(path, dtype=np.float32, mode="w+", shape=SHAPE)
        rng = np.random.default_rng(0)
        for c in range(N_CLASSES):
            centre = rng.normal(size=SHAPE[1:])
            for row in range(c * N_EACH, (c + 1) * N_EACH):
                rows[row] = np.maximum(centre + 4 * rng.normal(size=SHAPE[1:]), 0)  # after ReLU, as they are
        self.tensor = torch.from_numpy(rows)

    def take(self, rows: np.ndarray) -> torch.Tensor:
        """(n,) rows → (n, 2, 640, 5, 5)."""
        return self.tensor.index_select(0, torch.from_numpy(rows))


def main() -> None:
    """Measure and print."""
    keep_freed_memory()
    method = Bml(Bml.Config(), build("resnet12", 84, 3)).eval()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        table = Table(Path(folder) / "table.f32")
        episodes = sample([N_EACH] * N_CLASSES, 5, 5, 15, E, seed=0)
        start = time.perf_counter()
        predictions = EPISODIC.predict(method, episodes, table, seed=0)
        seconds = time.perf_counter() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    n_bytes = int(np.prod(SHAPE)) * 4 / 2**20
    print(f"{f'evaluate {E:,} episodes of dense features':52}{seconds:8.1f} s{E / seconds:12,.0f} episodes/s")
    print(f"{'table':52}{n_bytes:8.0f} MB")
    print(f"{'peak memory added beyond the table':52}{peak - n_bytes:8.0f} MB")
    print(f"{'accuracy':52}{(predictions == episodes.query_label).mean():8.4f}")


if __name__ == "__main__":
    sys.exit(main())
