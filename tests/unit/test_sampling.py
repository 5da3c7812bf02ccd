"""The sampler: properties of every list, uniform draws, the rule itself against a plain twin, locked digests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.benchmarks import sampling
from harness.benchmarks.episodes import EpisodeList
from harness.benchmarks.sampling import bounded, one_per_group, sample
from harness.errors import DataError

# A fair sampler is refused by a test with this probability; the lists are fixed, so it either passes or never does.
P_UNLUCKY = 1e-4


class Case(NamedTuple):
    counts: list[int]
    way: int
    shot: int
    n_query: int
    seed: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    counts = draw(st.lists(st.integers(4, 30), min_size=2, max_size=12))
    n_query = draw(st.integers(1, min(counts) - 1))
    shot = draw(st.integers(1, min(counts) - n_query))
    return Case(counts, draw(st.integers(2, len(counts))), shot, n_query, draw(st.integers(0, 2**63 - 1)))


def draw_list(case: Case, n: int = 6) -> EpisodeList:
    return sample(case.counts, case.way, case.shot, case.n_query, n, case.seed)


@given(cases())
def test_shapes_are_as_asked(case: Case) -> None:
    episodes = draw_list(case)
    assert episodes.classes.shape == (6, case.way)
    assert episodes.support.shape == (6, case.way, case.shot)
    assert episodes.query.shape == (6, case.way, case.n_query)
    assert episodes.classes.dtype == episodes.support.dtype == episodes.query.dtype == np.int64


@given(cases())
def test_no_image_or_class_occurs_twice_in_an_episode(case: Case) -> None:
    for episode in draw_list(case):
        rows = [*episode.support, *episode.query]
        assert len(set(rows)) == len(rows)  # so support and query share none
        assert len(set(episode.classes.tolist())) == case.way


@given(cases())
def test_every_row_belongs_to_its_class(case: Case) -> None:
    label = np.repeat(np.arange(len(case.counts)), case.counts)
    for episode in draw_list(case):
        assert (label[episode.support] == episode.classes[episode.support_label]).all()
        assert (label[episode.query] == episode.classes[episode.query_label]).all()


@given(cases(), st.integers(1, 6))
def test_the_first_episodes_of_a_list_are_the_shorter_list(case: Case, n: int) -> None:
    assert draw_list(case)[:n].digest == draw_list(case, n).digest


@given(cases())
def test_fewer_shots_are_the_first_of_more_with_the_same_queries(case: Case) -> None:
    more = draw_list(case)
    for shot in range(1, case.shot):
        fewer = draw_list(case._replace(shot=shot))
        assert (fewer.support == more.support[:, :, :shot]).all()
        assert (fewer.query == more.query).all()
        assert (fewer.classes == more.classes).all()


@given(cases())
def test_the_list_is_the_same_each_time_and_another_for_another_seed(case: Case) -> None:
    assert draw_list(case).digest == draw_list(case).digest
    big = case._replace(
        counts=[50] * 12, seed=case.seed // 2
    )  # two lists of these agree by chance in 1 of 10^10
    assert draw_list(big).digest != draw_list(big._replace(seed=big.seed + 1)).digest


@given(cases())
@settings(max_examples=20)
def test_memory_chunks_do_not_show(case: Case) -> None:
    with pytest.MonkeyPatch.context() as patch:
        whole = draw_list(case, 10)
        patch.setattr(sampling, "_CHUNK", 3)
        assert draw_list(case, 10).digest == whole.digest


def test_counts_are_not_changed_and_may_be_a_list_or_an_array() -> None:
    counts = np.array([9, 7, 8])
    assert sample(counts, 2, 1, 3, 4, 0).digest == sample([9, 7, 8], 2, 1, 3, 4, 0).digest
    assert counts.tolist() == [9, 7, 8]


def test_lists_are_the_locked_ones() -> None:
    # Published digests rest on this rule; a change of these two values is a new rule and needs a new _STREAM.
    locked = "ed7119804ceebf4b3c118114fa644ce2679cae8010c69cb1f0d331677f7c2f97"
    assert sample([20] * 8, 5, 1, 3, 10, 1).digest == locked
    locked = "1e16dbfbcc7801bc275f98469b5f654529ac6214a31cbecbea52e5ffc0f3495b"  # unequal classes, two chunks
    assert sample([6, 9, 7, 8, 30], 3, 2, 4, 1500, 2026).digest == locked


def twin(case: Case, n: int) -> EpisodeList:
    """The rule in plain Python: a pack of cards per draw, one word per card."""
    lists: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    for i in range(n):
        n_images = case.n_query + case.shot
        philox = np.random.Philox(key=[sampling._STREAM, case.seed], counter=[0, 0, i, 0])
        words = [int(w) for w in philox.random_raw(case.way * (1 + n_images))]
        classes = shuffled(len(case.counts), words[: case.way])
        support, query = [], []
        for c, label in enumerate(classes):
            # after the classes' words: first images of all classes, then their second images, …
            cards = shuffled(case.counts[label], words[case.way + c :: case.way])
            rows = [sum(case.counts[:label]) + card for card in cards]
            query.append(rows[: case.n_query])
            support.append(rows[case.n_query :])
        for found, part in zip(lists, (classes, support, query), strict=True):
            found.append(part)
    return EpisodeList(*(np.array(part) for part in lists))


def shuffled(n: int, words: list[int]) -> list[int]:
    cards = list(range(n))
    for t, word in enumerate(words):
        place = t + word % (n - t)  # no word of these tests lies in the rejected sliver of about n / 2**64
        cards[t], cards[place] = cards[place], cards[t]
    return cards[: len(words)]


@given(cases())
@settings(max_examples=50)
def test_the_sampler_agrees_with_a_plain_twin(case: Case) -> None:
    assert draw_list(case, 4).digest == twin(case, 4).digest


def assert_uniform(counts: np.ndarray[Any, Any]) -> None:
    """Chi-square; draws without replacement vary less than independent ones, so it refuses a fair list even less."""
    assert stats.chisquare(counts.ravel()).pvalue > P_UNLUCKY


def test_classes_are_drawn_uniformly() -> None:
    episodes = sample([6] * 20, 5, 1, 1, 4_000, seed=11)
    assert_uniform(np.bincount(episodes.classes.ravel(), minlength=20))


def test_each_class_comes_in_each_place_uniformly() -> None:
    episodes = sample([6] * 10, 4, 1, 1, 4_000, seed=12)
    for place in range(4):
        assert_uniform(np.bincount(episodes.classes[:, place], minlength=10))


def test_pairs_of_classes_are_drawn_uniformly() -> None:
    episodes = sample([6] * 6, 2, 1, 1, 6_000, seed=13)
    pairs = np.bincount(episodes.classes @ [6, 1], minlength=36)
    assert (pairs[::7] == 0).all()  # no class with itself
    assert_uniform(np.delete(pairs, np.arange(0, 36, 7)))


def test_images_are_drawn_uniformly_for_support_and_for_query() -> None:
    episodes = sample([12, 12], 2, 2, 3, 4_000, seed=14)
    for part in (episodes.support, episodes.query):
        for place in range(part.shape[2]):
            assert_uniform(np.bincount(part[:, :, place].ravel(), minlength=24))


def test_the_classes_of_an_episode_say_nothing_of_the_next() -> None:
    episodes = sample([6] * 8, 2, 1, 1, 6_000, seed=15)
    first = episodes.classes[:, 0]
    table = np.zeros((8, 8))
    np.add.at(table, (first[:-1], first[1:]), 1)
    assert stats.chi2_contingency(table).pvalue > P_UNLUCKY


class Spare:
    """Gives the words of a script instead of Philox's, and notes whose words were asked for."""

    def __init__(self, *words: int) -> None:
        self.words, self.asked = words, []  # type: ignore[var-annotated]

    def stream(self, row: int, draw: int) -> Iterator[int]:
        self.asked.append(row)
        yield from self.words


