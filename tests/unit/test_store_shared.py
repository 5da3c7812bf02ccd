"""What runs share lies apart from their rows: each once, lost to nobody, gone with the last run that shows or says it."""

import json
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from stored_results import assert_same_result, failure_of, n_rows, run_of

from harness.errors import RecordError
from harness.runs import THUMBNAILS, RunResult
from harness.store import Store
from harness.store.connection import write_transaction

ONE, TWO = {"0": "AAAA", "17": "BBBB"}, {"17": "BBBB", "3": "CCCC"}


def showing(run: RunResult, pictures: dict[str, str]) -> RunResult:
    return replace(run, provenance={**run.provenance, THUMBNAILS: pictures})


SOUND, OTHER = (
    {"docstring": "Means.", "contract": [{"name": "It is sound.", "passed": True}]},
    {"docstring": "Medians."},
)


def saying(run: RunResult, about: dict[str, Any]) -> RunResult:
    return replace(run, provenance={**run.provenance, "about": about})


def n_pictures(store: Store) -> tuple[int, int]:
    """What is shared, and how often a picture is shown."""
    found = n_rows(store)
    return found["shared"], found["run_picture"]


def test_equal_pictures_are_stored_once_and_come_back_with_each_run(store: Store) -> None:
    results = [showing(run_of(0), ONE), showing(run_of(1), TWO), run_of(2)]
    for result in results:
        store.ingest(result)
        stored = store.run(result.spec.id)
        assert_same_result(store.result(stored.pk), result)
        assert THUMBNAILS not in stored.provenance and bool(stored.pictures) == (
            THUMBNAILS in result.provenance
        )
        assert stored == next(run for run in store.stored_runs() if run.id == stored.id)
    assert n_pictures(store) == (3, 4)
    digests = [run.pictures for run in store.stored_runs()]
    assert len(set(digests)) == 3


def test_a_picture_goes_with_the_last_run_that_shows_it(store: Store) -> None:
    for result in (showing(run_of(0), ONE), showing(run_of(1), TWO)):
        store.ingest(result)
    store.delete_run(run_of(0).spec.id)
    assert n_pictures(store) == (3, 4)  # may be restored
    store.purge()
    assert n_pictures(store) == (2, 2)
    store.delete_run(run_of(1).spec.id)
    store.purge()
    assert n_pictures(store) == (0, 0)


def test_of_two_sets_the_larger_in_order_stays_and_none_takes_none_away(store: Store) -> None:
    for pictures in (ONE, TWO, {}, ONE):
        store.ingest(showing(run_of(0), pictures))
    pk = store.run(run_of(0).spec.id).pk
    assert store.pictures(pk) == max(ONE, TWO, key=lambda one: sorted(one.items()))
    assert n_pictures(store) == (2, 2)


def test_what_was_made_here_brings_its_own_in_place_of_what_was_reported(store: Store) -> None:
    reported = showing(run_of(0), TWO)
    store.ingest(replace(reported, provenance={**reported.provenance, "self_reported": True}))
    store.ingest(showing(run_of(0), ONE))
    assert store.pictures(store.run(run_of(0).spec.id).pk) == ONE
    assert n_pictures(store) == (2, 2)


def test_what_a_failure_shows_goes_with_it(store: Store) -> None:
    store.ingest(showing(failure_of(0), ONE))
    store.ingest(showing(run_of(0), TWO))
    assert n_pictures(store) == (2, 2)


def test_an_exchanged_picture_is_told(store: Store) -> None:
    store.ingest(showing(run_of(0), ONE))
    with write_transaction(store.engine) as connection:
        connection.execute(text("UPDATE shared SET content = 'DDDD' WHERE content = 'AAAA'"))
    pk = store.run(run_of(0).spec.id).pk
    with pytest.raises(RecordError, match="not the one that was stored"):
        store.pictures(pk)
    with pytest.raises(RecordError, match="fsbench collect"):
        store.result(pk)


def test_an_older_database_moves_them_out_of_the_provenance(place: str) -> None:
    results = [saying(showing(run_of(0), ONE), SOUND), saying(showing(run_of(1), TWO), SOUND), run_of(2)]
    with Store.open(place, create=True) as store:
        for result in results:
            store.ingest(result)
        digest = store.content_digest()
        with write_transaction(store.engine) as connection:  # as version 3 had it
            for statement in (
                "DROP TABLE run_picture",
                "DROP TABLE run_about",
                "DROP TABLE shared",
                "UPDATE fsbench_schema SET version = 3",
            ):
                connection.execute(text(statement))
            for result in results:
                told = {"told": json.dumps(dict(result.provenance)), "id": result.spec.id}
                connection.execute(text("UPDATE run SET provenance = :told WHERE id = :id"), told)
    with Store.open(place) as lifted:
        assert n_pictures(lifted) == (4, 4)
        for result in results:
            assert_same_result(lifted.result(lifted.run(result.spec.id).pk), result)
        assert lifted.content_digest() == digest
        lifted.ingest(showing(run_of(3), {"5": "EEEE"}))  # keys go on behind those of the step
        assert n_pictures(lifted) == (5, 5)


def test_what_a_method_says_is_stored_once_and_comes_back_with_each_run(store: Store) -> None:
    results = [saying(run_of(0), SOUND), saying(run_of(1), SOUND), saying(failure_of(2), OTHER), run_of(3)]
    for result in results:
        store.ingest(result)
        assert_same_result(store.result(store.run(result.spec.id).pk), result)
    assert [run.provenance.get("about") for run in store.stored_runs()] == [SOUND, SOUND, OTHER, None]
    assert (n_rows(store)["shared"], n_rows(store)["run_about"]) == (2, 3)
    store.ingest(run_of(2))  # in place of the failure
    assert (n_rows(store)["shared"], n_rows(store)["run_about"]) == (1, 2)


def test_what_was_said_last_stays(store: Store) -> None:
    early, late = ("2024-01-02T00:00:00+00:00", "2024-01-03T00:00:00+00:00")
    said = {early: SOUND, late: OTHER}
    for finished in (late, early, late):
        result = saying(run_of(0), said[finished])
        store.ingest(replace(result, provenance={**result.provenance, "finished": finished}))
    assert store.run(run_of(0).spec.id).provenance["about"] == OTHER
    assert (n_rows(store)["shared"], n_rows(store)["run_about"]) == (1, 1)


def test_a_row_whose_method_says_what_was_edited_is_left_out(store: Store) -> None:
    store.ingest(saying(run_of(0), SOUND))
    store.ingest(saying(run_of(1), OTHER))
    with write_transaction(store.engine) as connection:
        connection.execute(text("UPDATE shared SET content = '{}' WHERE content LIKE '%Medians%'"))
    assert [run.id for run in store.stored_runs()] == [run_of(0).spec.id]
    with pytest.raises(RecordError, match="says of itself"):
        store.run(run_of(1).spec.id)


def test_what_was_edited_is_put_right_when_it_arrives_again(store: Store) -> None:
    """By the same run, and by another one that says the same."""
    for again in (0, 1):
        store.ingest(saying(run_of(0), SOUND))
        with write_transaction(store.engine) as connection:
            connection.execute(text("UPDATE shared SET content = '{}'"))
        assert store.stored_runs() == []
        store.ingest(saying(run_of(again), SOUND))
        assert store.run(run_of(0).spec.id).provenance["about"] == SOUND
