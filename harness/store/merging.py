"""Databases of several people in one: what each brings, and where two results of one run disagree."""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.errors import ConfigError, visible
from harness.runs import RunSpec
from harness.store import Store
from harness.store.connection import engine_for, name_of
from harness.store.migrations import VERSION, stored_version


@dataclass(frozen=True)
class Disagreement:
    """Two or more results under one run id.

    Attributes:
        spec: of the run.
        replicates: digest of each result's counts, the one seen first at the beginning.
        devices: what each was made on, as it was recorded.
        accuracies: mean of each, fractions; NaN where a result lacks the metric of the first.
        n_differing: episodes in which not all of them agree.
        metric: what is compared.
    """

    spec: RunSpec
    replicates: tuple[str, ...]
    devices: tuple[str, ...]
    accuracies: tuple[float, ...]
    n_differing: int
    metric: str


def merge(store: Store, locations: Sequence[str]) -> dict[str, Mapping[str, int]]:
    """Bring everything of other databases into one; each is taken whole or not at all, and none of them is changed.

    Args:
        store: what they are merged into.
        locations: paths or URLs.

    Returns:
        Location → how many results were "new", "known", "replicate" or "replaced".

    Raises:
        ConfigError: when a location is the database itself, or a file that is not there.
        StoreError: when one cannot be read, is damaged or contradicts what is stored.
    """
    for location in locations:
        if _is_same(store, location):
            raise ConfigError(f"{location} is the database that would be merged into; name others.")
        if "://" not in location and not Path(location).exists():
            raise ConfigError(f"There is no database {location}.")
    outcomes: dict[str, Mapping[str, int]] = {}
    for location in locations:
        with _opened(location) as other:
            origin = name_of(engine_for(location)) if "://" in location else Path(location).name
            outcomes[location] = {
                str(what): n for what, n in store.merge(other, visible(origin)[:300]).items()
            }
    return outcomes


def disagreements(store: Store) -> list[Disagreement]:
    """Every run of which several results are kept, in the order of ids."""
    counts = Counter(store.column("id", status="done"))
    return [_disagreement(store, run_id) for run_id, n in sorted(counts.items()) if n > 1]


def _disagreement(store: Store, run_id: str) -> Disagreement:
    first = store.run(run_id)
    runs = [store.run(run_id, replicate) for replicate in first.replicates]
    metric = first.metrics[0]
    comparable = [run for run in runs if metric in run.metrics]
    pairs = {run.replicate: store.counts(run.pk, metric) for run in comparable}
    right = np.stack([n_correct for n_correct, _ in pairs.values()])  # (R, E)
    means = {name: float((n[q > 0] / q[q > 0]).mean()) for name, (n, q) in pairs.items()}
    return Disagreement(
        spec=first.spec,
        replicates=first.replicates,
        devices=tuple(str(run.provenance.get("device", "")) for run in runs),
        accuracies=tuple(means.get(run.replicate, float("nan")) for run in runs),
        n_differing=int((right != right[0]).any(axis=0).sum()),
        metric=metric,
    )


def _is_same(store: Store, location: str) -> bool:
    if "://" in location:
        return str(store.engine.url.render_as_string(hide_password=False)) == location
    mine = store.engine.url.database
    return store.engine.dialect.name == "sqlite" and Path(mine or "").resolve() == Path(location).resolve()


@contextmanager
def _opened(location: str) -> Iterator[Store]:
    """Open a database to read from; a file of an older version is lifted as a copy, never where it lies."""
    with tempfile.TemporaryDirectory() as scratch:
        place = location
        if "://" not in location and 0 < stored_version(location) < VERSION:
            place = str(Path(scratch) / "results.db")
            with (
                closing(sqlite3.connect(f"{Path(location).absolute().as_uri()}?mode=ro", uri=True)) as old,
                closing(sqlite3.connect(place)) as copy,
            ):
                old.backup(copy)
        with Store.open(place) as other:
            yield other
