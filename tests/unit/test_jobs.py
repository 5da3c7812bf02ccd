"""The small parts of jobs: locks, pieces of an evaluation, progress as a file, options of SLURM."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_up_results as made
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scratch_home import wait_until

from harness import benchmarks
from harness.errors import ConfigError
from harness.evaluation import partial
from harness.evaluation.partial import Piece
from harness.jobs import slurm_options
from harness.jobs.batches import Batch, Group
from harness.jobs.executors import LocalProcesses
from harness.jobs.run import Ready, evaluate
from harness.method.support import EpisodeBatch
from harness.runs import folders
from harness.system import progress
from harness.system.folders import Places
from harness.system.locks import claim, is_claimed
from harness.system.progress import Recorded, Silent, TimeLeft
from harness.testing import tiny_store
from harness.training.build import Workplace
from harness.training.fits import Fitted

HOLD = """
import sys
from dataclasses import replace
from pathlib import Path
from harness.system.locks import claim
with claim(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_claim_ends_with_the_process_that_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_claimed(path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout and holder.stdout.readline() == b"held\n"
    assert is_claimed(path)
    holder.kill()
    holder.communicate()
    assert not is_claimed(path)
    with claim(path, "it"):
        assert is_claimed(path)


def test_a_claim_on_a_file_that_was_removed_meanwhile_is_made_on_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, original = tmp_path / "run" / "lock", os.open
    removed = []

    def open_then_lose(*arguments, **more):  # type: ignore[no-untyped-def]
        descriptor = original(*arguments, **more)
        if not removed:
            removed.append(path.unlink())
        return descriptor

    monkeypatch.setattr(os, "open", open_then_lose)
    with claim(path, "it"):
        assert is_claimed(path)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10)), max_size=6), st.integers(1, 40))
def test_missing_stretches_and_pieces_cover_the_list(held: list[tuple[int, int]], n: int) -> None:
    kept = [Piece(first, np.zeros((length, 2), dtype=np.int64), 1.0) for first, length in held]
    there = {i for piece in kept for i in piece.episodes}
    stretches = list(partial.missing(kept, range(n)))
    assert [i for stretch in stretches for i in stretch] == [i for i in range(n) if i not in there]
    assert (partial.whole(kept, n) is None) == bool(stretches)


def test_pieces_come_together_and_damaged_ones_do_not_count(tmp_path: Path) -> None:
    whole = np.arange(20).reshape(10, 2)
    for first, end in ((0, 4), (4, 10)):
        partial.save(tmp_path, Piece(first, whole[first:end], 1.5))
    found = partial.load(tmp_path)
    assert np.array_equal(partial.whole(found, 10), whole) and sum(p.seconds for p in found) == 3.0
    (tmp_path / "predictions-4.npz").write_bytes(b"half")
    assert partial.whole(partial.load(tmp_path), 10) is None
    assert list(partial.missing(partial.load(tmp_path), range(10))) == [range(4, 10)]


