"""How torch's threads are to behave; said in the environment before torch is loaded, never by a call later."""

from __future__ import annotations

import os


def settle() -> None:
    """Grant OpenMP and MKL as many threads as this process has processors, and let waiting threads sleep.

    Threads that spin while they wait take the processor from whoever else works on it: on two cores shared by
    four jobs, training runs at a quarter of the speed. What the user has set stays.
    """
    n = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    for name, value in (("OMP_NUM_THREADS", n), ("MKL_NUM_THREADS", n), ("OMP_WAIT_POLICY", "PASSIVE")):
        os.environ.setdefault(name, value)
