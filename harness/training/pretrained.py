"""Backbones that start from torchvision's weights of ImageNet: which file, whether it is that file, and into what it goes."""

from __future__ import annotations

import hashlib
import urllib.error
from pathlib import Path
from typing import Any

import torch

from harness.backbones.backbone import Backbone
from harness.backbones.official import torchvision_names
from harness.errors import DataError
from harness.method.checkpoint_files import read
from harness.runs.starts import FILES

URL = "https://download.pytorch.org/models/"
FOLDER = "weights"  # in FSBENCH_DATA


def start(backbone: Backbone, name: str, data: Path) -> None:
    """Load the published weights into a fresh backbone; its classifier is set aside.

    Args:
        backbone: built under the name.
        name: a key of ``FILES``.
        data: FSBENCH_DATA, where ``weights/<file>`` may lie; torch's own cache is looked at too, else it is downloaded.

    Raises:
        DataError: when the file cannot be had, is another file, or does not fit.
    """
    given = read(found(name, data))
    names = torchvision_names(backbone.stages)
    lacking = sorted(theirs for theirs in names.values() if theirs not in given)
    strange = sorted(set(given) - set(names.values()) - {"fc.weight", "fc.bias"})
    if lacking or strange:
        raise DataError(
            f"{FILES[name]} does not fit {name}: it lacks {', '.join(lacking[:3]) or 'nothing'} and has "
            f"{', '.join(strange[:3]) or 'nothing'} beside what is wanted."
        )
    backbone.stages.load_state_dict({own: given[theirs] for own, theirs in names.items()}, strict=False)


def found(name: str, data: Path) -> Path:
    """The file of a backbone's published weights, checked by the beginning of its sha256, which its name ends with.

    Raises:
        DataError: when it is not there and cannot be downloaded, or is another file.
    """
    file = FILES[name]
    kept = data / FOLDER / file
    for path in (kept, Path(torch.hub.get_dir()) / "checkpoints" / file):
        if path.exists():
            return _checked(path)
    kept.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(f"{URL}{file}", str(kept), _prefix(file), progress=False)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise DataError(
            f"{URL}{file} could not be downloaded: {error}. Fetch it by other means and put it to {kept}."
        ) from error
    return _checked(kept)


def facts(name: str, data: Path) -> dict[str, Any]:
    """What is recorded of a start: file, sha256 and what the weights have seen."""
    path = found(name, data)
    return {"file": path.name, "sha256": _sha256(path), "seen": ["imagenet"]}


def _checked(path: Path) -> Path:
    if not (sha256 := _sha256(path)).startswith(_prefix(path.name)):
        raise DataError(
            f"{path} is not the published file: its sha256 is {sha256[:12]}…, not {_prefix(path.name)}…. Remove it."
        )
    return path


def _prefix(file: str) -> str:
    """Of resnet18-f37072fd.pth, f37072fd."""
    return Path(file).stem.rpartition("-")[2]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
