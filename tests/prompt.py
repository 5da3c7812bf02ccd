"""The command line in this process: what a home answers to what is typed."""

from __future__ import annotations

import logging
from pathlib import Path

from typer.testing import CliRunner

import fsbench
from harness import benchmarks
from harness.errors import FsbenchError


class Prompt:
    """Where results go, and how to type commands there; a process for each would cost seconds."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data, self.cache = folder, data, folder / "cache"
        folder.mkdir(parents=True, exist_ok=True)

    def type(self, *words: str) -> tuple[int, str]:
        """Exit code and everything said; what is neither our error nor an exit goes through as the traceback it is."""
        benchmarks.settings.every.cache_clear()  # own benchmarks come and go with their home
        benchmarks.settings.locked_digests.cache_clear()
        environment = {"FSBENCH_DATA": str(self.data), "FSBENCH_CACHE": str(self.cache)}
        logging.getLogger().handlers.clear()  # logging goes to the stream of the newest call
        typed = CliRunner(env=environment).invoke(fsbench.app, ["--home", str(self.folder), *words])
        error = typed.exception
        if isinstance(error, FsbenchError):
            return error.exit_code, f"{typed.output}{error}"
        if error is not None and not isinstance(error, SystemExit):
            raise error
        return typed.exit_code, typed.output
