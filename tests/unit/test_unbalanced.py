"""Lists with unequal numbers of queries: drawn, predicted, counted and told apart as balanced ones are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from torch import Tensor

from harness import benchmarks, stats
from harness.benchmarks import marginals
from harness.benchmarks.episodes import EpisodeList, IntArray
from harness.benchmarks.sampling import all_remaining, sample, unbalanced
from harness.errors import ConfigError, DataError
from harness.evaluation import counting
from harness.evaluation.protocols import EPISODIC
from harness.jobs import hardness
from harness.method.support import EpisodeBatch, Support

COUNTS = [60, 45, 52, 60, 48, 70, 41, 55]
P_UNLUCKY = 1e-4  # of a fair sampler; the draws are fixed, so a test passes always or never


def drawn(n: int = 300, way: int = 5, shot: int = 2, n_query: int = 4, seed: int = 3) -> EpisodeList:
    return unbalanced(sample(COUNTS, way, shot, 4, n, seed), COUNTS, n_query, 2, seed)


def everything(n: int = 12) -> EpisodeList:
    return all_remaining(sample(COUNTS, 4, 3, 5, n, 8), COUNTS)


@given(st.integers(2, 6), st.integers(1, 3), st.integers(1, 9), st.integers(1, 3), st.integers(0, 2**63 - 1))
def test_an_unbalanced_list_keeps_the_support_and_shows_no_image_twice(
    way: int, shot: int, n_query: int, alpha: int, seed: int
) -> None:
    balanced = sample(COUNTS, way, shot, 5, 6, seed)
    try:
        found = unbalanced(balanced, COUNTS, n_query, alpha, seed)
    except DataError:
        assert way * n_query > min(COUNTS) - shot  # only then may a class be short
        return
    assert (found.support == balanced.support).all() and (found.classes == balanced.classes).all()
    assert (found.n_asked == way * n_query).all()
    edges = np.cumsum(COUNTS)
    for episode in found:
        rows = [*episode.support.tolist(), *episode.query.tolist()]
        assert len(set(rows)) == len(rows)
        assert (
            np.searchsorted(edges, episode.query, side="right") == episode.classes[episode.query_label]
        ).all()


def test_a_class_is_asked_the_first_queries_of_the_balanced_list_first() -> None:
    balanced = sample(COUNTS, 5, 2, 4, 300, 3)
    found = drawn()
    kept = found.query[:, :, :4]
    assert ((kept == balanced.query) | (kept == -1)).all()
    assert (np.count_nonzero(found.query >= 0, axis=2) > 4).any()  # and others where those do not suffice


def test_fewer_episodes_are_the_first_of_more_and_one_shot_nests_in_two() -> None:
    long, short, one = drawn(300), drawn(100), drawn(300, shot=1)
    n = min(long.query.shape[2], short.query.shape[2])
    assert (long.query[:100, :, :n] == short.query[:, :, :n]).all()
    assert (long.query[:100, :, n:] == -1).all()
    assert (long.support[:, :, :1] == one.support).all() and (long.n_asked == one.n_asked).all()


def test_proportions_from_words_are_dirichlet_distributed() -> None:
    """A class's share has the Beta(a, (W - 1) a) distribution."""
    words = np.random.Philox(5).random_raw(20_000 * 9).reshape(-1, 9)
    share = marginals.from_words(words, 5, 2)
    assert share.sum(axis=1) == pytest.approx(1)
    for k in range(5):
        assert scipy_stats.kstest(share[:, k], scipy_stats.beta(2, 8).cdf).pvalue > P_UNLUCKY


def test_images_beyond_the_balanced_queries_are_drawn_uniformly() -> None:
    counts = [12] * 3
    balanced = sample(counts, 3, 1, 2, 6_000, 1)
    found = unbalanced(balanced, counts, 3, 2, 1)
    position = found.query[:, 0, 2:] - 12 * found.classes[:, 0, None]
    hits = np.bincount(position[found.query[:, 0, 2:] >= 0], minlength=12)
    assert scipy_stats.chisquare(hits).pvalue > P_UNLUCKY


def test_a_shortage_is_refused_with_a_number_that_suffices() -> None:
    counts = [20] * 6
    with pytest.raises(DataError, match=r"as few as 15.*like -q3"):
        unbalanced(sample(counts, 5, 5, 15, 40, 0), counts, 15, 2, 0)
    found = unbalanced(sample(counts, 5, 5, 15, 40, 0), counts, 3, 2, 0)
    assert (found.n_asked == 15).all()


def test_a_rare_shortage_is_drawn_again() -> None:
    counts = [20] * 6
    found = unbalanced(sample(counts, 5, 5, 15, 2_000, 0), counts, 4, 2, 0)
    free = unbalanced(sample([40] * 6, 5, 5, 15, 2_000, 0), [40] * 6, 4, 2, 0)
    wanted, wished = ((found_.query >= 0).sum(axis=2) for found_ in (found, free))
    again = (wished > 15).any(axis=1)
    assert 0 < again.sum() < 20 and wanted.max() <= 15
    assert (wanted[~again] == wished[~again]).all()


