"""Everything fsbench says to a user who asked for something that cannot be done."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FsbenchError(Exception):
    """A problem the user can solve: what was asked, what was found, what to type.

    The command line prints the message and ends with ``exit_code``; any other exception is a bug of ours.
    """

    exit_code = 2


class ConfigError(FsbenchError):
    """An unknown name, an unknown hyper-parameter or a value out of range."""


class TransportError(FsbenchError, ValueError):
    """Masses or costs that pose no transport problem: negative, not numbers, unequal totals, wrong shapes."""


class PluginError(FsbenchError):
    """A method that cannot be loaded or breaks its contract."""

    exit_code = 1


class DataError(FsbenchError):
    """Images, splits or archives that are missing, truncated or not what they claim to be."""

    exit_code = 3


class StoreError(FsbenchError):
    """A database or run folder that cannot be read or written."""

    exit_code = 3


class RecordError(StoreError):
    """One record (a run folder, a row, a trial) that is not what it should be; the others may be."""


class DispatchError(FsbenchError):
    """Jobs that could not be planned, submitted or collected."""

    exit_code = 4


def nearest(name: str, known: Iterable[str], n: int = 3) -> str:
    """Say which known names are closest to a mistyped one; an empty string when none is near.

    >>> nearest("margn", ["margin", "scale"])
    ' Did you mean `margin`?'
    """
    close = difflib.get_close_matches(name, list(known), n=n, cutoff=0.6)
    return f" Did you mean {' or '.join(f'`{c}`' for c in close)}?" if close else ""
