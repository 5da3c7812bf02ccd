"""The joint protocol: groups of classes, draws that nest, the label counted, six numbers, and what a method is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness import benchmarks
from harness.benchmarks.episodes import JointList
from harness.benchmarks.experiments import JointClasses
from harness.errors import ConfigError, DataError, PluginError
from harness.evaluation import counting
from harness.evaluation.protocols import JOINT, Joint
from harness.method.support import Support

TWINS = ("glyphs-lowshot", "omniglot-small-lowshot", "imagenet-lowshot")


def listed(name: str) -> JointList:
    found = benchmarks.load(name).episodes
    assert isinstance(found, JointList)
    return found


@pytest.mark.parametrize("name", TWINS)
def test_four_groups_partition_the_labels(name: str) -> None:
    test, validation = listed(f"{name}-n1"), listed(f"{name}-val-n1")
    groups = [g for e in (test, validation) for g in (e.novel, e.asked[e.asked < e.n_base])]
    assert sorted(np.concatenate(groups).tolist()) == list(range(test.n_way))
    assert all((e.novel >= e.n_base).all() for e in (test, validation))
    first, second = (len(e.asked) for e in (test, validation))
    assert abs(first - second) < 0.06 * test.n_way  # halves, 507 and 493 of ImageNet's


@pytest.mark.parametrize("name", [f"{twin}{half}" for twin in TWINS for half in ("", "-val")])
def test_fewer_shots_are_the_first_of_more_and_queries_stay(name: str) -> None:
    standard = benchmarks.load(f"{name}-n1").benchmark.settings()
    lists = [setting.episodes for setting in standard]
    most = lists[-1]
    for few in lists:
        assert isinstance(few, JointList) and isinstance(most, JointList)
        assert (few.support == most.support[:, :, : few.shot]).all()
        assert (few.query == most.query).all() and (few.base == most.base).all()


@pytest.mark.parametrize("name", TWINS)
def test_support_and_queries_share_no_image_and_belong_to_their_class(name: str) -> None:
    setting = benchmarks.load(f"{name}-n5")
    assert setting.benchmark.joint is not None
    label = np.repeat(np.arange(setting.way), setting.benchmark.joint.counts)
    for episode in listed(f"{name}-n5"):
        assert not set(episode.support.tolist()) & set(episode.query.tolist())
        assert len(set(episode.support.tolist())) == len(episode.support)
        assert (label[episode.support] == episode.support_label).all()
        assert (label[episode.query] == episode.query_label).all()
        assert (episode.support_label < episode.n_base).sum() == len(listed(f"{name}-n5").base)


def test_held_out_base_images_are_not_trained_on() -> None:
    """The base role ends where the queries of a base class begin."""
    for name in TWINS:
        setting = benchmarks.load(f"{name}-n1")
        role, classes = setting.benchmark.roles["base"], setting.benchmark.joint
        assert classes is not None and role.images == (0, -setting.n_query)
        n_base = len(role.classes)
        assert (classes.counts[:n_base] == role.counts + setting.n_query).all()


def test_the_halves_draw_apart_and_classes_do_not_share_positions() -> None:
    """One stream per experiment and class; a re-seeded one would give all classes of a size the same positions."""
    found = listed("glyphs-lowshot-n20")
    positions = found.support % 40  # every glyph has 40 drawings
    assert len({tuple(p) for p in positions.reshape(-1, 20)}) == positions.shape[0] * positions.shape[1]
    drawn = np.bincount(positions.ravel(), minlength=40)
    assert (drawn[30:] == 0).all() and (drawn[:30] > 0).all()


def test_n_beyond_the_draws_says_how_far_they_go() -> None:
    with pytest.raises(ConfigError, match="draw 1 to 20 images"):
        benchmarks.load("glyphs-lowshot-n30")
    with pytest.raises(ConfigError, match="draw 1 to 10 images"):
        benchmarks.load("omniglot-small-lowshot-n20")
    with pytest.raises(ConfigError, match="settings are glyphs-lowshot-n1"):
        benchmarks.load("glyphs-lowshot-5w1s")


CLASSES = JointClasses(
    base={"a": 6, "b": 9, "c": 6, "d": 7},
    novel={"e": 8, "f": 9, "g": 10, "h": 8},
    asked=frozenset("bdfgh"),
    n_query=2,
)


def test_experiments_of_unequal_classes() -> None:
    found = CLASSES.experiments(3, seed=5)
    assert (found.n_way, found.n_base, len(found), found.shot) == (8, 4, 5, 3)
    assert found.asked.tolist() == [1, 3, 5, 6, 7] and found.novel.tolist() == [5, 6, 7]
    assert found.base.tolist() == [*range(8, 17), *range(27, 34)]  # without the last two of each class
    assert found.query[0].tolist() == [17, 18] and found.query[2].tolist() == [51, 52]
    with pytest.raises(DataError, match="1 to 4"):
        CLASSES.experiments(5, seed=5)


def test_a_digest_hears_of_everything() -> None:
    one = CLASSES.experiments(2, seed=5)
    others = [
        CLASSES.experiments(1, seed=5), CLASSES.experiments(2, seed=6), one[:4],
        JointClasses(CLASSES.base, CLASSES.novel, frozenset("bdfge"), 2).experiments(2, seed=5),
    ]  # fmt: skip
    assert len({e.digest for e in (one, *others)}) == 5
    assert one.digest == CLASSES.experiments(2, seed=5).digest


def plain_counted(scores: np.ndarray[Any, Any], label: int, k: int) -> int:
    order = sorted(range(len(scores)), key=lambda j: (-scores[j], j))
    return label if label in order[:k] else order[0]


@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.sampled_from([1, 2, 5, 9]))
@settings(max_examples=60)
def test_the_label_counted_agrees_with_sorting(seed: int, n_way: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (20, n_way)).astype(np.float32)  # many ties
    label = rng.integers(0, n_way, 20)
    found = counting.counted(torch.from_numpy(scores), torch.from_numpy(label), k)
    assert found.tolist() == [plain_counted(s, int(y), k) for s, y in zip(scores, label, strict=True)]
    if k == 1:
        assert found.tolist() == counting.predicted(torch.from_numpy(scores)).tolist()


def joint_numbers(given: np.ndarray[Any, Any], label: np.ndarray[Any, Any], n_base: int) -> dict[str, float]:
    counts = counting.joint_counts(given, label, n_base)
    return {name: float((c.n_correct / c.n_query).mean()) for name, c in counts.items()}


@given(st.integers(0, 2**32 - 1))
def test_all_is_the_example_mean_of_base_and_novel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_base, n_novel = int(rng.integers(1, 30)), int(rng.integers(1, 30))
    label = np.concatenate([rng.integers(0, 4, n_base), rng.integers(4, 9, n_novel)])
    given_ = rng.integers(0, 9, (3, 2, len(label)))
    found = joint_numbers(given_, label, 4)
    for top in ("top1", "top5"):
        mixed = (n_base * found[f"{top}/base"] + n_novel * found[f"{top}/novel"]) / (n_base + n_novel)
        assert found[f"{top}/all"] == pytest.approx(mixed, abs=1e-12)
    order = rng.permutation(len(label))
    assert joint_numbers(given_[:, :, order], label[order], 4) == pytest.approx(found, abs=1e-12)


class Rows:
    """Features of a row: its label as a one-hot of strength, and its number."""

    def __init__(self, label: np.ndarray[Any, Any], n_way: int) -> None:
        self.features = torch.nn.functional.one_hot(torch.from_numpy(label), n_way).float()
        self.features = torch.cat([self.features, torch.arange(len(label))[:, None].float()], dim=1)

    def take(self, rows: np.ndarray[Any, Any]) -> Tensor:
        return self.features[torch.from_numpy(rows)].clone()


class Perfect:
    """Knows every label that has support, base or novel, from the one-hot part."""

    def adapt(self, support: Support) -> Tensor:
        self.support = support
        known = torch.zeros(support.n_way, dtype=torch.bool)
        for _, y in support.batches(4):
            known[y] = True
        return known

    def predict(self, state: Tensor, query: Tensor) -> Tensor:
        return query[:, :-1].masked_fill(~state, -1.0)


LABEL = np.repeat(np.arange(8), CLASSES.counts)


def test_a_method_is_given_novel_images_and_all_base_images() -> None:
    found, method = CLASSES.experiments(3, seed=5), Perfect()
    given_ = JOINT.predict(method, found, Rows(LABEL, 8), seed=0)
    assert (given_ == found.query_label).all()
    support = method.support
    assert (support.n_way, support.n_base) == (8, 4)
    assert support.x[:, -1].long().tolist() == found.support[4].ravel().tolist()
    assert support.y.tolist() == np.repeat(found.novel, 3).tolist()
    assert support.base is not None and len(support.base) == len(found.base)
    index = torch.tensor([3, 0, 15])
    assert support.base.take(index)[:, -1].long().tolist() == found.base[index.numpy()].tolist()
    assert support.base.y.tolist() == found.base_label.tolist()
    together = torch.cat([x[:, -1] for x, _ in support.batches(4)]).long().tolist()
    assert together == found[4].support.tolist()
    assert torch.cat([y for _, y in support.batches(4)]).tolist() == found[4].support_label.tolist()
    with pytest.raises(ValueError, match="between 0 and 3"):
        support.by_class()


def test_untrained_outputs_compete() -> None:
    """A label of the other half that scores highest takes the hit: nothing is masked."""

    class Astray(Perfect):
        def predict(self, state: Tensor, query: Tensor) -> Tensor:
            scores = query[:, :-1].clone()
            scores[:, 0] = 2.0  # "a" is of the other half
            return scores

    found = CLASSES.experiments(1, seed=5)
    given_ = JOINT.predict(Astray(), found, Rows(LABEL, 8), seed=0)
    assert (given_[:, 0] == 0).all() and (given_[:, 1] == found.query_label).all()


class Guess(Perfect):
    """Scores at random, from the experiment's generator."""

    def adapt(self, support: Support) -> Tensor:
        return torch.rand(5000, support.n_way, generator=support.rng)

    def predict(self, state: Tensor, query: Tensor) -> Tensor:
        return state[query[:, -1].long()]


