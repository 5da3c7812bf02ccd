"""Time the database of results on made-up runs and print a table: ``python tests/performance/store.py``.

Options: ``--episodes 10000 --runs 100 --db LOCATION`` (a scratch SQLite file unless given).
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from harness.runs import Counts, EpisodeTable, MethodReference, RunResult, RunSpec
from harness.store import Store

N_WAY, SHOT, N_QUERY, N_CLASSES = 5, 1, 15, 20


def made_up_run(seed: int, n_episodes: int, table: EpisodeTable) -> RunResult:
    """A run that is right in about 60% of the queries."""
    random = np.random.default_rng(seed)
    truth = np.repeat(np.arange(N_WAY), N_QUERY)
    guess = random.integers(0, N_WAY, (n_episodes, truth.size))
    labels = np.where(random.random(guess.shape) < 0.5, truth, guess).astype(np.uint8)  # (E, n_query)
    n_correct = (labels == truth).sum(axis=1)
    spec = RunSpec(
        method=MethodReference("made-up", "made-up", "1"),
        benchmark="mini",
        setting="mini-5w1s",
        n_way=N_WAY,
        shot=SHOT,
        n_query=N_QUERY,
        n_episodes=n_episodes,
        config={},
        backbone="conv4",
        image_size=84,
        channels=3,
        pipeline="resize",
        episode_digest="e" * 64,
        data_digest={"novel": "d" * 64},
        seed=seed,
    )
    return RunResult(
        spec, "done", {"top1": Counts(n_correct, np.full(n_episodes, truth.size), labels)}, table
    )


def made_up_list(n_episodes: int) -> EpisodeTable:
    random = np.random.default_rng(0)
    classes = np.argsort(random.random((n_episodes, N_CLASSES)), axis=1)[:, :N_WAY].astype(np.int32)  # (E, W)
    images = random.integers(0, 12_000, (n_episodes, N_WAY, SHOT + N_QUERY), dtype=np.int32)
    names = tuple(f"n{i:08d}" for i in range(N_CLASSES))
    return EpisodeTable(classes, images[..., :SHOT], images[..., SHOT:], names, ("",) * N_CLASSES)


def timed(what: str, action: Callable[[], object]) -> float:
    """Print and return the wall time; processor time beside it tells a busy machine from slow code."""
    wall, processor = time.perf_counter(), time.process_time()
    action()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print(f"  {what:<40} {wall:8.3f} s   {processor:8.3f} s of processor")
    return wall


def paired_difference(store: Store, first: int, second: int) -> tuple[float, float]:
    """Mean and standard error of the difference of two runs."""
    _, accuracy = store.accuracy_matrix([first, second])
    difference = accuracy[0] - accuracy[1]
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(difference.size))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--db", default="")
    options = parser.parse_args()
    table = made_up_list(options.episodes)
    runs = [made_up_run(seed, options.episodes, table) for seed in range(options.runs + 2)]
    with tempfile.TemporaryDirectory() as scratch:
        location = options.db or Path(scratch) / "results.db"
        store = Store.open(location, create=True)
        print(f"{options.runs} runs × {options.episodes} episodes of 75 queries into {store}")
        timed("first run, with its episode list", lambda: store.ingest(runs[0]))
        timed("second run of the list", lambda: store.ingest(runs[1]))
        timed("a run that is known", lambda: store.ingest(runs[1]))
        pks = store.runs()["pk"].tolist()
        timed("paired difference of two runs", lambda: paired_difference(store, *pks[:2]))
        rest = timed(f"the other {options.runs} runs", lambda: [store.ingest(run) for run in runs[2:]])
        print(f"  {'':<40} {options.runs * options.episodes / rest:10,.0f} rows/s")
        timed("runs(): a row each, mean accuracy", store.runs)
        timed(f"known_ids() of {len(runs)} ids", lambda: store.known_ids([run.spec.id for run in runs]))
        if not options.db:
            print(f"  {'size':<40} {Path(location).stat().st_size / 1e6:8.1f} MB")


if __name__ == "__main__":
    main()
