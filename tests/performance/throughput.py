"""Training throughput of neg-cosine and bml as they train, augmentation included: images per second, and what the full
recipes of mini-ImageNet would take at that rate. Prints a table.

On a GPU with the published batches in fp32, bf16 and bf16 compiled; on a CPU with small batches in fp32 and bf16, to
know what a GPU is worth. Pictures are made up; crops are cut from whole ones of twice the size.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness.system import process

if __name__ == "__main__":
    process.settle_threads()  # before torch is there

import numpy as np
import torch

from harness.backbones import build
from harness.images.stores import WholePictures, store_of_arrays
from harness.seeding import torch_generator
from harness.system.process import keep_freed_memory
from harness.system.progress import Silent
from harness.training.base_set import BaseSet
from harness.training.fit_context import FitContext
from methods.bml import Bml
from methods.margin import NegCosine

N_CLASSES, N_EACH = 20, 30
CASES: tuple[tuple[Any, str, int], ...] = (
    (NegCosine, "conv4", 84),
    (NegCosine, "resnet12", 84),
    (NegCosine, "resnet18", 224),
    (NegCosine, "wrn28_10", 80),
    (Bml, "resnet12", 84),
)
FULL = {NegCosine: 400 * 38_400, Bml: 100 * 500 * 2 * 15 * 12}  # images of the recipes of mini-ImageNet
SMALL = {NegCosine: {"batch_size": 16}, Bml: {"train_way": 3, "train_shot": 3, "train_query": 3}}  # on a CPU
SECONDS, N_WARM = 6.0, 2


class _Enough(Exception):
    """Ends a training that was only timed."""


class Clock:
    """Told of every batch that is trained next; ends the training after some seconds."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._ticks = device, list[tuple[float, int]]()

    def tick(self, n_images: int) -> None:
        """Note the time at which a batch is given, when the work on the one before has ended."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        self._ticks.append((time.perf_counter(), n_images))
        if len(self._ticks) > N_WARM + 1 and self._ticks[-1][0] - self._ticks[N_WARM - 1][0] > SECONDS:
            raise _Enough

    def rate(self) -> float:
        """Images per second after the first batches."""
        first, last = self._ticks[N_WARM - 1][0], self._ticks[-1][0]
        return sum(n for _, n in self._ticks[N_WARM:]) / (last - first)


def base_set(size: int, device: torch.device, clock: Clock) -> BaseSet:
    """Made-up base images, and the whole pictures that crops are cut from."""
    rng = np.random.default_rng(0)
    names = [f"class {c}" for c in range(N_CLASSES)]
    stored, larger = (
        store_of_arrays("pictures", rng.integers(0, 256, (N_CLASSES, N_EACH, edge, edge, 3), np.uint8), names)
        for edge in (size, 2 * size)
    )
    whole = WholePictures(larger, np.full((len(stored), 2), (375, 500)))
    rng_of_training = torch_generator(0, "training")
    return BaseSet(stored, "negative-margin", device, rng_of_training, clock.tick, whole=whole)


def rate(method_class: Any, backbone: str, size: int, precision: str, device: torch.device) -> float:
    """Images per second of one training."""
    clock, changes = Clock(device), SMALL[method_class] if device.type == "cpu" else {}
    torch.manual_seed(0)
    network = build(backbone, size, 3)
    if precision.endswith("compiled"):
        network.compile()
    method = method_class(method_class.Config(epochs=10_000, **changes), network)
    method.to(device, memory_format=torch.channels_last).train()
    with tempfile.TemporaryDirectory() as folder:
        ctx = FitContext(
            Path(folder), device=device, rng=torch_generator(0, "training"), seed=0, precision=precision.split()[0],
            validate=None, progress=Silent(),
        )  # fmt: skip
        try:
            method.fit_base(base_set(size, device, clock), ctx)
        except _Enough:
            return clock.rate()
    raise AssertionError("the training ended before it was timed")


def main() -> None:
    """Measure and print."""
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precisions = ("fp32", "bf16", "bf16 compiled") if device.type == "cuda" else ("fp32", "bf16")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"training on {name}")
    print(f"{'':32}{'images/s':>10}{'hours of the full recipe':>28}")
    for method_class, backbone, size in CASES:
        for precision in precisions:
            found = rate(method_class, backbone, size, precision, device)
            label = f"{method_class.name}, {backbone}, {size}, {precision}"
            print(f"{label:38}{found:>10,.1f}{FULL[method_class] / found / 3600:>22,.0f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
