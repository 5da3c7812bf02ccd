"""Tensors and plain values on disk: written whole or not at all, read without executing anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from harness.errors import FsbenchError, StoreError
from harness.system.files import aside


def save_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values aside, then rename.

    Raises:
        StoreError: when the disk is full or not writable.
    """
    try:
        with aside(path) as temporary:
            torch.save(dict(content), temporary)
    except (OSError, RuntimeError) as error:
        raise StoreError(
            f"{path} could not be written: {error}. Free some space, or set FSBENCH_CACHE."
        ) from error


def load_tensors(path: Path, device: torch.device) -> dict[str, Any]:
    """Read what ``save_tensors`` wrote; never executes anything from the file.

    Raises:
        StoreError: when it is truncated or holds more than tensors and plain values.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except FsbenchError:
        raise
    except Exception as error:
        raise StoreError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}). Delete it and run again."
        ) from error
