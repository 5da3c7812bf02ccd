"""Carry out planned runs: fit (or find the fit), embed, evaluate, write the run folder."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import torch

from harness.errors import FsbenchError, PluginError
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
    process.keep_freed_memory()
    process.settle()
    where = process.choose_device(device)
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
    process.keep_freed_memory()
    process.settle()
    where = process.choose_device(device)
    for spec in specs:
        job = _job(spec, places, where, progress, sources, "ready")
        with claim(folders.lock_of(places.runs, spec.id, "ready"), f"run {spec.id}"):
            if not folders.is_done(places.runs, spec.id):
                with process.log_file(job.partial_folder / "log.txt"):
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
        with process.log_file(job.partial_folder / "log.txt"):
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
