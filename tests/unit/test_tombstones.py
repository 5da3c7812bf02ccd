"""A deleted row is in no table, page, export or command, and nothing of it is lost until it is purged."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from stored_results import CHECKS, assert_same_result, filled, n_rows, run_of

from harness.errors import ConfigError, StoreError
from harness.keeping import rows
from harness.keeping.rows import Asked
from harness.runs import MethodReference, RunResult
from harness.runs.spec import SCORED
from harness.store import Store
from harness.system.folders import Places

BOTH = [run_of(), run_of(chance=1), run_of(seed=1)]


def test_a_deleted_row_is_nowhere(place: str) -> None:
    store, run_id = filled(place, BOTH), BOTH[0].spec.id
    gone = store.delete_run(run_id[:6], reason="a bug")
    assert {entry.replicate for entry in gone} == {BOTH[0].digest, BOTH[1].digest}
    assert {run.id for run in store.stored_runs()} == set(store.column("id")) == {BOTH[2].spec.id}
    assert set(store.runs()["id"]) == {BOTH[2].spec.id}
    assert store.episodes([run_id]).empty
    assert len(store.durations(["protonet"])) == 1
    with pytest.raises(ConfigError, match=f"was deleted on .* \\(a bug\\).*`fsbench runs restore {run_id}`"):
        store.run(run_id)


def test_it_comes_back_as_it_was(place: str) -> None:
    store = filled(place, BOTH)
    run = store.run(BOTH[0].spec.id)
    store.add_recheck(run.id, run.replicate, CHECKS[0])
    before, content = store.stored_runs(), store.content_digest()
    store.delete_run(run.id)
    assert store.content_digest() == content, "nothing is lost"
    store.restore_run(run.id)
    assert store.stored_runs() == before
    assert store.tombstones() == store.deleted_runs() == []


def test_one_of_several_results_may_go(place: str) -> None:
    store = filled(place, BOTH)
    store.delete_run(BOTH[0].spec.id, BOTH[0].digest[:8])
    run = store.run(BOTH[0].spec.id)
    assert (run.replicate, run.replicates) == (BOTH[1].digest, (BOTH[1].digest,))
    assert len(store.episodes([run.id])) == 2 * 12  # two metrics


def test_arriving_again_does_not_bring_it_back(places: Callable[[], str]) -> None:
    store, other = filled(places(), BOTH), filled(places(), BOTH)
    store.delete_run(BOTH[0].spec.id)
    assert store.ingest(BOTH[0]) == "known"
    store.merge(other)
    assert {run.id for run in store.stored_runs()} == {BOTH[2].spec.id}
    assert store.known_ids([BOTH[0].spec.id]), "it is not to be made again"


def test_merging_leaves_out_what_was_deleted_there(places: Callable[[], str]) -> None:
    here, there = filled(places(), []), filled(places(), BOTH)
    there.delete_run(BOTH[0].spec.id)
    here.merge(there)
    assert {run.id for run in here.stored_runs()} == {BOTH[2].spec.id}


def test_other_counts_are_another_result(place: str) -> None:
    store = filled(place, [BOTH[0]])
    store.delete_run(BOTH[0].spec.id)
    assert store.ingest(BOTH[1]) == "replicate"
    assert store.run(BOTH[0].spec.id).replicates == (BOTH[1].digest,)


def test_purging_is_for_good(place: str, tmp_path: Path) -> None:
    store = filled(place, BOTH)
    run = store.run(BOTH[0].spec.id)
    store.add_recheck(run.id, run.replicate, CHECKS[0])
    alone = n_rows(filled(str(tmp_path / "beside.db"), [BOTH[2]]))
    store.delete_run(run.id)
    assert len(store.purge()) == 2
    assert n_rows(store) == alone
    assert store.purge() == store.tombstones() == []
    with pytest.raises(ConfigError, match="No stored run"):
        store.run(run.id)
    assert store.ingest(BOTH[0]) == "new"
    for kept in store.stored_runs():
        store.delete_run(kept.id)
    store.purge()
    with pytest.raises(StoreError, match="list"):
        store.episode_list(BOTH[0].spec.episode_digest)


def test_deleting_twice_is_deleting_once(place: str) -> None:
    store = filled(place, BOTH)
    store.delete_run(BOTH[0].spec.id, BOTH[0].digest)
    store.delete_run(BOTH[0].spec.id)
    assert len(store.tombstones()) == 2


def test_a_database_without_deletions_is_not_touched(path: Path) -> None:
    filled(str(path), BOTH).close()
    before = path.read_bytes()
    with Store.open(path) as store:
        assert store.stored_runs() and not store.tombstones() and not store.purge()
    assert path.read_bytes() == before


def test_a_view_in_the_place_of_the_table_is_refused(path: Path) -> None:
    filled(str(path), BOTH).close()
    with sqlite3.connect(path) as db:
        db.execute(
            "CREATE VIEW tombstone AS SELECT id AS run_id, replicate, '' AS deleted, '' AS reason FROM run"
        )
    with pytest.raises(StoreError, match="its tombstone is a view"):
        Store.open(path)


@pytest.mark.parametrize("prefix", ["", "ffff", "zzz"])
def test_restoring_wants_one_deleted_run(place: str, prefix: str) -> None:
    store = filled(place, BOTH)
    store.delete_run(BOTH[0].spec.id)
    store.delete_run(BOTH[2].spec.id)
    with pytest.raises(ConfigError, match="`fsbench runs --deleted` lists them"):
        store.restore_run(prefix)


def test_rows_are_chosen_by_what_they_are(place: str) -> None:
    badged = replace(run_of(seed=2), provenance={"badges": ["transductive"]})
    store = filled(place, [*BOTH, badged])
    every, now = store.stored_runs(), datetime.now(UTC)

    def seeds(**asked: object) -> set[int]:
        return {run.spec.seed for run in rows.chosen(every, Asked(**asked), now)}  # type: ignore[arg-type]

    assert (
        seeds()
        == seeds(methods=["proto*"])
        == seeds(settings=["glyphs-*", "cub-*"])
        == seeds(status="done")
        == {0, 1, 2}
    )
    assert seeds(methods=["pixels"]) == seeds(status="failed") == seeds(older=timedelta(days=1)) == set()
    assert seeds(badges=["transductive"]) == {2}
    assert seeds(newer=timedelta(hours=1)) == {0, 1, 2}
    assert rows.chosen(every, Asked(older=timedelta(days=1)), now + timedelta(days=2)) == every


@pytest.mark.parametrize("text", ["", "d", "5", "5 d", "-1d", "1y", "1.5d"])
def test_an_age_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="12h, 30d or 2w"):
        rows.read_age(text)


def scored() -> RunResult:
    made = run_of()
    spec = replace(made.spec, method=MethodReference(SCORED, "teirs", SCORED), config={})
    return replace(made, spec=spec, provenance={"self_reported": True, "badges": []})


def test_a_scored_row_is_renamed(place: str, tmp_path: Path) -> None:
    where = Places(tmp_path, tmp_path, tmp_path, place)
    store = filled(place, [scored()])
    renamed = rows.rename(store, where, scored().spec.id, "theirs")
    [run] = store.stored_runs()
    assert (run.spec.method.name, run.id, run.self_reported) == ("theirs", renamed.spec.id, True)
    assert_same_result(RunResult.load(where.runs / run.id), store.result(run.pk))
    assert [entry.reason for entry in store.tombstones()] == [f"renamed to theirs, run {run.id}"]


def test_a_row_made_here_keeps_its_name(place: str, tmp_path: Path) -> None:
    store = filled(place, [run_of()])
    with pytest.raises(ConfigError, match=f"`fsbench runs delete {run_of().spec.id}`"):
        rows.rename(store, Places(tmp_path, tmp_path, tmp_path, place), run_of().spec.id, "other")
