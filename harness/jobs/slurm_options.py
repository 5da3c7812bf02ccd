"""What a user says about SLURM: ``--slurm key=value`` and the table [slurm] of fsbench.toml in the home."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, nearest
from harness.system.small_toml import read_toml

_WORD = r"[A-Za-z0-9_.,:=+@%/\[\]|&!*()-]{1,200}"  # names, lists and feature expressions; no space, no quote
_TEXTS = {
    "partition": _WORD,
    "account": _WORD,
    "qos": _WORD,
    "constraint": _WORD,
    "exclude": _WORD,
    "nodelist": _WORD,
    "gres": _WORD,
    "mem": r"[0-9]{1,9}[KMGT]?B?",
    "comment": r"[A-Za-z0-9_.,:=+@%/()# -]{1,200}",
}  # what a value may look like: it becomes a line of a job script
_NUMBERS = {
    "gpus": "gpus_per_node",
    "cpus": "cpus_per_task",
    "array_parallelism": "array_parallelism",
    "signal_delay_s": "signal_delay_s",
}
_MOST = 1_000_000
KNOWN = ("time", *_TEXTS, *_NUMBERS)
_THREADS = [
    f"export {name}=${{SLURM_CPUS_PER_TASK:-${{SLURM_CPUS_ON_NODE:-1}}}}"
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
]


def read(home: Path, typed: Sequence[str]) -> dict[str, str]:
    """Join fsbench.toml and what was typed; the latter wins.

    Raises:
        ConfigError: for texts without "=", unknown keys, unreadable values or an unreadable file.
    """
    options = _file(home / "fsbench.toml")
    for text in typed:
        key, is_there, value = text.partition("=")
        if not is_there:
            raise ConfigError(f"--slurm {text}: expected key=value, like --slurm partition=gpu.")
        options[key.strip()] = value.strip()
    submitit_parameters(options)
    return options


def submitit_parameters(options: Mapping[str, str]) -> dict[str, Any]:
    """Turn options into the parameters of submitit's SLURM executor.

    >>> submitit_parameters({"time": "1-12:00", "gpus": "2"})["time"]
    2160

    Raises:
        ConfigError: naming every unknown key and unreadable value.
    """
    parameters: dict[str, Any] = {
        "job_name": "fsbench",
        "setup": _THREADS,
        "time": 60,
        "additional_parameters": {"requeue": True},
    }
    problems = []
    for key, value in options.items():
        if key not in KNOWN:
            problems.append(
                f"--slurm {key!r:.60}: not known.{nearest(key, KNOWN)} Known: {', '.join(KNOWN)}."
            )
            continue
        try:
            parameters[_NUMBERS.get(key, key)] = _parameter(key, value)
        except ValueError as error:
            problems.append(f"--slurm {key}={value!r:.60}: expected {error}.")
    if problems:
        raise ConfigError("\n".join(problems))
    return parameters


def _parameter(key: str, value: str) -> int | str:
    """The value of a known key.

    Raises:
        ValueError: with what was expected.
    """
    if key == "time":
        try:
            return minutes(value)
        except ValueError as error:
            raise ValueError("D-HH:MM") from error
    if key in _NUMBERS:
        if not re.fullmatch(r"[0-9]{1,7}", value) or int(value) > _MOST:
            raise ValueError(f"a whole number up to {_MOST:,}")
        return int(value)
    if not re.fullmatch(_TEXTS[key], value):
        raise ValueError(f"plain characters, {_TEXTS[key]}")
    return value


def minutes(text: str) -> int:
    """Read SLURM's ways of writing a time: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS.

    >>> minutes("90"), minutes("01:30:00"), minutes("2-0")
    (90, 90, 2880)

    Raises:
        ValueError: for anything else.
    """
    days, dash, rest = text.rpartition("-")
    if not re.fullmatch(r"[0-9]{1,6}(:[0-9]{1,6}){0,2}", rest) or (
        dash and not re.fullmatch(r"[0-9]{1,4}", days)
    ):
        raise ValueError(text)
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, mins, seconds = (*parts, 0, 0)[:3]
    else:
        hours, mins, seconds = {1: (0, parts[0], 0), 2: (0, *parts), 3: tuple(parts)}[len(parts)]
    return max(1, int(days or 0) * 1440 + hours * 60 + mins + (seconds > 0))


def _file(path: Path) -> dict[str, str]:
    """The table [slurm] of fsbench.toml: texts and whole numbers by name; empty where there is no such file."""
    table = read_toml(path).get("slurm", {}) if path.exists() else {}
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: slurm must be a table, [slurm], with {', '.join(KNOWN)}.")
    wrong = [key for key, value in table.items() if not isinstance(value, str) and type(value) is not int]
    if wrong:
        raise ConfigError(
            f"{path}: {', '.join(map(ascii, wrong))[:200]} must be a text in quotes or a whole number, like gpus = 2."
        )
    return {key: str(value) for key, value in table.items()}
