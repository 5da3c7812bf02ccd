"""Runs on their way between labs: one archive of run folders, and with them the checkpoints behind them."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness import benchmarks
from harness.errors import ConfigError
from harness.exchange import archive
from harness.exchange.archive import damaged
from harness.runs import SELF_REPORTED, RunResult, folders
from harness.system.files import aside
from harness.system.folders import Places
from harness.training.checkpoints import IMPORTED

if TYPE_CHECKING:
    from harness.store import Store

_PARTS = ("classes", "support", "query")
_RUN_FILES, _FIT_FILES = ("run.json", "result.npz", "log.txt"), ("fit.pt", "fit.json")
_MEMBER = re.compile(
    r"runs/[0-9a-f]{12}-[0-9a-f]{12}/(run\.json|result\.npz|log\.txt)|fits/[0-9a-f]{12}/fit\.(pt|json)"
)


@dataclass(frozen=True)
class Exported:
    """What an export wrote: runs (replicates counted), fits, and those runs whose fit is not in the cache."""

    n_runs: int
    n_fits: int
    without_fit: tuple[str, ...]


def export(
    store: Store, places: Places, run_ids: Sequence[str], bundle: Path, *, with_fits: bool
) -> Exported:
    """Write runs into one archive; equal runs give equal archives.

    Args:
        store: the database that has them.
        places: where run folders and checkpoints are.
        run_ids: whole ids; every replicate of each goes along.
        bundle: ``NAME.tar.zst`` or ``NAME.tar.gz``.
        with_fits: also the checkpoints, where the cache has them.

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
                folder = _folder(store, places, run.pk, run.id, replicate, Path(scratch) / replicate)
                files |= _present(folder, f"runs/{run.id}-{replicate[:12]}", _RUN_FILES)
                fits.setdefault(run.spec.fit_key, []).append(run.id)
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

    What is here already stays as it is: taking in twice changes nothing.

    Returns:
        How many runs were "new", "known", "replicate" or "replaced", and how many fits were "new fit" or "known fit".

    Raises:
        StoreError: when the archive is damaged or holds anything else; nothing of it is taken then.
    """
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        archive.extract(bundle, scratch, _MEMBER)
        found = sorted((scratch / "runs").glob("*"))
        results = [(folder, RunResult.load(folder)) for folder in found]
        for folder, result in results:
            _refuse_false(bundle, folder, result)
        for folder, result in results:
            reported = replace(result, provenance={**result.provenance, SELF_REPORTED: True})
            outcomes[store.ingest(reported)] += 1
            if folders.outcome(places.runs, result.spec.id) is None:
                folders.mark_collected(reported.save(places.runs, folder / "log.txt"), places.db)
        for folder in sorted((scratch / "fits").glob("*")):
            outcomes[_keep_fit(folder, places.cache / "fits" / folder.name, bundle)] += 1
    return outcomes


def _folder(store: Store, places: Places, pk: int, run_id: str, replicate: str, scratch: Path) -> Path:
    """The folder of a result; made from the database where runs/ has none with these counts."""
    header = folders.outcome(places.runs, run_id)
    if header is not None and header.get("digest") == replicate:
        return places.runs / run_id
    return store.result(pk).save(scratch)


def _present(folder: Path, name: str, files: Sequence[str]) -> dict[str, Path]:
    return {f"{name}/{file}": folder / file for file in files if (folder / file).is_file()}


def _refuse_false(bundle: Path, folder: Path, result: RunResult) -> None:
    """Refuse a run that is not what its name promises, or shows other episodes than its setting has."""
    name = f"runs/{folder.name}"
    if folder.name != f"{result.spec.id}-{result.digest[:12]}" or result.status != "done":
        raise damaged(bundle, f"`{name}` is not the result that its name promises")
    try:
        setting = benchmarks.load(result.spec.setting)
    except ConfigError:
        return  # a benchmark of theirs: nothing to compare with
    if result.episodes is None or setting.digest != result.spec.episode_digest:
        return
    if setting.benchmark.protocol == "episodic":
        ours = setting.episodes[: result.spec.n_episodes]
        if not all(np.array_equal(getattr(ours, part), getattr(result.episodes, part)) for part in _PARTS):
            raise damaged(bundle, f"`{name}` shows other episodes than {setting.name} has")


def _keep_fit(folder: Path, target: Path, bundle: Path) -> str:
    """Put a checkpoint into the cache unless one is there; its record says where it came from."""
    if (target / "fit.json").exists():
        return "known fit"
    record = json.loads((folder / "fit.json").read_text())
    (folder / "fit.json").write_text(json.dumps({**record, IMPORTED: bundle.name}))
    target.mkdir(parents=True, exist_ok=True)
    for name in _FIT_FILES:  # the record last: a fit is there when its record is
        if (folder / name).exists():
            with aside(target / name) as temporary:
                shutil.copyfile(folder / name, temporary)
    return "new fit"
