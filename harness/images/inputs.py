"""From uint8 pixels to what a network is given: scaling, polarity, normalisation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.errors import ConfigError
from harness.images.patches import Crops, Cuts, OfSquares, View
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


class Inputs:
    """Images of a store as a network is given them: one square each, or several views of it or of its original picture.

    A context manager, entered to gather crops.

    Attributes:
        device: where they are sent.
    """

    def __init__(
        self, store: ImageStore, pipeline: str, device: torch.device, view: View | None = None
    ) -> None:
        self.device = device
        self._store, self._pipeline, self._view = store, pipeline, view
        self._crops: Crops | None = None

    def __enter__(self) -> Inputs:
        if isinstance(self._view, Cuts):
            self._crops = Crops(self._store, self._view, self._store.shape[0])
        return self

    def __exit__(self, *error: object) -> None:
        if self._crops is not None:
            self._crops.__exit__(*error)
            self._crops = None

    def __len__(self) -> int:
        return len(self._store)

    def take(self, rows: npt.NDArray[np.int64], training_pass: int | None = None) -> Tensor:
        """Gather (n,) rows.

        Args:
            rows: of the store, in any order; may repeat.
            training_pass: which drawing of crops for training; None for the fixed ones of evaluation.

        Returns:
            (n, c, H, W) float32, normalised, channels last; with a view of v crops (n, v, c, H, W).
        """
        if self._view is None:
            return as_input(self._store, rows, self._pipeline, self.device)
        if isinstance(self._view, OfSquares):
            seen = self._view.images(self._store, rows, self._pipeline, self.device, training_pass)
            return normalise(seen, self._pipeline)
        assert self._crops is not None, "crops are gathered inside a with block"
        pixels = self._crops.images(rows, training_pass)  # (n, v, H, W, C)
        flat = sent(pixels.reshape(-1, *pixels.shape[2:]), self.device)
        return normalise(to_float(flat, self._pipeline), self._pipeline).unflatten(0, pixels.shape[:2])


def as_input(store: ImageStore, rows: npt.NDArray[np.int64], pipeline: str, device: torch.device) -> Tensor:
    """Gather images and bring them to what a network sees: (n, c, H, W) float32, normalised, channels last."""
    pixels = sent(store.images(rows), device)
    return normalise(to_float(pixels, pipeline), pipeline).contiguous(memory_format=torch.channels_last)


def sent(pixels: Pixels, device: torch.device) -> Tensor:
    """Bring uint8 pixels to the device; to a GPU from pinned memory, so that the next batch is gathered meanwhile."""
    on_host = torch.from_numpy(pixels)
    return on_host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else on_host.to(device)
