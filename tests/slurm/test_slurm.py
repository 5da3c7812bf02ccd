"""Real jobs through a real SLURM of one node: ``eval "$(tests/slurm/cluster.sh start)"`` makes one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from absent import absent
from scratch_home import Home, wait_until

pytestmark = pytest.mark.slow
BENCH = ["-b", "glyphs-5w1s", "--episodes", "50"]
SLURM = ["--executor", "slurm", "--slurm", "partition=main"]
# Each epoch moves the projection by the run's own random numbers, so that only a true resumption gives equal counts.
PLUGIN = '''
import os, time
from dataclasses import dataclass
import torch
class Slow(torch.nn.Module):
    name, version, uses_backbone = "slow", "1", False
    @dataclass(frozen=True)
    class Config:
        """Epochs."""
        epochs: int = 1
    def __init__(self, config, backbone):
        super().__init__()
        self.config = config
        self.weight = torch.nn.Parameter(torch.randn(784, 4))
    def fit_base(self, base, ctx):
        for epoch in ctx.epochs(self.config.epochs, model=self):
            time.sleep(float(os.environ["EPOCH_SECONDS"]))
            self.weight.data += torch.randn(784, 4, generator=ctx.rng)
            ctx.log(epoch, size=self.weight.abs().mean().item())
    def adapt(self, support):
        return support.by_class().flatten(2).mean(1) @ self.weight
    def predict(self, state, query):
        return -torch.cdist(query.flatten(1) @ self.weight, state)
'''


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    config = Path(os.environ.get("SLURM_CONF", "/nowhere"))
    if not shutil.which("sbatch") or not config.exists() or "ClusterName=fsbench" not in config.read_text():
        absent(
            'no SLURM for tests; `eval "$(tests/slurm/cluster.sh start)"` starts one (as root, with slurm-wlm and munge)'
        )
    yield
    subprocess.run(["scancel", "--me"], check=True)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def home(cluster: None, tmp_path: Path, data: Path) -> Home:
    place = Home(tmp_path / "home", data, EPOCH_SECONDS="0.5")
    (place.folder / "slow.py").write_text(PLUGIN)
    return place


@pytest.fixture
def reference(tmp_path: Path, data: Path) -> Home:
    place = Home(tmp_path / "reference", data, EPOCH_SECONDS="0")
    (place.folder / "slow.py").write_text(PLUGIN)
    return place


def test_an_array_of_jobs_gives_the_rows_of_the_inline_run(home: Home, reference: Home) -> None:
    words = ["run", "-m", "pixels,./slow.py", *BENCH, "--seeds", "0-1"]
    reference.run(*words)
    home.run(*words, *SLURM)
    assert home.content == reference.content
    jobs = [row["job"] for row in home.status()]
    assert len({job.partition("_")[0] for job in jobs}) == 1 and [job[-2:] for job in jobs] == [
        "_0",
        "_1",
        "_2",
        "_3",
    ]
    assert home.states() == ["collected"] * 4


@pytest.mark.nightly
def test_more_jobs_than_max_array_size_are_several_arrays(home: Home, reference: Home) -> None:
    """The cluster of cluster.sh takes arrays of four."""
    words = ["run", "-m", "pixels", *BENCH, "--seeds", "0-5"]
    reference.run(*words)
    home.run(*words, *SLURM)
    assert home.content == reference.content and home.states() == ["collected"] * 6
    arrays = [row["job"].partition("_")[0] for row in home.status()]
    assert [arrays.count(job) for job in dict.fromkeys(arrays)] == [4, 2]


@pytest.mark.nightly
def test_what_a_limit_refused_is_not_submitted_until_resume(
    home: Home, reference: Home, tmp_path: Path
) -> None:
    """SLURM without accounts has no MaxSubmit: a stand-in before sbatch refuses what comes after the first array."""
    words = ["run", "-m", "pixels", *BENCH, "--seeds", "0-5"]
    reference.run(*words)
    (tmp_path / "sbatch").write_text(
        f"""#!/bin/sh
if [ -e {tmp_path}/full ]; then
    echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2
    echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy" >&2
    exit 1
