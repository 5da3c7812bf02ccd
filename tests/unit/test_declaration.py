"""One declaration of what makes a run: ids, rows, lines, labels, commands and words are derived from it, and nothing is lost."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_up_results as made
import pytest
import typer.main

from harness.cli import asking, run, tables
from harness.images.prepare import ensure
from harness.method import hyper
from harness.report import exports
from harness.report.board.tables import tables as board_tables
from harness.report.pages import index_page, setting_page
from harness.report.pages.setting_page import Entry
from harness.runs import ConfigValue, FitSpec, RunSpec, experiment, planning
from harness.runs.request import WEIGHTS_FILE, Request, command, request_of
from harness.store import Store

SPEC = made.result("mine").spec
OTHER: dict[str, Any] = {  # for each field a value that the made-up run does not have
    "method": replace(SPEC.method, version="2"),
    "benchmark": "glyphs-copy",
    "config": {**SPEC.config, "epochs": ConfigValue(13, "glyphs")},
    "backbone": "resnet12",
    "image_size": 84,
    "channels": 3,
    "pipeline": "feat",
    "data_digest": {**SPEC.data_digest, "base": "c" * 64},
    "seed": 1,
    "recipe": "as-published",
    "weights_sha256": "a" * 64,
    "seen": ("mini",),
    "precision": "bf16",
    "select_on": "novel",
    "is_compiled": True,
    "world_size": 2,
    "augmentation": "resized-flip",
    "budget": 100_000,
    "cut_from": 56,
    "required": {"pre": SPEC.fit},
    "encoder": "pre",
    "setting": "glyphs-20w1s",
    "n_way": 4,
    "shot": 2,
    "n_query": 14,
    "n_episodes": 299,
    "episode_digest": "f" * 64,
    "embed_batch": 64,
    "tuning": "novel",
}
FIELDS = {field.name: field for field in dataclasses.fields(RunSpec)}
BETWEEN_ROWS = [name for name, field in FIELDS.items() if field.metadata["between"] == "rows"]


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_moves_the_id_and_says_what_lies_between_runs_that_differ_in_it(name: str) -> None:
    assert replace(SPEC, **{name: OTHER[name]}).id != SPEC.id


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(FitSpec)])
def test_a_fit_depends_on_what_decides_a_training(name: str) -> None:
    fit = replace(SPEC, **{name: OTHER[name]}).fit
    is_free = name in (
        "benchmark",
        "seen",
        "n_way",
        "shot",
    )  # images say whose they are; a claim trains nothing
    assert (fit.fit_key == SPEC.fit.fit_key) is is_free
    assert FitSpec.from_json(json.loads(json.dumps(fit.to_json()))) == fit


@pytest.fixture
def two_rows(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    """Two runs that differ in one field, on one setting, and one of them on a second setting."""
    with Store.open(tmp_path / "results.db", create=True) as store:
        store.ingest(made.result("mine"))
        store.ingest(made.result("mine", skill=0.7, changes={request.param: OTHER[request.param]}))
        store.ingest(made.result("mine", "glyphs-5w5s"))
        yield store


@pytest.mark.parametrize("two_rows", BETWEEN_ROWS, indirect=True)
def test_rows_that_differ_stand_apart_on_every_page_in_every_export_and_in_the_terminal(
    two_rows: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = [setting_page.build(two_rows, table) for table in board_tables(two_rows)]
    [page, *_] = [p for p in pages if p.table.setting == "glyphs-5w1s"]
    assert len(page.entries) == 2
    names = {(e.row.label, e.row.backbone, e.apart) for e in page.entries}
    assert len(names) == 2, names
    for form in exports.FORMS.values():
        assert form([page]).count("mine") >= 2
    [family] = index_page.build(pages, 3).families
    assert len(family.lines) == 2
    means = [cell.row.mean for line in family.lines for cell in line.cells if isinstance(cell, Entry)]
    assert len(means) == 3, "a result is lost on the front page"
    assert len({(line.label, line.backbone, line.apart) for line in family.lines}) == 2
    for form in exports.FAMILY_FORMS.values():
        assert form(family).count("mine") >= 2
    tables.draw(tables.leaderboards([page.table]))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("mine")]
    assert len({line.split("  ")[0] + line.split()[-1] for line in lines}) == 2


@pytest.mark.parametrize("two_rows", ["seed", "n_episodes"], indirect=True)
def test_seeds_share_a_row_and_of_two_prefixes_the_longer_counts(two_rows: Store) -> None:
    [row] = board_tables(two_rows, ["glyphs-5w1s"])[0].rows
    assert row.seeds in ((0, 1), (0,)) and row.n_episodes == 300


def test_what_runs_are_built_on_parts_their_rows_by_all_but_its_seed_and_lines_by_all_but_its_benchmark() -> (
    None
):
    def built_on(seed: int = 0, **change: Any) -> RunSpec:
        return replace(SPEC, seed=seed, required={"pre": replace(SPEC.fit, seed=seed, **change)})

    one, other = built_on(0), built_on(1)
    assert one.id != other.id and one.fit_key != other.fit_key and one.row_key == other.row_key
    assert one.particulars() == other.particulars()
    changed = built_on(config={**SPEC.fit.config, "epochs": ConfigValue(13, "--set")})
    assert len({SPEC.row_key, one.row_key, changed.row_key}) == 3
    assert one.particulars()["on"] != changed.particulars()["on"]
    elsewhere = built_on(data_digest={**SPEC.fit.data_digest, "base": "c" * 64})
    assert elsewhere.row_key != one.row_key and elsewhere.line_key(None, None) == one.line_key(None, None)
    assert changed.line_key(None, None) != one.line_key(None, None)


def parsed(line: str) -> tuple[dict[str, Any], Request]:
    """What the command line makes of a printed command: the words of its own, and the request."""
    program, name, *words = shlex.split(line)
    assert (program, name) == ("fsbench", "run")
    context = typer.main.get_command(run.app).commands["run"].make_context("run", words)  # type: ignore[attr-defined]
    return context.params, asking.read(context.params)


REQUESTS = [
    Request(),
    Request({"epochs": "2", "lr": "0.01"}),
    Request(n_episodes=40),
    Request(backbone="resnet12"),
    Request(precision="bf16"),
    Request(pipeline="snell"),
    Request(world_size=2),
    Request(select_on="novel"),
    Request(is_compiled=True),
    Request(tuning="support-CV"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    ensure("glyphs", folder)
    return folder


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: " ".join(r.words()) or "plain")
def test_the_printed_command_parsed_again_gives_the_same_id(request_: Request, data: Path) -> None:
    [spec] = planning.plan(["protonet"], ["glyphs-5w1s"], [3], request_, data)
    typed, again = parsed(command(spec))
    [same] = planning.plan(
        typed["method"], typed["bench"], experiment.parse_seeds(typed["seeds"]), again, data
    )
    assert same.id == spec.id


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pipeline": "feat"}, "--crops-from stored"),
        ({"augmentation": "padded8-jitter-flip"}, "--augmentation padded8-jitter-flip"),
        ({"budget": 50_000}, "--images 50000"),
        ({"recipe": "as-published", "setting": "glyphs-5w1s"}, "--bench glyphs-5w1s-q15"),
        ({"weights_sha256": "a" * 64, "seen": ("glyphs", "cub")}, f"--weights {WEIGHTS_FILE} --seen glyphs,cub"),
        ({"setting": "tiered-cub-5w1s", "benchmark": "tiered-cub"}, "--allow-leak"),
        ({"seen": ("unknown",), "weights_sha256": "a" * 64}, "--weights FILE --seen unknown"),
        ({"recipe": "as-published"}, "--recipe as-published"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_cannot_be_planned_here_is_typed_all_the_same(change: dict[str, Any], words: str) -> None:
    spec = replace(SPEC, **change)
    line = command(spec)
    assert words in line
    assert parsed(line)[1] == replace(
        request_of(spec), weights=(Path("FILE"),) if spec.weights_sha256 else ()
    )


def test_every_option_is_asked_by_run_and_by_tune_and_once_in_the_specification() -> None:
    commands = typer.main.get_command(run.app).commands  # type: ignore[attr-defined]
    options = {field.name for field in dataclasses.fields(Request)}
    for name in ("run", "tune"):
        assert options <= {parameter.name for parameter in commands[name].params}
    assert {f.metadata["sets"] for f in dataclasses.fields(Request)} - {""} <= set(FIELDS)


def test_a_choice_that_there_is_not_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        Exception, match=r"--precision fp23: known are fp32, bf16, fp16\. Did you mean `fp32`\?"
    ):
        Request(precision="fp23")  # type: ignore[arg-type]


def test_what_another_method_says_of_a_configuration_is_checked() -> None:
    @dataclasses.dataclass(frozen=True)
    class Config:
        aux: str = hyper.hyper("none", "auxiliary loss")

    values = hyper.resolve(Config, [], [], {}, method="pre")
    changed = hyper.given(Config, values, {"aux": "sgm"}, method="pre", by="head")
    assert (changed["aux"].value, changed["aux"].origin) == ("sgm", "required by head")
    with pytest.raises(
        Exception, match=r"head requires pre with `oux`, no hyper-parameter of it\. Did you mean `aux`"
    ):
        hyper.given(Config, values, {"oux": "sgm"}, method="pre", by="head")
