"""Pack planned runs into groups, one per job: what shares a fit goes together, long evaluations may be split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast, get_args

from harness.errors import ConfigError, nearest
from harness.jobs import slurm_options
from harness.jobs.batches import FOLDER, Executor, Group, code_digest, snapshot
from harness.runs import FitSpec, MethodReference, RunSpec, folders, planning
from harness.system.folders import Places

EXECUTORS = get_args(Executor)
ALIGNED = (
    16  # shards begin at multiples of the evaluation batch, so that every batch is the same as in one job
)


@dataclass(frozen=True)
class Ways:
    """How jobs are made.

    Attributes:
        executor: "inline", "local" or "slurm".
        device: "auto", "cpu" or "cuda".
        jobs: processes at a time (local).
        slurm: options of SLURM.
        shards: jobs over which the evaluation of each run is split.
        snapshot: whether users' files are copied, so that they may be edited meanwhile.
    """

    executor: Executor
    device: str = "auto"
    jobs: int = 1
    slurm: Mapping[str, str] = field(default_factory=dict)
    shards: int = 1
    snapshot: bool = False


def read_ways(
    home: Path,
    *,
    executor: str,
    device: str,
    jobs: int,
    slurm: Sequence[str],
    shards: int,
    snapshot: bool,
    gpus: int,
) -> Ways:
    """Read what was typed about jobs.

    Raises:
        ConfigError: for an unknown executor, unreadable options, or options of another executor.
    """
    if executor not in EXECUTORS:
        raise ConfigError(
            f"--executor {executor}: known are {', '.join(EXECUTORS)}.{nearest(executor, EXECUTORS)}"
        )
    misplaced = [
        text
        for text, is_given, of in (
            ("--jobs", jobs != 1, "local"),
            ("--slurm", bool(slurm), "slurm"),
            ("--shards", shards != 1, "local slurm"),
            ("--snapshot", snapshot, "local slurm"),
        )
        if is_given and executor not in of.split()
    ]
    if misplaced:
        raise ConfigError(
            f"{' and '.join(misplaced)} with --executor {executor} would do nothing; choose another executor."
        )
    trains_together = (
        [f"gpus={gpus}"] if gpus > 1 and device != "cpu" else []
    )  # unless the user says otherwise
    options = slurm_options.read(home, [*trains_together, *slurm]) if executor == "slurm" else {}
    return Ways(cast(Executor, executor), device, jobs, options, shards, snapshot)


def pack(specs: Sequence[RunSpec], places: Places, ways: Ways) -> list[Group]:
    """Make a group per fit that others are built on, then one per fit of the runs; with shards one that fits and embeds,
    then one per run and stretch of episodes.

    ``Group.after`` holds positions in the list returned.
    """  # noqa: D205 -- two kinds of work
    made = _Made(places, ways)
    groups: list[Group] = []
    place: dict[str, int] = {}  # of the fits that others are built on
    for fit in planning.built_on(specs):
        if not folders.is_fitted(places.cache, fit.fit_key):
            place[fit.fit_key] = len(groups)
            groups.append(made.group([fit], place))
    for together in planning.grouped(specs):
        whole = replace(made.group([together[0]], place), specs=tuple(together), fits=())
        groups += split(whole, ways.shards, len(groups)) if ways.shards > 1 else [whole]
    return groups


class _Made:
    """Groups of one call: where work is done, and the code of each method as it was planned."""

    def __init__(self, places: Places, ways: Ways) -> None:
        self._places, self._ways = places, ways
        self._code: dict[str, str] = {}

    def group(self, fits: Sequence[FitSpec], place: Mapping[str, int]) -> Group:
        """A group that makes some fits, after those that they are built on."""
        methods = {
            m.reference: m
            for fit in fits
            for m in (fit.method, *(f.method for f in planning.built_on([fit])))
        }
        for reference, method in methods.items():
            if reference not in self._code:
                self._code[reference] = code_digest(method, self._places.cache)
        below = {place[f.fit_key] for f in planning.built_on(fits) if f.fit_key in place}
        return Group(
            specs=(),
            home=str(self._places.home.absolute()),
            data=str(self._places.data.absolute()),
            cache=str(self._places.cache.absolute()),
            device=self._ways.device,
            code={reference: self._code[reference] for reference in methods},
            sources={
                r: self._snapshot(m) for r, m in methods.items() if self._ways.snapshot and m.source_sha256
            },
            folder=str(Path.cwd()),
            fits=tuple(fits),
            after=tuple(sorted(below)),
        )

    def _snapshot(self, method: MethodReference) -> str:
        folder = self._places.runs / FOLDER / "code" / method.source_sha256[:12]
        return snapshot(method.reference, folder)


def split(whole: Group, shards: int, number: int) -> list[Group]:
    """Split the evaluation of each run of a group.

    Args:
        whole: the group.
        shards: stretches per run, at most; each is a multiple of the evaluation batch.
        number: position of the first group returned.

    Returns:
        The group that fits and embeds, then those that evaluate.
    """
    parts = [replace(whole, only_ready=True)]
    for spec in whole.specs:
        step = -(-spec.n_episodes // (shards * ALIGNED)) * ALIGNED
        parts += [
            replace(
                whole,
                specs=(spec,),
                episodes=(first, min(first + step, spec.n_episodes)),
                after=(*whole.after, number),
            )
            for first in range(0, spec.n_episodes, step)
        ]
    return parts
