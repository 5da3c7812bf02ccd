"""What the commands share: where things are, words that several take, and how an answer is printed."""

from __future__ import annotations

import json
import logging
import re
import shlex
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.system.folders import Places, places

if TYPE_CHECKING:
    from harness.store import Store
    from harness.system.progress import Progress


def methods_beginning(incomplete: str) -> list[str]:
    """Names of methods that begin so, for a shell that completes words; after a comma the next one."""
    from harness.method.registry import installed

    return _beginning(incomplete, installed())


def settings_beginning(incomplete: str) -> list[str]:
    """Names of settings that begin so."""
    from harness import benchmarks

    return _beginning(incomplete, [s.name for b in benchmarks.every() for s in b.settings()])


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in sorted(names) if name.startswith(last)]


SomeBenches = Annotated[
    list[str] | None,
    typer.Option(
        "--bench", "-b", help="Only these settings (names or globs).", autocompletion=settings_beginning
    ),
]
SomeBackbones = Annotated[
    list[str] | None, typer.Option("--backbone", help="Only these backbones (names or globs).")
]
SomeBadges = Annotated[
    list[str] | None, typer.Option("--badge", help="With this badge, like self-reported; may be repeated.")
]
SomeSeeds = Annotated[
    list[int] | None, typer.Option("--seed", help="With this run seed; may be repeated.", min=0)
]
SomeMethods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        "-m",
        help="Only these methods: names, globs, or like tim[softmax] and *[softmax].",
        autocompletion=methods_beginning,
    ),
]
OUTPUT = ("--output", "--out", "-o")
RowName = Annotated[
    str, typer.Argument(help="Method, label of a row as tables print it, or the beginning of a run id.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
WithHost = Annotated[
    bool, typer.Option("--with-host", help="Also the machine's name, its user's, and paths on it.")
]
_where: list[Places] = []


def settle_places(home: Path | None, db: str | None) -> None:
    """Remember where this call's files are."""
    _where[:] = [places(home, db)]


def where() -> Places:
    """Where this call's files are."""
    return _where[0]


def split(texts: list[str]) -> list[str]:
    """Take repeated and comma-separated words apart; a comma in brackets parts nothing: ``tim[softmax(lr=1, epochs=5)]``."""
    parts = (part for text in texts for part in re.split(r",(?![^\[(]*[\])])", text))
    return [part for part in parts if part]


def settings(patterns: list[str] | None, store: Store) -> list[str] | None:
    """Names of the settings that were asked for, globs over those that have runs; None when none was asked.

    Raises:
        ConfigError: when nothing matches.
    """
    from harness.report.board.tables import settings_named

    return settings_named(split(patterns), store) if patterns else None


def stored() -> AbstractContextManager[Store]:
    """Open the database that must be there."""
    return open_store(where(), create=False)


def open_store(where: Places, *, create: bool) -> AbstractContextManager[Store]:
    """Open a database for a ``with`` block; the folder it is to be in appears with it."""
    from harness.store import Store

    if create and "://" not in where.db:
        where.home.mkdir(parents=True, exist_ok=True)
    return closing(Store.open(where.db, create=create))


def progress() -> Progress:
    """How this terminal is told how far it is."""
    from harness.system.progress import Silent, choose

    if logging.getLogger("fsbench").isEnabledFor(logging.INFO):
        return choose(sys.stderr.isatty())
    return Silent()


def answer(value: Any, as_json: bool, show: Any) -> None:
    """Print a value as JSON, or as ``show`` prints it."""
    if as_json:
        typer.echo(json.dumps(value, indent=1))
    else:
        show(value)


def option_for_words(error: Any) -> str:
    """Say after a usage error which options plain words were meant for, where the command has them; else nothing."""
    words = re.search(r"unexpected extra arguments?(?:\(s\))? \((.+)\)", str(getattr(error, "message", "")))
    if not words:
        return ""
    command = error.ctx.command
    options = {option for parameter in command.params for option in parameter.opts}
    if "--bench" not in options:
        return ""
    if command.name == "run":
        return (
            "Methods and settings are named by options: fsbench run --method protonet --bench glyphs-5w1s\n"
        )
    if any(parameter.param_type_name == "argument" for parameter in command.params):
        return "Settings are named by --bench.\n"
    from harness.errors import visible
    from harness.method.registry import installed

    named: dict[str, list[str]] = {}
    for word in visible(words[1]).split():
        is_method = "--method" in options and word.partition("[")[0] in installed()
        named.setdefault("--method" if is_method else "--bench", []).append(word)
    asked = " ".join(f"{option} {shlex.quote(','.join(found))}" for option, found in named.items())
    return f"Such words go to options: fsbench {command.name} {asked}\n"
