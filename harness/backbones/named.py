"""Networks of other libraries by name, ``timm:NAME`` and ``torchvision:NAME``: pooled features, with the input they are made for."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from harness.backbones.backbone import Backbone, check_input
from harness.backbones.torchvision_import import import_torchvision
from harness.errors import ConfigError, nearest


class NetworkInput(NamedTuple):
    """What a network was made for.

    Attributes:
        size: edge of the image in pixels.
        crop: share of the resized short edge that the central crop keeps, in (0, 1].
        resample: "bilinear" or "bicubic".
        mean, std: per channel, of images in [0, 1].
    """

    size: int
    crop: float
    resample: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


class NamedNetwork(Backbone):
    """A network of timm or torchvision without its classifier: one pooled vector an image, as a 1×1 map.

    Args:
        name: "timm:NAME" or "torchvision:NAME".
        image_size: side of the square images in pixels.
        channels: input channels; torchvision's networks have 3.

    Raises:
        ConfigError: no such network, a library that is not installed, or images that it cannot take.
    """

    smallest: ClassVar[int] = 8

    def __init__(self, name: str, image_size: int, channels: int) -> None:
        check_input(name, image_size, channels, self.smallest)
        library, _, model = name.partition(":")
        made = _timm(model, channels) if library == "timm" else _torchvision(model, name, channels)
        super().__init__(nn.Sequential(made), _width(made, name, image_size, channels), (1, 1), "torch")

    def draw_weights(self, part: nn.Module) -> None:
        """Leave them as the library drew them."""

    def forward(self, images: Tensor) -> Tensor:
        """Map (b, c, H, W) images to a (b, D, 1, 1) feature map."""
        return super().forward(images)[:, :, None, None]

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        """One: what is inside is the library's."""
        return (nn.Sequential(self.stages, nn.Unflatten(1, (self.channels, 1, 1))),)

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """Key in ``stages`` → what checkpoints of the library call the tensor."""
        return {key: (key.removeprefix("0."),) for key in self.stages.state_dict()}


def input_of(name: str) -> NetworkInput:
    """What a network was made for, as its library says; read without weights.

    Raises:
        ConfigError: no such network, or a library that is not installed.
    """
    library, _, model = name.partition(":")
    if library == "timm":
        timm = _library("timm")
        _refuse_unknown(name, model.partition(".")[0], timm.list_models())
        said = timm.get_pretrained_cfg(model)
        resample = "bicubic" if said.interpolation == "bicubic" else "bilinear"
        return NetworkInput(said.input_size[-1], said.crop_pct, resample, tuple(said.mean), tuple(said.std))
    models = _library("torchvision.models")
    _refuse_unknown(name, model, models.list_models(models))
    said = models.get_model_weights(model).DEFAULT.transforms()
    (size,), (edge,) = said.crop_size, said.resize_size
    return NetworkInput(size, size / edge, said.interpolation.value, tuple(said.mean), tuple(said.std))


def _timm(model: str, channels: int) -> nn.Module:
    timm = _library("timm")
    _refuse_unknown(f"timm:{model}", model.partition(".")[0], timm.list_models())
    made: nn.Module = timm.create_model(model, pretrained=False, num_classes=0, in_chans=channels)
    return made


def _torchvision(model: str, name: str, channels: int) -> nn.Module:
    models = _library("torchvision.models")
    _refuse_unknown(name, model, models.list_models(models))
    if channels != 3:
        raise ConfigError(f"{name} takes images of 3 channels; these have {channels}.")
    made: nn.Module = models.get_model(model, weights=None)
    classifier = [path for path, layer in made.named_modules() if isinstance(layer, nn.Linear)][-1]
    parent, _, leaf = classifier.rpartition(".")
    setattr(made.get_submodule(parent), leaf, nn.Identity())
    return made


def _width(made: nn.Module, name: str, image_size: int, channels: int) -> int:
    was_training = made.training
    try:
        with torch.no_grad():
            found: Any = made.eval()(torch.zeros(1, channels, image_size, image_size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ConfigError(f"{name} does not take images of {image_size} pixels ({error}).") from error
    made.train(was_training)
    if not isinstance(found, Tensor) or found.ndim != 2:
        raise ConfigError(f"{name} gives no vector for an image; choose a network for classification.")
    return int(math.prod(found.shape[1:]))


def _library(module: str) -> ModuleType:
    try:
        import_torchvision()  # timm imports it, too
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"Networks of timm need the package timm ({error}). Type `pip install 'fsbench[encoders]'`."
        ) from error


def _refuse_unknown(name: str, model: str, known: Sequence[str]) -> None:
    if model not in known:
        library = name.partition(":")[0]
        raise ConfigError(
            f"`{name}` is not a network.{nearest(model, known)} {library} has {len(known):,} of them."
        )
