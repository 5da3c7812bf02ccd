"""Accuracy of a setting's rows against the hardness of its episodes, where one has been measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from harness import stats
from harness.stats.checks import NO_SPREAD
from harness.store import Store

if TYPE_CHECKING:
    from harness.report.board.rows import Row
    from harness.report.board.tables import Table

N_PARTS = 10  # equal parts of the episodes, easiest first
MIN_EPISODES = 10 * N_PARTS


@dataclass(frozen=True)
class AgainstHardness:
    """One row: its line over hardness and its mean accuracy in each tenth of the episodes, easiest first."""

    row: Row
    line: stats.HardnessLine
    accuracy: tuple[float, ...]


@dataclass(frozen=True)
class HardnessPart:
    """What a setting's page says about hardness.

    Attributes:
        extractor: by whose features it was measured.
        n_episodes: that were measured and that all ranked rows have.
        omega: mean hardness of each tenth of them, nats.
        rows: the ranked rows, best first.
    """

    extractor: str
    n_episodes: int
    omega: tuple[float, ...]
    rows: tuple[AgainstHardness, ...]


def build(store: Store, table: Table) -> HardnessPart | None:
    """Read the hardness of a table's list; None where none was measured, or of too few episodes, or all are alike."""
    if not table.ranked or not table.ranked[0].protocol.is_episodic:
        return None
    digests = dict.fromkeys(
        row.spec.data_digest.get("novel", "") for row in table.ranked
    )  # one for each input size
    known = (store.hardness(table.list_digest, digest) for digest in digests)
    measured = next(filter(None, known), None)
    if measured is None:
        return None
    n = min(len(measured.omega), table.n_ranked)
    omega = measured.omega[:n]
    if n < MIN_EPISODES or omega.std() < NO_SPREAD:
        return None
    parts = np.array_split(np.argsort(omega, kind="stable"), N_PARTS)
    rows = [_against(row, omega, parts) for row in table.ranked]
    return HardnessPart(measured.name, n, tuple(float(omega[p].mean()) for p in parts), tuple(rows))


def _against(
    row: Row, omega: npt.NDArray[np.float64], parts: Sequence[np.ndarray[Any, Any]]
) -> AgainstHardness:
    accuracy = row.accuracy[:, : len(omega)].mean(axis=0)  # (n,)
    line = stats.hardness_line(accuracy, omega)
    return AgainstHardness(row, line, tuple(float(accuracy[part].mean()) for part in parts))
