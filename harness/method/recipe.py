"""Recipes: everything that a number rests on beside its seed, in one declaration of hyper-parameters and conditions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.images.augmentations import CropsFrom as CropsFrom

CLEAN = "clean"  # the recipe that adds nothing
CONDITIONS = "conditions"  # the name in an entry of a recipe that is no hyper-parameter
SelectionRole = Literal["validation", "novel"]


@dataclass(frozen=True)
class Conditions:
    """What a run rests on beside its hyper-parameters; None leaves what the benchmark has.

    Attributes:
        pipeline: how pictures become pixels, and which numbers a network is given.
        augmentation: of every training batch, whether the method asks for one or not; "none" for none. None is that of
            the pipeline's family, where the method asks for one.
        image_size: edge in pixels; a hyper-parameter ``image_size`` of the method is set by it.
        crops_from: what random training crops are cut from: the "stored" squares, a "map" of whole pictures of three
            times the size, or the "originals" (None: the originals where they are there and of usual size).
        select_on: whose accuracy chooses the weights.
        n_query: queries of a class in an episode; makes another setting (``mini-5w1s-q16``).
        n_episodes: the first so many of the list.
        n_images: training images of every fit: its epochs are fitted to them, and it ends with the batch or episode
            that reaches them.
    """

    pipeline: str | None = None
    augmentation: str | None = None
    image_size: int | None = None
    crops_from: CropsFrom | None = None
    select_on: SelectionRole | None = None
    n_query: int | None = None
    n_episodes: int | None = None
    n_images: int | None = None

    def over(self, lower: Conditions) -> Conditions:
        """These, and where they leave something open, what ``lower`` says.

        >>> Conditions(pipeline="bml").over(Conditions("feat", n_query=16)).n_query
        16
        """
        return dataclasses.replace(lower, **{k: v for k, v in vars(self).items() if v is not None})


@dataclass(frozen=True)
class Recipe:
    """One recipe of one method, by the keys of DEFAULTS.

    Attributes:
        hyperparameters: further DEFAULTS, which win over the method's own.
        conditions: what holds beside them.
    """

    hyperparameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    conditions: Mapping[str, Conditions] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[str, ...]:
        """The benchmarks, settings and "backbone/setting" that it speaks of."""
        return tuple(dict.fromkeys((*self.hyperparameters, *self.conditions)))

    def conditions_of(self, keys: Iterable[str]) -> Conditions:
        """Those that hold for a run, whose keys are given the strongest last."""
        found = Conditions()
        for key in keys:
            found = self.conditions.get(key, Conditions()).over(found)
        return found


BUDGET = Conditions(n_images=100_000, augmentation="none")
# Recipes that every method has, by name and key; what an entry of the method's own RECIPES says wins.
SHARED: Mapping[str, Mapping[str, Conditions]] = {
    "budget": {  # equal trainings: as many images and the same augmentation, whatever the method asks
        **dict.fromkeys(("glyphs", "glyphs-digits", "omniglot-small", "omniglot-lake"), BUDGET),
        "cifar10": dataclasses.replace(BUDGET, augmentation="padded4-jitter-flip"),
    }
}


def recipes(cls: type[Any]) -> dict[str, Recipe]:
    """Read a method's recipes by name: "clean", which adds nothing, the shared ones, and its own RECIPES."""
    own: Mapping[str, Any] = getattr(cls, "RECIPES", {})
    named = dict.fromkeys((CLEAN, *SHARED, *own))
    return {name: _recipe(SHARED.get(name, {}), own.get(name, {})) for name in named}


def _recipe(shared: Mapping[str, Conditions], own: Mapping[str, Mapping[str, Any]]) -> Recipe:
    keys = dict.fromkeys((*shared, *own))
    return Recipe(
        {key: {k: v for k, v in own.get(key, {}).items() if k != CONDITIONS} for key in keys if key in own},
        {
            key: own.get(key, {}).get(CONDITIONS, Conditions()).over(shared.get(key, Conditions()))
            for key in keys
        },
    )
