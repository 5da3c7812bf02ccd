"""Transport solvers of DeepEMD side by side: prints a table of microseconds per problem and their ratios.

Problems are those of one 5-way episode of 75 queries: node sets of a common part and noise. The loop is written as
DeepEMD's authors solve them: every query and class by itself through cv2.EMD, cost and weights cut from tensors,
the flow multiplied into the similarity map in place. SFC fits the class nodes of a 5-shot episode in 700 such steps,
of which the first few passes over the support are timed. Shown is the processor time of the calling thread, the best
of some rounds in turn: the wall clock's on idle cores, and hardly moved by what else runs. One thread, unless two are
named; then the calling thread does half of the solving, and what two cores take from each other is not seen. Memory
is the system's, as the authors' code finds it: where freed blocks are kept (`keep_freed_memory`, as in every job of
ours), their head takes two thirds of the time, their SFC half, and ours about as long. qpth, the other solver of the authors
and the one whose gradient reaches the masses, is timed on the problems of one query, where it is installed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is there

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from harness.ops.node_matching import (
    OPENCV_EXTRA,
    cross_reference_weights,
    masses,
    node_scores,
    node_similarities,
)
from harness.ops.transport import Solver, transport
from methods.deepemd import DeepEmd
from methods.deepemd.sfc import fit_sfc

N_QUERY, N_WAY, N_CHANNELS, TEMPERATURE = 75, 5, 640, 12.5
N_ROUNDS, N_CALLS = 10, 3
QPTH, QPTH_NODES, QPTH_QUERIES = "qpth", 25, 1  # it is given the problems of so few queries
SHOT, N_PASSES, ALL_PASSES, SFC_LR, SFC_BATCH = 5, 2, 100, 100.0, 4


class Episode(NamedTuple):
    """Features and what the heads make of them, float32.

    Attributes:
        query: (75, L, 640) nodes.
        prototypes: (5, L, 640) nodes.
        similarity: (75, 5, L, L).
        of_query: (75, 5, L) raw weights.
        of_prototypes: (75, 5, L) raw weights.
    """

    query: Tensor
    prototypes: Tensor
    similarity: Tensor
    of_query: Tensor
    of_prototypes: Tensor


def episode(n_nodes: int) -> Episode:
    """Features whose nodes share a part of their class."""
    draw = torch.Generator().manual_seed(n_nodes)
    classes = torch.randn(N_WAY, n_nodes, N_CHANNELS, generator=draw)
    common = torch.randn(N_CHANNELS, generator=draw)
    prototypes = (classes + torch.randn(classes.shape, generator=draw) + common).relu()
    query = classes.repeat(N_QUERY // N_WAY, 1, 1)
    query = (query + 2 * torch.randn(query.shape, generator=draw) + common).relu()
    return Episode(
        query,
        prototypes,
        node_similarities(query, prototypes),
        cross_reference_weights(query, prototypes),
        cross_reference_weights(prototypes, query).transpose(0, 1),
    )


def authors_loop(similarity: Tensor, of_query: Tensor, of_prototypes: Tensor) -> Tensor:
    """Scores by one cv2.EMD after another."""
    similarity = similarity.clone()
    n_query, n_way, n_nodes, _ = similarity.shape
    for i in range(n_query):
        for j in range(n_way):
            cost = 1 - similarity[i, j, :, :]
            one = functional.relu(of_query[i, j, :]) + OPENCV_EXTRA
            other = functional.relu(of_prototypes[i, j, :]) + OPENCV_EXTRA
            one = (one * (one.shape[0] / one.sum().item())).view(-1, 1)
            other = (other * (other.shape[0] / other.sum().item())).view(-1, 1)
            found = cv2.EMD(
                one.detach().cpu().numpy(),
                other.detach().cpu().numpy(),
                cv2.DIST_USER,
                cost.detach().cpu().numpy(),
            )
            similarity[i, j, :, :] = similarity[i, j, :, :] * torch.from_numpy(found[-1])
    return similarity.sum(-1).sum(-1) * (TEMPERATURE / n_nodes)


def authors_head(query: Tensor, prototypes: Tensor) -> Tensor:
    """The same from features, with the cosine over tensors (75, 5, L, L, 640)."""
    one, other = (x - x.mean(-1, keepdim=True) for x in (query, prototypes))
    spread = (len(one), N_WAY, one.shape[1], one.shape[1], N_CHANNELS)
    similarity = functional.cosine_similarity(
        one[:, None, :, None].expand(spread), other[None, :, None].expand(spread), dim=-1
    )
    return authors_loop(
        similarity,
        cross_reference_weights(query, prototypes),
        cross_reference_weights(prototypes, query).transpose(0, 1),
    )


def ours(
    similarity: Tensor, of_query: Tensor, of_prototypes: Tensor, solver: Solver, n_threads: int
) -> Tensor:
    """Scores from the same similarities and raw weights, all problems in one call."""
    a, b = (masses(x, extra=OPENCV_EXTRA).flatten(0, 1) for x in (of_query, of_prototypes))
    value = transport(1 - similarity.flatten(0, 1), a, b, solver, n_threads=n_threads).value
    return TEMPERATURE * (1 - value).reshape(similarity.shape[:2])


def with_gradient(solve: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Scores, once their sum has gone back to the inputs."""
    inputs = tuple(x.detach().requires_grad_() for x in inputs)
    scores = solve(*inputs)
    scores.sum().backward()
    return scores


