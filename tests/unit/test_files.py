"""Files and folders appear whole, on disk, and a kill or a failure between two renames loses nothing."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from harness.system import files

KILLED = """
import os, signal, sys
from pathlib import Path
from harness.system import files
step, place, renames = int(sys.argv[1]), Path(sys.argv[2]), [0]
rename = Path.rename
def counted(self, target):
    if renames[0] == step:
        os.kill(os.getpid(), signal.SIGKILL)
    renames[0] += 1
    return rename(self, target)
Path.rename = counted
files.swap_folder(place / "new", place / "set")
"""


def make(folder: Path, text: str) -> Path:
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "file").write_text(text)
    return folder


def text_of(folder: Path) -> str:
    return (folder / "below" / "file").read_text()


@pytest.mark.parametrize("step", [0, 1])
def test_a_swap_killed_at_any_rename_leaves_the_old_folder_after_a_recovery(
    tmp_path: Path, step: int
) -> None:
    make(tmp_path / "set", "old"), make(tmp_path / "new", "new")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    answer = subprocess.run([sys.executable, "-c", KILLED, str(step), str(tmp_path)], env=environment)
    assert answer.returncode == -signal.SIGKILL
    files.recover_folder(tmp_path / "set")
    assert text_of(tmp_path / "set") == "old"
    files.swap_folder(tmp_path / "new", tmp_path / "set")
    assert text_of(tmp_path / "set") == "new" and [p.name for p in tmp_path.iterdir()] == ["set"]


def test_what_a_kill_left_after_the_swap_is_swept_away(tmp_path: Path) -> None:
    make(tmp_path / "set", "new"), make(tmp_path / ".set.7.old", "old")
    files.recover_folder(tmp_path / "set")
    assert text_of(tmp_path / "set") == "new" and [p.name for p in tmp_path.iterdir()] == ["set"]


def test_every_file_is_on_disk_before_the_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def watched_sync(descriptor: int) -> None:
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def watched_rename(self: Path, target: Path) -> Path:
        done.append(f"{self.name} → {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    files.swap_folder(make(tmp_path / "new", "new"), tmp_path / "set")
    assert done.index("file") < done.index("new → set") < done.index(tmp_path.name)


def test_a_file_is_on_disk_before_and_its_name_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, (tmp_path / "a.npy").exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    files.save_array(tmp_path / "a.npy", np.arange(3))
    assert [is_there for _, is_there in synced] == [False, True] and synced[1][0] == tmp_path.name
    files.save_text(tmp_path / "often", "x", is_durable=False)
    assert len(synced) == 2


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    files.save_text(tmp_path / "f", "old")
    with pytest.raises(OSError), files.aside(tmp_path / "f") as temporary:
        temporary.write_text("half")
        raise OSError("full")
    assert (tmp_path / "f").read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["f"]


def test_what_a_killed_writer_left_is_removed_when_its_file_is_written_again(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    host = platform.node()
    (tmp_path / f".f.{host}-{dead.pid}").write_text("half")
    (tmp_path / f".f.{host}-{os.getppid()}").write_text("somebody is at it")
    (tmp_path / f".f.elsewhere-{dead.pid}").write_text("of another host")
    (tmp_path / f".set.{host}-{dead.pid}.new").mkdir()
    files.save_text(tmp_path / "f", "whole")
    with files.replaced_folder(tmp_path / "set") as folder:
        (folder / "file").write_text("x")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"f", "set", f".f.{host}-{os.getppid()}", f".f.elsewhere-{dead.pid}"}


def test_what_is_listed_and_then_gone_is_left_out(tmp_path: Path) -> None:
    """Other processes remove files between a listing and a look at them."""
    for i, name in enumerate(("c", "a", "b", "gone")):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (i // 2, i // 2))
    listed = sorted(tmp_path.iterdir())
    (tmp_path / "gone").unlink()
    assert [path.name for path in files.newest_last(listed)] == ["a", "c", "b"]
    assert files.state(tmp_path / "gone") is None and files.state(tmp_path / "a" / "below a file") is None
    found = files.state(tmp_path / "a")
    assert found and found.st_size == 1


@pytest.mark.parametrize("is_faster", [True, False])
def test_a_recovery_that_is_refused_says_so_unless_another_was_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_faster: bool
) -> None:
    make(tmp_path / ".set.7.old", "old")
    rename = Path.rename

    def refused(path: Path, target: Path) -> None:
        if is_faster:
            rename(path, target)
        raise PermissionError(13, "refused")

    monkeypatch.setattr(Path, "rename", refused)
    with nullcontext() if is_faster else pytest.raises(PermissionError):
        files.recover_folder(tmp_path / "set")
    assert text_of(tmp_path / ("set" if is_faster else ".set.7.old")) == "old"
