"""Pack planned runs into groups, one per job: what shares a fit goes together, long evaluations may be split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast, get_args

from harness.errors import ConfigError, nearest
from harness.jobs import slurm_options
from harness.jobs.batches import FOLDER, Executor, Group, code_digest, snapshot
from harness.runs import RunSpec, planning
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
    """Make one group per fit; with shards one that fits and embeds, then one per run and stretch of episodes.

    ``Group.after`` holds positions in the list returned.
    """
    references = {spec.method.reference: spec.method for spec in specs}
    code = {reference: code_digest(reference) for reference in references}
    sources = {
        reference: snapshot(reference, places.runs / FOLDER / "code" / method.source_sha256[:12])
        for reference, method in references.items()
        if ways.snapshot and method.source_sha256
    }
    groups: list[Group] = []
    for together in planning.grouped(specs):
        reference = together[0].method.reference
        whole = Group(
            specs=tuple(together),
            home=str(places.home.absolute()),
            data=str(places.data.absolute()),
            cache=str(places.cache.absolute()),
            device=ways.device,
            code={reference: code[reference]},
            sources={reference: sources[reference]} if reference in sources else {},
            folder=str(Path.cwd()),
        )
        groups += split(whole, ways.shards, len(groups)) if ways.shards > 1 else [whole]
    return groups


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
                whole, specs=(spec,), episodes=(first, min(first + step, spec.n_episodes)), after=(number,)
            )
            for first in range(0, spec.n_episodes, step)
        ]
    return parts
