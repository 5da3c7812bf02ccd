"""Weights that others trained: an official checkpoint becomes a fitted method, and nothing of it gets lost."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from harness.errors import ConfigError, DataError
from harness.method import checkpoint_files, hub
from harness.system.files import aside, save_text

log = logging.getLogger("fsbench.weights")
Names = Mapping[str, tuple[str, ...]]
_FOLDER = "weights"  # in the cache
_ORIGIN = ".origin"  # beside a kept file: where the user had it
_LEAST = 0.5  # share of the names that must be there before others are read as them
_TRIED = 8  # names by which the beginning of a checkpoint's names is looked for


@runtime_checkable
class Importable(Protocol):
    """A method that knows what its authors call its tensors.

    A method whose network several people have trained may also have ``other_names()``, a sequence of such tables, and one
    that measures the base images after its training ``settle(base)``, which is called after an import. One whose tensors have
    the shapes of the file, whatever these are, takes them in ``size_for(tensors)`` before it is filled.

    A head (which the weights of a run are not, but those of its features) says in ``official_own`` by which names a file
    of its own is known, and in ``check_features(n_base, dim)`` whether it fits the features, by a ValueError. Where tensors
    by name are not all that a file holds, ``official_tensors(content)`` takes them out of it (ValueError: they are not there).

    Attributes:
        official_extras: beginnings of official names that a fitted method has no use for, such as the base
            classifier's; they are read, checked off and recorded.
    """

    official_extras: ClassVar[Sequence[str]]

    def official_names(self) -> Names:
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


def is_of_head(cls: type[Any], path: Path) -> bool:
    """Whether a file of weights, or one on the hub, is a head's own; else it is that of its features.

    Raises:
        ConfigError: when it is no checkpoint.
    """
    wanted = getattr(cls, "official_own", ())
    found = checkpoint_files.names(checkpoint_files.read_all(_here(path))) if wanted else set()
    return bool(wanted) and all(any(name.endswith(one) for name in found) for one in wanted)


def keep(path: Path, cache: Path) -> Path:
    """Copy a file of weights to the cache under its digest, where jobs find it, whatever becomes of the original.

    Args:
        path: of a file, or of one on the hub (``hub.fetch``).
        cache: where fits are kept.

    Raises:
        ConfigError: when there is no such file, or it is not a checkpoint of finite tensors; nothing is copied then.
        DataError: when it cannot be copied.
    """
    named, path = path, _here(path)
    target = cache / _FOLDER / file_sha256(path) / path.name
    if not _files(target.parent):
        checkpoint_files.read(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with aside(target) as temporary:
                shutil.copyfile(path, temporary)
            save_text(target.parent / _ORIGIN, str(named))
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


def _origin(path: Path) -> Path:
    """Where the user had a file that ``keep`` copied; the path itself where it did not."""
    origin = path.parent / _ORIGIN
    return Path(origin.read_text(encoding="utf-8")) if origin.is_file() else path


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*") if not p.name.startswith("."))


def file_sha256(path: Path) -> str:
    """Hash a file of weights, for the identity of a run.

    Raises:
        ConfigError: when there is no such file.
    """
    path = _here(path)
    if not path.is_file():
        raise ConfigError(f"--weights {path}: there is no such file.")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _here(path: Path) -> Path:
    return hub.fetch(path) if hub.is_on_hub(path) else path


def import_weights(method: Any, path: Path, sha256: str = "") -> Imported:
    """Load an official checkpoint into a method, in place.

    Names may have a beginning in common that is another than the official one (``module.``, ``model.``, ``encoder.``), and
    tensors without effect in evaluation (``num_batches_tracked``) may be absent.

    Args:
        method: an ``nn.Module`` that is ``Importable``; its own names become the checkpoint's.
        path: of torch.save or safetensors: a state dict, or one in an envelope with epoch, accuracy and the like.
        sha256: that the file must have; empty for any.

    Returns:
        What to record.

    Raises:
        ConfigError: no such file, not a checkpoint, or a list of every name that is missing, superfluous, of
            another shape or contradictory; the method is then unchanged.
        DataError: when the file is not the one that was planned.
    """
    name, shown = type(method).name, _origin(path)
    if not (isinstance(method, Importable) and isinstance(method, torch.nn.Module)):
        raise ConfigError(
            f"{name} does not say what official checkpoints call its weights, so it imports none."
        )
    digest = file_sha256(path)
    if sha256 not in ("", digest):
        raise DataError(
            f"{path} is not the file that was planned; type `fsbench run … --weights FILE` again."
        )
    found = _tensors(method, path, shown)
    size_for: Any = getattr(method, "size_for", None)
    if size_for:
        size_for(found)
    own = method.state_dict()
    names, found = _best_fit(method, found, shown)
    extras = tuple(method.official_extras)
    problems = list(_problems(own, names, extras, found))
    if problems:
        raise ConfigError(
            f"{shown} does not fit {name}; {len(problems)} problems:\n  " + "\n  ".join(problems)
            + "\nIs it of this method, backbone and image size?"
        )  # fmt: skip
    with torch.no_grad():
        for key, official in names.items():
            if value := next(([found[one]] for one in official if one in found), None):
                own[key].copy_(value[0])
    used = {one for official in names.values() for one in official}
    left = tuple(key for key in found if key not in used)
    log.info("%s: %d tensors imported, set aside: %s", shown, len(names), ", ".join(left) or "none")
    return Imported(path.name, digest, left)


def _tensors(method: Any, path: Path, shown: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, as the method takes them out of it where it does."""
    if not hasattr(method, "official_tensors"):
        return checkpoint_files.read(path)
    try:
        found: dict[str, Tensor] = method.official_tensors(checkpoint_files.read_all(path))
    except ValueError as error:
        raise ConfigError(f"{shown} does not fit {type(method).name}: {error}") from error
    checkpoint_files.refuse_infinite(found, shown)
    return found


