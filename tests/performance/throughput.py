"""Training throughput as methods train, augmentation included, and what their full recipes would take at that rate.

Prints a table of images and batches a second; a batch is an episode where training is on episodes, and a crop of a picture
is an image. On a GPU at the published sizes in fp32 and bf16, some compiled, with the peak of its memory; on a CPU
neg-cosine and bml with small batches, to know what a GPU is worth, and the others at tiny sizes, to see that they run.
``python tests/performance/throughput.py [WORD ...]`` measures only the trainings whose line has one of the words.

Pictures are made up; crops are cut from whole ones of twice the size, and those of DeepEMD's grids and samples from JPEGs
of ImageNet's usual size, which are decoded for each. DeepEMD starts from an untrained network.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

from harness.system import process

if __name__ == "__main__":
    process.settle_threads()  # before torch is there

import numpy as np
import torch
from decode import photograph

from harness.backbones import build
from harness.errors import MissingPackageError
from harness.images.stores import ImageStore, WholePictures, store_of_arrays
from harness.ops.transport import check_installed
from harness.seeding import torch_generator
from harness.system.process import keep_freed_memory
from harness.system.progress import Silent
from harness.training.base_set import BaseSet
from harness.training.fit_context import FitContext
from methods.bml import Bml
from methods.deepemd import DeepEmd
from methods.lowshot.representation import Representation
from methods.margin import NegCosine
from methods.protonet import ProtoNet

N_CLASSES, N_EACH, N_TIMES = 64, 8, 1000  # each image comes so often: no epoch ends while a training is timed
SECONDS, SMOKE_SECONDS = 6.0, 0.5
N_WARM = 3  # batches first; FLOP are counted in the second
MANY = 100_000  # episodes of an epoch, likewise


NONE: Mapping[str, Any] = MappingProxyType({})


class Case(NamedTuple):
    """One training.

    Attributes:
        method: its class.
        backbone: by name.
        size: edge of the images in pixels.
        told: what the line says beside these.
        config: published values that are not the field defaults, and lengths.
        small: further ones on a CPU.
        tiny: backbone and size on a CPU, for cases that only have to run there.
        full: images of the full recipe, 0 where its length is not settled before.
        pipeline: of the images; its family says how they are augmented.
        channels: of the images.
        precisions: on a GPU.
    """

    method: Any
    backbone: str
    size: int
    told: str = ""
    config: Mapping[str, Any] = NONE
    small: Mapping[str, Any] = NONE
    tiny: tuple[str, int] | None = None
    full: int = 0
    pipeline: str = "negative-margin"
    channels: int = 3
    precisions: tuple[str, ...] = ("fp32", "bf16")

    def on(self, device: torch.device) -> Case:
        """As it is measured on a device; without AVX-512 bf16 is emulated, eight times slower than fp32."""
        if device.type == "cuda":
            return self
        is_wide = "512" in torch.backends.cpu.get_cpu_capability()
        precisions = ("fp32", "bf16") if is_wide else ("fp32",)
        small = self._replace(config={**self.config, **self.small}, precisions=precisions)
        if self.tiny is None:
            return small
        backbone, size = self.tiny
        return small._replace(told=f"{self.told}, tiny", backbone=backbone, size=size, full=0)

    def label(self, precision: str) -> str:
        """What the line is of."""
        return ", ".join(
            filter(None, (self.method.name, self.told, self.backbone, f"{self.size}", precision))
        )


COMPILED = ("fp32", "bf16", "bf16 compiled")
MARGIN: dict[str, Any] = {"small": {"batch_size": 16}, "full": 400 * 38_400, "precisions": COMPILED}  # mini
BML: dict[str, Any] = {
    "small": {"train_way": 3, "train_shot": 3, "train_query": 3},
    "full": 100 * 500 * 2 * 15 * 12,
    "precisions": COMPILED,
}
CROPS = {"fcn": 1, "grid": 13, "sampling": 9}  # of a picture
SOLVERS: dict[str, dict[str, Any]] = {
    "exact": {},
    "pot": {},
    "opencv": {"grad": "flow-only", "weight_eps": 1e-5},  # as published
    "sinkhorn": {},
    "qpth": {},
}


def deepemd(variant: str, solver: str) -> Case:
    """Meta-training for mini-ImageNet, 75 queries and 5 classes an episode, by one of the solvers."""
    return Case(
        DeepEmd, "resnet12", 84, f"{variant}, {solver}",
        {"variant": variant, "solver": solver, "episodes_per_epoch": MANY, **SOLVERS[solver]},
        {"train_way": 2, "train_query": 2, "patch_list": (2,), "num_patch": 3},
        ("conv4", 48), 100 * 50 * 80 * CROPS[variant], "deepemd",
        precisions=("fp32", "bf16") if solver == "exact" else ("fp32",),
    )  # fmt: skip


def representation(backbone: str, **config: Any) -> Case:
    """With SGM, of the 389 base classes of ImageNet low-shot."""
    return Case(
        Representation, backbone, 224, "sgm", {"aux": "sgm", **config}, {"batch_size": 4}, (backbone, 64), 90 * IMAGENET_BASE,
        "simpleshot",
    )  # fmt: skip


IMAGENET_BASE = 477_900  # images
CASES = (
    Case(NegCosine, "conv4", 84, **MARGIN),
    Case(NegCosine, "resnet12", 84, **MARGIN),
    Case(NegCosine, "resnet18", 224, **MARGIN),
    Case(NegCosine, "wrn28_10", 80, **MARGIN),
    Case(Bml, "resnet12", 84, **BML),
    *(deepemd(variant, solver) for variant, solver in product(CROPS, SOLVERS)),
    representation("resnet10"),
    representation("resnet50", sgm_weight=0.005, batch_size=100),
    Case(
        ProtoNet, "conv4", 28, "omniglot, 60-way 1-shot", {"episodes_per_epoch": MANY}, {"train_way": 5}, ("conv4", 28),
        pipeline="area", channels=1,
    ),
)  # fmt: skip


class _Enough(Exception):
    """Ends a training that was only timed."""


class Clock:
    """Told of every batch that is trained next; ends the training after some seconds.

    Attributes:
        n_images: in the batches that were timed.
        n_batches: as many.
        seconds: that they took.
    """

    def __init__(self, device: torch.device, seconds: float) -> None:
        self._device, self._least = device, seconds
        self._n_given, self._start = 0, 0.0
        self.n_images, self.n_batches, self.seconds = 0, 0, 0.0

    def tick(self, n_images: int) -> None:
        """Count a batch; the clock is read when the work on those before it has ended, at the first and the last."""
        if self._n_given == N_WARM:
            self._start = self._now()
        elif self.n_batches and time.perf_counter() - self._start > self._least:
            self.seconds = self._now() - self._start
            raise _Enough
        if self._n_given >= N_WARM:
            self.n_images += n_images
            self.n_batches += 1
        self._n_given += 1

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


class Jpegs:
    """In place of a prepared set whose original pictures are JPEGs of 500×375; a context manager as they are."""

    manifest = SimpleNamespace(mode="RGB", is_upright=False)

    def __init__(self) -> None:
        self._files = [photograph(seed) for seed in range(8)]

    def originals(self) -> Jpegs:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def read(self, row: int) -> bytes:
        return self._files[row % len(self._files)]


class Itself:
    """What DeepEMD requires, untrained: its own network."""

    def __init__(self, method: Any) -> None:
        self._method = method

    def fitted(self, need: Any) -> Any:
        return self._method


def base_set(case: Case, device: torch.device, clock: Clock) -> BaseSet:
    """Made-up base images, and the whole pictures that crops are cut from."""
    rng = np.random.default_rng(0)
    stored, larger = (made_up(edge, case.channels, rng) for edge in (case.size, 2 * case.size))
    if case.config.get("variant", "fcn") != "fcn":
        jpegs: Any = Jpegs()
        stored = replace(stored, prepared=jpegs)
    whole = WholePictures(larger, np.full((len(stored), 2), (375, 500)))
    rng_of_training = torch_generator(0, "training")
    return BaseSet(stored, case.pipeline, device, rng_of_training, clock.tick, whole=whole)


def made_up(edge: int, channels: int, rng: np.random.Generator) -> ImageStore:
    """Images of noise, each of them many times."""
    shape = (N_CLASSES, N_EACH, edge, edge, channels)
    names = [f"class {c}" for c in range(N_CLASSES)]
    store = store_of_arrays("pictures", rng.integers(0, 256, shape, np.uint8), names)
    rows = np.arange(N_CLASSES * N_EACH).reshape(N_CLASSES, N_EACH)
    return replace(
        store, source=np.tile(rows, (1, N_TIMES)).ravel(), counts=np.full(N_CLASSES, N_EACH * N_TIMES)
    )


def timed(case: Case, precision: str, device: torch.device, seconds: float) -> Clock:
    """Train for some seconds."""
    clock, is_compiled = Clock(device, seconds), precision.endswith("compiled")
    torch.manual_seed(0)
    network = build(case.backbone, case.size, case.channels)
    if is_compiled:
        network.compile()
    method = case.method(case.method.Config(epochs=10_000, **case.config), network)
    method.to(device, memory_format=torch.channels_last).train()
    with tempfile.TemporaryDirectory() as folder:
        required: Any = Itself(method)
        ctx = FitContext(
            Path(folder), device=device, rng=torch_generator(0, "training"), seed=0, precision=precision.split()[0],
            validate=None, progress=Silent(), required=required, is_compiled=is_compiled,
        )  # fmt: skip
        base = base_set(case, device, clock)
        try:
            method.fit_base(base, ctx)
        except _Enough:
            return clock
        finally:
            ctx.close()
            base.close()
    raise AssertionError("the training ended before it was timed")


def line(case: Case, precision: str, device: torch.device) -> str:
    """The numbers of one training, or why there are none."""
    is_smoke = device.type == "cpu" and case.tiny is not None
    if device.type == "cuda":
        gc.collect()  # what the training before has left
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        check_installed(case.config.get("solver", ""))
        clock = timed(case, precision, device, SMOKE_SECONDS if is_smoke else SECONDS)
    except (MissingPackageError, RuntimeError) as error:  # also where the memory is too small
        return f"  {str(error).splitlines()[0]}"
    rate = clock.n_images / clock.seconds
    peak = f"{torch.cuda.max_memory_allocated() / 1e9:.2f}" if device.type == "cuda" else "–"
    hours = f"{case.full / rate / 3600:,.0f}" if case.full else "–"
    return f"{rate:>10,.1f}{clock.n_batches / clock.seconds:>11,.2f}{peak:>12}{hours:>28}"


def main() -> None:
    """Measure and print."""
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"training on {name}")
    print(f"{'':60}{'images/s':>10}{'batches/s':>11}{'GB of GPU':>12}{'hours of the full recipe':>28}")
    for case in (case.on(device) for case in CASES):
        for precision in case.precisions:
            label = case.label(precision)
            if len(sys.argv) == 1 or any(word in label for word in sys.argv[1:]):
                print(f"{label:60}{line(case, precision, device)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
