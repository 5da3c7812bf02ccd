"""What the values of a row were chosen on: said by the user, or known from what is stored, in badges and exports."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import made_up_results as made
import pytest

from harness.errors import ConfigError
from harness.report import exports
from harness.report.board.tables import tables
from harness.report.pages import setting_page
from harness.runs import spec
from harness.runs.findings import Trial
from harness.runs.request import Request, command
from harness.store import Store


def test_every_row_says_what_its_values_were_chosen_on(tmp_path: Path) -> None:
    tried = made.result("tried", skill=0.5)
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(tried)
        store.add_trial(Trial(tried.spec, 3, 10, 1, "", "2030"))
        store.ingest(made.result("plain", skill=0.6))
        store.ingest(made.result("picked", skill=0.65, changes={"select_on": "novel"}))
        store.ingest(made.result("said", skill=0.7, changes={"tuning": "support-CV"}))
        store.ingest(made.result("peeked", skill=0.75, changes={"tuning": "novel"}))
        [table] = tables(store)
        page = setting_page.build(store, table)
    expected = {
        "tried": "validation",
        "plain": "none",
        "picked": "novel",
        "said": "support-CV",
        "peeked": "novel",
    }
    assert {row.method: row.tuning for row in table.rows} == expected
    found = csv.DictReader(io.StringIO(exports.as_csv([page])))
    assert {line["method"]: line["tuning"] for line in found} == expected
    badges = {row.method: {b for b in row.badges if b.startswith("tuned")} for row in table.rows}
    assert badges == {
        "tried": {"tuned (1)"},
        "plain": set(),
        "picked": set(),
        "said": {"tuned on support-CV"},
        "peeked": {"tuned on novel"},
    }
    assert "peeked (tuned on novel)" in {row.label for row in table.rows}


def test_the_policy_is_typed_and_part_of_the_run() -> None:
    plain = made.result("mine").spec
    said = made.result("mine", changes={"tuning": "validation"}).spec
    assert plain.id != said.id and plain.fit_key == said.fit_key and plain.row_key != said.row_key
    assert "tuning" not in spec._between_rows(plain), "signatures from before it stay"
    assert "--tuning validation" in command(said) and "--tuning" not in command(plain)
    with pytest.raises(ConfigError, match="--tuning test: known are none, support-CV, validation, novel"):
        Request(tuning="test")  # type: ignore[arg-type]
