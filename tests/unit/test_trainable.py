"""Copies that an episode trains: what they may change, what stays, where their randomness comes from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.api import Support, trainable
from harness.errors import PluginError
from harness.evaluation.features import Images
from harness.images.inputs import as_input, to_float
from harness.method import passes_of
from harness.testing import tiny_store


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return (
        nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 2))
        .eval()
        .requires_grad_(False)
    )


def support() -> Support:
    rng = torch.Generator().manual_seed(3)
    return Support(torch.randn(8, 4, generator=rng), torch.arange(8) % 2, 2, rng)


@torch.no_grad()
def test_a_copy_trains_where_gradients_are_off_and_the_module_stays() -> None:
    module, given = network(), support()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with given.trainable(module, training=True) as copy:
        optimiser = torch.optim.Adam(copy.parameters(), lr=0.05)
        losses = []
        for _ in range(30):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(copy(given.x), given.y)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(p.requires_grad for p in module.parameters())
    assert not torch.equal(copy[1].running_mean, module[1].running_mean)  # statistics are the copy's own
    assert (
        not copy.training
        and not any(p.requires_grad for p in copy.parameters())
        and not torch.is_grad_enabled()
    )


@torch.no_grad()
def test_chance_comes_from_the_episode_and_the_global_state_is_left() -> None:
    state = torch.get_rng_state()
    found = []
    for seed in (3, 3, 4):
        with trainable(network(), torch.Generator().manual_seed(seed), training=True) as copy:
            found.append(copy(torch.ones(5, 4)).detach())
        torch.set_rng_state(state)
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    before = torch.get_rng_state()
    with trainable(network().eval(), torch.Generator(), training=True) as copy:
        copy(torch.ones(5, 4))
    network()  # draws
    torch.set_rng_state(before)
    with trainable(nn.Dropout(0.5), torch.Generator(), training=True) as copy:
        copy(torch.ones(5))
    assert torch.equal(torch.get_rng_state(), before)


def test_second_order_gradients_go_through_steps_on_parameters_of_the_copy() -> None:
    """One step on w of (w·x - y)², then the loss at the new w: its derivative by hand, the step's own dependence included."""
    x, y, lr = torch.tensor(2.0), torch.tensor(1.0), 0.1
    line = nn.Linear(1, 1, bias=False)
    with torch.no_grad(), trainable(line, torch.Generator()) as copy:
        w = copy.weight

        def loss(weight: Tensor) -> Tensor:
            return (torch.func.functional_call(copy, {"weight": weight}, x[None])[0] - y).square()

        (slope,) = torch.autograd.grad(loss(w), w, create_graph=True)
        moved = w - lr * slope
        (found,) = torch.autograd.grad(loss(moved), w)
    by_hand = 2 * x * (moved * x - y) * (1 - lr * 2 * x**2)
    torch.testing.assert_close(found, by_hand.detach())


class TakesImages:
    takes = "images"


def test_images_are_normalised_as_in_training_where_a_method_takes_them() -> None:
    store, rows, cpu = tiny_store("novel"), np.array([5, 0, 5]), torch.device("cpu")
    given = Images(TakesImages(), store, "stored", cpu).take(rows)
    assert torch.equal(given, as_input(store, rows, "stored", cpu))
    plain = Images(object(), store, "stored", cpu).take(rows)
    assert torch.equal(plain, to_float(torch.from_numpy(store.images(rows)), "stored"))


def test_a_stated_price_is_a_whole_number() -> None:
    class Free:
        passes = staticmethod(lambda config: 0)

    assert passes_of(object, None) == 0
    with pytest.raises(PluginError, match="at least 1"):
        passes_of(Free, None)
