"""How things are written: percentages, durations, and names of files made from what users may call things."""

from __future__ import annotations

import hashlib
import re

from harness.store import StoredRun


def slug(name: str) -> str:
    """Turn a name into part of a file name: letters, digits, ``.``, ``_`` and ``-``, different names different.

    >>> slug("glyphs-5w1s"), slug("<script>")
    ('glyphs-5w1s', 'script-5b63e5b2')
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80]
    if plain == name == name.lower():  # some file systems take ProtoNet and protonet for one
        return plain
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain}-{digest}" if plain else digest


def run_file(run: StoredRun) -> str:
    """The page of a run below the report; one for each replicate."""
    is_one = len(run.replicates) < 2
    return f"run/{slug(run.id)}.html" if is_one else f"run/{slug(run.id)}-{run.replicate[:8]}.html"


def method_file(name: str) -> str:
    """The page of a method below the report."""
    return f"method/{slug(name)}.html"


def percent(fraction: float | None, digits: int = 2) -> str:
    """Write a fraction in percent; a dash where there is none."""
    return "–" if fraction is None else f"{100 * fraction:.{digits}f}"


def duration(seconds: float) -> str:
    """Write seconds as people say them.

    >>> duration(5.04), duration(75)
    ('5.0 s', '1:15 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds) // 60
    if minutes < 60:
        return f"{minutes}:{int(seconds) % 60:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"


def last_line(text: str) -> str:
    """The last line of a traceback, which says what went wrong."""
    return (text.strip().splitlines() or ["no message"])[-1]
