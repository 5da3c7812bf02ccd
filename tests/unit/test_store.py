"""The database of results: one content whatever the order, nothing half-written, nothing foreign touched.

Every test that takes ``place`` or ``places`` runs on SQLite and, where FSBENCH_TEST_POSTGRES holds a URL such as
postgresql+psycopg://user@host/database, on PostgreSQL as well (in schemas of its own, dropped afterwards).
"""

import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, event, inspect, make_url, text

from harness.errors import StoreError
from harness.runs import ConfigValue, Counts, EpisodeTable, MethodReference, RunResult, RunSpec
from harness.store import Recheck, Store, Trial, migrations
from harness.store import store as store_module
from harness.store.models import metadata

N_WAY, SHOT, N_QUERY = 3, 2, 4
CLASS_NAMES = tuple(f"class {i}" for i in range(7))
GOLDEN = Path(__file__).parents[1] / "golden" / "store"
# Children of a clean process that has the slow imports behind it; a fork of this one, with torch's threads, may hang.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["harness.store", "hypothesis", "pytest"])


# --- made-up runs -------------------------------------------------------------------------------------------


def spec_of(seed: int = 0, n_episodes: int = 12, **changes: Any) -> RunSpec:
    spec = RunSpec(
        method=MethodReference("protonet", "protonet", "1"),
        benchmark="glyphs",
        setting="glyphs-3w2s",
        n_way=N_WAY,
        shot=SHOT,
        n_query=N_QUERY,
        n_episodes=n_episodes,
        config={"lr": ConfigValue(0.1, "default"), "widths": ConfigValue([2, 3], "--set", "adapt")},
        backbone="conv4",
        image_size=28,
        channels=1,
        pipeline="grey",
        episode_digest="e" * 64,
        data_digest={"base": "b" * 64, "novel": "d" * 64},
        seed=seed,
    )
    return replace(spec, **changes)


def table_of(n_episodes: int = 12) -> EpisodeTable:
    """A prefix of the one list these tests use."""
    generator = np.random.default_rng(99)
    classes = np.array([generator.permutation(7)[:N_WAY] for _ in range(400)], np.int32)
    images = generator.integers(0, 1000, (400, N_WAY, SHOT + N_QUERY)).astype(np.int32)
    support, query = images[:n_episodes, :, :SHOT], images[:n_episodes, :, SHOT:]
    return EpisodeTable(classes[:n_episodes], support, query, CLASS_NAMES, ("greek",) * 3 + ("latin",) * 4)


def run_of(seed: int = 0, n_episodes: int = 12, chance: int = 0, **changes: Any) -> RunResult:
    """A finished run; ``chance`` tells replicates of one spec apart."""
    generator = np.random.default_rng([seed, n_episodes, chance])
    truth = np.repeat(np.arange(N_WAY), N_QUERY)
    labels = generator.integers(0, N_WAY, (n_episodes, truth.size)).astype(np.uint8)
    n_correct = (labels == truth).sum(axis=1)
    every = np.full(n_episodes, truth.size)
    novel = np.minimum(n_correct, 5) * (np.arange(n_episodes) % 2)
    counts = {
        "top1": Counts(n_correct, every, labels),
        "top1/novel": Counts(novel, 5 * (np.arange(n_episodes) % 2)),
    }
    return replace(
        RunResult(
            spec=spec_of(seed, n_episodes),
            status="done",
            counts=counts,
            episodes=table_of(n_episodes),
            provenance={"finished": f"2024-01-0{1 + chance}T00:00:00+00:00", "host": "a"},
            curves=({"step": 1, "loss": 0.5},),
        ),
        **changes,
    )


def failure_of(seed: int = 0, traceback: str = "ValueError: no") -> RunResult:
    return RunResult(spec_of(seed), "failed", provenance={"host": "a"}, traceback=traceback)


def assert_same_result(a: RunResult, b: RunResult) -> None:
    plain = [replace(result, counts={}, episodes=None) for result in (a, b)]
    assert plain[0] == plain[1]
    assert a.counts.keys() == b.counts.keys()
    for name, counts in a.counts.items():
        for part in ("n_correct", "n_query", "predictions"):
            np.testing.assert_array_equal(getattr(counts, part), getattr(b.counts[name], part), strict=True)
    assert (a.episodes is None) == (b.episodes is None)
    if a.episodes and b.episodes:
        assert a.episodes.class_names == b.episodes.class_names
        assert a.episodes.class_groups == b.episodes.class_groups
        for part in ("classes", "support", "query"):
            np.testing.assert_array_equal(getattr(a.episodes, part), getattr(b.episodes, part), strict=True)


# --- places to store them -----------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """A function that names a new, empty place at every call."""
    if request.param == "sqlite":
        yield lambda: str(tmp_path / uuid.uuid4().hex / "results.db")
        return
    server = os.environ.get("FSBENCH_TEST_POSTGRES", "")
    if not server:
        message = (
            "FSBENCH_TEST_POSTGRES names no PostgreSQL database (postgresql+psycopg://user@host/database)"
        )
        if os.environ.get("FSBENCH_DEMAND_ALL") == "1":
            pytest.fail(message)
        pytest.skip(message)
    engine, schemas = create_engine(server), []

    def new_place() -> str:
        schemas.append(f"test_{uuid.uuid4().hex}")
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {schemas[-1]}"))
        url = make_url(server).update_query_dict({"options": f"-csearch_path={schemas[-1]}"})
        return url.render_as_string(hide_password=False)

    yield new_place
    for schema in schemas:  # one at a time: a server locks so many tables at once and no more
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    engine.dispose()


