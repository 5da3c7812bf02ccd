"""After a power cut at any moment a run folder and the database are the old ones or the new ones, never half of them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from crashing_disk import Disk, lay_out, recorded_python, recorded_sqlite
from sqlalchemy import event
from stored_results import run_of

from harness.runs import RunResult
from harness.store import Store
from harness.system.files import recover_folder, save_text


def loaded(tree_folder: Path, run_id: str) -> str:
    """What the next command finds of a run: the digest of its counts, "" where there is none."""
    recover_folder(tree_folder / run_id)
    if not (tree_folder / run_id / "run.json").exists():
        return ""
    return RunResult.load(tree_folder / run_id).digest


def test_a_new_run_folder_is_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, runs = run_of(), tmp_path / "runs"
    runs.mkdir()
    (tmp_path / "log.txt").write_text("done")
    with recorded_python(runs, monkeypatch) as disk:
        result.save(runs, tmp_path / "log.txt")
    found = [
        loaded(lay_out(tree, tmp_path / "cut"), result.spec.id) for _, trees in disk.states for tree in trees
    ]
    assert set(found) == {"", result.digest}
    assert len(disk.states) > 10
    assert set(found[-3:]) == {result.digest}, "save has returned, so nothing of it may be lost"


def test_a_run_folder_that_is_replaced_is_the_old_one_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, runs = run_of(), run_of(chance=1), tmp_path / "runs"
    assert old.spec.id == new.spec.id
    old.save(runs)
    with recorded_python(runs, monkeypatch) as disk:
        new.save(runs)
    found = [
        loaded(lay_out(tree, tmp_path / "cut"), old.spec.id) for _, trees in disk.states for tree in trees
    ]
    assert set(found) == {old.digest, new.digest}
    assert set(found[-3:]) == {new.digest}


def test_a_small_file_is_the_old_one_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "fits"
    folder.mkdir()
    save_text(folder / "fit.json", "the old record")
    with recorded_python(folder, monkeypatch) as disk:
        save_text(folder / "fit.json", "the new record, which is longer")
    found = {tree["fit.json"] for _, trees in disk.states for tree in trees}
    assert found == {b"the old record", b"the new record, which is longer"}


def test_a_file_that_is_not_synced_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation can fail: without fsync the name may reach the disk before the content."""
    with recorded_python(tmp_path, monkeypatch) as disk:
        save_text(tmp_path / "fit.json", "the record", is_durable=False)
    assert b"the r" in {tree.get("fit.json") for _, trees in disk.states for tree in trees}


def ingested(folder: Path, *, synchronous: str = "") -> Disk:
    """The recording of one ingest into a database that has another run."""
    folder.mkdir()
    with Store.open(folder / "results.db", create=True) as store:
        store.ingest(run_of())
    with recorded_sqlite(folder) as disk, Store.open(folder / "results.db") as store:
        if synchronous:
            event.listen(
                store.engine, "connect", lambda c, _: c.execute(f"PRAGMA synchronous = {synchronous}")
            )
        store.ingest(run_of(seed=1))
        disk.happened("ingest has returned")
    return disk


def stored(folder: Path) -> set[int]:
    """Seeds of the runs of a database that is whole, each with all of its counts."""
    with sqlite3.connect(folder / "results.db") as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with Store.open(folder / "results.db") as store:
        runs = store.stored_runs()
        assert all(store.result(run.pk).digest == run.replicate for run in runs)
        return {run.spec.seed for run in runs}


def test_an_ingest_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    disk = ingested(tmp_path / "home")
    assert len(disk.states) > 10 and any(what.startswith("write") for what, _ in disk.states)
    found = [stored(lay_out(tree, tmp_path / "cut")) for _, trees in disk.states for tree in trees]
    assert {frozenset(seeds) for seeds in found} == {frozenset({0}), frozenset({0, 1})}


def test_a_run_that_was_said_to_be_stored_survives(tmp_path: Path) -> None:
    after = next(trees for what, trees in ingested(tmp_path / "home").states if what == "ingest has returned")
    for tree in after:
        assert stored(lay_out(tree, tmp_path / "cut")) == {0, 1}


@pytest.mark.parametrize("synchronous", ["OFF", "FULL"])
def test_weaker_pragmas_would_lose_it(tmp_path: Path, synchronous: str) -> None:
    """FULL does not sync the folder after the journal is unlinked: the journal is back and undoes the commit."""
    disk = ingested(tmp_path / "home", synchronous=synchronous)
    [(_, synced, _)] = [trees for what, trees in disk.states if what == "ingest has returned"]
    assert stored(lay_out(synced, tmp_path / "cut")) == {0}


def test_the_database_says_how_it_is_kept(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results.db", create=True) as store, store.engine.connect() as connection:
        said = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("synchronous", "journal_mode")
        }
    assert said == {"synchronous": 3, "journal_mode": "delete"}
