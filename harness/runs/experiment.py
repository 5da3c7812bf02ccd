"""An experiment file: the runs of a paper as TOML, that `fsbench run FILE.toml` makes or goes on with.

What stands at the top holds for every ``[[run]]``, which may say otherwise; a file without any is one itself. The words
are those of the command: ``method``, ``bench``, ``seeds``, and the options without their dashes. ``[set]`` holds
hyper-parameters, and ``[sweep]`` lists of them, every combination of which is run::

    bench = ["omniglot-small-5w1s", "omniglot-small-5w5s"]
    seeds = "0-2"

    [[run]]
    method = ["softmax", "protonet"]

    [[run]]
    method = "neg-cosine"
    sweep = {margin = [-0.3, 0.0, 0.1]}
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import ConfigError, nearest
from harness.runs import request
from harness.runs.request import Request
from harness.system.small_toml import read_toml

_NAMES = ("method", "bench", "seeds")
_TABLES = ("set", "sweep")
_MOST = 1000  # combinations of one sweep, and seeds of a range


class Asked(NamedTuple):
    """Methods × settings × seeds that are asked for in one way."""

    methods: tuple[str, ...]
    settings: tuple[str, ...]
    seeds: tuple[int, ...]
    request: Request


def parse_seeds(text: str) -> list[int]:
    """Read ``0``, ``0-2`` or ``0,3-4``.

    >>> parse_seeds("0,3-4")
    [0, 3, 4]

    Raises:
        ConfigError: for anything else.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part.strip())
        if not match:
            raise ConfigError(f"--seeds {text}: expected numbers like 0 or 0-2 or 0,3.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last - first >= _MOST:
            raise ConfigError(f"--seeds {text}: at most {_MOST:,} seeds at once.")
        seeds += range(first, last + 1)
    if not seeds:
        raise ConfigError(f"--seeds {text} names no seed; a range goes up, like 0-2.")
    return list(dict.fromkeys(seeds))


def read(path: Path, typed: Asked) -> list[Asked]:
    """The runs of an experiment file.

    Args:
        path: the file.
        typed: what was typed beside it: names or globs of methods and settings choose among the file's, seeds and
            options take the place of the file's; what is empty or at its default says nothing. A file of code that
            the experiment names must be typed, too.

    Raises:
        ConfigError: for a file that cannot be read, an unknown word or value, code that was not typed, or when nothing
            is left to run.
    """
    if path.suffix != ".toml" and (path.suffix == ".py" or not path.is_file()):
        raise ConfigError(
            f"{str(path)!r:.80} is no experiment file (TOML). Methods and settings are named by options: fsbench run "
            "--method protonet --bench glyphs-5w1s; a method of your own by its file, like ./mine.py."
        )
    content = read_toml(path)
    single = content.pop("run", [{}])
    if not isinstance(single, list) or not all(isinstance(entry, dict) for entry in single):
        raise ConfigError(f"{path}: run must be written as [[run]], a table for each.")
    found = [asked for entry in single for asked in _of_table(path, {**content, **entry}, content, entry)]
    for name in {name for asked in found for name in asked.methods if _is_code(name)} - set(typed.methods):
        raise ConfigError(
            f"{path} names a file of code, {name!r:.80}. Nothing of it was executed. Read it; if you trust it, type the "
            f"same command with -m and that name."
        )
    chosen = [only for asked in found if (only := _only(asked, typed)).methods and only.settings]
    if not chosen:
        raise ConfigError(
            f"{path} has no run of these methods and settings: {', '.join(typed.methods + typed.settings)}."
        )
    return chosen


def _is_code(name: str) -> bool:
    return ".py" in name or "/" in name


def _only(asked: Asked, typed: Asked) -> Asked:
    """What was typed in place of what the file says."""
    changed = {
        f.name: value
        for f in dataclasses.fields(Request)
        if (value := getattr(typed.request, f.name)) not in (f.default, {})
    }
    overrides = {**asked.request.overrides, **typed.request.overrides}
    return Asked(
        _among(asked.methods, typed.methods),
        _among(asked.settings, typed.settings),
        typed.seeds or asked.seeds,
        dataclasses.replace(asked.request, **{**changed, "overrides": overrides}),
    )


def _among(names: tuple[str, ...], patterns: tuple[str, ...]) -> tuple[str, ...]:
    if not patterns:
        return names
    return tuple(name for name in names if any(name == p or fnmatchcase(name, p) for p in patterns))


def _of_table(
    path: Path, table: Mapping[str, Any], top: Mapping[str, Any], own: Mapping[str, Any]
) -> list[Asked]:
    options = request.words()
    known = (*_NAMES, *_TABLES, *options)
    for word in table:
        if word not in known:
            raise ConfigError(
                f"{path}: {ascii(word)[:60]} is no word of an experiment.{nearest(word, known)}"
            )
    for word in ("method", "bench"):
        if word not in table:
            raise ConfigError(
                f'{path}: a run names no {word}; write {word} = "…", at the top or in its [[run]].'
            )
    said = {word: table[word] for word in options if word in table}
    given = [request.overrides(f"{path}: set", part.get("set", {})) for part in (top, own)]
    methods, settings = (tuple(request.texts(f"{path}: {word}", table[word])) for word in ("method", "bench"))
    seeds = tuple(parse_seeds(",".join(request.texts(f"{path}: seeds", table.get("seeds", "0")))))
    return [
        Asked(
            methods, settings, seeds,
            request.read({**said, "set": {**given[0], **given[1], **some}}, f"{path}: "),
        )
        for some in _combinations(path, table.get("sweep", {}))
    ]  # fmt: skip


def _combinations(path: Path, sweep: Any) -> list[dict[str, str]]:
    """Every combination of the swept values; one, of nothing, where nothing is swept."""
    if not isinstance(sweep, dict):
        raise ConfigError(f"{path}: sweep must be a table of lists, like sweep = {{margin = [0.0, 0.1]}}.")
    lists = {name: request.texts(f"{path}: sweep of {name}", values) for name, values in sweep.items()}
    found = [
        dict(zip(lists, values, strict=True))
        for values in itertools.islice(itertools.product(*lists.values()), _MOST + 1)
    ]
    if len(found) > _MOST:
        raise ConfigError(f"{path}: a sweep has at most {_MOST:,} combinations.")
    return found
