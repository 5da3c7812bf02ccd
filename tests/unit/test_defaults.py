"""Defaults in fsbench.toml: what they reach, what they may not decide, and how wrong ones are told."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import get_args

import pytest
import typer

import fsbench
from harness.cli import defaults
from harness.errors import ConfigError
from harness.jobs import slurm_options

COMMANDS = typer.main.get_command(fsbench.app).commands


def read(folder: Path, text: str):
    (folder / "fsbench.toml").write_text(text)
    return defaults.default_map(folder, COMMANDS)


def test_no_file_is_no_default(tmp_path):
    assert defaults.default_map(tmp_path, COMMANDS) == {}


def test_every_kind_of_value_reaches_its_option(tmp_path):
    found = read(
        tmp_path,
        '[run]\nseeds = "0-2"\nepisodes = 50\nforce = true\nbench = ["glyphs-5w1s", "cub*"]\nset = {lr = 0.1, views = "both"}\n'
        '[leaderboard]\nmethod = "proto*"\n[slurm]\npartition = "gpu"\n',
    )
    assert found == {
        "run": {"seeds": "0-2", "n_episodes": "50", "force": True, "bench": ["glyphs-5w1s", "cub*"], "overrides": ["lr=0.1", "views=both"]},
        "leaderboard": {"method": ["proto*"]},
    }  # fmt: skip
    assert slurm_options.read(tmp_path, []) == {"partition": "gpu"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[rn]\nseeds = '0'", "Did you mean `run`"),
        ("run = 3", "no table"),
        ("[run]\nseed = '0'", "no option of fsbench run"),
        ("[run]\nmethod = './mine.py'", "has to be typed"),
        ("[run]\nweights = 'x.pth'", "has to be typed"),
        ("[report]\noutput = '/'", "has to be typed"),
        ("[report]\nout = '/'", "has to be typed"),
        ("[run]\ntracker = 'wandb'", "has to be typed"),
        ("[run]\nforce = 'yes'", "true or false"),
        ('[run]\nseeds = "0\\u001b[2J"', "plain characters"),
        ("[run]\nseeds = [[1]]", "plain characters"),
        ("[run", "cannot be read"),
        ("#" * 100_000, "larger than"),
    ],
)
def test_a_wrong_default_is_told(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said):
        read(tmp_path, text)


def test_whatever_names_a_file_has_to_be_typed():
    """The annotations of the commands say which options are paths; none may come from a file."""
    found = set()
    for group in (
        fsbench.run,
        fsbench.jobs,
        fsbench.results,
        fsbench.sharing,
        fsbench.catalogue,
        fsbench.images,
        fsbench.keeping,
    ):
        for command in group.app.registered_commands:
            own = inspect.signature(
                command.callback, globals=vars(inspect.getmodule(command.callback)), eval_str=True
            )
            for name, parameter in own.parameters.items():
                kind, *told = get_args(parameter.annotation) or (parameter.annotation,)
                for option in told:
                    if isinstance(option, typer.models.OptionInfo) and "Path" in str(kind):
                        words = [option.default, *(option.param_decls or ())]  # typer keeps the first apart
                        found |= {w for w in words if str(w).startswith("--")} or {f"--{name}"}
    assert {"--output", "--weights"} <= found <= {f"--{word}" for word in defaults.TYPED}
