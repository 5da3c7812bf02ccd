"""What the hostile tests share: a bench of their own, and the pictures of the unit tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))  # picture_files

from hostile_bench import Bench, forget


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A fresh bench."""
    yield Bench(tmp_path)
    forget()
