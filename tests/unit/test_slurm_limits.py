"""What a site limits: arrays, jobs of a user; what is refused is told, and jobs that the kernel killed say so."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import made_up_results as made
import pytest

from harness.errors import DispatchError
from harness.jobs import dispatch, status
from harness.jobs.batches import Batch, Group, JobState
from harness.jobs.endings import how_it_ended
from harness.jobs.executors import Slurm
from harness.system.folders import Places

# A site that knows three numbers: MAX_ARRAY (as scontrol tells it), MAX_SUBMIT jobs of a user, and the next job's.
SBATCH = """#!/usr/bin/env python3
import json, os, re, sys
site = os.environ["SITE"]
state = json.load(open(site))
text = open(sys.argv[-1]).read()
array = re.search(r"--array=0-(\\d+)", text)
n = int(array[1]) + 1 if array else 1
def refuse(*words):
    sys.stderr.write("".join(f"sbatch: error: {w}\\n" for w in words))
    sys.exit(1)
if "--partition=moon" in text:
    refuse("invalid partition specified: moon", "Batch job submission failed: Invalid partition name specified")
if array and n > state["max_array"]:
    refuse("Batch job submission failed: Invalid job array specification")
if state["jobs"] + n > state["max_submit"]:
    refuse("AssocMaxSubmitJobLimit", "Batch job submission failed: Job violates accounting/QOS policy "
           "(job submit limit, user's size and/or time limits)")
