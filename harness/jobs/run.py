"""One run: fit the method, embed the novel images, evaluate, and assemble the result.

Whatever ends it (a signal, a time limit, ``kill -9``), the same call goes on: training from the last epoch, the feature
table from the last record, evaluation from the last saved piece.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import torch

from harness import benchmarks
from harness.benchmarks import Setting
from harness.benchmarks.episodes import AnyList
from harness.errors import DataError, FsbenchError, PluginError
from harness.evaluation import partial, thumbnails
from harness.evaluation.features import Images, Source, features_of
from harness.evaluation.protocols import Predictions, protocol_of
from harness.images.stores import ImageStore
from harness.method import CLEAN, about, hyper, passes_of, traits
from harness.runs import FIT_SHA256, THUMBNAILS, RunResult, RunSpec, badges, folders, planning
from harness.runs.against_clean import against_clean
from harness.runs.budget import Budget, Spent
from harness.system import process, provenance
from harness.system.locks import claim
from harness.system.progress import stage
from harness.training.build import Workplace, open_role
from harness.training.checkpoints import IMPORTED, Fit, Stateful
from harness.training.fits import Encoder, Fitted, encoder_of, fitted

log = logging.getLogger("fsbench.job")


class Ready(NamedTuple):
    """Everything that evaluation needs.

    Attributes:
        fit: the fitted method and the record of its training.
        novel: images.
        episodes: the list, as far as it is run.
        source: features or images by row.
        seconds: by stage.
        encoder: what embedded the images; None where the method is given images.
    """

    fit: Fitted
    novel: ImageStore
    episodes: AnyList
    source: Source
    seconds: dict[str, float]
    encoder: Encoder | None


def run(spec: RunSpec, at: Workplace, episodes: range | None = None) -> RunResult | None:
    """Fit, embed, evaluate and write the run's folder, unless that has been done meanwhile.

    A method's own failure becomes a failed result with its traceback; what a user can mend is raised.

    Args:
        spec: what.
        at: where.
        episodes: only these; None for all.

    Returns:
        The result once every episode is there, else None: other jobs have the rest.
    """
    runs, log_file = at.places.runs, folders.partial_folder(at.places.runs, spec.id) / "log.txt"
    if not folders.is_done(runs, spec.id):
        result: RunResult | None = None
        with process.log_file(log_file), _Failures(spec, at) as failures:
            ready = get_ready(spec, at)
            evaluate(spec, ready, at, episodes or range(spec.n_episodes))
            result = _whole(spec, ready, at)
        result = failures.result or result
        if result is None:
            return None
        with claim(folders.lock_of(runs, spec.id, "merge"), f"run {spec.id}"):
            if not folders.is_done(runs, spec.id):
                result = result.made_visible()
                result.save(runs, log_file=log_file)
                folders.clear(runs, spec.id)
                return result
    folders.clear(runs, spec.id)
    return RunResult.load(runs / spec.id)


class _Failures:
    """Turns what a plugin raises into a failed result."""

    def __init__(self, spec: RunSpec, at: Workplace) -> None:
        self._spec, self._at = spec, at
        self.result: RunResult | None = None

    def __enter__(self) -> _Failures:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        is_ours = isinstance(error, FsbenchError) and not isinstance(error, PluginError)
        if not isinstance(error, Exception) or is_ours:
            return False
        text = str(error) if isinstance(error, PluginError) else "".join(traceback.format_exception(error))
        log.error("%s", text)
        facts = provenance.describe(self._at.device)
        self.result = RunResult(self._spec, "failed", provenance=facts, traceback=text)
        return True


def get_ready(spec: RunSpec, at: Workplace) -> Ready:
    """Fit and embed, one process at a time for each fit."""
    episodes = planned_setting(spec).episodes[: spec.n_episodes]
    fit = fitted(spec.fit, at, spec.config)
    began = time.monotonic()
    novel = open_role(spec, "novel", at)
    source: Source = Images(fit.method, novel, spec.pipeline, at.device)
    encoder = encoder_of(spec, fit.method, at)
    if encoder:
        below = encoder.fit
        table = features_of(encoder.method, novel, below, at.places.cache, at.device, spec.embed_batch)
        with claim(
            folders.fit_folder(at.places.cache, below.fit_key) / "lock",
            f"the features of {below.method.name}",
        ):
            if not spec.encoder and folders.wants_new_features(at.places.runs, spec.id):
                table.forget()
            table.ensure(episodes.rows(), at.progress)
        source = encoder.source(table)
    seconds = {"fit": fit.record["seconds"], "embed": time.monotonic() - began}
    return Ready(fit, novel, episodes, source, seconds, encoder)


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
    """Predict every query that no saved piece holds; where the device's memory does not suffice, with fewer at once."""
    method, protocol, folder = (
        ready.fit.method,
        protocol_of(ready.episodes),
        folders.partial_folder(at.places.runs, spec.id),
    )
    todo = list(partial.missing(partial.load(folder), episodes))
    n_done = len(episodes) - sum(map(len, todo))
    if n_done:
        log.info("evaluation resumes: %d of %d episodes are there", n_done, len(episodes))
    at_once = protocol.at_once(method, ready.episodes, ready.source)
    with stage(at.progress, "evaluate", len(episodes), "episodes", n_done) as shown:
        for stretch in todo:
            with partial.Growing(folder, stretch, ready.episodes.predicted_shape, shown) as piece:
                while piece.n_done < len(stretch):
                    first = stretch.start + piece.n_done
                    asked = ready.episodes[first : stretch.stop]
                    try:
                        protocol.predict(
                            method,
                            asked,
                            ready.source,
                            spec.seed,
                            first=first,
                            at_once=at_once,
                            after_batch=piece.add,
                        )
                    except torch.OutOfMemoryError:
                        if at_once == 1:
                            raise
                        at_once //= 2
                        log.warning("out of device memory: %d episodes at once from now on", at_once)
                        torch.cuda.empty_cache()


