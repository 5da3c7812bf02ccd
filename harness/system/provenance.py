"""What is recorded beside a run's identity: code, packages, machine, memory."""

from __future__ import annotations

import platform
import re
import resource
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.system.process import n_cpus

if TYPE_CHECKING:
    import torch

PACKAGES = (
    "fsbench",
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-learn",
    "opencv-python-headless",
    "numba",
    "POT",
    "qpth",
)
NOT_CODE = (":(exclude)results.db", ":(exclude)reports")  # what runs write into a checkout


def describe(device: torch.device) -> dict[str, Any]:
    """Collect JSON facts about the process and the machine.

    Returns:
        commit, packages, python, host, device, cpus, peak_rss_bytes, peak_gpu_bytes, finished (UTC), and ``numerics``.
    """
    import torch

    on_gpu = device.type == "cuda"
    return {
        **numerics(device),
        "commit": commit(),
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "host": platform.node(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cpus": n_cpus(),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "peak_gpu_bytes": torch.cuda.max_memory_allocated(device) if on_gpu else 0,
        "finished": utc_now(),
    }


def numerics(device: torch.device) -> dict[str, Any]:
    """Collect what may move the last bit of a sum, and so a training.

    Returns:
        device, device_type, cpu (its model), instructions (the widest set that torch uses), threads (of one operation),
        torch, and libraries (those that torch computes with, by name).
    """
    import torch

    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        "device_type": device.type,
        "cpu": _cpu_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "libraries": _libraries(torch.__config__.show()),
    }


def _libraries(told: str) -> dict[str, str]:
    r"""Versions in what torch says of its build.

    >>> _libraries("Intel(R) oneAPI Math Kernel Library Version 2024.2-Product Build 20240605\n Intel(R) MKL-DNN v3.7.1 (Git")
    {'MKL': '2024.2', 'oneDNN': '3.7.1'}
    """
    patterns = {
        "MKL": r"Math Kernel Library Version ([\d.]+)",
        "oneDNN": r"MKL-DNN v([\d.]+)",
        "CUDA": r"CUDA Runtime ([\d.]+)",
        "cuDNN": r"CuDNN ([\d.]+)",
    }
    found = {name: re.search(pattern, told) for name, pattern in patterns.items()}
    return {name: match[1] for name, match in found.items() if match}


@cache
def commit() -> str:
    """Commit of the fsbench checkout, as `commit_of` tells it; empty outside a checkout."""
    return commit_of(Path(__file__).resolve().parents[2])


def commit_of(folder: Path) -> str:
    """Commit of a checkout, with "+" when a tracked file was changed that is not a result; empty where there is none."""
    git = ["git", "-C", str(folder)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no", "--", ".", *NOT_CODE],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip()[:12] + ("+" if changed.stdout.strip() else "")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def utc_now() -> str:
    """The time, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
