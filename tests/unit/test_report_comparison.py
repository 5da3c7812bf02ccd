"""Which rows a name means, what may be paired, and what the sentence says; and the page over localhost."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import made_up_results as made
import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.errors import ConfigError, StoreError
from harness.report import serve
from harness.report.board import pairs, power
from harness.report.board.rows import Row
from harness.report.board.tables import tables
from harness.runs import ConfigValue, MethodReference
from harness.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("compare") / "results.db", create=True) as opened:
        made.fill(opened)
        yield opened


def row_of(store: Store, method: str, setting: str = "glyphs-5w1s") -> Row:
    return next(row for row in tables(store, [setting])[0].rows if row.method == method)


def test_the_scope_of_checkpoints_gives_the_paired_t_test_about_these_trained_models(store: Store) -> None:
    (pair,) = pairs.compare(store, "method-4", "method-3", ["glyphs-5w1s"], scope="checkpoints")
    d = (row_of(store, "method-4").accuracy - row_of(store, "method-3").accuracy)[0]
    assert pair.models.t == pytest.approx(
        d.mean() / (d.std(ddof=1) / np.sqrt(300)), rel=1e-9
    )  # one formula, other sums
    assert pair.p == pair.models.p and "about these trained models" in pair.sentence
    assert pair.sentence.startswith("glyphs-5w1s: method-4 is better than method-3 by ")
    assert pair.low == pytest.approx(pair.difference - pair.models.half_width) and pair.p_page is None


def test_rows_trained_once_are_undecided_while_few_rows_were_trained_twice(store: Store) -> None:
    (pair,) = pairs.compare(store, "method-4", "method-3", ["glyphs-5w1s"])
    assert pair.verdict.word == "undecided" and pair.verdict.reason == "no training was repeated"
    assert "no training was repeated" in pair.sentence and pair.a.marks == (
        "seed error borrowed from 5 rows",
    )


def test_a_pair_is_read_from_the_draws_of_its_page(store: Store) -> None:
    (pair,) = pairs.compare(store, "method-0", "method-4", ["glyphs-5w1s"])
    table = next(t for t in tables(store, ["glyphs-5w1s"]))
    i, j = (
        next(k for k, row in enumerate(table.ranked) if row.method == name)
        for name in ("method-0", "method-4")
    )
    assert table.pairs is not None
    assert (pair.p, pair.p_page) == (table.pairs.p[i, j], table.pairs.p_adjusted[i, j])
    assert pair.high - pair.low == pytest.approx(2 * table.pairs.half_width[i, j], rel=1e-12)
    assert pair.difference == pytest.approx(table.pairs.difference[i, j], abs=1e-12)
    assert pair.verdict.bound == table.pairs.bound[i, j] and "on the page" in pair.sentence


def test_what_would_decide_a_pair_is_a_plan_for_the_difference_seen(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        for seed in range(3):
            store.ingest(made.result("a", skill=0.6 + 0.01 * seed, seed=seed))
            store.ingest(made.result("b", skill=0.62 - 0.01 * seed, seed=seed))
        (pair,) = pairs.compare(store, "a", "b", None)
        (plan,) = power.power(store, "a", "b", abs(pair.difference))
    assert pair.verdict.word == "undecided" and f"{100 * abs(pair.difference):.2f} points seen" in pair.advice
    # two rows are a family of one, so that the page and the pair ask for the same
    assert power.plan_text(plan.plan, "episodes") in pair.advice


def test_variants_of_a_training_are_compared_by_training(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        for seed in range(3):
            plain = made.result("a", skill=0.6, seed=seed)
            late = {**plain.spec.config, "views": ConfigValue("one", "--set", "adapt")}
            store.ingest(plain)
            store.ingest(made.result("a", skill=0.61, seed=seed, changes={"config": late}))
        [table] = tables(store)
        assert [row.variant_of for row in table.rows] == ["", "a"] and table.rows[1].rank is None
        one, two = (row.runs[0].id for row in table.rows)
        (pair,) = pairs.compare(store, one, two, None)
    d = pair.a.accuracy.mean(axis=1) - pair.b.accuracy.mean(axis=1)
    assert pair.a.evidence.fits == pair.b.evidence.fits
    assert pair.p_shared == pytest.approx(scipy_stats.ttest_1samp(d, 0).pvalue, rel=1e-9)


def test_equal_results_are_tied_and_one_entry(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        for seed in range(3):
            store.ingest(made.result("a", skill=0.6, seed=seed))
            store.ingest(made.result("b", skill=0.5, seed=seed))
            again = made.result("a", skill=0.6, seed=seed)
            other = {"method": MethodReference("c", "c", "1")}
            store.ingest(replace(again, spec=replace(again.spec, **other)))
        [table] = tables(store)
        (pair,) = pairs.compare(store, "a", "c", None)
    same = {row.method: row.same_as for row in table.rows}
    assert len(table.ranked) == 2 and sorted(same.values()) in (["", "", "a"], ["", "", "c"])
    assert len({(row.rank, row.interval) for row in table.rows if row.method != "b"}) == 1
    assert (pair.verdict.word, pair.p, pair.low, pair.high) == ("tied", 1.0, 0.0, 0.0)


def test_unequal_lengths_pair_on_the_common_prefix(store: Store) -> None:
    (pair,) = pairs.compare(store, "partial", "method-4", ["glyphs-5w1s"])
    assert (
        pair.n_episodes == 100
        and "100 paired episodes, the prefix both have" in pair.sentence
        and pair.p_page is None
    )
    assert pair.models.mean_b == pytest.approx(row_of(store, "method-4").accuracy[:, :100].mean())


def test_a_wider_margin_ties_what_was_undecided(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        for name in ("a", "b"):
            for seed in range(3):
                store.ingest(made.result(name, skill=0.6, seed=seed))
        words = [pairs.compare(store, "a", "b", None, margin)[0].verdict.word for margin in (0.001, 0.1)]
    assert words == ["undecided", "tied"]


def test_runs_on_different_images_are_not_paired(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(made.result("a"))
        store.ingest(made.result("b", changes={"data_digest": {"novel": "f" * 64}}))
        with pytest.raises(StoreError, match="no setting, images and episodes in common"):
            pairs.compare(store, "a", "b", None, 0.005)


def test_a_name_that_means_several_rows_or_none_is_refused(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(made.result("method-a"))
        store.ingest(made.result("method-a", changes={"backbone": "resnet12"}))
        store.ingest(made.result("other"))
        with pytest.raises(ConfigError, match="means 2 rows on glyphs-5w1s; name one by its run: "):
            pairs.compare(store, "method-a", "other", None, 0.005)
        with pytest.raises(ConfigError, match="Did you mean `method-a`"):
            pairs.compare(store, "methd-a", "other", None, 0.005)
        run_id = next(row.runs[0].id for row in tables(store)[0].rows if row.backbone == "resnet12")
        (pair,) = pairs.compare(store, run_id, "other", None, 0.005)
    assert pair.a.backbone == "resnet12"


def test_variants_are_named_by_their_labels(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        for lr, skill in ((0.5, 0.7), (0.1, 0.6)):
            store.ingest(made.result("a", skill=skill, changes={"config": {"lr": ConfigValue(lr, "--set")}}))
        with pytest.raises(
            ConfigError, match=r"by its run, or its label in quotes: \w+ \('a \(lr=0.[15]\)', conv4\)"
        ):
            pairs.compare(store, "a (lr=0.5)", "a", None)
        (pair,) = pairs.compare(store, "a (lr=0.5)", "a (lr=0.1)", None)
    assert (pair.a.label, pair.b.label) == ("a (lr=0.5)", "a (lr=0.1)")
    assert pair.difference == pytest.approx(0.1, abs=0.02)


def test_a_row_is_not_compared_with_itself(store: Store) -> None:
    with pytest.raises(ConfigError, match="are the same row"):
        pairs.compare(store, "method-0", "method-0", None, 0.005)


def test_the_server_answers_this_machine_only_and_tells_of_a_new_build(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(made.result("first"))
        with serve.running(store, tmp_path / "reports", None) as address:
            page = urllib.request.urlopen(address, timeout=300).read().decode()
            assert '<script src="/.reload.js?since=0" defer></script></head>' in page
            assert ".reload.js" not in (tmp_path / "reports" / "index.html").read_text()
            stranger = urllib.request.Request(address, headers={"Host": "evil.example"})
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(stranger, timeout=300)
            timer = threading.Timer(0.5, store.ingest, [made.result("second")])
            timer.start()
            changed = address.replace("index.html", ".changed?since=0")
            assert urllib.request.urlopen(changed, timeout=300).read() == b"location.reload();"
            assert "second" in urllib.request.urlopen(address, timeout=300).read().decode()


def test_a_taken_port_is_one_clear_error(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    with (
        Store.open(tmp_path / "results.db", create=True) as store,
        serve.running(store, reports, None) as address,
    ):
        port = int(address.rpartition(":")[2].partition("/")[0])
        with pytest.raises(ConfigError, match=f"--port {port}"), serve.running(store, reports, None, port):
            pass


def test_the_overlap_of_errors_counts_every_query(store: Store) -> None:
    (pair,) = pairs.compare(store, "method-4", "partial", ["glyphs-5w1s"], 0.005)
    o = pair.overlap
    assert o is not None and o.both_right + o.only_a_wrong + o.only_b_wrong + o.both_wrong == 100 * 75
    wrong_b = 100 * 75 - store.counts(pair.b.runs[0].pk)[0].sum()
    assert o.only_b_wrong + o.both_wrong == wrong_b
    assert "by method-4 alone" in pair.overlap_sentence
