"""Lake's own zips, read through the public functions."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from picture_files import class_images

from harness.errors import DataError
from harness.images.inputs import to_float
from harness.images.pipelines import decode, pipeline
from harness.images.prepare import prepare
from harness.images.sources.archives import md5
from harness.images.stores import PreparedSet
from harness.images.verify import verify

pytestmark = pytest.mark.real_data
GOLDEN = Path(__file__).parents[1] / "golden" / "metric_learning"
SHARE = "data/omniglot"


@pytest.fixture(scope="module")
def prepared(
    shared_path: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, PreparedSet]:
    done = prepare("omniglot", [shared_path(SHARE)], tmp_path_factory.mktemp("data"))
    return {d.dataset.manifest.dataset: d.dataset for d in done}


def test_the_small_sets_have_the_published_counts(prepared: dict[str, PreparedSet]) -> None:
    small = prepared["omniglot-small"]
    alphabets = dict(zip(*np.unique(small.groups, return_counts=True), strict=True))
    assert alphabets == {
        "Balinese": 24,
        "Early_Aramaic": 22,
        "Greek": 24,
        "Japanese_(katakana)": 47,
        "Korean": 40,
        "Latin": 26,
        "Sanskrit": 42,
        "Tagalog": 17,
    }
    assert small.counts.tolist() == [20] * 242
    assert {a.split("/")[1] for _, _, a in small.files()} == {f"{d:02d}" for d in range(1, 21)}


def test_one_small_set_after_the_other_gives_the_same_pixels(
    prepared: dict[str, PreparedSet], shared_path: Callable[[str], Path], tmp_path: Path
) -> None:
    for i in (2, 1):
        done = prepare("omniglot-small", [shared_path(f"{SHARE}/images_background_small{i}.zip")], tmp_path)
    both = prepared["omniglot-small"]
    assert done[0].dataset.class_digests("area", 28) == both.class_digests("area", 28)


def test_snell_pixels_are_those_of_the_official_code(
    prepared: dict[str, PreparedSet], shared_path: Callable[[str], Path]
) -> None:
    with np.load(GOLDEN / "omniglot_preprocess.npz") as golden:
        names, expected = golden["member"].tolist(), golden["image"]
    small = prepared["omniglot-small"]
    for name, four in zip(names, expected, strict=True):
        _, alphabet, character, file = name.split("/")
        drawing = int(file[5:7]) - 1  # IIII_DD.png: every drawer is there, in order
        store = small.select([f"{alphabet}/{character}"], "snell", 28, rotations=True)
        for turn in range(4):
            seen = to_float(torch.from_numpy(class_images(store, turn)[drawing : drawing + 1]), "snell")
            np.testing.assert_array_equal(seen[0, 0].numpy(), four[turn])


def test_area_pixels_of_a_page_keep_its_ink(
    prepared: dict[str, PreparedSet], shared_path: Callable[[str], Path]
) -> None:
    view = pipeline("area")
    with zipfile.ZipFile(shared_path(f"{SHARE}/images_background_small1.zip")) as archive:
        page = decode(archive.read("images_background_small1/Latin/character18/0700_06.png"), "L")
    stored = view.geometry(page, 28)
    seen = to_float(torch.from_numpy(stored[None]), view)
    # an area mean keeps the mean; each of 784 pixels is rounded by at most half of 1/255
    assert abs(float(seen.mean()) - (1 - np.asarray(page).mean() / 255)) < 0.5 / 255


def test_runs_carry_the_published_answers(prepared: dict[str, PreparedSet]) -> None:
    with np.load(GOLDEN / "one_shot_runs.npz") as golden:
        answer = golden["answer"]  # (run, item) → index of the right training image
    runs = prepared["omniglot-runs"]
    assert runs.counts.tolist() == [2] * 400
    found = np.zeros((20, 20), dtype=int)
    for name, file, _ in runs.files():
        if "/test/" in file:
            run, item = file.split("/test/item")
            found[int(run[3:]) - 1, int(item[:2]) - 1] = int(name[-2:]) - 1
    np.testing.assert_array_equal(found, answer)


def test_nearest_neighbour_on_pixels_makes_the_known_errors_on_the_runs(
    prepared: dict[str, PreparedSet],
) -> None:
    """79.25 % is what an independent implementation measured on 28 x 28 area-averaged pixels."""
    pixels = prepared["omniglot-runs"].map("area", 28).astype(np.float64)
    pixels = pixels.reshape(20, 20, 2, -1)  # (run, class, training | test, pixels)
    training, test = pixels[:, :, 0], pixels[:, :, 1]
    distance = ((test[:, :, None] - training[:, None]) ** 2).sum(-1)  # (run, test, training)
    assert (distance.argmin(-1) != np.arange(20)).mean() == 0.7925


def test_everything_verifies(prepared: dict[str, PreparedSet]) -> None:
    for prepared_set in prepared.values():
        findings = verify(prepared_set.folder.name, prepared_set.folder.parent)
        dealt = [
            f for f in findings if "lowshot" in f.check
        ]  # its classes are dealt across alphabets, and that is said
        assert {f.level for f in findings if f not in dealt} == {"ok"}
        assert {f.level for f in dealt} <= {"warning"}


def test_known_md5s_are_those_of_the_files(shared_path: Callable[[str], Path]) -> None:
    from harness.images.sources.omniglot import ZIPS

    known = {z.file: (z.md5, z.n_bytes) for z in ZIPS}
    for file in ("images_background_small1.zip", "images_background_small2.zip", "all_runs.zip"):
        path = shared_path(f"{SHARE}/{file}")
        assert known[file] == (md5(path), path.stat().st_size)


def test_a_cut_zip_is_refused(shared_path: Callable[[str], Path], tmp_path: Path) -> None:
    content = shared_path(f"{SHARE}/all_runs.zip").read_bytes()
    (tmp_path / "all_runs.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="was expected"):
        prepare("omniglot", [tmp_path], tmp_path / "data")