@pytest.fixture
def place(places: Callable[[], str]) -> str:
    return places()


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    with Store.open(place, create=True) as store:
        yield store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


def without_waiting_for_the_disk(store: Store) -> Store:
    """Property tests commit hundreds of times; what they test does not depend on power failures."""
    if store.engine.dialect.name == "sqlite":
        event.listen(store.engine, "connect", lambda c, _: c.execute("PRAGMA synchronous = OFF"))
    return store


OPENED: list[Store] = []


@pytest.fixture(autouse=True)
def close_all() -> Iterator[None]:
    yield
    close_opened()


def close_opened() -> None:
    """A server has a hundred connections to give; an example of a property test uses ten."""
    while OPENED:
        OPENED.pop().close()


def filled(place: str, results: Sequence[RunResult]) -> Store:
    store = without_waiting_for_the_disk(Store.open(place, create=True))
    OPENED.append(store)
    for result in results:
        store.ingest(result)
    return store


def n_rows(store: Store) -> dict[str, int]:
    with store.engine.connect() as connection:
        return {t: connection.scalar(text(f"SELECT count(*) FROM {t}")) for t in metadata.tables}


def on_insert_into(store: Store, table: str, action: Callable[[], None]) -> None:
    """Do something right after rows went into a table, inside the transaction."""

    @event.listens_for(store.engine, "after_cursor_execute")
    def _after(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(f"INSERT INTO {table} "):
            action()


# --- one result ---------------------------------------------------------------------------------------------


def test_a_stored_run_comes_back_as_it_was(store: Store) -> None:
    result = run_of()
    assert store.ingest(result) == "new"
    stored = store.run(result.spec.id[:5])
    assert (stored.id, stored.status, stored.spec) == (result.spec.id, "done", result.spec)
    assert (stored.provenance, stored.curves) == (result.provenance, result.curves)
    assert stored.metrics == ("top1", "top1/novel")
    assert_same_result(store.result(stored.pk), result)
    n_correct, n_query = store.counts(stored.pk)
    assert n_correct.dtype == n_query.dtype == np.int64
    np.testing.assert_array_equal(n_correct, result.counts["top1"].n_correct)
    np.testing.assert_array_equal(store.predictions(stored.pk), result.counts["top1"].predictions)
    assert store.predictions(stored.pk, "top1/novel") is None


def test_storing_twice_changes_nothing(store: Store) -> None:
    assert store.ingest(run_of()) == "new"
    content, rows = store.content_digest(), n_rows(store)
    assert store.ingest(run_of()) == "known"
    assert (store.content_digest(), n_rows(store)) == (content, rows)


def test_a_known_run_leaves_the_file_as_it_is(path: Path) -> None:
    store = filled(str(path), [run_of()])
    before = path.read_bytes()
    assert store.ingest(run_of()) == "known"
    assert path.read_bytes() == before


def test_a_run_folder_is_stored(store: Store, tmp_path: Path) -> None:
    folder = run_of().save(tmp_path / "runs")
    assert store.ingest_folder(folder) == "new"
    assert store.has(run_of().spec.id)


def test_other_counts_of_one_id_are_kept_as_a_replicate(store: Store) -> None:
    first, second = run_of(chance=0), run_of(chance=1)
    assert first.spec.id == second.spec.id
    assert [store.ingest(first), store.ingest(second), store.ingest(first)] == ["new", "replicate", "known"]
    frame = store.runs()
    assert sorted(frame.replicate) == sorted([first.digest, second.digest])
    for result in (first, second):
        stored = store.run(result.spec.id, replicate=result.digest[:8])
        assert set(stored.replicates) == {first.digest, second.digest}
        assert_same_result(store.result(stored.pk), result)
    with pytest.raises(StoreError, match="has no replicate `zz`"):
        store.run(first.spec.id, replicate="zz")


def test_the_provenance_of_the_run_that_finished_last_is_kept(store: Store) -> None:
    early = run_of(provenance={"finished": "2024-01-01T00:00:00+00:00", "host": "z"})
    late = run_of(provenance={"finished": "2024-01-02T00:00:00+00:00", "host": "a"})
    for result in (early, late, early):
        store.ingest(result)
    assert store.run(late.spec.id).provenance["host"] == "a"


def test_the_time_that_workers_record_is_the_one_that_decides(store: Store) -> None:
    import torch

    from harness.provenance import describe  # here, since it loads torch

    provenance = describe(torch.device("cpu"))
    store.ingest(run_of(provenance=provenance))
    assert store.runs().finished.tolist() == [provenance["finished"]] != [""]


def test_a_result_is_self_reported_until_somebody_makes_or_checks_it(store: Store) -> None:
    reported = run_of(provenance={"host": "a", "self_reported": True})
    store.ingest(reported)
    kept = store.run(spec_of().id)
    assert kept.badges == ("self-reported",) and "self_reported" not in kept.provenance
    assert store.result(kept.pk).provenance == reported.provenance  # a folder made of it says so too
    store.add_recheck(kept.id, kept.replicate, CHECKS[0])
    assert store.run(kept.id).badges == ("spot-checked",)
    store.add_recheck(kept.id, kept.replicate, CHECKS[1])
    store.add_recheck(kept.id, kept.replicate, CHECKS[1])
    assert store.run(kept.id).badges == ("disputed",) and len(store.run(kept.id).rechecks) == 2
    with pytest.raises(StoreError, match="is not stored"):
        store.add_recheck(kept.id, "0" * 64, CHECKS[0])


@pytest.mark.parametrize("own_first", [True, False])
def test_what_was_made_here_is_not_self_reported_by_an_import(store: Store, own_first: bool) -> None:
    results = [run_of(), run_of(provenance={"finished": "2030", "self_reported": True})]
    for result in results if own_first else results[::-1]:
        store.ingest(result)
    assert store.run(spec_of().id).badges == ()


def test_of_trials_of_one_configuration_the_newest_is_kept(store: Store) -> None:
    for trial in TRIALS:
        store.add_trial(trial)
    kept = {trial.spec.values()["lr"]: trial for trial in store.trials()}
    assert kept[0.1].finished == "2024-02-02" and kept[0.1].accuracy == 0.5
    (configs,) = store.tried().values()
    assert len(configs) == 2


def test_a_failure_gives_way_to_a_result_and_never_replaces_one(store: Store) -> None:
    assert store.ingest(failure_of(traceback="\udcff broken \0 name")) == "new"
    failed = store.run(failure_of().spec.id)
    assert (failed.status, failed.traceback, failed.metrics) == ("failed", "\\udcff broken \\0 name", ())
    assert not store.has(failed.id)
    assert store.ingest(run_of()) == "replaced"
    assert store.ingest(failure_of()) == "known"
    assert store.runs().status.tolist() == ["done"]
    assert store.has(failed.id)


def test_a_run_without_its_list_is_stored(store: Store) -> None:
    result = run_of(episodes=None)
    store.ingest(result)
    assert_same_result(store.result(store.run(result.spec.id).pk), result)
    with pytest.raises(StoreError, match="No stored run evaluated"):
        store.episode_list(result.spec.episode_digest)


def test_labels_of_many_ways_take_two_bytes(store: Store) -> None:
    labels = np.array([[0, 299], [256, 1]], np.uint16)
    counts = {"top1": Counts(np.array([1, 0]), np.array([2, 2]), labels)}
    result = RunResult(spec_of(n_episodes=2, n_way=300), "done", counts)
    store.ingest(result)
    np.testing.assert_array_equal(store.predictions(store.run(result.spec.id).pk), labels, strict=True)


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (run_of(counts={}), "done with 0 metrics"),
        (
            run_of(spec=spec_of(n_episodes=13)),
            r"top1 has counts for \(12,\) episodes.*classes of shape \(12, 3\)",
        ),
        (
            run_of(counts={"top1": Counts(np.full(12, 9), np.full(12, 8))}),
            "more correct predictions than queries",
        ),
        (run_of(counts={"top1": Counts(np.full(12, -1), np.full(12, 8))}), "fewer than none"),
        (
            run_of(
                counts={"top1": Counts(np.ones(12, int), np.ones(12, int), np.full((12, 1), 3, np.uint8))}
            ),
            "labels beyond 3 ways",
        ),
        (
            run_of(counts={"top1": Counts(np.ones(12, int), np.ones(12, int), np.zeros((2, 1), np.uint8))}),
            r"predictions of shape \(2, 1\)",
        ),
        (run_of(episodes=replace(table_of(), class_names=("one",))), "classes outside the 1 listed"),
    ],
)
def test_a_result_that_contradicts_itself_is_refused(store: Store, result: RunResult, problem: str) -> None:
    with pytest.raises(StoreError, match=problem):
        store.ingest(result)
    assert sum(n_rows(store).values()) == 1  # the version alone


