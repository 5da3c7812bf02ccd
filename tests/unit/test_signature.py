"""Signatures: one line that says what was done, read back, on every row of every export."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_up_results as made
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from typer.testing import CliRunner

import fsbench
from harness.errors import ConfigError, FsbenchError
from harness.exchange import signed
from harness.images.prepare import ensure
from harness.report import exports, render
from harness.report.board.tables import tables
from harness.report.pages import index_page, setting_page
from harness.runs import ConfigValue, planning
from harness.runs.experiment import parse_seeds
from harness.runs.request import Request
from harness.runs.signature import Signature, of_specs, read, seeds_text
from harness.store import Store
from harness.system.folders import Places

SPEC = made.result("neg-cosine", "mini-5w1s").spec
LINE = str(of_specs([replace(SPEC, seed=seed) for seed in range(3)], 300, "0.2"))


@pytest.fixture
def home(tmp_path: Path) -> Places:
    return Places(tmp_path, tmp_path / "data", tmp_path / "cache", str(tmp_path / "results.db"))


@pytest.fixture
def store(home: Places) -> Iterator[Store]:
    with Store.open(home.db, create=True) as opened:
        made.fill(opened, n_methods=3, n_episodes=60)
        yield opened


def test_it_says_setting_list_pixels_method_configuration_seeds_episodes_and_version() -> None:
    parts = LINE.split("|")
    assert parts[:2] == ["fsbench1", "mini-5w1s"] and parts[2] == f"list:{SPEC.episode_digest[:8]}"
    assert parts[3:7] == ["pix:dddddddd", "neg-cosine@1", "conv4", "clean"]
    assert parts[7:] == [f"cfg:{SPEC.row_key[:8]}", "seeds:0-2", "ep:300", "v0.2"]


@given(
    some.builds(
        Signature,
        *[some.text(min_size=1, max_size=20)] + 2 * [some.text("0123456789abcdef", min_size=8, max_size=8)],
        method=some.text(min_size=1, max_size=20),
        version=some.text(max_size=9),
        backbone=some.sampled_from(["none", "timm:vit_small_patch14_dinov2.lvd142m", "a|b c@d"]),
        recipe=some.sampled_from(["clean", "as-published"]),
        config=some.just("0123abcd"),
        seeds=some.sets(some.integers(0, 10**9 - 1), min_size=1, max_size=9).map(
            lambda found: tuple(sorted(found))
        ),
        n_episodes=some.integers(0, 10**6),
        made_by=some.sampled_from(["0.1.0", "0.1.0,0.2.0", "none"]),
    )
)
@settings(max_examples=200, deadline=None)
def test_whatever_names_hold_it_is_one_plain_line_and_is_read_back(signature: Signature) -> None:
    line = str(signature)
    assert line.isascii() and line.isprintable() and " " not in line and line.count("|") == 10
    assert read(line) == signature
    assert read(f" {line[:30]}\n{line[30:60]} {line[60:]}\n") == signature  # as a PDF breaks it


@given(some.sets(some.integers(0, 40), min_size=1))
def test_seeds_are_written_as_the_option_reads_them(seeds: set[int]) -> None:
    assert parse_seeds(seeds_text(seeds)) == sorted(seeds)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (LINE.replace("list:", "lst:"), "`lst:"),
        (LINE.replace("|clean", ""), "10 parts between bars, not 11"),
        (LINE.replace("seeds:0-2", "seeds:x"), "`seeds:x` stands where `seeds:0-2` has to"),
        (LINE.replace("seeds:0-2", "seeds:2-0"), "a range goes up"),
        (LINE.replace("seeds:0-2", "seeds:0-99999999"), "more than 10,000 seeds"),
        (LINE.replace("fsbench1", "fsbench2"), "another version"),
        ("|", "2 parts between bars"),
    ],
)
def test_what_is_no_signature_is_refused_with_its_fault(text: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(fault)):
        read(text)


@pytest.mark.parametrize(
    "change",
    [
        {"config": {**SPEC.config, "epochs": ConfigValue(13, "--set")}},
        {"recipe": "budget"},
        {"precision": "bf16"},
        {"data_digest": {**SPEC.data_digest, "base": "c" * 64}},
        {"data_digest": {**SPEC.data_digest, "novel": "c" * 64}},
        {"episode_digest": "f" * 64},
        {"method": replace(SPEC.method, source_sha256="a" * 64)},
        {"required": {"pre": SPEC.fit}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_differs_in_anything_but_seeds_and_prefixes_has_another_and_does_not_fit(
    change: dict[str, Any],
) -> None:
    signature, other = of_specs([SPEC], 300, "0.2"), replace(SPEC, **change)
    assert str(of_specs([other], 300, "0.2")) != str(signature) and not signature.fits(other)


def test_more_episodes_of_the_list_fit_and_fewer_do_not() -> None:
    signature = of_specs([SPEC], 300, "0.2")
    assert signature.fits(replace(SPEC, n_episodes=2000)) and not signature.fits(
        replace(SPEC, n_episodes=299)
    )
    assert not signature.fits(replace(SPEC, seed=1))


def test_it_is_on_every_row_of_every_export_and_page(store: Store, tmp_path: Path) -> None:
    pages = [setting_page.build(store, table) for table in tables(store)]
    rows = [entry.row for page in pages for entry in page.entries]
    lines = [row.signature for row in rows]
    assert len(set(lines)) == len(lines) > 8 and lines[0].endswith("|vnone")
    assert [row["signature"] for row in csv.DictReader(io.StringIO(exports.as_csv(pages)))] == lines
    assert [
        row["signature"] for table in json.loads(exports.as_json(pages)) for row in table["rows"]
    ] == lines
    notes = re.findall(r"\\textsuperscript\{(\d+)\}\\,\\texttt\{(.*)\}\\par", exports.as_latex(pages))
    plain = [note.replace(r"\allowbreak{}", "").replace(r"\%", "%") for _, note in notes]
    assert [line.replace("_", r"\_") for line in lines] == plain
    for page in pages:
        marked = re.findall(r"^\S.*\\textsuperscript\{(\d+)\} &", exports.as_latex([page]), re.MULTILINE)
        assert marked == [str(n) for n in range(1, len(page.entries) + 1)]
    for family in index_page.build(pages, 1).families:
        told = exports.family_as_json(family), exports.family_as_csv(family)
        cells = [row.signature for page in family.pages for row in (e.row for e in page.entries)]
        assert all(line in text for line in cells for text in told)
    folder = render.write(store, tmp_path / "reports").parent
    page = (folder / "glyphs-5w1s.html").read_text()
    assert all(f">{row.signature}</code>" in page for row in rows if row.setting == "glyphs-5w1s")
    run = rows[0].runs[0]
    assert f"seeds:{run.spec.seed}|" in (folder / f"run/{run.id}.html").read_text()


def _typed(home: Places, *words: str) -> str:
    told = CliRunner(env={"FSBENCH_DATA": str(home.data)}).invoke(
        fsbench.app, ["--home", str(home.home), *words]
    )
    if isinstance(told.exception, FsbenchError):
        raise told.exception
    assert told.exit_code == 0, (told.output, told.exception)
    return told.stdout


def test_show_finds_the_runs_the_number_and_what_is_missing(store: Store, home: Places) -> None:
    [row] = [
        row for table in tables(store, ["glyphs-5w5s"]) for row in table.rows if row.method == "method-0"
    ]
    found = json.loads(_typed(home, "show", row.signature, "--json"))
    assert [run["run"] for run in found["runs"]] == [run.id for run in row.runs]
    assert found["accuracy"] == pytest.approx(row.mean, abs=1e-12) and not found["command"]
    more = read(row.signature)._replace(seeds=(0, 7))
    found = json.loads(_typed(home, "show", str(more), "--json"))
    assert [run["run"] for run in found["runs"]] == [row.runs[0].id, None] and found["accuracy"] is None
    assert "--seeds 7" in found["command"] and "--bench glyphs-5w5s" in found["command"]
    told = _typed(home, "show", row.signature)
    assert f"{100 * row.mean:.2f} % over these runs" in told


def test_show_says_what_is_not_here_and_what_makes_it(home: Places) -> None:
    ensure("glyphs", home.data)
    [spec] = planning.plan(["pixels"], ["glyphs-5w1s"], [0], Request(n_episodes=40), home.data)
    found = signed.as_json(signed.look(of_specs([spec], 40, "0.1.0"), None, home))
    assert {part["what"]: part["is_here"] for part in found["parts"]} == {
        "setting": True, "episode list": True, "images": True, "method": True, "configuration": True,
    }  # fmt: skip
    assert found["command"] == "fsbench run --method pixels --bench glyphs-5w1s --seeds 0 --episodes 40"
    foreign = of_specs([spec], 40, "9")._replace(
        setting="theirs-5w1s", method="theirs", config="0" * 8, pixels="1" * 8
    )
    found = json.loads(_typed(home, "show", str(foreign), "--json"))
    assert {part["what"]: part["is_here"] for part in found["parts"]} == {
        "setting": False, "method": False, "configuration": None,
    }  # fmt: skip
    assert found["command"] == "" and found["runs"] == [{"seed": 0, "run": None, "badges": []}]
    other = of_specs([spec], 40, "9")._replace(episodes="0" * 8, version="0", pixels="1" * 8)
    parts = {part.what: part for part in signed.look(other, None, home).parts}
    assert parts["episode list"].is_here is False and "another list here" in parts["episode list"].detail
    assert parts["method"].is_here is False and "theirs is 0" in parts["method"].detail
    assert parts["images"].is_here is None and spec.data_digest["novel"][:8] in parts["images"].detail


def test_a_head_on_features_is_read_back_by_its_pair(home: Places) -> None:
    ensure("glyphs", home.data)
    [spec] = planning.plan(["centroid[nearest-mean]"], ["glyphs-5w1s"], [0], Request(), home.data)
    signature = of_specs([spec], spec.n_episodes, "0.1.0")
    assert "|centroid[nearest-mean]@" in str(signature)
    found = signed.look(read(str(signature)), None, home)
    assert found.command.startswith("fsbench run --method centroid --bench glyphs-5w1s --seeds 0")
    [again] = planning.plan(
        ["centroid"], ["glyphs-5w1s"], [0], Request({"features": "nearest-mean"}), home.data
    )
    assert again.row_key == spec.row_key


def test_the_readme_shows_that_of_a_committed_row() -> None:
    root = Path(__file__).parents[2]
    [line] = re.findall(r"^fsbench1\|.*$", (root / "README.md").read_text(), re.MULTILINE)
    with Store.open(root / "results.db") as store:
        rows = [row for table in tables(store, [read(line).setting]) for row in table.rows]
    assert line in [row.signature for row in rows], "results.db has other rows now: print one of theirs"
