"""``fsbench doctor``: is everything there that a run needs?"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness import benchmarks
from harness.cli import tables
from harness.errors import FsbenchError
from harness.images.datasets import GENERATED, READERS, how_to_prepare
from harness.images.stores import PreparedSet
from harness.method import registry
from harness.system.folders import Places

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "pandas",
    "sqlalchemy",
    "submitit",
    "opencv-python-headless",
)
EXTRAS = {"deepemd": ("numba", "POT"), "qpth": ("qpth",)}
"""Packages that single methods ask for, by their extra."""


def examine(where: Places) -> list[dict[str, str]]:
    """Look at packages, devices, disk, data, SLURM, methods and the database.

    Returns:
        One {"level": "ok" | "missing" | "error", "what", "found"} per item.
    """
    found = [
        *_packages(),
        _device(),
        *_disk(where),
        *_data(where),
        _slurm(),
        *_methods(),
        _lists(),
        _database(where),
    ]
    return [{"level": level, "what": what, "found": text} for level, what, text in found]


def show(rows: Sequence[dict[str, str]]) -> None:
    """Print it."""
    tables.show_table(("", "what", "found"), [(r["level"], r["what"], r["found"]) for r in rows])


Line = tuple[str, str, str]


def _packages() -> list[Line]:
    there, missing = [f"python {sys.version.split()[0]}"], []
    for name in PACKAGES:
        try:
            there.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    lines = [("ok", "packages", ", ".join(there))]
    lines += [("error", "packages", f"not installed: {', '.join(missing)}")] if missing else []
    return lines + [_extra(extra, names) for extra, names in EXTRAS.items()]


def _extra(extra: str, names: Sequence[str]) -> Line:
    try:
        found = ", ".join(f"{name} {version(name)}" for name in names)
    except PackageNotFoundError:
        return "missing", f"extra {extra}", f"for what asks for it, type: pip install {' '.join(names)}"
    return "ok", f"extra {extra}", found


def _device() -> Line:
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return "ok", "device", f"CUDA: {names}"
    return "ok", "device", f"CPU, {torch.get_num_threads()} threads (this torch sees no CUDA device)"


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


def _slurm() -> Line:
    if shutil.which("sbatch") is None:
        return "missing", "SLURM", "no sbatch on this machine; runs go inline"
    try:
        answer = subprocess.run(
            ["sinfo", "--noheader", "--format=%P %a %D"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "error", "SLURM", f"sinfo does not answer: {error}"
    if answer.returncode:
        said = (answer.stderr.strip() or "no reason given").splitlines()[0]
        return "error", "SLURM", f"sbatch is here, but sinfo fails ({said}); is slurmctld running?"
    return "ok", "SLURM", "; ".join(answer.stdout.split("\n")).strip("; ")


def _methods() -> list[Line]:
    lines: list[Line] = []
    for name in registry.installed():
        try:
            registry.load(name)
        except FsbenchError as error:
            lines.append(("error", f"method: {name}", str(error)))
    return lines or [("ok", "methods", ", ".join(sorted(registry.installed())))]


def _lists() -> Line:
    return (
        "ok",
        "benchmarks",
        f"{len(benchmarks.every())} benchmarks, {len(benchmarks.locked_digests())} locked episode lists",
    )


def _database(where: Places) -> Line:
    from harness.store import Store

    if "://" not in where.db and not Path(where.db).exists():
        return "missing", "database", f"{where.db} is not there yet; the first run makes it"
    try:
        store = Store.open(where.db)
    except FsbenchError as error:
        return "error", "database", str(error)
    try:
        return "ok", "database", f"{where.db}, {len(store.column('id')):,} runs"
    finally:
        store.close()