# --- episode lists ------------------------------------------------------------------------------------------


def test_a_list_is_stored_once_and_grows_to_the_longest_prefix(store: Store) -> None:
    digest = spec_of().episode_digest
    for n_episodes, seed in ((5, 0), (9, 1), (7, 2), (9, 3)):
        store.ingest(run_of(seed, n_episodes))
    stored, expected = store.episode_list(digest), table_of(9)
    assert n_rows(store)["episode_list"] == 1
    assert n_rows(store)["episode_class"] == 9 * N_WAY
    for part in ("classes", "support", "query"):
        np.testing.assert_array_equal(getattr(stored, part), getattr(expected, part), strict=True)
    np.testing.assert_array_equal(store.episode_classes(digest), expected.classes)
    assert store.class_names(digest) == CLASS_NAMES
    short = store.run(spec_of(0, 5).id)
    assert_same_result(store.result(short.pk), run_of(0, 5))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"query": table_of(20).query + 1}, "query images differ"),
        ({"support": table_of(20).support[:, ::-1]}, "support images differ"),
        ({"classes": (table_of(20).classes + 1) % 7}, "classes differ"),
        ({"class_names": CLASS_NAMES[::-1]}, "class names differ"),
    ],
)
def test_a_list_that_contradicts_the_stored_one_is_refused(
    store: Store, change: dict[str, Any], named: str
) -> None:
    store.ingest(run_of(0, 12))
    content = store.content_digest()
    for n_episodes in (12, 20, 6):  # equal, longer and shorter than the stored prefix
        table = table_of(n_episodes)
        parts = {k: v if k == "class_names" else v[:n_episodes] for k, v in change.items()}
        with pytest.raises(StoreError, match=named):
            store.ingest(run_of(1, n_episodes, episodes=replace(table, **parts)))
    assert store.content_digest() == content


