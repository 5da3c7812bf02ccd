"""The episode sampler: the same list on every machine, from counts and a seed, without opening an image.

Episode i of a list draws 64-bit words from its own Philox counter block (numpy guarantees the bits of a bit
generator, not those of ``choice``); integers are bounded by rejection, subsets come from a partial
Fisher–Yates shuffle. The queries of a class are drawn before its support, image by image, so that

* the first n of N episodes are the n-episode list,
* the 1-shot support is the first image of the 5-shot support and their queries are identical.

Unbalanced lists (``unbalanced``, ``all_remaining``) ask other queries of the episodes of a balanced list.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from harness.benchmarks import marginals
from harness.benchmarks.episodes import EpisodeList, IntArray
from harness.errors import DataError

LIST_LENGTH = 10_000
_STREAM = 0x6673_6265_6E63_6801  # "fsbench" and the version of this rule
_UNBALANCED = 0x6673_6265_6E63_6802  # another stream: counts of queries, and those beyond the balanced list's
_CHUNK = 1_000
_MOST_DRAWS = 50  # of the counts of one episode
_MOST_REFUSED = 0.1  # of all draws: beyond it the list would no longer be a Dirichlet's
Words = npt.NDArray[np.uint64]


def sample(
    counts: Sequence[int] | IntArray, way: int, shot: int, n_query: int, n_episodes: int, seed: int
) -> EpisodeList:
    """Draw a list of balanced episodes: ``way`` classes, then ``n_query`` + ``shot`` images of each.

    Args:
        counts: (C,) images per class; the rows of class c follow those of class c - 1.
        way: classes per episode, in [2, C].
        shot: support images per class, ≥ 1.
        n_query: queries per class, ≥ 1.
        n_episodes: length of the list, ≥ 1.
        seed: the benchmark's seed, in [0, 2**63).

    Returns:
        EpisodeList; no image occurs twice in an episode.

    Raises:
        DataError: when there are fewer classes than ``way`` or fewer images than ``shot + n_query``.
    """
    counts = np.asarray(counts, dtype=np.int64)
    _check(counts, way, shot, n_query, n_episodes)
    first_row = np.concatenate([[0], np.cumsum(counts)[:-1]])
    parts = [
        _draw(counts, first_row, way, shot, n_query, range(start, min(start + _CHUNK, n_episodes)), seed)
        for start in range(0, n_episodes, _CHUNK)
    ]
    return EpisodeList(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def unbalanced(
    balanced: EpisodeList, counts: Sequence[int] | IntArray, n_query: int, alpha: int, seed: int
) -> EpisodeList:
    """Ask queries of unequal numbers of the classes of a balanced list, by the Dirichlet rule of ``marginals``.

    Classes and support are those of the balanced list. Of its queries a class has the first ones, and where it has more
    than there are, images that the episode shows nowhere else. Counts that a class cannot serve are drawn again.

    Args:
        balanced: E episodes of W ways.
        counts: (C,) images per class.
        n_query: mean queries per class: each episode has W · n_query, ≥ 1.
        alpha: concentration of every class, a whole number ≥ 1.
        seed: the benchmark's seed, in [0, 2**63).

    Raises:
        DataError: when more than a tenth of the draws ask more of a class than it has.
    """
    counts = np.asarray(counts, dtype=np.int64)
    available = counts[balanced.classes] - balanced.shot  # (E, W)
    wanted = _wanted(available, balanced.n_way * n_query, alpha, seed)
    n_places = int(wanted.max())
    query = np.full((*wanted.shape, n_places), -1, dtype=np.int64)
    n_kept = min(n_places, balanced.query.shape[2])
    query[:, :, :n_kept] = balanced.query[:, :, :n_kept]
    if n_places > n_kept:
        query[:, :, n_kept:] = _further(balanced, counts, wanted - n_kept, seed)
    query[np.arange(n_places) >= wanted[:, :, None]] = -1
    return EpisodeList(balanced.classes, balanced.support, query)


def all_remaining(balanced: EpisodeList, counts: Sequence[int] | IntArray) -> EpisodeList:
    """Ask every image of the classes of a balanced list that is not support, in the order of rows.

    Args:
        balanced: its classes and support stay.
        counts: (C,) images per class.
    """
    counts = np.asarray(counts, dtype=np.int64)
    first_row = np.cumsum(counts) - counts
    position = np.broadcast_to(
        np.arange(counts.max() - balanced.shot), (*balanced.classes.shape, counts.max() - balanced.shot)
    )
    support = balanced.support - first_row[balanced.classes][:, :, None]
    rows = _passing_over(position, support)  # (E, W, Q) positions within each class
    rows = np.where(
        rows < counts[balanced.classes][:, :, None], rows + first_row[balanced.classes][:, :, None], -1
    )
    return EpisodeList(balanced.classes, balanced.support, rows)


def _wanted(available: IntArray, n_query: int, alpha: int, seed: int) -> IntArray:
    """(E, W) queries of each class, at most those available; drawn until they are."""
    n_episodes, way = available.shape
    wanted, missing, n_drawn = np.empty_like(available), np.arange(n_episodes), 0
    for draw in range(_MOST_DRAWS):
        words = np.empty((len(missing), way * alpha - 1), dtype=np.uint64)
        for i, episode in enumerate(missing.tolist()):
            source = np.random.Philox(key=[_UNBALANCED, seed], counter=[0, draw, episode, 0])
            words[i] = source.random_raw(words.shape[1])
        found = marginals.to_counts(marginals.from_words(words, way, alpha), n_query)
        wanted[missing], n_drawn = found, n_drawn + len(missing)
        missing = missing[(found > available[missing]).any(axis=1)]
        if not len(missing):
            break
    if len(missing) or n_drawn * (1 - _MOST_REFUSED) > n_episodes:
        raise DataError(
            f"{n_query} queries of {way} classes by a Dirichlet({alpha}) rule ask more of a class than its images beside the "
            f"support (as few as {int(available.min())}) in over {_MOST_REFUSED:.0%} of draws. Choose fewer queries, like "
            f"-q{max(1, int(available.min()) // way)}."
        )
    return wanted


def _further(balanced: EpisodeList, counts: IntArray, n_more: IntArray, seed: int) -> IntArray:
    """(E, W, M) rows of images that an episode does not show yet, M the most that a class wants; wrong beyond its own."""
    n_episodes, way = n_more.shape
    n_most = int(n_more.max())
    words = np.empty((n_episodes, way * n_most), dtype=np.uint64)
    for episode in range(n_episodes):
        source = np.random.Philox(key=[_UNBALANCED, seed], counter=[0, 0, episode, 1])
        words[episode] = source.random_raw(words.shape[1])
    first_row = (np.cumsum(counts) - counts)[balanced.classes]  # (E, W)
    shown = np.concatenate([balanced.query, balanced.support], axis=2) - first_row[:, :, None]
    n_hidden = counts[balanced.classes] - shown.shape[2]
    slot = np.tile(np.arange(1, way + 1), n_episodes)
    spare = _Spare(seed, np.repeat(np.arange(n_episodes), way), slot, _UNBALANCED)
    by_class = words.reshape(n_episodes, n_most, way).transpose(0, 2, 1)  # one word per image and class
    drawn = _partial_shuffle(by_class.reshape(-1, n_most), n_hidden.ravel(), spare)
    return _passing_over(drawn.reshape(n_episodes, way, n_most), shown) + first_row[:, :, None]


def _passing_over(position: IntArray, taken: IntArray) -> IntArray:
    """(…, k) positions among the numbers that are not taken → the numbers themselves; taken (…, t) are distinct."""
    found = position.copy()
    for t in np.moveaxis(np.sort(taken, axis=-1), -1, 0):
        found += found >= t[..., None]
    return found


def one_per_group(counts: Sequence[int] | IntArray, groups: Sequence[str], shot: int) -> EpisodeList:
    """Make each group of classes one episode: first ``shot`` images support, the rest queries.

    This is the form of published, fixed episodes such as Omniglot's 20 one-shot runs.

    Args:
        counts: (C,) images per class, all equal.
        groups: (C,) group of each class; groups are contiguous and equally large.
        shot: support images per class.

    Raises:
        DataError: when groups differ in size or classes in their number of images.
    """
    if [g for g, _ in itertools.groupby(groups)] != sorted(set(groups), key=list(groups).index):
        raise DataError(
            "Episodes by group need each group's classes side by side; these groups are interleaved."
        )
    names, sizes = np.unique(np.asarray(groups), return_counts=True)
    per_class = {int(c) for c in counts}
    if len(set(sizes.tolist())) != 1 or len(per_class) != 1 or min(per_class) <= shot:
        raise DataError(
            f"Episodes by group need equal groups of equally many images; found {len(names)} groups of "
            f"{sorted(set(sizes.tolist()))} classes with {sorted(per_class)} images."
        )
    classes = np.arange(len(groups), dtype=np.int64).reshape(len(names), -1)  # (E, W)
    rows = np.arange(len(groups) * per_class.pop(), dtype=np.int64).reshape(
        *classes.shape, -1
    )  # (E, W, S + Q)
    return EpisodeList(classes, rows[:, :, :shot], rows[:, :, shot:])


def within_classes(
    counts: Sequence[int] | IntArray, n: int, n_draws: int, seed: int, labels: Sequence[int] | IntArray
) -> IntArray:
    """Draw ``n`` images of every class, ``n_draws`` times.

    Each draw of each class has words of its own, so n images are the first of more, and a class's images depend
    neither on other classes nor on their number. (With one stream for all classes, as Hariharan and Girshick
    re-seed theirs, classes of one size get the same positions: a confound where position has a meaning.)

    Args:
        counts: (C,) images to draw from, each ≥ n.
        n: images of each class, ≥ 1.
        n_draws: E.
        seed: the benchmark's seed, in [0, 2**63).
        labels: (C,) what tells the streams of the classes apart.

    Returns:
        (E, C, n) int64 positions within each class, distinct.

    Raises:
        DataError: when a class has fewer than ``n`` images.
    """
    counts = np.asarray(counts, dtype=np.int64)
    if n < 1 or counts.min() < n:
        raise DataError(f"{n} images of each class cannot be drawn; the smallest has {int(counts.min())}.")
    draw = np.repeat(np.arange(n_draws), len(counts))  # (E·C,)
    slot = 1 + np.tile(np.asarray(labels, dtype=np.int64), n_draws)
    words = np.empty((len(draw), n), dtype=np.uint64)
    for i, (e, s) in enumerate(zip(draw.tolist(), slot.tolist(), strict=True)):
        words[i] = np.random.Philox(key=[_STREAM, seed], counter=[0, 0, e, s]).random_raw(n)
    drawn = _partial_shuffle(words, np.tile(counts, n_draws), _Spare(seed, draw, slot))
    return drawn.reshape(n_draws, len(counts), n)


def _check(counts: IntArray, way: int, shot: int, n_query: int, n_episodes: int) -> None:
    if min(way - 1, shot, n_query, n_episodes) < 1:
        raise DataError(
            f"An episode list needs way ≥ 2 and shot, queries and episodes ≥ 1; asked for {way}-way "
            f"{shot}-shot, {n_query} queries, {n_episodes} episodes."
        )
    if way > len(counts):
        raise DataError(f"{way}-way episodes need {way} classes; this set has {len(counts)}.")
    if counts.min() < shot + n_query:
        raise DataError(
            f"{shot} support and {n_query} query images need {shot + n_query} images of each class; the "
            f"smallest class has {int(counts.min())}. Choose fewer shots, or fewer queries with -q{max(1, int(counts.min()) - shot)}."
        )


def _draw(
    counts: IntArray, first_row: IntArray, way: int, shot: int, n_query: int, episodes: range, seed: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Draw the episodes of one chunk; (e, W), (e, W, S), (e, W, Q)."""
    n_images = n_query + shot
    words, spare = _words(seed, episodes, way * (1 + n_images))
    classes = _partial_shuffle(words[:, :way], np.full(len(episodes), len(counts)), spare)  # (e, W)
    image_words = words[:, way:].reshape(len(episodes), n_images, way)  # one word per image and class
    image_words = image_words.transpose(0, 2, 1).reshape(-1, n_images)  # (e·W, Q + S)
    spare_by_class = _Spare(
        spare.seed, np.repeat(spare.episode, way), np.tile(np.arange(1, way + 1), len(episodes))
    )
    images = _partial_shuffle(image_words, counts[classes].ravel(), spare_by_class)
    rows = images.reshape(len(episodes), way, n_images) + first_row[classes][:, :, None]
    return classes, rows[:, :, n_query:], rows[:, :, :n_query]


