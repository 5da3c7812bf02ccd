"""Files of answers made elsewhere: predicted labels, or per episode how many were right.

Labels: ``predictions``, whole numbers in [0, n_way), (E, n_way · n_query) or (E, n_way, n_query), a row per episode from the
first on; all queries of label 0, then all of label 1, and so on. Where a harness keeps no labels: ``n_correct`` or
``accuracy`` (a fraction), with ``n_query``, the queries of an episode, once or per episode.

* ``.npz``: arrays ``digest`` (text or bytes) and those.
* ``.json``: ``{"digest": "…", "predictions": [[0, 3, …], …]}``, or the others in place of predictions.
* ``.csv``: a first line ``# digest …``, then a line of labels for each episode; or a table with the columns episode (from 0),
  n_correct or accuracy, and n_query.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.benchmarks.episodes import IntArray
from harness.errors import ConfigError, DataError, visible
from harness.system import small_tables
from harness.system.arrays import read_npz
from harness.system.records import load_json

_DIGEST = re.compile(r"[#\s\"]*digest[\s,;:=\"|]+([0-9a-fA-F]+)[\s,;|\"]*")
_ARRAYS = {
    "n_correct": ("correct", "hits"),
    "accuracy": ("accuracies", "acc"),
    "n_query": ("queries", "n_queries"),
}
_MOST_BYTES = 1 << 30
_ROUNDING = 0.02  # of a query: what four decimals of an accuracy over 200 queries may lack


class Reported(NamedTuple):
    """What a file says.

    Attributes:
        digest: of the list that was answered, hex in small letters; empty where it says none.
        predictions: (E, n_way · n_query) labels; None where it holds counts alone.
        n_correct, n_query: (E,) counts; None where it holds predictions.
    """

    digest: str
    predictions: IntArray | None = None
    n_correct: IntArray | None = None
    n_query: IntArray | None = None

    @property
    def n_episodes(self) -> int:
        """Episodes answered."""
        counted = self.predictions if self.n_correct is None else self.n_correct
        return 0 if counted is None else len(counted)


def read(file: Path) -> Reported:
    """Read a file of answers.

    Raises:
        ConfigError: for another kind of file, or one that is not there.
        DataError: when it is unreadable, or holds neither labels nor counts.
    """
    readers: dict[str, Callable[[Path], Mapping[str, Any]]] = {".npz": _npz, ".json": _json, ".csv": _csv}
    if file.suffix.lower() not in readers:
        raise ConfigError(f"{file}: predictions are read from {', '.join(readers)} files.")
    try:
        return _reported(readers[file.suffix.lower()](file))
    except FileNotFoundError as error:
        raise ConfigError(f"There is no file {file}.") from error
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        RecursionError,
        MemoryError,
        zipfile.BadZipFile,
    ) as error:
        raise DataError(
            f"{file} cannot be read as predictions ({visible(f'{type(error).__name__}: {error}')[:300]}). It holds `digest` and `predictions`, or "
            "`n_correct` and `n_query`; `fsbench score --help` shows each form."
        ) from error


def _reported(said: Mapping[str, Any]) -> Reported:
    digest = _digest(said.get("digest", ""))
    if "predictions" in said:
        return Reported(digest, _labels(said["predictions"]))
    if "n_correct" not in said and "accuracy" not in said:
        raise ValueError(f"it holds {', '.join(said) or 'nothing'}")
    if "n_query" not in said:
        raise ValueError("n_query, the queries of an episode, is missing")
    first = said["n_correct"] if "n_correct" in said else said["accuracy"]
    value = np.atleast_1d(np.asarray(first, dtype=np.float64))
    n_query = np.broadcast_to(_whole(np.asarray(said["n_query"]), "n_query"), value.shape)
    if "n_correct" not in said:
        if not (value.min(initial=0) >= 0 and value.max(initial=0) <= 1):
            raise ValueError("accuracies are fractions in [0, 1], not percent")
        value = value * n_query
        if (np.abs(value - value.round()) > _ROUNDING).any():
            raise ValueError(
                "accuracy × n_query is no whole number of queries; is n_query that of a whole episode?"
            )
        value = value.round()
    if value.ndim != 1:
        raise ValueError(f"counts have shape {value.shape}; one number per episode is expected")
    return Reported(digest, n_correct=_whole(value, "n_correct"), n_query=n_query.copy())


def _digest(value: Any) -> str:
    """Hex digits, whether they are text, bytes, or the 32 bytes themselves."""
    array = np.asarray(value)
    raw = array.tobytes() if array.dtype == np.uint8 else array.item() if array.size == 1 else ""
    if isinstance(raw, bytes):
        raw = raw.decode("ascii") if re.fullmatch(rb"\s*[0-9a-fA-F]+\s*", raw) else raw.hex()
    return str(raw).strip().lower().removeprefix("sha256:")


def _labels(value: Any) -> IntArray:
    labels = _whole(np.asarray(value), "predictions")
    return labels.reshape(len(labels), -1) if labels.ndim == 3 else labels


def _whole(value: np.ndarray[Any, Any], name: str) -> IntArray:
    if value.dtype.kind == "f" and np.isfinite(value).all() and np.array_equal(value, value.round()):
        value = value.astype(np.int64)
    if value.dtype.kind not in "iu":
        raise ValueError(f"{name} are {value.dtype}, not whole numbers in rows of one length")
    return value.astype(np.int64)


def _npz(file: Path) -> Mapping[str, Any]:
    return _renamed(read_npz(file, kinds="iufUSb", most_bytes=_MOST_BYTES))


def _json(file: Path) -> Mapping[str, Any]:
    found = load_json(small_tables.text(file), _MOST_BYTES)
    if not isinstance(found, dict):
        raise ValueError("it is not an object with `digest` and `predictions`")
    return _renamed(found)


def _renamed(said: Mapping[str, Any]) -> dict[str, Any]:
    known = {word: name for name, words in _ARRAYS.items() for word in words}
    return {known.get(name.lower(), name.lower()): value for name, value in said.items()}


def _csv(file: Path) -> Mapping[str, Any]:
    first, _, rest = small_tables.text(file).partition("\n")
    found = _DIGEST.fullmatch(first)
    if not found:
        raise ValueError("the first line of a .csv file is `# digest …`")
    rows = small_tables.cells(rest)
    if rows and any(re.search("[a-z]", cell.lower().replace("e", "")) for cell in rows[0][1]):
        return {"digest": found[1], **_counted(rows, file)}
    return {
        "digest": found[1],
        "predictions": np.array([[float(cell) for cell in cells] for _, cells in rows]),
    }


def _counted(rows: list[tuple[int, list[str]]], file: Path) -> dict[str, Any]:
    """Columns of a table of episodes, in the order of the list."""
    table = small_tables.named(rows, str(file), {"episode": (), "n_query": _ARRAYS["n_query"]}, {
        "n_correct": _ARRAYS["n_correct"], "accuracy": _ARRAYS["accuracy"],
    })  # fmt: skip
    columns = {
        name: np.array([float(cells[i]) for _, cells in table.rows]) for i, name in enumerate(table.columns)
    }
    order = np.argsort(columns["episode"])
    if not np.array_equal(columns["episode"][order], np.arange(len(order))):
        raise ValueError("episodes are numbered from 0 without a gap, each once")
    return {name: values[order] for name, values in columns.items() if name != "episode"}
