"""Curves in experiment trackers: what is sent, and that none of them can end a training."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from absent import absent
from scratch_home import wait_until

from harness.errors import ConfigError
from harness.system import trackers
from harness.system.trackers import Curves

POINTS = [{"step": 1, "loss": 0.5}, {"step": 3, "loss": 0.25, "validation_accuracy": 0.75}]


@pytest.fixture(autouse=True)
def no_switch_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (trackers.NAMES, trackers.FOLDER):
        monkeypatch.setenv(name, "")  # so that it is put back, whatever a test sets
        monkeypatch.delenv(name)


def write(name: str, folder: Path) -> None:
    if find_spec(name) is None:
        absent(f"the extra fsbench[{name}] is not installed")
    trackers.ask([name], folder)
    curves = Curves("fit", {"lr": 0.1, "views": (2, 3)})
    for point in POINTS:
        curves.write(point)
    curves.close()


def test_tensorboard_has_the_points(tmp_path: Path) -> None:
    write("tensorboard", tmp_path)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(tmp_path / "tensorboard" / "fit"))
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("loss")] == [(1, 0.5), (3, 0.25)]
    assert [(e.step, e.value) for e in read.Scalars("validation_accuracy")] == [(3, 0.75)]


def test_wandb_has_them_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")  # reports would go to a server
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))  # of its own log
    write("wandb", tmp_path)
    [kept] = (tmp_path / "wandb").glob("wandb/offline-run-*/run-*.wandb")
    words = (b"loss", b"0.25", b"validation_accuracy", b"0.75", b"views")
    wait_until(  # another process writes it
        lambda: all(word in kept.read_bytes() for word in words), "the points are in the file", seconds=60
    )


def test_mlflow_has_them_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write("mlflow", tmp_path)
    from mlflow import MlflowClient

    client = MlflowClient((tmp_path / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("fsbench")
    assert experiment is not None
    [found] = client.search_runs([experiment.experiment_id])
    assert found.data.params == {"lr": "0.1", "views": "(2, 3)"} and found.info.status == "FINISHED"
    history = client.get_metric_history(found.info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(1, 0.5), (3, 0.25)]


class Noted:
    """Writes down what it is told; fails on the second point if it is to."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any], *, fails: bool = False) -> None:
        self.told: list[Any] = [(folder.name, name, dict(config))]
        self._fails = fails

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        if self._fails and step > 1:
            raise ConnectionError("the server is gone")
        self.told.append((step, dict(scalars)))

    def close(self) -> None:
        self.told.append("closed")


def test_a_tracker_that_fails_is_given_up_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made: dict[str, Noted] = {}

    def making(name: str, **how: Any) -> Any:
        return lambda *given: made.setdefault(name, Noted(*given, **how))

    def broken(*_: Any) -> Any:
        raise ValueError("no key")

    known = {"good": making("good"), "bad": making("bad", fails=True), "closed": broken}
    monkeypatch.setattr(trackers, "TRACKERS", known)
    monkeypatch.setenv(trackers.NAMES, "closed,bad,good")
    curves = Curves("fit", {"lr": 0.1})
    assert made == {}, "a training without points opens nothing"
    with caplog.at_level(logging.WARNING):
        for point in POINTS:
            curves.write(point)
        curves.close()
    assert made["good"].told == [
        ("good", "fit", {"lr": 0.1}),
        (1, {"loss": 0.5}),
        (3, {"loss": 0.25, "validation_accuracy": 0.75}),
        "closed",
    ]
    assert made["bad"].told[-1] == (1, {"loss": 0.5})
    assert [text.partition(": ")[2] for text in caplog.messages] == [
        "ValueError: no key",
        "ConnectionError: the server is gone",
    ]


def test_nothing_is_opened_unless_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "TRACKERS", {})
    trackers.ask([], tmp_path)
    curves = Curves("fit", {})
    curves.write(POINTS[0])
    curves.close()
    assert trackers.NAMES not in os.environ


def test_what_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="Did you mean `wandb`"):
        trackers.ask(["wandbb"], tmp_path)
    monkeypatch.setitem(trackers.TRACKERS, "no_such_package_here", Noted)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"pip install 'fsbench\[no_such_package_here\]'"):
        trackers.ask(["no_such_package_here"], tmp_path)
    assert trackers.NAMES not in os.environ
