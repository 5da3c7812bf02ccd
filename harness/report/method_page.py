"""What the page of one method says: its own words, its contract, and everything it was run on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.report.run_page import Check
from harness.report.setting_page import Entry, SettingPage
from harness.store import StoredRun


@dataclass(frozen=True)
class MethodPage:
    """Everything on the page of one method.

    Attributes:
        name: the method.
        versions: every (version, reference) stored, the newest run's first.
        docstring, reference: as its newest run recorded them; empty where it did not.
        contract: the outcomes of its contract.
        entries: its rows, each with the page it stands on.
        runs: every stored run, by setting and seed.
    """

    name: str
    versions: tuple[tuple[str, str], ...]
    docstring: str
    reference: str
    contract: tuple[Check, ...]
    entries: tuple[tuple[SettingPage, Entry], ...]
    runs: tuple[StoredRun, ...]


def build(runs: Sequence[StoredRun], pages: Sequence[SettingPage]) -> list[MethodPage]:
    """Make the page of every method that has a run, by name."""
    names = sorted({run.spec.method.name for run in runs})
    return [_page(name, [run for run in runs if run.spec.method.name == name], pages) for name in names]


def _page(name: str, runs: Sequence[StoredRun], pages: Sequence[SettingPage]) -> MethodPage:
    newest_first = sorted(runs, key=lambda run: (run.created, run.id, run.replicate), reverse=True)
    about: dict[str, Any] = next(
        (run.provenance["about"] for run in newest_first if run.provenance.get("about")), {}
    )
    contract = [
        Check(str(c.get("name", "")), c.get("passed"), str(c.get("detail", "")))
        for c in about.get("contract", [])
    ]
    return MethodPage(
        name=name,
        versions=tuple(
            dict.fromkeys((run.spec.method.version, run.spec.method.reference) for run in newest_first)
        ),
        docstring=str(about.get("docstring", "")),
        reference=str(about.get("reference", "")),
        contract=tuple(contract),
        entries=tuple((page, entry) for page in pages for entry in page.entries if entry.row.method == name),
        runs=tuple(sorted(runs, key=lambda run: (run.spec.setting, run.spec.seed, run.id, run.replicate))),
    )
