"""The database of results: ``Store.open("results.db")`` is all that the outside needs.

Only this room speaks SQL; nothing is computed, judged or shown here.
"""

from harness.runs.findings import Hardness, Recheck, StoredRun, Trial
from harness.store.store import Store

__all__ = ["Hardness", "Recheck", "Store", "StoredRun", "Trial"]
