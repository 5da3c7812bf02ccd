"""The evaluation engine: order of queries, loop and fast path, batches, resumption, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.benchmarks.episodes import EpisodeList, IntArray
from harness.benchmarks.sampling import sample
from harness.errors import PluginError
from harness.evaluation import counting
from harness.evaluation.protocols import EPISODIC
from harness.method.support import EpisodeBatch, Support
from harness.seeding import torch_generator

N_CLASSES, N_IMAGES, D = 8, 20, 6


class Table:
    """Features in memory: noisy copies of a class mean, the row number in the last place."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        means = np.repeat(rng.normal(size=(N_CLASSES, D)), N_IMAGES, axis=0)
        self.features = torch.from_numpy(means + rng.normal(size=means.shape)).float()
        self.features[:, -1] = torch.arange(len(means))

    def take(self, rows: IntArray) -> Tensor:
        return self.features[torch.from_numpy(rows)]


class Loop:
    """Nearest mean with a random metric from the episode's generator."""

    def adapt(self, support: Support) -> tuple[Tensor, Tensor]:
        weight = torch.rand(D - 1, generator=support.rng)
        return support.by_class().mean(1)[:, :-1], weight

    def predict(self, state: tuple[Tensor, Tensor], query: Tensor) -> Tensor:
        means, weight = state
        return -((query[:, None, :-1] - means).square() * weight).sum(-1)


class Fast(Loop):
    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        weight = torch.stack([torch.rand(D - 1, generator=rng) for rng in batch.rng])
        means = batch.support.mean(2)[..., :-1]  # (E, W, D - 1)
        gap = batch.query[:, :, None, :-1] - means[:, None]  # (E, Q, W, D - 1)
        return -(gap.square() * weight[:, None, None]).sum(-1)


@pytest.fixture(scope="module")
def episodes() -> EpisodeList:
    return sample([N_IMAGES] * N_CLASSES, 4, 2, 3, 50, seed=1)


def test_the_fast_path_equals_the_loop(episodes: EpisodeList) -> None:
    loop = EPISODIC.predict(Loop(), episodes, Table(), seed=5)
    fast = EPISODIC.predict(Fast(), episodes, Table(), seed=5)
    assert (loop == fast).all()
    assert loop.shape == (50, 12)
    assert loop.dtype == np.int64


@pytest.mark.parametrize("method", [Loop(), Fast()])
@pytest.mark.parametrize("batch", [1, 7, 16, 50, 1000])
def test_the_episode_batch_changes_no_prediction(episodes: EpisodeList, method: Any, batch: int) -> None:
    expected = EPISODIC.predict(method, episodes, Table(), seed=5)
    assert (EPISODIC.predict(method, episodes, Table(), seed=5, at_once=batch) == expected).all()


@pytest.mark.parametrize("method", [Loop(), Fast()])
@pytest.mark.parametrize("first", [1, 16, 33, 49])
def test_an_evaluation_may_go_on_from_any_episode(episodes: EpisodeList, method: Any, first: int) -> None:
    whole = EPISODIC.predict(method, episodes, Table(), seed=5)
    rest = EPISODIC.predict(method, episodes[first:], Table(), seed=5, first=first)
    assert (rest == whole[first:]).all()


def test_the_run_seed_reaches_the_episodes_generators(episodes: EpisodeList) -> None:
    predictions = [EPISODIC.predict(Loop(), episodes, Table(), seed=seed) for seed in (5, 6)]
    assert (predictions[0] != predictions[1]).any()


def test_the_generators_are_those_of_run_seed_and_episode(episodes: EpisodeList) -> None:
    seeds: list[int] = []

    class Notes(Loop):
        def adapt(self, support: Support) -> Any:
            seeds.append(support.rng.initial_seed())
            return super().adapt(support)

    EPISODIC.predict(Notes(), episodes[10:13], Table(), seed=5, first=10)
    assert seeds == [torch_generator(5, "episode", i).initial_seed() for i in (10, 11, 12)]


