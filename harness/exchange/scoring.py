"""Answers made elsewhere on an exported episode list: checked, counted here, and kept as self-reported.

``fsbench episodes SETTING --json`` gives the list: episode e has ``classes`` (label 0 first), ``support`` by label, and ``query``
by label; its queries are asked in that order, all of label 0, then all of label 1, and so on. Which query has which label is
therefore in the export: whoever reports is trusted not to have looked, and the row says self-reported. Lists that nobody here
has, of images that are not here, are known by their digest alone: their rows stand beside each other and nothing else.
"""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness import benchmarks
from harness.benchmarks import Setting
from harness.benchmarks.episodes import EpisodeList, IntArray
from harness.errors import ConfigError, DataError, visible
from harness.evaluation.counting import smallest_dtype
from harness.evaluation.protocols import protocol_of
from harness.exchange.answers import Reported, read
from harness.method import registry
from harness.runs import SELF_REPORTED, Counts, MethodReference, RunResult, RunSpec
from harness.runs.spec import SCORED
from harness.system.provenance import utc_now

if TYPE_CHECKING:
    from harness.system.folders import Places

ACCURACIES, EXTERNAL = "accuracies alone", "external list"  # badges
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,63}")
_EXTERNAL = re.compile(
    r"(?P<key>[a-z0-9][a-z0-9-]{0,60})-(?P<way>\d{1,4})w(?P<shot>\d{1,4})s(-q(?P<query>\d{1,5}))?"
)
_SURE = 2.33  # standard deviations above chance: one in a hundred is there by luck


class Scored(NamedTuple):
    """A result, and what to ask whoever reported it; empty as a rule."""

    result: RunResult
    warning: str


def score(file: Path, setting_name: str, name: str, seed: int, places: Places) -> Scored:
    """Count a file of answers.

    Args:
        file: ``.npz``, ``.json`` or ``.csv``, as ``answers`` has them.
        setting_name: whose list was answered.
        name: of the method, as the row shows it; not one of fsbench's own.
        seed: of the training it comes from; seeds of one name are pooled.
        places: where the images are: their digest tells which rows may be compared.

    Raises:
        ConfigError: for a name that is taken or unreadable, or a joint setting.
        DataError: when the file is not what the setting asks, or the images are not prepared.
    """
    check_name(name)
    setting = benchmarks.load(setting_name)
    listed = _listed(setting)
    reported = read(file)
    problems = find_problems(reported, setting, listed)
    if problems:
        raise DataError(
            f"{file} does not answer {setting.name}: {'; '.join(problems)}. `fsbench score --help` says more."
        )
    episodes = listed[: reported.n_episodes]
    novel = setting.benchmark.open("novel", places.data)
    protocol = protocol_of(episodes)
    table = protocol.table(episodes, tuple(novel.class_names), tuple(novel.groups))
    counts = (
        _counts(reported)
        if reported.predictions is None
        else protocol.counts(episodes, _in_places(reported.predictions, episodes))
    )
    spec = _spec(setting, name, seed, len(episodes), novel.digest)
    result = RunResult(spec, "done", counts, table, _facts(file, reported, ()))
    return Scored(result, order_warning(counts["top1"], setting.way, is_balanced=not setting.marginal))


