"""Training that survives: resumption, selection and checkpoints."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from harness.errors import ConfigError, PluginError, StoreError
from harness.seeding import torch_generator
from harness.system import trackers
from harness.system.progress import Silent, TimeLeft
from harness.training.checkpoints import Fit, load_tensors, save_tensors
from harness.training.fit_context import FitContext
from harness.training.selection import select

CPU = torch.device("cpu")


def context(
    folder: Path,
    validate: Callable[[Any, int, int], float] | None = None,
    precision: str = "fp32",
    **more: Any,
) -> FitContext:
    return FitContext(
        folder, device=CPU, rng=torch_generator(0, "training"), seed=0, precision=precision, validate=validate,
        progress=Silent(), **more,
    )  # fmt: skip


def train(ctx: FitContext, n: int, stop_after: int | None = None) -> nn.Module:
    """Regression with momentum, dropout (global generator) and random inputs (the training stream)."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, 2)
    for epoch in ctx.epochs(n, model=model, optimiser=optimiser, schedule=schedule):
        for _ in range(5):
            x = torch.rand(6, 4, generator=ctx.rng)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            ctx.backward(loss)
            ctx.step(optimiser)
        schedule.step()
        ctx.log(epoch, loss=loss.item())
        if stop_after is not None and epoch == stop_after:
            raise KeyboardInterrupt
    return model


@pytest.mark.parametrize("stop_after", [0, 2, 4])
def test_a_resumed_training_is_bit_equal_to_an_undisturbed_one(tmp_path: Path, stop_after: int) -> None:
    whole_ctx = context(tmp_path / "whole")
    whole = train(whole_ctx, 6)
    with pytest.raises(KeyboardInterrupt):
        train(context(tmp_path / "cut"), 6, stop_after)
    resumed_ctx = context(tmp_path / "cut")
    resumed = train(resumed_ctx, 6)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [p["loss"] for p in resumed_ctx.record()["curves"]] == [
        p["loss"] for p in whole_ctx.record()["curves"]
    ]


@pytest.mark.parametrize("bad_step", [1, 3, 60, 64])
def test_a_loss_that_is_not_finite_stops_the_training_with_its_step_and_configuration(
    tmp_path: Path, bad_step: int
) -> None:
    ctx = context(tmp_path, lambda method, way, shot: 0.5, config={"lr": 0.25, "margin": -0.1})
    model = nn.Linear(2, 1)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.25)
    n_steps = 0
    with pytest.raises(PluginError) as caught:
        for epoch in ctx.epochs(3, model=model, optimiser=optimiser):
            for step in range(1, 65):
                is_bad = epoch == 1 and step == bad_step
                ctx.backward(model(torch.ones(1, 2)).square().mean() * (float("nan") if is_bad else 1.0))
                ctx.step(optimiser)
                n_steps += 1
            ctx.keep_best(model)
    assert f"diverged at step {bad_step} of epoch 2: the loss is nan" in str(caught.value)
    assert "seed 0, fp32, lr=0.25, margin=-0.1" in str(caught.value)
    assert n_steps < 64 + (50 if bad_step <= 50 else 65)  # within fifty losses, or at the end of the epoch
    kept = load_tensors(tmp_path / "training.pt", CPU)
    assert kept["epoch"] == 1
    assert all(value.isfinite().all() for value in kept["state"]["model"].values())


