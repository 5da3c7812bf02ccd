"""The closed-set protocol: which images are given and asked, what is counted, how weights are chosen, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from harness import benchmarks
from harness.benchmarks import closed, leaks
from harness.benchmarks.episodes import ClosedList
from harness.benchmarks.roles import Role
from harness.errors import ConfigError, DataError, PluginError
from harness.evaluation.features import Stacked
from harness.evaluation.protocols import CLOSED, closed_support, protocol_of, protocol_with
from harness.images.sources import splits
from harness.method.support import Support
from harness.ops.prototypes import LabelMeans, distance_scores, streamed_means
from harness.runs import EpisodeTable, RunResult
from harness.runs.agreement import find_problems

CLOSED_SETS = [b for b in benchmarks.every() if b.is_closed]


class Rows:
    """Features that say which row they are of: (n, 1)."""

    def __init__(
        self, value: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]] = lambda rows: rows
    ) -> None:
        self._value = value

    def take(self, rows: np.ndarray[Any, Any]) -> torch.Tensor:
        return torch.from_numpy(np.asarray(self._value(rows), dtype=np.float32))[:, None]


class NearestMean:
    n_adapted: ClassVar[list[int]] = []

    def adapt(self, support: Support) -> LabelMeans:
        self.n_adapted.append(support.n_way)
        return streamed_means(support.batches(2), support.n_way)

    def predict(self, state: LabelMeans, query: torch.Tensor) -> torch.Tensor:
        return distance_scores(query, state.means)


def small() -> ClosedList:
    """Three classes of four images, of which the first two are given and the last is asked."""
    roles = {
        "base": Role("x", {"a": 2, "b": 2, "c": 2}, starts={"a": 0, "b": 0, "c": 0}),
        "validation": Role("x", {"a": 1, "b": 1, "c": 1}, starts={"a": 2, "b": 2, "c": 2}),
        "novel": Role("x", {"a": 1, "b": 1, "c": 1}, starts={"a": 3, "b": 3, "c": 3}),
    }
    return closed.test_images(roles, seed=1)


def test_training_images_are_given_by_label_and_test_images_asked_in_no_order_of_theirs() -> None:
    asked = small()
    assert asked.base.tolist() == [0, 1, 4, 5, 8, 9] and asked.base_label.tolist() == [0, 0, 1, 1, 2, 2]
    pairs = {(int(row), int(c)) for row, c in zip(asked.query.ravel(), asked.classes.ravel(), strict=True)}
    assert pairs == {(3, 0), (7, 1), (11, 2)}
    flowers = benchmarks.load("flowers-closed").episodes
    assert isinstance(flowers, ClosedList)
    first = flowers.classes[:1000, 0]  # a prefix is a random part: the test images of 102 classes are mixed
    assert len(set(first.tolist())) > 90 and (np.diff(first) < 0).any()


@pytest.mark.parametrize("benchmark", CLOSED_SETS, ids=lambda b: b.key)
def test_every_image_of_the_official_split_is_given_or_asked_once(benchmark: benchmarks.Benchmark) -> None:
    asked, name = benchmark.test_images(), benchmark.name.partition("-")[0]
    split = splits.read(name if name != "glyphs" else "glyphs-closed")
    part = "trainval" if "validation" not in benchmark.roles and "trainval" in split else "train"
    assert len(asked.base) == sum(split[part].values()) and len(asked) == sum(split["test"].values())
    rows = np.concatenate([asked.base, asked.query.ravel()])
    assert len(set(rows.tolist())) == len(rows)
    assert len(rows) == closed.whole(benchmark.roles).sum() - sum(
        role.counts.sum() for name, role in benchmark.roles.items() if name == "validation"
    )
    assert benchmark.settings()[0].n_episodes == len(asked) == benchmark.settings()[0].list_length


def test_trainings_of_a_closed_set_are_shared_with_no_other_protocol() -> None:
    trained_on = [
        (b.is_closed, str(sorted((n, r) for n, r in b.roles.items() if n != "novel")))
        for b in benchmarks.every()
    ]
    shut = {text for is_closed, text in trained_on if is_closed}
    assert shut.isdisjoint(
        text for is_closed, text in trained_on if not is_closed
    )  # they choose weights otherwise


def test_roles_that_do_not_fit_are_refused() -> None:
    base = Role("x", {"a": 2, "b": 2}, starts={"a": 0, "b": 0})
    with pytest.raises(DataError, match="also those of another role"):
        closed.whole({"base": base, "novel": Role("x", {"a": 1, "b": 1}, starts={"a": 2, "b": 1})})
    for other in (Role("y", {"a": 1, "b": 1}), Role("x", {"b": 1, "a": 1}, starts={"a": 2, "b": 2})):
        with pytest.raises(DataError, match="are of the base classes, in their order"):
            closed.whole({"base": base, "novel": other})


def test_a_setting_has_one_name() -> None:
    setting = benchmarks.load("glyphs-closed")
    assert (setting.name, setting.way, setting.shot, setting.n_query) == ("glyphs-closed", 96, 0, 1)
    assert benchmarks.load("flowers-closed-trainval").benchmark.roles.keys() == {"base", "novel"}
    with pytest.raises(ConfigError, match="its settings are glyphs-closed"):
        benchmarks.load("glyphs-closed-5w1s")


def test_a_method_adapts_once_to_lazily_gathered_images_and_sees_no_others() -> None:
    asked = small()
    support = closed_support(asked, Rows(), seed=0)
    assert support.x.shape == (0, 1) and support.is_closed and support.n_base == support.n_way == 3
    x, y = support.gathered()
    assert x[:, 0].tolist() == asked.base.tolist() and y.tolist() == asked.base_label.tolist()
    with pytest.raises(ValueError, match=r"between 0 and 0 support images; .* gathered\(\)"):
        support.by_class()
    NearestMean.n_adapted.clear()
    given = CLOSED.predict(NearestMean(), asked, Rows(lambda rows: rows // 4), seed=0)
    assert NearestMean.n_adapted == [3]
    assert given.tolist() == asked.classes.tolist()
    wrong = CLOSED.predict(NearestMean(), asked, Rows(lambda rows: np.where(rows == 7, 0, rows // 4)), seed=0)
    assert (wrong != given).sum() == 1
    counts = CLOSED.counts(asked, wrong)["top1/test"]
    assert counts.n_query.tolist() == [1, 1, 1] and counts.n_correct.sum() == 2
    assert counts.n_correct.tolist() == (wrong == asked.classes)[:, 0].tolist()


def test_parts_of_a_list_give_the_same_predictions() -> None:
    asked = benchmarks.load("glyphs-closed").episodes[:300]
    rng = np.random.default_rng(0)
    value = rng.normal(size=4_000)
    source = Rows(lambda rows: value[rows] + rows // 40)
    whole = CLOSED.predict(NearestMean(), asked, source, seed=0)
    parts = [
        replace(CLOSED, query_batch=7).predict(NearestMean(), asked[i : i + 90], source, 0, first=i)
        for i in range(0, 300, 90)
    ]
    assert np.array_equal(np.concatenate(parts), whole)
    assert protocol_of(asked) is CLOSED is protocol_with({"top1/test"})


@pytest.mark.parametrize("scores", [torch.zeros(3, 2), torch.full((3, 3), float("nan"))])
def test_scores_are_checked(scores: torch.Tensor) -> None:
    class Bad(NearestMean):
        def predict(self, state: LabelMeans, query: torch.Tensor) -> torch.Tensor:
            return scores

    with pytest.raises(PluginError, match="test images from 0"):
        CLOSED.predict(Bad(), small(), Rows(), seed=0)


def test_stacked_sources_are_one() -> None:
    both = Stacked([Rows(), Rows(lambda rows: rows + 100)], [3, 2])
    assert both.take(np.array([4, 0, 3, 2, 2]))[:, 0].tolist() == [101, 0, 100, 2, 2]
    assert both.take(np.array([], dtype=np.int64)).shape == (0, 1)


def result() -> RunResult:
    from stored_results import spec_of

    asked = small()
    predictions = asked.classes.copy()
    predictions[0] = (predictions[0] + 1) % 3
    spec = replace(spec_of(), setting="x", n_way=3, shot=0, n_query=1, n_episodes=3)
    table = CLOSED.table(asked, ("a", "b", "c"), ("", "", ""))
    return RunResult(spec, "done", CLOSED.counts(asked, predictions), table)


def test_a_result_is_consistent_until_somebody_changes_it() -> None:
    made = result()
    assert find_problems(made) == []
    counts, table = made.counts["top1/test"], made.episodes
    assert table is not None
    more = replace(counts, n_correct=np.ones_like(counts.n_correct))
    for changed, problem in (
        (replace(made, counts={"top1/test": more}), "does not have the counts that its predictions give"),
        (replace(made, counts={"top1": counts}), "not top1/test of the closed-set protocol"),
        (
            replace(made, counts={"top1/test": replace(counts, n_query=counts.n_query + 1)}),
            "other than one query",
        ),
        (replace(made, spec=replace(made.spec, shot=1)), "1 shots"),
        (replace(made, spec=replace(made.spec, n_way=4)), "label space"),
        (replace(made, episodes=None), "no shots, and no list of test images"),
        (replace(made, episodes=replace(table, classes=table.classes + 3)), "classes outside"),
    ):
        assert any(problem in found for found in find_problems(changed)), (problem, find_problems(changed))


def test_a_table_gives_back_labels_and_classes() -> None:
    table = result().episodes
    assert isinstance(table, EpisodeTable) and table.is_closed and not table.is_joint
    assert table.query_label.tolist() == table.classes.tolist()
    assert table.class_of_label.tolist() == [[0, 1, 2]] * 3


def test_test_images_that_were_trained_on_are_a_leak_and_own_training_images_are_not() -> None:
    flowers, dogs, pets = (benchmarks.load(f"{n}-closed").benchmark for n in ("flowers", "dogs", "pets"))
    for benchmark in CLOSED_SETS:
        assert not leaks.of_run((), benchmark)
    assert not leaks.of_run(["flowers-closed", "imagenet"], flowers) and not leaks.of_run(["imagenet"], pets)
    assert len(leaks.of_run(["flowers-closed:all"], flowers).classes) == 102
    assert len(leaks.of_run(["flowers"], flowers).classes) == 71  # few-shot training takes whole classes
    assert len(leaks.of_run(["imagenet"], dogs).classes) == 120
    assert not leaks.of_run(["dogs-closed"], dogs)


def test_weights_are_chosen_on_the_validation_images(tmp_path: Path) -> None:
    from harness.images.stores import store_of_arrays
    from harness.training.validation import ClosedValidator

    rng = np.random.default_rng(0)
    base = store_of_arrays("base", rng.integers(0, 99, (3, 4, 8, 8, 1), dtype=np.uint8), ["a", "b", "c"])
    level = np.array([0, 40, 80], dtype=np.uint8)[:, None, None, None, None]
    held_out = store_of_arrays("held out", np.broadcast_to(level, (3, 5, 8, 8, 1)).copy(), ["a", "b", "c"])

    class Brightness(NearestMean):
        def adapt(self, support: Support) -> Any:
            x, y = support.gathered()
            assert len(x) == 12 and y.tolist() == [0] * 4 + [1] * 4 + [2] * 4
            return torch.tensor([[0.0], [40 / 255], [0.0]])  # never the third class

        def predict(self, state: Any, query: torch.Tensor) -> torch.Tensor:
            return -(query.flatten(1).mean(1, keepdim=True) - state.T).abs()

    from stored_results import spec_of

    fit = replace(spec_of(), pipeline="stored").fit
    validator = ClosedValidator.on_validation(fit, base, held_out, torch.device("cpu"))
    n_correct, n_query = validator.counts(Brightness(), 5, 1)
    assert (n_correct.tolist(), n_query) == ([1] * 10 + [0] * 5, 1)
    assert validator(Brightness(), 5, 1) == pytest.approx(10 / 15)
