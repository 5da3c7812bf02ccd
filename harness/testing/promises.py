"""The promises of a method: each a function whose docstring is the promise and whose body tries to break it."""

from __future__ import annotations

import dataclasses
import random
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from torch import Tensor

from harness import backbones, benchmarks, config, evaluate, metrics
from harness.errors import ConfigError, DataError
from harness.fitting import Fit, Stateful
from harness.method import Batched, Embeds, defaults, recipes
from harness.testing.workbench import (
    BACKBONE,
    CPU,
    SECONDS,
    SEED,
    Problem,
    Workbench,
    batch_of,
    scores,
    steady,
)
from harness.types import EpisodeList

# fp32 sums of some thousand terms, which a matrix product may order anew for another number of rows, agree to
# about 1e-6 of their size; differences of them to about 1e-5. A method that breaks its promise is off by 1e-2.
TOLERANCE = 1e-4  # of the largest score
# Chance must lose clearly; a fair method may not be refused by luck, whichever of the many it is.
P_BEATS_CHANCE, P_UNFAIR = 0.01, 0.001
N_EPISODES = 60  # to beat chance
N_RENAMED = 200


class DoesNotApply(Exception):  # noqa: N818 -- it is no error
    """This method does not make the promise; the text says why."""


@dataclass(frozen=True)
class Promise:
    """A promise and those it rests on: where one of them is broken, this one cannot be checked."""

    check: Callable[[Workbench], str]
    rests_on: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the check."""
        return self.check.__name__

    @property
    def sentence(self) -> str:
        """The promise itself."""
        return (self.check.__doc__ or "").strip()
