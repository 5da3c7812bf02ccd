"""Versions of the schema, and merging: one content whatever the order.

Every test that takes ``place`` or ``places`` runs on SQLite and, where FSBENCH_TEST_POSTGRES holds a URL such as
postgresql+psycopg://user@host/database, on PostgreSQL as well (in schemas of its own, dropped afterwards).
"""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
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
from sqlalchemy import Connection, inspect, text
from stored_results import (
    CHECKS,
    GOLDEN,
    N_QUERY,
    N_WAY,
    TRIALS,
    close_opened,
    failure_of,
    filled,
    run_of,
    spec_of,
)

from harness.errors import StoreError
from harness.runs import Counts, RunResult
from harness.store import Recheck, Store, Trial, migrations
from harness.store import store as store_module

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
    run_of(0, provenance={"finished": "2024-02-01", "thumbnails": {"3": "AAAA", "17": "BBBB"}}),
    run_of(0, provenance={"finished": "2024-01-09", "thumbnails": {"3": "CCCC"}, "self_reported": True}),
    run_of(0, provenance={"finished": "2024-03-01", "host": "c", "about": {"docstring": "Means."}}),
    run_of(
        1, provenance={"finished": "2024-03-02", "about": {"docstring": "Medians."}, "self_reported": True}
    ),
    run_of(3, counts=other_labels, provenance={"thumbnails": {"17": "BBBB"}}),
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
    reported = [as_reported(run_of(2, 5)), as_reported(run_of(2, 12, episodes=None))]
    assert target.content_digest() == filled(places(), reported).content_digest()
    close_opened()


some_beside = st.tuples(*(st.lists(st.sampled_from(pool), max_size=3) for pool in (CHECKS, TRIALS)))


def with_beside(store: Store, beside: tuple[list[Recheck], list[Trial]]) -> Store:
    """Add rechecks to every result, and trials."""
    for check in beside[0]:
        for run in store.runs(status="done").itertuples():
            store.add_recheck(run.id, run.replicate, check)
    for trial in beside[1]:
        store.add_trial(trial)
    return store


def as_reported(result: RunResult) -> RunResult:
    """A result as it is after a merge: somebody else says so."""
    return replace(result, provenance={**result.provenance, "self_reported": True})


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
        patch.setattr(store_module, "utc_now", lambda: f"2025-{next(clock)}")
        x, y, z = (
            with_beside(filled(places(), part), more) for part, more in zip((a, b, c), beside, strict=True)
        )
    said = [as_reported(part.result(run.pk)) for part in (x, y, z) for run in part.runs().itertuples()]
    xy, yz = merged(places(), x, y), merged(places(), y, z)
    assert_same_everything(xy, merged(places(), y, x))
    before = everything(xy)
    xy.merge(x)
    assert_same(everything(xy), before)
    xy.merge(z)
    assert_same_everything(xy, merged(places(), x, yz))
    trials = [trial for _, trials in beside for trial in trials]
    whole = with_beside(filled(places(), said), ([], trials))
    assert xy.content_digest() == whole.content_digest()
    own = x.content_digest()
    x.merge(merged(places(), x))
    assert x.content_digest() == own  # what was made here, and its rechecks, stay as they are
    close_opened()


def test_a_merged_database_brings_no_trust_of_its_own(places: Callable[[], str]) -> None:
    """Neither rechecks nor an origin, and nothing that it says of our runs."""
    ours, theirs = filled(places(), [run_of(0)]), filled(places(), [])
    for told in (
        {"finished": "9999"},
        {"finished": "9999", "self_reported": False, "reported_by": "the authors"},
    ):
        theirs.ingest(run_of(0, provenance={**told, "host": "theirs"}))
        theirs.ingest(run_of(1, provenance=told))
    with_beside(theirs, (CHECKS[:1], []))
    assert theirs.run(spec_of(1).id).badges == ("spot-checked",)
    mine = ours.run(spec_of(0).id)
    ours.merge(theirs, "theirs.db")
    assert replace(ours.run(spec_of(0).id), pk=mine.pk) == mine
    taken = ours.run(spec_of(1).id)
    assert taken.badges == ("self-reported",) and taken.rechecks == ()
    assert taken.provenance["reported_by"] == "theirs.db"


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
