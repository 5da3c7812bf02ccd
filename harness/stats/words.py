"""What may be said of a pair, and why no more (STATISTICS s.5)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from harness.stats.pairs import ALPHA, Pairs, Word

Reason = Literal["", "below the margin", "no training was repeated", "between looks", "on these models only"]


class Verdict(NamedTuple):
    """A word on the first row of a pair.

    Attributes:
        word: "better" or "worse" where the adjusted p allows it, "tied" where the difference is surely inside the
            margin, else "undecided".
        reason: "below the margin": better or worse, but the difference seen is smaller than the margin; "no training
            was repeated", "between looks": no p decides the pair; "on these models only": undecided for other
            trainings, though the trained models differ on other episodes; else empty.
        bound: |difference| is below this with 95%, a fraction.
    """

    word: Word
    reason: Reason
    bound: float


def verdict(pairs: Pairs, i: int, j: int) -> Verdict:
    """Judge row i against row j within their family."""
    return _verdict(pairs, i, j, pairs.words[i, j])


def verdict_alone(pairs: Pairs, i: int, j: int) -> Verdict:
    """Judge row i against row j as a family of one, from the same draws."""
    if pairs.held[i, j]:
        return _verdict(pairs, i, j, "undecided")
    difference, alpha = pairs.difference[i, j], pairs.alpha[i, j]
    if pairs.p[i, j] <= alpha:
        return _verdict(pairs, i, j, "better" if difference > 0 else "worse")
    return _verdict(pairs, i, j, "tied" if pairs.p_equivalence_alone[i, j] <= alpha else "undecided")


def _verdict(pairs: Pairs, i: int, j: int, word: Word) -> Verdict:
    """Add the reason to a word."""
    reason: Reason = ""
    if word in ("better", "worse"):
        reason = "below the margin" if abs(pairs.difference[i, j]) < pairs.margin else ""
    elif word == "undecided":
        reason = pairs.held[i, j] or ("on these models only" if pairs.p_episodes[i, j] <= ALPHA else "")
    return Verdict(word, reason, float(pairs.bound[i, j]))
