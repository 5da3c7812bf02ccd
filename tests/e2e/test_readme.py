"""What the README shows works as it stands there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from scratch_home import Home

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_method_in_one_file_keeps_the_contract_and_runs(tmp_path: Path) -> None:
    home = Home(tmp_path / "home", tmp_path / "data")
    (home.folder / "mine.py").write_text(python_blocks()[0])
    home.run("check", "./mine.py")
    [row] = home.json("run", "-m", "./mine.py", "-b", "glyphs-5w1s", "--set", "epochs=1", "--episodes", "100")
    assert row["accuracy"] > 0.5  # a fifth by chance


def test_the_lines_of_python_run(tmp_path: Path) -> None:
    lines = next(block for block in python_blocks() if "harness.load" in block)
    environment = Home(tmp_path / "home", tmp_path / "data").environment
    subprocess.run([sys.executable, "-c", lines], check=True, env=environment, timeout=300)


def test_its_verdicts_are_those_of_the_shipped_results(tmp_path: Path) -> None:
    shutil.copy(ROOT / "results.db", tmp_path)
    block = README.partition("```\n$ fsbench compare")[2].partition("```")[0]
    places = {name: str(tmp_path) for name in ("FSBENCH_HOME", "FSBENCH_DATA", "FSBENCH_CACHE")}
    n_verdicts = 0
    for part in f" compare{block}".split("$ fsbench"):
        command, *sentences = part.strip().splitlines()
        words = [sys.executable, "-m", "fsbench", *command.split()]
        done = subprocess.run(
            words, capture_output=True, text=True, env={**os.environ, **places}, check=False
        )
        assert done.returncode in (0, 1), done.stderr
        assert [sentence for sentence in sentences if sentence not in done.stdout] == []
        n_verdicts += len(sentences)
    assert n_verdicts >= 20


def test_every_command_it_names_exists() -> None:
    named = set(re.findall(r"^fsbench ([a-z-]+)", README, re.MULTILINE))
    answer = subprocess.run(
        [sys.executable, "-m", "fsbench", "--help"], capture_output=True, text=True, check=True
    )
    known = set(re.findall(r"^│ ([a-z-]+) ", answer.stdout, re.MULTILINE))
    assert named and named <= known, named - known
