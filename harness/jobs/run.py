"""One run: fit the method, embed the novel images, evaluate, and assemble the result.

Whatever ends it (a signal, a time limit, ``kill -9``), the same call goes on: training from the last epoch, the feature
table from the last record, evaluation from the last saved piece.
"""

from __future__ import annotations

import logging
import time
from typing import Any, NamedTuple

import torch

from harness import benchmarks
from harness.benchmarks import Setting
from harness.benchmarks.episodes import AnyList
from harness.errors import DataError
from harness.evaluation import partial, thumbnails
from harness.evaluation.features import Images, Source, features_of
from harness.evaluation.protocols import Predictions, protocol_of
from harness.images.stores import ImageStore
from harness.method import Embeds, about, traits
from harness.runs import RunResult, RunSpec, badges, folders
from harness.system import provenance
from harness.system.locks import claim
from harness.system.progress import stage
from harness.training.build import Workplace, open_role
from harness.training.checkpoints import IMPORTED, Stateful
from harness.training.fits import Fitted, fitted

log = logging.getLogger("fsbench.job")


class Ready(NamedTuple):
    """Everything that evaluation needs.

    Attributes:
        fit: the fitted method and the record of its training.
        novel: images.
        episodes: the list, as far as it is run.
        source: features or images by row.
        seconds: by stage.
    """

    fit: Fitted
    novel: ImageStore
    episodes: AnyList
    source: Source
    seconds: dict[str, float]


def run(spec: RunSpec, at: Workplace, episodes: range | None = None) -> RunResult | None:
    """Fit, embed, evaluate.

    Args:
        spec: what.
        at: where.
        episodes: only these; None for all.

    Returns:
        The result once every episode is there, else None: other jobs have the rest.
    """
    ready = get_ready(spec, at)
    evaluate(spec, ready, at, episodes or range(spec.n_episodes))
    done = partial.load(folders.partial_folder(at.places.runs, spec.id))
    predictions = partial.whole(done, spec.n_episodes)
    if predictions is None:
        return None
    ready.seconds["evaluate"] = sum(piece.seconds for piece in done)
    return _result(spec, ready, at, predictions)


def get_ready(spec: RunSpec, at: Workplace) -> Ready:
    """Fit and embed, one process at a time for each fit."""
    episodes = planned_setting(spec).episodes[: spec.n_episodes]
    fit = fitted(spec.fit, at, spec.config)
    began = time.monotonic()
    novel = open_role(spec, "novel", at)
    source: Source = Images(novel, spec.pipeline, at.device)
    if isinstance(fit.method, Embeds):
        table = features_of(fit.method, novel, spec, at.places.cache, at.device, spec.embed_batch)
        with claim(
            folders.fit_folder(at.places.cache, spec.fit_key) / "lock", f"the features of {spec.method.name}"
        ):
            if folders.wants_new_features(at.places.runs, spec.id):
                table.forget()
            table.ensure(episodes.rows(), at.progress)
        source = table
    seconds = {"fit": fit.record["seconds"], "embed": time.monotonic() - began}
    return Ready(fit, novel, episodes, source, seconds)


def planned_setting(spec: RunSpec) -> Setting:
    """The setting of a run, its list checked against the plan.

    Raises:
        DataError: when it is another list.
    """
    setting = benchmarks.load(spec.setting)
    if setting.episodes.digest != spec.episode_digest:
        raise DataError(
            f"The episode list of {setting.name} is not the one this run was planned with. Plan it again."
        )
    return setting


def evaluate(spec: RunSpec, ready: Ready, at: Workplace, episodes: range) -> None:
    """Predict every query that no saved piece holds."""
    folder = folders.partial_folder(at.places.runs, spec.id)
    todo = list(partial.missing(partial.load(folder), episodes))
    n_done = len(episodes) - sum(map(len, todo))
    if n_done:
        log.info("evaluation resumes: %d of %d episodes are there", n_done, len(episodes))
    with stage(at.progress, "evaluate", len(episodes), "episodes", n_done) as shown:
        for stretch in todo:
            piece = partial.Growing(folder, stretch, ready.episodes.predicted_shape, shown)
            try:
                _predict(spec, ready, piece, stretch)
            finally:  # also when a signal ends it
                piece.save()


def _predict(spec: RunSpec, ready: Ready, piece: partial.Growing, stretch: range) -> None:
    """Predict a stretch; when the device's memory does not suffice, with half as many episodes at once."""
    method, protocol = ready.fit.method, protocol_of(ready.episodes)
    at_once = protocol.at_once(method, ready.episodes, ready.source)
    while piece.n_done < len(stretch):
        first = stretch.start + piece.n_done
        asked = ready.episodes[first : stretch.stop]
        try:
            protocol.predict(method, asked, ready.source, spec.seed, first, piece.add, at_once)
        except torch.OutOfMemoryError:
            if at_once == 1:
                raise
            at_once //= 2
            log.warning("out of device memory: evaluation goes on with %d episodes at once", at_once)
            torch.cuda.empty_cache()


def _result(spec: RunSpec, ready: Ready, at: Workplace, predictions: Predictions) -> RunResult:
    benchmark, protocol = benchmarks.named(spec.benchmark), protocol_of(ready.episodes)
    counts = protocol.counts(ready.episodes, predictions)
    table = protocol.table(ready.episodes, tuple(ready.novel.class_names), tuple(ready.novel.groups))
    facts = {**_facts(spec, ready, at), **badges.origin(spec, benchmark, ready.fit.record)}
    if protocol.has_pictures and thumbnails.are_allowed(benchmark.roles["novel"].dataset):
        facts["thumbnails"] = thumbnails.of_run(ready.novel, table, counts["top1"])
    return RunResult(spec, "done", counts, table, facts, tuple(ready.fit.record["curves"]))


def _facts(spec: RunSpec, ready: Ready, at: Workplace) -> dict[str, Any]:
    """What is recorded beside the counts."""
    method, record = ready.fit
    is_module = isinstance(method, torch.nn.Module)
    return {
        **provenance.describe(at.device),
        "seconds": ready.seconds,
        "selection": record["selection"],
        "badges": badges.badges(
            spec,
            benchmarks.named(spec.benchmark),
            is_transductive=traits(type(method)).transductive,
            is_trained=isinstance(method, Stateful),
            is_imported=IMPORTED in record,
        ),
        "parameters": sum(p.numel() for p in method.parameters()) if is_module else 0,
        "pictures": ready.novel.pictures,
        "about": about.about(type(method), spec.method, at.places.cache),
    }