def score_external(file: Path, setting_name: str, name: str, seed: int) -> Scored:
    """Count answers to a list that is known by its digest alone.

    Args:
        file: as for ``score``; predictions are asked in the order of labels.
        setting_name: what it is called here: NAME-<way>w<shot>s, and no setting of fsbench.
        name, seed: as for ``score``.

    Raises:
        ConfigError: for a name that is taken or unreadable.
        DataError: when the file has no digest, or contradicts the ways.
    """
    check_name(name)
    match = _EXTERNAL.fullmatch(setting_name)
    if not match:
        raise ConfigError(
            f"--bench {setting_name}: an external list is called NAME-<way>w<shot>s, like theirs-5w1s."
        )
    if match["key"] in {benchmark.key for benchmark in benchmarks.every()}:
        raise ConfigError(
            f"--bench {setting_name}: {match['key']} is a benchmark here. Leave --external out."
        )
    reported, way = read(file), int(match["way"])
    problems = _external_problems(reported, way, int(match["query"] or 0))
    if problems:
        raise DataError(f"{file} does not answer {setting_name}: {'; '.join(problems)}.")
    n_query = _queries(reported) // way
    counts = _counts(reported, way)
    spec = RunSpec(
        method=MethodReference(SCORED, name, SCORED), benchmark=match["key"], setting=setting_name, n_way=way,
        shot=int(match["shot"]), n_query=n_query, n_episodes=reported.n_episodes, config={}, backbone="unknown", image_size=0,
        channels=0, pipeline="unknown", episode_digest=reported.digest, data_digest={"novel": reported.digest}, seed=seed,
    )  # fmt: skip
    bare = {
        "top1": Counts(counts["top1"].n_correct, counts["top1"].n_query)
    }  # labels say nothing without their list
    result = RunResult(spec, "done", bare, None, _facts(file, reported, (EXTERNAL,)))
    return Scored(result, order_warning(counts["top1"], way))


def find_problems(reported: Reported, setting: Setting, listed: EpisodeList) -> list[str]:
    """Everything in which a file is not an answer to a setting and its list."""
    problems = []
    if reported.digest != setting.digest:
        problems.append(
            f"it answers the list {visible(reported.digest[:12]) or '(none)'}…, and the setting's is {setting.digest[:12]}…"
        )
    asked = listed.n_asked[: reported.n_episodes]
    most = int(asked.max(initial=0)) or setting.way * setting.n_query
    if reported.predictions is None and reported.n_query is not None and reported.n_episodes <= len(asked):
        fits = np.array_equal(reported.n_query, asked)
    else:
        fits = _queries(reported) == most and not np.any(asked != most)
    if not 1 <= reported.n_episodes <= setting.list_length or not fits:
        given = reported.predictions if reported.predictions is not None else reported.n_correct
        assert given is not None
        shape = given.shape if reported.predictions is not None else (len(given), _queries(reported))
        is_uneven = bool(np.any(asked != most))
        problems.append(
            f"predictions have shape {shape}, expected "
            + (
                f"`n_correct` and `n_query` by episode, since episodes have {asked.min():,} to {most:,} queries, of 1 to"
                if is_uneven
                else f"(episodes, {most}) with 1 to"
            )
            + f" {setting.list_length:,} episodes"
        )
    return [*problems, *_value_problems(reported, setting.way)]


def _in_places(predictions: IntArray, episodes: EpisodeList) -> IntArray:
    """Labels of the queries in order (E, n) → at their places in the list (E, n_query), 0 at the others."""
    found = np.zeros((len(episodes), episodes.n_query), dtype=np.int64)
    found[episodes.query_label >= 0] = predictions.ravel()
    return found


def order_warning(counts: Counts, way: int, *, is_balanced: bool = True) -> str:
    """What to ask where accuracy does not differ from chance: an order mistake looks so; empty where it is above."""
    n, chance = int(counts.n_query.sum()), 1 / way
    found = int(counts.n_correct.sum())
    if found > n * chance + _SURE * math.sqrt(n * chance * (1 - chance)):
        return ""
    said = (
        f"accuracy, {100 * found / n:.2f} %, is not above chance, {100 * chance:.2f} %. Queries are asked in the order of the "
        "export: all of label 0, then all of label 1, and so on; label 0 is the first of the episode's `classes`."
    )
    if counts.predictions is not None and is_balanced:
        turned = counts.predictions.reshape(
            len(counts.predictions), -1, way
        )  # one query of each label, again and again
        other = float((turned == np.arange(way)).mean())
        if other > chance + _SURE * math.sqrt(chance * (1 - chance) / n):
            said += f" With the labels in turn (0, 1, 2, …, 0, 1, 2, …) it would be {100 * other:.2f} %."
    return said


