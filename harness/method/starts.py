"""What a method is asked whose backbone may start from published weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.method.hyper import hyper


@dataclass(frozen=True)
class Pretrained:
    """What its backbone starts from; ``Config`` inherits it."""

    pretrained: Literal["none", "imagenet"] = hyper(
        "none",
        "what the backbone starts from: fresh weights, or torchvision's of ImageNet (resnet18, resnet50_torchvision)",
        later=True,
    )
