"""Recompute everything that is kept: what is stored, what lies in run folders, checkpoints and feature tables, what is left over.

Nothing is changed here; ``repair`` does that with what was found.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sqlalchemy import Connection

from harness import benchmarks
from harness.errors import FsbenchError
from harness.evaluation import feature_files
from harness.jobs.batches import FOLDER, Batch
from harness.keeping.findings import Finding
from harness.runs import FIT_SHA256, FitSpec, RunResult, RunSpec, folders
from harness.runs.agreement import differs_from_ours, find_problems
from harness.runs.request import command
from harness.runs.schema import FIT, find_problem
from harness.store import Store
from harness.store.connection import read_transaction
from harness.store.soundness import (
    count_rows,
    file_problems,
    is_damaged,
    look_at_lists,
    look_at_rows,
    lost_rows,
)
from harness.system.files import state
from harness.system.folders import Places
from harness.system.locks import is_claimed
from harness.system.progress import Progress, Silent, stage
from harness.system.secrets import without_credentials

ANEW = "the next run that needs it makes it again"
_RUN_ID = re.compile(r"[0-9a-f]{12}")
_ASIDE = re.compile(r"\.(?P<name>.+)\.(?:[^/]*-)?(?P<pid>\d+)(?P<kind>\.new|\.old|)")
_AGE_OF_LEFTOVERS = 24 * 3600.0  # seconds after which another machine's process is not waited for


@dataclass
class Known:
    """What is known of runs, gathered on the way.

    Attributes:
        specs: by run id, from the database, run folders and jobs.
        sound: ids of the runs whose row in the database is what was stored.
        fits: by fit key, a run that is built on it; None where no run of its own is known.
        is_shared: whether other machines work in this home, as jobs of SLURM do.
    """

    specs: dict[str, RunSpec] = field(default_factory=dict)
    sound: set[str] = field(default_factory=set)
    fits: dict[str, RunSpec | None] = field(default_factory=dict)
    is_shared: bool = False

    def add(self, spec: RunSpec) -> None:
        """Learn of a run."""
        self.specs[spec.id] = spec
        self.fits[spec.fit_key] = spec
        self.add_required(spec)

    def add_required(self, fit: FitSpec) -> None:
        """Learn of the fits that one is built on, and of theirs."""
        for need in fit.required.values():
            self.fits.setdefault(need.fit_key, None)
            self.add_required(need)


def check(places: Places, progress: Progress | None = None) -> list[Finding]:
    """Look at everything; the database first, since it says what the rest belongs to.

    Args:
        places: the home, the cache and the database.
        progress: told how far it is.
    """
    known, progress = Known(), progress or Silent()
    found = list(_database(places, known, progress))
    complete = _run_folders(places.runs)
    fits, tables = _subfolders(places.cache / "fits"), _subfolders(places.cache / "features")
    with stage(progress, "check", len(complete) + len(fits) + len(tables), "folders") as shown:
        for kind, things in ((_run_folder, complete), (_fit, fits), (_table, tables)):
            if kind is _fit:
                found += _jobs(places, known)
            for folder in things:
                found += kind(folder, places, known)
                shown.advance(1, folder.name)
    return [*found, *_leftovers(places, known)]


def quick(places: Places) -> list[Finding]:
    """Look at the database alone, at counts and not at predictions."""
    return list(_database(places, Known(), Silent(), is_quick=True))


def _database(
    places: Places, known: Known, progress: Progress, *, is_quick: bool = False
) -> Iterator[Finding]:
    if not places.has_database:
        return
    path = None if "://" in places.db else Path(places.db)
    name, root = without_credentials(places.db), path.parent if path else None
    if path is not None and is_damaged(path):
        yield Finding(
            "rotten", "database", name, "SQLite cannot read all of it", "fsbench collect", path, root
        )
        return
    try:
        with Store.open(places.db) as store, read_transaction(store.engine) as connection:
            problems = file_problems(connection, is_quick=is_quick)
            if problems:
                told = "; ".join(problems[:5])
                yield Finding("rotten", "database", name, told, "fsbench collect", path, root)
                return
            yield from _records(connection, places, known, progress, is_quick=is_quick)
    except FsbenchError as error:  # somebody else's, newer, or not readable for us: it stays where it is
        yield Finding("rotten", "database", name, str(error))


def _records(
    connection: Connection, places: Places, known: Known, progress: Progress, *, is_quick: bool
) -> Iterator[Finding]:
    """Lists, then rows, then what belongs to neither."""
    rotten_lists = []
    for digest, setting, problem in () if is_quick else look_at_lists(connection):
        if problem:
            rotten_lists.append(digest)
            name = f"{setting} ({digest[:12]})"
            yield Finding("rotten", "list", name, problem, "fsbench collect", key=digest)
    with stage(progress, "check", count_rows(connection), "rows") as shown:
        for row in look_at_rows(connection, is_quick=is_quick, rotten_lists=rotten_lists):
            shown.advance(1, row.run_id)
            if row.spec and row.spec.id == row.run_id:
                known.add(row.spec)
            if row.problem:
                how = _again_of_row(places, row.run_id, row.spec)
                name = f"{row.run_id} ({row.replicate[:8]})"
                yield Finding("rotten", "row", name, row.problem, how, key=row.pk)
            else:
                known.sound.add(row.run_id)
    for told in lost_rows(connection):
        yield Finding("note", "row", without_credentials(places.db), f"{told}; nothing reads them")
    if not is_quick:
        yield from _lock(known)


def _lock(known: Known) -> Iterator[Finding]:
    """Compare the lists of the settings that have runs with the lock: as they are drawn here, and as the runs say."""
    locked = benchmarks.locked_digests()
    for setting in sorted({spec.setting for spec in known.specs.values()} & locked.keys()):
        try:
            benchmarks.load(setting).episodes.digest  # noqa: B018 -- drawing it compares
        except FsbenchError as error:
            yield Finding("rotten", "lock", setting, str(error), "fsbench episodes --check")
        others = [
            spec.id
            for spec in known.specs.values()
            if spec.setting == setting and spec.episode_digest != locked[setting]
        ]
        if others:
            told = f"{len(others)} runs have other episodes than the locked list: {', '.join(sorted(others)[:5])}"
            yield Finding("note", "lock", setting, told, command(known.specs[min(others)]))


def _run_folder(folder: Path, places: Places, known: Known) -> Iterator[Finding]:
    """A folder of ``runs/``: its digest, its id, and what it says twice."""
    try:
        result = RunResult.load(folder)
        wrong_name = [] if folder.name == result.spec.id else [f"it holds the run {result.spec.id}"]
        problems = [*wrong_name, *find_problems(result), *filter(None, [differs_from_ours(result)])]
        if not wrong_name:
            known.add(result.spec)
    except FsbenchError as error:
        problems = [str(error)]
    if problems:
        again = _again(folder, known)
        yield Finding("rotten", "run folder", folder.name, "; ".join(problems), again, folder, places.home)
    yield from _secret(folder, places)


def _again(folder: Path, known: Known) -> str:
    """How a run whose folder is rotten comes back."""
    if folder.name in known.sound:
        return f"fsbench show {folder.name}"  # nothing is lost: the database has it
    spec = known.specs.get(folder.name) or _spec_in(folder)
    return command(spec) if spec else "fsbench run with the words that the run was made with"


def _again_of_row(places: Places, run_id: str, spec: RunSpec | None) -> str:
    """How a row that is rotten comes back: from its folder, else by running again."""
    for name in dict.fromkeys([run_id, *([spec.id] if spec else [])]):
        with suppress(FsbenchError):
            if _RUN_ID.fullmatch(name) and RunResult.load(places.runs / name).spec.id == name:
                return "fsbench collect"
    return command(spec) if spec else "fsbench run with the words that the run was made with"


def _spec_in(folder: Path) -> RunSpec | None:
    """The specification of a rotten run folder, where that much of it can be believed."""
    try:
        spec = RunSpec.from_json(json.loads((folder / "run.json").read_text())["spec"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, FsbenchError):
        return None
    return spec if spec.id == folder.name else None


def _secret(folder: Path, places: Places) -> Iterator[Finding]:
    path = folder / folders.COLLECTED
    try:
        text = path.read_text()
    except (OSError, ValueError):
        return
    if without_credentials(text) != text:
        told = "an earlier version wrote the address of the database with its password; change that password"
        yield Finding(
            "rotten", "secret", f"{folder.name}/{path.name}", told, "fsbench fsck --repair", path, places.home
        )


def _fit(folder: Path, places: Places, known: Known) -> Iterator[Finding]:
    """A checkpoint: its record, and the sha256 of the weights that the record has."""
    from harness.training.checkpoints import check_whole

    name, weights = folder.name, folder / "fit.pt"
    if is_claimed(folder / "lock"):
        yield Finding("note", "checkpoint", name, "a process is at it, so it was not looked at")
        return
    yield from _of_no_run("checkpoint", name, name, known)
    if not (folder / "fit.json").exists():
        return  # a training that has not ended
    spec = known.fits.get(name)
    again = f"{command(spec)} --force" if spec else ANEW
    try:
        record = json.loads((folder / "fit.json").read_text())
        problem = find_problem(FIT, record, "fit.json")
        sha256 = "" if problem else str(record.get(FIT_SHA256, ""))
        if not problem and (sha256 or weights.exists()):
            check_whole(weights, sha256)
    except (OSError, ValueError, RecursionError) as error:
        problem, sha256 = str(error), ""
    if problem:
        yield Finding("rotten", "checkpoint", name, problem, again, folder, places.cache)
    elif weights.exists() and not sha256:
        told = "not vouched for: an earlier version wrote it, without a digest"
        yield Finding("note", "checkpoint", name, told, again)


def _table(folder: Path, places: Places, known: Known) -> Iterator[Finding]:
    """A feature table: every row that is there against its checksum."""
    if not feature_files.is_table(folder):
        return  # killed while it was made: whoever comes next makes it
    of = feature_files.made_of(folder)
    key, name = str(of.get("fit", "")), folder.name
    name = f"{name} of fit {key}" if key else name
    if not feature_files.has_checksums(folder):
        yield Finding(
            "note",
            "feature table",
            name,
            "not vouched for: an earlier version wrote it, without checksums",
            ANEW,
        )
        return
    if key:
        yield from _of_no_run("feature table", name, key, known)
    try:
        table = feature_files.FeatureFiles.open(folder, is_writable=False)
        table.check(np.arange(len(table.done)))
    except (feature_files.RottenTableError, OSError) as error:
        spec = known.fits.get(key)
        again = f"{command(spec)} --force" if spec else ANEW
        yield Finding("rotten", "feature table", name, f"it {error}", again, folder, places.cache)


def _of_no_run(kind: str, name: str, fit_key: str, known: Known) -> Iterator[Finding]:
    """A cache may serve several homes, so that what no run of this one needs is told and left."""
    if fit_key not in known.fits:
        told = "no run of this home needs it; another home that shares the cache may"
        yield Finding("note", "checkpoint" if kind == "checkpoint" else "feature table", name, told)


def _jobs(places: Places, known: Known) -> Iterator[Finding]:
    """What was given to jobs, and what was tried: runs and fits of this home too."""
    for path in sorted((places.runs / FOLDER).glob("*/batch.json")):
        try:
            batch = Batch(path.parent, json.loads(path.read_text())["executor"])
            groups = [batch.group(number) for number in batch.numbers]
        except (FsbenchError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            again = "fsbench run with the words that its runs were made with"
            yield Finding(
                "rotten",
                "jobs",
                path.parent.name,
                f"it cannot be read ({error})",
                again,
                path.parent,
                places.home,
            )
            continue
        known.is_shared |= batch.executor == "slurm"
        for group in groups:
            for spec in group.specs:
                known.add(spec)
            for fit in group.fits:
                known.fits.setdefault(fit.fit_key, None)
                known.add_required(fit)
    if places.has_database:
        with suppress(FsbenchError), Store.open(places.db) as store:  # else it is among the findings already
            for trial in store.trials():
                known.fits.setdefault(trial.spec.fit_key, None)


def _leftovers(places: Places, known: Known) -> Iterator[Finding]:
    """What was killed before it had its name, or after it had lost it."""
    for partial in sorted(places.runs.glob(".partial-*")):
        run_id = partial.name.removeprefix(".partial-")
        if any(is_claimed(lock) for lock in partial.glob("lock-*")):
            continue
        if folders.is_done(places.runs, run_id):
            told = "the run has ended; this was left of it"
            yield Finding("left over", "unfinished run", run_id, told, "", partial, places.home)
        else:
            spec = known.specs.get(run_id)
            again = command(spec) if spec else "fsbench run with the words that the run was made with"
            yield Finding(
                "note", "unfinished run", run_id, "its work is saved, and the command goes on with it", again
            )
    reports = places.home.glob(f".{places.reports.name}.*")  # nothing else of a user's folder is ours
    beside = [(places.home, path) for path in (*places.runs.glob(".*"), *reports)]
    kept = [(places.cache, p) for name in ("fits", "features") for p in (places.cache / name).glob("*/.*")]
    for root, path in sorted(beside + kept):
        match = _ASIDE.fullmatch(path.name)
        if match and not _may_be_at_it(path, int(match["pid"]), match["name"], places, known):
            yield _aside(root, path, match)


def _aside(root: Path, path: Path, match: re.Match[str]) -> Finding:
    target = path.with_name(match["name"])
    if match["kind"] == ".old" and not target.exists():
        told = f"{target} was being replaced; this is what it was"
        return Finding("left over", "swap", path.name, told, "fsbench fsck --repair", path, root)
    return Finding("left over", "temporary", path.name, "whoever wrote it was killed", "", path, root)


def _may_be_at_it(path: Path, pid: int, name: str, places: Places, known: Known) -> bool:
    """Whether the process that wrote it may live: here by its number, elsewhere by the run's locks and its age."""
    if any(is_claimed(lock) for lock in folders.partial_folder(places.runs, name).glob("lock-*")):
        return True
    if is_claimed(path.parent / "lock"):
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        found = state(path)  # None: whoever wrote it has just ended
        return not found or (time.time() - found.st_mtime < _AGE_OF_LEFTOVERS and known.is_shared)
    except PermissionError:
        return True
    return pid != os.getpid()


def _run_folders(runs: Path) -> list[Path]:
    found: Iterable[Path] = runs.iterdir() if runs.is_dir() else ()
    return sorted(path for path in found if _RUN_ID.fullmatch(path.name) and path.is_dir())


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