Work = dict[str, Callable[[], Tensor]]


def solvers(e: Episode, wrap: Callable[..., Tensor]) -> Work:
    """The rows of one size: the authors' way first."""
    given = (e.similarity, e.of_query, e.of_prototypes)
    return {
        "authors' opencv loop": lambda: wrap(authors_loop, *given),
        "POT emd_c": lambda: wrap(lambda *x: ours(*x, "pot", 1), *given),
        "exact": lambda: wrap(lambda *x: ours(*x, "exact", 1), *given),
        "exact, two threads": lambda: wrap(lambda *x: ours(*x, "exact", 2), *given),
    }


def by_qpth(e: Episode) -> Work:
    """The row of qpth, forward and full gradient, over the first queries; empty where it is not installed."""
    if find_spec("qpth") is None:
        return {}
    of_few = (x[:QPTH_QUERIES] for x in (e.similarity, e.of_query, e.of_prototypes))
    return {QPTH: partial(with_gradient, lambda *x: ours(*x, QPTH, 1), *of_few)}


def heads(e: Episode) -> Work:
    """From features to scores."""
    return {
        "authors' head": lambda: authors_head(e.query, e.prototypes),
        "ours": lambda: node_scores(e.query, e.prototypes, extra=OPENCV_EXTRA),
    }


def authors_sfc(support: Tensor, target: Tensor, start: Tensor, orders: Tensor) -> Tensor:
    """Class nodes by one step after another, each by the authors' head."""
    sfc = torch.nn.Parameter(start.clone())
    optimiser = torch.optim.SGD([sfc], lr=SFC_LR, momentum=0.9, dampening=0.9)
    with torch.enable_grad():
        for order in orders:
            for rows in order.split(SFC_BATCH):
                optimiser.zero_grad()
                functional.cross_entropy(authors_head(support[rows], sfc), target[rows]).backward()
                optimiser.step()
    return sfc.detach()


def our_sfc(support: Tensor, target: Tensor, start: Tensor, orders: Tensor, n: int) -> Tensor:
    """The same in n equal episodes together; those of the first."""
    head = partial(node_scores, grad="flow-only", extra=OPENCV_EXTRA)
    given = (x.expand(n, *x.shape) for x in (support, target, start, orders))
    return fit_sfc(*given, head, lr=SFC_LR, batch_size=SFC_BATCH)[0]


def sfc(e: Episode) -> dict[str, tuple[Callable[[], Tensor], int]]:
    """Ways to fit the nodes of one episode, with the number of episodes that each fits."""
    support, target = e.query[: N_WAY * SHOT], torch.arange(N_WAY).repeat(SHOT)
    start = support.unflatten(0, (SHOT, N_WAY)).mean(0)  # (W, L, D)
    draw = torch.Generator().manual_seed(0)
    orders = torch.stack([torch.randperm(len(support), generator=draw) for _ in range(N_PASSES)])
    given = support, target, start, orders
    together = DeepEmd.episode_batch
    return {
        "authors' loop": (lambda: authors_sfc(*given), 1),
        "ours": (lambda: our_sfc(*given, 1), 1),
        f"ours, {together} episodes at once": (lambda: our_sfc(*given, together), together),
    }