def test_chance_level_is_one_and_five_of_all_labels() -> None:
    """Random scores over the 160 labels: 5 × 800 queries, so four standard errors are 0.5 and 1.1 points."""
    found = listed("glyphs-lowshot-n1")
    classes = benchmarks.load("glyphs-lowshot-n1").benchmark.joint
    assert classes is not None
    rows = Rows(np.repeat(np.arange(160), classes.counts), 160)
    rows.features[:, -1] %= 5000
    numbers = joint_numbers(JOINT.predict(Guess(), found, rows, seed=1), found.query_label, found.n_base)
    for k, name in ((1, "top1/all"), (5, "top5/all")):
        chance = k / 160
        error = np.sqrt(chance * (1 - chance) / (5 * found.n_query))
        assert abs(numbers[name] - chance) < 4 * error


def test_batches_of_queries_and_stretches_of_experiments_do_not_show() -> None:
    found, rows = CLASSES.experiments(2, seed=5), Rows(LABEL, 8)
    whole = JOINT.predict(Guess(), found, rows, seed=3)
    assert (Joint(query_batch=3).predict(Guess(), found, rows, seed=3) == whole).all()
    parts = [JOINT.predict(Guess(), found[i : i + 1], rows, seed=3, first=i) for i in range(5)]
    assert (np.concatenate(parts) == whole).all()
    assert not (JOINT.predict(Guess(), found, rows, seed=4) == whole).all()