def _external_problems(reported: Reported, way: int, n_query: int) -> list[str]:
    problems = []
    if len(reported.digest) < 16:
        problems.append(
            "it has no digest of the list (16 hex digits or more), by which equal lists are known"
        )
    queries = _queries(reported)
    if way < 2 or queries < 1 or queries % way or (n_query and queries != way * n_query):
        problems.append(
            f"{queries} queries an episode are not {n_query or 'equally many'} for each of {way} ways"
        )
    if not reported.n_episodes:
        problems.append("it has no episodes")
    return [*problems, *_value_problems(reported, way)]


def _value_problems(reported: Reported, way: int) -> list[str]:
    problems = []
    if reported.predictions is not None:
        outside = (reported.predictions < 0) | (reported.predictions >= way)
        if outside.any():
            problems.append(f"{int(outside.sum())} predictions are not labels in 0 to {way - 1}")
    elif reported.n_correct is not None and reported.n_query is not None:
        wrong = (reported.n_correct < 0) | (reported.n_correct > reported.n_query)
        if wrong.any():
            problems.append(
                f"{int(wrong.sum())} episodes have more correct answers than queries, or fewer than none"
            )
    return problems


def _queries(reported: Reported) -> int:
    """Queries of an episode; 0 where episodes differ or rows have no length."""
    if reported.predictions is not None:
        return int(reported.predictions.shape[1]) if reported.predictions.ndim == 2 else 0
    sizes = set(reported.n_query.tolist()) if reported.n_query is not None else set()
    return int(sizes.pop()) if len(sizes) == 1 else 0


def _counts(reported: Reported, way: int = 0) -> dict[str, Counts]:
    """Counts as they were reported, or of predictions whose queries come in the order of the labels."""
    if reported.predictions is not None:
        truth = np.repeat(np.arange(way), reported.predictions.shape[1] // way)
        n_correct = (reported.predictions == truth).sum(1)
        dtype: type[np.unsignedinteger[Any]] = smallest_dtype(way)
        labels = reported.predictions.astype(dtype)
        return {"top1": Counts(n_correct, np.full(len(n_correct), len(truth)), labels)}
    assert reported.n_correct is not None and reported.n_query is not None
    return {"top1": Counts(reported.n_correct, reported.n_query)}


def _facts(file: Path, reported: Reported, badges: tuple[str, ...]) -> dict[str, Any]:
    return {
        SELF_REPORTED: True, "badges": [*badges, *([ACCURACIES] if reported.predictions is None else [])], "file": visible(file.name),
        "file_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "finished": utc_now(),
    }  # fmt: skip


def _spec(setting: Setting, name: str, seed: int, n_episodes: int, novel_digest: str) -> RunSpec:
    benchmark = setting.benchmark
    return RunSpec(
        method=MethodReference(SCORED, name, SCORED), benchmark=benchmark.key, setting=setting.name, n_way=setting.way,
        shot=setting.shot, n_query=setting.n_query, n_episodes=n_episodes, config={}, backbone="unknown",
        image_size=benchmark.image_size, channels=benchmark.channels, pipeline=benchmark.pipeline,
        episode_digest=setting.digest, data_digest={"novel": novel_digest}, seed=seed,
    )  # fmt: skip


def _listed(setting: Setting) -> EpisodeList:
    episodes = setting.episodes
    if not isinstance(episodes, EpisodeList):
        raise ConfigError(
            f"{setting.name} asks all its classes together; only predictions on episodes can be scored."
        )
    return episodes


def check_name(name: str) -> None:
    """Refuse a name for predictions made elsewhere that is unreadable or taken by a method.

    Raises:
        ConfigError: with what a name may be.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--name {name!r}: letters, digits, spaces and . _ + - make a name, 64 at most.")
    if name in registry.installed():
        raise ConfigError(
            f"--name {name}: that is a method of fsbench; what was made elsewhere has a name of its own."
        )
