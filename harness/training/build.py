"""A method with fresh weights, and the images it may train on, both as they were planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch

from harness import benchmarks
from harness.backbones import build as build_backbone
from harness.backbones.backbone import Backbone
from harness.errors import DataError
from harness.images.stores import ImageStore
from harness.method import hyper, registry
from harness.method.hyper import ConfigValue
from harness.runs.spec import FitSpec
from harness.runs.starts import starts_from
from harness.seeding import stream
from harness.system.folders import Places
from harness.system.progress import Progress
from harness.training import pretrained

NO_SOURCES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Workplace:
    """Where work is done.

    Attributes:
        places: of images, checkpoints and results.
        device: on what.
        progress: whom to tell.
        sources: method reference → file to load in its place (a snapshot).
    """

    places: Places
    device: torch.device
    progress: Progress
    sources: Mapping[str, str] = field(default_factory=dict)


def build(fit: FitSpec, at: Workplace, config: Mapping[str, ConfigValue], *, is_start: bool = False) -> Any:
    """Make a method with fresh weights from the run's "initial weights" stream.

    Args:
        fit: its training.
        at: where.
        config: its hyper-parameters; those that are missing are at their declared defaults.
        is_start: whether it is to be trained, so that published weights that it starts from are loaded.

    Raises:
        ConfigError: when its file was changed after the plan, or the user never named it.
    """
    loaded = registry.load_stored(fit.method, at.places.cache, at.sources.get(fit.method.reference, ""))
    torch.manual_seed(stream(fit.seed, "initial weights"))
    backbone = (
        torch.nn.Identity()
        if fit.backbone == "none" or fit.encoder  # a head is given features
        else build_backbone(fit.backbone, fit.image_size, fit.channels)
    )
    if is_start and starts_from(fit.config):
        assert isinstance(backbone, Backbone), "planning refuses methods without"
        pretrained.start(backbone, fit.backbone, at.places.data)
    if fit.is_compiled:
        backbone.compile()
    values = {name: entry.value for name, entry in config.items()}
    method = loaded.cls(hyper.from_json(loaded.cls.Config, values), backbone)
    if isinstance(method, torch.nn.Module):
        method.to(at.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return method


def open_role(
    fit: FitSpec, role: benchmarks.RoleName, at: Workplace, digest: str | None = None
) -> ImageStore:
    """Open the images of a role, and refuse others than were planned.

    Args:
        fit: whose benchmark, pipeline and size.
        role: base, validation or novel.
        at: where.
        digest: of the images; None for what the fit says.

    Raises:
        DataError: when they are not prepared, or changed after the plan.
    """
    benchmark = benchmarks.named(fit.benchmark)
    store = benchmark.open(role, at.places.data, fit.pipeline, fit.image_size)
    if store.digest != (digest or fit.data_digest[role]):
        raise DataError(
            f"The {role} images of {benchmark.key} changed after the run was planned. Type the command again."
        )
    return store
