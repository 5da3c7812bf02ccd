"""Everything fsbench says to a user who asked for something that cannot be done."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# C0 and C1 controls, DEL, lone surrogates, and two code points that XML forbids
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
UNSAFE_IN_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

_OBJECT = re.compile(
    r"<[\w.]+ object at 0x[0-9a-fA-F]+>"
)  # as libraries name the stream that they were given


class FsbenchError(Exception):
    """A problem the user can solve: what was asked, what was found, what to type.

    The command line prints the message and ends with ``exit_code``; any other exception is a bug of ours.
    """

    exit_code = 2

    def __str__(self) -> str:
        """The message; what it quotes steers no terminal, breaks no page and names no object of our own memory."""
        return visible(_OBJECT.sub("(what was read)", super().__str__()), lines=True)


class ConfigError(FsbenchError):
    """An unknown name, an unknown hyper-parameter or a value out of range."""


class MisfitError(ConfigError):
    """A method and a setting that both exist and do not go together."""


class MissingPackageError(MisfitError):
    """A method was asked for what a package does that is not installed here."""


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


class RunFailed(FsbenchError):
    """A run that a program waits for did not end well; its record says why."""


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


def visible(text: str, *, lines: bool = False) -> str:
    r"""Write control characters and lone surrogates as escapes; with ``lines``, tabs and line ends stay.

    >>> visible("a\x1b[2Jb\0")
    'a\\x1b[2Jb\\0'
    """
    return (UNSAFE_IN_LINES if lines else UNSAFE).sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code == 0:
        return "\\0"
    named = {9: "\\t", 10: "\\n", 13: "\\r"}.get(code)
    return named or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
