"""Runs on their way between labs: one archive of run folders, and with them the checkpoints behind them."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import RecordError, visible
from harness.exchange import archive
from harness.exchange.archive import damaged
from harness.runs import FIT_SHA256, REPORTED_BY, SELF_REPORTED, RunResult, agreement, folders
from harness.runs.publishing import published_result
from harness.runs.schema import FIT, LARGEST_JSON
from harness.system.arrays import MOST_BYTES
from harness.system.files import aside
from harness.system.folders import Places
from harness.system.records import load_json
from harness.system.secrets import without_machine
from harness.training.checkpoints import IMPORTED, check_whole

if TYPE_CHECKING:
    from harness.runs.findings import StoredRun
    from harness.store import Store

_RUN_FILES, _FIT_FILES = ("run.json", "result.npz", "log.txt"), ("fit.pt", "fit.json")
_RUN, _FIT = "runs/[0-9a-f]{12}-[0-9a-f]{12}", "fits/[0-9a-f]{12}"
_ALLOWED = {
    re.compile(rf"{_RUN}/run\.json"): LARGEST_JSON,
    re.compile(rf"{_RUN}/result\.npz"): MOST_BYTES,
    re.compile(rf"{_RUN}/log\.txt"): 256 << 20,
    re.compile(rf"{_FIT}/fit\.json"): LARGEST_JSON,
    re.compile(rf"{_FIT}/fit\.pt"): 8 << 30,  # the most that a member of such an archive can have
}  # what may be in a bundle, and how many bytes of it


@dataclass(frozen=True)
class Exported:
    """What an export wrote: runs (replicates counted), fits, and those runs whose fit is not in the cache."""

    n_runs: int
    n_fits: int
    without_fit: tuple[str, ...]


def export(
    store: Store,
    places: Places,
    run_ids: Sequence[str],
    bundle: Path,
    *,
    with_fits: bool,
    with_host: bool = False,
) -> Exported:
    """Write runs into one archive; equal runs give equal archives.

    Args:
        store: the database that has them.
        places: where run folders and checkpoints are.
        run_ids: whole ids; every replicate of each goes along.
        bundle: ``NAME.tar.zst`` or ``NAME.tar.gz``.
        with_fits: also the checkpoints, where the cache has them.
        with_host: also the names and paths of the machines that made them.

    Raises:
        ConfigError: for another kind of archive.
        StoreError: when the archive cannot be written.
    """
    with tempfile.TemporaryDirectory() as scratch:
        files: dict[str, Path] = {}
        fits: dict[str, list[str]] = {}
        for run_id in run_ids:
            for replicate in store.run(run_id).replicates:
                run = store.run(run_id, replicate)
                name = f"{run.id}-{replicate[:12]}"  # runs of two ids may have equal counts
                folder = folder_of(store, places, run, Path(scratch) / name)
                folder = folder if with_host else published_folder(folder, Path(scratch) / "published" / name)
                files |= _present(folder, f"runs/{name}", _RUN_FILES)
                for fit in run.spec.read_from:
                    fits.setdefault(fit.fit_key, []).append(run.id)
        chosen = fits if with_fits else {}
        found = {key: _present(places.cache / "fits" / key, f"fits/{key}", _FIT_FILES) for key in chosen}
        whole = {key: part for key, part in found.items() if f"fits/{key}/fit.json" in part}
        files |= {name: path for part in whole.values() for name, path in part.items()}
        archive.write(bundle, files)
    lacking = sorted({run_id for key in set(chosen) - set(whole) for run_id in chosen[key]})
    return Exported(
        len({name.split("/")[1] for name in files if name.startswith("runs/")}), len(whole), tuple(lacking)
    )


def take_in(store: Store, places: Places, bundle: Path) -> Counter[str]:
    """Bring the runs of an archive into the database and ``runs/``, marked as reported by somebody else.

    What is here already stays as it is: taking in twice changes nothing. All of it is taken, or nothing.

    Returns:
        How many runs were "new", "known", "replicate" or "replaced", and how many fits were "new fit" or "known fit".

    Raises:
        StoreError: when the archive is damaged or holds anything else; nothing of it is taken then.
    """
    with tempfile.TemporaryDirectory() as name:
        archive.extract(bundle, Path(name), _ALLOWED)
        return take_folder(store, places, Path(name), bundle)


def take_folder(store: Store, places: Places, scratch: Path, source: Path) -> Counter[str]:
    """The same with what an archive had: ``runs/<id>-<digest>/`` and ``fits/<key>/``; ``source`` is named as who says so."""
    outcomes: Counter[str] = Counter()
    results = [(folder, checked(source, folder)) for folder in sorted((scratch / "runs").glob("*"))]
    keys = {fit.fit_key for _, result in results for fit in result.spec.read_from}
    fits = [_checked_fit(source, folder, keys) for folder in sorted((scratch / "fits").glob("*"))]
    with _all_or_nothing() as made:
        for fit in fits:
            outcomes[_keep_fit(fit, places.cache / "fits" / fit.name, source, made)] += 1
        reported = [_as_reported(result, source) for _, result in results]
        for (folder, _), result in zip(results, reported, strict=True):
            if folders.outcome(places.runs, result.spec.id) is None:
                made.append(places.runs / result.spec.id)
                result.save(places.runs, folder / "log.txt")
        outcomes.update({str(what): n for what, n in store.ingest_all(reported).items()})
    for folder in made:
        if folder.parent == places.runs:
            folders.mark_collected(folder, places.db)
    return outcomes


@contextmanager
def _all_or_nothing() -> Iterator[list[Path]]:
    """Gives a list of folders that were not there; they are removed again when the block fails."""
    made: list[Path] = []
    try:
        yield made
    except BaseException:
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def folder_of(store: Store, places: Places, run: StoredRun, scratch: Path) -> Path:
    """The folder of a result; made from the database where runs/ has none with these counts."""
    header = folders.outcome(places.runs, run.id)
    if header is not None and header.get("digest") == run.replicate:
        return places.runs / run.id
    return store.result(run.pk).save(scratch)


def published_folder(folder: Path, scratch: Path) -> Path:
    """A run folder without names and paths of the machine, its log included."""
    result, log = RunResult.load(folder), folder / "log.txt"
    shown = scratch / "log.txt"
    if log.is_file():
        scratch.mkdir(parents=True)
        host = str(result.provenance.get("host", ""))
        shown.write_text(without_machine(log.read_text(errors="replace"), host))
    return published_result(result).save(scratch, shown)


def _present(folder: Path, name: str, files: Sequence[str]) -> dict[str, Path]:
    return {f"{name}/{file}": folder / file for file in files if (folder / file).is_file()}


def checked(bundle: Path, folder: Path) -> RunResult:
    """Read a run of a bundle; refuse what is not what its name promises, or contradicts itself or its setting."""
    name = f"runs/{folder.name}"
    if missing := [file for file in _RUN_FILES[:2] if not (folder / file).is_file()]:
        raise damaged(bundle, f"`{name}` lacks {' and '.join(missing)}")
    try:
        result = RunResult.load(folder)
    except RecordError as error:
        raise damaged(
            bundle, str(error).replace(str(folder), f"`{name}`").partition(" Delete it")[0].rstrip(".")
        ) from error
    if folder.name != f"{result.spec.id}-{result.digest[:12]}" or result.status != "done":
        raise damaged(bundle, f"`{name}` is not the result that its name promises")
    problems = agreement.find_problems(result)
    if not problems:
        without = agreement.without_predictions(result)
        problems = [
            agreement.differs_from_ours(result),
            "" if result.episodes else "it does not say which episodes it was asked",
            f"it has no predictions of {', '.join(without)}, so nobody can count them" if without else "",
        ]
    if any(problems):
        raise damaged(bundle, f"`{name}`: {'; '.join(filter(None, problems))}")
    return result


def _as_reported(result: RunResult, bundle: Path) -> RunResult:
    """The result as somebody's word, whatever it says of its own origin."""
    told = {**result.provenance, SELF_REPORTED: True, REPORTED_BY: visible(bundle.name)[:300]}
    return replace(result, provenance=told).made_visible()


