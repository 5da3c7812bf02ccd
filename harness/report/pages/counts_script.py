"""The per-episode counts of a setting as a script file, from which the browser draws any pair."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from harness.report.board.rows import Row
from harness.report.formats import p_text
from harness.report.pages.setting_page import PairCell, SettingPage

MAX_DRAWN = 600  # episodes that a picture shows; the tests use all
FIRST = ord("=")  # the character of no right answer: what follows needs no escape but the backslash
COARSE = 10_000  # steps between 0 and 1 where seeds and queries make more
POINT = 10_000  # differences travel in hundredths of a point


def counts_script(page: SettingPage) -> str:
    """Write ``fsbench.counts({…})``: for each ranked row the counts of its first episodes (jointly: experiments).

    A count is out of ``steps`` (queries of an episode × seeds) and written as one character, ``FIRST`` for none.
    A page opened from disk may not fetch a file, but it may load a script.
    """
    table = page.table
    n = min(table.n_ranked, MAX_DRAWN)
    data = {
        "drawn": n,
        "episodes": table.n_ranked,
        "unit": table.ranked[0].unit if table.ranked else "episodes",
        "rows": [_row(row, n) for row in table.ranked],
        "pairs": [[_pair(cell) for cell in cells] for cells in page.matrix],
        "compare": f"fsbench compare A B --bench {page.table.setting}",
    }
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    return f"fsbench.counts({text});\n"


def _pair(cell: PairCell) -> list[Any]:
    """Difference, half of its interval, what it is surely smaller than, p, the word, and why no more is said."""
    numbers = (round(value * POINT) for value in (cell.difference, cell.half_width, cell.bound))
    return [*numbers, p_text(cell.p), cell.word, *([cell.reason] if cell.reason else [])]


def _row(row: Row, n: int) -> dict[str, Any]:
    accuracy = row.accuracy[:, :n].mean(axis=0)
    exact = row.n_answers * len(row.seeds)
    is_exact = exact <= COARSE and np.allclose(accuracy * exact, np.round(accuracy * exact), atol=1e-6)
    steps = exact if is_exact else COARSE
    counts = np.round(accuracy * steps).astype(np.int64)
    return {
        "name": row.label,
        "run": row.runs[0].id,
        "mean": round(row.mean * POINT),
        "steps": steps,
        "counts": "".join(chr(FIRST + n) for n in counts.tolist()),
    }
