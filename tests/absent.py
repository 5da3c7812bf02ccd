"""What to do where something to test with is missing."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def absent(what: str) -> NoReturn:
    """Skip the test, or fail it where everything must be tested (FSBENCH_DEMAND_ALL=1)."""
    pytest.fail(what) if os.environ.get("FSBENCH_DEMAND_ALL") == "1" else pytest.skip(what)
