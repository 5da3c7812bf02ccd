"""Experiment files: what they ask for, what is typed beside them, and what they may not decide."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.runs.experiment import Asked, read
from harness.runs.request import Request

NOTHING = Asked((), (), (), Request())
PAPER = """
bench = ["omniglot-small-5w1s", "omniglot-small-5w5s"]
seeds = "0-2"
episodes = 600
images = 5000

[set]
lr = 0.1

[[run]]
method = ["softmax", "protonet"]

[[run]]
method = "neg-cosine"
backbone = "conv4"
set = {lr = 0.2}
sweep = {margin = [-0.3, 0.1], drop = [true]}
"""


def ask(folder: Path, text: str, typed: Asked = NOTHING) -> list[Asked]:
    (folder / "paper.toml").write_text(text)
    return read(folder / "paper.toml", typed)


def test_what_stands_at_the_top_holds_for_every_run(tmp_path: Path) -> None:
    both, low, high = ask(tmp_path, PAPER)
    settings = ("omniglot-small-5w1s", "omniglot-small-5w5s")
    assert both == Asked(
        ("softmax", "protonet"),
        settings,
        (0, 1, 2),
        Request(overrides={"lr": "0.1"}, n_episodes=600, n_images=5000),
    )
    assert [one.request.overrides for one in (low, high)] == [
        {"lr": "0.2", "margin": "-0.3", "drop": "True"},
        {"lr": "0.2", "margin": "0.1", "drop": "True"},
    ]
    assert low.request.backbone == "conv4" and low.request.n_episodes == 600


def test_a_file_without_runs_is_one(tmp_path: Path) -> None:
    assert ask(tmp_path, 'method = "pixels"\nbench = "glyphs-5w1s"') == [
        Asked(("pixels",), ("glyphs-5w1s",), (0,), Request())
    ]


def test_what_is_typed_wins_and_chooses(tmp_path: Path) -> None:
    typed = Asked(("neg-*",), ("*5s",), (7,), Request(overrides={"margin": "0"}, n_episodes=20))
    found = ask(tmp_path, PAPER, typed)
    assert [one.methods for one in found] == [("neg-cosine",)] * 2
    assert {one.settings for one in found} == {("omniglot-small-5w5s",)} and found[0].seeds == (7,)
    assert found[0].request.n_episodes == 20 and found[0].request.overrides["margin"] == "0"


def test_code_has_to_be_typed(tmp_path: Path) -> None:
    text = 'method = ["pixels", "./mine.py"]\nbench = "glyphs-5w1s"'
    with pytest.raises(ConfigError, match="Nothing of it was executed"):
        ask(tmp_path, text)
    (only,) = ask(tmp_path, text, NOTHING._replace(methods=("./mine.py",)))
    assert only.methods == ("./mine.py",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('methd = "pixels"', "Did you mean `method`"),
        ('method = "pixels"', "names no bench"),
        ('run = "x"', r"\[\[run\]\]"),
        ('method = "pixels"\nbench = "x"\nseeds = "2-0"', "names no seed"),
        ('method = "pixels"\nbench = "x"\nseeds = "0-99999999"', "at most"),
        ('method = "pixels"\nbench = "x"\nepisodes = "many"', "whole number"),
        ('method = "pixels"\nbench = "x"\nimages = "many"', "whole number"),
        ('method = "pixels"\nbench = "x"\ncompile = 1', "true or false"),
        ('method = "pixels"\nbench = "x"\nset = 3', "must be a table"),
        ('method = "pixels"\nbench = "x"\nsweep = [1]', "table of lists"),
        ('method = "pixels"\nbench = "a\\u001b[2J"', "plain characters"),
        ('method = "pixels"\nbench = "x"\nprecision = "fp8"', "known are"),
        ('method = "pixels"\nbench = "x"\nsweep = {a = [0,1,2,3,4,5,6,7,8,9], b = [0,1,2,3,4,5,6,7,8,9], '
         "c = [0,1,2,3,4,5,6,7,8,9], d = [0,1]}", "combinations"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ask(tmp_path, text)


def test_nothing_left_to_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no run of these"):
        ask(tmp_path, PAPER, NOTHING._replace(methods=("bml",)))
