"""kill -9 anywhere, full disks and two dispatchers at once: what is stored in the end is what an undisturbed run stores."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_results import episode_table, result
from scratch_home import TINY, Home

from harness.errors import StoreError
from harness.jobs import dispatch
from harness.runs import RunResult, RunSpec, folders, planning
from harness.runs.request import Request
from harness.store import Store
from harness.system.folders import Places
from harness.system.progress import Silent

SETTINGS = ["glyphs-5w1s", "glyphs-5w5s"]
OVERRIDES = {"epochs": "8", "episodes_per_epoch": "4", "train_way": "5"}
LONGEST = {"train": 0.5, "embed": 0.2, "evaluate": 0.02, "write": 0.01}  # seconds until the kill
KILLS = (*["train"] * 6, *["embed"] * 4, *["evaluate"] * 5, *["write"] * 5)
# Forked from a server that has torch loaded but never computed: a start costs milliseconds instead of seconds.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["harness.jobs.worker", "scratch_home", "made_up_results"])


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.mark.nightly
def test_twenty_kills_change_nothing(tmp_path: Path, data: Path) -> None:
    """One worker after the other is killed, each a random moment after the first step of a stage."""
    options = Request(OVERRIDES, n_episodes=2000)
    specs = planning.plan(["protonet"], SETTINGS, [0], options, data)
    undisturbed, disturbed = _places(tmp_path / "a", data), _places(tmp_path / "b", data)
    _finish(_work, specs, undisturbed)
    random = np.random.default_rng(0)
    n_killed = sum(_kill(specs, disturbed, stage, random.uniform(0, LONGEST[stage])) for stage in KILLS)
    _finish(_work, specs, disturbed)
    assert n_killed == len(KILLS)
    assert not list(disturbed.runs.glob(".*.new")) and not list(disturbed.runs.glob(".partial-*"))
    with Store.open(undisturbed.db, create=True) as one, Store.open(disturbed.db, create=True) as other:
        dispatch.collect(undisturbed, one)
        dispatch.collect(disturbed, other)
        assert one.content_digest(provenance=False) == other.content_digest(provenance=False)
        assert len(one.runs()) == 2


def test_a_killed_collector_loses_and_doubles_nothing(tmp_path: Path, data: Path) -> None:
    place, reference = _places(tmp_path / "a", data), _places(tmp_path / "b", data)
    for seed in range(6):
        for where in (place, reference):
            result("protonet", "theirs-5w1s", seed=seed, n_episodes=2000).save(where.runs)
    with Store.open(reference.db, create=True) as store:
        dispatch.collect(reference, store)
        expected = store.content_digest()
    random = np.random.default_rng(1)
    for _ in range(6):
        process = FORKS.Process(target=_collect, args=(place,))
        process.start()
        time.sleep(random.uniform(0.05, 0.6))
        process.kill()
        process.join()
    _finish(_collect, place)
    with Store.open(place.db) as store:
        assert store.content_digest() == expected and len(store.runs()) == 6


@pytest.mark.parametrize("n_bytes", [0, 600, 8_000])
def test_a_full_disk_is_a_clear_error_and_leaves_no_half_folder(
    tmp_path: Path, data: Path, n_bytes: int
) -> None:
    """A limit on the size of files acts as a full disk does: the write that reaches it fails."""
    (spec,) = planning.plan(["pixels"], ["glyphs-5w1s"], [0], Request(n_episodes=400), data)
    place = _places(tmp_path / "home", data)
    told = FORKS.Queue()
    process = FORKS.Process(target=_work_within, args=(n_bytes, spec, place, told))
    process.start()
    said = told.get(timeout=300)
    process.join()
    assert "could not be written" in said and "Free some space" in said
    assert not folders.complete(place.runs)
    _finish(_work, [spec], place)
    assert len(folders.complete(place.runs)) == 1


def test_two_dispatchers_at_once_do_the_work_once(tmp_path: Path, data: Path) -> None:
    home = Home(tmp_path / "home", data)
    words = ["run", "-m", "protonet", "-b", ",".join(SETTINGS), "--episodes", "50", *TINY]
    processes = [home.start(*words), home.start(*words, "--executor", "local", "--jobs", "2")]
    ends = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    assert len(home.run_ids()) == 2
    assert len(list(home.folder.glob("cache/fits/*/fit.json"))) == 1
    logs = "".join(path.read_text() for path in home.folder.glob("runs/[0-9a-f]*/log.txt"))
    assert logs.count("train 2/2") == 1  # the second one waited, and found the fit
    assert not list(home.folder.glob("runs/.partial-*"))


def test_a_run_that_another_process_is_at_is_waited_for(tmp_path: Path, data: Path) -> None:
    specs = planning.plan(["pixels"], SETTINGS, [0], Request(n_episodes=2000), data)
    place = _places(tmp_path / "home", data)
    processes = [FORKS.Process(target=_work, args=(specs, place)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(folders.complete(place.runs)) == 2 and not list(place.runs.glob(".partial-*"))


@pytest.mark.nightly
def test_a_reader_renders_while_two_hundred_runs_are_collected(tmp_path: Path, data: Path) -> None:
    """Neither fails nor waits for the other for long, and what is there only grows."""
    place = _places(tmp_path / "home", data)
    table = episode_table(2000)
    for number in range(200):
        method, seed = f"method-{number % 20:02d}", number // 20
        result(method, "theirs-5w1s", 0.4 + 0.01 * (number % 20), seed, 2000, table=table).save(place.runs)
    Store.open(place.db, create=True).close()
    told, end = FORKS.Queue(), FORKS.Event()
    reader = FORKS.Process(target=_render_until, args=(place, end, told))
    reader.start()
    assert told.get(timeout=300) == 0  # it is at work before the first run arrives
    with Store.open(place.db) as store:
        assert dispatch.collect(place, store) == {"new": 200}
        end.set()
        reader.join(timeout=300)
        assert len(store.runs(metrics=())) == 200
    seen = [told.get(timeout=300)]
    while seen[-1] != 200:
        seen.append(told.get(timeout=300))
    assert reader.exitcode == 0 and seen == sorted(seen)
    assert any(0 < n < 200 for n in seen), seen  # some were rendered in the middle of it
    pages = [page.name for page in (place.reports / "run").glob("*.html")]
    assert len(pages) == 200


class Fatal:
    """A progress that has its process killed soon after the first step of a stage."""

    def __init__(self, stage: str, delay: float) -> None:
        self._fatal, self._delay, self._stage = stage, delay, ""

    def begin(self, stage: str, total: int, unit: str, done: int = 0) -> None:
        self._stage = stage

    def advance(self, n: int, note: str = "", part: float = 0.0) -> None:
        if n and self._stage == self._fatal:
            _die_after(self._delay)

    def end(self) -> None:
        pass


def _work(specs: Sequence[RunSpec], place: Places) -> None:
    from harness.jobs import worker

    for _ in worker.carry_out(specs, place, "cpu", Silent()):
        pass


def _work_and_die(specs: Sequence[RunSpec], place: Places, stage: str, delay: float) -> None:
    from harness.evaluation import partial
    from harness.jobs import worker

    partial._SAVE_EVERY_SECONDS = 0.0  # so that pieces of every length are met
    save = RunResult.save

    def fatal_save(*arguments: Any, **more: Any) -> Path:
        if stage == "write":
            _die_after(delay)
        return save(*arguments, **more)

    RunResult.save = fatal_save  # type: ignore[method-assign]
    for _ in worker.carry_out(specs, place, "cpu", Fatal(stage, delay)):
        pass


def _die_after(seconds: float) -> None:
    threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()


def _kill(specs: Sequence[RunSpec], place: Places, stage: str, delay: float) -> bool:
    """Have a worker killed in a stage or soon after it; what is unfinished stays, for it to go on with."""
    _make_work(specs, place, stage)
    process = FORKS.Process(target=_work_and_die, args=(specs, place, stage, delay))
    process.start()
    process.join()
    return process.exitcode == -signal.SIGKILL


def _make_work(specs: Sequence[RunSpec], place: Places, stage: str) -> None:
    """Take away what an earlier worker finished before it was killed, so that the stage is entered however fast it is."""
    for spec in specs:
        shutil.rmtree(place.runs / spec.id, ignore_errors=True)
    if stage == "train":
        for record in place.cache.glob("fits/*/fit.json"):
            shutil.rmtree(record.parent)
    if stage == "embed":
        for done in place.cache.glob("features/*/done.npy"):
            if np.load(done).all():
                shutil.rmtree(done.parent)


def _collect(place: Places) -> None:
    with Store.open(place.db, create=True) as store:
        dispatch.collect(place, store)


def _render_until(place: Places, end: Any, told: Any) -> None:
    """Render the report again and again; tell how many runs each was of, all of them at last."""
    from harness.report import render

    with Store.open(place.db) as store:
        is_last = False
        while True:
            n_before = len(store.runs(metrics=()))
            if n_before:
                render.write(store, place.reports)
            told.put(n_before)
            if is_last:
                return
            is_last = end.is_set()


def _work_within(n_bytes: int, spec: RunSpec, place: Places, told: Any) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
    try:
        _work([spec], place)
        told.put("nothing went wrong")
    except Exception as error:  # noqa: BLE001 -- whatever it is, the parent process is told
        told.put(str(error) if isinstance(error, StoreError) else repr(error))


def _finish(work: Callable[..., None], *arguments: Any) -> None:
    process = FORKS.Process(target=work, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0


def _places(home: Path, data: Path) -> Places:
    home.mkdir()
    return Places(home, data, home / "cache", str(home / "results.db"))
