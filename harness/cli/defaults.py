"""Defaults of the commands' options, a table a command in fsbench.toml of the home: ``[run] seeds = "0-2"``.

What decides which code runs and which files are written has to be typed: a home may come from somewhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, nearest
from harness.system.small_toml import read_toml
from harness.system.text import plain_text, value_text

FILE = "fsbench.toml"
OTHER_TABLES = ("slurm",)  # read by who needs it
# code, files, other programs, and what stays at home
TYPED = ("method", "weights", "output", "out", "tracker", "splits", "source", "with-host")
_FILTERED = ("leaderboard", "runs")  # where --method chooses among rows and loads nothing


def default_map(home: Path, commands: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Command → parameter → default, as the parser takes them; empty where there is no file.

    Args:
        home: holds fsbench.toml, or does not.
        commands: the parser's commands by name.

    Raises:
        ConfigError: for an unknown table or option, one that has to be typed, or a value of another kind.
    """
    path = home / FILE
    if not path.is_file():
        return {}
    found = {name: table for name, table in read_toml(path).items() if name not in OTHER_TABLES}
    known = (*commands, *OTHER_TABLES)
    wrong = [name for name, table in found.items() if name not in commands or not isinstance(table, dict)]
    if wrong:
        raise ConfigError(
            f"{path}: {wrong[0]!a:.60} is no table that fsbench knows.{nearest(wrong[0], known)} A table is called "
            f"like a command, such as [run] or [report], or slurm."
        )
    return {name: _defaults(path, name, table, options_of(commands[name])) for name, table in found.items()}


def options_of(command: Any) -> dict[str, Any]:
    """Word → option of a command, without its dashes."""
    return {
        option.removeprefix("--"): parameter
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--") and option not in ("--help", "--json")
    }


def _defaults(
    path: Path, command: str, table: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    given = {}
    for word, value in table.items():
        where = f"{path}, [{command}]: {ascii(word)[1:-1]:.60}"
        if word in TYPED and (word != "method" or command not in _FILTERED):
            raise ConfigError(f"{where} names code or files, and has to be typed.")
        if word not in options:
            raise ConfigError(f"{where} is no option of fsbench {command}.{nearest(word, options)}")
        given[options[word].name] = _read(where, value, options[word])
    return given


def _read(where: str, value: Any, option: Any) -> Any:
    """A value as the parser would have found it typed."""
    if getattr(option, "is_flag", False):
        if isinstance(value, bool):
            return value
        raise ConfigError(f"{where} must be true or false.")
    if option.multiple and isinstance(value, dict):  # [run.set] lr = 0.1
        return [f"{key}={value_text(where, entry)}" for key, entry in value.items()]
    if option.multiple:
        return [plain_text(where, entry) for entry in (value if isinstance(value, list) else [value])]
    return plain_text(where, value)
