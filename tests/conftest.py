"""What every test may ask for: real images of the shared folder, where they are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, one processor each
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


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
            message = f"{path} is absent; set FSBENCH_TEST_SHARED to the folder that holds {name}"
            pytest.fail(message) if os.environ.get("FSBENCH_DEMAND_ALL") == "1" else pytest.skip(message)
        return path

    return find
