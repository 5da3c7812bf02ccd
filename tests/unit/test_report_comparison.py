"""Which rows a name means, what may be paired, and what the sentence says; and the page over localhost."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import made_up_results as made
import numpy as np
import pytest

from harness import stats
from harness.errors import ConfigError, StoreError
from harness.report import serve
from harness.report.board import pairs
from harness.report.board.tables import tables
from harness.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("compare") / "results.db", create=True) as opened:
        made.fill(opened)
        yield opened


def test_one_seed_gives_the_paired_t_test_about_these_trained_models(store: Store) -> None:
    (pair,) = pairs.compare(store, "method-4", "method-3", ["glyphs-5w1s"], 0.005)
    rows = {row.method: row for row in tables(store, ["glyphs-5w1s"])[0].rows}
    d = (rows["method-4"].accuracy - rows["method-3"].accuracy)[0]
    assert pair.comparison.t == pytest.approx(
        d.mean() / (d.std(ddof=1) / np.sqrt(300)), rel=1e-9
    )  # one formula, other sums
    assert pair.comparison.scope == "checkpoints" and "about these trained models" in pair.sentence
    assert pair.sentence.startswith("glyphs-5w1s: method-4 is better than method-3 by ")


def test_three_common_seeds_are_paired_seed_by_seed(store: Store) -> None:
    (pair,) = pairs.compare(store, "method-0", "method-1", ["glyphs-5w1s"], 0.005)
    expected = stats.compare(pair.a.accuracy, pair.b.accuracy, ("a", "b"), n_flips=1)
    assert (pair.comparison.n_seeds, pair.comparison.scope) == (3, "training")
    assert pair.comparison.p == expected.p


def test_fewer_common_seeds_use_all_of_each_as_the_page_does(store: Store) -> None:
    (pair,) = pairs.compare(store, "method-0", "method-4", ["glyphs-5w1s"], 0.005)
    table = next(t for t in tables(store, ["glyphs-5w1s"]))
    i, j = (
        next(k for k, row in enumerate(table.ranked) if row.method == name)
        for name in ("method-0", "method-4")
    )
    assert table.pairs is not None
    assert pair.comparison.difference == pytest.approx(table.pairs.difference[i, j], abs=1e-12)
    assert pair.comparison.p == pytest.approx(table.pairs.p[i, j], rel=1e-6)


def test_unequal_lengths_pair_on_the_common_prefix(store: Store) -> None:
    (pair,) = pairs.compare(store, "partial", "method-4", ["glyphs-5w1s"], 0.005)
    assert pair.comparison.n_episodes == 100
    assert pair.comparison.mean_b == pytest.approx(pair.b.accuracy[:, :100].mean())


def test_a_wider_margin_ties_what_was_undecided(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        for name in ("a", "b"):
            store.ingest(made.result(name, skill=0.6))
        verdicts = [
            pairs.compare(store, "a", "b", None, margin)[0].comparison.verdict for margin in (0.001, 0.05)
        ]
    assert verdicts == ["undecided", "tied"]


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
        with pytest.raises(ConfigError, match="means 2 rows"):
            pairs.compare(store, "method-a", "other", None, 0.005)
        with pytest.raises(ConfigError, match="Did you mean `method-a`"):
            pairs.compare(store, "methd-a", "other", None, 0.005)
        run_id = next(row.runs[0].id for row in tables(store)[0].rows if row.backbone == "resnet12")
        (pair,) = pairs.compare(store, run_id, "other", None, 0.005)
    assert pair.a.backbone == "resnet12"


def test_a_row_is_not_compared_with_itself(store: Store) -> None:
    with pytest.raises(ConfigError, match="are the same row"):
        pairs.compare(store, "method-0", "method-0", None, 0.005)


def test_the_server_answers_this_machine_only_and_tells_of_a_new_build(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(made.result("first"))
        with serve.running(store, tmp_path / "reports", None) as address:
            page = urllib.request.urlopen(address, timeout=10).read().decode()
            assert '<script src="/.reload.js?since=0" defer></script></head>' in page
            assert ".reload.js" not in (tmp_path / "reports" / "index.html").read_text()
            stranger = urllib.request.Request(address, headers={"Host": "evil.example"})
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(stranger, timeout=10)
            timer = threading.Timer(0.5, store.ingest, [made.result("second")])
            timer.start()
            changed = address.replace("index.html", ".changed?since=0")
            assert urllib.request.urlopen(changed, timeout=30).read() == b"location.reload();"
            assert "second" in urllib.request.urlopen(address, timeout=10).read().decode()


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
