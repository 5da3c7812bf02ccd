"""Which of the encoders and heads at hand does best on a folder of pictures, by cross-validation over its own classes.

Episodes are drawn from the folder alone: some pictures of every class are shown, others asked, again and again. Nothing is
trained, and no benchmark's novel class is looked at, so that what is chosen here may be compared there.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from harness import backbones, stats
from harness.benchmarks import leaks
from harness.benchmarks.episodes import EpisodeList
from harness.benchmarks.sampling import sample
from harness.errors import ConfigError, DataError
from harness.evaluation.features import FeatureTable, Flat, Source
from harness.evaluation.protocols import EPISODIC
from harness.images.inputs import Inputs
from harness.images.prepare import import_folder
from harness.images.stores import PreparedSet
from harness.method import Embeds, official_weights, registry, traits, views_of
from harness.runs.planning import own_input
from harness.runs.spec import EMBED_BATCH, FitSpec
from harness.training.build import Workplace
from harness.training.checkpoints import Fit
from harness.training.fits import fitted

MOST_WAYS, MOST_QUERIES = 20, 15
_NAME = "advised"
_USUAL = "easyfsl", 84  # pipeline and pixels of a folder of one's own


class Encoder(NamedTuple):
    """What may embed the pictures.

    Attributes:
        name: for people.
        method: with ``embed``, frozen.
        pipeline, image_size: what it is given.
        words: what has to be typed to run it; empty where it is raw pixels.
    """

    name: str
    method: Any
    pipeline: str
    image_size: int
    words: tuple[str, ...] = ()


class Advice(NamedTuple):
    """How a pair did.

    Attributes:
        encoder, head: names.
        accuracy, half_width: fractions, over episodes.
        is_best: whether no other pair is told apart from it for the better, at 95% over the same episodes.
        embed_ms: milliseconds an image.
        episode_ms: milliseconds an episode, features at hand.
        command: what to type to go on.
    """

    encoder: str
    head: str
    accuracy: float
    half_width: float
    is_best: bool
    embed_ms: float
    episode_ms: float
    command: str


class Advised(NamedTuple):
    """What was asked of the folder, the pairs, the best first, and what could not be tried and why."""

    way: int
    shot: int
    n_query: int
    n_episodes: int
    advice: tuple[Advice, ...]
    left_out: tuple[str, ...]


class Head(NamedTuple):
    """What may classify the features: its name, itself, and what has to be typed to have it so."""

    name: str
    method: Any
    words: tuple[str, ...]


class Pixels(nn.Module):
    """Raw pixels as features."""

    def embed(self, images: Tensor) -> Tensor:
        """(b, c, H, W) → (b, c·H·W)."""
        return images.flatten(1)


def of_weights(text: str, device: torch.device) -> Encoder:
    """Read an encoder as it is typed: BACKBONE=FILE.

    Raises:
        ConfigError: when it is no backbone, or the file does not fit it.
    """
    name, sign, file = text.partition("=")
    if not sign:
        raise ConfigError(f"--encoder {text}: expected BACKBONE=FILE, like torchvision:resnet18=weights.pth.")
    backbones.check_name(name)
    own = own_input(name) if backbones.is_named(name) else None
    pipeline, size = (own.pipeline, own.image_size) if own else _USUAL
    cls = registry.load("frozen").cls
    method = cls(cls.Config(), backbones.build(name, size, 3))
    official_weights.import_weights(method, Path(file))
    known = () if leaks.told_by(name) else ("--seen", "WHAT")  # what a name tells needs no word
    words = ("--backbone", name, "--weights", file, *known)
    return Encoder(name, _ready(method, device), pipeline, size, words)


def of_fits(fits: Iterable[FitSpec], at: Workplace) -> Iterator[Encoder]:
    """The finished trainings on colour pictures that embed, one a seed's row, by the first seed."""
    known: dict[str, FitSpec] = {}
    for fit in sorted(fits, key=lambda fit: fit.seed):
        is_network = fit.channels == 3 and fit.backbone != "none" and not fit.encoder
        if is_network and Fit(at.places.cache, fit.fit_key).is_done:
            known.setdefault(fit.row_key, fit)
    for fit in known.values():
        method = fitted(fit, at).method
        if isinstance(method, Embeds) and hasattr(method, "backbone"):
            file = Fit(at.places.cache, fit.fit_key).folder / "fit.pt"
            seen = ",".join(fit.seen) or fit.benchmark
            words = (
                "--backbone",
                fit.backbone,
                "--weights",
                str(file),
                "--seen",
                seen,
                "--pipeline",
                fit.pipeline,
            )
            yield Encoder(
                f"{fit.method.name} ({fit.backbone}, {fit.benchmark})",
                method,
                fit.pipeline,
                fit.image_size,
                words,
            )