def test_all_remaining_images_are_asked_once() -> None:
    found = everything()
    first = np.cumsum(COUNTS) - COUNTS
    for episode in found:
        rows = [r for c in episode.classes for r in range(first[c], first[c] + COUNTS[c])]
        assert sorted([*episode.support, *episode.query]) == sorted(rows)
    assert (found.n_asked == [sum(COUNTS[c] for c in e.classes) - 12 for e in found]).all()


def test_a_list_of_equal_classes_that_asks_all_is_balanced() -> None:
    found = all_remaining(sample([9] * 4, 3, 2, 4, 5, 0), [9] * 4)
    assert found.query.shape == (5, 3, 7) and found.query.min() >= 0


@pytest.mark.parametrize("name", ["glyphs-5w5s-dir2", "cub-feat-5w5s-dir2"])
def test_unbalanced_settings_are_locked_and_have_the_support_of_the_balanced_one(name: str) -> None:
    setting = benchmarks.load(name)
    assert setting.name == name
    assert setting.episodes.digest == benchmarks.locked_digests()[name]
    balanced = setting.balanced.episodes
    assert isinstance(balanced, EpisodeList) and isinstance(setting.episodes, EpisodeList)
    assert (setting.episodes.support == balanced.support).all()
    assert (setting.episodes.n_asked == setting.way * setting.n_query).all()


@pytest.mark.nightly
def test_every_unbalanced_setting_is_drawn_as_locked() -> None:
    for name in benchmarks.unbalanced_names():
        assert benchmarks.load(name).episodes.digest == benchmarks.locked_digests()[name]


def test_every_sampled_benchmark_has_its_unbalanced_settings_locked() -> None:
    sampled = {b.key for b in benchmarks.every() if not b.joint and b.fixed_episodes == "sampled"}
    assert {benchmarks.load(name).benchmark.key for name in benchmarks.unbalanced_names()} == sampled
    assert {*benchmarks.unbalanced_names()} <= {*benchmarks.locked_digests()}


def test_names_of_unbalanced_settings() -> None:
    setting = benchmarks.load("glyphs-5w1s-dir2-q3-e1")
    assert (setting.marginal, setting.n_query, setting.list_seed) == ("dir2", 3, 1)
    assert setting.name == "glyphs-5w1s-dir2-q3-e1"
    assert benchmarks.load("glyphs-5w1s-q4-dir2").name == "glyphs-5w1s-dir2"
    assert benchmarks.load("mini-5w5s-qall").n_query == 595
    assert [s.name for s in benchmarks.expand("glyphs-5w*-dir2")] == ["glyphs-5w1s-dir2", "glyphs-5w5s-dir2"]
    assert all("dir2" not in s.name for s in benchmarks.expand("glyphs-*"))
    with pytest.raises(ConfigError, match="not a setting"):
        benchmarks.load("glyphs-5w1s-dir0")
    with pytest.raises(DataError, match="published episodes"):
        _ = benchmarks.load("omniglot-lake-20w1s-dir2-small1").episodes


class Table:
    """Features in memory: noisy class means, the row number in the last place."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        means = np.repeat(rng.normal(size=(len(COUNTS), 6)), COUNTS, axis=0)
        self.features = torch.from_numpy(means + rng.normal(size=means.shape)).float()
        self.features[:, -1] = torch.arange(len(means))

    def take(self, rows: IntArray) -> Tensor:
        assert rows.min() >= 0
        return self.features[torch.from_numpy(rows)]


class Loop:
    """Nearest mean in a random metric of the episode's generator; notes what it was given."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.rows: list[list[int]] = []

    def adapt(self, support: Support) -> tuple[Tensor, Tensor]:
        return support.by_class().mean(1)[:, :-1], torch.rand(5, generator=support.rng)

    def predict(self, state: tuple[Tensor, Tensor], query: Tensor) -> Tensor:
        self.shapes.append(tuple(query.shape))
        self.rows.append(query[:, -1].long().tolist())
        return -((query[:, None, :-1] - state[0]).square() * state[1]).sum(-1)


class Fast(Loop):
    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        self.shapes.append(tuple(batch.query.shape))
        weight = torch.stack([torch.rand(5, generator=rng) for rng in batch.rng])
        gap = batch.query[:, :, None, :-1] - batch.support.mean(2)[:, None, ..., :-1]  # (E, Q, W, D)
        return -(gap.square() * weight[:, None, None]).sum(-1)


