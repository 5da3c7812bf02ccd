"""The small parts of jobs: locks, pieces of an evaluation, progress as a file, options of SLURM."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ConfigError
from harness.evaluation import partial
from harness.evaluation.partial import Piece
from harness.jobs import slurm_options
from harness.jobs.batches import Batch
from harness.jobs.executors import LocalProcesses
from harness.jobs.run import Job, Ready
from harness.system.locks import claim, is_claimed
from harness.system.progress import Silent
from harness.system.progress_file import Recorded, seconds_left

HOLD = """
import sys
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


def test_progress_is_a_file_that_tells_the_time_left(tmp_path: Path) -> None:
    import json

    path = tmp_path / "progress.json"
    recorded = Recorded(path, Silent())
    recorded.begin("train", 10, "epochs", done=2)
    told = json.loads(path.read_text())
    assert told["done"] == 2 and seconds_left(told) is None
    assert seconds_left({**told, "done": 6, "began": 100.0, "written": 108.0}) == 8.0


def test_out_of_memory_halves_the_batch_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[int, int]] = []

    def predict(method, episodes, source, seed, *, first, batch, after_batch):  # type: ignore[no-untyped-def]
        tried.append((first, batch))
        if batch > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        for start in range(0, len(episodes), batch):
            after_batch(start, np.full((len(episodes[start : start + batch]), 3), first))

    monkeypatch.setattr("harness.jobs.run.evaluate.predict", predict)
    monkeypatch.setattr("harness.jobs.run.evaluate.episodes_at_once", lambda *_: 16)
    monkeypatch.setattr(Job, "_episodes", range(40))
    job = Job(_Spec(), None, torch.device("cpu"), Silent())  # type: ignore[arg-type]
    piece = partial.Growing(tmp_path, range(8, 40), (3,), Silent())
    job._predict(Ready(None, None, None, {}, {}), piece, range(8, 40))  # type: ignore[arg-type]
    assert tried == [(8, 16), (8, 8), (8, 4)] and piece.n_done == 32


class _Spec:
    seed = 0


def test_a_batch_cancelled_by_another_process_starts_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    monkeypatch.setattr(LocalProcesses, "_start", lambda self, batch, number: started.append(number))
    monkeypatch.setattr(LocalProcesses, "_is_running", lambda self, batch, number: False)
    monkeypatch.setattr(Batch, "group", lambda self, number: SimpleNamespace(after=()))
    batch, engine = Batch(tmp_path, "local"), LocalProcesses(jobs=1)
    engine.submit(batch, [0, 1, 2])
    assert started == [0]
    Batch(tmp_path, "local").cancel()
    engine.advance(batch)
    assert started == [0] and not engine.alive(batch)


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
        ("[slrm]\nqos = 'x'", "may hold one table"),
        ("[slurm]\nmem_gb = 3", "mem"),
    ],
)
def test_a_bad_file_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "fsbench.toml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        slurm_options.read(tmp_path, [])
