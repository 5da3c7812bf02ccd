"""The database as four plain tables, for SQL and for files: runs, episodes, predictions, classes.

They hold what the pages show: nothing deleted, the first of several results of a run.

=============  ====================================================================================================
runs           run, method, version, setting, backbone, recipe, seed, config (what differs from the defaults), status,
               metric, accuracy (a fraction, its mean over episodes), way, shot, queries, episodes, image_size, pipeline,
               fit_seconds, trained_on, badges, created
episodes       run, metric, episode, n_correct, n_query, accuracy
predictions    run, episode, query, true_class, predicted_class: names of novel classes; an empty name for what is none
classes        run, class, group, n_query, n_correct, accuracy, taken_for
=============  ====================================================================================================
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from harness.errors import ConfigError, StoreError
from harness.report.board import by_class
from harness.report.board.joint import predictions_of
from harness.report.board.rows import headline_metric
from harness.runs.findings import StoredRun
from harness.system.files import aside

if TYPE_CHECKING:
    from harness.store import Store


def _run(store: Store, run: StoredRun) -> pd.DataFrame:
    spec, metric = run.spec, headline_metric(run) if run.metrics else ""
    accuracy = None
    if metric:
        correct, asked = store.counts(run.pk, metric)
        accuracy = float((correct / asked).mean())
    seconds = run.provenance.get("seconds", {})
    return pd.DataFrame([{
        "run": run.id, "method": spec.whole_name, "version": spec.method.version, "setting": spec.setting,
        "backbone": spec.shown_backbone, "recipe": spec.recipe, "seed": spec.seed, "config": spec.changed, "status": run.status,
        "metric": metric, "accuracy": accuracy, "way": spec.n_way, "shot": spec.shot, "queries": spec.n_query,
        "episodes": spec.n_episodes, "image_size": spec.image_size, "pipeline": spec.pipeline,
        "fit_seconds": seconds.get("fit") if isinstance(seconds, Mapping) else None, "trained_on": ", ".join(spec.seen),
        "badges": ", ".join(run.badges), "created": run.created,
    }])  # fmt: skip


def _episodes(store: Store, run: StoredRun) -> pd.DataFrame:
    frame = store.episodes([run.id])
    frame = frame[frame["replicate"] == run.replicate].drop(columns="replicate")
    return frame.rename(columns={"run_id": "run"})


def _predictions(store: Store, run: StoredRun) -> pd.DataFrame:
    labels = predictions_of(store, run, headline_metric(run)) if run.metrics else None
    columns = ("run", "episode", "query", "true_class", "predicted_class")
    if labels is None:
        return pd.DataFrame({name: [] for name in columns})
    table = store.episode_list(run.spec.episode_digest)
    true, class_of = table.query_label[: len(labels)], table.class_of_label[: len(labels)]
    names = np.array([*table.class_names, ""], dtype=object)
    episode, query = np.nonzero(true >= 0)
    told = labels[episode, query].astype(np.int64)
    is_label = told < class_of.shape[1]  # "none of these" is a label beyond them
    predicted = np.where(is_label, class_of[episode, np.where(is_label, told, 0)], len(table.class_names))
    return pd.DataFrame({
        "run": run.id, "episode": episode, "query": query,
        "true_class": names[class_of[episode, true[episode, query]]], "predicted_class": names[predicted],
    })  # fmt: skip


def _classes(store: Store, run: StoredRun) -> pd.DataFrame:
    try:
        lines = by_class.by_class(store, run.id)
    except StoreError:  # a run without predictions has no classes to tell apart
        lines = []
    columns = ("run", "class", "group", "n_query", "n_correct", "accuracy", "taken_for")
    return pd.DataFrame(
        [{"run": run.id, "class": line.name, **asdict(line)} for line in lines], columns=list(columns)
    )


_WHOLE = dict.fromkeys(
    ("seed", "way", "shot", "queries", "episodes", "image_size", "episode", "query", "n_query", "n_correct"),
    "int64",
)
_KINDS = {**_WHOLE, **dict.fromkeys(("accuracy", "fit_seconds"), "float64")}
VIEWS: Mapping[str, Callable[[Store, StoredRun], pd.DataFrame]] = {
    "runs": _run, "episodes": _episodes, "predictions": _predictions, "classes": _classes,
}  # fmt: skip


def frames(store: Store, name: str, runs: Sequence[StoredRun]) -> Iterator[pd.DataFrame]:
    """One of the views, a table a run; those of runs that have none of it are left out."""
    for run in runs:
        frame = VIEWS[name](store, run)
        if len(frame):
            yield frame


def query(store: Store, sql: str, runs: Sequence[StoredRun]) -> pd.DataFrame:
    """Answer SQL over the views, in a copy of them in memory: nothing that is typed can change the database.

    Args:
        store: the database, of either kind.
        sql: one SELECT of SQLite's language.
        runs: whose rows the views hold; only the views that the text names are made.

    Raises:
        ConfigError: when it names no view, or is not one statement that SQLite can answer.
    """
    named = [name for name in VIEWS if re.search(rf"\b{name}\b", sql, re.IGNORECASE)]
    if not named:
        raise ConfigError(
            f"The query names none of {', '.join(VIEWS)}; such as SELECT method, accuracy FROM runs."
        )
    with closing(sqlite3.connect(":memory:")) as memory:
        for name in named:
            empty = True
            for frame in frames(store, name, runs):
                frame.to_sql(name, memory, if_exists="append", index=False)
                empty = False
            if empty:
                raise ConfigError(f"No run here has {name}. `fsbench runs` lists what there is.")
        memory.set_authorizer(_only_reading)
        try:
            return pd.read_sql_query(sql, memory)
        except (pd.errors.DatabaseError, sqlite3.Error, TypeError) as error:
            raise ConfigError(
                f"The query cannot be answered: {str(error.__cause__ or error)[:200]}."
            ) from error


def write_parquet(store: Store, folder: Path, runs: Sequence[StoredRun]) -> dict[str, int]:
    """Write every view as NAME.parquet, a row group a run, so that memory does not grow with the database.

    Returns:
        Rows by view.

    Raises:
        ConfigError: when pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError("--parquet needs pyarrow: pip install 'fsbench[parquet]'.") from error
    written = {}
    for name in VIEWS:
        found = frames(store, name, runs)
        written[name] = 0
        if (first := next(found, None)) is None:
            continue
        schema = pyarrow.schema(
            [(column, getattr(pyarrow, _KINDS.get(str(column), "string"))()) for column in first]
        )
        with (
            aside(folder / f"{name}.parquet") as part,
            pyarrow.parquet.ParquetWriter(part, schema, compression="zstd") as writer,
        ):
            for frame in chain([first], found):
                writer.write_table(pyarrow.Table.from_pandas(frame, schema=schema, preserve_index=False))
                written[name] += len(frame)
    return written


def _only_reading(action: int, *_: object) -> int:
    reading = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
    return sqlite3.SQLITE_OK if action in reading else sqlite3.SQLITE_DENY
