"""Answers of commands that only read, kept while neither the database nor anything that makes them has changed.

A database file is known by its inode, length and time of change, which every committed write moves; nothing is opened, and
no statistics are loaded, to give an answer again. A database on a server is asked anew each time.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.system import files
from harness.system.folders import Places, benchmarks_folder
from harness.system.heard import heard

log = logging.getLogger("fsbench.answers")
_HARNESS = Path(__file__).resolve().parents[1]
_PACKAGES = ("numpy", "scipy", "sqlalchemy")
_MOST = 32  # answers kept


def remembered(places: Places, question: Sequence[str], make: Callable[[], Any]) -> Any:
    """Give the answer to a question, as JSON types.

    Args:
        places: of the database, and of the cache that keeps answers.
        question: what was typed; equal questions have equal answers while nothing changes.
        make: makes the answer; what it warns of is said again with every later answer.
    """
    key = _key(places, question)
    if key is None:
        return make()
    path = places.cache / "answers" / f"{key}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(path.read_text())
        for text in kept["warnings"]:
            log.warning("%s", text)
        return kept["answer"]
    with heard() as warnings:
        answer = make()
    if _key(places, question) == key:  # else somebody wrote meanwhile
        with suppress(OSError):  # a cache that cannot be written costs time, not the answer
            files.save_text(path, json.dumps({"answer": answer, "warnings": warnings}), is_durable=False)
            _forget_old(path.parent)
    return json.loads(json.dumps(answer))


def _key(places: Places, question: Sequence[str]) -> str | None:
    """Digest of the question and of the state of all that answers it; None where that cannot be told."""
    if "://" in places.db:
        return None
    try:
        beside = (Path(places.db + end) for end in ("-wal", "-journal"))
        asked = [_state(path) for path in (Path(places.db), *beside)]
    except OSError:
        return None
    if asked[0] is None:
        return None
    made_by = [_state(Path(path)) for path in sorted(_files(places.data))]
    return hashlib.sha256(json.dumps([*question, sys.version, asked, made_by]).encode()).hexdigest()[:24]


def _files(data: Path) -> Iterator[str]:
    """Our files, the benchmarks of the user, and the packages that compute; what is compiled of them is no file of its own."""
    for folder in (_HARNESS, benchmarks_folder(), data / "benchmarks"):
        for place, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if name != "__pycache__"]
            yield from (f"{place}/{name}" for name in names if not name.endswith(".pyc"))
    for package in _PACKAGES:
        found = importlib.util.find_spec(package)
        if found and found.origin:
            yield found.origin


def _state(path: Path) -> list[Any] | None:
    found = files.state(path)
    return found and [str(path.absolute()), found.st_ino, found.st_size, found.st_mtime_ns]


def _forget_old(folder: Path) -> None:
    for path in files.newest_last(folder.glob("*.json"))[:-_MOST]:
        path.unlink(missing_ok=True)