def show_sfc(ways: dict[str, tuple[Callable[[], Tensor], int]], n_rounds: int) -> None:
    """Time the ways in turn and print them: seconds of an episode of all passes, in proportion."""
    nodes, best = in_turn({name: fit for name, (fit, _) in ways.items()}, n_rounds)
    best = {name: each / ways[name][1] for name, each in best.items()}
    apart = max(float((x - nodes[0]).norm() / nodes[0].norm()) for x in nodes)
    usual = next(iter(best.values()))
    print(
        f"\nSFC, a 5-way 5-shot episode of 25 nodes, {ALL_PASSES} passes from {N_PASSES} (nodes differ by {apart:.0e})"
    )
    print(f"{'':28}{'s/episode':>12}{'times':>9}")
    for name, each in best.items():
        print(f"{name:28}{each * ALL_PASSES / N_PASSES:12.2f}{usual / each:9.1f}")


def show(title: str, work: Work, n_rounds: int, few: Work | None = None) -> None:
    """Time the ways in turn, after one call each that also checks that they agree, and print them.

    Those of ``few`` have the problems of the first queries alone and one round; their time is in proportion.
    """
    with torch.set_grad_enabled("gradient" in title):
        scores, best = in_turn(work, n_rounds)
        of_few, best_of_few = in_turn(few or {}, 1)
    usual = next(iter(best.values()))
    found = [*scores, *of_few]
    apart = max(float((s - scores[0][: len(s)]).abs().max()) for s in found)
    best |= {name: each * N_QUERY / QPTH_QUERIES for name, each in best_of_few.items()}
    print(f"\n{title} (scores differ by {apart:.0e} at most)")
    print(f"{'':28}{'µs/problem':>12}{'ms/episode':>12}{'times':>9}")
    for name, each in best.items():
        times = f"{usual / each:9.1f}" if usual / each >= 0.05 else f"{usual / each:9.4f}"
        print(f"{name:28}{each / N_QUERY / N_WAY * 1e6:12.1f}{each * 1e3:12.1f}{times}")
    if "exact" in best:
        print(f"two threads are {best['exact'] / best['exact, two threads']:.2f} times one")
    if QPTH in best:
        print(f"exact is {best[QPTH] / best['exact']:,.0f} times as fast as qpth")


def in_turn(work: Work, n_rounds: int) -> tuple[list[Tensor], dict[str, float]]:
    """What each way gives, and the least seconds of this thread that a call took; some calls in a row each round."""
    found = [solve().detach() for solve in work.values()]
    best = dict.fromkeys(work, float("inf"))
    for _ in range(n_rounds):
        for name, solve in work.items():
            for _ in range(N_CALLS):  # the first finds the caches full of the others' data
                start = time.thread_time()
                solve()
                best[name] = min(best[name], time.thread_time() - start)
    return found, best


def main() -> None:
    """Measure and print."""
    start = time.perf_counter()
    first = torch.full((1, 2), 0.5)
    transport(torch.rand(1, 2, 2), first, first)
    print(f"first call (compiled once, then read from disk): {time.perf_counter() - start:.1f} s")
    print(
        f"torch {torch.__version__}, numpy {np.__version__}, opencv {cv2.__version__}, {os.cpu_count()} processors"
    )
    for n_nodes in (9, 25):
        e = episode(n_nodes)
        show(f"{n_nodes}×{n_nodes}, forward", solvers(e, lambda solve, *x: solve(*x)), N_ROUNDS)
        few = by_qpth(e) if n_nodes == QPTH_NODES else None
        show(f"{n_nodes}×{n_nodes}, forward and gradient", solvers(e, with_gradient), N_ROUNDS, few)
    for n_nodes in (25, 38):
        show(f"whole 1-shot head, {n_nodes} nodes", heads(episode(n_nodes)), 3)
    show_sfc(sfc(episode(25)), 1)


if __name__ == "__main__":
    sys.exit(main())