@pytest.mark.parametrize("asked", [drawn(40), everything()], ids=["dirichlet", "all"])
def test_predictions_are_those_of_a_plain_loop_over_episodes(asked: EpisodeList) -> None:
    table, found = Table(), EPISODIC.predict(Fast(), asked, Table(), seed=5)
    assert (found == EPISODIC.predict(Loop(), asked, table, seed=5)).all()
    assert (found == EPISODIC.predict(Fast(), asked, table, seed=5, at_once=7)).all()
    assert (found[5:] == EPISODIC.predict(Fast(), asked[5:], table, seed=5, first=5)).all()
    from harness.seeding import torch_generator

    n_correct = []
    for e, episode in enumerate(asked):
        x, y = table.take(episode.support), torch.from_numpy(episode.support_label)
        method, rng = Loop(), torch_generator(5, "episode", e)
        scores = method.predict(method.adapt(Support(x, y, asked.n_way, rng)), table.take(episode.query))
        n_correct.append(int((scores.argmax(1).numpy() == episode.query_label).sum()))
    counts = EPISODIC.counts(asked, found)["top1"]
    assert counts.n_correct.tolist() == n_correct
    assert counts.n_query.tolist() == [len(episode.query) for episode in asked]
    assert (found[asked.query_label < 0] == 0).all()


def test_nothing_that_a_method_is_given_tells_how_many_queries_a_class_has() -> None:
    """Episodes of a Dirichlet list have one shape, and the queries come in an order that does not follow their labels."""
    asked, fast, loop = drawn(200), Fast(), Loop()
    EPISODIC.predict(fast, asked, Table(), seed=5)
    assert {shape[1:] for shape in fast.shapes} == {(20, 6)}
    EPISODIC.predict(loop, asked, Table(), seed=5)
    for episode, rows in zip(asked, loop.rows, strict=True):
        assert sorted(rows) == sorted(episode.query.tolist())
    place = [rows.index(episode.query[0]) for episode, rows in zip(asked, loop.rows, strict=True)]
    assert scipy_stats.chisquare(np.bincount(place, minlength=20)).pvalue > P_UNLUCKY


def test_a_balanced_list_is_shown_as_before() -> None:
    """The order of queries is a stream of its own: that of places, when every place is taken."""
    episodes = sample(COUNTS, 4, 1, 3, 20, 1)
    notes = Loop()
    EPISODIC.predict(notes, episodes, Table(), seed=0)
    from harness.evaluation.protocols import query_order

    order = query_order(12, range(20))
    expected = np.take_along_axis(episodes.query.reshape(20, -1), order, axis=1)
    assert notes.rows == expected.tolist()


def test_statistics_of_predictions_leave_empty_places_out() -> None:
    asked = drawn(30)
    label, classes = asked.query_label, asked.classes
    rng = np.random.default_rng(1)
    a, b = (np.where(label < 0, 0, rng.integers(0, 5, label.shape)) for _ in range(2))
    pairs = [
        (int(classes[e, label[e, i]]), int(classes[e, a[e, i]]))
        for e, i in zip(*np.nonzero(label >= 0), strict=True)
    ]
    found = stats.confusion(a, label, classes)
    for i, true in enumerate(found.class_id):
        for j, predicted in enumerate(found.class_id):
            assert found.counts[i, j] == pairs.count((true, predicted))
    overlap = stats.error_overlap(a, b, label)
    asked_for = label >= 0
    assert overlap.both_right == int(((a == label) & (b == label) & asked_for).sum())
    assert (
        overlap.both_right + overlap.only_a_wrong + overlap.only_b_wrong + overlap.both_wrong
        == asked_for.sum()
    )
    assert counting.n_correct(a, label).sum() == ((a == label) & asked_for).sum()


def test_hardness_is_the_mean_over_the_queries_there_are() -> None:
    asked, table = drawn(8), Table()
    found = hardness.omega(table, asked)
    for e, episode in enumerate(asked):
        one = EpisodeList(asked.classes[e : e + 1], asked.support[e : e + 1], asked.query[e : e + 1])
        x = torch.nn.functional.normalize(table.take(episode.query).double(), dim=-1)
        support = torch.nn.functional.normalize(table.take(one.support.ravel()).double(), dim=-1)
        centres = torch.nn.functional.normalize(support.unflatten(0, (5, -1)).mean(1), dim=-1)
        p = (x @ centres.T).softmax(-1)[torch.arange(len(x)), torch.from_numpy(episode.query_label)]
        assert found[e] == pytest.approx(float(((1 - p) / p).log().mean()), rel=1e-12)


def test_rows_of_a_list_are_its_images() -> None:
    asked = drawn(10)
    assert asked.rows().tolist() == sorted({int(r) for e in asked for r in (*e.support, *e.query)})


def test_a_changed_marginal_is_another_digest() -> None:
    asked = drawn(10)
    moved: Any = asked.query.copy()
    e, k, q = (int(v[0]) for v in np.nonzero(moved >= 0))
    moved[e, k, q] = -1
    assert replace(asked, query=moved).digest != asked.digest
