"""What a user says about SLURM: ``--slurm key=value`` and the table [slurm] of fsbench.toml in the home."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, nearest

_TEXTS = ("partition", "account", "qos", "constraint", "exclude", "nodelist", "gres", "mem", "comment")
_NUMBERS = {
    "gpus": "gpus_per_node",
    "cpus": "cpus_per_task",
    "array_parallelism": "array_parallelism",
    "signal_delay_s": "signal_delay_s",
}
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
    options = {key: str(value) for key, value in _file(home / "fsbench.toml").items()}
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
    problems = [
        f"--slurm {key}: not known.{nearest(key, KNOWN)} Known: {', '.join(KNOWN)}."
        for key in options
        if key not in KNOWN
    ]
    parameters: dict[str, Any] = {
        "job_name": "fsbench",
        "setup": _THREADS,
        "time": 60,
        "additional_parameters": {"requeue": True},
    }
    for key, value in options.items():
        try:
            if key == "time":
                parameters["time"] = minutes(value)
            elif key in _NUMBERS:
                parameters[_NUMBERS[key]] = int(value)
            elif key in _TEXTS:
                parameters[key] = value
        except ValueError:
            problems.append(
                f"--slurm {key}={value}: expected {'D-HH:MM' if key == 'time' else 'a whole number'}."
            )
    if problems:
        raise ConfigError("\n".join(problems))
    return parameters


def minutes(text: str) -> int:
    """Read SLURM's ways of writing a time: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS.

    >>> minutes("90"), minutes("01:30:00"), minutes("2-0")
    (90, 90, 2880)

    Raises:
        ValueError: for anything else.
    """
    days, dash, rest = text.rpartition("-")
    if not re.fullmatch(r"\d+(:\d+){0,2}", rest) or (dash and not days.isdigit()):
        raise ValueError(text)
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, mins, seconds = (*parts, 0, 0)[:3]
    else:
        hours, mins, seconds = {1: (0, parts[0], 0), 2: (0, *parts), 3: tuple(parts)}[len(parts)]
    return max(1, int(days or 0) * 1440 + hours * 60 + mins + (seconds > 0))


def _file(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error
    table = content.get("slurm", {})
    if set(content) - {"slurm"} or not isinstance(table, dict):
        raise ConfigError(
            f"{path} may hold one table, [slurm], with {', '.join(KNOWN)}; found {', '.join(content)}."
        )
    return table
