"""What a backbone may start from beside fresh weights, and for which backbones and images that is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.errors import ConfigError

FILES = {  # torchvision's IMAGENET1K_V1; a name ends with the beginning of the file's sha256
    "resnet18": "resnet18-f37072fd.pth",
    "resnet50_torchvision": "resnet50-0676ba61.pth",
}
IMAGENET = "imagenet"


def starts_from(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What the weights that a training starts from have seen, in the words of ``--seen``; nothing as a rule."""
    chosen = config.get("pretrained")
    return (IMAGENET,) if chosen is not None and chosen.value == IMAGENET else ()


def refuse_unfit(config: Mapping[str, Any], backbone: str, channels: int) -> None:
    """Refuse a backbone or images that the published weights are not for.

    Raises:
        ConfigError: naming the backbones that they are for.
    """
    if starts_from(config) and (backbone not in FILES or channels != 3):
        raise ConfigError(
            f"--set pretrained={IMAGENET}: there are such weights of {' and '.join(FILES)} for colour images; this is "
            f"{backbone} with {channels} channels. Choose by --backbone, and a benchmark of colour images."
        )