def test_queries_come_in_an_order_of_their_own() -> None:
    shown: list[list[int]] = []

    class Watches(Perfect):
        def predict(self, state: Tensor, query: Tensor) -> Tensor:
            shown.append(query[:, -1].long().tolist())
            return super().predict(state, query)

    found = CLASSES.experiments(1, seed=5)
    JOINT.predict(Watches(), found, Rows(LABEL, 8), seed=0)
    assert all(sorted(seen) == found.query.ravel().tolist() for seen in shown)
    assert len({tuple(seen) for seen in shown}) == 5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x: x[:, :-2], "expected"),
        (lambda x: x[:, :-1] * float("nan"), "NaN"),
        (lambda x: x[:, :-1].long(), "floating"),
        (lambda x: x.mul_(2)[:, :-1], "changed its query"),
    ],
)
def test_wrong_scores_are_refused(wrong: Any, message: str) -> None:
    class Wrong(Perfect):
        def predict(self, state: Tensor, query: Tensor) -> Tensor:
            return wrong(query)

    with pytest.raises(PluginError, match=message):
        JOINT.predict(Wrong(), CLASSES.experiments(1, seed=5), Rows(LABEL, 8), seed=0)


def test_what_is_stored_explains_itself() -> None:
    """Counts derive from the stored predictions and the stored list alone."""
    found = CLASSES.experiments(2, seed=5)
    given_ = JOINT.predict(Guess(), found, Rows(LABEL, 8), seed=3)
    counts = JOINT.counts(found, given_)
    table = JOINT.table(found, tuple("abcdefgh"), ("",) * 8)
    assert table.is_joint and next(iter(counts)) == "top1/novel"
    assert [table.class_names[c] for c in table.classes[0]] == list("bdfgh")
    for top in ("top1", "top5"):
        labels = counts[f"{top}/all"].predictions
        assert labels is not None
        right = labels == table.query_label
        assert (right.sum(axis=1) == counts[f"{top}/all"].n_correct).all()
        novel = table.query_label[0] >= found.n_base
        assert (right[:, novel].sum(axis=1) == counts[f"{top}/novel"].n_correct).all()


def test_with_fewer_labels_than_five_every_query_is_a_top_five_hit() -> None:
    scores, label = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 1.0]]), torch.tensor([1, 2])
    assert counting.counted(scores, label, 5).tolist() == label.tolist()
    assert counting.counted(scores, label, 1).tolist() == [
        0,
        0,
    ]  # of equal scores the lowest label comes first
    assert counting.counted(scores, label, 2).tolist() == [0, 0]
    assert counting.counted(scores, torch.tensor([1, 1]), 2).tolist() == [0, 1]
