"""A database that is packed again says what it said, in a smaller file."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text
from stored_results import run_of

from harness.errors import RecordError
from harness.runs import Counts
from harness.store import Store
from harness.store.connection import write_transaction
from harness.system.arrays import pack, unpack


def test_the_same_is_said_in_fewer_bytes(store: Store, place: str) -> None:
    for seed in range(4):
        store.ingest(run_of(seed))
    labels = np.tile(np.repeat(np.arange(3, dtype=np.uint8), 4), (12, 1))  # as a perfect row predicts
    perfect = Counts(np.full(12, 12), np.full(12, 12), labels)
    store.ingest(run_of(4, counts={"top1": perfect}))
    for seed in range(3):
        store.delete_run(run_of(seed).spec.id)
    store.purge()
    digest, size = store.content_digest(), _size(store, place)
    store.compact()
    assert store.content_digest() == digest
    assert _size(store, place) < size
    packed = _size(store, place)
    store.compact()
    assert (store.content_digest(), _size(store, place)) == (digest, packed)


def _size(store: Store, place: str) -> int:
    """Bytes of the file; of a server those of the predictions."""
    if store.engine.dialect.name == "sqlite":
        return Path(place).stat().st_size
    with store.engine.connect() as connection:
        return int(connection.scalar(text("SELECT sum(length(labels)) FROM prediction")))


def test_a_damaged_array_stops_it_and_stays(store: Store) -> None:
    store.ingest(run_of(0))
    with write_transaction(store.engine) as connection:
        connection.execute(text("UPDATE prediction SET labels = :junk"), {"junk": b"no array"})
    with pytest.raises(RecordError, match="fsbench fsck"):
        store.compact()


@pytest.mark.parametrize("array", [np.zeros((3, 4), np.uint8), np.arange(7), np.empty((0, 5), np.int32)])
def test_both_ways_unpack_to_the_same(array: np.ndarray) -> None:
    for small in (False, True):
        np.testing.assert_array_equal(unpack(pack(array, small=small)), array, strict=True)
    assert len(pack(array, small=True)) <= len(pack(array))


def test_what_neither_runs_nor_zlib_make_small_is_packed_by_xz() -> None:
    array = np.arange(300_000) * 7919 % 65537
    packed = pack(array, small=True)
    assert packed.startswith(b"\xfd7zXZ") and 2 * len(packed) < len(zlib.compress(array.tobytes(), 9))
    np.testing.assert_array_equal(unpack(packed), array, strict=True)
