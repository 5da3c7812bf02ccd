"""What became of the files of a source: nothing is left out without being counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import PurePosixPath
from typing import TypeVar

T = TypeVar("T")
_SHOWN = 3


class Account:
    """Counts what a walk over sources meets.

    Attributes:
        passed: why → paths that were passed over for it.
        met: files that were offered to a reader, by the end of their names; ``read`` those that it opened.
    """

    def __init__(self) -> None:
        self.passed: dict[str, list[str]] = {}
        self.met: Counter[str] = Counter()
        self.read: Counter[str] = Counter()

    def pass_over(self, path: str, why: str) -> None:
        """Note a file or folder that is left out."""
        self.passed.setdefault(why, []).append(path)

    def lines(self) -> list[str]:
        """A line for each reason, with its count and the first paths; empty where nothing was left out.

        >>> account = Account()
        >>> account.pass_over("a/x.heic", "a kind that is not read (.heic)")
        >>> account.lines()
        ['left out, 1 a kind that is not read (.heic): a/x.heic']
        """
        unread = {kind: n - self.read[kind] for kind, n in sorted(self.met.items()) if n > self.read[kind]}
        lines = [f"left out, {len(paths):,} {why}: {shown(paths)}" for why, paths in self.passed.items()]
        if unread:
            kinds = ", ".join(f"{n:,} {kind}" for kind, n in unread.items())
            lines.append(f"left out, {sum(unread.values()):,} files that are not of this set: {kinds}")
        return lines


def shown(names: Sequence[str], n: int = _SHOWN) -> str:
    """The first few names, and how many more there are.

    >>> shown(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    return ", ".join(map(printable, names[:n])) + (f" and {len(names) - n:,} more" if len(names) > n else "")


def printable(text: str) -> str:
    r"""A name from outside with control characters and broken letters spelt out.

    >>> printable("a\x1bb")
    'a\\x1bb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def kind_of(path: str) -> str:
    """The end of a file's name in small letters: ``.jpg``."""
    return PurePosixPath(path).suffix.lower() or "without an ending"


_open: ContextVar[Account | None] = ContextVar("account", default=None)  # of the walk in progress


@contextmanager
def accounted(account: Account | None = None) -> Iterator[Account]:
    """Let every walk inside the block count into one account."""
    account = account or Account()
    token = _open.set(account)
    try:
        yield account
    finally:
        _open.reset(token)


def pass_over(path: str, why: str) -> None:
    """Note a file that is left out, where somebody counts."""
    if account := _open.get():
        account.pass_over(path, why)


def counted(path: str, opener: Callable[[], T]) -> Callable[[], T]:
    """Note a file that is offered to a reader; gives its opener, which notes that it was read."""
    account = _open.get()
    if account is None:
        return opener
    kind = kind_of(path)
    account.met[kind] += 1
    unread = [kind]

    def open_it() -> T:
        if unread:
            account.read[unread.pop()] += 1
        return opener()

    return open_it
