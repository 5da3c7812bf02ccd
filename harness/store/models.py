"""The tables of results.db, named so that anyone with SQL can read them; types that SQLite and PostgreSQL share.

The words in order of reading: a `run` has one `result` row per (metric, episode); its `episode_digest` names the
`episode_list` that says which classes and images each episode shows. The view `episode_accuracy` joins the names. What
several runs show or say of their method is one row of `shared`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Dialect,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    column,
    table,
)

from harness.errors import RecordError
from harness.runs import RunSpec
from harness.system.arrays import pack, unpack

IntArray = npt.NDArray[np.integer[Any]]


class PackedArray(TypeDecorator[IntArray]):
    """An integer array as ``harness.system.arrays.pack`` writes it."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: IntArray | None, dialect: Dialect) -> bytes | None:
        """Compress, fast."""
        return None if value is None else pack(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> IntArray | None:
        """Decompress, when the header says that it is an array of whole numbers and not too large."""
        if value is None:
            return None
        try:
            return unpack(value)
        except (ValueError, TypeError) as error:
            raise RecordError(
                f"The database holds a damaged array ({error}). Move the file away and type `fsbench collect`, "
                "which rebuilds results.db from the run folders."
            ) from error


metadata = MetaData()
optional = (
    MetaData()
)  # tables that a database of the current version may lack: they appear when they are needed

fsbench_schema = Table("fsbench_schema", metadata, Column("version", Integer, nullable=False))

run = Table(
    "run",
    metadata,
    Column("pk", Integer, primary_key=True),
    Column("id", Text, nullable=False),  # RunSpec.id
    Column("replicate", Text, nullable=False),  # RunResult.digest: another GPU may give one id other counts
    Column("status", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("method_version", Text, nullable=False),
    Column("benchmark", Text, nullable=False),
    Column("setting", Text, nullable=False),
    Column("n_way", Integer, nullable=False),
    Column("shot", Integer, nullable=False),
    Column("n_query", Integer, nullable=False),  # per class
    Column("n_episodes", Integer, nullable=False),
    Column("backbone", Text, nullable=False),
    Column("image_size", Integer, nullable=False),
    Column("pipeline", Text, nullable=False),
    Column("recipe", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("precision", Text, nullable=False),
    Column("episode_digest", Text, nullable=False, index=True),
    Column("novel_digest", Text, nullable=False),
    Column("fit_key", Text, nullable=False),
    Column("spec", Text, nullable=False),  # JSON, as are the next two
    Column("provenance", Text, nullable=False),
    Column("curves", Text, nullable=False),
    Column("traceback", Text, nullable=False),
    Column("finished", Text, nullable=False),  # provenance["finished"], UTC, or ""
    Column("created", Text, nullable=False),  # when a database first saw it, UTC
    Column(
        "self_reported", Integer, nullable=False, server_default="0"
    ),  # 1: known from an import or a score alone
    UniqueConstraint("id", "replicate"),
    CheckConstraint("status IN ('done', 'failed')"),
)

episode_list = Table(
    "episode_list",
    metadata,
    Column("pk", Integer, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),  # of the full list
    Column("setting", Text, nullable=False),  # where several share the list, the first in the alphabet
    Column("n_way", Integer, nullable=False),  # classes with queries
    Column("shot", Integer, nullable=False),
    Column("n_query", Integer, nullable=False),  # per class
    Column("n_stored", Integer, nullable=False),  # episodes kept here: the longest prefix any run evaluated
    Column("stored_sha256", Text, nullable=False),
    # rows of the novel images: (n_stored, n_way, shot); jointly of the novel classes alone, the last of n_way
    Column("support", PackedArray, nullable=False),
    # (n_stored, n_way, n_query); in lists with unequal numbers of queries the most of any class, -1 where it has fewer
    Column("query", PackedArray, nullable=False),
)

episode_class = Table(
    "episode_class",
    metadata,
    Column("list_pk", ForeignKey("episode_list.pk"), primary_key=True),
    Column("episode", Integer, primary_key=True, autoincrement=False),
    Column(
        "label", Integer, primary_key=True, autoincrement=False
    ),  # in [0, n_way); predicted jointly: class_id
    Column("class_id", Integer, nullable=False),
    sqlite_with_rowid=False,
)

list_class = Table(
    "list_class",
    metadata,
    Column("list_pk", ForeignKey("episode_list.pk"), primary_key=True),
    Column("class_id", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("class_group", Text, nullable=False),  # superclass, alphabet, … or ""
    sqlite_with_rowid=False,
)

metric = Table(
    "metric",
    metadata,
    Column("pk", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)

result = Table(
    "result",
    metadata,
    Column("run_pk", ForeignKey("run.pk"), primary_key=True),
    Column("metric_pk", ForeignKey("metric.pk"), primary_key=True),
    Column("episode", Integer, primary_key=True, autoincrement=False),
    Column("n_correct", Integer, nullable=False),
    Column("n_query", Integer, nullable=False),
    CheckConstraint("n_correct >= 0 AND n_correct <= n_query"),
    sqlite_with_rowid=False,  # rows of a run lie together, about 16 bytes each
)

prediction = Table(
    "prediction",
    metadata,
    Column("run_pk", ForeignKey("run.pk"), primary_key=True),
    Column("metric_pk", ForeignKey("metric.pk"), primary_key=True),
    Column("labels", PackedArray, nullable=False),  # (n_episodes, queries of an episode) uint8 or uint16
)

shared = Table(  # what several runs show or say, each once
    "shared",
    metadata,
    Column("pk", Integer, primary_key=True),
    Column("sha256", Text, nullable=False, unique=True),  # of the next
    Column("content", Text, nullable=False),
)

run_picture = Table(
    "run_picture",
    metadata,
    Column("run_pk", ForeignKey("run.pk"), primary_key=True),
    Column("image", Integer, primary_key=True, autoincrement=False),  # row of the novel images
    Column("shared_pk", ForeignKey("shared.pk"), nullable=False),  # base64 of a PNG
    sqlite_with_rowid=False,
)

run_about = Table(
    "run_about",
    metadata,
    Column("run_pk", ForeignKey("run.pk"), primary_key=True),
    Column("shared_pk", ForeignKey("shared.pk"), nullable=False),  # JSON: what the method said of itself
    sqlite_with_rowid=False,
)

recheck = Table(  # episodes of a run counted again from its checkpoint; rows are only ever added
    "recheck",
    metadata,
    Column("run_pk", ForeignKey("run.pk"), primary_key=True),
    Column("checked", Text, primary_key=True),  # when, UTC
    Column("device", Text, primary_key=True),
    Column("seed", BigInteger, primary_key=True, autoincrement=False),  # of the sample
    Column("n_episodes", Integer, primary_key=True, autoincrement=False),
    Column("n_differing", Integer, primary_key=True, autoincrement=False),
)

recheck_prediction = Table(  # beside a recheck: predictions compared, and those that were other ones
    "recheck_prediction",
    optional,
    Column("run_pk", Integer, primary_key=True, autoincrement=False),
    *(Column(name, Text, primary_key=True) for name in ("checked", "device")),
    Column("seed", BigInteger, primary_key=True, autoincrement=False),
    Column("n_episodes", Integer, primary_key=True, autoincrement=False),
    Column("n_predictions", BigInteger, nullable=False),
    Column("n_other", BigInteger, nullable=False),
)

trial = Table(  # configurations tried on the validation classes
    "trial",
    metadata,
    Column("id", Text, primary_key=True),  # of the run that the configuration would make
    Column("method", Text, nullable=False),
    Column("benchmark", Text, nullable=False),
    Column("setting", Text, nullable=False),
    Column("backbone", Text, nullable=False),
    Column("recipe", Text, nullable=False),
    Column("config", Text, nullable=False),  # JSON: hyper-parameter → value
    Column("spec", Text, nullable=False),  # JSON
    Column("n_correct", Integer, nullable=False),  # of the validation episodes together
    Column("n_query", Integer, nullable=False),  # 0 when it failed
    Column("seconds", Integer, nullable=False),  # of its training
    Column("traceback", Text, nullable=False),
    Column("finished", Text, nullable=False),  # UTC
)

hardness = Table(  # of the episodes of a list, to one fixed extractor
    "hardness",
    metadata,
    Column("episode_digest", Text, primary_key=True),
    Column("novel_digest", Text, primary_key=True),  # of the images
    Column("extractor", Text, nullable=False),  # JSON
    Column("n_episodes", Integer, nullable=False),
    Column("omega", PackedArray, nullable=False),  # (n_episodes,) int32, millionths of a nat
)

CREATE_EPISODE_ACCURACY = """
CREATE VIEW episode_accuracy AS
SELECT run.pk AS run_pk, run.id AS run_id, run.replicate AS replicate, run.method AS method,
       run.setting AS setting, run.seed AS seed, run.episode_digest AS episode_digest,
       metric.name AS metric, result.episode AS episode,
       result.n_correct AS n_correct, result.n_query AS n_query,
       CAST(result.n_correct AS DOUBLE PRECISION) / NULLIF(result.n_query, 0) AS accuracy
FROM result JOIN run ON run.pk = result.run_pk JOIN metric ON metric.pk = result.metric_pk
"""


episode_accuracy = table(
    "episode_accuracy",
    *(
        column(name)
        for name in (
            "run_pk",
            "run_id",
            "replicate",
            "method",
            "setting",
            "seed",
            "episode_digest",
            "metric",
            "episode",
            "n_correct",
            "n_query",
            "accuracy",
        )
    ),
)


def spec_columns(spec: RunSpec) -> dict[str, str | int]:
    """The columns of `run` that repeat a spec for readers of SQL."""
    return {
        "id": spec.id,
        "method": spec.method.name,
        "method_version": spec.method.version,
        "benchmark": spec.benchmark,
        "setting": spec.setting,
        "n_way": spec.n_way,
        "shot": spec.shot,
        "n_query": spec.n_query,
        "n_episodes": spec.n_episodes,
        "backbone": spec.backbone,
        "image_size": spec.image_size,
        "pipeline": spec.pipeline,
        "recipe": spec.recipe,
        "seed": spec.seed,
        "precision": spec.precision,
        "episode_digest": spec.episode_digest,
        "novel_digest": spec.data_digest.get("novel", ""),
        "fit_key": spec.fit_key,
    }


def insert_row(connection: Connection, target: Table, row: Mapping[str, Any]) -> int:
    """Insert one row and return the integer key it was given."""
    key = connection.execute(target.insert().values(row)).inserted_primary_key
    assert key is not None
    return int(key[0])


def insert_columns(connection: Connection, target: Table, *columns: Sequence[int | str]) -> None:
    """Insert many plain rows, given as one list per column of the table, through the driver itself.

    SQLAlchemy's own executemany builds a dictionary per row, which doubles the time of an ingest on SQLite; on
    PostgreSQL one array per column travels ten times faster than a statement per row.
    """
    names = ", ".join(column.name for column in target.columns)
    if connection.dialect.name == "postgresql":
        kinds = [column.type.compile(connection.dialect) for column in target.columns]
        arrays = ", ".join(f"CAST(%s AS {kind}[])" for kind in kinds)
        statement = f"INSERT INTO {target.name} ({names}) SELECT * FROM unnest({arrays})"
        connection.exec_driver_sql(statement, tuple(list(column) for column in columns))
    elif len(columns[0]):
        values = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {target.name} ({names}) VALUES ({values})"
        connection.exec_driver_sql(statement, list(zip(*columns, strict=True)))
