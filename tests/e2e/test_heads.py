"""Heads on the features of other fits: one training and one table for all of them, found and compared by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import made_up_results as made
import pytest
from scratch_home import Home

from harness.errors import ConfigError
from harness.report.board.pairs import compare
from harness.runs import ConfigValue, planning
from harness.runs.request import Request
from harness.store import Store

FEATURES = "nearest-mean(epochs=1)"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a backbone's own row, and two heads on it."""
    folder = tmp_path_factory.mktemp("heads")
    home = Home(folder / "home", folder / "data")
    home.run("run", "-m", "nearest-mean", "--set", "epochs=1", *ON)
    home.run("run", "-m", f"centroid[{FEATURES}]", *ON)
    home.run("run", "-m", "centroid", "--set", f"features={FEATURES}", "--set", "normalise=un", *ON)
    return home


ON = ("-b", "glyphs-5w1s", "--episodes", "64")


def test_all_heads_share_one_training_and_its_features_are_embedded_once(home: Home) -> None:
    fits = sorted((home.folder / "cache/fits").glob("*/fit.pt"))
    assert len(fits) == 2, "the backbone's, and the mean of its base features for both heads"
    assert min(fit.stat().st_size for fit in fits) < 20_000, "a head keeps no backbone"
    tables = [path for path in (home.folder / "cache/features").iterdir() if path.is_dir()]
    assert len(tables) == 2, "of base and of novel images"


def test_rows_are_called_by_their_pair_and_their_features_stand_in_no_second_place(home: Home) -> None:
    rows = home.json("leaderboard", "-m", "*[nearest-mean*]")
    assert {row["method"] for row in rows} == {f"centroid[{FEATURES}]"}
    assert {row["config"] for row in rows} == {"", "normalise=un"}
    assert {row["backbone"] for row in rows} == {"conv4"}
    shown = home.run("leaderboard").stdout
    assert f"centroid[{FEATURES}, conv4] (normalise=un)" in shown and "features=" not in shown
    assert len(home.json("leaderboard", "-m", "centroid")) == 2 and len(home.json("leaderboard")) == 3


def test_a_pair_is_compared_by_the_name_that_is_shown(home: Home) -> None:
    with Store.open(home.folder / "results.db") as store:
        [pair] = compare(store, f"centroid[{FEATURES}]", "nearest-mean", None)
        [same] = compare(store, f"centroid[{FEATURES}, conv4]", "nearest-mean", None)
    assert pair.a.label == f"centroid[{FEATURES}, conv4]" and pair.n_episodes == 64
    assert same.difference == pair.difference
    assert pair.a.evidence.fits == pair.b.evidence.fits, "they hang on one training"


def test_a_head_is_counted_again_tuned_and_sent_with_what_it_is_built_on(home: Home, tmp_path: Path) -> None:
    [run] = [row["runs"][0] for row in home.json("leaderboard", "-m", "centroid") if not row["config"]]
    assert "5 episodes counted again, 0 differ" in home.run("recheck", run, "--episodes", "5").stdout
    tuned = home.json("tune", f"centroid[{FEATURES}]", "-b", "glyphs-5w1s", "--grid", "normalise=un,cl2n")
    assert {entry["config"]["normalise"] for entry in tuned["tried"]} == {"un", "cl2n"}
    bundle = tmp_path / "one.tar.gz"
    home.run("export", run, str(bundle), "--with-fits")
    other = Home(tmp_path / "other", home.data)
    other.run("import", str(bundle))
    assert len(list((other.folder / "cache/fits").glob("*/fit.pt"))) == 2
    assert "5 episodes counted again, 0 differ" in other.run("recheck", run, "--episodes", "5").stdout


@pytest.mark.parametrize("name", ["anil", "feat", "magnet", "meta-baseline", "protonet", "repmet"])
def test_heads_are_built_on_whatever_embeds_by_a_function_or_a_module(home: Home, name: str) -> None:
    [spec] = planning.plan([f"centroid[{name}]"], ["glyphs-5w1s"], [0], Request(), home.data)
    assert spec.encoder == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("protonet[softmax]", "protonet makes its own features"),
        ("centroid[pixels]", "pixels embeds nothing"),
        ("centroid[softmax, conv4]", r"name it centroid\[softmax\] --backbone conv4"),
        ("centroid[softmax(epoch=3)]", "no hyper-parameter of it. Did you mean `epochs`"),
        ("centroid[softmax(epochs=many)]", "expected a whole number"),
        ("centroid[softmax(epochs]", "values by name"),
        ("centroid[softmaxx]", "No method matches"),
    ],
)
def test_what_is_no_pair_is_refused(home: Home, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        planning.plan([name], ["glyphs-5w1s"], [0], Request(), home.data)


def test_a_glob_before_brackets_means_the_heads(home: Home) -> None:
    planned = planning.survey([f"*[{FEATURES}]"], ["glyphs-5w1s"], [0], Request(), home.data).specs
    assert "centroid" in {spec.method.name for spec in planned}
    assert not {"protonet", "pixels"} & {spec.method.name for spec in planned}


def test_a_value_by_which_fits_are_called_is_their_name_below() -> None:
    fit = made.result("pre").spec.fit
    asked = {"epochs": ConfigValue(5, "required by centroid"), "lr": ConfigValue(1.0, "default")}
    assert replace(fit, config=asked).name_below == "pre(epochs=5)" and fit.name_below == "pre"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.runs.spec.called_by", lambda name: "epochs")
        assert replace(fit, config=asked).name_below == "5" and fit.name_below == "pre"
