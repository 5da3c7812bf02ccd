"""Episodes as indices, supports as tensors: shapes, prefixes, digests."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.benchmarks.episodes import EpisodeList
from harness.method.support import EpisodeBatch, Support


def make_list(n: int = 4, way: int = 3, shot: int = 2, n_query: int = 2, seed: int = 0) -> EpisodeList:
    rng = np.random.default_rng(seed)
    rows = rng.permuted(np.tile(np.arange(50), (n, 1)), axis=1)[:, : way * (shot + n_query)]
    rows = rows.reshape(n, way, -1)
    classes = rng.permuted(np.tile(np.arange(10), (n, 1)), axis=1)[:, :way]
    return EpisodeList(classes, rows[:, :, :shot], rows[:, :, shot:])


def make_support(y: list[int], n_way: int, *shape: int) -> Support:
    x = torch.arange(len(y)).reshape(-1, *[1] * len(shape)).expand(-1, *shape).float()  # row i holds i
    return Support(x, torch.tensor(y), n_way, torch.Generator())


@given(st.integers(1, 5), st.integers(1, 4), st.sampled_from([(), (3,), (2, 3), (1, 4, 4)]), st.randoms())
def test_by_class_groups_any_order_of_any_features(
    way: int, shot: int, shape: tuple[int, ...], random
) -> None:  # type: ignore[no-untyped-def]
    y = [c for c in range(way) for _ in range(shot)]
    random.shuffle(y)
    grouped = make_support(y, way, *shape).by_class()
    assert grouped.shape == (way, shot, *shape)
    rows = grouped.reshape(way, shot, -1)[:, :, 0].long().tolist()
    assert rows == [[i for i, label in enumerate(y) if label == c] for c in range(way)]  # order given


def test_by_class_refuses_unequal_shots() -> None:
    with pytest.raises(ValueError, match="between 1 and 3 support images"):
        make_support([0, 0, 1, 0], 2, 5).by_class()


def test_by_class_refuses_a_class_without_support() -> None:
    with pytest.raises(ValueError, match="between 0 and 2"):
        make_support([0, 0, 2, 2], 3, 5).by_class()
    with pytest.raises(ValueError, match="between 0 and 1"):
        make_support([0, 1], 3, 5).by_class()


def test_by_class_refuses_a_label_beyond_the_ways() -> None:
    with pytest.raises(ValueError, match="support images"):
        make_support([0, 1, 2], 2, 5).by_class()


def test_a_list_knows_its_shape() -> None:
    episodes = make_list(4, way=3, shot=2, n_query=5)
    assert (len(episodes), episodes.n_way, episodes.shot, episodes.n_query) == (4, 3, 2, 15)
    assert episodes.query_label.tolist() == [[0] * 5 + [1] * 5 + [2] * 5] * 4


def test_an_episode_is_flat_and_class_major() -> None:
    episodes = make_list()
    episode = episodes[1]
    assert episode.index == 1
    assert (episode.support.shape, episode.query.shape, episode.classes.shape) == ((6,), (6,), (3,))
    assert episode.support.reshape(3, 2).tolist() == episodes.support[1].tolist()
    assert episode.support_label.tolist() == episode.query_label.tolist() == [0, 0, 1, 1, 2, 2]
    assert (episode.n_way, episode.n_base) == (3, 0)


def test_a_list_is_a_sequence() -> None:
    episodes = make_list(4)
    assert [e.index for e in episodes] == [0, 1, 2, 3]
    assert episodes[-1].index == 3
    assert (episodes[-1].support == episodes[3].support).all()
    with pytest.raises(IndexError):
        episodes[4]


def test_a_slice_is_a_list() -> None:
    episodes = make_list(4)
    assert isinstance(episodes[1:3], EpisodeList)
    assert (episodes[1:3].support == episodes.support[1:3]).all()
    assert len(episodes[:0]) == 0


def test_rows_are_those_touched_each_once_sorted() -> None:
    episodes = make_list(4)
    touched = {int(r) for e in episodes for r in (*e.support, *e.query)}
    assert episodes.rows().tolist() == sorted(touched)


def test_the_digest_sees_every_number_and_every_shape() -> None:
    episodes = make_list(4)
    digests = {episodes.digest, episodes[:3].digest}
    for field in ("classes", "support", "query"):
        changed = getattr(episodes, field).copy()
        changed.flat[-1] += 1
        digests.add(dataclasses.replace(episodes, **{field: changed}).digest)
    swapped = dataclasses.replace(episodes, support=episodes.query, query=episodes.support)
    assert len(digests | {swapped.digest}) == 6
    # The same 24 numbers, read as other shapes:
    rows, classes = np.arange(24), np.arange(6).reshape(2, 3)
    wide = EpisodeList(classes, rows[:6].reshape(2, 3, 1), rows[6:].reshape(2, 3, 3))
    deep = EpisodeList(classes, rows[:12].reshape(2, 3, 2), rows[12:].reshape(2, 3, 2))
    assert wide.digest != deep.digest


def test_the_digest_is_of_numbers_not_of_their_storage() -> None:
    episodes = make_list(4)
    other = EpisodeList(
        episodes.classes.astype(np.int32), np.asfortranarray(episodes.support), episodes.query.astype(">i8")
    )
    assert other.digest == episodes.digest == make_list(4).digest


def test_a_list_refuses_arrays_that_disagree() -> None:
    episodes = make_list(4, way=3)
    with pytest.raises(ValueError, match="disagree in"):
        EpisodeList(episodes.classes[:3], episodes.support, episodes.query)
    with pytest.raises(ValueError, match="disagree in"):
        EpisodeList(episodes.classes, episodes.support[:, :2], episodes.query)
    with pytest.raises(ValueError, match="disagree in"):
        EpisodeList(episodes.classes, episodes.support[:, :, 0], episodes.query)


def test_a_batch_knows_its_ways() -> None:
    batch = EpisodeBatch(torch.zeros(2, 5, 3, 7), torch.zeros(2, 10, 7), [torch.Generator()] * 2)
    assert batch.n_way == 5


def test_episodes_and_supports_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_list()[0].n_way = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_support([0, 1], 2, 3).n_way = 3  # type: ignore[misc]