class _Spare:
    """Words for the (practically unseen) case that rejection asks for more: a block per episode, slot and draw."""

    def __init__(self, seed: int, episode: IntArray, slot: IntArray, key: int = _STREAM) -> None:
        self.seed, self.episode, self.slot, self.key = seed, episode, slot, key

    def stream(self, row: int, draw: int) -> Iterator[int]:
        counter = [0, 1 + draw, int(self.episode[row]), int(self.slot[row])]
        source = np.random.Philox(key=[self.key, self.seed], counter=counter)
        while True:
            yield int(source.random_raw())


def _words(seed: int, episodes: range, n: int) -> tuple[Words, _Spare]:
    """First ``n`` words of each episode's own counter block, (e, n) uint64."""
    words = np.empty((len(episodes), n), dtype=np.uint64)
    for i, episode in enumerate(episodes):
        words[i] = np.random.Philox(key=[_STREAM, seed], counter=[0, 0, episode, 0]).random_raw(n)
    index = np.array(episodes, dtype=np.int64)
    return words, _Spare(seed, index, np.zeros_like(index))


def bounded(words: Words, n: IntArray, spare: _Spare, draw: int = 0) -> IntArray:
    """Turn words into unbiased integers in [0, n), by rejection above the largest multiple of n.

    Args:
        words: (r,) uint64.
        n: (r,) int64 ≥ 1.
        spare: where a row's further words come from.
        draw: which draw of the row this is; each has further words of its own.

    Returns:
        (r,) int64.
    """
    words = words.copy()
    bound = n.astype(np.uint64)
    surplus = (np.uint64(0) - bound) % bound  # 2**64 mod n
    rejected = np.flatnonzero(words > np.uint64(2**64 - 1) - surplus)
    for row in rejected:
        limit = 2**64 - int(surplus[row])
        words[row] = next(word for word in spare.stream(int(row), draw) if word < limit)
    return (words % bound).astype(np.int64)


def _partial_shuffle(words: Words, n: IntArray, spare: _Spare) -> IntArray:
    """First k places of a Fisher–Yates shuffle of range(n), row by row, in memory independent of n.

    Args:
        words: (r, k) uint64.
        n: (r,) int64.
        spare: further words.

    Returns:
        (r, k) int64; the first n of each row are distinct, what follows them means nothing.
    """
    k = words.shape[1]
    drawn = np.empty((len(words), k), dtype=np.int64)
    moved_from = np.empty_like(drawn)  # place that step t wrote to
    moved_to = np.empty_like(drawn)  # what it put there
    for t in range(k):
        place = t + bounded(words[:, t], np.maximum(n - t, 1), spare, t)
        here = np.full(len(words), t, dtype=np.int64)  # what stands at place t now
        there = place.copy()  # what stands at the drawn place now
        for s in range(t):
            here = np.where(moved_from[:, s] == t, moved_to[:, s], here)
            there = np.where(moved_from[:, s] == place, moved_to[:, s], there)
        drawn[:, t] = there
        moved_from[:, t], moved_to[:, t] = place, here
    return drawn
