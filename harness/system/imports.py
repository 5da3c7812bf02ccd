"""Whether packages really import: asked of a process of their own, which a broken library may end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

_SECONDS = 300
_MARK = "fsbench-import "
_LOOK = f"""
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        problem = ""
    except BaseException as error:
        problem = (type(error).__name__ + ": " + str(error)).replace("\\n", " ")
    sys.stdout.write("\\n{_MARK}" + problem + "\\n")
    sys.stdout.flush()
"""


def import_problems(modules: Sequence[str]) -> dict[str, str]:
    """Import modules one after the other, and say which cannot be and why.

    Args:
        modules: names, such as "cv2".

    Returns:
        Module → what is wrong with it; modules that import are left out.
    """
    left, problems = list(modules), dict[str, str]()
    while left:
        told, end = _import(left)
        problems.update({name: problem for name, problem in zip(left, told, strict=False) if problem})
        if len(told) < len(left):
            problems[left[len(told)]] = end  # the process came no further
        left = left[len(told) + 1 :]
    return problems


def _import(modules: Sequence[str]) -> tuple[list[str], str]:
    """What a process says of each module that it came to, and how it ended where it did not come to all."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _LOOK, *modules],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
        )
        said, end = done.stdout, f"importing it ends the process (code {done.returncode})"
    except subprocess.TimeoutExpired as error:
        said = (
            error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else error.stdout or ""
        )
        end = f"importing it takes more than {_SECONDS} s"
    return [line.removeprefix(_MARK) for line in said.splitlines() if line.startswith(_MARK)], end
