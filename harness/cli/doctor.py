"""``fsbench doctor``: is everything there that a run needs?"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from harness import benchmarks
from harness.cli import terminal
from harness.errors import FsbenchError
from harness.images.datasets import GENERATED, READERS, how_to_prepare
from harness.images.stores import PreparedSet
from harness.method import registry
from harness.system.folders import Places
from harness.system.imports import import_problems
from harness.system.secrets import without_credentials

Line = tuple[str, str, str]

PACKAGES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "scipy": "scipy",
    "pandas": "pandas",
    "sqlalchemy": "sqlalchemy",
    "submitit": "submitit",
    "opencv-python-headless": "cv2",
}
"""What every run needs → what is imported of it."""
EXTRAS = {"deepemd": {"numba": "numba", "POT": "ot"}, "qpth": {"qpth": "qpth"}}
"""Packages that single methods ask for, by their extra."""


def examine(where: Places) -> list[dict[str, str]]:
    """Look at packages, devices, disk, data, SLURM, methods and the database; what fails is a line, and the rest goes on.

    Returns:
        One {"level": "ok" | "missing" | "error", "what", "found"} per item.
    """
    parts: Mapping[str, Callable[[], Iterable[Line]]] = {
        "packages": _packages, "device": _device, "disk": lambda: _disk(where), "data": lambda: _data(where),
        "SLURM": _slurm, "methods": _methods, "benchmarks": _lists, "database": lambda: _database(where),
    }  # fmt: skip
    found = [line for what, part in parts.items() for line in _guarded(what, part)]
    return [{"level": level, "what": what, "found": without_credentials(text)} for level, what, text in found]


def show(rows: Sequence[dict[str, str]]) -> None:
    """Print it."""
    terminal.show_table(("", "what", "found"), [(r["level"], r["what"], r["found"]) for r in rows])


def _guarded(what: str, part: Callable[[], Iterable[Line]]) -> list[Line]:
    """The lines of a part, or what stopped it."""
    try:
        return list(part())
    except (FsbenchError, ImportError, OSError) as error:
        return [("error", what, str(error))]


def _packages() -> list[Line]:
    """Versions as they are installed, and what does not import all the same."""
    modules = {**PACKAGES, **{name: module for extra in EXTRAS.values() for name, module in extra.items()}}
    lines = [*_versions(), *(_extra(extra, list(names)) for extra, names in EXTRAS.items())]
    problems = import_problems([module for name, module in modules.items() if _is_installed(name)])
    names = {module: name for name, module in modules.items()}
    return [
        *lines,
        *(
            (
                "error",
                f"package {names[module]}",
                f"`import {module}` fails: {problem}. Type: pip install --force-reinstall {names[module]}",
            )
            for module, problem in problems.items()
        ),
    ]


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _versions() -> list[Line]:
    there, missing = [f"python {sys.version.split()[0]}"], []
    for name in PACKAGES:
        try:
            there.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    lines = [("ok", "packages", ", ".join(there))]
    return lines + ([("error", "packages", f"not installed: {', '.join(missing)}")] if missing else [])


def _extra(extra: str, names: Sequence[str]) -> Line:
    try:
        found = ", ".join(f"{name} {version(name)}" for name in names)
    except PackageNotFoundError:
        return "missing", f"extra {extra}", f"for what asks for it, type: pip install {' '.join(names)}"
    return "ok", f"extra {extra}", found


def _device() -> Iterator[Line]:
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        yield "ok", "device", f"CUDA: {names}"
    else:
        yield "ok", "device", f"CPU, {torch.get_num_threads()} threads (this torch sees no CUDA device)"


def _disk(where: Places) -> list[Line]:
    lines = []
    for name, folder in (("home", where.home), ("data", where.data), ("cache", where.cache)):
        there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        free = shutil.disk_usage(there).free / 1e9
        lines.append(("ok" if free > 1 else "error", name, f"{folder.absolute()}, {free:,.1f} GB free"))
    return lines


def _data(where: Places) -> list[Line]:
    lines: list[Line] = []
    for dataset in READERS:
        try:
            prepared = PreparedSet.open(where.data / dataset)
        except FsbenchError:
            lines.append(
                ("ok", f"data: {dataset}", "drawn on first use")
                if dataset in GENERATED
                else ("missing", f"data: {dataset}", how_to_prepare(dataset))
            )
            continue
        manifest = prepared.manifest
        lines.append(
            (
                "ok",
                f"data: {dataset}",
                f"{len(prepared.class_names)} classes, {manifest.n_images:,} images, {manifest.population}",
            )
        )
    return lines


def _slurm() -> list[Line]:
    if shutil.which("sbatch") is None:
        return [("missing", "SLURM", "no sbatch on this machine; runs go inline")]
    try:
        answer = subprocess.run(
            ["sinfo", "--noheader", "--format=%P %a %D"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [("error", "SLURM", f"sinfo does not answer: {error}")]
    if answer.returncode:
        said = (answer.stderr.strip() or "no reason given").splitlines()[0]
        return [("error", "SLURM", f"sbatch is here, but sinfo fails ({said}); is slurmctld running?")]
    return [("ok", "SLURM", "; ".join(answer.stdout.split("\n")).strip("; "))]


def _methods() -> list[Line]:
    lines: list[Line] = []
    for name in registry.installed():
        try:
            registry.load(name)
        except FsbenchError as error:
            lines.append(("error", f"method: {name}", str(error)))
    return lines or [("ok", "methods", ", ".join(sorted(registry.installed())))]


def _lists() -> Iterator[Line]:
    yield (
        "ok",
        "benchmarks",
        f"{len(benchmarks.every())} benchmarks, {len(benchmarks.locked_digests())} locked episode lists",
    )


def _database(where: Places) -> Iterator[Line]:
    """The quick part of `fsbench fsck`: pages, and whether counts are those of their digests."""
    from harness.keeping import fsck
    from harness.store import Store

    if not where.has_database:
        yield "missing", "database", f"{where.db} is not there yet; the first run makes it"
        return
    found = fsck.quick(where)
    for finding in found:
        if finding.level != "note":
            yield (
                "error",
                f"{finding.kind} {finding.name}",
                f"{finding.problem} (`fsbench fsck` looks at everything)",
            )
    if not any(finding.kind == "database" for finding in found):
        with Store.open(where.db) as store:
            level = "error" if found else "ok"
            yield level, "database", f"{where.db}, {len(store.column('id')):,} runs"
