"""A training that goes on from another fit's backbone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from harness.api import add_drop_layers, go_on_from
from harness.backbones import build
from harness.errors import ConfigError
from harness.method import registry


def test_a_backbone_takes_the_weights_of_another_drop_layers_or_not() -> None:
    theirs, own = build("resnet12", 80, 3), build("resnet12", 80, 3)
    add_drop_layers(theirs, 0.1)
    go_on_from(SimpleNamespace(backbone=theirs), own, "softmax")
    given = theirs.state_dict()
    assert all(torch.equal(value, given[name]) for name, value in own.state_dict().items())


@pytest.mark.parametrize(
    "fitted",
    [SimpleNamespace(backbone=build("conv4", 28, 1)), SimpleNamespace(backbone=nn.Identity()), object()],
)
def test_another_network_is_refused_by_the_name_of_the_fit(fitted: object) -> None:
    with pytest.raises(
        ConfigError, match=r"start=bml: its backbone does not have .* Name a method with one plain"
    ):
        go_on_from(fitted, build("conv4", 28, 3), "bml")


def test_all_that_is_wrong_with_a_training_on_episodes_is_said_together() -> None:
    for name, own in (("maml", "inner_lr"), ("feat", "temperature"), ("relation-network", "lr")):
        with pytest.raises(ValueError) as found:
            registry.load(name).cls.Config(train_way=1, epochs=-1, **{own: 0.0})
        assert str(found.value).split("; ") == [
            "epochs must be ≥ 0, found -1", "train_way must be ≥ 2, found 1", f"{own} must be > 0, found 0.0",
        ]  # fmt: skip
