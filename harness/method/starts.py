"""What a backbone starts from: published weights, or another fit's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import ConfigError
from harness.method.hyper import hyper

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Pretrained:
    """What its backbone starts from; ``Config`` inherits it."""

    pretrained: Literal["none", "imagenet"] = hyper(
        "none",
        "what the backbone starts from: fresh weights, or torchvision's of ImageNet (resnet18, resnet50_torchvision)",
        later=True,
    )


@dataclass(frozen=True)
class StartsFrom:
    """What a training goes on from; ``Config`` inherits it."""

    start: str = hyper(
        "softmax",
        "the fit whose backbone the training goes on from, or like softmax(epochs=5); fitted once for all",
    )


def go_on_from(fitted: Any, backbone: nn.Module, start: str) -> None:
    """Give a backbone the weights of that of a required fit, in place; drop layers keep their own counters.

    Args:
        fitted: what ``ctx.require`` gave.
        backbone: of the method that goes on.
        start: how the fit is called.

    Raises:
        ConfigError: when the fit has no such backbone.
    """
    own = backbone.state_dict()
    given = fitted.backbone.state_dict() if hasattr(fitted, "backbone") else {}
    wanted = {
        name: given[name] for name, value in own.items() if name in given and given[name].shape == value.shape
    }
    if lacking := own.keys() - wanted.keys():
        raise ConfigError(
            f"start={start}: its backbone does not have {sorted(lacking)[0]} and {len(lacking) - 1} other tensors of this "
            "one. Name a method with one plain backbone, such as softmax."
        )
    backbone.load_state_dict(wanted)
