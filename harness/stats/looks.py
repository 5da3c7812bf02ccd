"""Looking again and again: at how many trainings a row may be judged, and how strictly (STATISTICS s.9)."""

from __future__ import annotations

N_PLANNED = 3  # trainings that a setting declares, seeds 0-2
LOOKS = (3, 5, 10)  # numbers of trainings at which verdicts are given
SIZE_AGAIN = 0.02  # of a row extended past its plan: all three looks together then claim wrongly in 4.4%


def size_of_test(n_trainings: int, n_planned: int, alpha: float = 0.05) -> float:
    """Give the size at which a row is judged.

    Args:
        n_trainings: S.
        n_planned: trainings that the setting declares; more of them were added after looking.
        alpha: size as planned.

    >>> size_of_test(3, 3), size_of_test(5, 3), size_of_test(5, 5)
    (0.05, 0.02, 0.05)
    """
    return min(alpha, SIZE_AGAIN) if n_trainings > n_planned else alpha


def is_between_looks(n_trainings: int, n_planned: int) -> bool:
    """Say whether an extended row has to wait for its next look.

    >>> is_between_looks(4, 3), is_between_looks(5, 3), is_between_looks(4, 4)
    (True, False, False)
    """
    return n_planned < n_trainings < LOOKS[-1] and n_trainings not in LOOKS
