"""What the authors' checkpoints call the layers of our backbones."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Literal, get_args

from torch import nn

from harness.backbones.resnet import BasicBlock, Bottleneck
from harness.backbones.resnet12 import Block
from harness.backbones.wrn28_10 import WideBlock
from harness.errors import ConfigError

Style = Literal["negative-margin", "bml", "deepemd"]
"""Whose names: of github.com/bl0/negative-margin.few-shot, github.com/ZZQzzq/BML or github.com/icoz69/DeepEMD."""
_NETWORKS: dict[Style, tuple[str, tuple[type[nn.Module], ...]]] = {
    "bml": ("BML's official networks are resnet12 and resnet18", (Block, BasicBlock)),
    "deepemd": ("DeepEMD's official network is resnet12", (Block,)),
}
"""Where not all of our backbones have a counterpart: in words, and the blocks of those that have."""


def official_names(
    stages: nn.Sequential, style: Style, own: str = "", official: str = ""
) -> dict[str, tuple[str, ...]]:
    """Say what an official state dict calls each tensor of a backbone.

    Args:
        stages: the stages of a conv4, resnet12, resnet18 or wrn28_10.
        style: whose names.
        own: what stands before our keys, such as ``backbone.stages.``.
        official: what stands before theirs, such as ``feature.``.

    Returns:
        Own key, such as ``0.body.0.weight``, to every name under which the official file stores that tensor (some
        classes register a layer twice). The counters of our drop layers have no counterpart and are left out.

    Raises:
        ConfigError: that repository has no such network.
    """
    layers = {path for path, layer in stages.named_modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)}
    kind = next(
        (b for b in (Block, BasicBlock, WideBlock) if any(isinstance(m, b) for m in stages.modules())), None
    )
    if style in _NETWORKS and kind not in _NETWORKS[style][1]:
        raise ConfigError(f"{_NETWORKS[style][0]}. Choose --backbone resnet12.")
    return {
        f"{own}{key}": tuple(f"{official}{name}.{leaf}" for name in _names(path, kind, style))
        for key in stages.state_dict()
        for path, _, leaf in [key.rpartition(".")]
        if path in layers
    }


def torchvision_names(stages: nn.Sequential) -> dict[str, str]:
    """Say what torchvision calls each tensor of a resnet18 or resnet50_torchvision: ``0.0.weight`` → ``conv1.weight``."""
    layers = {path for path, layer in stages.named_modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)}
    return {
        key: f"{_names(path, BasicBlock, 'bml')[0]}.{leaf}"
        for key in stages.state_dict()
        for path, _, leaf in [key.rpartition(".")]
        if path in layers
    }


def low_shot_names(stages: nn.Sequential, own: str = "") -> dict[str, tuple[str, ...]]:
    """Say what the checkpoints of Hariharan and Girshick (2017) call each tensor: ``trunk.4.C1.weight``.

    Their trunk is a flat chain: convolution, norm, ReLU, pool, then the blocks of all stages.

    Args:
        stages: of a resnet10, resnet18 or resnet50.
        own: what stands before our keys, such as ``backbone.stages.``.

    Raises:
        ConfigError: for another network.
    """
    blocks = [path for path, layer in stages.named_modules() if isinstance(layer, BasicBlock | Bottleneck)]
    if not blocks:
        raise ConfigError("Released low-shot networks are resnet10 and resnet50; choose one by --backbone.")
    names = {"0.0": "trunk.0", "0.1": "trunk.1"}
    for number, block in enumerate(blocks, start=4):
        for path, layer in stages.get_submodule(block).named_modules():
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
                part, _, index = path.partition(".")
                kind = "C" if isinstance(layer, nn.Conv2d) else "BN"
                inner = (
                    f"{kind}{int(index) // 3 + 1}"
                    if part == "body"
                    else ("shortcut", "BNshortcut")[int(index)]
                )
                names[f"{block}.{path}"] = f"trunk.{number}.{inner}"
    return {
        f"{own}{key}": (f"{names[path]}.{leaf}",)
        for key in stages.state_dict()
        for path, _, leaf in [key.rpartition(".")]
        if path in names
    }


def backbone_names(stages: nn.Sequential, own: str = "") -> tuple[dict[str, tuple[str, ...]], ...]:
    """Say what anybody's state dict calls each tensor of a backbone: we, the closer-look family, the MetaOptNet family.

    Args:
        stages: of a backbone.
        own: what stands before our keys, such as ``backbone.stages.``.
    """
    layers = [path for path, layer in stages.named_modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
    keys = [f"{own}{key}" for key in stages.state_dict() if key.rpartition(".")[0] in layers]
    found: list[dict[str, tuple[str, ...]]] = [{key: (key,) for key in keys}]
    for style in get_args(Style):
        with suppress(ConfigError):  # that family has no such network
            found.append(official_names(stages, style, own))
    return tuple(found)


def _names(path: str, kind: type[nn.Module] | None, style: Style) -> tuple[str, ...]:
    """Name one layer: ``path`` is its path in our stages."""
    if kind is None:
        stage, layer = path.split(".")
        return f"trunk.{stage}.{('C', 'BN')[int(layer)]}", f"trunk.{stage}.trunk.{layer}"
    stem = {"0.0": "conv1", "0.1": "bn1"} if style == "bml" else {"0.0": "trunk.0", "0.1": "trunk.1"}
    if kind is WideBlock:
        stem = {"0.0": "conv1"}
    if kind is not Block and path in stem:
        return (stem[path],)
    if kind is Block:  # one block a stage, and no stem: the official stages count from 1
        stage, _, rest = path.partition(".")
        return (f"layer{int(stage) + 1}.0.{_inner(rest, kind, style)}",)
    match = re.fullmatch(r"(\d+)\.(\d+)\.(.+)", path)
    return (f"layer{match[1]}.{match[2]}.{_inner(match[3], kind, style)}",) if match else ("bn1",)


def _inner(path: str, kind: type[nn.Module], style: Style) -> str:
    """Name a layer within its block."""
    convolution, norm = ("C", "BN") if style == "negative-margin" else ("conv", "bn")
    if kind is WideBlock:
        return {"activation.0": "BN1", "body.0": "C1", "body.1": "BN2", "body.4": "C2"}.get(
            path, "convShortcut"
        )
    part, _, index = path.partition(".")
    if part == "body":
        return f"{norm if int(index) % 3 else convolution}{int(index) // 3 + 1}"
    if kind is BasicBlock and style == "negative-margin":
        return ("shortcut", "BNshortcut")[int(index)]
    return f"downsample.{index}"