def _whole(spec: RunSpec, ready: Ready, at: Workplace) -> RunResult | None:
    """The result, once every episode is there."""
    done = partial.load(folders.partial_folder(at.places.runs, spec.id))
    predictions = partial.whole(done, spec.n_episodes)
    if predictions is None:
        return None
    ready.seconds["evaluate"] = sum(piece.seconds for piece in done)
    return _result(spec, ready, at, predictions)


def _result(spec: RunSpec, ready: Ready, at: Workplace, predictions: Predictions) -> RunResult:
    benchmark, protocol = benchmarks.named(spec.benchmark), protocol_of(ready.episodes)
    counts = protocol.counts(ready.episodes, predictions)
    table = protocol.table(ready.episodes, tuple(ready.novel.class_names), tuple(ready.novel.groups))
    facts = {**_facts(spec, ready, at), **badges.origin(spec, benchmark, ready.fit.record)}
    if protocol.is_episodic and thumbnails.are_kept(benchmark.roles["novel"].dataset):
        facts[THUMBNAILS] = thumbnails.of_run(ready.novel, table, counts["top1"])
    return RunResult(spec, "done", counts, table, facts, tuple(ready.fit.record["curves"]))


def _facts(spec: RunSpec, ready: Ready, at: Workplace) -> dict[str, Any]:
    """What is recorded beside the counts."""
    method, record = ready.fit
    own = traits(type(method))
    passes = passes_of(type(method), hyper.from_json(type(method).Config, spec.values()))
    return {
        **provenance.describe(at.device),
        **_training(spec, at),
        "seconds": ready.seconds,
        "selection": record["selection"],
        "budget": asdict(_budget(spec, record, at)),
        "warnings": record.get("warnings", []),
        "badges": badges.badges(
            spec,
            benchmarks.named(spec.benchmark),
            is_transductive=own.transductive,
            assumes_balance=own.assumes_balance,
            is_untrained=own.untrained,
            is_trained=isinstance(method, Stateful),
            is_imported=IMPORTED in record,
        ),
        "parameters": sum(p.numel() for part in _modules(ready) for p in part.parameters()),
        "pictures": ready.novel.pictures,
        **({"backbone_passes": passes} if passes else {}),
        "about": about.about(type(method), spec.method, at.places.cache),
        **({"recipe": against_clean(spec, type(method))} if spec.recipe != CLEAN else {}),
    }


def _training(spec: RunSpec, at: Workplace) -> dict[str, Any]:
    """What the training ran on that the numbers hang on, which need not be what evaluates it, and the weights it gave."""
    kept = Fit(at.places.cache, spec.training_key)
    record = kept.record() if kept.is_done else {}
    told = {"training": record.get("machine"), FIT_SHA256: record.get(FIT_SHA256)}
    return {name: value for name, value in told.items() if value}


def _modules(ready: Ready) -> list[torch.nn.Module]:
    """The networks of a run: of the method, and of what it is a head of."""
    both = [ready.fit.method]
    if ready.encoder and ready.encoder.method is not ready.fit.method:
        both.append(ready.encoder.method)
    return [part for part in both if isinstance(part, torch.nn.Module)]


def _budget(spec: RunSpec, record: Mapping[str, Any], at: Workplace) -> Budget:
    """What its training took, and every fit below it once."""
    below = [Fit(at.places.cache, fit.fit_key) for fit in planning.built_on([spec])]
    told = [fit.record() if fit.is_done else {} for fit in below]  # a bundle may bring a fit without them
    return Budget(Spent.of_records([record]), Spent.of_records(told))
