"""Carry out planned runs: fit (or find the fit), embed, evaluate, write the run folder."""

from __future__ import annotations

import ctypes
import logging
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

import torch

from harness.errors import ConfigError, FsbenchError, PluginError
from harness.jobs.run import Job
from harness.runs import RunResult, RunSpec, folders
from harness.system import process, provenance
from harness.system.folders import Places
from harness.system.locks import claim
from harness.system.progress import Progress
from harness.system.progress_file import Recorded

log = logging.getLogger("fsbench.worker")
NO_SOURCES: Mapping[str, str] = MappingProxyType({})


def carry_out(
    specs: Sequence[RunSpec], places: Places, device: str, progress: Progress, *, episodes: range | None = None,
    sources: Mapping[str, str] = NO_SOURCES,
) -> Iterator[RunResult]:  # fmt: skip
    """Run specs one after the other and write each one's folder before yielding it.

    A method's own failure becomes a failed result with its traceback; what a user can mend (missing data, full
    disk) is raised. A run that another process is at is waited for, not done twice.

    Args:
        specs: runs, best those that share a fit together.
        places: where results, images and caches are.
        device: "cpu", "cuda" or "auto".
        progress: told how far it is.
        episodes: only these of each run, the whole being put together by whoever does the last ones.
        sources: method reference → file to load in its place.

    Yields:
        The result of each run that is whole, after its folder exists.
    """
    keep_freed_memory()
    process.settle()
    where = choose_device(device)
    for spec in specs:
        part = str(episodes.start if episodes else 0)
        job = _job(spec, places, where, progress, sources, part)
        with claim(folders.lock_of(places.runs, spec.id, part), f"run {spec.id}"):
            result = _once(job, episodes)
        if result:
            yield result


def get_ready(
    specs: Sequence[RunSpec], places: Places, device: str, progress: Progress, sources: Mapping[str, str]
) -> None:
    """Fit and embed only, for the shards that follow; a failure is theirs to report, since they meet it too."""
    keep_freed_memory()
    process.settle()
    where = choose_device(device)
    for spec in specs:
        job = _job(spec, places, where, progress, sources, "ready")
        with claim(folders.lock_of(places.runs, spec.id, "ready"), f"run {spec.id}"):
            if not folders.is_done(places.runs, spec.id):
                with log_file(job.partial_folder / "log.txt"):
                    job.ready()


def _job(spec: RunSpec, places: Places, device: torch.device, progress: Progress, sources: Mapping[str, str],
         part: str) -> Job:  # fmt: skip
    """A job that tells a file how far it is, for ``fsbench status``."""
    path = folders.partial_folder(places.runs, spec.id) / f"progress-{part}.json"
    return Job(spec, places, device, Recorded(path, progress), sources.get(spec.method.reference, ""))


def _once(job: Job, episodes: range | None) -> RunResult | None:
    """Do the work unless it has been done meanwhile; None while other episodes are missing."""
    runs, run_id = job.places.runs, job.spec.id
    if not folders.is_done(runs, run_id):
        with log_file(job.partial_folder / "log.txt"):
            result = _guarded(job, episodes)
        if result is None:
            return None
        with claim(folders.lock_of(runs, run_id, "merge"), f"run {run_id}"):
            if not folders.is_done(runs, run_id):
                result.save(runs, log_file=job.partial_folder / "log.txt")
                folders.clear(runs, run_id)
                return result
    folders.clear(runs, run_id)
    return RunResult.load(runs / run_id)


def _guarded(job: Job, episodes: range | None) -> RunResult | None:
    try:
        return job.run(episodes)
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
def log_file(path: Path) -> Iterator[None]:
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
        with suppress(OSError):  # a full disk is told by whoever writes results
            handler.close()