def test_progress_is_a_file_that_tells_the_time_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    clock = itertools.count(100.0, 8.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    path = tmp_path / "progress.json"
    recorded = Recorded(path, Silent())
    recorded.begin("train", 10, "epochs", done=2)
    told = json.loads(path.read_text())
    assert told["done"] == 2 and told["seconds_left"] is None
    recorded.advance(4)
    told = json.loads(path.read_text())
    assert told["done"] == 6 and told["seconds_left"] > 0


@given(st.lists(st.tuples(st.integers(1, 20), st.floats(0, 50)), min_size=1, max_size=60))
def test_the_time_left_never_grows_while_work_proceeds(steps: list[tuple[int, float]]) -> None:
    left = TimeLeft(sum(n for n, _ in steps), 0, 0.0)
    told, now = [], 0.0
    assert left.seconds is None and str(left) == "–:––"
    for n, seconds in steps:
        now += seconds
        left.advance(n, now)
        told.append(left.seconds)
        left.advance(0, now + 5)  # nothing came forward, so nothing is said anew
        assert left.seconds == told[-1]
    assert told == sorted(told, reverse=True) and told[-1] == 0.0


def test_the_time_left_of_even_work_is_exact() -> None:
    left = TimeLeft(total=110, done=10, now=50.0)
    for i in range(1, 101):
        left.advance(1, 50.0 + 2.0 * i)
        assert left.seconds == pytest.approx(2.0 * (100 - i))


def test_the_time_left_follows_a_faster_pace_within_a_tenth_of_the_work_and_ignores_one_quick_step() -> None:
    """Pace 10 for the first half, 1 afterwards: after two windows (a fifth of the work) it is near what is true."""
    left, now = TimeLeft(total=1000, done=0, now=0.0), 0.0
    for _ in range(500):
        now += 10
        left.advance(1, now)
    before = left.seconds or 0.0
    left.advance(1, now + 1)
    assert 0.97 * before < (left.seconds or 0.0) < before  # one step in a hundred of the window
    for i in range(2, 201):
        left.advance(1, now + i)
    assert 300 <= (left.seconds or 0.0) < 2.5 * 300  # e^-2 of the old pace is left: 1 + 9 · 0.135 = 2.2 times


def test_lines_say_the_time_left(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    clock = itertools.count(0.0, 10.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    lines = progress.Lines(every=0.0)
    with caplog.at_level("INFO", logger="fsbench.progress"):
        lines.begin("train", 400, "epochs")
        lines.advance(1)
    assert "train 1/400 epochs" in caplog.text and caplog.text.rstrip().endswith(" left")


class Greedy:
    """Asks for 16 episodes at once, and finds memory for four."""

    episode_batch = 16

    def __init__(self) -> None:
        self.tried: list[int] = []

    def predict_batch(self, batch: EpisodeBatch) -> torch.Tensor:
        self.tried.append(len(batch.support))
        if len(batch.support) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.zeros(*batch.query.shape[:2], batch.support.shape[1])


class Zeros:
    """Features that are all alike."""

    def take(self, rows: np.ndarray[Any, np.dtype[np.int64]]) -> torch.Tensor:
        return torch.zeros(len(rows), 2)


def test_out_of_memory_halves_the_batch_and_goes_on(tmp_path: Path) -> None:
    spec = replace(made.result().spec, n_episodes=40)
    places, method = Places(tmp_path, tmp_path, tmp_path, ""), Greedy()
    episodes = benchmarks.load("glyphs-5w1s").episodes[:40]
    ready = Ready(Fitted(method, {}), tiny_store("novel"), episodes, Zeros(), {}, None)
    at = Workplace(places, torch.device("cpu"), Silent())
    evaluate(spec, ready, at, range(8, 40))
    assert method.tried == [16, 8, *[4] * 8]
    [piece] = partial.load(folders.partial_folder(places.runs, spec.id))
    assert (
        piece.episodes == range(8, 40) and (piece.predictions == 0).all()
    )  # of equal scores the first class wins


def test_a_batch_cancelled_by_another_process_starts_nothing_more(tmp_path: Path) -> None:
    nothing = Group((), str(tmp_path), str(tmp_path), str(tmp_path), "cpu", {})
    batch, engine = Batch.create(tmp_path, "local", [nothing] * 3, {}), LocalProcesses(jobs=1)
    engine.submit(batch, batch.numbers)
    assert [bool(batch.job(n)) for n in batch.numbers] == [True, False, False]
    Batch(batch.path, "local").cancel()
    wait_until(lambda: "running" not in engine.alive(batch).values(), "the job that does nothing ends")
    engine.advance(batch)
    assert [bool(batch.job(n)) for n in batch.numbers] == [True, False, False] and not engine.alive(batch)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("30:30", 31), ("02:00:00", 120), ("1-0", 1440), ("1-12:30", 2190), ("0-0:0:1", 1)],
)
def test_times_are_read_as_slurm_reads_them(text: str, minutes: int) -> None:
    assert slurm_options.minutes(text) == minutes


def test_typed_options_win_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "fsbench.toml").write_text('[slurm]\npartition = "gpu"\ngpus = 1\ntime = "1-0"\n')
    options = slurm_options.read(tmp_path, ["gpus=2", "array_parallelism=8"])
    parameters = slurm_options.submitit_parameters(options)
    assert (
        parameters["partition"] == "gpu" and parameters["gpus_per_node"] == 2 and parameters["time"] == 1440
    )
    assert parameters["array_parallelism"] == 8


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[slurm]\nqos = ", "cannot be read"),
        ("slurm = 1", "must be a table"),
        ("[slurm]\nmem_gb = 3", "mem"),
    ],
)
def test_a_bad_file_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "fsbench.toml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        slurm_options.read(tmp_path, [])
