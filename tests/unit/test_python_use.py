"""`import harness`: fixed episodes and pixels as numpy, without torch and at no cost until asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import harness
from harness import benchmarks
from harness.errors import ConfigError


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def test_three_lines_give_rows_of_images_as_numpy(data: Path) -> None:
    setting = harness.load("glyphs-5w1s", data)
    images, labels = setting.images(), setting.labels()
    assert images.dtype == np.uint8 and images.shape == (40 * 20, 28, 28, 1)
    for episode in setting.episodes(50):
        assert episode.support.shape == (5,) and episode.support.dtype == np.int64
        assert episode.query.shape == (75,)
        names = labels[episode.support]  # a class is one class: support and queries of a label agree
        assert np.array_equal(names[episode.query_label], labels[episode.query])
        assert np.array_equal(episode.classes[episode.support_label], names)


def test_episodes_are_those_of_runs(data: Path) -> None:
    own, known = harness.load("glyphs-5w5s", data), benchmarks.load("glyphs-5w5s")
    assert len(own.episodes()) == known.n_episodes == 2000
    assert own.setting.episodes.digest == known.digest
    with pytest.raises(ConfigError, match="has 10000 episodes, not 10001"):
        own.episodes(10_001)


@pytest.mark.parametrize("role", ["base", "validation", "novel"])
def test_images_are_those_that_runs_see(data: Path, role: benchmarks.RoleName) -> None:
    setting = harness.load("glyphs-5w1s", data)
    store = setting.setting.benchmark.open(role, data)
    images = setting.images(role)
    np.testing.assert_array_equal(images, store.images(range(len(store))))
    assert len(images) == len(setting.labels(role))
    assert setting.class_names(role) == store.class_names


def test_images_that_lie_together_are_not_copied(data: Path) -> None:
    images = harness.load("glyphs-digits-5w1s", data).images()
    assert not images.flags.owndata and not images.flags.writeable
    assert harness.load("glyphs-5w1s", data).images().flags.owndata  # 20 of 40 drawings of each class


def test_a_role_that_is_not_there_is_named(data: Path) -> None:
    with pytest.raises(ConfigError, match="has no validation classes; it has base, novel"):
        harness.load("omniglot-lake-20w1s", data).images("validation")


def test_nothing_heavy_is_imported() -> None:
    program = (
        "import sys, harness\n"
        "assert not [m for m in sys.modules if m.startswith(('harness.', 'numpy'))]\n"
        "harness.load('glyphs-5w1s').episodes(3)\n"
        "assert not {'torch', 'pandas', 'sqlalchemy', 'cv2', 'scipy'} & set(sys.modules), sorted(sys.modules)\n"
        "assert not hasattr(harness, 'nothing')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
