"""What a promise is, and the words in which a check says that one is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from torch import Tensor

from harness.testing.workbench import Workbench

# Sums of some thousand fp32 terms agree to about 1e-6 of their size when a matrix product takes them in another
# order, as it may for another number of rows; differences of such sums to about 1e-5. Broken promises show at 1e-2.
TOLERANCE = 1e-4  # of the largest absolute value


class NotChecked(Exception):
    """This method does not make the promise; the text says why."""


@dataclass(frozen=True)
class Promise:
    """A promise and those it rests on: where one of them is broken, this one cannot be checked.

    Attributes:
        check: tries to break the promise, which is its docstring; returns a figure worth knowing, or "".
        rests_on: names of other promises.
        protocol: the one it is about; methods that do not speak it do not make the promise. Empty for any.
        is_quick: whether it says something of a training that was cut short, and takes no time to speak of.
    """

    check: Callable[[Workbench], str]
    rests_on: tuple[str, ...] = ()
    protocol: str = ""
    is_quick: bool = True

    @property
    def name(self) -> str:
        """Name of the check."""
        return self.check.__name__

    @property
    def sentence(self) -> str:
        """The promise itself."""
        return (self.check.__doc__ or "").strip()


def demand(kept: bool, sentence: str) -> None:
    """Raise AssertionError with the sentence unless the promise is kept (``assert`` would vanish under -O)."""
    if not kept:
        raise AssertionError(sentence)


def demand_close(found: Tensor, expected: Tensor, sentence: str) -> None:
    """Raise AssertionError unless two tensors agree to rounding, ``TOLERANCE`` of the largest value."""
    demand(
        found.shape == expected.shape,
        f"{sentence}: the shapes are {tuple(found.shape)} and {tuple(expected.shape)}.",
    )
    size = float(expected.abs().max()) if expected.numel() else 0.0
    gap = float((found.double() - expected.double()).abs().max()) if expected.numel() else 0.0
    demand(
        gap <= TOLERANCE * size,
        f"{sentence}: they differ by up to {gap:.2g}, at values up to {size:.2g} (allowed: {TOLERANCE * size:.1g}).",
    )


def p_of_mean(values: npt.NDArray[np.float64], expected: float, alternative: str = "two-sided") -> float:
    """Test whether independent values have the expected mean (Student's t).

    Args:
        values: (n,), one an episode, so that the queries of an episode count as one draw.
        expected: the mean under the hypothesis.
        alternative: "two-sided" or "greater".

    Returns:
        p in [0, 1]; constant values give 0 or 1.

    >>> p_of_mean(np.array([3.0, 3.0]), 2.0, "greater"), p_of_mean(np.array([2.0, 2.0]), 2.0)
    (0.0, 1.0)
    """
    if np.ptp(values) == 0:
        contradicts = values[0] > expected if alternative == "greater" else values[0] != expected
        return 0.0 if contradicts else 1.0
    return float(stats.ttest_1samp(values, expected, alternative=alternative).pvalue)