def test_predictions_come_back_in_the_order_of_the_list(episodes: EpisodeList) -> None:
    class Oracle:
        """Knows the class of each row from its number, and compares it with the support's."""

        def adapt(self, support: Support) -> Tensor:
            return support.by_class()[:, 0, -1] // N_IMAGES  # (W,) class behind each label

        def predict(self, state: Tensor, query: Tensor) -> Tensor:
            return (query[:, -1:] // N_IMAGES == state).float()

    given = EPISODIC.predict(Oracle(), episodes, Table(), seed=0)
    assert (given == episodes.query_label).all()
    assert (counting.n_correct(given, episodes.query_label) == episodes.n_query).all()


class Notes(Loop):
    """Notes which rows were asked, in which order."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []

    def predict(self, state: Any, query: Tensor) -> Tensor:
        self.rows.append(query[:, -1].long().tolist())
        return super().predict(state, query)


def test_the_order_of_queries_says_nothing_about_labels(episodes: EpisodeList) -> None:
    method = Notes()
    EPISODIC.predict(method, episodes, Table(), seed=0)
    given = [e.query.tolist() for e in episodes]
    assert all(a != b for a, b in zip(method.rows, given, strict=True))
    assert [sorted(rows) for rows in method.rows] == [sorted(rows) for rows in given]
    order = [[listed.index(row) for row in rows] for rows, listed in zip(method.rows, given, strict=True)]
    assert len({tuple(o) for o in order}) == 50  # another order in each episode
    # A method that answers by place, as if queries came class by class, is right one time in four: 600 queries,
    # and 0.25 plus or minus four standard deviations of sqrt(0.25 * 0.75 / 600).
    right = np.mean(np.array(order) // 3 == np.arange(12) // 3)
    assert abs(right - 0.25) < 0.071


def test_the_order_of_queries_depends_on_the_episode_alone(episodes: EpisodeList) -> None:
    one, other = Notes(), Notes()
    EPISODIC.predict(one, episodes, Table(), seed=0, at_once=50)
    EPISODIC.predict(other, episodes[20:30], Table(), seed=9, first=20, at_once=3)
    assert one.rows[20:30] == other.rows


def test_adapt_is_given_the_support_and_its_labels_alone(episodes: EpisodeList) -> None:
    supports: list[Support] = []

    class Keeps(Loop):
        def adapt(self, support: Support) -> Any:
            supports.append(support)
            return super().adapt(support)

    EPISODIC.predict(Keeps(), episodes[:2], Table(), seed=0)
    assert supports[1].x[:, -1].long().tolist() == episodes[1].support.tolist()
    assert supports[1].y.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (supports[1].n_way, supports[1].n_base) == (4, 0)
    assert set(vars(supports[1])) == {"x", "y", "n_way", "n_base", "rng", "base"}
    assert supports[1].base is None  # the joint protocol's alone


def test_progress_is_told_after_each_batch(episodes: EpisodeList) -> None:
    told: list[tuple[int, Any]] = []
    whole = EPISODIC.predict(
        Loop(),
        episodes,
        Table(),
        seed=5,
        at_once=20,
        after_batch=lambda start, here: told.append((start, here.copy())),
    )
    assert [start for start, _ in told] == [0, 20, 40]
    assert (np.concatenate([here for _, here in told]) == whole).all()


def test_gradients_are_off(episodes: EpisodeList) -> None:
    class Asks(Loop):
        def predict(self, state: Any, query: Tensor) -> Tensor:
            assert not torch.is_grad_enabled()
            return super().predict(state, query)

    EPISODIC.predict(Asks(), episodes[:1], Table(), seed=0)


def test_a_method_may_turn_gradients_on_for_itself(episodes: EpisodeList) -> None:
    class Optimises(Loop):
        def adapt(self, support: Support) -> Any:
            with torch.enable_grad():
                w = torch.zeros(3, requires_grad=True)
                (w - 1).square().sum().backward()
            assert w.grad is not None
            return super().adapt(support)

    EPISODIC.predict(Optimises(), episodes[:1], Table(), seed=0)


def test_of_equal_scores_the_lowest_label_wins(episodes: EpisodeList) -> None:
    class Blind(Loop):
        def predict(self, state: Any, query: Tensor) -> Tensor:
            return torch.zeros(len(query), 4)

    assert (EPISODIC.predict(Blind(), episodes, Table(), seed=0) == 0).all()


@dataclass
class Spoils:
    """Changes the scores of a good method before the harness sees them."""

    change: Callable[[Tensor], Any]

    def adapt(self, support: Support) -> Any:
        return Loop().adapt(support)

    def predict(self, state: Any, query: Tensor) -> Any:
        return self.change(Loop().predict(state, query))


@dataclass
class SpoilsBatch(Spoils):
    def predict_batch(self, batch: EpisodeBatch) -> Any:
        return self.change(Fast().predict_batch(batch))


def poke(value: float) -> Callable[[Tensor], Tensor]:
    def change(scores: Tensor) -> Tensor:
        scores.flatten()[:3] = value
        return scores

    return change


BAD_SCORES = [
    (lambda s: s.numpy(), "returned ndarray; expected a float tensor of shape"),
    (lambda s: None, "returned NoneType"),
    (lambda s: s[..., :3], r"returned scores of shape \(.*3\); expected \(.*4\) \(one column per class of the episode\)"),
    (lambda s: s[..., 0], r"returned scores of shape \(.*12.*\); expected \(.*12, 4\)"),
    (lambda s: s.transpose(-1, -2), r"shape \(.*4, 12\); expected \(.*12, 4\)"),
    (lambda s: s.argsort(), "returned torch.int64 scores; expected floating point, higher is likelier"),
    (lambda s: s > 0, "returned torch.bool scores"),
    (poke(float("nan")), "returned 3 scores that are NaN or infinite"),
    (poke(float("inf")), "returned 3 scores that are NaN or infinite"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BAD_SCORES)
@pytest.mark.parametrize("kind", [Spoils, SpoilsBatch])
def test_bad_scores_are_refused_with_what_was_expected(
    episodes: EpisodeList, kind: type[Spoils], change: Callable[[Tensor], Any], message: str
) -> None:
    with pytest.raises(PluginError, match=message):
        EPISODIC.predict(kind(change), episodes, Table(), seed=0)


def test_a_bad_score_names_the_function_and_the_episode(episodes: EpisodeList) -> None:
    with pytest.raises(PluginError, match=r"^Spoils\.predict for episode 30 "):
        EPISODIC.predict(Spoils(poke(float("nan"))), episodes[30:], Table(), seed=0, first=30)
    with pytest.raises(PluginError, match=r"^SpoilsBatch\.predict_batch for episodes from 32 "):
        EPISODIC.predict(SpoilsBatch(poke(float("nan"))), episodes[32:], Table(), seed=0, first=32)


class ChangesSupport(Loop):
    def adapt(self, support: Support) -> Any:
        support.x.sub_(1.0)
        return super().adapt(support)


class ChangesQuery(Loop):
    def predict(self, state: Any, query: Tensor) -> Tensor:
        return super().predict(state, query.mul_(2.0))


class ChangesBatchSupport(Fast):
    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        batch.support[0].zero_()
        return super().predict_batch(batch)


class ChangesBatchQuery(Fast):
    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        batch.query.clamp_(min=0)
        return super().predict_batch(batch)


@pytest.mark.parametrize(
    ("method", "what"),
    [(ChangesSupport(), "support"), (ChangesQuery(), "query"), (ChangesBatchSupport(), "support"), (ChangesBatchQuery(), "query")],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)  # fmt: skip
def test_a_method_that_changes_its_input_in_place_is_refused(
    episodes: EpisodeList, method: Any, what: str
) -> None:
    with pytest.raises(
        PluginError, match=f"{type(method).__name__} changed its {what} in place; work on a copy"
    ):
        EPISODIC.predict(method, episodes, Table(), seed=0)


def test_a_methods_own_error_is_not_hidden(episodes: EpisodeList) -> None:
    class Breaks(Loop):
        def adapt(self, support: Support) -> Any:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        EPISODIC.predict(Breaks(), episodes, Table(), seed=0)
