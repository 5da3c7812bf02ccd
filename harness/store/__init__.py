"""The database of results: ``Store.open("results.db")`` is all that the outside needs."""

from harness.store.store import Store, StoredRun

__all__ = ["Store", "StoredRun"]
