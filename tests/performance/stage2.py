"""How much faster the batched episode classifier is than one SGD loop per episode.

Run with `python tests/performance/stage2.py`; prints seconds per 600 episodes and the ratio.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor
from torch.nn import functional

from harness.ops.linear_head import Sgd, draw_heads, draw_orders, fit_heads
from harness.ops.margin import Similarity, similarities

N_EPISODES, N_WAY, DIM, N_PASSES, SCALE = 600, 5, 640, 100, 5.0


def one_episode(support: Tensor, target: Tensor, weight: Tensor, orders: Tensor, kind: Similarity) -> Tensor:
    """The usual way: autograd and torch's SGD, one small batch after another."""
    sgd = Sgd()
    weight = weight.clone().requires_grad_()
    optimiser = torch.optim.SGD(
        [weight], sgd.lr, sgd.momentum, sgd.dampening, weight_decay=sgd.weight_decay, nesterov=False
    )
    for order in orders:
        for batch in order.split(sgd.batch_size):
            optimiser.zero_grad()
            scores = SCALE * similarities(support[batch], weight, kind)
            functional.cross_entropy(scores, target[batch]).backward()
            optimiser.step()
    return weight.detach()


def measure(kind: Similarity, shot: int, n_loop: int = 2) -> tuple[float, float, float]:
    """Seconds per 600 episodes of the loop (from ``n_loop`` episodes) and of the batch; largest difference."""
    generators = [torch.Generator().manual_seed(e) for e in range(N_EPISODES)]
    n = N_WAY * shot
    support = torch.randn(N_EPISODES, n, DIM, generator=generators[0]).relu()
    target = torch.arange(N_WAY).repeat_interleave(shot).expand(N_EPISODES, n)
    start = time.perf_counter()
    weight, orders = draw_heads(generators, N_WAY, DIM), draw_orders(generators, n, N_PASSES)
    batched = fit_heads(support, target, weight, orders, kind=kind, scale=SCALE)
    middle = time.perf_counter()
    looped = [one_episode(support[e], target[e], weight[e], orders[e], kind) for e in range(n_loop)]
    end = time.perf_counter()
    worst = float((torch.stack(looped) - batched[:n_loop]).abs().max())
    return (end - middle) / n_loop * N_EPISODES, middle - start, worst


def main() -> None:
    print(
        f"{'head':8} {'shot':>4} {'loop, s':>10} {'batched, s':>10} {'ratio':>7} {'largest difference':>20}"
    )
    for kind in ("cosine", "dot"):
        for shot in (1, 5):
            loop, batched, worst = measure(kind, shot)
            print(f"{kind:8} {shot:4} {loop:10.1f} {batched:10.2f} {loop / batched:7.0f} {worst:20.1e}")


if __name__ == "__main__":
    main()