def test_a_point_of_a_curve_that_is_not_finite_stops_the_training(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    with pytest.raises(PluginError, match="diverged at step 7"):
        ctx.log(7, loss=float("inf"))


def test_the_best_epoch_is_kept_and_the_earliest_of_equals(tmp_path: Path) -> None:
    scores = iter([0.3, 0.7, 0.7, 0.5])
    ctx = context(tmp_path, lambda method, way, shot: next(scores))
    model = nn.Linear(1, 1)
    for epoch in ctx.epochs(4, model=model):
        with torch.no_grad():
            model.weight.fill_(epoch)
        ctx.keep_best(model)
    assert model.weight.item() == 1
    assert ctx.record()["selection"] == {"validation_accuracy": 0.7, "epoch": 2}


def _scored(folder: Path, given: list[float], n: int, patience: int, seen: list[int]) -> nn.Module:
    """A training whose weight is the epoch, interrupted where the scores end."""
    scores = iter(given)
    ctx = context(folder, lambda method, way, shot: next(scores))
    model = nn.Linear(1, 1)
    for epoch in ctx.epochs(n, patience=patience, model=model):
        with torch.no_grad():
            model.weight.fill_(epoch)
        try:
            ctx.keep_best(model)
        except StopIteration:
            raise KeyboardInterrupt from None
        seen.append(epoch)
    return model


def test_patience_ends_a_training_also_one_that_was_interrupted(tmp_path: Path) -> None:
    scores, seen = [0.3, 0.7, 0.6, 0.7, 0.5, 0.9, 0.9], list[int]()
    assert _scored(tmp_path / "whole", scores, 7, 3, seen).weight.item() == 1
    assert seen == [0, 1, 2, 3, 4]  # three after the best, none of them better
    again: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        _scored(tmp_path / "cut", scores[:3], 7, 3, again)
    assert _scored(tmp_path / "cut", scores[3:], 7, 3, again).weight.item() == 1
    assert again == seen
    assert _scored(tmp_path / "never", scores, 7, 0, []).weight.item() == 5


def test_patience_needs_validation_classes(tmp_path: Path) -> None:
    ctx, model = context(tmp_path), nn.Linear(1, 1)
    seen = [ctx.keep_best(model) for _ in ctx.epochs(5, patience=1, model=model)]
    assert seen == [None] * 5


def test_without_validation_classes_the_last_weights_stay(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    model = nn.Linear(1, 1)
    for epoch in ctx.epochs(3, model=model):
        with torch.no_grad():
            model.weight.fill_(epoch)
        assert ctx.keep_best(model) is None
    assert model.weight.item() == 2 and not ctx.has_validation
    with pytest.raises(PluginError, match="no validation classes"):
        ctx.validation_accuracy(model)


def test_validation_leaves_modes_and_random_state_as_they_were(tmp_path: Path) -> None:
    seen = []

    def validate(method: nn.Module, way: int, shot: int) -> float:
        seen.append((method.training, way, shot))
        torch.rand(3)
        return 0.5

    model = nn.Sequential(nn.Linear(1, 1), nn.Dropout())
    model[1].eval()
    before = torch.get_rng_state()
    assert context(tmp_path, validate).validation_accuracy(model, 20, 5) == 0.5
    assert seen == [(False, 20, 5)] and model.training and not model[1].training
    assert torch.equal(before, torch.get_rng_state())


def test_a_diverging_training_stops_with_the_step(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"diverged at step 7.*smaller learning rate"):
        context(tmp_path).log(7, loss=float("nan"))


def test_a_fit_is_found_again_and_another_methods_is_refused(tmp_path: Path) -> None:
    fit, model = Fit(tmp_path, "abc"), nn.Linear(2, 2)
    assert not fit.is_done
    fit.finish(model, {"seconds": 1.0, "curves": [], "selection": {}})
    assert fit.is_done and fit.record()["seconds"] == 1.0
    other = nn.Linear(2, 2)
    fit.restore(other, CPU)
    assert torch.equal(model.weight, other.weight)
    with pytest.raises(StoreError, match="not a checkpoint of this method"):
        fit.restore(nn.Linear(3, 2), CPU)


def test_checkpoints_execute_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "pwned",)

    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(StoreError, match="cannot be read as a checkpoint"):
        load_tensors(path, CPU)
    assert not (tmp_path / "pwned").exists()


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save_tensors(path, {"x": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(StoreError, match="Delete it and run again"):
        load_tensors(path, CPU)


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.pt"
    save_tensors(path, {"x": 1})

    def full(content: object, where: Path) -> None:
        where.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StoreError, match="No space left"):
        save_tensors(path, {"x": 2})
    monkeypatch.undo()
    assert load_tensors(path, CPU)["x"] == 1 and [p.name for p in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 0.0), ("fp16", 1e-6)])
