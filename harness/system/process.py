"""What this process is and does: threads, memory, device, log file, and what a user switched on for it and its jobs.

None of it changes what a run is; switches travel in the environment.

``--deterministic`` allows only kernels that give the same bits each time, and one thread, since how many there are decides
how sums are rounded; ``--with-pictures`` stores small pictures of extreme episodes also where the terms of a data set do not
allow to pass them on, ``--no-pictures`` none at all; ``--tracker`` is in ``trackers``.
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import ConfigError
from harness.system.secrets import WithoutCredentials

if TYPE_CHECKING:
    import torch

DETERMINISTIC, PICTURES = "FSBENCH_DETERMINISTIC", "FSBENCH_PICTURES"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def ask(*, is_deterministic: bool, with_pictures: bool | None = None) -> None:
    """Set the environment, which jobs inherit."""
    if with_pictures is not None:
        os.environ[PICTURES] = "1" if with_pictures else "0"
    if is_deterministic:
        os.environ[DETERMINISTIC] = "1"
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts


def settle() -> None:
    """Do what was asked for kernels; before any work."""
    if os.environ.get(DETERMINISTIC):
        import torch
        from threadpoolctl import threadpool_limits

        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
        os.environ.update(dict.fromkeys(_THREADS, "1"))  # for libraries that are loaded later
        torch.set_num_threads(1)
        threadpool_limits(1)  # numpy's and scipy's linear algebra, for good


def settle_threads() -> None:
    """Say, before torch is loaded, how its threads are to behave.

    Grants OpenMP and MKL as many threads as this process has processors, and let waiting threads sleep.
    Threads that spin while they wait take the processor from whoever else works on it: on two cores shared by
    four jobs, training runs at a quarter of the speed. What the user has set stays, and holds for both where one is
    set: torch follows MKL's number.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    n = next((os.environ[name] for name in names if name in os.environ), str(n_cpus()))
    for name, value in (*((name, n) for name in names), ("OMP_WAIT_POLICY", "PASSIVE")):
        os.environ.setdefault(name, value)


def n_cpus() -> int:
    """How many processors this process may use, where the system says; else how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device(name: str) -> torch.device:
    """Turn "auto", "cpu" or "cuda" into a device.

    Raises:
        ConfigError: when CUDA is asked for and not there.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            "--device cuda: this torch sees no CUDA device. Use --device cpu, or `fsbench doctor`."
        )
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"--device {name} is not a device; use auto, cpu or cuda.") from error


def keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks: training on a CPU spends a third of its time on page faults otherwise."""
    trim_threshold, mmap_max = -1, -4
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return  # another C library: slower, not different
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, 1 << 30)


def log_to_stderr(level: int, form: str = "%(message)s") -> None:
    """Send what is logged to the terminal, or to what stands for it in a job; without credentials."""
    handler = logging.StreamHandler()
    handler.setFormatter(WithoutCredentials(form))
    logging.basicConfig(level=level, handlers=[handler])


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Send what is logged meanwhile to a file as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path)
    handler.setFormatter(WithoutCredentials("%(asctime)s %(name)s %(levelname)s %(message)s"))
    root = logging.getLogger("fsbench")
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        with suppress(OSError):  # a full disk is told by whoever writes results
            handler.close()
