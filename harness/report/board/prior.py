"""What the whole database says about training again: the prior from which every table borrows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness import stats
from harness.evaluation.protocols import protocol_with
from harness.report.board.rows import by_row, headline_metric, is_trained, row_name
from harness.store import Store, StoredRun


def learn(
    store: Store, known: Mapping[str, stats.Row], every: Sequence[StoredRun] | None = None
) -> stats.Prior:
    """Fit the prior to every row of the database that was trained twice or more, whatever its setting.

    Args:
        store: the database.
        known: rows that were read already, by their keys.
        every: all runs, where they were read already.
    """
    done = [run for run in (store.stored_runs() if every is None else every) if run.status == "done"]
    return stats.prior_of(list(repeated(store, done, known)))


def repeated(store: Store, runs: Sequence[StoredRun], known: Mapping[str, stats.Row]) -> Iterator[stats.Row]:
    """Give what can be fitted: rows of two trainings or more on one list of episodes."""
    lists: dict[tuple[str, str], list[StoredRun]] = {}
    for run in runs:
        lists.setdefault((run.spec.setting, run.spec.episode_digest), []).append(run)
    for members in lists.values():
        for group in by_row(members).values():
            if len(group) > 1 and is_trained(group[0]) and protocol_with(group[0].metrics).is_episodic:
                yield known.get(row_name(group)) or _read(store, group)


def _read(store: Store, runs: Sequence[StoredRun]) -> stats.Row:
    _, accuracy = store.accuracy_matrix([run.pk for run in runs], headline_metric(runs[0]))
    spec, fits = runs[0].spec, [run.training for run in runs]
    return stats.summarise(row_name(runs), accuracy, spec.n_way * spec.n_query, fits)