state["jobs"] += n
waits = re.search(r"--dependency=(\\S+)", text)
state["taken"].append([n, waits[1] if waits else ""])
json.dump(state, open(site, "w"))
print("Submitted batch job", len(state["taken"]))
"""
SCONTROL = """#!/bin/sh
[ "$MUTE" ] && exit 1
echo "Configuration data as of now"; echo "MaxArraySize            = $TOLD"; echo "MaxJobCount = 10000"
"""
SQUEUE = "#!/bin/sh\nexit 0\n"


class Site:
    """Stand-ins for SLURM's commands, and what they were asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state, self.set = folder / "site.json", monkeypatch.setenv
        for name, text in (("sbatch", SBATCH), ("scontrol", SCONTROL), ("squeue", SQUEUE), ("srun", SQUEUE)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("SITE", str(self.state))
        self.allow(max_array=1001, max_submit=1000)

    def allow(self, *, max_array: int, max_submit: int) -> None:
        self.set("TOLD", str(max_array))
        limits = {"max_array": max_array, "max_submit": max_submit, "jobs": 0, "taken": []}
        self.state.write_text(json.dumps(limits))

    @property
    def taken(self) -> list[tuple[int, str]]:
        """Size and dependency of each array."""
        return [(n, waits) for n, waits in json.loads(self.state.read_text())["taken"]]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    (tmp_path / "bin").mkdir()
    return Site(tmp_path / "bin", monkeypatch)


def batch_of(folder: Path, n: int, executor: str = "slurm", **slurm: str) -> Batch:
    """A batch of one run a group, each with another seed."""
    spec = made.result().spec
    places = [str(folder)] * 3
    groups = [Group((replace(spec, seed=seed),), *places, "cpu", {}) for seed in range(n)]
    return Batch.create(folder / "runs", executor, groups, {"slurm": slurm})  # type: ignore[arg-type]


def states(batch: Batch) -> list[str]:
    return [s.state for s in status.statuses(batch.path.parents[1])]


def test_more_jobs_than_an_array_may_have_are_several_arrays(site: Site, tmp_path: Path) -> None:
    site.allow(max_array=4, max_submit=1000)
    batch = batch_of(tmp_path, 10)
    Slurm({}).submit(batch, batch.numbers)
    assert site.taken == [(4, ""), (4, ""), (2, "")]
    assert [batch.job(n) for n in batch.numbers] == [
        *("1_0", "1_1", "1_2", "1_3"), *("2_0", "2_1", "2_2", "2_3"), "3_0", "3_1"
    ]  # fmt: skip
    assert states(batch) == ["queued"] * 10


def test_a_site_without_arrays_gets_single_jobs(site: Site, tmp_path: Path) -> None:
    site.allow(max_array=0, max_submit=1000)
    batch = batch_of(tmp_path, 3)
    Slurm({}).submit(batch, batch.numbers)
    assert site.taken == [(1, "")] * 3 and [batch.job(n) for n in batch.numbers] == ["1", "2", "3"]


def test_a_limit_that_is_not_told_is_found_by_halving(site: Site, tmp_path: Path) -> None:
    site.allow(max_array=3, max_submit=1000)
    site.set("MUTE", "1")
    batch = batch_of(tmp_path, 8)
    Slurm({}).submit(batch, batch.numbers)
    assert site.taken == [(2, "")] * 4 and states(batch) == ["queued"] * 8


def test_array_parallelism_holds_over_the_arrays_it_was_split_into(site: Site, tmp_path: Path) -> None:
    site.allow(max_array=2, max_submit=1000)
    batch = batch_of(tmp_path, 5, array_parallelism="1")
    Slurm({"array_parallelism": "1"}).submit(batch, batch.numbers)
    assert site.taken == [(2, ""), (2, "afterany:1_0:1_1"), (1, "afterany:2_0:2_1")]


def test_jobs_beyond_a_limit_are_not_submitted_and_the_others_go_on(site: Site, tmp_path: Path) -> None:
    site.allow(max_array=1001, max_submit=5)
    batch = batch_of(tmp_path, 8)
    Slurm({}).submit(batch, batch.numbers)
    assert [n for n, _ in site.taken] == [4, 1]  # 8 and 4 + 2 are too many
    assert states(batch) == ["queued"] * 5 + ["not submitted"] * 3
    message = status.statuses(tmp_path / "runs")[-1].message
    assert "did not take 3 of 8 jobs" in message and "AssocMaxSubmitJobLimit" in message
    assert "`fsbench resume`" in message


def test_what_was_not_submitted_is_submitted_by_resume(site: Site, tmp_path: Path) -> None:
    site.allow(max_array=1001, max_submit=2)
    batch = batch_of(tmp_path, 3)
    Slurm({}).submit(batch, batch.numbers)
    for number in (0, 1):  # the others have stopped meanwhile, so that all three are resumed
        JobState("stopped").save(batch.group_path(number))
    assert dispatch.lost_groups(batch, Places(tmp_path, tmp_path, tmp_path, "")) == [0, 1, 2]
    for number in batch.numbers:
        batch.forget(number)
    assert states(batch) == ["not submitted"] * 3
    site.allow(max_array=1001, max_submit=3)
    Slurm({}).submit(batch, batch.numbers)
    assert [n for n, _ in site.taken] == [3] and states(batch) == ["queued"] * 3


def test_a_refusal_of_everything_is_raised_with_the_words_of_slurm(site: Site, tmp_path: Path) -> None:
    batch = batch_of(tmp_path, 4, partition="moon")
    with pytest.raises(DispatchError, match=r"did not take 4 of 4 jobs.*invalid partition specified: moon"):
        Slurm({"partition": "moon"}).submit(batch, batch.numbers)
    assert states(batch) == ["not submitted"] * 4 and site.taken == []
    assert "resume" not in status.statuses(tmp_path / "runs")[0].message  # it would be refused again


def test_jobs_that_wait_for_a_refused_one_are_not_submitted_either(site: Site, tmp_path: Path) -> None:
    site.allow(max_array=1001, max_submit=0)
    batch = batch_of(tmp_path, 2)
    replace(batch.group(1), after=(0,)).save(batch.group_path(1))
    with pytest.raises(DispatchError, match="2 of 2"):
        Slurm({}).submit(batch, batch.numbers)
    assert states(batch) == ["not submitted"] * 2


def test_local_jobs_are_queued_only_while_their_dispatcher_lives(tmp_path: Path) -> None:
    batch = batch_of(tmp_path, 2, executor="local")
    with batch.attend():
        assert states(batch) == ["queued"] * 2
    assert states(batch) == ["not submitted"] * 2


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("srun: error: n7: task 0: Killed\nsrun: Force Terminated StepId=1.0\n", "killed by signal 9 (n7: task 0: Killed)"),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=3.0.\n", "memory ran out, and the kernel killed"),
        ("srun: error: n7: task 0: Out Of Memory\n", "memory ran out, and the kernel killed"),
        ("slurmstepd: error: *** STEP 3.0 ON n7 CANCELLED AT 2030-01-01 ***\n", "ended from outside (STEP 3.0 ON n7"),
        ("Fatal Python error: Segmentation fault\n", "Segmentation fault"),
        ("srun: error: n7: task 0: Killed\nRequeued job 3\nepoch 4\n", "without a word"),
        ("", "killed by signal 9: by the kernel when memory runs out"),
    ],
)  # fmt: skip
def test_a_job_that_the_kernel_killed_says_so(tmp_path: Path, log: str, said: str) -> None:
    batch = batch_of(tmp_path, 1)
    batch.note_job(0, "3")
    JobState("started").save(batch.group_path(0))
    (batch.path / "log").mkdir()
    (batch.path / "log" / "3_0_log.err").write_text(log)
    assert said in how_it_ended(batch, 0)
    (told,) = status.statuses(tmp_path / "runs")
    assert told.state == "vanished" and said in told.message
