"""What every test may ask for: real images of the shared folder, and qpth, where they are."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from absent import absent

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, one processor each
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# a shell's background job ignores Ctrl-C, and so would all that the tests start
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what is marked qpth where that is not installed, and fails it when FSBENCH_DEMAND_ALL=1."""
    if item.get_closest_marker("qpth") is not None and find_spec("qpth") is None:
        absent("the extra fsbench[qpth] is not installed")


@pytest.fixture(scope="session")
def shared_path() -> Callable[[str], Path]:
    """Gives a file of the shared folder (FSBENCH_TEST_SHARED, or `shared` beside the repository).

    Skips the test where the file is absent, and fails it when FSBENCH_DEMAND_ALL=1.
    """
    default = Path(__file__).resolve().parents[2] / "shared"
    root = Path(os.environ.get("FSBENCH_TEST_SHARED", default))

    def find(name: str) -> Path:
        path = root / name
        if not path.exists():
            absent(f"{path} is absent; set FSBENCH_TEST_SHARED to the folder that holds {name}")
        return path

    return find
