"""The main job through the command line, in a scratch home: run, repeat, interrupt, collect, report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scratch_home import Home

SHORT = ["--set", "epochs=2", "--set", "episodes_per_epoch=8", "--set", "train_way=10"]
RUN = ["run", "-m", "protonet", "-b", "glyphs-5w1s", "--episodes", "100", *SHORT]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def home(tmp_path: Path, data: Path) -> Home:
    return Home(tmp_path / "home", data)


def test_a_run_is_stored_shown_and_not_repeated(home: Home) -> None:
    first = home.json(*RUN)
    assert [row["method"] for row in first] == ["protonet"] and first[0]["episodes"] == 100
    assert first[0]["accuracy"] > 0.3  # chance is 0.2; two short epochs are enough to leave it
    again = home.run(*RUN)
    assert "in the database already" in again.stderr
    assert len(home.counts()) == 100
    shown = home.json("show", first[0]["runs"][0])
    assert shown["spec"]["config"]["epochs"] == {"value": 2, "origin": "--set", "phase": "fit"}
    assert shown["curves"][0]["step"] == 8
    (fit,) = home.folder.glob("cache/fits/*/fit.json")
    assert json.loads(fit.read_text())["fit_sha256"] == shown["provenance"]["fit_sha256"]


def test_a_longer_run_begins_with_the_shorter_one(home: Home) -> None:
    home.run("run", "-m", "pixels", "-b", "glyphs-5w1s", "--episodes", "40")
    short = [row[1:] for row in home.counts()]
    home.run("run", "-m", "pixels", "-b", "glyphs-5w1s", "--episodes", "80")
    by_run: dict[object, list[tuple[object, ...]]] = {}
    for row in home.counts():
        by_run.setdefault(row[0], []).append(row[1:])
    assert sorted(map(len, by_run.values())) == [40, 80]
    assert max(by_run.values(), key=len)[:40] == short


@pytest.mark.parametrize("when", ["train", pytest.param("evaluate", marks=pytest.mark.nightly)])
def test_a_killed_run_goes_on_and_gives_the_same_counts(
    home: Home, tmp_path: Path, data: Path, when: str
) -> None:
    """Kill -9 after the first epoch, or while evaluating; the resumed run's counts are bit-equal."""
    undisturbed = Home(tmp_path / "other", data)
    words = [*RUN, "--episodes", "10000"]
    undisturbed.run(*words)
    process = home.start(*words)
    pattern = "cache/fits/*/training.pt" if when == "train" else "cache/features/*/done.npy"
    _wait_for(home.folder, pattern, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(home.folder.glob("runs/[0-9a-f]*"))
    resumed = home.run(*words)
    if when == "train":
        assert "training resumes after epoch" in resumed.stderr
    assert home.counts() == undisturbed.counts()


def test_an_interrupted_run_ends_with_130_and_goes_on(home: Home) -> None:
    words = ["run", "-m", "protonet", "-b", "glyphs-5w1s", "--episodes", "50", *SHORT, "--set", "epochs=200"]
    process = home.start(*words)
    _wait_for(home.folder, "cache/fits/*/training.pt", process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "goes on where it stopped" in err and "Traceback" not in err


def test_collecting_twice_changes_nothing(home: Home) -> None:
    home.run("run", "-m", "pixels", "-b", "glyphs-5w1s,glyphs-5w5s", "--episodes", "30")
    before = home.counts()
    (home.folder / "results.db").unlink()
    assert home.run("collect").stdout.strip() == "2 new"
    assert home.run("collect").stdout.strip() == "2 known"
    assert home.counts() == before


def test_one_training_serves_several_settings(home: Home) -> None:
    result = home.run("run", "-m", "protonet", "-b", "glyphs-5w1s,glyphs-20w1s", "--episodes", "20", *SHORT)
    assert result.stderr.count("train 2/2") == 1
    assert len(list(home.folder.glob("cache/fits/*/fit.json"))) == 1


@pytest.mark.nightly
def test_what_acts_after_the_training_does_not_choose_the_epoch(home: Home) -> None:
    """A value of phase "adapt" is not in the fit's key, so the order of two runs must not move either's counts."""
    home.run("new-method", "signed")
    path = home.folder / "signed.py"
    path.write_text(
        path.read_text()
        .replace(
            "    lr: float", '    sign: float = hyper(1.0, "of the scores", phase="adapt")\n        lr: float'
        )
        .replace(
            "return distance_scores(query, state)", "return self.config.sign * distance_scores(query, state)"
        )
    )
    words = ["run", "-m", "./signed.py", "-b", "glyphs-5w1s", "--episodes", "60", "--set", "epochs=2"]
    home.run(*words, "--set", "sign=-1")
    second = home.run(*words)
    assert "is there already" in second.stderr
    other = Home(home.folder / "other", Path(home.environment["FSBENCH_DATA"]))
    (other.folder / "signed.py").write_bytes(path.read_bytes())
    other.run(*words)
    assert set(other.counts()) <= set(home.counts())


def test_compare_pairs_the_common_prefix_and_its_exit_code_is_the_verdict(home: Home) -> None:
    home.run("run", "-m", "pixels", "-b", "glyphs-5w1s", "--episodes", "60")
    home.run("run", "-m", "./mine.py", "-b", "glyphs-5w1s", "--episodes", "50", code=2)  # no such file
    trained = ("run", "-m", "nearest-mean", "-b", "glyphs-5w1s", "--episodes", "50", "--set", "epochs=3")
    home.run(*trained)
    [pair] = json.loads(home.run("compare", "nearest-mean", "pixels", "--json").stdout)
    assert (pair["verdict"], pair["reason"], pair["n_episodes"]) == (
        "undecided",
        "no training was repeated",
        50,
    )
    checkpoints = ("compare", "nearest-mean", "pixels", "--scope", "checkpoints", "--json")
    assert json.loads(home.run(*checkpoints, code=1).stdout)[0]["verdict"] == "better"
    home.run(*trained, "--seeds", "0-2")
    [pair] = json.loads(home.run("compare", "nearest-mean", "pixels", "--json", code=1).stdout)
    assert pair["verdict"] == "better" and pair["trainings"] == [3, 1] and pair["low"] > 0
    home.run("compare", "pixels", "nearest-mean", code=0)
    [plan] = json.loads(home.run("power", "nearest-mean", "pixels", "--delta", "5", "--json").stdout)
    assert plan["n_trainings"] == 3 and plan["detectable"] > 0 and "80% power" in plan["sentence"]


def test_the_report_is_one_folder_with_a_csv_beside_each_table(home: Home) -> None:
    home.run("run", "-m", "pixels", "-b", "glyphs-5w1s", "--episodes", "30")
    page = Path(home.run("report").stdout.strip())
    assert "pixels" in page.read_text() and (page.parent / "glyphs-5w1s.csv").exists()


def test_a_method_from_the_template_runs_and_keeps_the_contract(home: Home) -> None:
    home.run("new-method", "my-method")
    home.run("run", "-m", "./my_method.py,pixels", "-b", "glyphs-5w1s", "--episodes", "30")
    assert "my-method" in home.run("compare", "pixels", "./my_method.py").stdout
    home.run("check", "./my_method.py")


def test_a_failing_method_is_a_hole_in_the_table(home: Home) -> None:
    source = home.run("new-method", "broken") and (home.folder / "broken.py").read_text()
    (home.folder / "broken.py").write_text(
        source.replace(
            "return -squared_distances(query, state)", "return -squared_distances(query, state)[:, :3]"
        )
    )
    assert (home.folder / "broken.py").read_text() != source
    result = home.run(
        "run",
        "-m",
        "./broken.py,pixels",
        "-b",
        "glyphs-5w1s",
        "--episodes",
        "30",
        "--set",
        "epochs=1",
        code=2,
    )
    assert "not a hyper-parameter of pixels" in result.stderr
    result = home.run(
        "run", "-m", "./broken.py", "-b", "glyphs-5w1s", "--episodes", "30", "--set", "epochs=1", code=1
    )
    assert "expected (75, 5) (one column per class of the episode)" in result.stderr
    assert "failed" in home.run("leaderboard").stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "-m", "protnet", "-b", "glyphs-5w1s"], 2, "Did you mean `protonet`?"),
        (["run", "-m", "protonet", "-b", "glyph-5w1s"], 2, "Did you mean `glyphs-5w1s`"),
        (["run", "-m", "protonet", "-b", "glyphs-5w1s", "--set", "epoch=3"], 2, "Did you mean `epochs`"),
        (["run", "-m", "protonet", "-b", "glyphs-5w1s", "--set", "lr=abc"], 2, "expected a number, found 'abc'"),
        (["run", "-m", "protonet", "-b", "glyphs-5w1s", "--set", "lr=-1"], 2, "lr must be > 0"),
        (["run", "-m", "protonet", "-b", "glyphs-5w1s", "--episodes", "10001"], 2, "has 10000 episodes"),
        (["run", "-m", "protonet", "-b", "glyphs-5w1s", "--recipe", "as-publshed"], 2, "not a recipe"),
        (["run", "-m", "protonet", "-b", "glyphs-5w1s", "--backbone", "conv5"], 2, "Did you mean `conv4`"),
        (["run", "-m", "protonet", "-b", "omniglot-5w1s"], 3, "fsbench prepare omniglot --source PATH"),
        (["run", "-m", "protonet", "-b", "glyphs-5w1s", "--device", "cuda"], 2, "no CUDA device"),
        (["run", "-m", "protonet", "-b", "glyphs-50w1s"], 3, "this set has 40"),
        (["run", "-m", "protonet", "-b", "glyphs-5w30s"], 3, "the smallest class has 20"),
        (["run", "-m", "protonet"], 2, "Say what to run"),
        (["report"], 3, "fsbench run"),
        (["show", "abc"], 3, "fsbench run"),
        (["prepare", "omniglt"], 2, "Did you mean `omniglot`"),
        (["verify", "omniglot"], 3, "fsbench prepare omniglot"),
        (["methods", "protnet"], 2, "Did you mean `protonet`"),
        (["episodes", "glyphs-5w1"], 2, "is not a setting"),
        (["new-method", "1st"], 2, "cannot name a method"),
        (["frobnicate"], 2, "No such command"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_paragraph(home: Home, words: list[str], code: int, said: str) -> None:
    result = home.run(*words, code=code)
    assert said in result.stderr, result.stderr
    assert "Traceback" not in result.stderr


def test_a_foreign_database_is_left_untouched(home: Home) -> None:
    path = home.folder / "results.db"
    path.write_text("not a database, but somebody's notes\n" * 50)
    before = path.read_bytes()
    result = home.run("run", "-m", "pixels", "-b", "glyphs-5w1s", "--episodes", "5", code=3)
    assert "Traceback" not in result.stderr and path.read_bytes() == before


def test_help_and_listings_answer(home: Home) -> None:
    assert "fixed episodes" in home.run("--help").stdout
    assert {row["name"] for row in home.json("methods")} >= {"pixels", "protonet", "nearest-mean"}
    assert {row["setting"] for row in home.json("benchmarks")} >= {
        "glyphs-5w1s",
        "omniglot-lake-20w1s-small1",
    }
    exported = json.loads(home.run("episodes", "glyphs-5w1s", "--episodes", "3", "--json").stdout)
    assert len(exported["episodes"]) == 3 and len(exported["digest"]) == 64
    assert any(row["what"] == "database" for row in home.json("doctor"))
    plan = home.json(*RUN, "--dry-run")
    assert plan[0]["state"] == "new" and not (home.folder / "results.db").exists()


def test_help_does_not_import_what_it_does_not_need() -> None:
    code = "import sys, fsbench; print(sorted({'torch', 'pandas', 'sqlalchemy', 'numpy', 'cv2'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def _wait_for(folder: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not list(folder.glob(pattern)):
        assert process.poll() is None, f"it ended before it could be killed: {process.communicate()}"
        assert time.monotonic() < deadline, f"{pattern} did not appear"
        time.sleep(0.02)