def test_settings_may_share_a_list(places: Callable[[], str]) -> None:
    other = replace(run_of(), spec=spec_of(setting="glyphs-trainval-3w2s", benchmark="glyphs-trainval"))
    a, b = filled(places(), [run_of(), other]), filled(places(), [other, run_of()])
    assert a.content_digest() == b.content_digest()
    assert n_rows(a)["episode_list"] == 1


def test_class_means_come_from_one_sql_statement(store: Store) -> None:
    """The query of the class jackknife, against a loop over episodes."""
    result = run_of(0, 40)
    store.ingest(result)
    query = text(
        "SELECT n.name, avg(a.accuracy), count(*) FROM episode_accuracy a "
        "JOIN episode_list l ON l.digest = a.episode_digest "
        "JOIN episode_class c ON c.list_pk = l.pk AND c.episode = a.episode "
        "JOIN list_class n ON n.list_pk = l.pk AND n.class_id = c.class_id "
        "WHERE a.run_id = :id AND a.metric = 'top1' GROUP BY n.name ORDER BY n.name"
    )
    with store.engine.connect() as connection:
        found = connection.execute(query, {"id": result.spec.id}).all()
    table, counts = table_of(40), result.counts["top1"]
    for class_id, (name, mean, n_shown) in enumerate(found):
        shows = [e for e in range(40) if class_id in table.classes[e]]
        assert (name, n_shown) == (CLASS_NAMES[class_id], len(shows))
        # sums of 40 fractions in another order: a few units of the last place
        assert mean == pytest.approx(
            np.mean([counts.n_correct[e] / counts.n_query[e] for e in shows]), abs=1e-14
        )
    assert len(found) == len(CLASS_NAMES)


# --- questions ----------------------------------------------------------------------------------------------


def test_runs_are_rows_with_mean_accuracies(store: Store) -> None:
    results = [run_of(seed) for seed in range(3)] + [failure_of(7)]
    for result in results:
        store.ingest(result)
    frame = store.runs(metrics=["top1", "top1/novel", "top5"]).set_index("id")
    for result in results[:3]:
        row, top1, novel = frame.loc[result.spec.id], *result.counts.values()
        assert (row.method, row.setting, row.seed, row.shot) == (
            "protonet",
            "glyphs-3w2s",
            result.spec.seed,
            SHOT,
        )
        assert (row.fit_key, row.novel_digest) == (result.spec.fit_key, "d" * 64)
        # sums of 12 fractions in another order: a few units of the last place
        assert row.top1 == pytest.approx(np.mean(top1.n_correct / top1.n_query), abs=1e-15)
        asked = novel.n_query > 0  # the others have no accuracy of this metric
        assert row["top1/novel"] == pytest.approx(
            np.mean(novel.n_correct[asked] / novel.n_query[asked]), abs=1e-15
        )
    assert np.isnan(frame.loc[failure_of(7).spec.id].top1)
    assert frame.top5.isna().all()
    assert store.runs(status="done", seed=[0, 2]).seed.tolist() == [0, 2]
    assert store.runs(method="bml").empty
    with pytest.raises(StoreError, match=r"filtered by `sed`. Did you mean `seed`"):
        store.runs(sed=0)


def test_known_ids_are_those_of_finished_runs(store: Store) -> None:
    for result in (run_of(0), run_of(1), failure_of(2)):
        store.ingest(result)
    ids = [spec_of(seed).id for seed in range(4)]
    assert store.known_ids(ids[1:]) == {ids[1]}
    assert [store.has(run_id) for run_id in ids] == [True, True, False, False]


def test_a_run_is_named_by_the_beginning_of_its_id(store: Store) -> None:
    for seed in range(20):
        store.ingest(run_of(seed))
    ids = sorted(spec_of(seed).id for seed in range(20))
    assert store.run(ids[3].upper()).id == ids[3]
    with pytest.raises(StoreError, match=rf"begins 20 run ids.*{ids[0]} \(protonet, glyphs-3w2s, seed \d+\)"):
        store.run("")
    mistyped = ids[3][:-1] + ("0" if ids[3][-1] != "0" else "1")
    with pytest.raises(StoreError, match=f"begins with `{mistyped}`. Did you mean .*`{ids[3]}`"):
        store.run(mistyped)
    with pytest.raises(StoreError, match="begins with `%`"):
        store.run("%")


def test_an_unknown_metric_is_answered_with_the_known_ones(store: Store) -> None:
    store.ingest(run_of())
    pk = store.run(spec_of().id).pk
    with pytest.raises(
        StoreError, match=r"no metric `top-1`. Did you mean `top1`.* It has: top1, top1/novel"
    ):
        store.counts(pk, "top-1")


