"""Look again at a stored run: count a sample of its episodes from the checkpoint, and keep what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.benchmarks.episodes import IntArray
from harness.errors import ConfigError
from harness.jobs.recount import recount, sample
from harness.method import registry
from harness.runs import Counts
from harness.runs.findings import ENOUGH, Recheck, StoredRun
from harness.runs.keeper import Keeper
from harness.system import provenance
from harness.system.folders import Places
from harness.system.process import choose_device
from harness.system.progress import Progress
from harness.system.provenance import utc_now
from harness.training.build import Workplace

if TYPE_CHECKING:
    import torch


class Differing(NamedTuple):
    """An episode that gave another count: its number, and the correct predictions stored and found, of one metric."""

    episode: int
    metric: str
    stored: int
    found: int


@dataclass(frozen=True)
class Looked:
    """What a recheck found.

    Attributes:
        run: what was looked at.
        check: as it was stored.
        differing: the episodes that gave other counts.
        apart: what is not as it was when the run was made: name → there and here, such as "threads" → ("2", "1").
    """

    run: StoredRun
    check: Recheck
    differing: tuple[Differing, ...]
    apart: Mapping[str, tuple[str, str]]


def recheck(store: Keeper, places: Places, prefix: str, replicate: str, n: int, seed: int, device: str,
            progress: Progress, named: str = "") -> Looked:  # fmt: skip
    """Count a sample of episodes again, compare, and store the outcome.

    Where a prediction is another one and the sample is too small to say whether that is 1 in ``ENOUGH``, a larger one is
    counted.

    Args:
        store: has the run.
        places: where its checkpoint and images are.
        prefix, replicate: beginnings of a run id and, where several results are stored, of the digest meant.
        n: episodes to count again, ≥ 1.
        seed: of the sample.
        device: "auto", "cpu" or "cuda".
        progress: told how far it is.
        named: the file of the run's method, as the user names it; else empty.

    Raises:
        ConfigError: when the run failed, was made elsewhere and only scored here, or by another version.
        DataError: when the checkpoint or the images are not here.
    """
    run = store.run(prefix, replicate)
    _refuse_uncountable(run)
    if named:
        registry.vouch_for(named, run.spec.method, places.cache)
    where = choose_device(device)
    at = Workplace(places, where, progress)
    chosen = sample(run.id, run.spec.n_episodes, n, seed)
    found = recount(run.spec, at, chosen)
    compared = _compare(store, run, chosen, found)
    if compared.n_other and compared.n_predictions < ENOUGH and len(chosen) < run.spec.n_episodes:
        n = -(-ENOUGH * len(chosen) // compared.n_predictions)
        chosen = sample(run.id, run.spec.n_episodes, n, seed)
        found = recount(run.spec, at, chosen)
        compared = _compare(store, run, chosen, found)
    differing = tuple(_differing(store, run, chosen, found))
    n_differing = len({entry.episode for entry in differing})
    check = Recheck(utc_now(), where.type, seed, len(chosen), n_differing, *compared)
    store.add_recheck(run.id, run.replicate, check)
    return Looked(store.run(run.id, run.replicate), check, differing, _apart(run, where))


class _Compared(NamedTuple):
    """Predictions that were compared, and how many were other ones."""

    n_predictions: int
    n_other: int


def _compare(store: Keeper, run: StoredRun, chosen: IntArray, found: Mapping[str, Counts]) -> _Compared:
    n = other = 0
    for metric, counts in found.items():
        kept = store.predictions(run.pk, metric)
        if kept is not None and counts.predictions is not None:
            n += int(counts.n_query.sum())
            other += int((kept[chosen] != counts.predictions).sum())
    return _Compared(n, other)


def _differing(
    store: Keeper, run: StoredRun, chosen: IntArray, found: Mapping[str, Counts]
) -> Iterator[Differing]:
    for metric, counts in found.items():
        stored, _ = store.counts(run.pk, metric)
        for i, count in zip(chosen.tolist(), counts.n_correct.tolist(), strict=True):
            if stored[i] != count:
                yield Differing(i, metric, int(stored[i]), count)


def _apart(run: StoredRun, where: torch.device) -> dict[str, tuple[str, str]]:
    """What of processor, threads and libraries is not as the run recorded it; what it did not record is left out."""
    here, there = provenance.numerics(where), run.provenance
    names = [name for name in here if name in there and there[name] != here[name]]
    return {name: (_told(there[name]), _told(here[name])) for name in names}


def _told(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else str(value)


def _refuse_uncountable(run: StoredRun) -> None:
    if run.status == "failed":
        raise ConfigError(
            f"Run {run.id} failed, so there is nothing to count again. `fsbench show {run.id}` says why."
        )
    if run.spec.is_scored:
        raise ConfigError(
            f"Run {run.id} was scored from predictions made elsewhere: there is no checkpoint to count again from, and it "
            "stays self-reported. Write the method for fsbench and run it here."
        )
