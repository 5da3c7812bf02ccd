"""A name that nothing has is a mistake in typing: exit code 2 wherever it stands, with one clear paragraph."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from prompt import Prompt

ROOT = Path(__file__).parents[2]
NAMES = """
show nope
show nope --by class
show 0 --by nope
verify nope
prepare nope
prepare omniglot --source ./nope.zip
run -m nope -b glyphs-5w1s
run -m 'nope*' -b glyphs-5w1s
run -m ./nope.py -b glyphs-5w1s
run -m {here}/empty.py:Nope -b glyphs-5w1s
run -m pixels -b nope-5w1s
run -m pixels -b 'nope*'
run -m pixels -b glyphs-5w1s --set nope=1
run -m pixels -b glyphs-5w1s --recipe nope
run -m protonet -b glyphs-5w1s --backbone nope
run -m pixels -b glyphs-5w1s --device nope
run -m pixels -b glyphs-5w1s --pipeline nope
run -m pixels -b glyphs-5w1s --precision nope
run -m pixels -b glyphs-5w1s --select-on nope
run -m pixels -b glyphs-5w1s --seeds nope
run -m pixels -b glyphs-5w1s --executor nope
run -m protonet -b glyphs-5w1s --weights nope.pt --seen mini
run -m protonet -b glyphs-5w1s --weights {here}/empty.py --seen nope
leaderboard -b nope
compare nope pixels
compare pixels pixels -b nope
report --format nope
export nope {here}/x.tar.zst
import ./nope.tar.zst
merge ./nope.db
recheck nope
cancel nope
episodes nope
methods nope
check nope
check ./nope.py
score ./nope.npz -b glyphs-5w1s --name x
score {here}/empty.py -b nope --name x
hardness nope --from 0
hardness glyphs-5w1s --from nope
tune nope -b glyphs-5w1s --grid lr=1
tune pixels -b nope --grid lr=1
tune pixels -b glyphs-5w1s --grid nope=1
import-folder ./nope --name x
new-method 'no pe'
--db nope://x leaderboard
nope
"""


@pytest.fixture(scope="module")
def prompt(tmp_path_factory: pytest.TempPathFactory) -> Prompt:
    folder = tmp_path_factory.mktemp("home")
    (folder / "empty.py").write_text("class Mine: ...\n")
    prompt = Prompt(folder, folder / "data")
    assert prompt.type("run", "-m", "pixels", "-b", "glyphs-5w1s", "--episodes", "20")[0] == 0
    return prompt


@pytest.mark.parametrize("line", NAMES.strip().splitlines())
def test_a_name_that_nothing_has_ends_with_two(
    line: str, prompt: Prompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prompt.folder)
    code, said = prompt.type(*shlex.split(line.format(here=prompt.folder)))
    assert code == 2 and "Traceback" not in said, said


def test_a_name_of_something_that_is_only_not_here_ends_with_three(prompt: Prompt, tmp_path: Path) -> None:
    assert prompt.type("verify", "mini")[0] == 3
    assert prompt.type("run", "-m", "pixels", "-b", "mini-5w1s")[0] == 3
    assert prompt.type("--db", str(tmp_path / "nope.db"), "leaderboard")[0] == 3


@pytest.mark.parametrize(
    "line, advised",
    [
        ("leaderboard glyphs-5w1s glyphs-5w5s", "fsbench leaderboard --bench glyphs-5w1s,glyphs-5w5s"),
        ("run protonet glyphs-5w1s", "fsbench run --method protonet --bench glyphs-5w1s"),
        (
            "run protonet",
            "fsbench run --method protonet --bench glyphs-5w1s; a method of your own by its file, like ./mine.py.",
        ),
        ("run ./mine.py", "like ./mine.py."),
        (
            "leaderboard glyphs-5w1s tim[softmax]",
            "fsbench leaderboard --bench glyphs-5w1s --method 'tim[softmax]'",
        ),
        ("compare protonet pixels glyphs-5w1s", "Settings are named by --bench."),
        ("fsck x", ""),
    ],
)
def test_plain_words_are_told_the_option_that_takes_them(line: str, advised: str, tmp_path: Path) -> None:
    """``main`` itself, since the parser's answer is what a terminal shows."""
    (tmp_path / "mine.py").write_text("class Mine: ...\n")
    command = [sys.executable, "-m", "fsbench", *line.split()]
    answer = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert answer.returncode == 2 and "Traceback" not in answer.stderr
    last = answer.stderr.strip().splitlines()[-1]
    assert last.endswith(advised) if advised else "fsbench " not in last, last
