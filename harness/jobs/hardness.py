"""Measure how hard the episodes of a list are to the extractor of a finished run, once for every method."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from harness import benchmarks, stats
from harness.benchmarks import Setting
from harness.benchmarks.episodes import EpisodeList
from harness.errors import ConfigError
from harness.evaluation.features import Images, Source, features_of
from harness.evaluation.protocols import PROTOCOLS
from harness.jobs.recount import restored
from harness.method import registry
from harness.runs import RunSpec
from harness.runs.findings import Hardness, StoredRun
from harness.runs.keeper import Keeper
from harness.system.folders import Places
from harness.system.process import choose_device
from harness.system.progress import Progress
from harness.training.build import Workplace, open_role
from harness.training.fits import encoder_of

_AT_ONCE = 64  # episodes


def hardness(spec: RunSpec, at: Workplace, setting: Setting, n: int) -> npt.NDArray[np.float64]:
    """Measure the first n episodes of a list with the features of a finished run: (n,) nats.

    Its own head and its predictions play no part.

    Raises:
        ConfigError: when the list is about other images, or the method is of another version.
        DataError: when there is no checkpoint, or other images.
    """
    method, novel = restored(spec, at), open_role(spec, "novel", at)
    asked = setting.benchmark.open("novel", at.places.data, spec.pipeline, spec.image_size)
    if asked.digest != novel.digest:
        raise ConfigError(
            f"Run {spec.id} ({spec.setting}) is about other images than {setting.name}. Choose a run on "
            f"{setting.benchmark.key}: `fsbench leaderboard -b '{setting.benchmark.key}-*'` names them."
        )
    episodes = setting.episodes[:n]
    assert isinstance(episodes, EpisodeList), "lists of the joint protocol are refused before"
    source: Source = Images(method, novel, spec.pipeline, at.device)
    if encoder := encoder_of(spec, method, at):
        source = features_of(encoder.method, novel, encoder.fit, at.places.cache, at.device, spec.embed_batch)
        source.ensure(episodes.rows(), at.progress)
    parts = (episodes[i : i + _AT_ONCE] for i in range(0, len(episodes), _AT_ONCE))
    return np.concatenate([omega(source, part) for part in parts])


def omega(source: Source, episodes: EpisodeList) -> npt.NDArray[np.float64]:
    """Compute Dhillon's hardness with cosine similarities to the class centres of normalised features: (E,) nats.

    Args:
        source: features, or images where a method has none; flattened.
        episodes: E of them.
    """
    n, way, shot = episodes.support.shape
    support = _unit(source, episodes.support).unflatten(0, (n, way, shot))  # (E, W, S, D)
    rows = np.where(
        episodes.query < 0, episodes.support[:, :, :1], episodes.query
    )  # any image where there is no query
    query = _unit(source, rows).unflatten(0, (n, episodes.n_query))  # (E, n_query, D)
    centres = functional.normalize(support.mean(dim=2), dim=-1)  # (E, W, D)
    probability = torch.einsum("eqd,ewd->eqw", query, centres).softmax(dim=-1)
    return stats.episode_hardness(probability.cpu().numpy(), episodes.query_label)


def measure(store: Keeper, places: Places, setting_name: str, prefix: str, n: int | None, device: str,
            progress: Progress, *, replace: bool = False, named: str = "") -> Hardness:  # fmt: skip
    """Measure a list with the features of a stored run, and keep it in the database.

    Args:
        store: has the run.
        places: where its checkpoint and images are.
        setting_name: whose list it is.
        prefix: beginning of the run's id.
        n: episodes; None for the benchmark's number.
        device: "auto", "cpu" or "cuda".
        progress: told how far it is.
        replace: take the place of what another extractor measured.
        named: the file of the run's method, as the user names it; else empty.

    Raises:
        ConfigError: when it cannot be measured so, the file is not the run's, or another extractor's is stored and ``replace`` is false.
        DataError: when the checkpoint or the images are not here.
    """
    setting, run = benchmarks.load(setting_name), store.run(prefix)
    n = n or setting.n_episodes
    _refuse(setting, run, n)
    if named:
        registry.vouch_for(named, run.spec.method, places.cache)
    found = hardness(run.spec, Workplace(places, choose_device(device), progress), setting, n)
    measured = Hardness(setting.digest, run.spec.data_digest["novel"], _identity(run), found)
    if not store.add_hardness(measured, replace=replace):
        kept = store.hardness(measured.episode_digest, measured.novel_digest)
        assert kept is not None, "something is stored that was preferred"
        raise ConfigError(
            f"The hardness of {setting.name} is stored already ({len(kept.omega):,} episodes, by {kept.name}); rows are "
            "compared by one extractor only. Type the command again with --replace to put this one in its place."
        )
    return measured


def _identity(run: StoredRun) -> dict[str, object]:
    spec = run.spec
    return {
        "run": run.id, "method": spec.method.name, "version": spec.method.version, "backbone": spec.backbone,
        "benchmark": spec.benchmark, "fit": spec.fit_key, "seed": spec.seed, "weights": spec.weights_sha256,
        "seen": list(spec.seen),
    }  # fmt: skip


def _refuse(setting: Setting, run: StoredRun, n: int) -> None:
    if not PROTOCOLS[setting.benchmark.protocol].is_episodic:
        raise ConfigError(
            f"{setting.name} asks all its classes together; hardness is defined for episodes of a few novel classes."
        )
    if run.status == "failed" or run.spec.is_scored:
        raise ConfigError(
            f"Run {run.id} has no features here: it {'failed' if run.status == 'failed' else 'was scored from predictions'}."
        )
    if not 1 <= n <= setting.list_length:
        raise ConfigError(f"--episodes {n}: the list of {setting.name} has {setting.list_length} episodes.")


def _unit(source: Source, rows: npt.NDArray[np.int64]) -> torch.Tensor:
    """Gather features of rows, flattened, in double precision and of unit length: (n, D)."""
    return functional.normalize(source.take(rows.ravel()).flatten(1).double(), dim=-1)
