"""A home in which hostile things are typed at: every answer is a message or a harmless acceptance, and pages still come."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from made_up_results import result
from typer.testing import CliRunner

import fsbench
from harness.errors import FsbenchError
from harness.runs import RunResult
from harness.store import Store
from harness.system.folders import Places


class Attacked:
    """A home with one honest run of a setting that no benchmark here has."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.places = Places(folder, folder / "data", folder / "cache", str(folder / "results.db"))
        with Store.open(self.places.db, create=True) as store:
            store.ingest(result("honest", "honest-5w1s", n_episodes=20))

    def type(self, *words: str) -> tuple[int, str]:
        """Exit code and what is said; anything but an FsbenchError or an exit goes through as the traceback it is."""
        environment = {"FSBENCH_DATA": str(self.places.data), "FSBENCH_CACHE": str(self.places.cache)}
        logging.getLogger().handlers.clear()  # logging goes to the stream of the newest call
        typed = CliRunner(env=environment).invoke(fsbench.app, ["--home", str(self.places.home), *words])
        error = typed.exception
        if isinstance(error, FsbenchError):
            return error.exit_code, str(error)
        if error is not None and not isinstance(error, SystemExit):
            raise error
        return typed.exit_code, typed.output

    def ids(self) -> set[str]:
        """Ids of what is stored."""
        with Store.open(self.places.db) as store:
            return set(store.runs(metrics=())["id"])

    def digest(self) -> str:
        """Of everything stored."""
        with Store.open(self.places.db) as store:
            return store.content_digest()

    def ingest(self, run: RunResult) -> None:
        """Store as one's own, as `fsbench run` does."""
        with Store.open(self.places.db) as store:
            store.ingest(run)

    def still_works(self) -> None:
        """`leaderboard` and `report` answer, and the honest run is on them."""
        code, said = self.type("leaderboard")
        assert code == 0 and "honest" in said, said
        code, said = self.type("report")
        assert code == 0, said
        assert "honest" in (self.places.reports / "honest-5w1s.html").read_text()


def is_message(said: Any) -> bool:
    """Whether a refusal reads like one of ours: no traceback, nothing that steers a terminal."""
    text = str(said)
    return bool(text.strip()) and "Traceback" not in text and not any(c in text for c in "\x1b\x07\x9b\0")
