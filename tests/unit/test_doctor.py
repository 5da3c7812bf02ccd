"""What `fsbench doctor` says about packages."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from harness.cli import doctor


def test_a_package_of_an_extra_may_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name in ("qpth", "POT"):
            raise PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(doctor, "version", version)
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
    assert ("error", "packages", "not installed: scipy") in doctor._packages()
    assert ("ok", "extra deepemd", "numba 1, POT 1") in doctor._packages()
