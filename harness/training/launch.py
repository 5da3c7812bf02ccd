"""One training in several processes of one machine, a GPU each (NCCL), or processors alone (gloo).

The job waits; its processes train and rank 0 leaves the fit on disk, as one process would. When one of them fails or the job
is stopped, all end, and the same call goes on from the last epoch.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn

from harness import errors
from harness.errors import ConfigError, FsbenchError
from harness.system import process
from harness.system.files import newest_last, save_text
from harness.system.progress import Lines, Progress, Recorded, Silent
from harness.training.processes import World

Work = Callable[[World, torch.device, Progress], None]
_LONGEST = timedelta(days=2)  # that a process waits for the others: for a validation, never for a failure


@dataclass(frozen=True)
class _Order:
    """What a process needs to know; it is pickled on the way."""

    work: Work
    n: int
    device_type: str
    progress_file: Path | None
    is_silent: bool
    scratch: str
    job: int


def together(work: Work, n: int, device: torch.device, progress: Progress) -> None:
    """Do a piece of work in n processes that train together.

    Args:
        work: a module-level function, or a partial of one; it is pickled on the way.
        n: processes.
        device: whose kind each of them has one of.
        progress: told by the first of them.

    Raises:
        ConfigError: when there are fewer GPUs, or the method cannot be trained like this.
        FsbenchError: as a training in one process would.
    """
    if device.type == "cuda" and torch.cuda.device_count() < n:
        raise ConfigError(
            f"--gpus {n}: this process sees {torch.cuda.device_count()} GPUs. Ask for more (--slurm gpus={n}), or "
            "lower --gpus; it is part of what the run is."
        )
    with tempfile.TemporaryDirectory() as scratch, _threads(n):
        file = progress.path if isinstance(progress, Recorded) else None
        is_silent = not logging.getLogger("fsbench").isEnabledFor(logging.INFO)
        order = _Order(work, n, device.type, file, is_silent, scratch, os.getpid())
        context = spawn(_be, (order,), nprocs=n, join=False)
        try:
            while not context.join(timeout=1.0):
                pass
        except Exception as error:
            raise _told(Path(scratch)) or error from error
        finally:
            for child in context.processes:
                if child.is_alive():
                    child.kill()
                child.join()


def _be(rank: int, order: _Order) -> None:
    """What one of the processes does."""
    _end_with(order.job)
    # SLURM tells every process of the time limit; the job alone acts on it.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        world = World(rank, order.n)
        device = _settle(world, order)
        with _logged(world, order) as progress:
            order.work(world, device, progress)
        distributed.barrier()  # nobody leaves while another one still talks to it
    except Exception as error:
        told = {"kind": type(error).__name__, "text": str(error), "trace": traceback.format_exc()}
        save_text(Path(order.scratch) / f"error-{rank}.json", json.dumps(told))
        raise
    finally:
        if distributed.is_initialized():
            with suppress(RuntimeError):  # the others may have ended
                distributed.destroy_process_group()
    _leave()


def _leave() -> None:
    """End this process without the interpreter's end, where a thread of gloo that is still there now and then aborts it."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _end_with(job: int) -> None:
    """Have the kernel end this process when its job ends, also by kill -9; else it would train on for nobody."""
    set_death_signal = 1
    try:
        ctypes.CDLL("libc.so.6").prctl(set_death_signal, signal.SIGKILL)
    except (OSError, AttributeError):
        return  # another system: what the others do not send ends it
    if os.getppid() != job:
        os._exit(1)


def _settle(world: World, order: _Order) -> torch.device:
    """Meet the others, and choose this process's device."""
    process.settle()
    on_gpu = order.device_type == "cuda"
    if on_gpu:
        torch.cuda.set_device(world.rank)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all of them are on this machine
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo", init_method=f"file://{order.scratch}/meeting", rank=world.rank,
        world_size=world.size, timeout=_LONGEST,
    )  # fmt: skip
    return torch.device("cuda", world.rank) if on_gpu else torch.device("cpu")


@contextmanager
def _logged(world: World, order: _Order) -> Iterator[Progress]:
    """Rank 0 writes the run's log and tells how far it is; the others only complain."""
    if not world.is_first:
        process.log_to_stderr(logging.ERROR, logging.BASIC_FORMAT)
        yield Silent()
        return
    process.keep_freed_memory()
    process.log_to_stderr(logging.WARNING if order.is_silent else logging.INFO)
    inner: Progress = Silent() if order.is_silent else Lines()
    if order.progress_file is None:
        yield inner
        return
    with process.log_file(order.progress_file.with_name("log.txt")):
        yield Recorded(order.progress_file, inner)


def _told(scratch: Path) -> Exception | None:
    """The first error that a process met by itself; errors of the others follow from it."""
    files = newest_last(scratch.glob("error-*.json"))
    found: list[dict[str, Any]] = [json.loads(path.read_text()) for path in files]
    known = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, FsbenchError)
    }
    ours = next((entry for entry in found if entry["kind"] in known), None)
    if ours:
        return known[ours["kind"]](ours["text"])
    return RuntimeError(found[0]["trace"]) if found else None


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """Divide this process's threads among the processes started meanwhile."""
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ.update({name: str(max(1, int(value or n) // n)) for name, value in before.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
