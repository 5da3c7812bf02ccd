"""``--gpus 2`` with two processes on the CPU (gloo): the weights of one process, and nothing that is not right."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

from harness.errors import ConfigError
from harness.jobs import worker
from harness.method import registry
from harness.runs import RunResult, planning
from harness.runs.request import Request
from harness.system.folders import Places
from harness.system.progress import Silent
from harness.training.checkpoints import Fit

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    return file


def run(
    mine: Path, home: Path, data: Path, world_size: int, what: str = "", method: str = ""
) -> tuple[RunResult, Fit]:
    """Train and evaluate in this home; two methods of one seed start from the same weights."""
    home.mkdir(exist_ok=True)
    places = Places(home, data, home / "cache", "")
    options = Request({"what": what} if what else {}, n_episodes=20, world_size=world_size)
    (spec,) = planning.plan([method or f"{mine}:Mine"], ["glyphs-5w1s"], [0], options, data)
    registry.vouch(spec.method, places.cache)  # as whoever types the command does
    (result,) = worker.carry_out([spec], places, "cpu", Silent())
    return result, Fit(places.cache, spec.fit_key)


def weights(fit: Fit) -> dict[str, torch.Tensor]:
    return torch.load(fit.folder / "fit.pt", weights_only=True)["state"]


@pytest.mark.nightly
def test_two_processes_learn_what_one_does_and_a_killed_one_changes_nothing(
    mine: Path, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No batch statistics here, so that only the order of sums differs: 1e-5 of weights near 1."""
    caplog.set_level(logging.INFO, "fsbench")  # as the command line has it
    one, fit_of_one = run(mine, tmp_path / "one", data, 1)
    two, fit_of_two = run(mine, tmp_path / "two", data, 2)
    assert one.spec.id != two.spec.id and fit_of_one.folder.name != fit_of_two.folder.name
    expected, found = weights(fit_of_one), weights(fit_of_two)
    assert expected["head.weight"].abs().max() > 0.01
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-5)
    curves = [[p["validation_accuracy"] for p in result.curves] for result in (one, two)]
    assert curves[0] == pytest.approx(curves[1], abs=0.002)  # a handful of 30,000 queries may tip over

    monkeypatch.setenv("MINE_DIES", str(tmp_path / "died"))
    broken, fit = run(mine, tmp_path / "broken", data, 2)
    assert broken.status == "failed" and "SIGKILL" in broken.traceback
    assert (tmp_path / "died").exists() and (fit.folder / "training.pt").exists() and not fit.is_done
    again, fit = run(mine, tmp_path / "broken", data, 2)
    assert "training resumes after epoch 2" in (tmp_path / f"broken/runs/{again.spec.id}/log.txt").read_text()
    assert again.digest == two.digest and json.loads(json.dumps(again.curves)) == json.loads(
        json.dumps(two.curves)
    )
    for name, value in weights(fit).items():
        assert torch.equal(value, found[name])  # bit by bit


def test_processes_that_drift_apart_end_the_run(mine: Path, tmp_path: Path, data: Path) -> None:
    result, fit = run(mine, tmp_path / "home", data, 2, "drift")
    assert result.status == "failed" and "the processes drifted apart" in result.traceback and not fit.is_done


def test_training_on_episodes_is_refused(mine: Path, tmp_path: Path, data: Path) -> None:
    with pytest.raises(ConfigError, match="trains on episodes, each of which one process must see whole"):
        run(mine, tmp_path / "home", data, 2, method="protonet")


def test_too_few_gpus_are_said_so() -> None:
    from harness.training import launch

    with pytest.raises(ConfigError, match=r"--gpus 99: this process sees \d+ GPUs"):
        launch.together(print, 99, torch.device("cuda"), Silent())


MINE = '''
import os, pathlib, signal
from dataclasses import dataclass
import torch
from torch import distributed, nn
class Mine(nn.Module):
    name, version, uses_backbone = "mine", "1", False
    @dataclass(frozen=True)
    class Config:
        """What to do wrong."""
        what: str = ""
    def __init__(self, config, backbone):
        super().__init__()
        self.config, self.body, self.head = config, nn.Linear(784, 32), nn.Linear(32, 96)
    def fit_base(self, base, ctx):
        extra = nn.Linear(32, 32).to(ctx.device)  # a part that the method itself does not hold
        optimiser = torch.optim.SGD([*self.parameters(), *extra.parameters()], lr=0.5, momentum=0.9)
        for epoch in ctx.epochs(4, model=self, extra=extra, optimiser=optimiser):
            for x, y in base.batches(64):
                self._die(epoch)
                optimiser.zero_grad()
                scores = self.head(extra(self.embed(x)).relu())
                nn.functional.cross_entropy(scores, y).backward()
                nn.utils.clip_grad_norm_(self.parameters(), 1.0)  # of the whole batch's gradient
                optimiser.step()
                if self.config.what == "drift":
                    self.body.bias.data += x.mean()
            accuracy = ctx.keep_best(self)
            ctx.log(epoch, validation_accuracy=accuracy)
    def _die(self, epoch):
        died = pathlib.Path(os.environ.get("MINE_DIES", "/"))
        if epoch == 2 and not died.exists() and distributed.get_rank() == 1:
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    def embed(self, images):
        return self.body(images.flatten(1)).relu()
    def adapt(self, support):
        return support.by_class().mean(1)
    def predict(self, state, query):
        return query @ state.T
'''
