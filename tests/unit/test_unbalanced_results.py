"""Results on lists with unequal numbers of queries: stored, checked, merged, bundled, scored and shown like others."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from harness import benchmarks
from harness.benchmarks.episodes import EpisodeList
from harness.errors import DataError, StoreError
from harness.evaluation import thumbnails
from harness.evaluation.protocols import EPISODIC
from harness.exchange import scoring
from harness.exchange.scoring import score
from harness.images.stores import ImageStore
from harness.report import render
from harness.report.board import by_class, pairs
from harness.report.board.tables import tables
from harness.report.pages import pictures, setting_page
from harness.runs import MethodReference, RunResult, RunSpec, agreement
from harness.store import Store
from harness.system.folders import Places

N = 60
SETTINGS = ("glyphs-5w1s", "glyphs-5w1s-dir2")


@cache
def listed(name: str) -> EpisodeList:
    found = benchmarks.load(name).episodes[:N]
    assert isinstance(found, EpisodeList)
    return found


def labels(name: str, share_right: float, seed: int) -> np.ndarray:
    asked, rng = listed(name), np.random.default_rng([seed, int(1000 * share_right)])
    truth = asked.query_label
    right = rng.random(truth.shape) < share_right
    return np.where(truth < 0, 0, np.where(right, truth, (truth + 1) % 5))


def made(method: str, name: str = SETTINGS[1], share_right: float = 0.7, seed: int = 0) -> RunResult:
    setting, asked = benchmarks.load(name), listed(name)
    spec = RunSpec(
        method=MethodReference(method, method, "1"), benchmark="glyphs", setting=name, n_way=5, shot=1,
        n_query=setting.n_query, n_episodes=N, config={}, backbone="conv4", image_size=28, channels=1, pipeline="stored",
        episode_digest=setting.digest, data_digest={"base": "0" * 64, "novel": "1" * 64}, seed=seed,
    )  # fmt: skip
    table = EPISODIC.table(asked, tuple(setting.benchmark.roles["novel"].classes), ("",) * 40)
    return RunResult(spec, "done", EPISODIC.counts(asked, labels(name, share_right, seed)), table)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store.open(str(tmp_path / "results.db"), create=True)
    for name in SETTINGS:
        for method, share in (("steady", 0.6), ("balancer", 0.8 if name == SETTINGS[0] else 0.4)):
            for seed in range(3):
                found.ingest(made(method, name, share, seed))
    return found


def test_a_result_comes_back_from_folder_database_and_merge(tmp_path: Path) -> None:
    result = made("a")
    assert agreement.find_problems(result) == [] and agreement.differs_from_ours(result) == ""
    read = RunResult.load(result.save(tmp_path))
    with (
        Store.open(str(tmp_path / "a.db"), create=True) as store,
        Store.open(str(tmp_path / "b.db"), create=True) as other,
    ):
        assert store.ingest(result) == "new" and store.ingest(read) == "known"
        other.merge(store)
        merged = other.result(other.run(result.spec.id).pk)
    for found in (read, merged):
        assert found.digest == result.digest and found.episodes is not None and result.episodes is not None
        for part in ("classes", "support", "query"):
            np.testing.assert_array_equal(getattr(found.episodes, part), getattr(result.episodes, part))
        np.testing.assert_array_equal(found.counts["top1"].predictions, result.counts["top1"].predictions)
        assert set(found.counts["top1"].n_query.tolist()) == {20}


def test_a_longer_run_extends_the_stored_list(tmp_path: Path) -> None:
    whole = made("a")
    assert whole.episodes is not None
    table = replace(
        whole.episodes,
        **{part: getattr(whole.episodes, part)[:9] for part in ("classes", "support", "query")},
    )
    counts = whole.counts["top1"]
    short = replace(
        counts, n_correct=counts.n_correct[:9], n_query=counts.n_query[:9], predictions=counts.predictions[:9]
    )
    with Store.open(str(tmp_path / "a.db"), create=True) as store:
        store.ingest(RunResult(replace(made("b").spec, n_episodes=9), "done", {"top1": short}, table))
        store.ingest(whole)
        np.testing.assert_array_equal(
            store.episode_list(whole.spec.episode_digest).query, whole.episodes.query
        )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda q: np.where(q == q.max(), -2, q), "outside of what can be"),
        (lambda q: np.flip(q, axis=2), "places without a query before queries"),
        (lambda q: np.full_like(q, -1), "0 to 0 queries"),
        (
            lambda q: np.where(q < 0, 5, q),
            "query of shape",
        ),  # all places taken: then it is balanced, of another number
    ],
)
def test_a_list_that_cannot_be_is_refused(tmp_path: Path, spoil, message: str) -> None:  # type: ignore[no-untyped-def]
    result = made("a")
    assert result.episodes is not None
    spoilt = replace(result, episodes=replace(result.episodes, query=spoil(result.episodes.query)))
    with Store.open(str(tmp_path / "a.db"), create=True) as store, pytest.raises(StoreError, match=message):
        store.ingest(spoilt)


def test_counts_that_its_predictions_do_not_give_are_found() -> None:
    result = made("a")
    counts = result.counts["top1"]
    for changes in ({"n_correct": counts.n_correct - 1}, {"n_query": counts.n_query + 1}):
        assert agreement.find_problems(replace(result, counts={"top1": replace(counts, **changes)}))
    assert result.episodes is not None
    moved = result.episodes.query.copy()
    moved[0, 0, 0], moved[0, 1, 0] = moved[0, 1, 0], moved[0, 0, 0]
    other = replace(result, episodes=replace(result.episodes, query=moved))
    assert "other episodes" in agreement.differs_from_ours(other)


def test_classes_are_counted_over_their_own_queries(store: Store) -> None:
    run = next(r for r in store.stored_runs(setting=[SETTINGS[1]]))
    result = store.result(run.pk)
    asked, given = listed(SETTINGS[1]), result.counts["top1"].predictions
    assert given is not None
    n_query, n_correct = np.zeros(40, int), np.zeros(40, int)
    for e, episode in enumerate(asked):
        for place, label in zip(np.flatnonzero(asked.query_label[e] >= 0), episode.query_label, strict=True):
            n_query[episode.classes[label]] += 1
            n_correct[episode.classes[label]] += given[e, place] == label
    names = list(benchmarks.load("glyphs-5w1s").benchmark.roles["novel"].classes)
    lines = {line.name: line for line in by_class.by_class(store, run.id)}
    assert {name: (line.n_query, line.n_correct) for name, line in lines.items()} == {
        names[c]: (n_query[c], n_correct[c]) for c in range(40) if n_query[c]
    }
    table = next(t for t in tables(store) if t.setting == SETTINGS[1])
    row = next(row for row in table.rows if run.id in {r.id for r in row.runs})
    counted = setting_page.class_counts(store, row, store.episode_list(run.spec.episode_digest))
    assert counted is not None and counted.n_query.tolist() == (3 * n_query).tolist()


def test_pairs_of_rows_overlap_in_the_queries_there_are(store: Store) -> None:
    (pair,) = pairs.compare(store, "steady", "balancer", [SETTINGS[1]])
    assert pair.overlap is not None
    parts = (
        pair.overlap.both_right,
        pair.overlap.only_a_wrong,
        pair.overlap.only_b_wrong,
        pair.overlap.both_wrong,
    )
    assert sum(parts) == 20 * N


def test_the_page_of_the_benchmark_puts_both_side_by_side(store: Store, tmp_path: Path) -> None:
    [page] = render.write(store, tmp_path / "reports").parent.glob("family-*.html")
    text = page.read_text()
    part = text[text.index("Equal and unequal numbers of queries") :]
    found = {
        row.method: row.mean for table in tables(store) if table.setting == SETTINGS[1] for row in table.rows
    }
    before = {
        row.method: row.mean for table in tables(store) if table.setting == SETTINGS[0] for row in table.rows
    }
    for method, mean in found.items():
        change = f"{100 * (mean - before[method]):+.2f}".replace("-", "−")
        assert f">{100 * mean:.2f}<" in part and f">{change}<" in part
    assert part.index(">steady<") < part.index(">balancer<")  # the order under unequal numbers


def test_pictures_of_an_episode_show_its_queries_alone() -> None:
    result = made("a", share_right=0.2)
    assert result.episodes is not None and result.counts["top1"].predictions is not None
    table, given = result.episodes, result.counts["top1"].predictions
    pixels = np.zeros((int(table.query.max()) + 1, 4, 4, 1), np.uint8)

    class Novel:
        shape = (4, 4, 1)

        def images(self, rows: np.ndarray) -> np.ndarray:
            assert rows.min() >= 0
            return pixels[rows]

    drawn: ImageStore = Novel()  # type: ignore[assignment]
    found = thumbnails.of_run(drawn, table, result.counts["top1"])
    worst = int(np.argmin(result.counts["top1"].n_correct))
    shown = pictures.of_episode(worst, table, given, found)
    assert [part.n_query for part in shown] == np.count_nonzero(table.query[worst] >= 0, axis=1).tolist()
    assert sum(part.n_query - part.n_wrong for part in shown) == result.counts["top1"].n_correct[worst]


def test_answers_made_elsewhere_are_placed_and_counted(tmp_path: Path) -> None:
    places = Places(tmp_path, tmp_path / "data", tmp_path / "cache", "")
    name, asked = SETTINGS[1], listed(SETTINGS[1])
    given = labels(name, 0.7, 0)
    answers = [row[row_label >= 0].tolist() for row, row_label in zip(given, asked.query_label, strict=True)]
    file = tmp_path / "answers.json"
    digest = benchmarks.load(name).digest
    file.write_text(json.dumps({"digest": digest, "predictions": answers}))
    found = score(file, name, "theirs", 0, places)
    np.testing.assert_array_equal(found.result.counts["top1"].n_correct, made("a").counts["top1"].n_correct)
    assert not found.warning and agreement.find_problems(found.result) == []
    file.write_text(json.dumps({"digest": digest, "accuracy": [0.5] * N, "n_query": 20}))
    assert scoring.score(file, name, "theirs", 0, places).result.counts["top1"].n_correct.tolist() == [10] * N
    file.write_text(json.dumps({"digest": digest, "predictions": [row[:-1] for row in answers]}))
    with pytest.raises(DataError, match=r"shape \(60, 19\), expected \(episodes, 20\)"):
        score(file, name, "theirs", 0, places)
