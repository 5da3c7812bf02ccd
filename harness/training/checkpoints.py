"""Trainings on disk: tensors and plain values, written whole or not at all, read without executing anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from harness.errors import FsbenchError, StoreError
from harness.runs.folders import fit_folder, is_fitted
from harness.system.files import aside, save_text

FORMAT = 1
IMPORTED = "imported"  # in the record of a fit that came from elsewhere: the bundle that brought it


@runtime_checkable
class Stateful(Protocol):
    """Whatever can be saved and restored: modules, optimisers, schedules."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Restore the state."""


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


class Fit:
    """A fitted method on disk: ``fits/<fit key>/{fit.pt,fit.json}``, and ``training.pt`` until then."""

    def __init__(self, cache: Path, fit_key: str) -> None:
        self.folder, self._cache, self._key = fit_folder(cache, fit_key), cache, fit_key

    @property
    def is_done(self) -> bool:
        """Whether the training has ended."""
        return is_fitted(self._cache, self._key)

    def record(self) -> dict[str, Any]:
        """Seconds, curves and selection of the finished training."""
        return json.loads((self.folder / "fit.json").read_text())

    def finish(self, method: Any, record: Mapping[str, Any]) -> None:
        """Keep the fitted weights and the record, drop the training state."""
        if isinstance(method, Stateful):
            save_tensors(self.folder / "fit.pt", {"format": FORMAT, "state": method.state_dict()})
        try:
            save_text(self.folder / "fit.json", json.dumps(record))
        except OSError as error:
            raise StoreError(
                f"{self.folder}/fit.json could not be written: {error.strerror}. Free some space, or set FSBENCH_CACHE."
            ) from error
        for path in (self.folder / "training.pt", *self.folder.glob("kept-*.pt")):
            path.unlink(missing_ok=True)

    def restore(self, method: Any, device: torch.device) -> None:
        """Load the fitted weights.

        Raises:
            StoreError: when the checkpoint is truncated or belongs to another method.
        """
        saved = load_tensors(self.folder / "fit.pt", device)
        try:
            method.load_state_dict(saved["state"])
        except (RuntimeError, KeyError) as error:
            raise StoreError(f"{self.folder}/fit.pt is not a checkpoint of this method: {error}") from error


def kept_state(folder: Path, i: int) -> Path:
    """File of the i-th state that a training kept for a later selection."""
    return folder / f"kept-{i}.pt"
