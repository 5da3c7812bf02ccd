"""What `pip` makes of the requirements where nothing is installed yet."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from package_index import pip
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_python_3_13_takes_everything_but_qpth(tmp_path: Path) -> None:
    """Resolved from the wheels of the pinned versions, and nothing built or installed.

    Without torch and torchvision, whose wheels for it are gigabytes where no smaller ones are at hand: these are not
    tested here.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    given = [*project["dependencies"], *extras["deepemd"], *extras["postgres"]]
    wanted = [text for text in given if Requirement(text).name not in ("torch", "torchvision")]
    assert len(given) - len(wanted) == 2
    pins = (ROOT / "constraints.txt").read_text()
    (tmp_path / "pins.txt").write_text(re.sub(r"^(numpy|qpth)==.*\n", "", pins, flags=re.MULTILINE))
    pip(
        *("install", "--dry-run", "--ignore-installed", "--quiet"),
        *("--only-binary=:all:", "--python-version", "3.13", "--target", str(tmp_path / "nothing")),
        *("--constraint", str(tmp_path / "pins.txt"), "--report", str(tmp_path / "report.json"), *wanted),
    )
    found = json.loads((tmp_path / "report.json").read_text())["install"]
    versions = {one["metadata"]["name"].lower(): one["metadata"]["version"] for one in found}
    assert int(versions["numpy"].partition(".")[0]) >= 2
    assert {"numba", "pot", "opencv-python-headless"} <= set(versions) and "qpth" not in versions
    assert not (tmp_path / "nothing").exists()
