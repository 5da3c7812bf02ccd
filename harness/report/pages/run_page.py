"""What the page of one run says: where every value came from, how it went, and how to do it again."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from harness import benchmarks
from harness.errors import RecordError, visible
from harness.evaluation.protocols import protocol_with
from harness.report.board.joint import kept_predictions
from harness.report.formats import budget_text, flat, method_file
from harness.report.pages.pictures import ClassPictures, of_episode
from harness.runs import EpisodeTable
from harness.runs.budget import Budget
from harness.runs.findings import DIFFERENT
from harness.runs.request import command, threads_told
from harness.runs.signature import signature
from harness.store import Store, StoredRun

log = logging.getLogger("fsbench.report")
N_EXTREMES = 5
N_BINS = 20
N_POINTS = 60  # of a drawn training curve
SHOWN_APART = (
    "badges",
    "seconds",
    "packages",
    "about",
    "recipe",
    "device_type",
    "warnings",
)  # of the provenance
N_NAMES = 10  # classes of an episode that are named


@dataclass(frozen=True)
class EpisodeLine:
    """One episode: its number, its counts, the names of its classes, and its pictures where the run stored some."""

    number: int
    n_correct: int
    n_query: int
    classes: tuple[str, ...]
    pictures: tuple[ClassPictures, ...] = ()


@dataclass(frozen=True)
class Curve:
    """A training curve: (step, value) pairs, at most ``N_POINTS`` of them, and the whole range."""

    name: str
    points: tuple[tuple[float, float], ...]
    low: float
    high: float
    last: float


@dataclass(frozen=True)
class Check:
    """Something that was verified: what, whether it held (None: not checked), and a word on it."""

    what: str
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class RunPage:
    """Everything on the page of one run.

    Attributes:
        run: the run.
        method_href: link to its method.
        command: shell command that makes it again.
        signature: what was done, in one line to print in papers.
        accuracies: (metric, fraction) pairs.
        histogram: episodes per bin of accuracy, ``N_BINS`` equal bins over [0, 1].
        worst, best: the extreme episodes.
        curves: training curves.
        checks: what was verified.
        facts: provenance as (name, text).
    """

    run: StoredRun
    method_href: str
    command: str
    signature: str
    accuracies: tuple[tuple[str, float], ...]
    histogram: tuple[int, ...]
    worst: tuple[EpisodeLine, ...]
    best: tuple[EpisodeLine, ...]
    curves: tuple[Curve, ...]
    checks: tuple[Check, ...]
    facts: tuple[tuple[str, str], ...]

    @property
    def unit(self) -> str:
        """What was evaluated one after the other."""
        return protocol_with(self.run.metrics).item


def build(
    store: Store,
    run: StoredRun,
    metric: str,
    episodes: EpisodeTable | None,
    accuracy: npt.NDArray[np.float64] | None = None,
) -> RunPage:
    """Compute the page of one run.

    Args:
        store: the database.
        run: the run.
        metric: the one whose episodes are shown; empty for a failed run.
        episodes: its list, where it is stored.
        accuracy: (T,) of that metric where it has been read before; saves reading it again.
    """
    n_correct, n_query = _counts(store, run, metric, accuracy)
    asked = n_query > 0
    shares = n_correct[asked] / n_query[asked]
    order = np.lexsort((np.arange(len(n_correct)), n_correct / np.maximum(n_query, 1)))
    n_worst, n_best = min(N_EXTREMES, -(-len(order) // 2)), min(N_EXTREMES, len(order) // 2)
    chosen = (*order[:n_worst], *order[::-1][:n_best])
    lines = [_episode(int(i), n_correct, n_query, episodes) for i in chosen]
    lines = _with_pictures(store, run, metric, episodes, lines)
    return RunPage(
        run=run,
        method_href=method_file(run.spec.method.name),
        command=threads_told(run.provenance) * (not run.spec.is_scored) + command(run.spec),
        signature=str(signature([run], run.spec.n_episodes)),
        accuracies=tuple(_accuracy(store, run, name, metric, shares) for name in run.metrics),
        histogram=tuple(np.histogram(shares, N_BINS, (0, 1))[0].tolist()),
        worst=tuple(lines[:n_worst]),
        best=tuple(lines[n_worst:]),
        curves=curves(run.curves),
        checks=tuple(_checks(run)),
        facts=tuple(_fact(k, v) for k, v in sorted(run.provenance.items()) if k not in SHOWN_APART and v),
    )


def curves(points: Sequence[Mapping[str, Any]]) -> tuple[Curve, ...]:
    """Make one curve of every name that was logged, thinned to ``N_POINTS``."""
    names = dict.fromkeys(name for point in points for name in point if name != "step")
    found = []
    for name in names:
        pairs = [
            (float(p.get("step", i)), float(p[name])) for i, p in enumerate(points)
            if isinstance(p.get(name), int | float) and np.isfinite(p[name])
        ]  # fmt: skip
        if not pairs:
            continue
        values = [value for _, value in pairs]
        every = np.unique(np.linspace(0, len(pairs) - 1, min(N_POINTS, len(pairs))).round().astype(int))
        thinned = tuple(pairs[i] for i in every)
        found.append(Curve(name, thinned, min(values), max(values), values[-1]))
    return tuple(found)


def _fact(name: str, value: Any) -> tuple[str, str]:
    """Name and text of one entry of the provenance; bytes as megabytes, whole numbers in groups of three."""
    if name == "budget":
        return "training took", budget_text(Budget.from_json(value))
    if name.endswith("_bytes"):
        return name.removesuffix("_bytes").replace("_", " "), f"{value / 1e6:,.0f} MB"
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return name.replace("_", " "), f"{value:,}" if is_whole else flat(value)


def _counts(
    store: Store, run: StoredRun, metric: str, accuracy: npt.NDArray[np.float64] | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Correct predictions and queries per episode, from the accuracies where they are ratios of whole numbers."""
    if not metric:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    n_query = run.spec.n_way * run.spec.n_query
    if accuracy is not None and len(accuracy) == run.spec.n_episodes:
        n_correct = np.rint(accuracy * n_query)
        if metric == "top1" and np.allclose(n_correct, accuracy * n_query, rtol=0, atol=1e-6):
            return n_correct.astype(np.int64), np.full(len(accuracy), n_query, np.int64)
    return store.counts(run.pk, metric)


