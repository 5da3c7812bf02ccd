"""kill -9 at random moments of the commands that bring things in, send them out and write pages: the same command typed
again gives what an undisturbed one gives, and nothing is left over. Runs themselves: test_faults.py; fsck: test_rot.py.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_up_results import fill, result
from PIL import Image
from scratch_home import TINY, Home

from harness.store import Store

N_KILLS = 4  # of each command
RUN = ["run", "-m", "protonet", "-b", "glyphs-5w1s", "--episodes", "60", *TINY]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a run and its checkpoint, a database and an archive of somebody else's, and pictures."""
    folder = tmp_path_factory.mktemp("scene")
    home = Home(folder / "home", folder / "data")
    home.run(*RUN)
    home.run("run", "-m", "pixels", "-b", "glyphs-5w1s,glyphs-5w5s,glyphs-20w1s")
    home.run("export", "all", str(folder / "theirs.tar.zst"), "--with-fits")
    with Store.open(folder / "theirs.db", create=True) as theirs:
        fill(theirs, n_methods=3, n_episodes=200)
        theirs.ingest(result("other", n_episodes=2000))
    rng = np.random.default_rng(0)
    for kind in range(8):
        (folder / "pictures" / f"kind{kind}").mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / f"kind{kind}" / f"{i}.png")
    return folder


def files_of(folder: Path) -> dict[str, str]:
    """Every file with its digest; hidden ones too, which are what a kill may leave."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def content(home: Home) -> object:
    return home.content


def pages(home: Home) -> object:
    return {
        name: digest for name, digest in files_of(home.folder / "reports").items() if name != "report.json"
    }


def archive(home: Home) -> object:
    return files_of(home.folder / "out")


def prepared(home: Home) -> object:
    return {
        name: digest
        for name, digest in files_of(home.data).items()
        if not name.endswith(("manifest.json", "images.csv")) and "glyphs" not in name
    }


COMMANDS: dict[str, tuple[list[str], Callable[[Home], object]]] = {
    "merge": (["merge", "SCENE/home/results.db"], content),
    "import": (["import", "SCENE/theirs.tar.zst"], content),
    "export": (["export", "all", "out/ours.tar.zst", "--with-fits"], archive),
    "report": (["report"], pages),
    "collect": (["collect"], content),
    "import-folder": (["import-folder", "SCENE/pictures", "--name", "kinds", "--size", "32"], prepared),
}


def stage(scene: Path, place: Path, name: str) -> Home:
    """A home in the state before a command."""
    shutil.copytree(scene / "home", place / "home")
    home = Home(place / "home", place / "data" if name == "import-folder" else scene / "data")
    (home.folder / "out").mkdir()
    if name in ("merge", "import", "collect"):
        (home.folder / "results.db").unlink()
    if name == "import":
        shutil.rmtree(home.folder / "runs"), shutil.rmtree(home.folder / "cache")
    if name == "report":
        shutil.copy(scene / "theirs.db", home.folder / "results.db")
    return home


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.nightly] * (name != "collect")) for name in COMMANDS]
)
def test_a_command_killed_at_random_moments_ends_as_an_undisturbed_one(
    scene: Path, tmp_path: Path, name: str
) -> None:
    words, outcome = COMMANDS[name]
    words = [word.replace("SCENE", str(scene)) for word in words]
    whole = stage(scene, tmp_path / "whole", name)
    began = time.monotonic()
    whole.run(*words)
    seconds, moments = time.monotonic() - began, random.Random(name)
    killed = stage(scene, tmp_path / "killed", name)
    for _ in range(N_KILLS):
        process = killed.start(*words)
        time.sleep(moments.uniform(0.3, 1.1) * seconds)
        process.kill()
        process.communicate()
    killed.run(*words)
    assert outcome(killed) == outcome(whole)
    left = set(files_of(killed.folder)) - set(files_of(whole.folder))
    assert not {path for path in left if not path.startswith(("reports/", "cache/answers/"))}, left
