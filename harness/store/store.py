"""The database of results, as the rest of fsbench sees it: SQLite file or PostgreSQL server, same behaviour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from sqlalchemy import Engine, select

from harness.runs import EpisodeTable, RunResult
from harness.runs.estimates import Past
from harness.runs.findings import Family, Hardness, Recheck, StoredRun, Trial
from harness.store import models, reading
from harness.store.compacting import compact
from harness.store.connection import name_of, read_transaction, sqlite_path, write_transaction
from harness.store.content import content_sha256
from harness.store.durations import read_durations
from harness.store.hardness import every_hardness, keep_hardness, read_hardness
from harness.store.ingest import Outcome, ingest_result
from harness.store.lists import read_list
from harness.store.merge import merge_all
from harness.store.migrations import open_engine
from harness.store.reading import Int64
from harness.store.rechecks import keep_recheck
from harness.store.shared import read_pictures
from harness.store.tombstones import Tombstone, delete_run, purge, read_tombstones, restore_run
from harness.store.trials import keep_trial, read_trials, read_tried
from harness.system.progress import Progress, Silent
from harness.system.provenance import utc_now

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Store", "StoredRun"]


class Store:
    """Runs, their counts per episode, and the episodes themselves.

    Every method is one transaction of its own. The methods that read raise StoreError when the database cannot be
    read, those that write when it cannot be written; what was stored before then stays as it was.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def open(cls, location: str | Path, *, create: bool = False) -> Store:
        """Open a database at the current schema version.

        Args:
            location: path of a SQLite file, or a URL such as ``postgresql+psycopg://user@host/database``.
            create: make an empty one where there is none.

        Raises:
            StoreError: when it is absent and ``create`` is false, is not a database of fsbench, or is of a newer
                version; it is left untouched.
        """
        return cls(open_engine(location, create=create))

    @property
    def location(self) -> str:
        """What ``open`` takes to open it again, in another process; of a server with its password."""
        path = sqlite_path(self.engine)
        return str(path) if path else self.engine.url.render_as_string(hide_password=False)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({name_of(self.engine)})"

    def close(self) -> None:
        """Let go of connections kept open."""
        self.engine.dispose()

    def ingest(self, result: RunResult) -> Outcome:
        """Store a result, once, however often it is given.

        Returns:
            "new"; "known" when it adds no counts; "replicate" when its id is stored with other counts, which are
            kept too; "replaced" when it takes the place of a failure.

        Raises:
            StoreError: when it contradicts itself or the stored episode list, or the database cannot be written.
        """
        with write_transaction(self.engine) as connection:
            return ingest_result(connection, result, utc_now())

    def ingest_all(self, results: Sequence[RunResult]) -> Counter[Outcome]:
        """Store several results in one transaction: all of them, or none; see ``ingest``."""
        with write_transaction(self.engine) as connection:
            return Counter(ingest_result(connection, result, utc_now()) for result in results)

    def merge(self, other: Store, origin: str = "") -> Counter[Outcome]:
        """Store everything of another database as self-reported; commutative, associative and idempotent.

        Args:
            other: the other database.
            origin: what to call it; its path or address by default.

        Returns:
            How many results had which outcome.

        Raises:
            StoreError: when the other database is damaged or contradicts this one; nothing is merged then.
        """
        with write_transaction(self.engine) as target:
            return merge_all(other.engine, target, origin or name_of(other.engine))

    def add_recheck(self, run_id: str, replicate: str, check: Recheck) -> None:
        """Keep what became of counting some episodes of a stored result again."""
        with write_transaction(self.engine) as connection:
            keep_recheck(connection, run_id, replicate, check)

    def add_trial(self, trial: Trial) -> None:
        """Keep a configuration tried on the validation classes; of two of one id, the one that finished last."""
        with write_transaction(self.engine) as connection:
            keep_trial(connection, trial)

    def trials(self) -> list[Trial]:
        """Every configuration that was tried, in the order of ids."""
        with read_transaction(self.engine) as connection:
            return read_trials(connection)

    def tried(self) -> dict[Family, set[str]]:
        """Family → the configurations (JSON texts) that were tried in it."""
        with read_transaction(self.engine) as connection:
            return read_tried(connection)

    def add_hardness(self, measured: Hardness, *, replace: bool = False) -> bool:
        """Keep the hardness of a list, and say whether it is what is stored now; see ``keep_hardness``."""
        with write_transaction(self.engine) as connection:
            return keep_hardness(connection, measured, replace=replace)

    def hardness(self, episode_digest: str, novel_digest: str) -> Hardness | None:
        """The hardness of a list over these images; None where none was measured."""
        with read_transaction(self.engine) as connection:
            return read_hardness(connection, episode_digest, novel_digest)

    def every_hardness(self) -> list[Hardness]:
        """The hardness of every list that has one."""
        with read_transaction(self.engine) as connection:
            return every_hardness(connection)

    def has(self, run_id: str) -> bool:
        """Whether a run is stored as done."""
        return bool(self.known_ids([run_id]))

    def known_ids(self, run_ids: Iterable[str]) -> set[str]:
        """Those of the given ids that are stored as done."""
        with read_transaction(self.engine) as connection:
            done = connection.scalars(select(models.run.c.id).where(models.run.c.status == "done"))
            return set(run_ids).intersection(done)

    def durations(self, methods: Collection[str]) -> list[Past]:
        """How long the done runs of the named methods took."""
        with read_transaction(self.engine) as connection:
            return read_durations(connection, methods)

    def runs(self, *, metrics: Sequence[str] = ("top1",), **filters: Any) -> pd.DataFrame:
        """One row per run and replicate.

        Args:
            metrics: a column each, the mean accuracy in [0, 1] over episodes; NaN where a run lacks it.
            **filters: column=value or column=[values], e.g. ``status="done", method=["protonet", "bml"]``.

        Returns:
            Columns pk, id, replicate, status, those of the spec, finished, created, then the metrics.

        Raises:
            StoreError: when a filter is not a column.
        """
        with read_transaction(self.engine) as connection:
            return reading.runs_frame(connection, metrics, filters)

    def column(self, name: Literal["id", "setting"], **filters: Any) -> list[str]:
        """One column of ``runs``, an entry per run and replicate, for who needs no frame.

        Raises:
            StoreError: when a filter is not a column.
        """
        with read_transaction(self.engine) as connection:
            return reading.run_column(connection, name, filters)

    def stored_runs(self, **filters: Any) -> list[StoredRun]:
        """Every run and replicate as ``run`` gives it, by setting, method, seed; filters as in ``runs``.

        Raises:
            StoreError: when a filter is not a column.
        """
        with read_transaction(self.engine) as connection:
            return reading.stored_runs(connection, filters)

    def deleted_runs(self) -> list[StoredRun]:
        """Every run and replicate that was deleted and not purged, as ``stored_runs`` gives the others."""
        with read_transaction(self.engine) as connection:
            return reading.stored_runs(connection, {}, deleted=True)

    def tombstones(self) -> list[Tombstone]:
        """When and why results were deleted, the oldest first."""
        with read_transaction(self.engine) as connection:
            return read_tombstones(connection)

    def delete_run(self, prefix: str, replicate: str = "", reason: str = "") -> list[Tombstone]:
        """Take a run out of everything that reads, all of its replicates or the one named; nothing of it is lost.

        Raises:
            ConfigError: when no run or several runs fit.
        """
        with write_transaction(self.engine) as connection:
            found = reading.find_run(connection, prefix, replicate)
            chosen = [found.replicate] if replicate else found.replicates
            return delete_run(connection, found.id, chosen, reason)

    def restore_run(self, prefix: str) -> list[Tombstone]:
        """Bring a deleted run back, all of its replicates.

        Raises:
            ConfigError: when no deleted run or several fit.
        """
        with write_transaction(self.engine) as connection:
            return restore_run(connection, prefix)

    def purge(self) -> list[Tombstone]:
        """Delete for good what was deleted, and say what it was."""
        with write_transaction(self.engine) as connection:
            return purge(connection)

    def compact(self, progress: Progress | None = None) -> None:
        """Make the file as small as it gets; what is stored stays the same."""
        compact(self.engine, progress or Silent())

    def run(self, prefix: str, replicate: str = "") -> StoredRun:
        """The run whose id starts with ``prefix``; of several replicates the first seen, or the one named.

        Raises:
            StoreError: when no run or several runs fit, saying which are near.
        """
        with read_transaction(self.engine) as connection:
            return reading.find_run(connection, prefix, replicate)

    def result(self, run_pk: int) -> RunResult:
        """A run put back together as its folder had it."""
        with read_transaction(self.engine) as connection:
            return reading.read_result(connection, run_pk)

    def counts(self, run_pk: int, metric: str = "top1") -> tuple[Int64, Int64]:
        """Correct predictions and queries per episode, (E,) int64 each, in the order of the list.

        Raises:
            StoreError: when the run has no such metric.
        """
        with read_transaction(self.engine) as connection:
            return reading.read_counts(connection, run_pk, metric)

    def accuracy_matrix(
        self, run_pks: Sequence[int], metric: str = "top1"
    ) -> tuple[list[str], npt.NDArray[np.float64]]:
        """Run ids and accuracies (R, E) in [0, 1] on the episodes that all of the runs share.

        Raises:
            StoreError: when the runs are of different episode lists, or one lacks the metric.
        """
        with read_transaction(self.engine) as connection:
            return reading.accuracy_matrix(connection, run_pks, metric)

    def predictions(self, run_pk: int, metric: str = "top1") -> npt.NDArray[np.unsignedinteger[Any]] | None:
        """Predicted label per query, (E, n_query) uint8 or uint16; None where the run kept none.

        Raises:
            RecordError: when what is stored is damaged.
        """
        with read_transaction(self.engine) as connection:
            return reading.read_predictions(connection, run_pk, metric)

    def pictures(self, run_pk: int) -> dict[str, str]:
        """The thumbnails of a run: base64 of a PNG by image row (as text); empty where it has none.

        Raises:
            RecordError: when what is stored is damaged.
        """
        with read_transaction(self.engine) as connection:
            return read_pictures(connection, run_pk)

    def episodes(self, run_ids: Collection[str]) -> pd.DataFrame:
        """One row per run, replicate, metric and episode: n_correct, n_query, accuracy."""
        with read_transaction(self.engine) as connection:
            return reading.episodes_frame(connection, run_ids)

    def episode_list(self, digest: str) -> EpisodeTable:
        """The stored prefix of a list: classes, images and class names.

        Raises:
            StoreError: when no stored run evaluated it.
        """
        with read_transaction(self.engine) as connection:
            return read_list(connection, digest)

    def class_names(self, digest: str) -> tuple[str, ...]:
        """Names of the novel classes of a list."""
        return self.episode_list(digest).class_names

    def content_digest(self, *, provenance: bool = True) -> str:
        """sha256 over everything stored, independent of keys, order and time of storing.

        Args:
            provenance: include what is recorded beside the identity (times, host, versions).
        """
        with read_transaction(self.engine) as connection:
            return content_sha256(connection, provenance=provenance)