def _accuracy(
    store: Store, run: StoredRun, name: str, metric: str, known: np.ndarray[Any, Any]
) -> tuple[str, float]:
    if name == metric:
        return name, float(known.mean())
    n_correct, n_query = store.counts(run.pk, name)
    asked = n_query > 0
    return name, float((n_correct[asked] / n_query[asked]).mean())


def _episode(i: int, n_correct: Any, n_query: Any, episodes: EpisodeTable | None) -> EpisodeLine:
    names: tuple[str, ...] = ()
    if episodes is not None and i < len(episodes.classes) and not episodes.is_joint:
        names = tuple(episodes.class_names[c] for c in episodes.classes[i])
        names = (*names[:N_NAMES], f"{len(names) - N_NAMES} more") if len(names) > N_NAMES + 1 else names
    return EpisodeLine(i, int(n_correct[i]), int(n_query[i]), names)


def _with_pictures(
    store: Store, run: StoredRun, metric: str, episodes: EpisodeTable | None, lines: list[EpisodeLine]
) -> list[EpisodeLine]:
    if not run.pictures or episodes is None or episodes.is_joint:
        return lines
    try:
        thumbnails = store.pictures(run.pk)
    except RecordError as error:
        log.warning("left out: pictures of run %s: %s", run.id, visible(str(error)))
        return lines
    given = kept_predictions(store, run, metric)
    return [replace(line, pictures=of_episode(line.number, episodes, given, thumbnails)) for line in lines]


def _checks(run: StoredRun) -> list[Check]:
    spec = run.spec
    locked = benchmarks.locked_digests().get(spec.setting)
    checks = [
        Check(
            "The episode list is the locked one",
            None if locked is None else locked == spec.episode_digest,
            "this setting is not locked" if locked is None else spec.episode_digest[:12],
        ),
        Check(
            "Run again, it gave the same counts",
            False if len(run.replicates) > 1 else None,
            f"{len(run.replicates)} different results are stored"
            if len(run.replicates) > 1
            else "one result stored",
        ),
    ]
    for check in run.rechecks:
        checks.append(
            Check(
                "Episodes counted again from the checkpoint gave the same counts",
                check.word != DIFFERENT,
                f"{check.sentence}, {check.device}, {check.checked[:10]}",
            )
        )
    return [*checks, *_contract(run)]


def contract_checks(about: Mapping[str, Any]) -> tuple[Check, ...]:
    """How the contract of a method came out, promise by promise; none where it was not checked."""
    return tuple(
        Check(str(c.get("name", "")), c.get("passed"), str(c.get("detail", "")))
        for c in about.get("contract", [])
    )


def _contract(run: StoredRun) -> list[Check]:
    """The contract in one line; the page of the method has it whole."""
    found = contract_checks(run.provenance.get("about") or {})
    broken = [check for check in found if check.passed is False]
    kept = sum(check.passed is True for check in found)
    told = f"{len(broken)} of {len(found)} broken" if broken else f"{kept} promises kept"
    checked = str((run.provenance.get("about") or {}).get("checked", ""))[:10]
    what = "The method keeps its contract"
    return [Check(what, not broken, f"{told}, {checked}" if checked else told)] if found else []
