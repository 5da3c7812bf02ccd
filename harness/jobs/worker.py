"""Carry out planned runs: fit (or find the fit), embed, evaluate, write the run folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from harness.jobs.run import get_ready, run
from harness.runs import FitSpec, RunResult, RunSpec, folders
from harness.system import process
from harness.system.folders import Places
from harness.system.locks import claim
from harness.system.progress import Progress, Recorded
from harness.training.build import NO_SOURCES, Workplace
from harness.training.fits import fitted


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
    at = _workplace(places, device, progress, sources)
    for spec in specs:
        part = str(episodes.start if episodes else 0)
        with claim(folders.lock_of(places.runs, spec.id, part), f"run {spec.id}"):
            result = run(spec, _recorded(at, spec, part), episodes)
        if result:
            yield result


def prepare(
    specs: Sequence[RunSpec], places: Places, device: str, progress: Progress, sources: Mapping[str, str]
) -> None:
    """Fit and embed only, for the shards that follow; a failure is theirs to report, since they meet it too."""
    at = _workplace(places, device, progress, sources)
    for spec in specs:
        with claim(folders.lock_of(places.runs, spec.id, "ready"), f"run {spec.id}"):
            if not folders.is_done(places.runs, spec.id):
                with process.log_file(folders.partial_folder(places.runs, spec.id) / "log.txt"):
                    get_ready(spec, _recorded(at, spec, "ready"))


def fit_only(
    fits: Sequence[FitSpec], places: Places, device: str, progress: Progress, sources: Mapping[str, str]
) -> None:
    """Make fits that others are built on."""
    at = _workplace(places, device, progress, sources)
    for fit in fits:
        folder = folders.fit_folder(places.cache, fit.fit_key)
        with process.log_file(folder / "log.txt"):
            fitted(fit, replace(at, progress=Recorded(folder / "progress.json", at.progress)))


def _workplace(places: Places, device: str, progress: Progress, sources: Mapping[str, str]) -> Workplace:
    process.keep_freed_memory()
    process.settle()
    return Workplace(places, process.choose_device(device), progress, sources)


def _recorded(at: Workplace, spec: RunSpec, part: str) -> Workplace:
    """The same place, telling a file how far it is, for ``fsbench status``."""
    path = folders.partial_folder(at.places.runs, spec.id) / f"progress-{part}.json"
    return replace(at, progress=Recorded(path, at.progress))
