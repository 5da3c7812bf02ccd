"""What `fsbench doctor` says about packages and the database, and that nothing stops it."""

from __future__ import annotations

import sqlite3
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from stored_results import filled, run_of

from harness.cli import doctor
from harness.errors import ConfigError
from harness.system.folders import Places
from harness.system.imports import import_problems


def test_a_package_of_an_extra_may_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name in ("qpth", "POT"):
            raise PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr(doctor, "import_problems", lambda modules: {})
    levels = {what: (level, found) for level, what, found in doctor._packages()}
    assert levels["packages"][0] == "ok"
    assert levels["extra qpth"] == ("missing", "for what asks for it, type: pip install qpth")
    assert levels["extra deepemd"] == ("missing", "for what asks for it, type: pip install numba POT")


def test_a_package_that_everything_needs_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "scipy":
            raise PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr(doctor, "import_problems", lambda modules: {})
    assert ("error", "packages", "not installed: scipy") in doctor._packages()
    assert ("ok", "extra deepemd", "numba 1, POT 1") in doctor._packages()


def test_packages_are_really_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "breaks.py").write_text("raise OSError('libGL.so.1 is\\nnot there')")
    (tmp_path / "ends.py").write_text("import os; os._exit(7)")
    (tmp_path / "prints.py").write_text("print('hello')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert import_problems(["json", "breaks", "prints", "ends", "absent", "zlib"]) == {
        "breaks": "OSError: libGL.so.1 is not there",
        "ends": "importing it ends the process (code 7)",
        "absent": "ModuleNotFoundError: No module named 'absent'",
    }
    assert import_problems([]) == {}


def test_a_package_that_does_not_import_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", lambda name: "1")
    monkeypatch.setattr(doctor, "import_problems", lambda modules: {"cv2": "ImportError: libGL"})
    [line] = [line for line in doctor._packages() if line[0] == "error"]
    assert line[1] == "package opencv-python-headless" and "`import cv2` fails: ImportError: libGL" in line[2]


@pytest.fixture
def where(tmp_path: Path) -> Places:
    filled(str(tmp_path / "results.db"), [run_of()]).close()
    return Places(tmp_path, tmp_path / "data", tmp_path / "cache", str(tmp_path / "results.db"))


def looked(where: Places, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, str]]:
    monkeypatch.setattr(doctor, "import_problems", lambda modules: {})
    return {row["what"]: (row["level"], row["found"]) for row in doctor.examine(where)}


def test_edited_counts_are_noticed(where: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked(where, monkeypatch)["database"] == ("ok", f"{where.db}, 1 runs")
    with sqlite3.connect(where.db) as db:
        db.execute("UPDATE result SET n_correct = n_query")
    found = looked(where, monkeypatch)
    assert found["database"][0] == "error"
    [row] = [said for what, (level, said) in found.items() if what.startswith("row ") and level == "error"]
    assert "they were edited or damaged" in row and "`fsbench fsck`" in row


@pytest.mark.parametrize("content", [b"not a database" * 1000, b""])
def test_it_goes_on_after_a_damaged_database(
    where: Places, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(where.db).write_bytes(content)
    found = looked(where, monkeypatch)
    assert {"device", "methods", "benchmarks", "home"} <= found.keys()
    assert any(level == "error" for what, (level, _) in found.items() if what.startswith("database"))


def test_a_part_that_fails_is_a_line(where: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ConfigError("benchmarks/mine.toml cannot be read")

    monkeypatch.setattr(doctor.benchmarks, "every", broken)
    found = looked(where, monkeypatch)
    assert found["benchmarks"] == ("error", "benchmarks/mine.toml cannot be read")
    assert found["database"][0] == "ok"
