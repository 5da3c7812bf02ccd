"""The database of results: ``Store.open("results.db")`` is all that the outside needs."""

from harness.store.hardness import Hardness
from harness.store.rechecks import Recheck
from harness.store.store import Store, StoredRun
from harness.store.trials import Trial

__all__ = ["Hardness", "Recheck", "Store", "StoredRun", "Trial"]