def words(*values: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    return np.array(values, dtype=np.uint64)


@given(st.integers(1, 2**40), st.integers(0, 2**64 - 1))
def test_bounded_is_the_remainder_below_the_largest_multiple(n: int, word: int) -> None:
    spare, limit = Spare(5), 2**64 - 2**64 % n
    found = bounded(words(word), np.array([n]), spare)  # type: ignore[arg-type]
    assert found.tolist() == [word % n if word < limit else 5 % n]
    assert spare.asked == ([] if word < limit else [0])


def test_bounded_rejects_exactly_the_words_that_would_favour_small_numbers() -> None:
    # 2**64 = 3k + 1: the one word too many is the last, 2**64 - 1; it would give 0 once too often.
    spare = Spare(7)
    found = bounded(words(2**64 - 2, 2**64 - 1, 4), np.array([3, 3, 3]), spare)  # type: ignore[arg-type]
    assert found.tolist() == [(2**64 - 2) % 3, 7 % 3, 1]
    assert spare.asked == [1]
    # 2**64 = 5k + 1 and = 7k + 2
    spare = Spare(3)
    n = np.array([5, 7, 7, 7])
    found = bounded(words(2**64 - 1, 2**64 - 1, 2**64 - 2, 2**64 - 3), n, spare)  # type: ignore[arg-type]
    assert found.tolist() == [3, 3, 3, (2**64 - 3) % 7]
    assert spare.asked == [0, 1, 2]


def test_bounded_goes_on_asking_until_a_word_is_accepted() -> None:
    spare = Spare(2**64 - 1, 2**64 - 1, 8)
    assert bounded(words(2**64 - 1), np.array([3]), spare).tolist() == [2]  # type: ignore[arg-type]


def test_bounded_never_rejects_for_powers_of_two() -> None:
    spare, last = Spare(), words(2**64 - 1, 2**64 - 1, 2**64 - 1)
    assert bounded(last, np.array([1, 2, 2**20]), spare).tolist() == [0, 1, 2**20 - 1]  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [3, 7, 10, 96])
