"""Experiment trackers, to which training curves go as well; they are stored with the run anyway.

``--tracker NAME`` is a switch of a process and travels in the environment. Each is given one run per training, called by
its fit key, with the hyper-parameters. TensorBoard writes below ``trackers/tensorboard`` of the home, wandb and MLflow to
where their own variables say (``WANDB_MODE=offline``, ``MLFLOW_TRACKING_URI``), by default below ``trackers`` too.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from harness.errors import ConfigError, nearest

log = logging.getLogger("fsbench.trackers")
NAMES, FOLDER = "FSBENCH_TRACKER", "FSBENCH_TRACKER_FOLDER"
PROJECT = "fsbench"


class Tracker(Protocol):
    """One training in a tracker."""

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add a point."""

    def close(self) -> None:
        """End it."""


class TensorBoard:
    """A folder of event files."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / name))
        self._writer.add_text("config", "\n\n".join(f"{key} = {value}" for key, value in config.items()))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add a point."""
        for scalar, value in scalars.items():
            self._writer.add_scalar(scalar, value, step)
        self._writer.flush()

    def close(self) -> None:
        """End it."""
        self._writer.close()


class WandB:
    """A run of Weights & Biases, in the project ``fsbench`` unless WANDB_PROJECT names another."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), dir=os.environ.get("WANDB_DIR", str(folder)),
            name=name, config=dict(config), reinit="create_new", settings=wandb.Settings(console="off"),
        )  # fmt: skip

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add a point."""
        self._run.log(dict(scalars), step=step)

    def close(self) -> None:
        """End it."""
        self._run.finish()


class MlFlow:
    """A run of MLflow, in the experiment ``fsbench`` unless MLFLOW_EXPERIMENT_NAME names another."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        from mlflow import MlflowClient

        os.environ.setdefault(
            "MLFLOW_ALLOW_FILE_STORE", "true"
        )  # MLflow 3 asks before it writes to a plain folder
        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or folder.absolute().as_uri())
        called = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self._client.get_experiment_by_name(called)
        experiment = known.experiment_id if known else self._client.create_experiment(called)
        self._run = self._client.create_run(experiment, run_name=name).info.run_id
        for key, value in config.items():
            self._client.log_param(self._run, key, value)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add a point."""
        for scalar, value in scalars.items():
            self._client.log_metric(self._run, scalar, value, step=step)

    def close(self) -> None:
        """End it."""
        self._client.set_terminated(self._run)


TRACKERS: Mapping[str, Callable[[Path, str, Mapping[str, Any]], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MlFlow,
}


def ask(names: Sequence[str], folder: Path) -> None:
    """Set the environment, which jobs inherit.

    Args:
        names: of trackers; none asks for nothing.
        folder: below which they write.

    Raises:
        ConfigError: for an unknown one, or one that is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise ConfigError(f"--tracker {name}: known are {', '.join(TRACKERS)}.{nearest(name, TRACKERS)}")
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"--tracker {name} needs a package: pip install 'fsbench[{name}]'.")
    if names:
        os.environ[NAMES], os.environ[FOLDER] = ",".join(names), str(folder.absolute())


class Curves:
    """The trackers of one training; nothing happens unless some were asked for.

    What a tracker fails at is said and ends that tracker, never the training: the curves are in the run's record.

    Args:
        name: of the training: its fit key.
        config: hyper-parameters by name.
    """

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        self._name, self._config = name, config
        self._open: dict[str, Tracker] | None = None

    def write(self, point: Mapping[str, float]) -> None:
        """Add a point, "step" and scalars; the first one opens the trackers."""
        scalars = {name: value for name, value in point.items() if name != "step"}
        if self._open is None:
            self._open = {}
            for name in filter(None, os.environ.get(NAMES, "").split(",")):
                self._try(name, partial(self._begin, name))
        for name, tracker in list(self._open.items()):
            self._try(name, partial(tracker.write, int(point["step"]), scalars))

    def close(self) -> None:
        """End what was opened."""
        for name, tracker in list((self._open or {}).items()):
            self._try(name, tracker.close)
        self._open = {}

    def _begin(self, name: str) -> None:
        assert self._open is not None
        folder = Path(os.environ.get(FOLDER, "trackers")) / name
        self._open[name] = TRACKERS[name](folder, self._name, self._config)

    def _try(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 -- of another program; the training goes on
            (self._open or {}).pop(name, None)
            log.warning(
                "--tracker %s is given up, the training goes on: %s: %s", name, type(error).__name__, error
            )