fi
touch {tmp_path}/full
exec {shutil.which("sbatch")} "$@"
"""
    )
    (tmp_path / "sbatch").chmod(0o755)
    home.environment["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    result = home.run(*words, *SLURM, code=4)
    assert "did not take 2 of 6 jobs" in result.stderr and "QOSMaxSubmitJobPerUserLimit" in result.stderr
    assert home.states() == ["collected"] * 4 + ["not submitted"] * 2
    (tmp_path / "full").unlink()
    home.run("resume")
    assert home.content == reference.content and home.states() == ["collected"] * 6


@pytest.mark.nightly
def test_a_job_killed_by_the_kernel_says_so(home: Home) -> None:
    dying = PLUGIN.replace("time.sleep(", "os.kill(os.getpid(), 9) or (")
    (home.folder / "slow.py").write_text(dying)
    result = home.run("run", "-m", "./slow.py", *BENCH, *SLURM, code=1)
    assert "killed by signal 9" in result.stderr and "fsbench resume" in result.stderr
    assert "fsbench show" not in result.stderr  # nothing is stored of it
    (told,) = home.status()
    assert told["state"] == "vanished" and "killed by signal 9" in told["message"]


def test_shards_wait_for_the_fit_and_come_together(home: Home, reference: Home) -> None:
    words = ["run", "-m", "./slow.py", *BENCH, "--set", "epochs=4"]
    reference.run(*words)
    home.run(*words, *SLURM, "--shards", "3")
    assert home.content == reference.content
    assert home.logs().count("epochs (size") == 1  # trained once


def test_a_failing_plugin_is_a_failed_run_with_its_last_words(home: Home) -> None:
    broken = PLUGIN.replace("return -torch.cdist(", "raise ValueError('no scores today') or (")
    (home.folder / "slow.py").write_text(broken)
    result = home.run("run", "-m", "./slow.py", *BENCH, *SLURM, code=1)
    assert "ValueError: no scores today" in result.stderr
    (told,) = home.status()
    assert told["state"] == "failed" and "no scores today" in told["message"]


def test_a_partition_that_is_not_there_is_told_in_the_words_of_slurm(home: Home) -> None:
    result = home.run(
        "run", "-m", "pixels", *BENCH, "--executor", "slurm", "--slurm", "partition=moon", code=4
    )
    assert "invalid partition specified" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.nightly
def test_after_a_time_limit_the_job_is_requeued_and_finishes_with_equal_counts(
    home: Home, reference: Home
) -> None:
    """The training takes longer than the limit of one minute; SLURM's signal comes 20 to 50 seconds before it."""
    words = ["run", "-m", "./slow.py", *BENCH, "--set", "epochs=130"]
    reference.run(*words)
    result = home.run(*words, *SLURM, "--slurm", "time=1", "--slurm", "signal_delay_s=20")
    assert "Requeued job" in home.logs() and "training resumes after epoch" in _run_logs(home)
    assert home.content == reference.content and "collected" in home.states(), result.stderr


def test_scancel_is_not_undone_and_resume_goes_on(home: Home, reference: Home) -> None:
    words = ["run", "-m", "./slow.py", *BENCH, "--set", "epochs=40"]
    reference.run(*words)
    dispatcher = home.start(*words, *SLURM)
    wait_until(lambda: list(home.folder.glob("cache/fits/*/training.pt")), "a checkpoint")
    (running,) = home.status()
    assert running["state"] == "running" and running["total"] == 40
    subprocess.run(["scancel", running["job"]], check=True)
    _, err = dispatcher.communicate(timeout=300)
    assert dispatcher.returncode == 1 and "fsbench resume" in err
    assert home.states() == ["stopped"] and _queue() == ""
    home.run("resume")
    assert home.content == reference.content and "training resumes after epoch" in _run_logs(home)


def test_a_drained_node_keeps_jobs_waiting_and_a_dead_dispatcher_loses_nothing(
    home: Home, reference: Home
) -> None:
    words = ["run", "-m", "pixels", *BENCH, "--seeds", "0-1"]
    reference.run(*words)
    node = subprocess.run(
        ["sinfo", "--noheader", "--format=%N"], capture_output=True, text=True, check=True
    ).stdout.strip()
    try:
        _scontrol(node, "state=drain", "reason=test")
        dispatcher = home.start(*words, *SLURM)
        wait_until(lambda: "(" in _queue(), "a reason to wait")
        wait_until(lambda: home.states() == ["queued", "queued"], "two queued runs")
        dispatcher.kill()  # kill -9: nothing is said goodbye to
        dispatcher.communicate()
    finally:
        _scontrol(node, "state=resume")
    wait_until(lambda: home.states() == ["done", "done"], "the end of the jobs", pause=1)
    assert home.run("collect").stdout.strip() == "2 new"
    assert home.content == reference.content


def _queue() -> str:
    """This user's jobs and why they wait."""
    words = ["squeue", "--me", "--noheader", "--format=%i %T (%r)", "--states=PENDING,RUNNING"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def _scontrol(node: str, *changes: str) -> None:
    subprocess.run(["scontrol", "update", f"nodename={node}", *changes], check=True)


def _run_logs(home: Home) -> str:
    return "".join(p.read_text() for p in home.folder.glob("runs/[0-9a-f]*/log.txt"))


HEAD = '''
from dataclasses import dataclass
import torch
from harness.api import needs
class Head(torch.nn.Module):
    name, version, uses_backbone = "head", "1", False
    @dataclass(frozen=True)
    class Config:
        """None."""
    def __init__(self, config, backbone):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(784, 4))
    @staticmethod
    def requires(config):
        return [needs("./slow.py", epochs=2)]
    def fit_base(self, base, ctx):
        self.weight.data = ctx.require("./slow.py", epochs=2).weight.data.clone()
    def adapt(self, support):
        return support.by_class().flatten(2).mean(1) @ self.weight
    def predict(self, state, query):
        return -torch.cdist(query.flatten(1) @ self.weight, state)
'''


def test_fits_that_runs_are_built_on_are_jobs_of_their_own_that_end_before(
    home: Home, reference: Home
) -> None:
    words = ["run", "-m", "./head.py", *BENCH, "--seeds", "0-1"]
    for place in (home, reference):
        (place.folder / "head.py").write_text(HEAD)
    reference.run(*words)
    home.run(*words, *SLURM)
    assert home.counts() == reference.counts()
    found = home.status()
    assert [(row["run"].split()[0], row["state"]) for row in found[:2]] == [("fit", "done")] * 2
    assert all(row["state"] == "collected" for row in found[2:]) and len(found) == 4
    states = {path.stem: path.stat().st_mtime_ns for path in home.batch.glob("*.state")}
    assert max(states[n] for n in ("0", "1")) <= min(states[n] for n in ("2", "3"))
