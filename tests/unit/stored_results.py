"""Made-up results and databases that hold them, for the tests of the store."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import event, text

from harness.runs import ConfigValue, Counts, EpisodeTable, MethodReference, RunResult, RunSpec
from harness.store import Recheck, Store, Trial
from harness.store.models import metadata

N_WAY, SHOT, N_QUERY = 3, 2, 4
CLASS_NAMES = tuple(f"class {i}" for i in range(7))
GOLDEN = Path(__file__).parents[1] / "golden" / "store"


def spec_of(seed: int = 0, n_episodes: int = 12, **changes: Any) -> RunSpec:
    spec = RunSpec(
        method=MethodReference("protonet", "protonet", "1"),
        benchmark="glyphs",
        setting="glyphs-3w2s",
        n_way=N_WAY,
        shot=SHOT,
        n_query=N_QUERY,
        n_episodes=n_episodes,
        config={"lr": ConfigValue(0.1, "default"), "widths": ConfigValue([2, 3], "--set", "adapt")},
        backbone="conv4",
        image_size=28,
        channels=1,
        pipeline="grey",
        episode_digest="e" * 64,
        data_digest={"base": "b" * 64, "novel": "d" * 64},
        seed=seed,
    )
    return replace(spec, **changes)


def table_of(n_episodes: int = 12) -> EpisodeTable:
    """A prefix of the one list these tests use."""
    generator = np.random.default_rng(99)
    classes = np.array([generator.permutation(7)[:N_WAY] for _ in range(400)], np.int32)
    images = generator.integers(0, 1000, (400, N_WAY, SHOT + N_QUERY)).astype(np.int32)
    support, query = images[:n_episodes, :, :SHOT], images[:n_episodes, :, SHOT:]
    return EpisodeTable(classes[:n_episodes], support, query, CLASS_NAMES, ("greek",) * 3 + ("latin",) * 4)


def run_of(seed: int = 0, n_episodes: int = 12, chance: int = 0, **changes: Any) -> RunResult:
    """A finished run; ``chance`` tells replicates of one spec apart."""
    generator = np.random.default_rng([seed, n_episodes, chance])
    truth = np.repeat(np.arange(N_WAY), N_QUERY)
    labels = generator.integers(0, N_WAY, (n_episodes, truth.size)).astype(np.uint8)
    n_correct = (labels == truth).sum(axis=1)
    every = np.full(n_episodes, truth.size)
    novel = np.minimum(n_correct, 5) * (np.arange(n_episodes) % 2)
    counts = {
        "top1": Counts(n_correct, every, labels),
        "top1/novel": Counts(novel, 5 * (np.arange(n_episodes) % 2)),
    }
    return replace(
        RunResult(
            spec=spec_of(seed, n_episodes),
            status="done",
            counts=counts,
            episodes=table_of(n_episodes),
            provenance={"finished": f"2024-01-0{1 + chance}T00:00:00+00:00", "host": "a"},
            curves=({"step": 1, "loss": 0.5},),
        ),
        **changes,
    )


def failure_of(seed: int = 0, traceback: str = "ValueError: no") -> RunResult:
    return RunResult(spec_of(seed), "failed", provenance={"host": "a"}, traceback=traceback)


def assert_same_result(a: RunResult, b: RunResult) -> None:
    plain = [replace(result, counts={}, episodes=None) for result in (a, b)]
    assert plain[0] == plain[1]
    assert a.counts.keys() == b.counts.keys()
    for name, counts in a.counts.items():
        for part in ("n_correct", "n_query", "predictions"):
            np.testing.assert_array_equal(getattr(counts, part), getattr(b.counts[name], part), strict=True)
    assert (a.episodes is None) == (b.episodes is None)
    if a.episodes and b.episodes:
        assert a.episodes.class_names == b.episodes.class_names
        assert a.episodes.class_groups == b.episodes.class_groups
        for part in ("classes", "support", "query"):
            np.testing.assert_array_equal(getattr(a.episodes, part), getattr(b.episodes, part), strict=True)


def without_waiting_for_the_disk(store: Store) -> Store:
    """Property tests commit hundreds of times; what they test does not depend on power failures."""
    if store.engine.dialect.name == "sqlite":
        event.listen(store.engine, "connect", lambda c, _: c.execute("PRAGMA synchronous = OFF"))
    return store


OPENED: list[Store] = []


def close_opened() -> None:
    """A server has a hundred connections to give; an example of a property test uses ten."""
    while OPENED:
        OPENED.pop().close()


def filled(place: str, results: Sequence[RunResult]) -> Store:
    store = without_waiting_for_the_disk(Store.open(place, create=True))
    OPENED.append(store)
    for result in results:
        store.ingest(result)
    return store


def n_rows(store: Store) -> dict[str, int]:
    with store.engine.connect() as connection:
        return {t: connection.scalar(text(f"SELECT count(*) FROM {t}")) for t in metadata.tables}


def on_insert_into(store: Store, table: str, action: Callable[[], None]) -> None:
    """Do something right after rows went into a table, inside the transaction."""

    @event.listens_for(store.engine, "after_cursor_execute")
    def _after(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(f"INSERT INTO {table} "):
            action()


def trial_of(
    lr: float = 0.1, n_correct: int = 10, finished: str = "2024-01-01", traceback: str = ""
) -> Trial:
    """A configuration tried on 20 queries, or none where it failed."""
    spec = spec_of(config={"lr": ConfigValue(lr, "--set")})
    return Trial(spec, n_correct, 0 if traceback else 20, 3, traceback, finished)


CHECKS = [
    Recheck("2025-01-01", "cpu", 0, 4, 0),
    Recheck("2025-01-02", "cpu", 0, 4, 1),
    Recheck("2025-01-02", "cuda", 1, 4, 0),
]
TRIALS = [
    trial_of(),
    trial_of(n_correct=11),
    trial_of(finished="2024-02-02"),
    trial_of(lr=0.2),
    trial_of(0.2, 0, traceback="no"),
]