def test_accuracies_are_paired_on_the_shared_prefix(store: Store) -> None:
    results = [run_of(0, 20), run_of(1, 12), run_of(2, 20)]
    for result in results:
        store.ingest(result)
    pks = [store.run(result.spec.id).pk for result in results]
    ids, matrix = store.accuracy_matrix(pks[::-1])
    assert ids == [result.spec.id for result in results][::-1]
    expected = [r.counts["top1"].n_correct[:12] / r.counts["top1"].n_query[:12] for r in results[::-1]]
    np.testing.assert_array_equal(matrix, np.stack(expected))
    _, novel = store.accuracy_matrix(pks, "top1/novel")
    np.testing.assert_array_equal(np.isnan(novel), np.tile(np.arange(12) % 2 == 0, (3, 1)))
    with pytest.raises(StoreError, match="no run number 77"):
        store.accuracy_matrix([*pks, 77])


def test_runs_of_different_lists_are_never_paired(store: Store) -> None:
    other = replace(run_of(1), spec=spec_of(1, episode_digest="f" * 64, setting="glyphs-3w2s-q4"))
    store.ingest(run_of(0))
    store.ingest(other)
    pks = store.runs().pk.tolist()
    with pytest.raises(StoreError, match=r"not evaluated on the same episodes.*glyphs-3w2s-q4"):
        store.accuracy_matrix(pks)


def test_episodes_are_one_long_frame(store: Store) -> None:
    results = [run_of(0), run_of(0, chance=1), run_of(1)]
    for result in results:
        store.ingest(result)
    frame = store.episodes([spec_of(0).id])
    assert len(frame) == 2 * 2 * 12
    chosen = frame[(frame.replicate == results[1].digest) & (frame.metric == "top1")]
    assert chosen.episode.tolist() == list(range(12))
    np.testing.assert_array_equal(chosen.n_correct, results[1].counts["top1"].n_correct)
    np.testing.assert_array_equal(chosen.accuracy, chosen.n_correct / chosen.n_query)


# --- nothing by halves --------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["list_class", "episode_class", "run", "result", "prediction"])
def test_an_interrupted_ingest_leaves_nothing(store: Store, table: str) -> None:
    store.ingest(run_of(0, 6))
    content, rows = store.content_digest(), n_rows(store)

    def interrupt() -> None:
        raise KeyboardInterrupt

    interrupted = Store.open(store.engine.url.render_as_string(hide_password=False))
    on_insert_into(interrupted, table, interrupt)
    other_list = replace(run_of(1), spec=spec_of(1, episode_digest="f" * 64))
    with pytest.raises(KeyboardInterrupt) as held:  # its traceback keeps the cursors alive
        interrupted.ingest(other_list)
    assert (store.content_digest(), n_rows(store)) == (content, rows)
    assert store.ingest(other_list) == "new", "the lock was not given back"
    assert held.type is KeyboardInterrupt
    interrupted.close()


def ingest_and_hang(place: str, marker: str) -> None:
    store = Store.open(place)
    if store.engine.dialect.name == "sqlite":  # so small a cache that half of the transaction is in the file
        event.listen(store.engine, "connect", lambda c, _: c.execute("PRAGMA cache_size = 4"))

    def hang() -> None:
        Path(marker).touch()
        time.sleep(600)

    on_insert_into(store, "prediction", hang)
    store.ingest(run_of(1, 400))


def test_a_collector_killed_inside_a_transaction_leaves_nothing(place: str, tmp_path: Path) -> None:
    store = filled(place, [run_of(0, 300)])
    content = store.content_digest()
    marker = tmp_path / "inside"
    process = PROCESSES.Process(target=ingest_and_hang, args=(place, str(marker)))
    process.start()
    wait_for(marker.exists)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    if store.engine.dialect.name == "sqlite":
        journal = Path(place + "-journal")
        assert journal.stat().st_size > 0, "the kill came before anything was written, so it proves nothing"
    assert store.content_digest() == content
    assert store.ingest(run_of(1, 400)) == "new"


def ingest_many(place: str, seeds: list[int], marker: str) -> None:
    store = Store.open(place, create=True)
    Path(marker).touch()
    for seed in seeds:
        store.ingest(run_of(seed, 100))


def test_a_collector_killed_at_any_moment_loses_nothing(places: Callable[[], str], tmp_path: Path) -> None:
    seeds = list(range(60))
    undisturbed = filled(places(), [run_of(seed, 100) for seed in seeds])
    place, moments = places(), random.Random(5)
    for i in range(3):
        marker = tmp_path / f"started-{i}"
        process = PROCESSES.Process(target=ingest_many, args=(place, seeds, str(marker)))
        process.start()
        wait_for(marker.exists)
        time.sleep(moments.uniform(0, 0.3))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        with Store.open(place) as store:
            for row in store.runs().itertuples():
                assert_same_result(store.result(row.pk), run_of(row.seed, 100))
    with Store.open(place) as store:
        for seed in seeds:
            store.ingest(run_of(seed, 100))
        assert store.content_digest() == undisturbed.content_digest()


