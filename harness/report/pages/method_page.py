"""What the page of one method says: its own words, its recipes, its contract, everything it was run on, how it trained."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.report.board.rows import Row
from harness.report.formats import flat
from harness.report.pages.run_page import Check, Curve, contract_checks, curves
from harness.report.pages.setting_page import Entry, SettingPage
from harness.store import StoredRun


@dataclass(frozen=True)
class Recipes:
    """Hyper-parameters by recipe.

    Attributes:
        names: of the recipes that were run.
        lines: (hyper-parameter, a text for each recipe): the value, or the values and where they hold.
    """

    names: tuple[str, ...]
    lines: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class SeedCurves:
    """What was logged under one name, a curve for each seed."""

    name: str
    curves: tuple[tuple[int, Curve], ...]

    @property
    def low(self) -> float:
        """The lowest value of all seeds."""
        return min(curve.low for _, curve in self.curves)

    @property
    def high(self) -> float:
        """The highest value of all seeds."""
        return max(curve.high for _, curve in self.curves)


@dataclass(frozen=True)
class Training:
    """The trainings behind one row: where, what it is called, and its curves."""

    where: str
    label: str
    logged: tuple[SeedCurves, ...]


@dataclass(frozen=True)
class MethodPage:
    """Everything on the page of one method.

    Attributes:
        name: the method.
        versions: every (version, reference) stored, the newest run's first.
        docstring, deviations, reference: as its newest run recorded them; empty where it did not.
        contract: the outcomes of its contract; ``checked`` is the day.
        entries: its rows, each with the page it stands on.
        links: (what, address) of its paper, from the reference.
        recipes: what its recipes say of each hyper-parameter, side by side.
        trainings: curves by seed of the rows that stand for it, a benchmark each.
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
    links: tuple[tuple[str, str], ...]
    recipes: Recipes
    trainings: tuple[Training, ...]
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
        links=tuple(
            _links(
                str(about.get("reference", "")), f"{about.get('docstring', '')} {about.get('deviations', '')}"
            )
        ),
        recipes=_recipes([entry.row for _, entry in entries]),
        trainings=tuple(_trainings(entries)),
        others=tuple(sorted(rest, key=lambda run: (run.spec.setting, run.spec.seed, run.id, run.replicate))),
    )


def _text(run: StoredRun) -> tuple[str, str]:
    """Which text of the method a run had."""
    return run.spec.method.version, run.spec.method.source_sha256


def _links(reference: str, prose: str) -> Iterator[tuple[str, str]]:
    """Addresses of a method's paper and code: arXiv, DOI and URL of its BibTeX, and a repository that it speaks of."""
    fields = dict(re.findall(r"(\w+)\s*=\s*[{\"]\s*([^{}\"]+?)\s*[}\"]", reference))
    if re.fullmatch(r"[\w./-]+", fields.get("eprint", "")):
        yield f"arXiv:{fields['eprint']}", f"https://arxiv.org/abs/{fields['eprint']}"
    if re.fullmatch(r"10\.[\w.()/:;-]+", fields.get("doi", "")):
        yield f"doi:{fields['doi']}", f"https://doi.org/{fields['doi']}"
    if re.fullmatch(r"https?://[\w./~%?=&+-]+", fields.get("url", "")):
        yield "paper", fields["url"]
    for repository in dict.fromkeys(re.findall(r"github\.com/[\w-]+/[\w.-]*\w", prose)):
        yield "code", f"https://{repository}"


def _recipes(rows: Sequence[Row]) -> Recipes:
    """Read them from the rows that are configured as their recipe says; a value that differs says where it holds."""
    told: dict[str, dict[str, dict[str, list[str]]]] = {}  # hyper-parameter → recipe → value → benchmarks
    plain = [row for row in rows if not row.config]
    for row in plain:
        for name, entry in row.spec.config.items():
            found = told.setdefault(name, {}).setdefault(row.recipe, {}).setdefault(flat(entry.value), [])
            if row.spec.benchmark not in found:
                found.append(row.spec.benchmark)
    names = tuple(sorted({row.recipe for row in plain}, key=lambda name: (name != "clean", name)))
    lines = (
        (name, tuple(_value(by.get(recipe, {})) for recipe in names)) for name, by in sorted(told.items())
    )
    return Recipes(names, tuple(lines))


def _value(found: Mapping[str, Sequence[str]]) -> str:
    if len(found) < 2:
        return next(iter(found), "–")
    return "; ".join(f"{value} ({', '.join(where)})" for value, where in found.items())


def _trainings(entries: Sequence[tuple[SettingPage, Entry]]) -> Iterator[Training]:
    """Each training once: settings of a benchmark share theirs."""
    seen: set[tuple[str, ...]] = set()
    for page, entry in entries:
        row = entry.row
        key = tuple(run.spec.training_key for run in row.runs)
        logged: dict[str, list[tuple[int, Curve]]] = {}
        for run in row.runs if key not in seen else ():
            for curve in curves(run.curves):
                logged.setdefault(curve.name, []).append((run.spec.seed, curve))
        seen.add(key)
        drawn = [
            SeedCurves(name, tuple(found)) for name, found in logged.items() if len(found[0][1].points) > 1
        ]
        if drawn and row.is_trained:
            yield Training(
                page.table.name, ", ".join(filter(None, (row.label, row.backbone, entry.apart))), tuple(drawn)
            )
