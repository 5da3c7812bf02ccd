"""The card of a benchmark: true, whole, and Croissant by the word of its own validator."""

from __future__ import annotations

import hashlib
import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from absent import absent
from typer.testing import CliRunner

import fsbench
from harness import benchmarks
from harness.exchange import card as cards
from harness.images.prepare import ensure

RAI = {"dataCollection", "dataLimitations", "dataBiases", "dataUseCases", "personalSensitiveInformation"}


def mlcroissant() -> Any:
    if find_spec("mlcroissant") is None:
        absent("mlcroissant is not installed: pip install -c constraints.txt -e '.[dev]'")
    return import_module("mlcroissant")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    ensure("glyphs", folder)
    ensure("digits", folder)
    return folder


def test_splits_lists_and_pixels_are_those_of_the_benchmark(data: Path) -> None:
    card, split = (
        cards.card("glyphs-5w1s", data),
        json.loads((benchmarks.FOLDER / "splits/glyphs.json").read_text()),
    )
    setting = benchmarks.load("glyphs-5w1s")
    for role in card.roles:
        counts = split[role.name]
        assert (role.n_classes, role.n_images) == (len(counts), 20 * len(counts))
        assert role.pixels == setting.benchmark.open(role.name, data).digest  # type: ignore[arg-type]
    told = {"dataset": "glyphs", "rotations": False, "images": {name: [0, 20] for name in split["novel"]}}
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    assert card.roles[-1].split == hashlib.sha256(text.encode()).hexdigest()
    page = cards.as_markdown(card)
    assert (
        setting.digest in page
        and "2,000 are evaluated of a fixed list of 10,000" in page
        and "seed 2026" in page
    )
    assert "MIT, part of fsbench" in page and "CITATION.cff" in page and card.roles[-1].pixels[:16] in page


def test_pixels_are_left_out_where_the_set_is_not_prepared(tmp_path: Path) -> None:
    card = cards.card("mini-5w1s", tmp_path)
    assert [role.pixels for role in card.roles] == ["", "", ""] and "not prepared here" in cards.as_markdown(
        card
    )


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("mini-5w1s", "Weights trained on tiered have seen 5 novel classes"),
        ("mini-5w1s", "Weights of imagenet have seen 20 of its 20 novel classes."),
        ("cifar10-5w1s", "It has 5 novel classes"),
        ("omniglot-5w1s", "counts as four classes"),
        ("glyphs-closed", "says nothing about new classes"),
    ],
)
def test_known_faults_are_computed(setting: str, fault: str, data: Path) -> None:
    assert any(fault in told for told in cards.card(setting, data).faults)


@pytest.mark.parametrize(
    "name", ["glyphs-5w1s", "glyphs-5w1s-dir2", "glyphs-lowshot-n1", "glyphs-closed", "mini-5w5s"]
)
def test_croissant_finds_nothing_wrong_and_reads_the_splits_back(
    name: str, data: Path, tmp_path: Path
) -> None:
    mlc, card = mlcroissant(), cards.card(name, data)
    said = cards.as_croissant(card)
    assert {f"rai:{field}" for field in RAI} <= set(said)
    (tmp_path / "card.json").write_text(json.dumps(said))
    found = mlc.Dataset(str(tmp_path / "card.json"))
    assert not found.metadata.ctx.issues.errors
    told = [
        {
            key.partition("/")[2]: value.decode() if isinstance(value, bytes) else value
            for key, value in record.items()
        }
        for record in found.records("splits")
    ]
    assert told == [role._asdict() for role in card.roles]
    assert found.metadata.data_limitations == said["rai:dataLimitations"]


def test_every_benchmark_has_a_card(data: Path) -> None:
    for benchmark in benchmarks.every():
        card = cards.card(benchmark.settings()[0].name, data)
        assert cards.as_markdown(card).count("\n## ") == 5 and json.dumps(cards.as_croissant(card))


def test_it_is_printed_as_typed(data: Path) -> None:
    def typed(*words: str) -> str:
        told = CliRunner(env={"FSBENCH_DATA": str(data)}).invoke(fsbench.app, ["card", "glyphs-5w1s", *words])
        assert told.exit_code == 0, told.output
        return told.stdout

    assert typed().startswith("# Glyphs: glyphs-5w1s\n")
    assert json.loads(typed("--croissant"))["name"] == "glyphs-5w1s"