def advise(
    source: Path, encoders: Sequence[Encoder], at: Workplace, *, shot: int, n_episodes: int, seed: int
) -> Advised:
    """Try every encoder with every head that needs no base images.

    Args:
        source: a folder or archive with a folder of pictures for each class.
        encoders: what may embed; raw pixels are tried, too.
        at: device and cache.
        shot: pictures shown of each class; fewer where a class has no more.
        n_episodes: E.
        seed: of the episodes.

    Raises:
        DataError: when the folder cannot be read, or has fewer than two classes of two pictures.
    """
    every = (*encoders, Encoder("raw pixels", Pixels(), _USUAL[0], 32))
    with tempfile.TemporaryDirectory(prefix="fsbench-advise-") as scratch:
        prepared = import_folder(_NAME, source, Path(scratch) / "data", progress=None).dataset
        episodes = _episodes(prepared, shot, n_episodes, seed)
        rows, left_out = [], []
        for i, encoder in enumerate(every):
            table, embed_ms = _embedded(prepared, encoder, at, Path(scratch) / str(i), episodes)
            for head in _heads(at.device):
                try:
                    rows.append((encoder, head, embed_ms, *_tried(head.method, episodes, table, seed)))
                except Exception as error:  # noqa: BLE001 -- a head may need what there is none of here
                    left_out.append(f"{head.name}: {error}")
    best = max(rows, key=lambda row: float(row[3].mean()))[3]
    advice = [_advice(*row, best, source) for row in rows]
    return Advised(
        episodes.n_way, episodes.shot, int(episodes.query.shape[2]), len(episodes),
        tuple(sorted(advice, key=lambda one: -one.accuracy)), tuple(dict.fromkeys(left_out)),
    )  # fmt: skip


def _episodes(prepared: PreparedSet, shot: int, n_episodes: int, seed: int) -> EpisodeList:
    usable = np.flatnonzero(prepared.counts > 1)
    if len(usable) < 2:
        raise DataError("Cross-validation needs two classes of at least two pictures.")
    counts = prepared.counts[usable]
    shot = min(shot, int(counts.min()) - 1)
    n_query = min(MOST_QUERIES, int(counts.min()) - shot)
    return sample(counts, min(len(usable), MOST_WAYS), shot, n_query, n_episodes, seed)


def _embedded(
    prepared: PreparedSet, encoder: Encoder, at: Workplace, folder: Path, episodes: EpisodeList
) -> tuple[Source, float]:
    names = [name for name, n in zip(prepared.class_names, prepared.counts, strict=True) if n > 1]
    store = prepared.select(names, encoder.pipeline, encoder.image_size)
    inputs = Inputs(store, encoder.pipeline, at.device, views_of(encoder.method))
    table, rows = FeatureTable(folder, encoder.method, inputs, EMBED_BATCH, "fp32"), episodes.rows()
    began = time.monotonic()
    table.ensure(rows, at.progress)
    return Flat(table), 1000 * (time.monotonic() - began) / len(rows)


def _heads(device: torch.device) -> Iterator[Head]:
    """Heads on vectors at their defaults, on features of unit length where they would centre them on base images."""
    for name in sorted(registry.BUILT_IN):
        cls = registry.load(name).cls
        if traits(cls).takes != "vectors":
            continue
        config, words = cls.Config(), tuple[str, ...]()
        if getattr(config, "normalise", "") == "cl2n":
            config, words = dataclasses.replace(config, normalise="l2n"), ("--set", "normalise=l2n")
        yield Head(name, _ready(cls(config, nn.Identity()), device), words)


def _tried(
    head: Any, episodes: EpisodeList, source: Source, seed: int
) -> tuple[npt.NDArray[np.float64], float]:
    began = time.monotonic()
    counts = EPISODIC.counts(episodes, EPISODIC.predict(head, episodes, source, seed))["top1"]
    return counts.n_correct / counts.n_query, 1000 * (time.monotonic() - began) / len(episodes)


def _advice(
    encoder: Encoder, head: Head, embed_ms: float, accuracy: npt.NDArray[np.float64], episode_ms: float,
    best: npt.NDArray[np.float64], source: Path,
) -> Advice:  # fmt: skip
    interval, behind = stats.sampler_interval(accuracy), best - accuracy
    error = float(behind.std(ddof=1)) / math.sqrt(len(behind))
    return Advice(
        encoder.name, head.name, interval.mean, interval.half_width or 0.0, float(behind.mean()) <= 1.96 * error,
        embed_ms, episode_ms, _command(encoder, head, source),
    )  # fmt: skip


def _command(encoder: Encoder, head: Head, source: Path) -> str:
    """What to type to run a pair on the folder as a benchmark of one's own."""
    if not encoder.words:
        return ""
    first = shlex.join(
        ["fsbench", "import-folder", str(source), "--name", "mine", "--size", str(encoder.image_size)]
    )
    then = ["fsbench", "run", "-m", f"{head.name}[frozen]", "-b", "mine-*", *encoder.words, *head.words]
    return f"{first} && {shlex.join(then)}"


def _ready(method: Any, device: torch.device) -> Any:
    return method.to(device).eval().requires_grad_(False) if isinstance(method, nn.Module) else method
