"""One run class by class: which novel classes it gets wrong, and what it takes them for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from harness import stats
from harness.errors import StoreError
from harness.report.board.joint import predictions_of
from harness.report.board.rows import headline_metric
from harness.runs.request import command
from harness.store import Store


@dataclass(frozen=True)
class ClassLine:
    """One novel class of a run.

    Attributes:
        name, group: of the class; ``group`` its superclass or alphabet, or empty.
        n_query, n_correct: counts over all episodes.
        accuracy: a fraction.
        taken_for: the class most of its wrong queries were given to, relative to how often both met in an
            episode; empty when it has no error.
    """

    name: str
    group: str
    n_query: int
    n_correct: int
    accuracy: float
    taken_for: str


def by_class(store: Store, run_id: str) -> list[ClassLine]:
    """Count a run by true class, hardest first.

    Args:
        store: the database.
        run_id: the beginning of a run id.

    Raises:
        StoreError: when there is no such run, it failed, or it kept no predictions.
    """
    run = store.run(run_id)
    labels = predictions_of(store, run, headline_metric(run)) if run.metrics else None
    if labels is None:
        why = "failed" if run.status == "failed" else "kept no predictions"
        raise StoreError(
            f"Run {run.id} {why}, so its classes cannot be told apart. Run it again with "
            f"`{command(run.spec)} --force`."
        )
    episodes = store.episode_list(run.spec.episode_digest)
    classes = episodes.class_of_label[: len(labels)]
    pairs = stats.confusion(labels, episodes.query_label[: len(labels)], classes)
    together = _meetings(classes, pairs.class_id)
    wrong = np.where(together > 0, pairs.counts / np.maximum(together, 1), 0.0)
    np.fill_diagonal(wrong, 0.0)
    lines = []
    for i, class_id in enumerate(pairs.class_id):
        n_query, n_correct = int(pairs.counts[i].sum()), int(pairs.counts[i, i])
        if not n_query:  # jointly, a class of the other half
            continue
        other = episodes.class_names[pairs.class_id[wrong[i].argmax()]] if wrong[i].any() else ""
        name, group = episodes.class_names[class_id], episodes.class_groups[class_id]
        lines.append(ClassLine(name, group, n_query, n_correct, n_correct / n_query, other))
    return sorted(lines, key=lambda line: (line.accuracy, line.name))


def as_json(lines: list[ClassLine]) -> list[dict[str, Any]]:
    """The lines as JSON types."""
    return [asdict(line) for line in lines]


def _meetings(
    classes: np.ndarray[Any, np.dtype[np.int32]], class_id: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """(C, C) number of episodes that hold both classes."""
    member = np.zeros((len(classes), len(class_id)), dtype=np.float32)
    np.put_along_axis(member, np.searchsorted(class_id, classes), 1.0, axis=1)
    return member.T @ member
