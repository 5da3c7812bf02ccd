"""The command line: what can be typed is in harness/cli, what is answered below it; here, the exit codes."""

from __future__ import annotations

import logging
import sys
import traceback
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from harness.cli import advise, catalogue, defaults, features, images, jobs, keeping, results, run, sharing
from harness.cli.words import option_for_words, settle_places, where
from harness.errors import FsbenchError, visible
from harness.system import process
from harness.system.secrets import without_credentials

app = typer.Typer(
    help="A trustworthy number for a few-shot method: fixed episodes, per-episode results, paired statistics.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for title, part in (
    ("Runs", run),
    ("Runs", jobs),
    ("Results", results),
    ("Other people", sharing),
    ("What there is", catalogue),
    ("What there is", images),
    ("What there is", advise),
    ("What is kept", keeping),
):
    for command in part.app.registered_commands:
        command.rich_help_panel = title
    app.registered_commands += part.app.registered_commands
app.add_typer(features.features, name="features", rich_help_panel="Between labs")
app.add_typer(keeping.runs, name="runs", rich_help_panel="What is kept")
INTERRUPTED = 130


def _version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"fsbench {installed_version('fsbench')}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    home: Annotated[
        Path | None,
        typer.Option(help="Holds results.db, runs/ and reports/ (or FSBENCH_HOME; default: here)."),
    ] = None,
    db: Annotated[str | None, typer.Option(help="Another database: a path or a SQLAlchemy URL.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and stop.")
    ] = False,
) -> None:
    """Remember where things are; prepared data are in FSBENCH_DATA, checkpoints and features in FSBENCH_CACHE."""
    settle_places(home, db)
    context.default_map = defaults.default_map(where().home, context.command.commands)  # type: ignore[attr-defined]
    process.settle_threads()
    process.log_to_stderr(logging.WARNING if quiet else logging.INFO)


def _interrupted() -> NoReturn:
    sys.stderr.write("\nfsbench: interrupted; the same command goes on where it stopped.\n")
    sys.exit(INTERRUPTED)


def main() -> None:
    """Run the command line; only our own errors are turned into messages."""
    try:
        code = app(standalone_mode=False) or 0
        if code == INTERRUPTED:  # the parser's answer to Ctrl-C
            _interrupted()
        sys.exit(code)
    except FsbenchError as error:
        sys.stderr.write(f"fsbench: {visible(without_credentials(str(error)), lines=True)}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _interrupted()
    except Exception as error:  # noqa: BLE001 -- printed below, since its text may hold a password
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # the parser's own usage errors
            error.show()
            sys.stderr.write(option_for_words(error))
            sys.exit(error.exit_code)
        if type(error).__name__ == "Abort":  # the answer of older parsers
            _interrupted()
        sys.stderr.write(without_credentials(traceback.format_exc()))
        sys.exit(1)


if __name__ == "__main__":
    main()
