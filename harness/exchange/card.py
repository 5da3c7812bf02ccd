"""The card of a benchmark: what it is, whose pictures, which splits, how it was made, what is known to be wrong with it.

As Markdown for people, and as JSON-LD in the Croissant format 1.0 with its responsible-AI vocabulary for programs. It
describes; the pictures themselves are brought by whoever uses them, under the terms that it names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from harness import benchmarks
from harness.benchmarks import ROLES, Benchmark, Setting, leaks
from harness.benchmarks.roles import Role
from harness.errors import DataError
from harness.images import datasets

_FEW_CLASSES = 10
_CONTEXT: Mapping[str, Any] = {  # as the Croissant 1.0 specification lists it
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


class RolePart(NamedTuple):
    """One role of a benchmark.

    Attributes:
        name: base, validation or novel.
        dataset: the prepared set that holds its images.
        n_classes, n_images: rotations counted.
        split: sha256 over its classes with the images used of each.
        pixels: digest of its images as the benchmark's pipeline gives them; empty where they are not prepared here.
    """

    name: str
    dataset: str
    n_classes: int
    n_images: int
    split: str
    pixels: str


@dataclass(frozen=True)
class Card:
    """What is said of a setting and its benchmark, computed from their declaration.

    Attributes:
        setting: the setting.
        roles: base, validation, novel.
    """

    setting: Setting
    roles: tuple[RolePart, ...]

    @property
    def benchmark(self) -> Benchmark:
        """Whose setting it is."""
        return self.setting.benchmark

    @property
    def task(self) -> str:
        """What is asked, in a sentence."""
        setting, b = self.setting, self.benchmark
        if b.is_closed:
            return f"All {setting.n_episodes:,} test images of the {setting.way} classes that were trained on are named, once each."
        if b.joint:
            return (
                f"Base and novel classes are asked together among {setting.way} labels, from {setting.shot} images of each novel "
                f"class, in {setting.n_episodes} experiments (Hariharan and Girshick 2017)."
            )
        queries = "all images left" if setting.marginal == "qall" else f"{setting.n_query} queries a class"
        queries += " on average, by a Dirichlet rule" if setting.marginal.startswith("dir") else ""
        return (
            f"{setting.way}-way {setting.shot}-shot episodes with {queries}; {setting.n_episodes:,} are evaluated of a fixed "
            f"list of {setting.list_length:,}."
        )

    @property
    def how_made(self) -> str:
        """How the list was drawn."""
        b = self.benchmark
        if b.fixed_episodes == "groups":
            return "The episodes are the published ones: each group of novel classes is one."
        if b.is_closed:
            return "The list is the official test part, in the order of the split."
        if b.joint:
            return (
                f"The experiments are drawn by seed {b.seed}, or are the authors' where they published them."
            )
        seed = f"seed {b.seed}" + (
            f", evaluation list {self.setting.list_seed}" if self.setting.list_seed is not None else ""
        )
        return (
            f"Classes, support and queries of each episode are drawn without replacement from class counts and {seed} alone "
            "(Philox, partial Fisher-Yates), so that no file of episodes is needed; shorter lists are prefixes."
        )

    @cached_property
    def licences(self) -> Mapping[str, str]:
        """Terms by prepared set."""
        known = dict.fromkeys(role.dataset for role in self.roles)
        return {
            name: datasets.READERS[name].terms
            if name in datasets.READERS
            else "the user's own pictures; ask who made the set"
            for name in known
        }

    @cached_property
    def faults(self) -> tuple[str, ...]:
        """What is known to be wrong with it, or easily misread."""
        return tuple(_faults(self.benchmark))

    @property
    def citation(self) -> str:
        """How to cite it."""
        cited = "; ".join(f"{name}: {terms}" for name, terms in self.licences.items())
        return f"fsbench {version('fsbench')} (CITATION.cff), setting {self.setting.name}, list {self.setting.digest[:16]}; {cited}"


def card(name: str, data: Path) -> Card:
    """Describe a setting.

    Args:
        name: of the setting.
        data: where prepared images are; digests of pixels are left out where a set is not prepared.

    Raises:
        ConfigError: when there is no such setting.
    """
    setting = benchmarks.load(name)
    b = setting.benchmark
    return Card(setting, tuple(_role(b, role, b.roles[role], data) for role in ROLES if role in b.roles))


def as_markdown(card: Card) -> str:
    """The card for people."""
    b, setting = card.benchmark, card.setting
    table = [
        f"| {r.name} | {r.dataset} | {r.n_classes:,} | {r.n_images:,} | `{r.split[:16]}` | {f'`{r.pixels[:16]}`' if r.pixels else 'not prepared here'} |"
        for r in card.roles
    ]
    parts = [
        f"# {b.title}: {setting.name}",
        b.about,
        f"**Task.** {card.task} Accuracy is the mean share of queries named right; intervals ask whether it would hold if everything "
        "were trained again.",
        f"**Images.** {b.image_size}×{b.image_size}{f', {b.channels} channels' if b.channels else ''}, pipeline `{b.pipeline}`; "
        f"default backbone `{b.backbone}`.",
        "## Splits\n\n| role | set | classes | images | digest of the split | digest of the pixels |\n|---|---|---|---|---|---|\n"
        + "\n".join(table),
        f"Episode list: sha256 `{setting.digest}`{', locked' if setting.name in benchmarks.locked_digests() else ''}. "
        f"`fsbench episodes {setting.name} --json` writes it.",
        f"## How it was made\n\n{card.how_made}",
        "## Licences\n\n" + "\n".join(f"- {name}: {terms}. {datasets.how_to_prepare(name)}" for name, terms in card.licences.items()),
        "## Known faults\n\n" + ("\n".join(f"- {fault}" for fault in card.faults) or "None is known."),
        f"## How to cite\n\n{card.citation}. Print the row's signature beside every number (`fsbench show RUN`).",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def as_croissant(card: Card) -> dict[str, Any]:
    """The card for programs: JSON-LD by Croissant 1.0 and its responsible-AI vocabulary 1.0."""
    b, setting = card.benchmark, card.setting
    return {
        "@context": dict(_CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": setting.name,
        "description": f"{b.title}. {b.about} {card.task}",
        "version": version("fsbench"),
        "license": [f"{name}: {terms}" for name, terms in card.licences.items()],
        "citeAs": card.citation,
        "keywords": ["few-shot learning", "image classification", b.key],
        "creator": {"@type": "sc:Organization", "name": "The fsbench authors"},
        "distribution": [],
        "recordSet": [_record_set("splits", _SPLIT_FIELDS, [dict(zip(_SPLIT_FIELDS, r, strict=True)) for r in card.roles])],
        "rai:dataCollection": "; ".join(f"{name}: {datasets.how_to_prepare(name)}" for name in card.licences),
        "rai:dataCollectionType": "Secondary Data Analysis",
        "rai:dataPreprocessingProtocol": [
            f"pipeline {b.pipeline}, {b.image_size} pixels",
            card.how_made,
            f"sha256 of the episode list: {setting.digest}",
        ],
        "rai:dataLimitations": list(card.faults) or ["none is known"],
        "rai:dataBiases": [
            "Classes are those that the sets' makers chose; what holds for them need not hold for others, and the interval for "
            "other classes says how far a mean would move."
        ],
        "rai:dataUseCases": ["Comparing methods of few-shot image classification on the same episodes.", card.task],
        "rai:personalSensitiveInformation": [_people(card)],
        "rai:dataReleaseMaintenancePlan": "Lists are locked by digest (benchmarks/episodes.lock); a change is a setting of another name.",
    }  # fmt: skip


_SPLIT_FIELDS = RolePart._fields
_DRAWN = {"glyphs", "digits", "omniglot", "omniglot-small", "omniglot-runs"}


def _people(card: Card) -> str:
    if {role.dataset for role in card.roles} <= _DRAWN:
        return "None: drawn or handwritten characters without their writers."
    return "Photographs; people may be in the background. No annotation is about people. fsbench passes no picture on."


def _record_set(name: str, fields: tuple[str, ...], records: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows that stand in the card itself."""
    kinds = {int: "sc:Integer", str: "sc:Text"}
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{field}",
                "name": field,
                "dataType": kinds[type(records[0][field])],
            }
            for field in fields
        ],
        "data": [{f"{name}/{field}": value for field, value in record.items()} for record in records],
    }


