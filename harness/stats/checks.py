"""Turn what a caller hands over into checked float64 arrays, or say what is wrong with it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Below this standard deviation, differences vary by rounding only: one query of 1,000 in one of 10^6 episodes
# already gives 1e-6.
NO_SPREAD = 1e-7

# Differences of accuracies are ratios of counts; rounding to this many decimals makes equal ratios equal floats.
DECIMALS = 9


def finite_array(values: npt.ArrayLike, name: str, low: float, high: float) -> FloatArray:
    """Convert to float64 and refuse empty arrays, NaN, infinities and values outside [low, high]."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError(f"{name} is empty: at least one value is needed")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise ValueError(f"{name} has {bad} of {array.size} values that are NaN or infinite; drop those runs")
    outside = array[(array < low) | (array > high)]
    if outside.size:
        raise ValueError(
            f"{name} must lie in [{low:g}, {high:g}], found {outside[0]:g}; percent must be divided by 100"
        )
    return array


def vector(values: npt.ArrayLike, name: str = "accuracy", low: float = 0.0, high: float = 1.0) -> FloatArray:
    """Check a (T,) array of values in [low, high]."""
    array = finite_array(values, name, low, high)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one axis, found shape {array.shape}")
    return array


def seed_matrix(
    values: npt.ArrayLike, name: str = "accuracy", low: float = 0.0, high: float = 1.0
) -> FloatArray:
    """Check an (S, T) array of values in [low, high]; (T,) is read as one seed."""
    array = np.atleast_2d(finite_array(values, name, low, high))
    if array.ndim != 2:
        raise ValueError(f"{name} must have the axes seed and episode, found shape {array.shape}")
    return array


def paired_difference(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Check that two methods have the same seeds and episodes; return both as (S, T)."""
    first, second = seed_matrix(a, "the first accuracy"), seed_matrix(b, "the second accuracy")
    if first.shape != second.shape:
        raise ValueError(
            f"paired values must match one to one, found (seeds, episodes) {first.shape} and {second.shape}; "
            "keep the common seeds and the common prefix of the episode list"
        )
    return first, second


def check_level(level: float) -> float:
    """Refuse a confidence level outside (0, 1)."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"the confidence level must lie between 0 and 1, found {level:g}; try 0.95")
    return level


def class_ids(classes: npt.ArrayLike, n_episodes: int) -> IntArray:
    """Check an (E, W) array of class numbers that belongs to ``n_episodes`` episodes."""
    array = np.asarray(classes)
    if array.ndim != 2 or array.shape[0] != n_episodes or array.shape[1] == 0:
        raise ValueError(f"classes must have shape ({n_episodes}, n_way), found {array.shape}")
    if not np.issubdtype(array.dtype, np.integer) or array.min() < 0:
        raise ValueError("classes must be non-negative integers")
    return array.astype(np.int64)
