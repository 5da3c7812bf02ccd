"""What the page of one method says: its own words, its contract, and everything it was run on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.report.pages.run_page import Check, contract_checks
from harness.report.pages.setting_page import Entry, SettingPage
from harness.store import StoredRun


@dataclass(frozen=True)
class MethodPage:
    """Everything on the page of one method.

    Attributes:
        name: the method.
        versions: every (version, reference) stored, the newest run's first.
        docstring, deviations, reference: as its newest run recorded them; empty where it did not.
        contract: the outcomes of its contract; ``checked`` is the day.
        entries: its rows, each with the page it stands on.
        others: runs that stand in no row: failed, or fewer episodes than another of the same seed.
    """

    name: str
    versions: tuple[tuple[str, str], ...]
    docstring: str
    deviations: str
    reference: str
    contract: tuple[Check, ...]
    checked: str
    entries: tuple[tuple[SettingPage, Entry], ...]
    others: tuple[StoredRun, ...]


def build(runs: Sequence[StoredRun], pages: Sequence[SettingPage]) -> list[MethodPage]:
    """Make the page of every method that has a run, by name."""
    names = sorted({run.spec.method.name for run in runs})
    return [_page(name, [run for run in runs if run.spec.method.name == name], pages) for name in names]


def _page(name: str, runs: Sequence[StoredRun], pages: Sequence[SettingPage]) -> MethodPage:
    newest_first = sorted(runs, key=lambda run: (run.created, run.id, run.replicate), reverse=True)
    told = [run for run in newest_first if run.provenance.get("about")]
    about: dict[str, Any] = told[0].provenance["about"] if told else {}
    same = [run.provenance["about"] for run in told if _text(run) == _text(told[0])]
    checked = max(
        (one for one in same if one.get("checked")), key=lambda one: str(one["checked"]), default=about
    )
    entries = tuple((page, entry) for page in pages for entry in page.entries if entry.row.method == name)
    shown = {run.pk for _, entry in entries for run in entry.row.runs}
    rest = [run for run in runs if run.pk not in shown]
    return MethodPage(
        name=name,
        versions=tuple(
            dict.fromkeys((run.spec.method.version, run.spec.method.reference) for run in newest_first)
        ),
        docstring=str(about.get("docstring", "")),
        reference=str(about.get("reference", "")),
        deviations=str(about.get("deviations", "")),
        contract=contract_checks(checked),
        checked=str(checked.get("checked", ""))[:10],
        entries=entries,
        others=tuple(sorted(rest, key=lambda run: (run.spec.setting, run.spec.seed, run.id, run.replicate))),
    )


def _text(run: StoredRun) -> tuple[str, str]:
    """Which text of the method a run had."""
    return run.spec.method.version, run.spec.method.source_sha256
