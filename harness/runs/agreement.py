"""What a result says twice, compared: counts with predictions, predictions and episodes with the specification.

The one place where a result is asked whether it is consistent, whoever brings it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from harness.errors import FsbenchError
from harness.runs.result import Counts, EpisodeTable, RunResult
from harness.runs.schema import CURVES, PROVENANCE, find_problem
from harness.runs.spec import RunSpec
from harness.system.text import is_plain

MOST_QUERIES = 1 << 28  # of a run, all episodes together
GROUPS = ("novel", "base", "all")
JOINT_METRICS = frozenset(f"top{k}/{group}" for group in GROUPS for k in (1, 5))
CLOSED_METRIC = "top1/test"
_PARTS = ("classes", "support", "query")


def find_problems(result: RunResult) -> list[str]:
    """Everything in which a result contradicts its specification, its episodes, its predictions or what may be stored."""
    spec, table = result.spec, result.episodes
    problems = [
        find_problem(PROVENANCE, result.provenance, "provenance"),
        find_problem(CURVES, result.curves, "curves"),
    ]
    if (result.status == "done") != bool(result.counts):
        problems.append(f"its status is {result.status} with {len(result.counts)} metrics")
    if spec.n_episodes < 1:
        problems.append("it has no episodes")
    if spec.shot == 0 and (table is None or not table.is_closed) and result.counts:
        problems.append("it has no shots, and no list of test images")
    if spec.n_episodes * spec.n_way * spec.n_query > MOST_QUERIES:
        problems.append(f"it asks more than {MOST_QUERIES:,} queries")
    for name, counts in result.counts.items():
        problems += _count_problems(spec, name, counts)
    list_problems = [*_list_problems(spec, table)] if table is not None else []
    problems += list_problems or _metric_problems(result)
    if not any(problems):
        problems += _wrong_counts(spec, table, result.counts)
    return [problem for problem in problems if problem]


def differs_from_ours(result: RunResult) -> str:
    """Why its episodes are not those of the setting that it names; empty when they are, or the setting is not here."""
    spec, table = result.spec, result.episodes
    try:
        setting = _setting(spec.setting)
        if table is None or setting.digest != spec.episode_digest:
            return ""
        ours = setting.episodes[: spec.n_episodes]
    except (FsbenchError, ValueError, OverflowError):
        return ""  # a benchmark of theirs: nothing to compare with
    if len(ours) < spec.n_episodes:
        return f"it has more episodes than {setting.name} ({setting.list_length:,})"
    asked = getattr(ours, "asked", None)  # jointly all experiments ask the same classes and queries
    classes = ours.classes if asked is None else np.broadcast_to(asked, (len(ours), *asked.shape))
    query = ours.query if asked is None else np.broadcast_to(ours.query, (len(ours), *ours.query.shape))
    pairs = zip((classes, ours.support, query), (getattr(table, part) for part in _PARTS), strict=True)
    is_same = all(np.array_equal(mine, theirs) for mine, theirs in pairs)
    return "" if is_same else f"it shows other episodes than {setting.name} has"


@lru_cache(maxsize=8)
def _setting(name: str) -> Any:
    """A setting, kept, since drawing its list takes a quarter of a second."""
    from harness import benchmarks

    return benchmarks.load(name)


def _list_problems(spec: RunSpec, table: EpisodeTable) -> Iterator[str]:
    arrays = [getattr(table, part) for part in _PARTS]
    if [array.ndim for array in arrays] != [2, 3, 3] or any(array.dtype.kind not in "iu" for array in arrays):
        yield "its episode list is not made of whole numbers of shapes (E, W), (E, W, S) and (E, W, Q)"
        return
    n_asked = min(spec.n_way, table.classes.shape[1]) if table.is_joint else spec.n_way
    n_drawn = table.support.shape[1] if table.is_joint else n_asked  # base classes have no drawn support
    if table.is_closed:
        n_asked, n_drawn = 1, 0
    is_uneven = bool(np.any(table.query == -1)) and not table.is_joint
    n_places = table.query.shape[2] if is_uneven else spec.n_query
    shapes = {"classes": (n_asked,), "support": (n_drawn, spec.shot), "query": (n_asked, n_places)}
    for name, last in shapes.items():
        array, least = getattr(table, name), -1 if is_uneven and name == "query" else 0
        if array.shape != (spec.n_episodes, *last):
            yield f"its episode list has {name} of shape {array.shape}"
        elif array.size and (array.min() < least or array.max() >= 2**31):
            yield f"its episode list has {name} outside of what can be"
    if is_uneven:
        yield from _uneven_problems(spec, table.query)
    n_classes = len(table.class_names)
    if (
        len(table.class_groups) != n_classes
        or np.any(table.classes < 0)
        or np.any(table.classes >= n_classes)
    ):
        yield f"its episodes name classes outside the {n_classes} listed"
    if table.classes.size and np.any(np.diff(np.sort(table.classes, axis=1), axis=1) == 0):
        yield "an episode shows a class twice"
    if table.is_joint and len(table.classes) and np.any(table.classes != table.classes[0]):
        yield "its experiments ask different classes"
    if table.is_closed and (spec.shot, spec.n_query) != (0, 1):
        yield f"its test images have {spec.shot} shots and {spec.n_query} queries each"
    if (table.is_joint or table.is_closed) and n_classes != spec.n_way:
        yield f"its label space has {n_classes} classes, its specification {spec.n_way}"
    named = (*table.class_names, *table.class_groups)
    if not all(isinstance(name, str) and len(name) <= 300 and is_plain(name) for name in named):
        yield "a class has a name with control characters, or of more than 300 characters"


def _uneven_problems(spec: RunSpec, query: Any) -> Iterator[str]:
    """What is wrong with queries of unequal numbers."""
    is_asked = query >= 0  # (E, W, Q)
    n_asked = is_asked.sum(axis=(1, 2))
    if np.any(np.diff(is_asked.astype(np.int8), axis=2) > 0):
        yield "its episode list has places without a query before queries"
    if np.any(n_asked < 1) or np.any(n_asked > spec.n_way * spec.n_query):
        yield f"its episodes have {n_asked.min()} to {n_asked.max()} queries, its specification {spec.n_query} a class"


def _metric_problems(result: RunResult) -> Iterator[str]:
    """Jointly all six numbers and no other, closed one; else top-1 over all queries, beside which there may be others."""
    names, table = result.counts.keys(), result.episodes
    if table is not None and table.is_closed:
        if names != {CLOSED_METRIC}:
            yield f"it has {', '.join(sorted(names))}, not {CLOSED_METRIC} of the closed-set protocol"
        return
    if table is not None and table.is_joint:
        if names != JOINT_METRICS:
            yield f"it has {', '.join(sorted(names))}, not the six numbers of the joint protocol"
    elif (
        result.counts
        and "top1" not in names
        and (table is not None or not all("/" in name for name in names))
    ):
        yield f"it has {', '.join(sorted(names))}, and no top1"
    if not all(len(name) <= 60 and is_plain(name) for name in names):
        yield "a metric has a name with control characters, or of more than 60 characters"


def _count_problems(spec: RunSpec, name: str, counts: Counts) -> Iterator[str]:
    shape, n_correct, n_query = (spec.n_episodes,), counts.n_correct, counts.n_query
    if n_correct.shape != shape or n_query.shape != shape:
        yield f"{name} has counts for {n_correct.shape} episodes"
    elif n_correct.dtype.kind not in "iu" or n_query.dtype.kind not in "iu":
        yield f"{name} has counts that are not whole numbers"
    elif np.any(n_correct < 0) or np.any(n_correct > n_query):
        yield f"{name} counts more correct predictions than queries, or fewer than none"
    labels = counts.predictions
    if labels is not None and (labels.ndim != 2 or len(labels) != spec.n_episodes):
        yield f"{name} has predictions of shape {labels.shape}"
    elif labels is not None and (
        labels.dtype.kind not in "iu" or np.any(labels < 0) or np.any(labels >= spec.n_way)
    ):
        yield f"{name} predicts labels beyond {spec.n_way} ways"


def _wrong_counts(spec: RunSpec, table: EpisodeTable | None, counts: Mapping[str, Counts]) -> Iterator[str]:
    """Compare n_query with the episodes, or the specification, and n_correct with the predictions."""
    if table is not None and table.is_closed:
        yield from _wrong_images(table, counts[CLOSED_METRIC])
        return
    is_joint = table is not None and table.is_joint
    bare = np.arange(spec.n_way).repeat(spec.n_query)
    truth = table.query_label if table is not None else np.broadcast_to(bare, (spec.n_episodes, len(bare)))
    for name, found in counts.items():
        top, _, group = name.partition("/")
        asked = _asked(table, spec, group) if table is not None and is_joint else slice(None)
        n_asked = (truth[:, asked] >= 0).sum(axis=1)
        told = " to ".join(dict.fromkeys((str(n_asked.min()), str(n_asked.max()))))
        if is_joint or not group:
            if np.any(found.n_query != n_asked):
                yield f"{name} counts other than {told} queries an episode"
        elif np.any(found.n_query > n_asked):
            yield f"{name} counts more than {told} queries an episode"
        labels = counts[f"{top}/all"].predictions if is_joint else found.predictions
        if labels is None or (group and not is_joint):
            continue
        if labels.shape[1] != truth.shape[1]:
            yield f"{name} has predictions of shape {labels.shape} for {truth.shape[1]} queries an episode"
        elif np.any((labels[:, asked] == truth[:, asked]).sum(axis=1) != found.n_correct):
            yield f"{name} does not have the counts that its predictions give"


def _wrong_images(table: EpisodeTable, found: Counts) -> Iterator[str]:
    """Each test image counts once, and is right where its label is predicted."""
    if np.any(found.n_query != 1):
        yield f"{CLOSED_METRIC} counts other than one query an image"
    if found.predictions is not None and found.predictions.shape[1] != 1:
        yield f"{CLOSED_METRIC} has predictions of shape {found.predictions.shape} for one query an image"
    elif found.predictions is not None and np.any(
        (found.predictions == table.query_label)[:, 0] != found.n_correct
    ):
        yield f"{CLOSED_METRIC} does not have the counts that its predictions give"


def _asked(table: EpisodeTable, spec: RunSpec, group: str) -> slice:
    """Which queries of an experiment a metric counts; those of base classes come first."""
    n_base = (table.classes.shape[1] - table.support.shape[1]) * spec.n_query
    return {"novel": slice(n_base, None), "base": slice(0, n_base)}.get(group, slice(None))


def without_predictions(result: RunResult) -> list[str]:
    """Metrics whose predictions a result should have and has not, so that nobody can count them again."""
    needed: tuple[str, ...] = ("top1",)
    if result.episodes is not None and result.episodes.is_joint:
        needed = ("top1/all", "top5/all")
    elif result.episodes is not None and result.episodes.is_closed:
        needed = (CLOSED_METRIC,)
    return [name for name in needed if name not in result.counts or result.counts[name].predictions is None]
