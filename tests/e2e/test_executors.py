"""Jobs on this machine: processes that get their work as files, are watched through files, and give the same rows."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from scratch_home import TINY, Home, wait_until

PIXELS = ["run", "-m", "pixels", "-b", "glyphs-5w1s", "--episodes", "60"]
PROTONET = ["run", "-m", "protonet", "-b", "glyphs-5w1s,glyphs-5w5s", "--episodes", "60", *TINY]
SLOW = ["--set", "epochs=400"]  # longer than any test waits


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def home(tmp_path: Path, data: Path) -> Home:
    return Home(tmp_path / "home", data)


@pytest.fixture
def reference(tmp_path: Path, data: Path) -> Home:
    """Trains in this process with as many threads as one of two local jobs: sums depend on their number."""
    threads = str(max(1, len(os.sched_getaffinity(0)) // 2))
    return Home(tmp_path / "reference", data, OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads)


def test_local_jobs_and_shards_give_the_rows_of_the_inline_run(home: Home, reference: Home) -> None:
    reference.run(*PROTONET)
    home.run(*PROTONET, "--executor", "local", "--jobs", "2", "--shards", "3")
    assert home.content == reference.content
    assert home.states() == ["collected", "collected"]
    groups = [json.loads(p.read_text()) for p in sorted(home.batch.glob("[0-9].json"))]
    assert [g["episodes"] for g in groups[1:]] == [[0, 32], [32, 60]] * 2  # multiples of the evaluation batch
    assert all(
        "results.db" not in p.read_text() for p in home.batch.glob("*.json")
    )  # no job knows the database
    assert not list(home.folder.glob("runs/.partial-*"))


def test_processors_are_divided_among_jobs(home: Home) -> None:
    """A method that fails by saying its environment shows what a job gets before torch is loaded."""
    (home.folder / "tell.py").write_text(
        _method("import os; raise ValueError('threads ' + os.environ['OMP_NUM_THREADS'])")
    )
    result = home.run(
        "run", "-m", "./tell.py", "-b", "glyphs-5w1s", "--episodes", "20", "--executor", "local", code=1
    )
    assert f"threads {len(os.sched_getaffinity(0))}" in result.stderr
    (told,) = json.loads(home.run("status", "--json").stdout)
    assert told["state"] == "failed" and "ValueError: threads" in told["message"]


def test_a_job_refuses_code_that_was_edited_and_a_snapshot_does_not_mind(home: Home, reference: Home) -> None:
    for place in (home, reference):
        (place.folder / "mine.py").write_text(_method(""))
    words = ["run", "-m", "./mine.py", "-b", "glyphs-5w1s,glyphs-5w5s", "--episodes", "20"]
    reference.run(*words)
    home.run(*words, "--executor", "local", "--snapshot")
    assert home.content == reference.content
    (home.folder / "mine.py").write_text(_method("pass  # edited"))
    assert home.run("resume").stdout.strip() == "nothing to resume"
    group = home.batch / "0.json"
    planned = json.loads(group.read_text())
    group.write_text(json.dumps({**planned, "sources": {}}))
    for folder in home.folder.glob("runs/[0-9a-f]*"):
        folder.rename(home.folder / folder.name)
    result = home.run("resume", code=4)
    assert "was changed after the runs were planned" in result.stderr


@pytest.mark.nightly
def test_a_stopped_job_saves_and_resumes_with_equal_counts(home: Home, reference: Home) -> None:
    """SIGTERM during training; the second process goes on from the last epoch."""
    words = [*PROTONET, "--set", "epochs=25"]
    reference.run(*words)
    dispatcher = home.start(*words, "--executor", "local", "--jobs", "2")
    wait_until(lambda: list(home.folder.glob("cache/fits/*/training.pt")), "a checkpoint")
    running = home.status()[0]
    assert running["state"] == "running" and running["stage"] == "train" and running["total"] == 25
    os.killpg(dispatcher.pid, signal.SIGKILL)  # dispatcher, controller and job
    dispatcher.wait()
    wait_until(lambda: home.states()[0] == "vanished", "the end of the killed job")
    resumed = home.start("resume")
    wait_until(lambda: home.states()[0] == "running", "the job's second start")
    os.kill(int((home.batch / "0.job").read_text()), signal.SIGTERM)
    _, err = resumed.communicate(timeout=300)
    assert resumed.returncode == 4 and "fsbench resume" in err
    assert home.states()[0] == "stopped"
    home.run("resume")
    assert home.content == reference.content and "training resumes after epoch" in _run_logs(home)


def test_jobs_outlive_their_dispatcher_and_collect_finds_them(home: Home) -> None:
    dispatcher = home.start(*PROTONET, "--executor", "local")
    wait_until(lambda: list(home.folder.glob("cache/fits/*/training.pt")), "a checkpoint")
    dispatcher.kill()
    dispatcher.wait()
    wait_until(lambda: home.states() == ["done", "done"], "the end of the jobs", pause=1)
    assert home.run("collect").stdout.strip() == "2 new"
    assert home.states() == ["collected", "collected"]


def test_cancelled_jobs_end_and_can_be_resumed(home: Home) -> None:
    dispatcher = home.start(*PROTONET, *SLOW, "--executor", "local")
    wait_until(lambda: list(home.folder.glob("cache/fits/*/training.pt")), "a checkpoint")
    assert home.run("cancel").stdout.strip() == "2 runs cancelled"
    dispatcher.communicate(timeout=300)
    assert dispatcher.returncode == 1
    assert home.states() == ["cancelled", "cancelled"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--executor", "locl"], "Did you mean `local`"),
        (["--executor", "slurm"], "this machine does not have"),
        (["--executor", "slurm", "--slurm", "partion=x"], "Did you mean `partition`"),
        (["--executor", "slurm", "--slurm", "time=soon"], "expected D-HH:MM"),
        (["--jobs", "2"], "--jobs with --executor inline would do nothing"),
        (["--executor", "local", "--slurm", "qos=high"], "--slurm with --executor local"),
    ],
)  # fmt: skip
def test_bad_options_are_one_clear_paragraph(home: Home, words: list[str], said: str) -> None:
    home.environment["PATH"] = "/nowhere"  # no sbatch
    result = home.run(*PIXELS, *words, code=4 if said.startswith("this machine") else 2)
    assert said in result.stderr and "Traceback" not in result.stderr


def test_a_plan_says_jobs_hours_and_disk(home: Home) -> None:
    words = [*PROTONET, "--seeds", "0-2"]
    before = home.run(*words, "--dry-run").stdout
    assert "6 runs, 6 to do in 3 jobs" in before and "never ran here" in before and "MB of results" in before
    home.run(*PROTONET)
    plan = json.loads(home.run(*words, "--dry-run", "--json").stdout)
    assert [row["job"] for row in plan] == [None, 0, 1, None, 0, 1]
    assert all(row["expected_seconds"] > 0 for row in plan if row["state"] == "new")


def _method(line: str) -> str:
    return f'''
from dataclasses import dataclass
class Mine:
    name, version, uses_backbone = "mine", "1", False
    @dataclass(frozen=True)
    class Config:
        """Nothing."""
    def __init__(self, config, backbone):
        pass
    def fit_base(self, base, ctx):
        {line or "pass"}
    def adapt(self, support):
        return support.by_class().flatten(2).mean(1)
    def predict(self, state, query):
        return -((query.flatten(1)[:, None] - state[None]) ** 2).sum(-1)
'''


def _run_logs(home: Home) -> str:
    return "".join(p.read_text() for p in home.folder.glob("runs/[0-9a-f]*/log.txt"))
