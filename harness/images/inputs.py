"""From uint8 pixels to what a network is given: scaling, polarity, normalisation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.errors import ConfigError
from harness.images.pipelines import Pipeline, Pixels, pipeline
from harness.images.stores import ImageStore


def to_float(images: Tensor, view: Pipeline | str) -> Tensor:
    """Scale pixels to [0, 1], ink = 1 and paper = 0 where the pipeline inverts; no normalisation yet.

    Saved features, which are float, stay as they are.

    Args:
        images: (n, H, W, C) uint8 or float32, on any device.
        view: a pipeline or its name.

    Returns:
        (n, C, H, W) float32 in [0, 1], on the same device, channels last in memory.
    """
    chosen = pipeline(view) if isinstance(view, str) else view
    if images.is_floating_point():
        return images.permute(0, 3, 1, 2)  # (n, D, 1, 1)
    x = images.bitwise_not() if chosen.invert else images
    x = x.permute(0, 3, 2, 1) if chosen.transpose else x.permute(0, 3, 1, 2)  # (n, C, H, W)
    return x.to(torch.float32).div_(255)


def normalise(x: Tensor, view: Pipeline | str) -> Tensor:
    """Subtract the pipeline's mean and divide by its standard deviation, per channel.

    Args:
        x: (..., C, H, W) float32 in [0, 1].
        view: a pipeline or its name; one without normalisation returns ``x`` itself.

    Returns:
        (..., C, H, W) float32.

    Raises:
        ConfigError: when the pipeline normalises another number of channels.
    """
    chosen = pipeline(view) if isinstance(view, str) else view
    if not chosen.mean:
        return x
    if len(chosen.mean) != x.shape[-3]:
        raise ConfigError(
            f"Pipeline `{chosen.name}` normalises {len(chosen.mean)} channels, the images have {x.shape[-3]}. "
            "Grey images take `area`, `snell` or `stored`."
        )
    mean = x.new_tensor(chosen.mean)[:, None, None]
    std = x.new_tensor(chosen.std)[:, None, None]
    return (x - mean) / std


def as_input(store: ImageStore, rows: npt.NDArray[np.int64], pipeline: str, device: torch.device) -> Tensor:
    """Gather images and bring them to what a network sees: (n, c, H, W) float32, normalised, channels last."""
    pixels = sent(store.images(rows), device)
    return normalise(to_float(pixels, pipeline), pipeline).contiguous(memory_format=torch.channels_last)


def sent(pixels: Pixels, device: torch.device) -> Tensor:
    """Bring uint8 pixels to the device; to a GPU from pinned memory, so that the next batch is gathered meanwhile."""
    on_host = torch.from_numpy(pixels)
    return on_host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else on_host.to(device)
