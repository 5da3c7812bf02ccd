"""Move aside what ``fsck`` found rotten or left over; nothing is deleted, and killed at any moment nothing is lost.

Every step is one rename, or one file that is written before the row that it holds is taken away.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.errors import FsbenchError, StoreError
from harness.keeping.findings import Finding
from harness.runs import RunResult
from harness.store import Store
from harness.store.connection import read_transaction, write_transaction
from harness.store.soundness import take_away, take_list_away, write_out, write_out_list
from harness.system.files import recover_folder, save_text
from harness.system.folders import Places
from harness.system.quarantine import QUARANTINE, free_name, set_aside
from harness.system.secrets import without_credentials


class Repaired(NamedTuple):
    """What became of a finding: what was done in words, and whether it is out of the way now."""

    finding: Finding
    done: str
    is_mended: bool = True


def repair(findings: Sequence[Finding], places: Places) -> Iterator[Repaired]:
    """Move aside what is rotten or left over; the database first, so that rows come back from folders that are sound.

    Yields:
        One a finding that is no note.

    Raises:
        StoreError: when something cannot be moved; what came before it is.
    """
    for finding in findings:
        if finding.level != "note":
            yield _mend(finding, places)


def _mend(finding: Finding, places: Places) -> Repaired:
    path = finding.path
    if finding.kind == "lock":
        return Repaired(
            finding, "an update of fsbench or of its benchmarks/ folder mends it", is_mended=False
        )
    if finding.kind == "row":
        return Repaired(finding, _take_row(finding, places))
    if finding.kind == "list":
        return Repaired(finding, _take_list(finding, places))
    if path is None or finding.root is None:
        return Repaired(
            finding, "nothing: the server of the database has to be looked after", is_mended=False
        )
    if finding.kind == "secret":
        save_text(path, without_credentials(path.read_text()))
        return Repaired(finding, "the password was taken out")
    if finding.kind == "swap":
        recover_folder(path.with_name(path.name[1:].rsplit(".", 2)[0]))
        return Repaired(finding, "it was put back")
    if finding.kind == "database":
        _move_journal(path, finding.root)
    return Repaired(finding, f"moved to {set_aside(path, finding.root)}")


def _move_journal(path: Path, root: Path) -> None:
    """A journal belongs to its database: beside another one it would undo what it knows nothing of."""
    for ending in ("-journal", "-wal", "-shm"):
        journal = path.with_name(path.name + ending)
        if journal.exists():
            set_aside(journal, root)


def _take_row(finding: Finding, places: Places) -> str:
    assert isinstance(finding.key, int)
    with Store.open(places.db) as store:
        with read_transaction(store.engine) as connection:
            written = write_out(connection, finding.key)
        [row] = written["run"]
        place = _keep(places, "rows", f"{row['id']}-{str(row['replicate'])[:12]}", written)
        with write_transaction(store.engine) as connection:
            take_away(connection, finding.key)
        return f"written to {place}{_bring_back(store, places.runs / str(row['id']))}"


def _bring_back(store: Store, folder: Path) -> str:
    """Store the run anew from its folder, where that is sound."""
    try:
        store.ingest(RunResult.load(folder))
    except FsbenchError:
        return ""
    return f", and stored again from {folder}"


def _take_list(finding: Finding, places: Places) -> str:
    assert isinstance(finding.key, str)
    with Store.open(places.db) as store:
        with read_transaction(store.engine) as connection:
            written = write_out_list(connection, finding.key)
        place = _keep(places, "lists", finding.key[:12], written)
        with write_transaction(store.engine) as connection:
            take_list_away(connection, finding.key)
    return f"written to {place}"


def _keep(places: Places, kind: str, name: str, content: object) -> Path:
    place = free_name(places.home / QUARANTINE / kind / f"{Path(name).name}.json")
    try:
        save_text(place, json.dumps(content, indent=1))
    except OSError as error:
        raise StoreError(
            f"{place} could not be written: {error.strerror or error}. The database is as it was. Free some space, then type "
            "the same command again."
        ) from error
    return place