def test_a_step_is_the_plain_one_whatever_the_scale(tmp_path: Path, precision: str, tolerance: float) -> None:
    """fp16 only scales the loss, by a power of two: the gradients of a float32 model differ by rounding."""
    torch.manual_seed(3)
    plain, ours = nn.Linear(5, 3), nn.Linear(5, 3)
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(8, 5)
    ctx = context(tmp_path, precision=precision)
    optimiser = torch.optim.SGD(ours.parameters(), lr=0.1)
    for part in x.chunk(2):  # a batch in two parts
        ctx.backward(ours(part).square().mean() / 2)
    ctx.step(optimiser)
    plain(x).square().mean().backward()
    with torch.no_grad():
        for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs - 0.1 * theirs.grad, rtol=0, atol=max(tolerance, 1e-7))
    assert all(weight.grad is None for weight in ours.parameters())


def test_a_gradient_that_overflows_in_fp16_is_skipped(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    before = model.weight.detach().clone()
    ctx = context(tmp_path, precision="fp16")
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    ctx.backward(model(torch.ones(1, 1)).sum() * float("inf"))
    ctx.step(optimiser)
    assert torch.equal(model.weight, before)


def test_fewer_than_no_epochs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="-1 epochs"):
        next(context(tmp_path).epochs(-1, model=nn.Linear(1, 1)))


def test_every_state_is_kept_for_a_selection_that_comes_later_and_survives_an_interruption(
    tmp_path: Path,
) -> None:
    def fill(epochs: int) -> nn.Linear:
        model = nn.Linear(1, 1)
        ctx = context(tmp_path, keeps_all=True)
        for epoch in ctx.epochs(4, model=model):
            if epoch == epochs:
                raise KeyboardInterrupt
            with torch.no_grad():
                model.weight.fill_(epoch)
            assert ctx.keep_best(model) is None
        return model

    with pytest.raises(KeyboardInterrupt):
        fill(2)
    model = fill(4)
    scores = {0.0: 0.2, 1.0: 0.8, 2.0: 0.8, 3.0: 0.5}
    found = select(model, tmp_path, lambda method, way, shot: scores[float(method.weight)], 5, 1)
    assert found == {"novel_accuracy": 0.8, "of_states": 4} and float(model.weight) == 1.0
    Fit(tmp_path.parent, "x").folder.mkdir(parents=True)
    with pytest.raises(PluginError, match="keeps no states"):
        select(model, Fit(tmp_path.parent, "x").folder, lambda *_: 0.0, 5, 1)


def test_curves_reach_the_trackers_that_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    def noted(folder: Path, name: str, config: Any) -> Any:
        told.append((folder, name))
        return SimpleNamespace(write=lambda *point: told.append(point), close=lambda: told.append("closed"))

    monkeypatch.setattr(trackers, "TRACKERS", {"noted": noted})
    context(tmp_path).log(1, loss=0.5)
    assert told == []
    monkeypatch.setenv(trackers.NAMES, "noted")
    monkeypatch.setenv(trackers.FOLDER, "there")
    ctx = context(tmp_path)
    ctx.log(2, loss=0.25)
    ctx.close()
    assert told == [(Path("there/noted"), tmp_path.name), (2, {"loss": 0.25}), "closed"]


def test_time_left_is_told_within_the_first_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    told: list[tuple[int, float, float | None]] = []

    class Told(Silent):
        def begin(self, stage: str, total: int, unit: str, done: int = 0) -> None:
            self.left = TimeLeft(total, done, now[0])

        def advance(self, n: int, note: str = "", part: float = 0.0) -> None:
            self.left.advance(n, now[0], part)
            told.append((n, part, self.left.seconds))

    ctx = context(tmp_path)
    ctx._progress = Told()
    ctx.expect(50)  # there will be 40
    for _ in ctx.epochs(2, model=nn.Linear(1, 1)):
        for _ in range(4):
            ctx.tick(10)
            now[0] += 2
    assert [(n, part) for n, part, _ in told[:4]] == [(0, 0.2), (0, 0.4), (0, 0.6), (1, 0.0)]
    assert [(n, part) for n, part, _ in told[4:]] == [(0, 0.25), (0, 0.5), (0, 0.75), (1, 0.0)]
    left = [seconds for *_, seconds in told]
    assert left[:2] == [None, None], "within five seconds nobody knows"
    assert left[2] == pytest.approx(6 / 0.6 * 1.4)  # of two epochs of 50
    assert left[2:] == sorted(left[2:], reverse=True) and left[-1] == 0  # type: ignore[type-var]
