"""A recipe is one declaration of all that a number rests on; what is typed wins, what cannot be had is refused."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main

from harness import benchmarks
from harness.cli import asking, run
from harness.errors import FsbenchError, MisfitError
from harness.images.prepare import ensure
from harness.method import Conditions, Recipe, recipes, registry
from harness.method import recipe as recipe_module
from harness.runs import RunSpec, planning
from harness.runs.against_clean import against_clean, declared_against_clean
from harness.runs.request import Request, command
from harness.training.base_set import BaseSet

FILE = '''
from dataclasses import dataclass
import torch
from harness.api import Conditions, hyper

class Mine:
    """Nothing but a recipe."""
    name, version = "mine", "1"

    @dataclass(frozen=True)
    class Config:
        epochs: int = hyper(3, "passes, at least 0")
        image_size: int | None = hyper(None, "edge in pixels")

    DEFAULTS = {"glyphs": {"epochs": 2}}
    RECIPES = {"as-published": {
        "glyphs": {"epochs": 9, "conditions": Conditions(
            pipeline="snell", augmentation="resized-flip", image_size=20, select_on="novel", n_query=12, n_episodes=40)},
        "glyphs-5w5s": {"conditions": Conditions(n_episodes=30)},
        "omniglot-lake": {"conditions": Conditions(n_query=12)},
        "cifar10": {"conditions": Conditions(n_episodes=20_000)},
    }}

    def __init__(self, config, backbone): ...
    def fit_base(self, base, ctx): ...
    def adapt(self, support): return support.n_way
    def predict(self, state, query): return torch.zeros(len(query), state)
'''
THEIRS = Request(recipe="as-published")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "mine.py").write_text(FILE)
    ensure("glyphs", folder)
    return folder


def plan(place: Path, setting: str = "glyphs-5w1s", request: Request = THEIRS) -> RunSpec:
    [spec] = planning.plan([str(place / "mine.py")], [setting], [0], request, place)
    return spec


def conditions(spec: RunSpec) -> tuple[Any, ...]:
    return spec.pipeline, spec.augmentation, spec.image_size, spec.select_on, spec.n_query, spec.n_episodes


def test_a_recipe_is_what_a_run_rests_on(place: Path) -> None:
    spec = plan(place)
    assert conditions(spec) == ("snell", "resized-flip", 20, "novel", 12, 40)
    assert spec.setting == "glyphs-5w1s-q12" and spec.values() == {"epochs": 9, "image_size": 20}
    assert spec.config["epochs"].origin == "glyphs (as-published)"
    assert plan(place, "glyphs-5w5s").n_episodes == 30


def test_a_clean_run_does_not_know_of_it(place: Path) -> None:
    spec = plan(place, request=Request())
    assert conditions(spec) == ("stored", "", 28, "validation", 15, 2000)
    assert spec.values() == {"epochs": 2, "image_size": None}


@pytest.mark.parametrize(
    ("setting", "typed", "expected"),
    [
        ("glyphs-5w1s", Request(recipe="as-published", pipeline="area"), ("area", "resized-flip", 20, "novel", 12, 40)),
        ("glyphs-5w1s", Request({"image_size": "24"}, recipe="as-published"), ("snell", "resized-flip", 24, "novel", 12, 40)),
        ("glyphs-5w1s", Request(recipe="as-published", select_on="validation"), ("snell", "resized-flip", 20, "validation", 12, 40)),
        ("glyphs-5w1s", Request(recipe="as-published", augmentation="family"), ("snell", "", 20, "novel", 12, 40)),
        ("glyphs-5w1s", Request(recipe="as-published", n_episodes=7), ("snell", "resized-flip", 20, "novel", 12, 7)),
        ("glyphs-5w1s-q15", THEIRS, ("snell", "resized-flip", 20, "novel", 15, 40)),
    ],
    ids=["pipeline", "set", "select_on", "augmentation", "episodes", "queries"],
)  # fmt: skip
def test_what_is_typed_wins_and_the_printed_command_says_it(
    place: Path, setting: str, typed: Request, expected: tuple[Any, ...]
) -> None:
    spec = plan(place, setting, typed)
    assert conditions(spec) == expected
    _, name, *words = shlex.split(command(spec))
    context = typer.main.get_command(run.app).commands[name].make_context(name, words)  # type: ignore[attr-defined]
    [bench] = context.params["bench"]
    assert plan(place, bench, asking.read(context.params)).id == spec.id


@pytest.mark.parametrize(
    ("setting", "request_", "message"),
    [
        ("glyphs-digits-5w1s", THEIRS, "`as-published` of mine says nothing of glyphs-digits-5w1s. It speaks of glyphs,"),
        ("omniglot-lake-20w1s-small1", THEIRS, "asks 12 queries of a class; omniglot-lake-20w1s-small1 has published lists with 1"),
        ("glyphs-5w1s", Request(pipeline="feat"), "pipeline `feat` is for colours; the images of glyphs have 1 channels"),
        ("glyphs-5w1s", Request(augmentation="padded8-jitter-flip"), "augmentation `padded8-jitter-flip` is for colours"),
        ("glyphs-5w1s", Request(augmentation="paddid8-jitter-flip"), "Did you mean `padded8-jitter-flip`"),
    ],
)  # fmt: skip
def test_what_a_setting_cannot_give_is_refused_with_the_reason(
    place: Path, setting: str, request_: Request, message: str
) -> None:
    with pytest.raises(FsbenchError) as error:
        plan(place, setting, request_)
    assert message in str(error.value)


def test_a_glob_goes_past_settings_that_a_recipe_says_nothing_of(place: Path) -> None:
    found = planning.survey([str(place / "mine.py")], ["glyphs*5w1s"], [0], THEIRS, place)
    assert [spec.setting for spec in found.specs] == ["glyphs-5w1s-q12"]
    assert [(one.setting, type(one.error)) for one in found.left_out] == [("glyphs-digits-5w1s", MisfitError)]


def test_more_episodes_than_the_list_has_are_refused(place: Path) -> None:
    cls = registry.load(str(place / "mine.py")).cls
    said = recipes(cls)["as-published"].conditions_of(["cifar10"])
    setting = benchmarks.load("cifar10-5w1s")
    with pytest.raises(MisfitError, match="asks for episodes: 20000: the list of cifar10-5w1s has 10000"):
        planning._n_episodes(setting, said.n_episodes, THEIRS)


def test_a_recipe_is_listed_against_clean_value_by_value(place: Path) -> None:
    cls = registry.load(str(place / "mine.py")).cls
    listed = {d["name"]: (d["clean"], d["used"]) for d in against_clean(plan(place), cls)}
    assert listed == {
        "pipeline": ("stored", "snell"),
        "augmentation": ("none, where the method asks for one", "resized-flip"),
        "image size": ("28", "20"),
        "queries": ("15", "12"),
        "episodes": ("2000", "40"),
        "selected on": ("validation", "novel"),
        "training crops": ("whole squares", "originals, where they are kept"),
        "epochs": ("2", "9"),
    }
    assert against_clean(plan(place, request=Request()), cls) == []
    declared = declared_against_clean(cls, recipes(cls)["as-published"], "glyphs-5w5s")
    assert declared == [{"name": "episodes", "clean": "2000", "used": "30"}]


def test_every_condition_is_listed(place: Path) -> None:
    cls = registry.load(str(place / "mine.py")).cls
    every = Conditions("snell", "resized-flip", 20, "stored", "novel", 12, 40, 1000)
    assert None not in vars(every).values(), "a condition was added: say what it is beside clean"
    listed = declared_against_clean(cls, Recipe({}, {"glyphs": every}), "glyphs")
    assert len(listed) == len(vars(every))


def test_a_shared_recipe_is_every_methods(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = {"budget": {"glyphs": Conditions(augmentation="resized-flip", n_episodes=600)}}
    monkeypatch.setattr(recipe_module, "SHARED", shared)
    for method in ("protonet", "nearest-mean", str(place / "mine.py")):
        [spec] = planning.plan([method], ["glyphs-5w1s"], [0], Request(recipe="budget"), place)
        assert (spec.augmentation, spec.n_episodes, spec.recipe) == ("resized-flip", 600, "budget")


def test_a_named_augmentation_is_that_of_every_batch_and_of_no_statistics(place: Path) -> None:
    store = benchmarks.load("glyphs-5w1s").benchmark.open("base", place)
    bases = [
        BaseSet(store, "stored", torch.device("cpu"), torch.Generator().manual_seed(0), how=how)
        for how in ("", "resized-flip")
    ]
    plain, cut = (next(base.batches(8))[0] for base in bases)
    assert plain.shape == cut.shape and not torch.equal(plain, cut)
    plain, cut = (next(base.episodes(1, 3, 1, 1)).images for base in bases)
    assert not torch.equal(plain, cut)
    plain, cut = (next(base.all_images(8))[0] for base in bases)
    torch.testing.assert_close(plain, cut, rtol=0, atol=0)


def test_every_field_of_the_conditions_can_be_left_open() -> None:
    theirs = Conditions("bml", "none", 84, "stored", "novel", 16, 600)
    assert Conditions().over(theirs) == theirs
    assert replace(theirs, n_query=15).over(theirs).n_query == 15


def test_tim_and_laplacianshot_have_what_runs_under_unequal_queries_as_recipes(place: Path) -> None:
    def of(method: str, recipe: str) -> dict[str, Any]:
        [spec] = planning.plan([method], ["glyphs-5w1s-dir2"], [0], Request(recipe=recipe), place)
        return {name: value.value for name, value in spec.config.items()}

    clean, gd, dirichlet = (of("tim", recipe) for recipe in ("clean", "gd", "dirichlet"))
    assert (clean["solver"], gd["solver"], dirichlet["solver"]) == ("adm", "gd", "gd")
    weights = ("ce", "marginal", "conditional")
    assert [gd[name] for name in weights] == [0.1, 1.0, 0.1]
    assert [dirichlet[name] for name in weights] == [1.0, 1.0, 1.0]
    assert not of("laplacianshot", "dirichlet")["rectified"] and of("laplacianshot", "clean")["rectified"]
    assert "dirichlet" not in recipes(registry.load("alpha-tim").cls)
