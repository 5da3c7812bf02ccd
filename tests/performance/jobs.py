"""Runs by the hundred: planning, the cost of a job, collecting, and memory over an evaluation.

Prints a table; each line says what it was to be. Options: ``--runs 1000 --collected 100 --jobs 3``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from harness.system import process

process.settle_threads()  # before torch is there

sys.path.insert(0, str(Path(__file__).parents[1]))
from made_up_results import result  # noqa: E402

from harness.cli import jobs  # noqa: E402
from harness.jobs import dispatch  # noqa: E402
from harness.runs import planning  # noqa: E402
from harness.runs.request import Request  # noqa: E402
from harness.store import Store  # noqa: E402
from harness.system.folders import Places  # noqa: E402


def said(what: str, wall: float, processor: float, goal: str, found: str = "") -> None:
    print(f"  {what:<58} {wall:8.2f} s {processor:8.2f} s of processor   {found:>18}   {goal}", flush=True)


def planned(place: Places, n: int) -> None:
    """Resolve n specs and tell which of them are among n stored runs."""
    with Store.open(place.db, create=True) as store:
        for seed in range(n):
            store.ingest(result("pixels", "glyphs-5w1s", seed=seed, n_episodes=5))
        planning.plan(["pixels"], ["glyphs-5w1s"], [0], Request(), place.data)  # draws the images once
        wall, processor = time.perf_counter(), time.process_time()
        specs = planning.plan(
            ["pixels", "nearest-mean"],
            ["glyphs-5w1s", "glyphs-5w5s"],
            range(n // 4),
            Request(),
            place.data,
        )
        found = dispatch.classify(specs, place, store)
        jobs.expectations(found, store)
        said(
            f"plan {len(specs)} specs beside {n} stored runs", time.perf_counter() - wall,
            time.process_time() - processor, "goal 1 s",
        )  # fmt: skip


def dispatched(place: Places, n: int) -> None:
    """Give n jobs to this machine, one after the other, and subtract what they worked."""
    environment = {
        **os.environ, "FSBENCH_HOME": str(place.home), "FSBENCH_DATA": str(place.data), "FSBENCH_CACHE": str(place.cache),
    }  # fmt: skip
    words = ["-q", "run", "-m", "pixels", "-b", "glyphs-5w1s", "--episodes", "200", "--device", "cpu"]

    def typed(*more: str) -> float:
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "fsbench", *words, *more],
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return time.perf_counter() - start

    one = typed("--seeds", "0", "--executor", "local")
    many = typed("--seeds", f"1-{n}", "--executor", "local")
    with Store.open(place.db) as store:
        worked = sum(
            sum(store.run(i).provenance["seconds"].values())
            for i in store.runs(metrics=(), seed=list(range(1, n + 1)))["id"]
        )
    said(f"{n} local jobs, one at a time, beside the first", many, 0.0, "", f"{one:.2f} s for one")
    each = (many - one) / (n - 1) - worked / n
    said("overhead of a job beyond its work", each, 0.0, "goal 3 s, of which Python and torch start")


def collected(place: Places, n: int) -> None:
    """Bring n run folders of 10,000 episodes into a database."""
    first = result("protonet", "mini-5w1s", n_episodes=10_000)
    for seed in range(n):
        replace(first, spec=replace(first.spec, seed=seed)).save(place.runs)
    with Store.open(place.db, create=True) as store:
        wall, processor = time.perf_counter(), time.process_time()
        dispatch.collect(place, store)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    said(
        f"collect {n} folders × 10,000 episodes",
        wall,
        processor,
        "goal 100,000 rows/s",
        f"{n * 10_000 / wall:,.0f} rows/s",
    )


class Watch:
    """A progress that notes resident memory during the evaluation."""

    def __init__(self) -> None:
        self.megabytes: list[tuple[int, float]] = []

    def begin(self, stage: str, total: int, unit: str, done: int = 0) -> None:
        self._stage, self._done = stage, 0

    def advance(self, n: int, note: str = "", part: float = 0.0) -> None:
        self._done += n
        if self._stage == "evaluate":
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.megabytes.append((self._done, pages * os.sysconf("SC_PAGE_SIZE") / 1e6))

    def end(self) -> None:
        pass


def evaluated(place: Places) -> None:
    """Watch memory over 2,000 episodes of a method without a feature table: its images are gathered each time."""
    from harness.jobs import worker

    (spec,) = planning.plan(["pixels"], ["glyphs-5w5s"], [0], Request(n_episodes=2000), place.data)
    watch = Watch()
    wall, processor = time.perf_counter(), time.process_time()
    list(worker.carry_out([spec], place, "cpu", watch))
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    after = {n: next(m for done, m in watch.megabytes if done >= n) for n in (400, 1000, 2000)}
    said(
        "evaluate 2,000 episodes", wall, processor, "after 400, 1,000, 2,000: flat",
        " ".join(f"{m:.0f}" for m in after.values()) + " MB",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--collected", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"

        def place(name: str) -> Places:
            home = Path(scratch) / name
            home.mkdir()
            return Places(home, data, home / "cache", str(home / "results.db"))

        print(f"processors {len(os.sched_getaffinity(0))}, load {os.getloadavg()[0]:.1f}")
        planned(place("plan"), options.runs)
        collected(place("collect"), options.collected)
        evaluated(place("evaluate"))
        dispatched(place("jobs"), options.jobs)


if __name__ == "__main__":
    main()
