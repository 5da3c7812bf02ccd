"""pip, asked of what lies on the package index."""

from __future__ import annotations

import subprocess
import sys

from absent import absent


def pip(*words: str) -> None:
    """Run pip, which must succeed where an index can be reached."""
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True)
    if "Failed to establish a new connection" in done.stderr:
        absent("no package index can be reached")
    assert done.returncode == 0, done.stderr
