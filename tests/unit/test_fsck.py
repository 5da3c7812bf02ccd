"""What `fsbench fsck` notices, what it moves aside, and that nothing is lost, whenever it is killed."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stored_results import run_of

from harness.errors import StoreError
from harness.evaluation.feature_files import FeatureFiles
from harness.jobs import dispatch
from harness.keeping import fsck, rows
from harness.keeping import repair as mending
from harness.keeping.findings import Finding
from harness.keeping.repair import repair
from harness.runs import RunResult, folders
from harness.runs.request import command
from harness.store import Store
from harness.store.models import PackedArray
from harness.system.folders import Places
from harness.system.locks import claim
from harness.training.checkpoints import Fit

N = 40  # rows of the feature table


class Weights:
    """The least that a fit can keep."""

    def state_dict(self) -> dict[str, object]:
        return {"w": 1.0}

    def load_state_dict(self, state: dict[str, object]) -> None: ...


@pytest.fixture
def where(tmp_path: Path) -> Places:
    """A home with two runs, in the database and in folders, and the cache of the first."""
    places = Places(
        tmp_path / "home", tmp_path / "data", tmp_path / "cache", str(tmp_path / "home/results.db")
    )
    with Store.open(places.db, create=True) as store:
        for seed in (0, 1):
            result = run_of(seed)
            folders.mark_collected(result.save(places.runs), places.db)
            store.ingest(result)
    Fit(places.cache, FIT).finish(Weights(), {"seconds": 1.0, "curves": [], "selection": {}})
    FeatureFiles.create(table_of(places), N, (3,), {"fit": FIT, "method": "protonet"})
    table = FeatureFiles.open(table_of(places))
    table.put(np.arange(30), np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32))
    table.record()
    return places


ID, FIT = run_of().spec.id, run_of().spec.fit_key


def table_of(places: Places) -> Path:
    return places.cache / "features" / "0123456789abcdef"


def rotten(places: Places) -> list[Finding]:
    return [finding for finding in fsck.check(places) if finding.level != "note"]


def sql(statement: str, *values: object) -> Callable[[Places], None]:
    def rot(places: Places) -> None:
        with sqlite3.connect(places.db) as db:
            assert db.execute(statement, values).rowcount

    return rot


def edit(name: str, old: str, new: str) -> Callable[[Places], None]:
    def rot(places: Places) -> None:
        path = places.home.parent / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    return rot


def flip(name: str, at: int) -> Callable[[Places], None]:
    def rot(places: Places) -> None:
        path = places.home.parent / name
        content = bytearray(path.read_bytes())
        content[at] ^= 0xFF
        path.write_bytes(content)

    return rot


def zero_an_eighth(places: Places) -> None:
    path = table_of(places) / "table.f32"
    content = bytearray(path.read_bytes())
    content[: len(content) // 8] = bytes(len(content) // 8)
    path.write_bytes(content)


def other_predictions(places: Places) -> None:
    labels = np.zeros((12, 12), np.uint8)
    sql("UPDATE prediction SET labels = ? WHERE run_pk = 1", PackedArray().process_bind_param(labels, None))(
        places
    )  # type: ignore[arg-type]


def counts_and_their_digest(places: Places) -> None:
    """What somebody does who knows the digest: every count, and the digest of those, but not the predictions."""
    sql(
        "UPDATE result SET n_correct = n_query WHERE run_pk = 1 AND metric_pk = (SELECT pk FROM metric WHERE name = 'top1')"
    )(places)
    with Store.open(places.db) as store:
        found = store.result(1)
    sql("UPDATE run SET replicate = ? WHERE pk = 1", found.digest)(places)


def damaged_file(places: Places) -> None:
    with Path(places.db).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 20_000)


def another_run(places: Places) -> None:
    shutil.rmtree(places.runs / ID)
    shutil.copytree(places.runs / run_of(1).spec.id, places.runs / ID)


def batch_of_jobs(places: Places) -> None:
    folder = places.runs / ".jobs" / "20260101-000000-1"
    folder.mkdir(parents=True)
    (folder / "batch.json").write_text('{"executor": "local"}')
    (folder / "0.json").write_text('{"specs": 3}')


FOLDER = f"home/runs/{ID}"
ROT: dict[str, tuple[str, Callable[[Places], None]]] = {
    "counts": ("row", sql("UPDATE result SET n_correct = n_query WHERE run_pk = 1")),
    "one count": ("row", sql("UPDATE result SET n_correct = n_correct + 1 WHERE run_pk = 1 AND episode = 3 AND n_correct < n_query")),
    "predictions": ("row", other_predictions),
    "counts and digest": ("row", counts_and_their_digest),
    "a missing episode": ("row", sql("DELETE FROM result WHERE run_pk = 1 AND episode = 5")),
    "the id": ("row", sql("UPDATE run SET id = 'aaaaaaaaaaaa' WHERE pk = 1")),
    "a column": ("row", sql("UPDATE run SET method = 'better' WHERE pk = 1")),
    "the specification": ("row", sql("UPDATE run SET spec = replace(spec, '28', '84') WHERE pk = 1")),
    "no JSON": ("row", sql("UPDATE run SET provenance = '{' WHERE pk = 1")),
    "a blob for a text": ("row", sql("UPDATE run SET traceback = x'ff00' WHERE pk = 1")),
    "the list": ("list", sql("UPDATE episode_class SET class_id = 6 - class_id")),
    "the file": ("database", damaged_file),
    "no database": ("database", lambda places: Path(places.db).write_bytes(b"not a database" * 1000)) ,
    "counts in a folder": ("run folder", flip(f"{FOLDER}/result.npz", 300)),
    "a digest": ("run folder", edit(f"{FOLDER}/run.json", '"digest": "', '"digest": "0')),
    "an id": ("run folder", edit(f"{FOLDER}/run.json", '"seed": 0', '"seed": 7')),
    "no header": ("run folder", lambda places: (places.runs / ID / "run.json").unlink()),
    "half a header": ("run folder", lambda places: (places.runs / ID / "run.json").write_text("{")),
    "another run": ("run folder", another_run),
    "weights": ("checkpoint", flip(f"cache/fits/{FIT}/fit.pt", 100)),
    "no weights": ("checkpoint", lambda places: (places.cache / "fits" / FIT / "fit.pt").unlink()),
    "a record": ("checkpoint", lambda places: (places.cache / "fits" / FIT / "fit.json").write_text("[]")),
    "a table": ("feature table", zero_an_eighth),
    "a short table": ("feature table", lambda places: (table_of(places) / "table.f32").write_bytes(b"")),
    "a batch of jobs": ("jobs", batch_of_jobs),
    "a password": ("secret", lambda places: (places.runs / ID / "collected").write_text("postgresql://a:hunter2@b/c")),
    "an ended run": ("unfinished run", lambda places: (places.runs / f".partial-{ID}").mkdir()),
    "a killed save": ("temporary", lambda places: (places.runs / f".{ID}.999999999.new").mkdir()),
    "a killed swap": ("swap", lambda places: (places.runs / ID).rename(places.runs / f".{ID}.999999999.old")),
    "a killed record": ("temporary", lambda places: (places.cache / "fits" / FIT / ".fit.json.999999999").touch()),
}  # fmt: skip


def test_a_sound_home_is_sound(where: Places) -> None:
    assert [f for f in fsck.check(where) if f.level != "note"] == []
    assert fsck.quick(where) == []


@pytest.mark.parametrize("what", ROT)
def test_rot_is_noticed_named_and_moved_aside(where: Places, what: str) -> None:
    kind, rot = ROT[what]
    rot(where)
    content = _files(where)
    found = rotten(where)
    assert {finding.kind for finding in found} == {kind}
    assert all(finding.problem for finding in found)
    done = list(repair(found, where))
    assert all(entry.is_mended for entry in done)
    assert rotten(where) == [], "one repair is enough"
    if kind not in ("row", "list", "secret"):
        assert content <= _files(where), "nothing is deleted"


def _files(places: Places) -> set[bytes]:
    """The contents of all files, wherever they are."""
    return {
        p.read_bytes() for p in places.home.parent.rglob("*") if p.is_file() and not p.name.startswith("lock")
    }


@pytest.mark.parametrize("what", [name for name, (kind, _) in ROT.items() if kind == "row"])
def test_a_rotten_row_comes_back_from_its_folder(where: Places, what: str) -> None:
    ROT[what][1](where)
    [*done] = repair(rotten(where), where)
    [written] = (where.home / "quarantine/rows").iterdir()
    assert json.loads(written.read_text())["run"]
    assert "stored again" in done[0].done or what == "the id"
    with Store.open(where.db) as store:
        store.ingest(RunResult.load(where.runs / ID))
        assert store.run(ID).replicate == run_of().digest


@pytest.mark.parametrize(
    "what", [name for name, (kind, _) in ROT.items() if kind in ("row", "list", "database")]
)
def test_a_database_is_rebuilt_by_the_command_that_is_named(where: Places, what: str) -> None:
    with Store.open(where.db) as store:
        before = store.content_digest()
    ROT[what][1](where)
    found = rotten(where)
    assert {finding.again for finding in found} <= {"fsbench collect", command(run_of().spec)}
    list(repair(found, where))
    with Store.open(where.db, create=True) as store:
        dispatch.collect(where, store)
        assert store.content_digest() == before


def test_a_rotten_folder_of_a_run_that_is_stored_costs_nothing(where: Places) -> None:
    ROT["counts in a folder"][1](where)
    [found] = rotten(where)
    assert found.again == f"fsbench show {ID}"


def test_a_rotten_folder_of_a_run_that_is_not_stored_names_the_command(where: Places) -> None:
    Path(where.db).unlink()
    ROT["counts in a folder"][1](where)
    [found] = rotten(where)
    assert found.again == command(run_of().spec)


@pytest.mark.parametrize("what", ["weights", "a table"])
def test_a_rotten_cache_names_the_command_that_makes_it_again(where: Places, what: str) -> None:
    ROT[what][1](where)
    [found] = rotten(where)
    assert found.again == f"{command(run_of().spec)} --force" or "--seeds 1" in found.again


def test_the_quick_part_notices_edited_counts(where: Places) -> None:
    ROT["counts"][1](where)
    [found] = fsck.quick(where)
    assert (found.kind, found.level) == ("row", "rotten")


def test_what_was_deleted_is_looked_at_too(where: Places) -> None:
    with Store.open(where.db) as store:
        store.delete_run(ID)
    ROT["counts"][1](where)
    assert [finding.kind for finding in rotten(where)] == ["row"]
    list(repair(rotten(where), where))
    with Store.open(where.db) as store:
        assert [run.id for run in store.deleted_runs()] == [ID]


def test_older_caches_are_not_vouched_for(where: Places) -> None:
    path = where.cache / "fits" / FIT / "fit.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "fit_sha256"}))
    (table_of(where) / "crc32.npy").unlink()
    notes = [finding for finding in fsck.check(where) if "not vouched for" in finding.problem]
    assert {finding.kind for finding in notes} == {"checkpoint", "feature table"}
    assert rotten(where) == []


def test_a_cache_of_no_run_here_is_told_and_left(where: Places) -> None:
    shutil.copytree(where.cache / "fits" / FIT, where.cache / "fits" / "cafecafecafe")
    found = [finding for finding in fsck.check(where) if finding.name == "cafecafecafe"]
    assert [finding.level for finding in found] == ["note"]
    assert "another home" in found[0].problem


def test_what_a_process_is_at_is_left_alone(where: Places) -> None:
    ROT["weights"][1](where)
    partial = where.runs / f".partial-{ID}"
    with claim(where.cache / "fits" / FIT / "lock", "a test"), claim(partial / "lock-0", "a test"):
        (where.runs / f".{ID}.999999999.new").mkdir()
        assert rotten(where) == []


def test_an_unfinished_run_is_told_with_the_command_that_goes_on(where: Places) -> None:
    shutil.rmtree(where.runs / ID)
    (where.runs / f".partial-{ID}").mkdir()
    [found] = [finding for finding in fsck.check(where) if finding.kind == "unfinished run"]
    assert (found.level, found.again) == ("note", command(run_of().spec))


@pytest.mark.parametrize("made", ["newer", "foreign", "locked"])
def test_a_database_that_is_not_rotten_stays_where_it_is(where: Places, made: str) -> None:
    with sqlite3.connect(where.db) as db:
        if made == "newer":
            db.execute("UPDATE fsbench_schema SET version = 99")
        elif made == "foreign":
            db.execute("DROP TABLE fsbench_schema")
    before = Path(where.db).read_bytes()
    held = sqlite3.connect(where.db, isolation_level=None)
    if made == "locked":
        held.execute("BEGIN IMMEDIATE")
    found = rotten(where)
    assert bool(found) is (made != "locked")
    assert not any(entry.is_mended for entry in repair(found, where))
    held.close()
    assert Path(where.db).read_bytes() == before


def test_purging_takes_the_folder_too(where: Places) -> None:
    with Store.open(where.db) as store:
        store.delete_run(ID)
        assert len(rows.purge(store, where)) == 1
        assert not (where.runs / ID).exists() and len(store.stored_runs()) == 1
        assert rows.purge(store, where) == []
    assert rotten(where) == []


def test_purging_keeps_the_folder_of_other_counts(where: Places) -> None:
    other = run_of(chance=1)
    assert other.spec.id == ID
    with Store.open(where.db) as store:
        store.ingest(other)
        store.delete_run(ID, other.digest)
        rows.purge(store, where)
    assert RunResult.load(where.runs / ID).digest == run_of().digest


@pytest.mark.parametrize("when", range(6))
def test_a_killed_repair_loses_nothing(where: Places, when: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The n-th step that reaches the disk never comes; the same command then goes on."""
    other = run_of(1).spec.id
    for rot in (
        ROT["counts"][1],
        edit(f"home/runs/{other}/run.json", '"digest": "', '"digest": "0'),
        zero_an_eighth,
        ROT["weights"][1],
    ):
        rot(where)
    with Store.open(where.db) as store:
        n_before = len(store.column("id"))
    steps = iter(range(when))

    class Killed(BaseException):
        """What stands for kill -9: no handler of ours runs."""

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **more: object) -> object:
            if next(steps, None) is None:
                raise Killed
            return real(*arguments, **more)

        return call

    with monkeypatch.context() as patched:
        for name in ("rename", "replace"):
            patched.setattr(os, name, dying(getattr(os, name)))
        patched.setattr(mending, "take_away", dying(mending.take_away))
        try:
            list(repair(rotten(where), where))
            is_killed = False
        except Killed:
            is_killed = True
    assert is_killed or when == 5
    list(repair(rotten(where), where))
    assert rotten(where) == []
    with Store.open(where.db) as store:
        dispatch.collect(where, store)
        assert len(store.column("id")) == n_before
    moved = {path.name.partition(".")[0] for path in (where.home / "quarantine").rglob("*")} | {
        path.name for path in (where.cache / "quarantine").rglob("*")
    }
    assert {other, FIT, table_of(where).name} <= moved


def test_the_same_name_may_rot_twice(where: Places) -> None:
    for _ in range(2):
        ROT["a digest"][1](where)
        list(repair(rotten(where), where))
        run_of().save(where.runs)
    assert {path.name for path in (where.home / "quarantine/runs").iterdir()} == {ID, f"{ID}.1"}


def test_what_cannot_be_moved_is_said(where: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    ROT["a digest"][1](where)

    def refuse(*_: object) -> None:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(StoreError, match="It is where it was"):
        list(repair(rotten(where), where))


def test_scored_rows_are_looked_at_like_others(where: Places) -> None:
    with Store.open(where.db) as store:
        made = run_of(5)
        store.ingest(replace(made, provenance={"self_reported": True}))
    assert rotten(where) == []
