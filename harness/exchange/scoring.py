"""Predictions made elsewhere on an exported episode list: checked, counted here, and kept as self-reported.

A file holds the digest of the list and one label per query: ``predictions``, (E, n_way · n_query) whole numbers in
[0, n_way), a row per episode from the first on. ``fsbench episodes SETTING --json`` gives the list: episode e has
``classes`` (label 0 first), ``support`` by label, and ``query`` by label; its queries are asked in that order, all of label 0,
then all of label 1, and so on. Which query has which label is therefore in the export: whoever reports is trusted not to have
looked, and the row says self-reported.

* ``.npz``: arrays ``digest`` (text) and ``predictions``.
* ``.json``: ``{"digest": "…", "predictions": [[0, 3, …], …]}``.
* ``.csv``: a first line ``# digest …``, then a line of labels for each episode.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness import benchmarks
from harness.benchmarks import Setting
from harness.benchmarks.episodes import EpisodeList, IntArray
from harness.errors import ConfigError, DataError
from harness.evaluation.protocols import protocol_of
from harness.method import registry
from harness.runs import SELF_REPORTED, MethodReference, RunResult, RunSpec
from harness.runs.spec import SCORED

if TYPE_CHECKING:
    from harness.system.folders import Places
from harness.system.provenance import utc_now

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,63}")


class Reported(NamedTuple):
    """What a file says: the digest of the list, and the predicted labels (E, n_way · n_query)."""

    digest: str
    predictions: IntArray


def score(file: Path, setting_name: str, name: str, seed: int, places: Places) -> RunResult:
    """Count a file of predictions.

    Args:
        file: ``.npz``, ``.json`` or ``.csv``.
        setting_name: whose list was answered.
        name: of the method, as the row shows it; not one of fsbench's own.
        seed: of the training it comes from; seeds of one name are pooled.
        places: where the images are: their digest tells which rows may be compared.

    Raises:
        ConfigError: for a name that is taken or unreadable, or a joint setting.
        DataError: when the file is not what the setting asks, or the images are not prepared.
    """
    _check_name(name)
    setting = benchmarks.load(setting_name)
    listed = _listed(setting)
    reported = read(file)
    problems = find_problems(reported, setting)
    if problems:
        raise DataError(
            f"{file} does not answer {setting.name}: {'; '.join(problems)}. `fsbench score --help` says more."
        )
    episodes = listed[: len(reported.predictions)]
    novel = setting.benchmark.open("novel", places.data)
    counts = protocol_of(episodes).counts(episodes, reported.predictions)
    table = protocol_of(episodes).table(episodes, tuple(novel.class_names), tuple(novel.groups))
    facts = {
        SELF_REPORTED: True, "badges": [], "file": file.name, "file_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "finished": utc_now(),
    }  # fmt: skip
    return RunResult(_spec(setting, name, seed, len(episodes), novel.digest), "done", counts, table, facts)


def read(file: Path) -> Reported:
    """Read a file of predictions.

    Raises:
        ConfigError: for another kind of file.
        DataError: when it is absent or unreadable.
    """
    readers: dict[str, Callable[[Path], Mapping[str, Any]]] = {".npz": _npz, ".json": _json, ".csv": _csv}
    if file.suffix not in readers:
        raise ConfigError(f"{file}: predictions are read from {', '.join(readers)} files.")
    try:
        said = readers[file.suffix](file)
        predictions = np.asarray(said["predictions"])
        if predictions.dtype.kind == "f" and np.array_equal(predictions, predictions.round()):
            predictions = predictions.astype(np.int64)
        if predictions.dtype.kind not in "iu":
            raise ValueError(f"predictions are {predictions.dtype}, not whole numbers in rows of one length")
        return Reported(str(said["digest"]).strip(), predictions.astype(np.int64))
    except FileNotFoundError as error:
        raise DataError(f"There is no file {file}.") from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{file} cannot be read as predictions ({type(error).__name__}: {error}). It holds `digest` and `predictions`; "
            "`fsbench score --help` shows each form."
        ) from error


def find_problems(reported: Reported, setting: Setting) -> list[str]:
    """Everything in which a file is not an answer to a setting."""
    n_query, given = setting.way * setting.n_query, reported.predictions
    problems = []
    if reported.digest != setting.digest:
        problems.append(
            f"it answers the list {reported.digest[:12] or '(none)'}…, and the setting's is {setting.digest[:12]}…"
        )
    if given.ndim != 2 or given.shape[1] != n_query or not 1 <= len(given) <= setting.list_length:
        problems.append(
            f"predictions have shape {given.shape}, expected (episodes, {n_query}) with 1 to {setting.list_length:,} episodes"
        )
    outside = (given < 0) | (given >= setting.way)
    if outside.any():
        problems.append(f"{int(outside.sum())} predictions are not labels in 0 to {setting.way - 1}")
    return problems


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
            f"{setting.name} asks all classes jointly; only predictions on episodes can be scored."
        )
    return episodes


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--name {name!r}: letters, digits, spaces and . _ + - make a name, 64 at most.")
    if name in registry.installed():
        raise ConfigError(
            f"--name {name}: that is a method of fsbench; what was made elsewhere has a name of its own."
        )


def _npz(file: Path) -> Mapping[str, Any]:
    with np.load(file, allow_pickle=False) as npz:
        return {name: npz[name] for name in npz.files}


def _json(file: Path) -> Mapping[str, Any]:
    return json.loads(file.read_text())


def _csv(file: Path) -> Mapping[str, Any]:
    first, _, rest = file.read_text().partition("\n")
    found = re.fullmatch(r"#\s*digest[\s,:=]+([0-9a-f]+)[\s,]*", first)
    if not found:
        raise ValueError("the first line of a .csv file is `# digest …`")
    return {"digest": found[1], "predictions": np.loadtxt(rest.splitlines(), delimiter=",", ndmin=2)}
