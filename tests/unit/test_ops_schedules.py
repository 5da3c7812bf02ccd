"""Learning-rate schedules at their corners and against torch's own schedulers."""

from __future__ import annotations

import warnings

import pytest
import torch

from harness.ops.schedules import milestone_decay, periodic_decay, warmup_cosine


def test_warmup_rises_to_the_base_rate_and_ends_at_the_floor() -> None:
    rates = [warmup_cosine(t, base=3e-3, n_warmup=100, n_total=400) for t in range(401)]
    assert rates[0] == pytest.approx(3e-3 / 16)
    assert rates[100] == pytest.approx(3e-3)
    assert rates[400] == pytest.approx(1e-6)
    assert rates[:101] == sorted(rates[:101])
    assert rates[100:] == sorted(rates[100:], reverse=True)


def test_the_fall_is_torch_cosine_annealing() -> None:
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=30, eta_min=1e-6)
    for t in range(30):
        expected = optimiser.param_groups[0]["lr"]
        # torch computes the cosine by a recursion: its rounding grows over 30 steps.
        assert warmup_cosine(10 + t, base=0.5, n_warmup=10, n_total=40) == pytest.approx(expected, rel=1e-9)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # stepping a scheduler whose optimiser never steps
            scheduler.step()


def test_milestones_multiply() -> None:
    rates = [
        milestone_decay(e, base=0.1, milestones=((50, 0.06), (70, 0.2))) for e in (0, 49, 50, 69, 70, 99)
    ]
    assert rates == pytest.approx([0.1, 0.1, 0.006, 0.006, 0.0012, 0.0012])


def test_periodic_decay_halves_every_twenty_epochs() -> None:
    rates = [periodic_decay(e, base=1e-3, every=20, factor=0.5) for e in (0, 19, 20, 39, 40)]
    assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4])
