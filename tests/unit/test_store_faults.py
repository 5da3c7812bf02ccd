"""The database under kills, full disks, locks and files that are not ours: nothing by halves, nothing foreign touched.

Every test that takes ``place`` or ``places`` runs on SQLite and, where FSBENCH_TEST_POSTGRES holds a URL such as
postgresql+psycopg://user@host/database, on PostgreSQL as well (in schemas of its own, dropped afterwards).
"""

import multiprocessing
import os
import random
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event, text
from stored_results import (
    assert_same_result,
    filled,
    n_rows,
    on_insert_into,
    run_of,
    spec_of,
)

from harness.errors import ConfigError, StoreError
from harness.store import Store

# Children of a clean process that has the slow imports behind it; a fork of this one, with torch's threads, may hang.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["harness.store", "hypothesis", "pytest"])


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
        process.kill()  # it may have ended by itself
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
    deadline = time.monotonic() + 240
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
    with pytest.raises(ConfigError, match=message) as caught:
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
