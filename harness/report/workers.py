"""The same work on many parts of a database: here, or in processes beside this one where that is worth their start."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any, TypeVar

from harness.store import Store
from harness.system.heard import heard
from harness.system.process import n_cpus

log = logging.getLogger("fsbench.report")
WORTH = 200  # runs from which on processes are started; each loads for two seconds
MOST_AT_ONCE = 8  # processes of some 250 MB
Answer = TypeVar("Answer")


def each(
    store: Store, work: Callable[..., Answer], parts: Iterable[tuple[Any, ...]], n_parts: int, n_runs: int
) -> Iterator[Answer]:
    """Give ``work(store, *part)`` of every part, in order, as it becomes known.

    Args:
        store: the database; a process opens it by its location.
        work: a function of a module; what it warns of is said here.
        parts: its other arguments, which are sent to the process; taken as they are needed.
        n_parts: how many they are.
        n_runs: of how many it all is.
    """
    at_once = min(n_cpus(), MOST_AT_ONCE, n_parts)
    if at_once < 2 or n_runs < WORTH:
        yield from (work(store, *part) for part in parts)
        return
    from joblib import Parallel, delayed

    processes = Parallel(n_jobs=at_once, return_as="generator", max_nbytes=None)
    for answer, warnings in processes(delayed(_apart)(store.location, work, part) for part in parts):
        for text in warnings:
            log.warning("%s", text)
        yield answer


def end() -> None:
    """End the processes, which otherwise wait for more work, and give their memory back."""
    if "joblib" in sys.modules:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)


def _apart(location: str, work: Callable[..., Answer], part: tuple[Any, ...]) -> tuple[Answer, list[str]]:
    """Do a part in a process of its own."""
    with heard() as warnings, closing(Store.open(location)) as store:
        return work(store, *part), warnings
