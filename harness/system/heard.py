"""What is warned of meanwhile, for whoever has to say it again: a kept answer, or the process that asked for the work."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def heard() -> Iterator[list[str]]:
    """Give the list that warnings of the block are added to."""
    heard: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    root = logging.getLogger("fsbench")
    root.addHandler(handler)
    try:
        yield heard
    finally:
        root.removeHandler(handler)
