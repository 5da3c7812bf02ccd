"""What jobs ask of whatever keeps results; ``store.Store`` is one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from harness.runs.findings import Hardness, Recheck, StoredRun, Trial
from harness.runs.result import RunResult


class Keeper(Protocol):
    """Results are given to it as they come, and read again by id."""

    def known_ids(self, run_ids: Iterable[str]) -> set[str]:
        """Those of some ids whose runs are there and did not fail."""

    def ingest(self, result: RunResult) -> str:
        """Take a result: "new", "known" or "replicate"."""

    def run(self, prefix: str, replicate: str = "") -> StoredRun:
        """The one run whose id begins so."""

    def counts(
        self, run_pk: int, metric: str = "top1"
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Correct predictions and queries by episode, (E,) int64 each."""

    def predictions(self, run_pk: int, metric: str = "top1") -> npt.NDArray[np.unsignedinteger[Any]] | None:
        """Predicted label per query, (E, n_query); None when the run kept none for this metric."""

    def add_recheck(self, run_id: str, replicate: str, check: Recheck) -> None:
        """Keep what became of counting some of it again."""

    def trials(self) -> list[Trial]:
        """Every trial of hyper-parameters."""

    def add_trial(self, trial: Trial) -> None:
        """Keep a trial."""

    def hardness(self, episode_digest: str, novel_digest: str) -> Hardness | None:
        """The hardness of a list over these images."""

    def add_hardness(self, measured: Hardness, *, replace: bool = False) -> bool:
        """Keep the hardness of a list; whether it is what is kept now."""
