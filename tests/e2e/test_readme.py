"""What the README shows works as it stands there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import measured
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


def test_its_tables_and_verdicts_are_those_of_the_shipped_results(tmp_path: Path) -> None:
    shutil.copy(ROOT / "results.db", tmp_path)
    shown = README.partition(measured.BEGIN + "\n")[2].partition(measured.END)[0]
    assert shown == measured.section(tmp_path), "type `make measured`"
    verdicts = [line for line in shown.splitlines() if measured.VERDICT.fullmatch(line)]
    assert len(verdicts) >= 10


def test_every_command_it_names_exists() -> None:
    named = set(re.findall(r"^fsbench ([a-z-]+)", README, re.MULTILINE))
    answer = subprocess.run(
        [sys.executable, "-m", "fsbench", "--help"], capture_output=True, text=True, check=True
    )
    known = set(re.findall(r"^│ ([a-z-]+) ", answer.stdout, re.MULTILINE))
    assert named and named <= known, named - known
