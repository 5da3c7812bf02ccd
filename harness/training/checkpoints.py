"""Trainings on disk: tensors and plain values, written whole or not at all, read without executing anything."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from harness.errors import FsbenchError, StoreError
from harness.runs import FIT_SHA256
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


def check_whole(path: Path, sha256: str) -> None:
    """Look at a checkpoint without loading it: an uncompressed archive of parts as long as they say, with this sha256.

    Args:
        path: what ``save_tensors`` wrote.
        sha256: as its record has it; empty in records of older versions.

    Raises:
        ValueError: when it is anything else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path.name} is not a whole checkpoint: {error}") from error
    if any(
        member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size
        for member in members
    ):
        raise ValueError(f"{path.name} is packed, as no checkpoint is")
    if sha256 and file_sha256(path) != sha256:
        raise ValueError(f"{path.name} is not the one that its record belongs to")


def file_sha256(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        told = dict(record)
        if isinstance(method, Stateful):
            save_tensors(self.folder / "fit.pt", {"format": FORMAT, "state": method.state_dict()})
            told[FIT_SHA256] = file_sha256(self.folder / "fit.pt")
        try:
            save_text(self.folder / "fit.json", json.dumps(told))
        except OSError as error:
            raise StoreError(
                f"{self.folder}/fit.json could not be written: {error.strerror}. Free some space, or set FSBENCH_CACHE."
            ) from error
        for path in (self.folder / "training.pt", *self.folder.glob("kept-*.pt")):
            path.unlink(missing_ok=True)

    def restore(self, method: Any, device: torch.device) -> None:
        """Load the fitted weights.

        Raises:
            StoreError: when the checkpoint is truncated, belongs to another method, or not to its record.
        """
        expected = self.record().get(FIT_SHA256, "")
        if expected and file_sha256(self.folder / "fit.pt") != expected:
            raise StoreError(
                f"{self.folder}/fit.pt is not the checkpoint that fit.json was written with. Delete the folder and run again."
            )
        saved = load_tensors(self.folder / "fit.pt", device)
        try:
            method.load_state_dict(saved["state"])
        except (RuntimeError, KeyError) as error:
            raise StoreError(f"{self.folder}/fit.pt is not a checkpoint of this method: {error}") from error


def kept_state(folder: Path, i: int) -> Path:
    """File of the i-th state that a training kept for a later selection."""
    return folder / f"kept-{i}.pt"
