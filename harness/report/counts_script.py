"""The per-episode counts of a setting as a script file, from which the browser draws any pair."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np

from harness.report.leaderboard import Row
from harness.report.setting_page import SettingPage

MAX_DRAWN = 1000  # episodes that a picture shows; the tests use all
COARSE = 10_000  # steps between 0 and 1 where seeds and queries make more
DETECTABLE = 10_000  # what can be detected travels in hundredths of a point


def counts_script(page: SettingPage) -> str:
    """Write ``fsbench.counts({…})``: for each ranked row the counts of its first episodes in base64.

    A count is out of ``steps`` (queries of an episode × seeds), one byte where that fits, else two, little-endian.
    A page opened from disk may not fetch a file, but it may load a script.
    """
    table = page.table
    n = min(table.n_ranked, MAX_DRAWN)
    data = {
        "drawn": n,
        "episodes": table.n_ranked,
        "rows": [_row(row, n) for row in table.ranked],
        "detectable": [[round(cell.detectable * DETECTABLE) for cell in cells] for cells in page.matrix],
    }
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return f"fsbench.counts({text});\n"


def _row(row: Row, n: int) -> dict[str, Any]:
    accuracy = row.accuracy[:, :n].mean(axis=0)
    exact = row.spec.n_way * row.spec.n_query * len(row.seeds)
    is_exact = exact < 2**16 and np.allclose(accuracy * exact, np.round(accuracy * exact), atol=1e-6)
    steps = exact if is_exact else COARSE
    width = "<u1" if steps < 256 else "<u2"
    counts = np.round(accuracy * steps).astype(width)
    name = f"{row.label}, {row.backbone}"
    return {"name": name, "steps": steps, "counts": base64.b64encode(counts.tobytes()).decode()}
