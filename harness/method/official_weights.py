"""Weights that others trained: an official checkpoint becomes a fitted method, and nothing of it gets lost."""

from __future__ import annotations

import argparse
import hashlib
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from harness.errors import ConfigError, DataError
from harness.system.files import aside

log = logging.getLogger("fsbench.weights")
_ENVELOPES = ("state", "model", "state_dict", "params")
_FOLDER = "weights"  # in the cache
_PARALLEL = "module."  # before every name of a checkpoint of several GPUs


@runtime_checkable
class Importable(Protocol):
    """A method that knows what its authors call its tensors.

    Attributes:
        official_extras: beginnings of official names that a fitted method has no use for, such as the base
            classifier's; they are read, checked off and recorded.
    """

    official_extras: ClassVar[Sequence[str]]

    def official_names(self) -> Mapping[str, tuple[str, ...]]:
        """Own state key → every name of that tensor in an official checkpoint.

        Raises:
            ConfigError: when there is no official checkpoint for this backbone.
        """


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
        file: its name.
        sha256: of the file.
        set_aside: official names that were read and are not part of a fitted method.
    """

    file: str
    sha256: str
    set_aside: tuple[str, ...]


def is_importable(cls: type[Any]) -> bool:
    """Whether a method's class says what its authors call its tensors."""
    return hasattr(cls, "official_names") and hasattr(cls, "official_extras")


def keep(path: Path, cache: Path) -> Path:
    """Copy a file of weights to the cache under its digest, where jobs find it, whatever becomes of the original.

    Raises:
        ConfigError: when there is no such file.
        DataError: when it cannot be copied.
    """
    target = cache / _FOLDER / file_sha256(path) / path.name
    if not _files(target.parent):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with aside(target) as temporary:
                shutil.copyfile(path, temporary)
        except OSError as error:
            raise DataError(
                f"{path} could not be copied to {target.parent}: {error}. Free some space, or set FSBENCH_CACHE."
            ) from error
    return target


def kept(cache: Path, sha256: str) -> Path:
    """Find a file of weights that ``keep`` copied.

    Raises:
        DataError: when it is gone.
    """
    found = _files(cache / _FOLDER / sha256)
    if not found:
        raise DataError(
            f"The weights {sha256[:12]} are not in {cache / _FOLDER}. Type `fsbench run … --weights FILE` again."
        )
    return found[0]


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*") if not p.name.startswith("."))


def file_sha256(path: Path) -> str:
    """Hash a file of weights, for the identity of a run.

    Raises:
        ConfigError: when there is no such file.
    """
    if not path.is_file():
        raise ConfigError(f"--weights {path}: there is no such file.")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def import_weights(method: Any, path: Path, sha256: str = "") -> Imported:
    """Load an official checkpoint into a method, in place.

    Args:
        method: an ``nn.Module`` that is ``Importable``; its own names become the checkpoint's.
        path: written by torch.save: a state dict, or one in an envelope with epoch, accuracy and the like.
        sha256: that the file must have; empty for any.

    Returns:
        What to record.

    Raises:
        ConfigError: no such file, not a checkpoint, or a list of every name that is missing, superfluous, of
            another shape or contradictory; the method is then unchanged.
        DataError: when the file is not the one that was planned.
    """
    name = type(method).name
    if not (isinstance(method, Importable) and isinstance(method, torch.nn.Module)):
        raise ConfigError(
            f"{name} does not say what official checkpoints call its weights, so it imports none."
        )
    digest = file_sha256(path)
    if sha256 not in ("", digest):
        raise DataError(
            f"{path} is not the file that was planned; type `fsbench run … --weights FILE` again."
        )
    found = _read(path)
    names, extras = method.official_names(), tuple(method.official_extras)
    own = method.state_dict()
    problems = list(_problems(own, names, extras, found))
    if problems:
        raise ConfigError(
            f"{path} does not fit {name}; {len(problems)} problems:\n  " + "\n  ".join(problems)
            + "\nIs it of this method, backbone and image size?"
        )  # fmt: skip
    with torch.no_grad():
        for key, official in names.items():
            own[key].copy_(found[official[0]])
    left = tuple(key for key in found if key.startswith(extras))
    log.info("%s: %d tensors imported, set aside: %s", path, len(names), ", ".join(left) or "none")
    return Imported(path.name, digest, left)


def _problems(
    own: Mapping[str, Tensor],
    names: Mapping[str, tuple[str, ...]],
    extras: tuple[str, ...],
    found: Mapping[str, Tensor],
) -> Iterator[str]:
    """Describe everything that does not fit."""
    for key, official in names.items():
        present = [found[name] for name in official if name in found]
        yield from (f"missing: {name}" for name in official if name not in found)
        for name, value in zip([n for n in official if n in found], present, strict=True):
            if value.shape != own[key].shape:
                yield f"{name} is {tuple(value.shape)}; expected {tuple(own[key].shape)}"
            elif value.shape == present[0].shape and not torch.equal(value, present[0]):
                yield f"{name} differs from {official[0]}, which is the same layer"
    known = {name for official in names.values() for name in official}
    yield from (f"superfluous: {key}" for key in found if key not in known and not key.startswith(extras))


def _read(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a checkpoint; nothing in the file is executed."""
    try:
        with torch.serialization.safe_globals(_plain_values()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConfigError(
            f"--weights {path} cannot be read as a checkpoint of tensors ({type(error).__name__}: {error})."
        ) from error
    if isinstance(content, Mapping):
        inner = next((content[e] for e in _ENVELOPES if isinstance(content.get(e), Mapping)), content)
        if inner and all(isinstance(value, Tensor) for value in inner.values()):
            is_parallel = all(key.startswith(_PARALLEL) for key in inner)
            return {key.removeprefix(_PARALLEL) if is_parallel else key: v for key, v in inner.items()}
    raise ConfigError(
        f"--weights {path} holds no state dict: expected tensors by name, or such a table under one of "
        f"{', '.join(_ENVELOPES)}."
    )


def _plain_values() -> list[Any]:
    """What official checkpoints hold beside tensors: options of the command line, and numpy's numbers."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("f8", "f4", "i8")]
    old_and_new = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [argparse.Namespace, np.dtype, *kinds, *old_and_new]