def _role(benchmark: Benchmark, name: str, role: Role, data: Path) -> RolePart:
    said = {"dataset": role.dataset, "rotations": role.rotations, "images": role.spans}
    split = hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    try:
        pixels = benchmark.open(name, data).digest  # type: ignore[arg-type]
    except DataError:
        pixels = ""
    return RolePart(name, role.dataset, len(role.counts), int(role.counts.sum()), split, pixels)


def _faults(benchmark: Benchmark) -> Iterator[str]:
    """Shared classes and pictures, missing roles, few classes: whatever a reader of a number has to know."""
    roles, novel = benchmark.roles, benchmark.roles["novel"]
    if benchmark.is_closed:
        yield "Its classes are those of the training images: it says nothing about new classes."
    elif own := leaks.overlap([leaks.sight(roles["base"])], novel):
        yield f"Its own base classes share {own} with the novel ones."
    if "validation" not in roles:
        yield "It has no validation classes: the last weights are evaluated."
    if len(novel.counts) < _FEW_CLASSES and not benchmark.is_closed:
        yield f"It has {len(novel.counts)} novel classes: a verdict is about these, and of other classes it shows little."
    if novel.rotations:
        yield "Each character counts as four classes, one for each quarter turn: classes are not independent."
    if benchmark.is_closed:
        return
    for other in benchmarks.every():
        if other.key != benchmark.key and (
            shared := leaks.overlap([leaks.sight(other.roles["base"])], novel)
        ):
            yield f"Weights trained on {other.key} have seen {shared} (`--seen {other.key}` is refused)."
    for corpus in (*leaks.SOURCES, *leaks.CORPORA):
        if shared := leaks.of_run([corpus], benchmark):
            yield f"Weights of {corpus} have seen {len(shared.classes)} of its {len(novel.classes)} novel classes."
