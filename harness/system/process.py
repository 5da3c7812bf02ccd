"""What a user may switch on for a process and its jobs, by the environment, without changing what a run is.

``--tensorboard DIR`` also writes the training curves there (they are stored with the run anyway); ``--deterministic``
allows only kernels that give the same bits each time; ``--with-pictures`` stores small pictures of extreme episodes also
where the terms of a data set do not allow to pass them on.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import ConfigError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

TENSORBOARD, DETERMINISTIC = "FSBENCH_TENSORBOARD", "FSBENCH_DETERMINISTIC"
PICTURES = "FSBENCH_PICTURES"


def ask(*, is_deterministic: bool, tensorboard: Path | None, with_pictures: bool = False) -> None:
    """Set the environment, which jobs inherit.

    Raises:
        ConfigError: when TensorBoard is asked for and not installed.
    """
    if tensorboard is not None:
        if importlib.util.find_spec("tensorboard") is None:
            raise ConfigError("--tensorboard needs a package: pip install tensorboard.")
        os.environ[TENSORBOARD] = str(tensorboard.absolute())
    if with_pictures:
        os.environ[PICTURES] = "1"
    if is_deterministic:
        os.environ[DETERMINISTIC] = "1"
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts


def settle() -> None:
    """Do what was asked for kernels; before any work."""
    if os.environ.get(DETERMINISTIC):
        import torch

        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


def write_curve(name: str, point: Mapping[str, float]) -> None:
    """Add a point to the curves of one training; nothing happens unless it was asked for.

    Args:
        name: of the training: its fit key.
        point: "step" and scalars.
    """
    folder = os.environ.get(TENSORBOARD)
    if folder:
        writer = _writer(folder, name)
        for scalar, value in point.items():
            if scalar != "step":
                writer.add_scalar(scalar, value, int(point["step"]))
        writer.flush()


@cache
def _writer(folder: str, name: str) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(Path(folder) / name))
