"""Results of the joint protocol in the database and on the board: classes are the units, and nothing is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness import stats
from harness.benchmarks.experiments import JointClasses
from harness.errors import ConfigError, StoreError
from harness.evaluation.protocols import JOINT
from harness.report import exports, render
from harness.report.board import by_class, pairs
from harness.report.board.rows import Row
from harness.report.board.tables import Table, tables
from harness.report.pages import index_page, setting_page, six_blocks
from harness.report.pages.six_blocks import Block
from harness.runs import MethodReference, RunResult, RunSpec
from harness.seeding import numpy_generator
from harness.store import Store

NAMES = tuple("abcdefgh")
CLASSES = JointClasses(
    base=dict.fromkeys("abcd", 6), novel=dict.fromkeys("efgh", 18), asked=frozenset("bdefgh"), n_query=10
)


def made(method: str, share_right: float, seed: int = 0, n: int = 5) -> RunResult:
    """A run whose top-1 is right for about so many queries, and whose top-5 for half of the others too."""
    experiments = CLASSES.experiments(1, seed=5)[:n]
    rng = np.random.default_rng([seed, int(1000 * share_right)])
    truth = experiments.query_label
    right = rng.random((n, len(truth))) < share_right
    wrong = (truth + 1) % experiments.n_way
    first = np.where(right, truth, wrong)
    fifth = np.where(right | (rng.random(right.shape) < 0.5), truth, wrong)
    spec = RunSpec(
        method=MethodReference(method, method, "1"), benchmark="toy", setting="toy-n1", n_way=experiments.n_way, shot=1,
        n_query=CLASSES.n_query, n_episodes=n, config={}, backbone="none", image_size=28, channels=1, pipeline="stored",
        episode_digest=CLASSES.experiments(1, seed=5).digest, data_digest={"base": "0" * 64, "novel": "1" * 64}, seed=seed,
    )  # fmt: skip
    given = np.stack([first, fifth], axis=1)
    return RunResult(
        spec, "done", JOINT.counts(experiments, given), JOINT.table(experiments, NAMES, ("",) * 8)
    )


def board(folder: Path, *results: RunResult) -> tuple[Store, Table]:
    store = stored(folder, *results)
    (table,) = tables(store)
    return store, table


def stored(folder: Path, *results: RunResult) -> Store:
    store = Store.open(str(folder / "results.db"), create=True)
    for result in results:
        store.ingest(result)
    return store


def row_of(table: Table, method: str) -> Row:
    return next(row for row in table.rows if row.method == method)


def test_a_result_comes_out_of_the_database_as_it_went_in(tmp_path: Path) -> None:
    result = made("a", 0.5)
    with Store.open(str(tmp_path / "results.db"), create=True) as store:
        assert store.ingest(result) == "new" and store.ingest(result) == "known"
        found = store.result(store.run(result.spec.id).pk)
        with Store.open(str(tmp_path / "other.db"), create=True) as other:
            other.merge(store)
            merged = other.result(other.run(result.spec.id).pk)
            assert merged.digest == result.digest and other.run(result.spec.id).badges == ("self-reported",)
    assert found.digest == result.digest and found.episodes is not None and result.episodes is not None
    for name in ("classes", "support", "query"):
        np.testing.assert_array_equal(getattr(found.episodes, name), getattr(result.episodes, name))
    for name in ("top1/all", "top5/all"):
        np.testing.assert_array_equal(found.counts[name].predictions, result.counts[name].predictions)


def test_a_run_folder_keeps_it_too(tmp_path: Path) -> None:
    result = made("a", 0.5)
    found = RunResult.load(result.save(tmp_path))
    assert found.digest == result.digest and found.episodes is not None and found.episodes.is_joint


def test_a_list_of_another_shape_is_refused(tmp_path: Path) -> None:
    result = made("a", 0.5)
    assert result.episodes is not None
    table = result.episodes
    spoilt = type(table)(
        table.classes, table.support, table.query[:, :, :-1], table.class_names, table.class_groups
    )
    with (
        Store.open(str(tmp_path / "results.db"), create=True) as store,
        pytest.raises(StoreError, match="query of shape"),
    ):
        store.ingest(RunResult(result.spec, "done", result.counts, spoilt))


def test_a_row_has_six_numbers_an_interval_over_experiments_and_one_over_classes(tmp_path: Path) -> None:
    result = made("a", 0.6)
    store, table = board(tmp_path, result)
    row = table.rows[0]
    assert row.joint is not None and row.metric == "top5/novel" and row.n_episodes == 5
    for name, counts in result.counts.items():
        assert row.joint.means[name] == pytest.approx(
            float((counts.n_correct / counts.n_query).mean()), abs=1e-12
        )
        assert row.joint.class_means[name] == pytest.approx(row.joint.means[name], abs=1e-12)  # equal classes
    assert row.joint.by_class.shape == (1, 5, 4) and row.unit == "experiments"
    assert row.accuracy.shape == (1, 5) and row.n_answers == 40  # four novel classes of ten queries
    assert row.interval.kind == "training" and row.interval.low is not None and row.interval.low > 0
    expected = stats.joint_interval(row.joint.by_class[0], numpy_generator(0, "bootstrap", row.runs[0].id))
    assert setting_page.build(store, table).entries[0].by_class == expected
    store.close()


def test_by_class_counts_only_the_half_that_was_asked(tmp_path: Path) -> None:
    result = made("a", 0.6)
    store, table = board(tmp_path, result)
    lines = {line.name: line for line in by_class.by_class(store, result.spec.id)}
    assert set(lines) == set("bdefgh") and {line.n_query for line in lines.values()} == {50}
    counts = result.counts["top5/all"].n_correct.sum()
    assert sum(line.n_correct for line in lines.values()) == counts
    episodes = store.episode_list(result.spec.episode_digest)
    of_metric = setting_page.class_counts(store, table.rows[0], episodes)
    assert of_metric is not None and of_metric.n_query.tolist() == [
        0,
        0,
        0,
        0,
        50,
        50,
        50,
        50,
    ]  # of top5/novel
    assert of_metric.n_correct.sum() == result.counts["top5/novel"].n_correct.sum()
    store.close()


def test_experiments_are_the_episodes_of_a_comparison(tmp_path: Path) -> None:
    results = [made(m, p, seed) for m, p in (("good", 0.9), ("bad", 0.2)) for seed in range(3)]
    store, table = board(tmp_path, *results)
    (pair,) = pairs.compare(store, "good", "bad", None)
    good, bad = row_of(table, "good"), row_of(table, "bad")
    found = stats.judge([good.evidence, bad.evidence], table.prior).pairs
    assert good.evidence.accuracy.shape == (3, 5) and pair.n_episodes == 5
    assert pair.verdict.word == "better" and "5 paired experiments" in pair.sentence
    assert pair.p == found.p[0, 1] and table.pairs is not None and table.pairs.p[0, 1] == found.p[0, 1]
    store.close()


def test_fewer_experiments_are_a_prefix_and_a_partial_row_is_not_ranked(tmp_path: Path) -> None:
    store, table = board(tmp_path, made("whole", 0.9), made("part", 0.9, n=2), made("other", 0.5))
    assert row_of(table, "part").n_episodes == 2
    assert {row.method for row in table.ranked} == {"whole", "other"}
    (pair,) = pairs.compare(store, "part", "whole", None)
    whole = row_of(table, "whole").accuracy[:, :2].mean()
    assert pair.difference == pytest.approx(float(row_of(table, "part").accuracy.mean() - whole))
    store.close()


def test_exports_have_a_column_for_each_of_the_six(tmp_path: Path) -> None:
    store, table = board(tmp_path, made("a", 0.6), made("b", 0.3))
    page = setting_page.build(store, table)
    for form, sign in (("csv", ","), ("md", "|"), ("tex", "&")):
        text = exports.as_text([page], form)
        head = next(line for line in text.splitlines() if all(name in line for name in JOINT.metrics))
        assert head.count(sign) >= 6
    records: list[dict[str, Any]] = exports.records(page)
    assert set(JOINT.metrics) <= set(records[0])
    store.close()


def blocks_of(folder: Path, *results: RunResult) -> tuple[Block, ...]:
    store = stored(folder, *results)
    pages = [setting_page.build(store, table) for table in tables(store)]
    (family,) = index_page.build(pages, len(results)).families
    assert [block.metric for block in family.blocks] == list(JOINT.metrics)
    return family.blocks


def with_shot(result: RunResult, shot: int) -> RunResult:
    """The same counts under another n; a list of its own."""
    experiments = CLASSES.experiments(shot, seed=5)
    spec = replace(result.spec, shot=shot, setting=f"toy-n{shot}", episode_digest=experiments.digest)
    return replace(result, spec=spec, episodes=JOINT.table(experiments, NAMES, ("",) * 8))


def test_six_blocks_have_a_column_for_each_n_and_their_mean(tmp_path: Path) -> None:
    one, other = made("a", 0.6), made("a", 0.9)
    blocks = blocks_of(
        tmp_path, one, with_shot(other, 2), with_shot(made("b", 0.8), 5), with_shot(made("b", 0.7), 2)
    )
    for block in blocks:
        assert block.shots == (1, 2, 5)
        cells = {row.representation: row for row in block.rows}
        counts = [result.counts[block.metric] for result in (one, other)]
        expected = [float((c.n_correct / c.n_query).mean()) for c in counts]
        assert cells["a"].cells == (pytest.approx(expected[0]), pytest.approx(expected[1]), None)
        assert cells["a"].mean is None and cells["b"].cells[0] is None  # a hole has no mean
        assert block.best[0] == cells["a"].cells[0] and block.best[2] == cells["b"].cells[2]


def test_a_whole_row_has_a_mean_and_is_written_as_markdown_and_latex(tmp_path: Path) -> None:
    store = stored(tmp_path, made("a", 0.6), with_shot(made("a", 0.8), 2))
    written = render.blocks(store, "md")
    assert written.count("| Representation | Low-shot phase | Backbone | n=1 | n=2 | mean |") == 6
    assert written.startswith("**Top-1, novel classes**")
    numbers = [float(cell.strip(" *")) for cell in written.splitlines()[4].split("|")[4:7]]
    assert numbers[2] == pytest.approx((numbers[0] + numbers[1]) / 2, abs=0.01)  # of rounded numbers
    latex = render.blocks(store, "tex")
    assert latex.count(r"\begin{tabular}{lllrrr}") == 6 and r"Top-5, all classes" in latex
    with pytest.raises(ConfigError, match="six blocks are written as md and tex"):
        render.blocks(store, "csv")


def test_phases_come_in_one_order_and_a_rule_stands_above_published_rows() -> None:
    def row(on: str, phase: str, source: str = "") -> six_blocks.BlockRow:
        return six_blocks.BlockRow(on, phase, "conv4", (0.5, None), source)

    mixed = [row("sgm", "b"), row("none", "a"), row("sgm", "a"), row("none", "b")]
    ours = six_blocks._by_features(mixed)
    assert [(r.representation, r.phase) for r in ours] == [
        (on, phase) for on in ("sgm", "none") for phase in "ba"
    ]
    family = SimpleNamespace(blocks=(Block("top1/all", (1, 2), (*ours, row("SGM", "–", "their paper"))),))
    lines = exports.blocks_as_latex(family).splitlines()
    rules = [i for i, line in enumerate(lines) if line == r"\midrule"]
    assert (
        lines[rules[-1] + 1].startswith("SGM & ") and "(published) & 50.00 & -- & --" in lines[rules[-1] + 1]
    )
    assert rules[-1] - rules[-2] == 1 + len(ours)


def test_published_rows_stand_below_ours() -> None:
    rows = six_blocks._theirs("top1/novel", [f"imagenet-lowshot-n{n}" for n in (1, 2, 5, 10, 20)])
    found = {(row.representation, row.phase, row.backbone): row for row in rows}
    sgm = found["SGM", "Generation", "resnet10"]
    assert sgm.cells == pytest.approx((0.0985, 0.1732, 0.2789, 0.3617, 0.4142)) and sgm.source
    assert sgm.mean == pytest.approx(0.26530)
    assert len(found) == 11