def test_bounded_is_unbiased(n: int) -> None:
    raw = np.random.Philox(key=[1, n]).random_raw(60_000)
    found = bounded(raw, np.full(len(raw), n), Spare())  # type: ignore[arg-type]
    assert (found.min(), found.max()) == (0, n - 1)
    assert_uniform(np.bincount(found, minlength=n))


def test_a_rejected_word_is_replaced_from_the_episodes_own_second_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ordinary, first_words = sample([20] * 7, 3, 1, 2, 5, seed=3), sampling._words

    def with_a_rejection(seed: int, episodes: range, n: int) -> Any:
        found, spare = first_words(seed, episodes, n)
        found[list(episodes).index(2), 0] = 2**64 - 1  # 7 classes: 2**64 = 7k + 2
        return found, spare

    monkeypatch.setattr(sampling, "_words", with_a_rejection)
    changed = sample([20] * 7, 3, 1, 2, 5, seed=3)
    replacement = int(np.random.Philox(key=[sampling._STREAM, 3], counter=[0, 1, 2, 0]).random_raw())
    assert changed.classes[2, 0] == replacement % 7
    others = [0, 1, 3, 4]
    assert (changed.classes[others] == ordinary.classes[others]).all()
    assert (changed.support[others] == ordinary.support[others]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 6, 1, 1, 5), "6-way episodes need 6 classes; this set has 5"),
        (
            (3, 2, 2, 2, 5),
            "2 support and 2 query images need 4 images of each class; the smallest class has 3",
        ),
        ((3, 1, 1, 1, 5), "way ≥ 2"),
        ((3, 2, 0, 1, 5), "shot, queries and episodes ≥ 1; asked for 2-way 0-shot"),
        ((3, 2, 1, 0, 5), "0 queries"),
        ((3, 2, 1, 1, 0), "0 episodes"),
    ],
)
def test_lists_that_cannot_be_drawn_are_refused(arguments: tuple[int, ...], message: str) -> None:
    smallest, way, shot, n_query, n = arguments
    with pytest.raises(DataError, match=message):
        sample([10, smallest, 10, 10, 10], way, shot, n_query, n, 0)


def test_too_many_images_asked_for_says_how_many_queries_are_left() -> None:
    with pytest.raises(DataError, match="fewer queries with -q4"):
        sample([9, 9], 2, 5, 15, 10, 0)


def test_groups_become_episodes_in_their_order() -> None:
    groups = ["a", "a", "a", "b", "b", "b"]
    episodes = one_per_group([4] * 6, groups, shot=1)
    assert episodes.classes.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert episodes.support[:, :, 0].tolist() == [[0, 4, 8], [12, 16, 20]]
    assert episodes.query[1].tolist() == [[13, 14, 15], [17, 18, 19], [21, 22, 23]]


def test_groups_need_not_be_named_in_the_order_of_the_alphabet() -> None:
    episodes = one_per_group([2] * 4, ["run10", "run10", "run02", "run02"], shot=1)
    assert episodes.classes.tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("counts", "groups", "shot"),
    [
        ([4] * 5, ["a", "a", "a", "b", "b"], 1),  # unequal groups
        ([4, 4, 4, 5], ["a", "a", "b", "b"], 1),  # unequal classes
        ([4] * 4, ["a", "a", "b", "b"], 4),  # nothing left to ask
    ],
)
def test_groups_that_cannot_be_episodes_are_refused(counts: list[int], groups: list[str], shot: int) -> None:
    with pytest.raises(DataError, match="Episodes by group need equal groups"):
        one_per_group(counts, groups, shot)


def test_interleaved_groups_are_refused() -> None:
    with pytest.raises(DataError, match="side by side"):
        one_per_group([2] * 4, ["a", "b", "a", "b"], 1)
