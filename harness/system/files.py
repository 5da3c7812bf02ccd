"""Files that appear whole: written aside in the same folder, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Give a place to write to; it becomes ``path`` when the block ends well, and vanishes otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_array(path: Path, array: np.ndarray[Any, Any]) -> None:
    """Write a .npy file that is either the old one or the new one."""
    with aside(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)


def save_text(path: Path, text: str) -> None:
    """Write a text file that is either the old one or the new one."""
    with aside(path) as temporary:
        temporary.write_text(text)