def test_two_collectors_at_once_lose_and_double_nothing(places: Callable[[], str], tmp_path: Path) -> None:
    """Both create the database and bring the same runs in opposite order while a third process reads."""
    seeds, place = list(range(30)), places()
    orders = (seeds, seeds[::-1])
    collectors = [
        PROCESSES.Process(target=ingest_many, args=(place, order, str(tmp_path / f"started-{i}")))
        for i, order in enumerate(orders)
    ]
    for process in collectors:
        process.start()
    wait_for(lambda: any(tmp_path.glob("started-*")))
    with Store.open(place) as store:
        while any(process.is_alive() for process in collectors):
            assert store.runs().top1.notna().all()
    for process in collectors:
        process.join()
        assert process.exitcode == 0
    expected = filled(places(), [run_of(seed, 100) for seed in seeds])
    with Store.open(place) as store:
        assert store.content_digest() == expected.content_digest()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "the other process never came this far"
        time.sleep(0.005)


def test_a_full_disk_leaves_the_database_as_it_was(path: Path) -> None:
    store = filled(str(path), [run_of(0)])
    content = store.content_digest()
    n_pages = path.stat().st_size // 4096 + 2
    event.listen(store.engine, "connect", lambda c, _: c.execute(f"PRAGMA max_page_count = {n_pages}"))
    with pytest.raises(StoreError, match=r"the disk is full. Nothing of this change was kept"):
        store.ingest(run_of(1, 400))
    with Store.open(path) as again:
        assert again.content_digest() == content