class _Fit(NamedTuple):
    """How large a share of the names is there, once ``start`` in the file stands for ``own`` in the names."""

    share: float
    own: str
    start: str
    names: Names


def _best_fit(method: Importable, found: Mapping[str, Tensor], path: Path) -> tuple[Names, dict[str, Tensor]]:
    """The names that most of a checkpoint's tensors fit, and the tensors under these, without a common beginning.

    Raises:
        ConfigError: when two parts of the checkpoint fit equally well, like a student and its teacher.
    """
    fits = []
    for names in (method.official_names(), *_other_names(method)):
        wanted = {one for official in names.values() for one in official if not _is_counter(one)}
        own = _common_beginning(wanted)
        cores = {name.removeprefix(own) for name in wanted}
        for start in _beginnings(cores, found):
            fits.append(
                _Fit(sum(f"{start}{core}" in found for core in cores) / len(cores), own, start, names)
            )
    best = [fit for fit in fits if fit.share == max(f.share for f in fits)]
    share, own, start, names = next(
        (fit for fit in best if fit.own == fit.start), best[0]
    )  # as it stands, if as good
    if share < _LEAST:
        return names, dict(found)
    rivals = {fit.start for fit in best if fit.names is names}
    if len(rivals) > 1 and own not in rivals:
        raise ConfigError(
            f"{path} holds several networks that fit, under {' and '.join(sorted(rivals))}. Save the one that is meant alone."
        )
    outer = start.removesuffix(own) if start.endswith(own) else ""
    return names, {_renamed(key, start, own, outer): value for key, value in found.items()}


def _beginnings(cores: set[str], found: Mapping[str, Tensor]) -> list[str]:
    """What stands before the names that are wanted, in a checkpoint; the shortest first."""
    inner = sorted(cores, key=len)[:_TRIED]
    return sorted(
        {key.removesuffix(core) for core in inner for key in found if key.endswith(core)} | {""}, key=len
    )


def _renamed(key: str, start: str, own: str, outer: str) -> str:
    return f"{own}{key.removeprefix(start)}" if key.startswith(start) else key.removeprefix(outer)


def _common_beginning(names: Iterable[str]) -> str:
    """What all names begin with, up to a dot: ``encoder.``; empty where they share nothing."""
    levels = zip(*(name.split(".")[:-1] for name in names), strict=False)
    return "".join(f"{level[0]}." for level in takewhile(lambda level: len(set(level)) == 1, levels))


def _other_names(method: Any) -> Sequence[Names]:
    return method.other_names() if hasattr(method, "other_names") else ()


def _is_counter(name: str) -> bool:
    """Whether a tensor has no effect on a network that is only evaluated."""
    return name.endswith("num_batches_tracked")


def _problems(
    own: Mapping[str, Tensor],
    names: Mapping[str, tuple[str, ...]],
    extras: tuple[str, ...],
    found: Mapping[str, Tensor],
) -> Iterator[str]:
    """Describe everything that does not fit."""
    for key, official in names.items():
        present = [found[name] for name in official if name in found]
        yield from (f"missing: {name}" for name in official if name not in found and not _is_counter(name))
        for name, value in zip([n for n in official if n in found], present, strict=True):
            if value.shape != own[key].shape:
                yield f"{name} is {tuple(value.shape)}; expected {tuple(own[key].shape)}"
            elif value.shape == present[0].shape and not torch.equal(value, present[0]):
                yield f"{name} differs from {official[0]}, which is the same layer"
    known = {name for official in names.values() for name in official}
    yield from (
        f"superfluous: {key}"
        for key in found
        if key not in known and not key.startswith(extras) and not _is_counter(key)
    )
