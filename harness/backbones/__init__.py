"""Backbones by name: image → feature map. A name is resolved, and torch imported, only when it is built."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING

from harness.errors import ConfigError, nearest

if TYPE_CHECKING:
    from harness.backbones.backbone import Backbone

BACKBONES = {
    "conv4": "harness.backbones.conv4:Conv4",
    "features": "harness.backbones.stored:StoredFeatures",
    "resnet10": "harness.backbones.resnet:ResNet10",
    "resnet12": "harness.backbones.resnet12:ResNet12",
    "resnet18": "harness.backbones.resnet:ResNet",
    "resnet18_84": "harness.backbones.resnet:ResNet18Small",
    "resnet18_bml": "harness.backbones.resnet:ResNet18Bml",
    "resnet50": "harness.backbones.resnet:ResNet50",
    "resnet50_torchvision": "harness.backbones.resnet:ResNet50Torchvision",
    "wrn28_10": "harness.backbones.wrn28_10:WideResNet",
}


def check_name(name: str) -> None:
    """Refuse what is not a backbone, before anything is built.

    Raises:
        ConfigError: with the nearest name.
    """
    if is_named(name):
        from harness.backbones.named import input_of

        input_of(name)
    elif name not in BACKBONES:
        raise ConfigError(
            f"`{name}` is not a backbone.{nearest(name, BACKBONES)} Known: {', '.join(BACKBONES)}; and timm:NAME, torchvision:NAME."
        )


def is_named(name: str) -> bool:
    """Whether a backbone is a network of another library: "timm:NAME" or "torchvision:NAME"."""
    return name.startswith(("timm:", "torchvision:"))


def build(name: str, image_size: int, channels: int = 3, **options: object) -> Backbone:
    """Build the named backbone with fresh weights.

    Args:
        name: a key of ``BACKBONES``, "timm:NAME" or "torchvision:NAME".
        image_size: side of the square images in pixels.
        channels: input channels, 1 (grey) or 3 (RGB).
        **options: the backbone's own keyword arguments, such as ``hidden`` of conv4.

    Raises:
        ConfigError: unknown name or option, or a size the backbone cannot take.
    """
    check_name(name)
    if is_named(name):
        from harness.backbones.named import NamedNetwork

        return NamedNetwork(name, image_size, channels)
    module, attribute = BACKBONES[name].split(":")
    factory = getattr(importlib.import_module(module), attribute)
    known = [p.name for p in inspect.signature(factory).parameters.values() if p.kind is p.KEYWORD_ONLY]
    wrong = [option for option in options if option not in known]
    if wrong:
        raise ConfigError(
            " ".join(f"`{option}` is not an option of {name}.{nearest(option, known)}" for option in wrong)
            + f" Known: {', '.join(known) or 'none'}."
        )
    backbone: Backbone = factory(image_size, channels, **options)
    return backbone