def test_a_database_that_stays_locked_is_reported(path: Path) -> None:
    store = filled(str(path), [])
    event.listen(store.engine, "connect", lambda c, _: c.execute("PRAGMA busy_timeout = 20"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another process has been writing"):
            store.ingest(run_of())
    assert store.ingest(run_of()) == "new"


def test_the_journal_is_one_that_network_file_systems_allow(path: Path) -> None:
    filled(str(path), [run_of()])
    assert path.read_bytes()[18:20] == b"\1\1"  # file format: 1 rollback journal, 2 WAL
    assert [file.name for file in path.parent.iterdir()] == ["results.db"]


# --- what is not ours, or not writable ----------------------------------------------------------------------


def test_an_absent_database_says_to_run_something_first(place: str) -> None:
    with pytest.raises(StoreError, match=r"no results yet.*Run something first"):
        Store.open(place)
    Store.open(place, create=True).close()
    assert Store.open(place).runs().empty


def test_an_empty_file_is_an_absent_database(path: Path) -> None:
    path.touch()
    with pytest.raises(StoreError, match="no results yet"):
        Store.open(path)
    assert path.read_bytes() == b""
    Store.open(path, create=True)
    assert Store.open(path).runs().empty


def made_by_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE study (id INTEGER)")
        other.commit()


def made_by_a_newer_fsbench(path: Path) -> None:
    filled(str(path), [run_of()])
    with closing(sqlite3.connect(path)) as other:
        other.execute("UPDATE fsbench_schema SET version = 99")
        other.commit()


def cut_in_the_middle(path: Path) -> None:
    filled(str(path), [run_of(seed) for seed in range(5)])
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize(
    ("made", "message"),
    [
        (made_by_another_program, r"database of something else \(its tables: study\)"),
        (made_by_a_newer_fsbench, r"written by a newer fsbench \(schema 99; this one knows up to \d\)"),
        (cut_in_the_middle, "not a database, or a damaged one"),
        (lambda path: path.write_text("<html>404</html>" * 500), "not a database, or a damaged one"),
        (lambda path: path.write_bytes(b"SQLite format 3\0"), "not a database, or a damaged one"),
    ],
)
def test_a_file_that_is_not_ours_is_left_untouched(
    path: Path, made: Callable[[Path], object], message: str, create: bool
) -> None:
    made(path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=message):
        Store.open(path, create=create)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["results.db"]


def test_a_server_database_of_a_newer_fsbench_is_refused(store: Store, place: str) -> None:
    with store.engine.execution_options(is_writing=True).begin() as connection:
        connection.execute(text("UPDATE fsbench_schema SET version = 99"))
    with pytest.raises(StoreError, match="newer fsbench"):
        Store.open(place, create=True)


def test_a_damaged_array_is_reported(store: Store) -> None:
    store.ingest(run_of())
    with store.engine.execution_options(is_writing=True).begin() as connection:
        connection.execute(text("UPDATE prediction SET labels = :damaged"), {"damaged": b"\0\1"})
    with pytest.raises(StoreError, match="damaged array"):
        store.predictions(store.run(spec_of().id).pk)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("mysql://u:secret@host/db", "kind mysql cannot hold results"),
        ("sqlite://", "kind sqlite cannot hold results"),
        (":memory:", "kind sqlite cannot hold results"),
        ("://u:secret@host", "not the address of a database"),
        ("oracle9://u:secret@host/db", "cannot hold results"),
    ],
)
def test_an_address_that_cannot_work_is_refused(location: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        Store.open(location, create=True)
    assert "secret" not in str(caught.value)


def test_a_folder_is_not_a_database(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open(tmp_path, create=True)


@pytest.fixture
def locked_folder() -> Iterator[Path]:
    """A folder with a database in it, both read-only for the user of the test (root becomes nobody)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        filled(str(folder / "results.db"), [run_of(0)])
        (folder / "results.db").chmod(0o444)
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


def test_a_read_only_database_can_be_read_and_not_written(locked_folder: Path) -> None:
    path = locked_folder / "results.db"
    before = path.read_bytes()
    with Store.open(path) as store:
        assert len(store.runs()) == 1
        with pytest.raises(StoreError, match=r"it is read-only for you.*chmod"):
            store.ingest(run_of(1))
    assert path.read_bytes() == before
    with pytest.raises(StoreError, match="cannot be"):
        Store.open(locked_folder / "new.db", create=True)
    with pytest.raises(StoreError, match="its folder cannot be: Permission denied"):
        Store.open(locked_folder / "new" / "results.db", create=True)


# --- versions of the schema ---------------------------------------------------------------------------------


def described(store: Store) -> dict[str, Any]:
    """What tables, columns and constraints there are, however they came to be."""
    with store.engine.connect() as connection:
        known = inspect(connection)
        return {
            table: (
                [(c["name"], str(c["type"]), c["nullable"]) for c in known.get_columns(table)],
                known.get_pk_constraint(table)["constrained_columns"],
                sorted(u["column_names"] for u in known.get_unique_constraints(table)),
                sorted(i["column_names"] for i in known.get_indexes(table)),
                sorted(
                    (f["constrained_columns"], f["referred_table"]) for f in known.get_foreign_keys(table)
                ),
            )
            for table in [*known.get_table_names(), *known.get_view_names()]
        }


@pytest.mark.parametrize("version", range(1, migrations.VERSION + 1))
def test_a_database_of_every_version_becomes_the_current_one(tmp_path: Path, version: int) -> None:
    """The golden files are what each version created; a change of models.py without a step fails here."""
    old = tmp_path / "old.db"
    with closing(sqlite3.connect(old)) as made:
        made.executescript((GOLDEN / f"schema_{version}.sql").read_text())
    with Store.open(old) as lifted, Store.open(tmp_path / "new.db", create=True) as new:
        assert described(lifted) == described(new)
        assert lifted.ingest(run_of()) == "new"


def test_an_older_database_is_lifted_step_by_step(store: Store, place: str, monkeypatch: Any) -> None:
    store.ingest(run_of())
    content = store.content_digest()

    def add_note(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE run ADD COLUMN note TEXT"))

    def fill_note(connection: Connection) -> None:
        connection.execute(text("UPDATE run SET note = id"))

    now = migrations.VERSION
    monkeypatch.setattr(migrations, "VERSION", now + 2)
    monkeypatch.setattr(migrations, "STEPS", {now + 1: add_note, now + 2: fill_note})
    with Store.open(place) as lifted, lifted.engine.connect() as connection:
        assert connection.scalar(text("SELECT note FROM run")) == spec_of().id
        assert connection.scalar(text("SELECT version FROM fsbench_schema")) == now + 2
        assert lifted.content_digest() == content


def test_a_step_that_fails_leaves_the_older_database(store: Store, place: str, monkeypatch: Any) -> None:
    def add_note(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE run ADD COLUMN note TEXT"))

    def fail(connection: Connection) -> None:
        raise KeyboardInterrupt

    before = described(store)
    now = migrations.VERSION
    monkeypatch.setattr(migrations, "VERSION", now + 2)
    monkeypatch.setattr(migrations, "STEPS", {now + 1: add_note, now + 2: fail})
    with pytest.raises(KeyboardInterrupt):
        Store.open(place)
    monkeypatch.undo()
    assert described(store) == before
    with Store.open(place) as again:
        assert again.ingest(run_of()) == "new"


# --- whatever the order -------------------------------------------------------------------------------------

labels = np.zeros((12, N_WAY * N_QUERY), np.uint8)
same_counts = {"top1": Counts(np.full(12, N_QUERY), np.full(12, N_WAY * N_QUERY), labels)}
other_labels = {"top1": replace(same_counts["top1"], predictions=labels + np.uint8(1))}
no_labels = {"top1": replace(same_counts["top1"], predictions=None)}
POOL = [
    run_of(0),
    run_of(0, chance=1),
    run_of(0, chance=2, provenance={"finished": "2024-02-01", "host": "b"}),
    run_of(0, provenance={"finished": "2024-03-01", "host": "c"}),
    run_of(0, provenance={}, curves=()),
    failure_of(0),
    failure_of(1),
    failure_of(1, "RuntimeError: other"),
    run_of(2, 5),
    run_of(2, 9),
    run_of(2, 12, episodes=None),
    run_of(3, counts=same_counts),
    run_of(3, counts=other_labels),
    run_of(3, counts=no_labels, provenance={"finished": "2024-04-01"}),
    replace(run_of(4), spec=spec_of(4, setting="glyphs-a-3w2s")),
    run_of(0, provenance={"finished": "2024-05-01", "self_reported": True}),
    run_of(5, provenance={"self_reported": True}),
]
some_results = st.lists(st.sampled_from(range(len(POOL))), max_size=6).map(
    lambda chosen: [POOL[i] for i in chosen]
)
# a new database per example is slow only where the machine is busy; the places are new at every call
many_databases = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@many_databases
@given(data=st.data(), results=some_results)
def test_the_order_and_number_of_arrivals_do_not_matter(
    places: Callable[[], str], data: st.DataObject, results: list[RunResult]
) -> None:
    repeats = data.draw(st.lists(st.sampled_from(results), max_size=4)) if results else []
    shuffled = data.draw(st.permutations([*results, *repeats]))
    assert filled(places(), results).content_digest() == filled(places(), shuffled).content_digest()
    close_opened()


def test_a_run_without_a_list_beside_a_shorter_one_that_has_it_merges(places: Callable[[], str]) -> None:
    """The stored list is too short for the longer run, which brought none: it stays without."""
    source = filled(places(), [run_of(2, 5), run_of(2, 12, episodes=None)])
    target = filled(places(), [])
    target.merge(source)
    assert target.content_digest() == source.content_digest()
    close_opened()


def trial_of(
    lr: float = 0.1, n_correct: int = 10, finished: str = "2024-01-01", traceback: str = ""
) -> Trial:
    """A configuration tried on 20 queries, or none where it failed."""
    spec = spec_of(config={"lr": ConfigValue(lr, "--set")})
    return Trial(spec, n_correct, 0 if traceback else 20, 3, traceback, finished)


CHECKS = [
    Recheck("2025-01-01", "cpu", 0, 4, 0),
    Recheck("2025-01-02", "cpu", 0, 4, 1),
    Recheck("2025-01-02", "cuda", 1, 4, 0),
]
TRIALS = [
    trial_of(),
    trial_of(n_correct=11),
    trial_of(finished="2024-02-02"),
    trial_of(lr=0.2),
    trial_of(0.2, 0, traceback="no"),
]
some_beside = st.tuples(*(st.lists(st.sampled_from(pool), max_size=3) for pool in (CHECKS, TRIALS)))


def with_beside(store: Store, beside: tuple[list[Recheck], list[Trial]]) -> Store:
    """Add rechecks to every result, and trials."""
    for check in beside[0]:
        for run in store.runs(status="done").itertuples():
            store.add_recheck(run.id, run.replicate, check)
    for trial in beside[1]:
        store.add_trial(trial)
    return store


def merged(place: str, *parts: Store) -> Store:
    whole = filled(place, [])
    for part in parts:
        whole.merge(part)
    return whole


def everything(store: Store) -> tuple[str, pd.DataFrame]:
    """All content, and with it the time at which each run was first stored."""
    return store.content_digest(), store.runs().drop(columns="pk")


def assert_same(a: tuple[str, pd.DataFrame], b: tuple[str, pd.DataFrame]) -> None:
    assert a[0] == b[0]
    pd.testing.assert_frame_equal(a[1], b[1])


def assert_same_everything(a: Store, b: Store) -> None:
    assert_same(everything(a), everything(b))


@many_databases
@given(a=some_results, b=some_results, c=some_results, beside=st.tuples(*[some_beside] * 3))
def test_merging_is_commutative_associative_and_idempotent(
    places: Callable[[], str], a: list[RunResult], b: list[RunResult], c: list[RunResult], beside: Any
) -> None:
    clock = count(1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "_utc_now", lambda: f"2025-{next(clock)}")
        x, y, z = (
            with_beside(filled(places(), part), more) for part, more in zip((a, b, c), beside, strict=True)
        )
    xy, yz = merged(places(), x, y), merged(places(), y, z)
    assert_same_everything(xy, merged(places(), y, x))
    before = everything(xy)
    xy.merge(x)
    assert_same(everything(xy), before)
    xy.merge(z)
    x.merge(yz)
    assert_same_everything(xy, x)
    if not any(checks for checks, _ in beside):
        whole = with_beside(filled(places(), [*a, *b, *c]), ([], [t for _, trials in beside for t in trials]))
        assert x.content_digest() == whole.content_digest()
    close_opened()


def test_a_merge_says_what_it_did(places: Callable[[], str]) -> None:
    ours = filled(places(), [run_of(0), failure_of(1), run_of(2)])
    theirs = filled(places(), [run_of(0, chance=1), run_of(1), run_of(2), run_of(3)])
    assert ours.merge(theirs) == {"replicate": 1, "replaced": 1, "known": 1, "new": 1}
    assert ours.merge(ours) == {"known": 5}


def test_one_replicate_with_two_digests_is_an_error(places: Callable[[], str]) -> None:
    ours, theirs = filled(places(), [run_of(0)]), filled(places(), [run_of(1), run_of(2)])
    with theirs.engine.execution_options(is_writing=True).begin() as connection:
        connection.execute(text("UPDATE result SET n_correct = 0 WHERE run_pk = 2"))
    content = ours.content_digest()
    with pytest.raises(StoreError, match=rf"Run {spec_of(2).id} .*edited or damaged. Nothing was merged"):
        ours.merge(theirs)
    assert ours.content_digest() == content


def test_the_content_says_nothing_of_when_it_was_stored_and_can_leave_provenance_out(
    places: Callable[[], str],
) -> None:
    a, b = filled(places(), [run_of(0)]), filled(places(), [run_of(0, provenance={"host": "elsewhere"})])
    assert a.content_digest() != b.content_digest()
    assert a.content_digest(provenance=False) == b.content_digest(provenance=False)
    b.ingest(run_of(1))
    assert a.content_digest(provenance=False) != b.content_digest(provenance=False)


def test_the_store_does_not_load_torch() -> None:
    code = "import sys; from harness.store import Store; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
