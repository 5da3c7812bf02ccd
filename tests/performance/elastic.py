"""How much faster the vectorised elastic margin is than a loop over locations and queries.

Run with `python tests/performance/elastic.py`; prints milliseconds per training episode and the ratio.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from harness.ops.binocular import elastic_margin

N_QUERY, N_LOCATIONS, N_WAY = 105, 25, 15  # BML: 15-way, 7 queries per class, 5×5 maps


def literal(distances: Tensor, target: Tensor, progress: float) -> Tensor:
    """One query at one location at a time, as the definition reads."""
    margin = torch.zeros(distances.shape[:2])
    for location in range(distances.shape[1]):
        for query in range(distances.shape[0]):
            d, true = distances[query, location], int(target[query])
            p = torch.softmax(-d, dim=0)
            wrong = d.clone()
            wrong[true] = torch.inf
            hardest = int(wrong.argmin())
            if p[true] > 0.5 or p[hardest] > 0.5:
                continue
            margin[query, location] = 5.5 * (progress + 1e-8) * torch.sigmoid(0.1 * (d[true] - d[hardest]))
    return margin


def measure(spread: float, n_repeats: int = 20) -> tuple[float, float, float, float]:
    """Seconds of the loop and of the vectorised form, the largest difference and the active share."""
    generator = torch.Generator().manual_seed(0)
    distances = 10 + spread * torch.rand(N_QUERY, N_LOCATIONS, N_WAY, generator=generator)
    target = torch.arange(N_QUERY) % N_WAY
    at_each = target[:, None].expand(N_QUERY, N_LOCATIONS)
    start = time.perf_counter()
    looped = literal(distances, target, 0.5)
    middle = time.perf_counter()
    for _ in range(n_repeats):
        vectorised = elastic_margin(distances, at_each, progress=0.5)
    end = time.perf_counter()
    worst = float((looped - vectorised).abs().max())
    return middle - start, (end - middle) / n_repeats, worst, float((looped > 0).float().mean())


def main() -> None:
    print(f"{'active':>7} {'loop, ms':>10} {'vectorised, ms':>15} {'ratio':>7} {'largest difference':>20}")
    for spread in (1.0, 30.0):
        loop, vectorised, worst, active = measure(spread)
        ratio = loop / vectorised
        print(f"{active:7.0%} {1e3 * loop:10.1f} {1e3 * vectorised:15.2f} {ratio:7.0f} {worst:20.1e}")


if __name__ == "__main__":
    main()
