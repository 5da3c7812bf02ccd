"""What is recorded of the code that made a run."""

from __future__ import annotations

import subprocess
from pathlib import Path

from harness.system.provenance import commit_of


def test_commit_is_marked_for_code_but_not_for_results(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        done = subprocess.run(
            ["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    assert commit_of(tmp_path) == ""
    git("init", "-q")
    (tmp_path / "reports").mkdir()
    for name in ("code.py", "results.db", "reports/index.html"):
        (tmp_path / name).write_text("1")
    git("add", ".")
    git("commit", "-qm", "one")
    head = git("rev-parse", "HEAD")[:12]
    assert commit_of(tmp_path) == head
    for name in ("results.db", "reports/index.html"):
        (tmp_path / name).write_text("2")
    assert commit_of(tmp_path) == head
    (tmp_path / "code.py").write_text("2")
    assert commit_of(tmp_path) == head + "+"
