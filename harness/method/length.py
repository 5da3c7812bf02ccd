"""How long a training is: its epochs, stretched so that they add up to a number of images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from math import ceil
from typing import Any

from harness.errors import ConfigError, MisfitError
from harness.method.episodic import OnEpisodes
from harness.method.hyper import ConfigValue, from_json

EPOCHS = "epochs"  # what a method calls their number


def epoch_images(cls: type[Any], config: Any, n_images: int, n_classes: int) -> int:
    """Training images of one epoch, as ``OnEpisodes`` or the method's static ``epoch_images`` says; else all base images."""
    if isinstance(config, OnEpisodes):
        return config.epoch_images(n_classes)
    asked = getattr(cls, "epoch_images", None)
    return int(asked(config, n_images, n_classes)) if asked else n_images


def stretched(
    cls: type[Any], values: Mapping[str, ConfigValue], budget: int, n_images: int, n_classes: int
) -> dict[str, ConfigValue]:
    """Fit the epochs of a configuration to a budget, and with them whatever else counts epochs.

    A method whose configuration counts no epochs trains nothing, and stays as it is.

    Args:
        cls: the method's class; its ``Config`` marks what counts epochs by ``hyper(…, in_epochs=True)``.
        values: its configuration.
        budget: training images, ≥ 1; the epochs are the fewest that have as many.
        n_images, n_classes: of the base set.

    Raises:
        MisfitError: when the method has epochs but does not mark them.
        ConfigError: when epochs were typed, which the budget decides.
    """
    fields = {field.name: field for field in dataclasses.fields(cls.Config)}
    counting = [name for name, field in fields.items() if field.metadata.get("in_epochs")]
    if EPOCHS not in counting:
        if EPOCHS in fields:
            raise MisfitError(
                f"{cls.name} does not say that its `epochs` may be fitted to a number of images; its author declares "
                "them by hyper(…, in_epochs=True), and epoch_images(config, n_images, n_classes) where an epoch is no pass."
            )
        return dict(values)
    if values[EPOCHS].origin == "--set":
        raise ConfigError(
            f"--set epochs: the {budget:,} images of the training decide how many epochs it has. Leave it out."
        )
    config = from_json(cls.Config, {name: value.value for name, value in values.items()})
    n_epochs = budget / epoch_images(cls, config, n_images, n_classes)
    factor = n_epochs / max(1, values[EPOCHS].value)
    found = dict(values)
    for name in counting:
        old = values[name]
        if old.origin != "--set":
            new = ceil(n_epochs) if name == EPOCHS else _times(old.value, factor)
            found[name] = dataclasses.replace(old, value=new, origin=f"{old.origin}, for {budget:,} images")
    return found


def _times(value: Any, factor: float) -> Any:
    """Whole numbers of epochs times a factor; what was at least one stays so."""
    if isinstance(value, list):
        return [_times(one, factor) for one in value]
    return max(min(value, 1), round(value * factor))
