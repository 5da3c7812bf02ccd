"""Look again at a stored run: count a sample of its episodes from the checkpoint, and keep what was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from harness.errors import ConfigError
from harness.jobs.recount import recount, sample
from harness.method import registry
from harness.runs.findings import Recheck, StoredRun
from harness.runs.keeper import Keeper
from harness.system.folders import Places
from harness.system.process import choose_device
from harness.system.progress import Progress
from harness.system.provenance import utc_now
from harness.training.build import Workplace


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
        made_on: kind of device that the stored counts are from; empty when it was not recorded.
    """

    run: StoredRun
    check: Recheck
    differing: tuple[Differing, ...]
    made_on: str


def recheck(store: Keeper, places: Places, prefix: str, replicate: str, n: int, seed: int, device: str,
            progress: Progress, named: str = "") -> Looked:  # fmt: skip
    """Count a sample of episodes again, compare, and store the outcome.

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
    chosen = sample(run.id, run.spec.n_episodes, n, seed)
    found = recount(run.spec, Workplace(places, where, progress), chosen)
    differing = tuple(
        Differing(i, metric, int(stored[i]), count)
        for metric, counts in found.items()
        for stored in (store.counts(run.pk, metric)[0],)
        for i, count in zip(chosen.tolist(), counts.tolist(), strict=True)
        if stored[i] != count
    )
    checked = utc_now()
    n_differing = len({entry.episode for entry in differing})
    check = Recheck(checked, where.type, seed, len(chosen), n_differing)
    store.add_recheck(run.id, run.replicate, check)
    return Looked(
        store.run(run.id, run.replicate), check, differing, str(run.provenance.get("device_type", ""))
    )


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
