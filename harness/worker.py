"""Carry out planned runs: fit (or find the fit), embed, evaluate, write the run folder."""

from __future__ import annotations

import ctypes
import logging
import shutil
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from harness import provenance
from harness.errors import ConfigError, FsbenchError, PluginError
from harness.fitting import Fit
from harness.job import Job
from harness.places import Places
from harness.progress import Progress
from harness.runs import RunResult, RunSpec

log = logging.getLogger("fsbench.worker")


def carry_out(
    specs: Sequence[RunSpec], places: Places, device: str, progress: Progress, *, force: bool = False
) -> Iterator[RunResult]:
    """Run specs one after the other and write each one's folder before yielding it.

    A method's own failure becomes a failed result with its traceback; what a user can mend (missing data, full
    disk) is raised.

    Args:
        specs: runs, best those that share a fit together.
        places: where results, images and caches are.
        device: "cpu", "cuda" or "auto".
        progress: told how far it is.
        force: train and embed anew.

    Yields:
        The result of each run, after its folder exists.
    """
    keep_freed_memory()
    where = choose_device(device)
    forced: set[str] = set()
    for spec in specs:
        if force and spec.fit_key not in forced:
            shutil.rmtree(Fit(places.cache, spec.fit_key).folder, ignore_errors=True)
            forced.add(spec.fit_key)
        job = Job(spec, places, where, progress, fresh_features=force)
        with _log_file(job.partial / "log.txt"):
            result = _guarded(job)
        result.save(places.runs, log_file=job.partial / "log.txt")
        shutil.rmtree(job.partial, ignore_errors=True)
        yield result


def _guarded(job: Job) -> RunResult:
    try:
        return job.run()
    except PluginError as error:
        log.error("%s", error)
        return RunResult(job.spec, "failed", provenance=provenance.describe(job.device), traceback=str(error))
    except FsbenchError:
        raise
    except Exception:  # noqa: BLE001 -- a plugin may raise anything; it becomes a failed run
        text = traceback.format_exc()
        log.error("%s", text)
        return RunResult(job.spec, "failed", provenance=provenance.describe(job.device), traceback=text)


def choose_device(name: str) -> torch.device:
    """Turn "auto", "cpu" or "cuda" into a device.

    Raises:
        ConfigError: when CUDA is asked for and not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            "--device cuda: this torch sees no CUDA device. Use --device cpu, or `fsbench doctor`."
        )
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"--device {name} is not a device; use auto, cpu or cuda.") from error


def keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks: training on a CPU spends a third of its time on page faults otherwise."""
    trim_threshold, mmap_max = -1, -4
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return  # another C library: slower, not different
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, 1 << 30)


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Send what is logged meanwhile to a file as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    root = logging.getLogger("fsbench")
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
