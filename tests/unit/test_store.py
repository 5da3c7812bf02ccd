"""The database of results: what goes in comes out, lists are stored once, questions are answered.

Every test that takes ``place`` or ``places`` runs on SQLite and, where FSBENCH_TEST_POSTGRES holds a URL such as
postgresql+psycopg://user@host/database, on PostgreSQL as well (in schemas of its own, dropped afterwards).
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text
from stored_results import (
    CHECKS,
    CLASS_NAMES,
    N_WAY,
    SHOT,
    TRIALS,
    assert_same_result,
    failure_of,
    filled,
    n_rows,
    run_of,
    spec_of,
    table_of,
)

from harness.errors import ConfigError, StoreError
from harness.runs import Counts, RunResult
from harness.store import Store

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
    assert store.ingest(RunResult.load(folder)) == "new"
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
    with pytest.raises(ConfigError, match="has no replicate `zz`"):
        store.run(first.spec.id, replicate="zz")


def test_the_provenance_of_the_run_that_finished_last_is_kept(store: Store) -> None:
    early = run_of(provenance={"finished": "2024-01-01T00:00:00+00:00", "host": "z"})
    late = run_of(provenance={"finished": "2024-01-02T00:00:00+00:00", "host": "a"})
    for result in (early, late, early):
        store.ingest(result)
    assert store.run(late.spec.id).provenance["host"] == "a"


def test_the_time_that_workers_record_is_the_one_that_decides(store: Store) -> None:
    import torch

    from harness.system.provenance import describe  # here, since it loads torch

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
    labels = np.stack([np.arange(300), np.arange(300)[::-1]]).astype(np.uint16)  # all right, and none
    counts = {"top1": Counts(np.array([300, 0]), np.array([300, 300]), labels)}
    result = RunResult(spec_of(n_episodes=2, n_way=300, n_query=1), "done", counts)
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
    np.testing.assert_array_equal(store.episode_list(digest).classes, expected.classes)
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
    assert store.column("id", seed=[0, 2]) == store.runs(seed=[0, 2]).id.tolist()
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
    with pytest.raises(
        ConfigError, match=rf"begins 20 run ids.*{ids[0]} \(protonet, glyphs-3w2s, seed \d+\)"
    ):
        store.run("")
    mistyped = ids[3][:-1] + ("0" if ids[3][-1] != "0" else "1")
    with pytest.raises(ConfigError, match=f"begins with `{mistyped}`. Did you mean .*`{ids[3]}`"):
        store.run(mistyped)
    with pytest.raises(ConfigError, match="begins with `%`"):
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
