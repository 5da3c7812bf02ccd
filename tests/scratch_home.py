"""A scratch home and the command line in it, for tests that start processes."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.cli import jobs
from harness.store import Store
from harness.system.folders import Places

TINY = ["--set", "epochs=2", "--set", "episodes_per_epoch=4", "--set", "train_way=5"]


class Home:
    """Where results go, and how to type commands there."""

    def __init__(self, folder: Path, data: Path, **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.data = folder, data
        self.environment = {
            **os.environ, "FSBENCH_HOME": str(folder), "FSBENCH_DATA": str(data), "FSBENCH_CACHE": str(folder / "cache"),
            "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1]), **environment,
        }  # fmt: skip

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "fsbench", *words], env=self.environment, text=True, cwd=self.folder,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=400)
        assert process.returncode == code, f"{words} ended with {process.returncode}:\n{out}\n{err}"
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def json(self, *words: str) -> list[dict[str, Any]]:
        return json.loads(self.run(*words, "--json").stdout)

    def counts(self) -> list[tuple[object, ...]]:
        query = "SELECT run_id, episode, n_correct, n_query FROM episode_accuracy ORDER BY run_id, episode"
        with sqlite3.connect(self.folder / "results.db") as db:
            return db.execute(query).fetchall()

    def status(self) -> list[dict[str, Any]]:
        """What `fsbench status --json` prints, without starting a process."""
        return jobs.status_rows(Places(self.folder, self.data, self.folder / "cache", ""))

    def states(self) -> list[str]:
        return [row["state"] for row in self.status()]

    @property
    def content(self) -> str:
        """Digest of everything stored but times, hosts and versions."""
        with Store.open(self.folder / "results.db") as store:
            return store.content_digest(provenance=False)

    def run_ids(self) -> list[str]:
        with Store.open(self.folder / "results.db") as store:
            return sorted(store.runs(metrics=())["id"])

    @property
    def batch(self) -> Path:
        """Folder of the newest batch."""
        return max(
            (self.folder / "runs/.jobs").glob("*/batch.json"), key=lambda p: p.stat().st_mtime_ns
        ).parent

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("runs/.jobs/*/log/*.err")))


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 240, pause: float = 0.05) -> None:
    """Wait for a condition, and fail saying what did not happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"within {seconds} s: {what} did not happen"
        time.sleep(pause)
