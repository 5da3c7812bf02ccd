"""CONTRIBUTING.md counts the attacks as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import test_archives
import test_code
import test_databases
import test_records
import test_scores
from mutations import EVERY

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
IN_BUNDLES = len(test_records.ACCEPTED_IN_A_BUNDLE & EVERY.keys())
IN_FOLDERS = len((test_records.ACCEPTED_IN_A_BUNDLE | test_records.ALSO_IN_A_FOLDER) & EVERY.keys())


@pytest.mark.parametrize(
    ("kind", "tried", "accepted"),
    [
        ("stored references to code", len(test_code.REFERENCES), 0),
        ("values of `--slurm`", 5 * len(test_code.HOSTILE_VALUES), 0),
        ("records in bundles", len(EVERY), IN_BUNDLES),
        ("records in run folders", len(EVERY), IN_FOLDERS),
        ("archives, arrays and checkpoints in bundles", len(test_archives.ARCHIVES), 0),
        ("databases with other schemas", len(test_databases.SCHEMAS), 0),
        ("databases with a bad row", len(test_databases.ROWS), 0),
        (
            "databases with bad predictions, lists, trials",
            len(test_databases.BESIDE),
            len(test_databases.TAKEN),
        ),
        ("files of predictions", len(test_scores.FILES), 0),
    ],
)
def test_the_table_has_the_numbers_of_the_lists(kind: str, tried: int, accepted: int) -> None:
    row = re.search(rf"^\| {re.escape(kind)} \| (\d+) \| (\d+) \| (\d+) \|$", TEXT, re.MULTILINE)
    assert row and [int(n) for n in row.groups()] == [tried, tried - accepted, accepted]