def _checked_fit(bundle: Path, folder: Path, keys: set[str]) -> Path:
    """Look at a checkpoint of a bundle: of one of its runs, whole, and with the record that belongs to it."""
    name = f"fits/{folder.name}"
    if folder.name not in keys:
        raise damaged(bundle, f"`{name}` is the checkpoint of none of its runs")
    try:
        with (folder / "fit.json").open("rb") as file:
            record = load_json(file.read(), LARGEST_JSON)
        FIT(record, "fit.json")
        if (folder / "fit.pt").exists():
            check_whole(folder / "fit.pt", record.get(FIT_SHA256, ""))
    except (OSError, ValueError) as error:
        raise damaged(bundle, f"`{name}` is no checkpoint ({error})") from error
    return folder


def _keep_fit(folder: Path, target: Path, bundle: Path, made: list[Path]) -> str:
    """Put a checkpoint into the cache unless one is there; its record says where it came from."""
    if (target / "fit.json").exists():
        return "known fit"
    if not target.exists():
        made.append(target)
    record = json.loads((folder / "fit.json").read_text())
    (folder / "fit.json").write_text(json.dumps({**record, IMPORTED: visible(bundle.name)[:300]}))
    target.mkdir(parents=True, exist_ok=True)
    for name in _FIT_FILES:  # the record last: a fit is there when its record is
        if (folder / name).exists():
            with aside(target / name) as temporary:
                shutil.copyfile(folder / name, temporary)
    return "new fit"
