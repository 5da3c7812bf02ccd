"""Databases that somebody prepared: opened, shown and merged without running or believing anything in them."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import zlib
from contextlib import closing
from pathlib import Path

import pytest
from hostile_home import Attacked, is_message
from made_up_results import hardness, result

from harness.runs.findings import Trial
from harness.store import Recheck, Store

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x"
VICTIM = "(SELECT pk FROM run WHERE method = 'victim')"
SPEC = "UPDATE run SET spec = json_set(spec, '$.{}', {}) WHERE method = 'victim'"

# Refused when it is opened: what stands under a name of ours is something else.
SCHEMAS = {
    "an endless view as run": f"ALTER TABLE run RENAME TO r; CREATE VIEW run AS {ENDLESS} AS pk FROM n",
    "an endless view as result": f"ALTER TABLE result RENAME TO r; CREATE VIEW result AS {ENDLESS} FROM n",
    "an endless view as version": f"DROP TABLE fsbench_schema; CREATE VIEW fsbench_schema AS {ENDLESS} AS version FROM n",
    "a virtual table": "DROP TABLE trial; CREATE VIRTUAL TABLE trial USING fts5(id)",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON run BEGIN DELETE FROM run; END",
    "a generated column": "DROP TABLE trial; CREATE TABLE trial (id TEXT, method TEXT AS (upper(id)))",
    "another view of accuracies": "DROP VIEW episode_accuracy; CREATE VIEW episode_accuracy AS SELECT 1 AS accuracy",
    "a table that lacks columns": "DROP TABLE hardness; CREATE TABLE hardness (omega BLOB)",
    "a version that is a text": "DROP TABLE fsbench_schema; CREATE TABLE fsbench_schema (version); INSERT INTO fsbench_schema VALUES ('x')",
    "a version below one": "UPDATE fsbench_schema SET version = -5",
    "a version of numbers": "DROP TABLE fsbench_schema; CREATE TABLE fsbench_schema (version); INSERT INTO fsbench_schema VALUES (2.5)",
    "a name with an escape": "DROP TABLE fsbench_schema; CREATE TABLE \"a\x1b[2J\" (x)",
}  # fmt: skip
# One bad row: it is left out of the pages, and nothing of the database is merged.
ROWS = {
    "counts raised": f"UPDATE result SET n_correct = n_query WHERE run_pk = {VICTIM}",
    "counts as texts": f"UPDATE result SET n_correct = 'x' WHERE run_pk = {VICTIM}",
    "counts as fractions": f"UPDATE result SET n_correct = 0.5 WHERE run_pk = {VICTIM}",
    "counts as blobs": f"UPDATE result SET n_query = x'00ff', n_correct = 0 WHERE run_pk = {VICTIM}",
    "counts of 2^60": f"UPDATE result SET n_query = 1 << 60, n_correct = 1 << 60 WHERE run_pk = {VICTIM}",
    "an episode missing": f"DELETE FROM result WHERE run_pk = {VICTIM} AND episode = 3",
    "no counts": f"DELETE FROM result WHERE run_pk = {VICTIM}",
    "an episode too many": f"INSERT INTO result SELECT run_pk, metric_pk, 99, 1, 75 FROM result WHERE run_pk = {VICTIM} LIMIT 1",
    "an id that is not the hash": "UPDATE run SET id = '0123456789ab' WHERE method = 'victim'",
    "an id that is a number": "UPDATE run SET id = 5 WHERE method = 'victim'",
    "an id that is a blob": "UPDATE run SET id = x'1b5b' WHERE method = 'victim'",
    "an id with an escape": "UPDATE run SET id = char(27) || '[2J' WHERE method = 'victim'",
    "a spec that is no JSON": "UPDATE run SET spec = '{' WHERE method = 'victim'",
    "a spec that is a blob": "UPDATE run SET spec = x'ff00' WHERE method = 'victim'",
    "a spec that is nested": "UPDATE run SET spec = replace(hex(zeroblob(50000)), '0', '[') WHERE method = 'victim'",
    "a spec of nothing": "UPDATE run SET spec = 'null' WHERE method = 'victim'",
    "a name with an escape": SPEC.format("method.name", "char(27) || '[2J'"),
    "a name with 0x9b": SPEC.format("method.name", "char(155) || 'x'"),
    "a way of zero": SPEC.format("n_way", "0"),
    "a way of 2^40": SPEC.format("n_way", "1 << 40"),
    "other queries": SPEC.format("n_query", "1"),
    "provenance that is no JSON": "UPDATE run SET provenance = 'x' WHERE method = 'victim'",
    "provenance that is a list": "UPDATE run SET provenance = '[]' WHERE method = 'victim'",
    "provenance with a text as seconds": "UPDATE run SET provenance = '{\"seconds\": \"x\"}' WHERE method = 'victim'",
    "provenance with NaN": "UPDATE run SET provenance = '{\"seconds\": {\"fit\": NaN}}' WHERE method = 'victim'",
    "provenance with bytes that are text": "UPDATE run SET provenance = '{\"peak_rss_bytes\": \"x\"}' WHERE method = 'victim'",
    "a badge of its own": "UPDATE run SET provenance = '{\"badges\": [\"spot-checked\"]}' WHERE method = 'victim'",
    "curves that are a text": "UPDATE run SET curves = '\"x\"' WHERE method = 'victim'",
    "curves with infinity": "UPDATE run SET curves = '[{\"loss\": Infinity}]' WHERE method = 'victim'",
    "a time that is a blob": "UPDATE run SET created = x'05' WHERE method = 'victim'",
    "text that is no UTF-8": "UPDATE run SET finished = CAST(x'ff9b1b' AS TEXT), spec = CAST(x'ff' AS TEXT) WHERE method = 'victim'",
    "a traceback that is a blob": "UPDATE run SET traceback = x'00' WHERE method = 'victim'",
}  # fmt: skip
# Beside the counts: the row stays on the pages without it.
BESIDE = {
    "predictions that are no array": f"UPDATE prediction SET labels = x'0001' WHERE run_pk = {VICTIM}",
    "predictions of text": f"UPDATE prediction SET labels = 'x' WHERE run_pk = {VICTIM}",
    "predictions that unpack to 67 GB": f"UPDATE prediction SET labels = bomb() WHERE run_pk = {VICTIM}",
    "classes that are not there": "UPDATE episode_class SET class_id = 999",
    "classes that are texts": "UPDATE episode_class SET class_id = 'x'",
    "a list that is too short": "UPDATE episode_list SET n_stored = 3",
    "a list of 2^40 episodes": "UPDATE episode_list SET n_stored = 1 << 40",
    "images that unpack to 67 GB": "UPDATE episode_list SET query = bomb()",
    "class names with escapes": "UPDATE list_class SET name = char(27) || '[2J' || class_id",
    "class names that are blobs": "UPDATE list_class SET name = x'00'",
    "rechecks that are texts": f"INSERT INTO recheck VALUES ({VICTIM}, 5, x'00', 'x', 'y', -1)",
    "a trial that is none": "UPDATE trial SET spec = '{', method = x'00'",
    "a trial with an escape": "UPDATE trial SET method = char(27)",
    "a trial better than all": "UPDATE trial SET n_correct = 1000, n_query = 10",
    "hardness that unpacks to 67 GB": "UPDATE hardness SET omega = bomb()",
    "hardness by nobody": "UPDATE hardness SET extractor = '{}'",
    "hardness by an escape": "UPDATE hardness SET extractor = '{\"method\": \"' || char(27) || '\"}'",
}  # fmt: skip


TAKEN = {kind for kind in BESIDE if kind.startswith(("rechecks", "a trial", "hardness"))}  # without these


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Attacked:
    """A home into which all of them are merged."""
    return Attacked(tmp_path_factory.mktemp("ours"))


def header_bomb() -> bytes:
    text = repr({"descr": "<i8", "fortran_order": False, "shape": (67 << 30,)}).encode() + b" " * 20 + b"\n"
    return zlib.compress(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"\0" * (1 << 20))


def spoilt(folder: Path, sql: str) -> Attacked:
    """A home whose database was edited by hand."""
    home = Attacked(folder)
    home.ingest(result("victim", "honest-5w1s", n_episodes=20))
    with Store.open(home.places.db) as store:
        store.add_trial(Trial(result("tried", "honest-5w1s", n_episodes=20).spec, 3, 10, 1, "", "2030"))
        store.add_hardness(hardness(20, "honest-5w1s"))
    with closing(sqlite3.connect(home.places.db)) as edited:
        edited.execute("PRAGMA ignore_check_constraints = ON")
        edited.create_function("bomb", 0, header_bomb)
        edited.executescript(sql)
        edited.commit()
    return home


@pytest.mark.parametrize("kind", SCHEMAS)
@pytest.mark.timeout(60)
def test_what_stands_under_our_names_is_looked_at_before_it_is_read(
    clean: Attacked, tmp_path: Path, kind: str
) -> None:
    home = spoilt(tmp_path / "theirs", SCHEMAS[kind])
    before, began = clean.digest(), time.monotonic()
    for words in (
        ("leaderboard",),
        ("report",),
        ("collect",),
        ("run", "-m", "pixels", "-b", "glyphs-5w1s", "--dry-run"),
    ):
        code, said = home.type(*words)
        assert code == 3 and is_message(said), (words, said)
    code, said = clean.type("merge", home.places.db)
    assert code == 3 and is_message(said), said
    assert clean.digest() == before and time.monotonic() - began < 20
    clean.still_works()


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.timeout(60)
def test_one_bad_row_is_left_out_and_never_merged(clean: Attacked, tmp_path: Path, kind: str) -> None:
    home = spoilt(tmp_path / "theirs", ROWS[kind])
    before = clean.digest()
    home.still_works()
    code, said = home.type("run", "-m", "victim,pixels", "-b", "honest-5w1s", "--dry-run")
    assert code == 2 and is_message(said), said
    if kind != "counts raised":  # what only its predictions know; no page compares them
        code, said = home.type("leaderboard")
        assert "victim" not in said and is_message(said), said
    code, said = clean.type("merge", home.places.db)
    assert code == 3 and is_message(said), said
    assert clean.digest() == before
    clean.still_works()


@pytest.mark.parametrize("kind", BESIDE)
@pytest.mark.timeout(60)
def test_what_is_bad_beside_the_counts_is_left_out_of_the_pages(
    clean: Attacked, tmp_path: Path, kind: str
) -> None:
    home = spoilt(tmp_path / "theirs", BESIDE[kind])
    home.still_works()
    code, said = home.type("leaderboard")
    assert "victim" in said and is_message(said), said
    code, said = clean.type("merge", home.places.db)
    assert code == (0 if kind in TAKEN else 3) and is_message(said), said
    clean.still_works()


@pytest.mark.parametrize(
    "content",
    [b"SQLite format 3\0", b"SQLite format 3\0" + b"\xff" * 5000, b"x" * 5000, b"PK\x03\x04" * 100],
    ids=range(4),
)
def test_a_file_that_is_no_database_is_said_so(tmp_path: Path, content: bytes) -> None:
    home = Attacked(tmp_path / "ours")
    (tmp_path / "bad.db").write_bytes(content)
    code, said = home.type("merge", str(tmp_path / "bad.db"))
    assert code == 3 and is_message(said)
    home.still_works()


def test_a_merged_database_does_not_change_what_is_said_of_our_runs(tmp_path: Path) -> None:
    """Its copy of our run says that it finished later, without its leak, and was rechecked; its counts are ours."""
    ours, theirs = Attacked(tmp_path / "ours"), Attacked(tmp_path / "theirs")
    mine = result("mine", "honest-5w1s", n_episodes=20, provenance={"badges": ["leak"], "host": "here"})
    ours.ingest(mine)
    theirs.ingest(
        result(
            "mine",
            "honest-5w1s",
            n_episodes=20,
            provenance={"badges": [], "finished": "9999", "host": "there"},
        )
    )
    with Store.open(theirs.places.db) as store:
        store.add_recheck(mine.spec.id, mine.digest, Recheck("9999", "cpu", 0, 20, 0))
    before = ours.digest()
    assert "2 known" in ours.type("merge", theirs.places.db)[1]
    assert ours.digest() == before
    with Store.open(ours.places.db) as store:
        assert store.run(mine.spec.id).badges == ("leak",)


def test_a_long_statement_ends_at_ctrl_c(tmp_path: Path) -> None:
    """In a process of its own, which counts without end until it is interrupted."""
    home = Attacked(tmp_path / "home")
    code = (
        "import sys; from sqlalchemy import text; from harness.store.connection import engine_for, read_transaction\n"
        "with read_transaction(engine_for(sys.argv[1])) as c:\n"
        "    print('begun', flush=True); c.execute(text(sys.argv[2])).all()"
    )
    endless = f"{ENDLESS} FROM n WHERE x < 0"
    words = [sys.executable, "-c", code, home.places.db, endless]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in said.splitlines()[-1]


def test_names_that_steer_a_terminal_are_written_visibly(tmp_path: Path) -> None:
    """Where they got into a database all the same: pages, tables and exports show escapes, and every figure is drawn."""
    home = spoilt(
        tmp_path / "home",
        "UPDATE list_class SET name = char(27) || ']0;x' || char(7) || char(155) || class_id",
    )
    home.still_works()
    page = (home.places.reports / "honest-5w1s.html").read_text()
    assert "\\x1b]0;x\\x07\\x9b" in page
    for path in home.places.reports.rglob("*"):
        if path.is_file():
            assert not any(c in path.read_text() for c in "\x1b\x07\x9b"), path
    code, said = home.type("report", "--format", "csv")
    assert code == 0 and json.dumps(said) and is_message(said)
