"""Tests on paired differences: Student's t, equivalence, sign flips, signed ranks."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import special

from harness.seeding import numpy_generator
from harness.stats.checks import DECIMALS, NO_SPREAD, FloatArray, IntArray, finite_array, vector


def t_value(difference: FloatArray, standard_error: FloatArray) -> FloatArray:
    """Divide differences by their errors, any shape; ± inf for a constant difference, 0 for a constant zero."""
    flat = standard_error == 0
    constant = np.where(np.abs(difference) < NO_SPREAD, 0.0, np.copysign(np.inf, difference))
    return np.asarray(np.where(flat, constant, difference / np.where(flat, 1.0, standard_error)))


def two_sided_p(
    difference: FloatArray, standard_error: FloatArray, df: FloatArray, n: IntArray
) -> FloatArray:
    """Test differences against zero, any shape.

    Student's t; where the n differences do not vary, Student's t has no answer and the exact sign test has
    one: 2^(1-n) when they are all the same non-zero number, 1 when they are all zero.
    """
    flat = standard_error == 0
    t = np.where(flat, 0.0, t_value(difference, standard_error))
    student = 2 * special.stdtr(np.maximum(df, 1), -np.abs(t))
    sign = np.where(np.abs(difference) < NO_SPREAD, 1.0, np.ldexp(1.0, 1 - n))
    return np.asarray(np.where(flat, sign, student))


def paired_t_p(difference: npt.ArrayLike) -> float:
    """Test n >= 2 differences in [-1, 1] against zero by Student's t, two-sided; see ``two_sided_p``."""
    d = vector(difference, "difference", -1.0, 1.0)
    se = float(d.std(ddof=1)) / np.sqrt(len(d))
    se = 0.0 if se * np.sqrt(len(d)) < NO_SPREAD else se
    return float(two_sided_p(np.array(d.mean()), np.array(se), np.array(len(d) - 1.0), np.array(len(d))))


def equivalence_p(
    difference: FloatArray, standard_error: FloatArray, df: FloatArray, n: IntArray, margin: float
) -> FloatArray:
    """Test differences against ± margin by two one-sided tests (TOST), any shape; the larger p of the two.

    Where the n differences do not vary, the one-sided sign test replaces Student's: 2^-n inside the margin,
    1 outside.

    Raises:
        ValueError: for a margin that is not positive.
    """
    if not margin > 0:
        raise ValueError(
            f"the margin of equivalence must be positive, found {margin:g}; try 0.005 (0.5 point)"
        )
    flat = standard_error == 0
    room = margin - np.abs(difference)
    student = special.stdtr(np.maximum(df, 1), -room / np.where(flat, 1.0, standard_error))
    sign = np.where(room > NO_SPREAD, np.ldexp(1.0, -n), 1.0)
    return np.asarray(np.where(flat, sign, student))


def flip_generator(id_a: str, id_b: str) -> np.random.Generator:
    """Open the random stream of a pair, the same in either order, so that a page is rebuilt byte for byte."""
    return numpy_generator(0, "sign-flip", *sorted((id_a, id_b)))


def sign_flip_p(difference: npt.ArrayLike, rng: np.random.Generator, n_flips: int = 10_000) -> float:
    """Test paired differences by random sign flips; two-sided.

    p = (1 + #{|mean*| >= |mean|}) / (1 + n_flips). Differences of equal size are interchangeable, so their
    signed sum needs only the number of ones among as many random bits: raw words of the generator, sixteen
    bits at a time, whose stream numpy keeps between versions. Memory does not grow with ``n_flips``.

    Args:
        difference: (T,) differences in [-1, 1].
        rng: its raw bits are the only randomness.
        n_flips: number of random flips.

    Returns:
        p in [1 / (1 + n_flips), 1].

    Raises:
        ValueError: for empty input, NaN, or values outside [-1, 1].
    """
    d = np.round(vector(difference, "difference", -1.0, 1.0), DECIMALS)
    size, count = np.unique(np.abs(d[d != 0]), return_counts=True)  # (V,) distinct sizes
    if not len(size):
        return 1.0
    n_words = -(-count // 16)
    mask = np.full(n_words.sum(), 0xFFFF, dtype=np.uint16)
    mask[np.cumsum(n_words) - 1] >>= (16 * n_words - count).astype(np.uint16)  # the last word may be partial
    word_size = np.repeat(size, n_words)  # (words,)
    observed, exceeding = abs(float(d.sum())) - 1e-7, 0  # sums of equal terms differ by rounding
    chunk = max(1, 2**19 // len(mask))
    for done in range(0, n_flips, chunk):
        words = _words(rng, min(chunk, n_flips - done), len(mask)) & mask  # (rows, words)
        total = 2 * (_n_ones()[words] @ word_size) - count @ size  # (rows,)
        exceeding += int((np.abs(total) >= observed).sum())
    return (1 + exceeding) / (1 + n_flips)


@cache
def _n_ones() -> FloatArray:
    """Count the ones of every 16-bit word: (65536,) float64, read-only because it is kept."""
    every_word = np.arange(2**16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
    n_ones = np.unpackbits(every_word, axis=1).sum(axis=1, dtype=np.float64)
    n_ones.flags.writeable = False
    return n_ones


def _words(rng: np.random.Generator, rows: int, columns: int) -> npt.NDArray[np.uint16]:
    """Draw (rows, columns) raw 16-bit words, the same on every byte order."""
    raw = np.asarray(rng.bit_generator.random_raw(-(-rows * columns // 4)), dtype="<u8")
    return raw.view("<u2")[: rows * columns].reshape(rows, columns).astype(np.uint16, copy=False)


def wilcoxon_p(difference: npt.ArrayLike) -> float:
    """Test paired differences by Wilcoxon's signed ranks with Pratt's zeros, normal approximation; two-sided.

    Args:
        difference: (T,) differences in [-1, 1]; equal ratios of counts are made equal before ranking.

    Returns:
        p in [0, 1]; 1 when all differences are zero.

    Raises:
        ValueError: for empty input, NaN, or values outside [-1, 1].
    """
    from scipy import stats  # takes as long to import as all else

    d = np.round(vector(difference, "difference", -1.0, 1.0), DECIMALS)
    if not d.any():
        return 1.0
    return float(stats.wilcoxon(d, zero_method="pratt", correction=False, method="approx").pvalue)


def holm(p: npt.ArrayLike) -> FloatArray:
    """Adjust p-values for their number, step down (Holm 1979): reject where the result is below alpha.

    Args:
        p: (m,) p-values in [0, 1].

    Returns:
        (m,) float64 adjusted p in [0, 1], in the order given.

    Raises:
        ValueError: for empty input, NaN, or values outside [0, 1].

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    values = finite_array(p, "p", 0.0, 1.0).ravel()
    order = np.argsort(values, kind="stable")
    raised = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, raised)
    return adjusted
