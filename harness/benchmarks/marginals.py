"""How many queries of each class an episode asks: the Dirichlet rule of Veilleux et al., and our draws from it.

Veilleux, Boudiaf, Piantanida and Ben Ayed, "Realistic evaluation of transductive few-shot learning", NeurIPS 2021,
section 2: the class proportions of an episode's queries are drawn from a symmetric Dirichlet distribution. Their code
(oveilleux/Realistic_Transductive_Few_Shot, src/datasets/sampler.py) is what ``to_counts`` and ``dirichlet`` repeat, number
for number. It then draws queries without looking at the support, so that support images come back as queries, and gives
fewer queries where a class has too few images; ``sampling.unbalanced`` does neither.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.benchmarks.episodes import IntArray

FloatArray = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]


def dirichlet(alpha: float, n_way: int, n_episodes: int, seed: int) -> FloatArray:
    """Class proportions as the published code draws them: of numpy's legacy generator.

    Args:
        alpha: concentration of every class, > 0; 2 in the paper.
        n_way: W.
        n_episodes: E; drawing them at once or one by one gives the same rows.
        seed: of ``numpy.random.seed``.

    Returns:
        (E, W) float64; rows sum to 1.
    """
    legacy = np.random.RandomState(seed)
    return legacy.dirichlet(np.full(n_way, float(alpha)), size=n_episodes)


def to_counts(probability: npt.ArrayLike, n_query: int) -> IntArray:
    """Round shares of ``n_query`` queries to whole numbers that sum to it, by the rule of the published code.

    Shares are rounded half to even. While their sum is wrong, the entry whose fraction is nearest to one half (the first of
    equals) takes the other neighbour: the lower where there were too many, which is decided once. An entry is chosen once.

    Args:
        probability: (E, W) float in [0, 1], rows summing to 1.
        n_query: queries of an episode, all classes together.

    Returns:
        (E, W) int64; rows sum to ``n_query``.

    >>> to_counts([[0.5, 0.5, 0.0], [0.3, 0.3, 0.4]], 5).tolist()
    [[3, 2, 0], [2, 1, 2]]
    """
    share = np.array(probability, dtype=np.float64) * n_query
    has_too_many = np.rint(share).sum(axis=1) > n_query  # (E,)
    for _ in range(share.shape[1]):
        (off,) = np.nonzero(np.rint(share).sum(axis=1) != n_query)
        if not len(off):
            break
        here = share[off]
        chosen = np.abs(here - np.floor(here) - 0.5).argmin(axis=1)
        value = here[np.arange(len(off)), chosen]
        share[off, chosen] = np.where(has_too_many[off], np.floor(value), np.ceil(value))
    return np.rint(share).astype(np.int64)


def from_words(words: Words, n_way: int, alpha: int) -> FloatArray:
    """Class proportions of a symmetric Dirichlet distribution from random words, the same on every machine.

    The gaps between n - 1 uniform numbers have the Dirichlet distribution with n ones; sums of ``alpha`` neighbours have it
    with ``alpha``. So only whole numbers are compared and subtracted, and no function of a mathematical library decides.

    Args:
        words: (E, W · alpha - 1) uint64, uniform.
        n_way: W.
        alpha: concentration of every class, a whole number ≥ 1.

    Returns:
        (E, W) float64; rows sum to 1 up to rounding.
    """
    edges = np.sort(words, axis=1)[:, alpha - 1 :: alpha]  # (E, W - 1): every alpha-th, between two classes
    end = np.zeros((len(words), 1), dtype=np.uint64)  # 0, and 2**64 modulo 2**64
    gaps = np.diff(np.concatenate([end, edges, end], axis=1), axis=1)  # (E, W), modulo 2**64
    assert gaps.shape[1] == n_way, "a word for every gap but the last"
    return gaps.astype(np.float64) * 2.0**-64


def published_rows(
    counts: npt.ArrayLike, way: int, shot: int, n_query: int, n_episodes: int, seed: int, alpha: float = 2.0
) -> tuple[IntArray, ...]:
    """Episodes as the published sampler draws them, its two faults included: for comparison, not for lists.

    Queries do not know the support, which therefore comes back among them, and a class of fewer images than its count gives
    fewer queries.

    Args:
        counts: (C,) images per class; the rows of class c follow those of class c - 1.
        way, shot: classes per episode, support images per class.
        n_query: queries of an episode, all classes together.
        n_episodes: E.
        seed: of ``torch.manual_seed`` and ``numpy.random.seed``.
        alpha: concentration of every class.

    Returns:
        One (way · shot + queries,) int64 array of rows an episode: support, shot-major, then queries class by class.
    """
    import torch

    sizes = torch.as_tensor(np.asarray(counts, dtype=np.int64))
    first, generator = sizes.cumsum(0) - sizes, torch.Generator().manual_seed(seed)
    wanted = to_counts(dirichlet(alpha, way, n_episodes, seed), n_query)  # (E, W)

    def drawn(of_class: torch.Tensor, n: int) -> torch.Tensor:
        return first[of_class] + torch.randperm(int(sizes[of_class]), generator=generator)[:n]

    found = []
    for of_episode in wanted.tolist():
        classes = torch.randperm(len(sizes), generator=generator)[:way]
        support = torch.stack([drawn(c, shot) for c in classes], dim=1)  # (S, W)
        queries = [drawn(c, n) for c, n in zip(classes, of_episode, strict=True)]
        found.append(torch.cat([support.flatten(), *queries]).numpy())
    return tuple(found)
