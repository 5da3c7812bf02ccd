"""The folder of a report: when it is up to date, and how a new one takes its place whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple

from harness import benchmarks
from harness.errors import StoreError
from harness.store import Store, StoredRun
from harness.system.files import replaced_folder, state

MANIFEST = "report.json"
_HARNESS = Path(__file__).resolve().parent.parent
_OWN = (".py", ".j2", ".css", ".js")
_DRAWN_BY = ("matplotlib", "jinja2", "numpy", "scipy")


def own_digest() -> str:
    """sha256 over our files that decide what is written, and the packages that draw."""
    digest = hashlib.sha256(json.dumps({name: version(name) for name in _DRAWN_BY}).encode())
    for path in _sources():
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def run_digest(run: StoredRun) -> str:
    """sha256 over all that a page may say of a run."""
    said = [
        run.id, run.replicates, run.replicate, run.status, run.created, run.traceback, run.metrics,
        run.spec.to_json(), dict(run.provenance), [dict(point) for point in run.curves], run.self_reported, run.rechecks,
        run.pictures,
    ]  # fmt: skip
    return digest_of(said)


def digest_of(said: Any) -> str:
    """sha256 of JSON types."""
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def found_digest(store: Store) -> str:
    """sha256 over what is stored beside runs: trials and hardness."""
    tried = sorted((*family, sorted(configs)) for family, configs in store.tried().items())
    digest = hashlib.sha256(json.dumps(tried).encode())
    for measured in store.every_hardness():
        said = [measured.episode_digest, measured.novel_digest, dict(measured.extractor)]
        digest.update(json.dumps(said).encode() + measured.omega.tobytes())
    return digest.hexdigest()


def fingerprint(store: Store, runs: Iterable[str], settings: Sequence[str] | None) -> str:
    """sha256 over everything a report is made from: digests of runs, trials, hardness, what was asked, our files, what draws."""
    return digest_of([settings, own_digest(), found_digest(store), list(runs)])


def is_current(target: Path, digest: str) -> bool:
    """Whether the folder holds the whole report of this fingerprint."""
    listed = _manifest(target)
    return listed.fingerprint == digest and all(
        (found := state(target / name)) and S_ISREG(found.st_mode) and found.st_size == size
        for name, size in listed.files.items()
    )


def made_fingerprint(target: Path) -> str:
    """What the report of a folder was made from; empty where there is none."""
    return _manifest(target).fingerprint


def taken_over(old: Path, new: Path, name: str, size: int) -> bool:
    """Take a file of the last build over, whole; whether that was possible."""
    try:
        if (old / name).stat().st_size != size:
            return False
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(old / name, new / name)
        return True
    except OSError:
        return False


def sizes(target: Path) -> Mapping[str, int]:
    """The files of the last build of a folder, and how long they are."""
    return _manifest(target).files


def remembered(target: Path) -> Mapping[str, Any]:
    """What the last build of a folder left for the next one; empty where there was none."""
    return _manifest(target).remembered


@contextmanager
def replaced(target: Path, digest: str, left: Mapping[str, Any]) -> Iterator[Path]:
    """Give an empty folder to write to; it becomes ``target`` when the block ends well, and vanishes otherwise.

    Args:
        target: the folder of the report.
        digest: what it is made from.
        left: JSON types for the next build, read when the block ends.

    Raises:
        StoreError: when ``target`` holds anything but a report, or cannot be written; it then stays as it was.
    """
    target = target.resolve()
    try:
        _refuse_foreign(target)
        with replaced_folder(target) as aside:
            yield aside
            _write_manifest(aside, digest, left)
    except OSError as error:
        raise StoreError(
            f"The report could not be written to {target}: {error.strerror or error}. What was there stays. "
            "Choose another folder with --output."
        ) from error


def _sources() -> list[Path]:
    """Files of ours that decide what is written."""
    own = [p for folder in ("report", "stats") for p in (_HARNESS / folder).rglob("*") if p.suffix in _OWN]
    data = [p for p in benchmarks.FOLDER.iterdir() if p.suffix in (".toml", ".csv", ".lock")]
    return sorted(p for p in (*own, *data) if p.is_file())


class _Manifest(NamedTuple):
    """What a folder says it is: fingerprint, size by file, what is left for the next; all empty where there is no report."""

    fingerprint: str
    files: dict[str, int]
    remembered: dict[str, Any]


def _manifest(target: Path) -> _Manifest:
    try:
        listed = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
        return _Manifest(
            str(listed["fingerprint"]), dict(listed["files"]), dict(listed.get("remembered", {}))
        )
    except (OSError, ValueError, KeyError, TypeError):
        return _Manifest("", {}, {})


def _write_manifest(folder: Path, digest: str, left: Mapping[str, Any]) -> None:
    files = {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
    said = {"fingerprint": digest, "files": files, "remembered": left}
    (folder / MANIFEST).write_text(json.dumps(said, indent=0) + "\n", encoding="utf-8")


def _refuse_foreign(target: Path) -> None:
    """Refuse to replace what is not a report; hidden files, such as .gitkeep, do not count."""
    if not target.exists():
        return
    if not target.is_dir():
        raise StoreError(f"{target} is a file. Choose a folder with --output.")
    known = {*_manifest(target).files, MANIFEST}
    found = (p.relative_to(target) for p in target.rglob("*") if p.is_file() and not p.name.startswith("."))
    foreign = sorted(str(p) for p in found if str(p) not in known)
    if foreign:
        raise StoreError(
            f"{target} holds {len(foreign)} files that no report made ({', '.join(foreign[:3])}{', …' if foreign[3:] else ''}). "
            "A report replaces its folder, so nothing was written. Move them away, or choose another folder with --output."
        )
