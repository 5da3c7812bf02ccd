from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from omniglot_zips import N_DRAWINGS, SMALL1, SMALL2, page, register, write_background, write_runs

from harness.errors import ConfigError, DataError
from harness.images.pipelines import STRAIGHT, decode
from harness.images.prepare import plans, prepare
from harness.images.sources import omniglot, splits


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "source"
    (folder / "one-shot-classification").mkdir(parents=True)
    small1 = write_background(folder / "images_background_small1.zip", SMALL1)
    small2 = write_background(folder / "images_background_small2.zip", SMALL2)
    runs = write_runs(folder / "one-shot-classification" / "all_runs.zip")
    register(monkeypatch, small1, small2, runs)
    return folder


def test_a_folder_is_prepared_as_far_as_it_goes(source: Path, tmp_path: Path) -> None:
    done = prepare("omniglot", [source], tmp_path / "data")
    assert [d.dataset.manifest.dataset for d in done] == ["omniglot-small", "omniglot-runs"]
    assert [d.change for d in done] == ["new", "new"]
    assert [d.change for d in prepare("omniglot", [source], tmp_path / "data")] == ["unchanged"] * 2


def test_the_two_small_sets_are_united_and_shared_alphabets_count_once(source: Path, tmp_path: Path) -> None:
    prepared = prepare("omniglot-small", [source], tmp_path / "data")[0].dataset
    assert prepared.class_names == (
        "Balinese/character01",
        "Balinese/character02",
        "Greek/character01",
        "Greek/character02",
        "Tagalog/character01",
    )
    assert prepared.groups == ("Balinese",) * 2 + ("Greek",) * 2 + ("Tagalog",)
    assert prepared.counts.tolist() == [N_DRAWINGS] * 5
    assert prepared.manifest.population == "background-small1+background-small2"
    assert (prepared.manifest.pipeline, prepared.manifest.size, prepared.manifest.mode) == ("area", 28, "L")


def test_drawings_are_in_drawer_order_and_authors_belong_to_an_alphabet(source: Path, tmp_path: Path) -> None:
    prepared = prepare("omniglot-small", [source], tmp_path / "data")[0].dataset
    name, file, author = prepared.files()[2 * N_DRAWINGS + 6]
    number = file.split("_")[0]
    assert (name, file, author) == ("Greek/character01", f"{number}_07.png", "Greek/07")
    expected = STRAIGHT(decode(page(int(number) * 100 + 7), "L"), 28)
    np.testing.assert_array_equal(prepared.map("area", 28)[2 * N_DRAWINGS + 6], expected)


def test_adding_the_second_small_set_later_gives_the_same(source: Path, tmp_path: Path) -> None:
    both = prepare("omniglot-small", [source], tmp_path / "both")[0].dataset
    first, second = (source / f"images_background_small{i}.zip" for i in (2, 1))
    assert prepare("omniglot", [first], tmp_path / "data")[0].dataset.groups == ("Greek",) * 2 + ("Tagalog",)
    done = prepare("omniglot", [second], tmp_path / "data")[0]
    assert done.change == "extended"
    assert done.dataset.manifest.classes == both.manifest.classes
    assert done.dataset.manifest.population == both.manifest.population
    assert done.dataset.class_digests("area", 28) == both.class_digests("area", 28)
    assert done.dataset.files() == both.files()


def test_runs_pair_each_training_image_with_its_test_item(source: Path, tmp_path: Path) -> None:
    prepared = prepare("omniglot-runs", [source], tmp_path / "data")[0].dataset
    assert len(prepared.class_names) == 40
    assert prepared.class_names[20] == "run02/character01"
    assert set(prepared.groups) == {"Atlantean"}
    assert prepared.counts.tolist() == [2] * 40
    files = [file for name, file, _ in prepared.files() if name == "run02/character03"]
    assert files == ["run02/training/class03.png", "run02/test/item18.png"]


def test_a_zip_under_another_name_is_known_by_its_md5(source: Path, tmp_path: Path) -> None:
    renamed = shutil.copy(source / "images_background_small1.zip", tmp_path / "download (1)")
    assert prepare("omniglot", [Path(renamed)], tmp_path / "data")[0].dataset.groups[0] == "Balinese"


def test_a_wrong_md5_says_what_was_found_and_expected(tmp_path: Path) -> None:
    changed = write_background(tmp_path / "images_background.zip", {"Greek": 1})
    with pytest.raises(DataError, match="68d2efa1b9178cc56df9314c21c6e718 was expected") as caught:
        prepare("omniglot", [changed], tmp_path / "data")
    assert caught.value.exit_code == 3
    assert not (tmp_path / "data" / "omniglot").exists()


def test_a_truncated_zip_and_a_web_page_are_refused(source: Path, tmp_path: Path) -> None:
    path = source / "images_background_small1.zip"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="truncated"):
        prepare("omniglot", [path], tmp_path / "data")
    path.write_text("<!DOCTYPE html><title>404</title>")
    with pytest.raises(DataError, match="web page"):
        prepare("omniglot", [path], tmp_path / "data")
    assert not (tmp_path / "data" / "omniglot-small").exists()


@pytest.mark.parametrize("member", ["images/Greek/0001_01.png", "images/Greek/character01/0001.png"])
def test_another_layout_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: str) -> None:
    path = tmp_path / "images_background.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, page(0))
    register(monkeypatch, path)
    with pytest.raises(DataError, match="is not <set>/<alphabet>"):
        prepare("omniglot", [path], tmp_path / "data")


def test_runs_without_answers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "all_runs.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("run01/test/item01.png", page(0))
    register(monkeypatch, path)
    with pytest.raises(DataError, match=r"neither a training image nor in class_labels\.txt"):
        prepare("omniglot-runs", [path], tmp_path / "data")


def test_a_folder_without_zips_lists_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"images_background_small1\.zip, images_background_small2\.zip"):
        prepare("omniglot-small", [tmp_path], tmp_path / "data")
    with pytest.raises(ConfigError, match="does not exist"):
        prepare("omniglot", [tmp_path / "nowhere"], tmp_path / "data")


def test_an_unknown_data_set_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean `omniglot`"):
        prepare("omnigot", [tmp_path], tmp_path / "data")


def test_without_a_source_the_public_zips_are_downloaded(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(omniglot, "_ADDRESS", source.as_uri())
    done = prepare("omniglot-runs", [], tmp_path / "data")
    assert done[0].change == "new"


def test_a_plan_tells_disk_need_and_writes_nothing(source: Path, tmp_path: Path) -> None:
    planned = plans("omniglot", [source], tmp_path / "data")
    assert [(p.dataset, p.n_images) for p in planned] == [("omniglot-small", 140), ("omniglot-runs", 80)]
    assert planned[0].disk_bytes > 140 * 28 * 28
    assert not (tmp_path / "data").exists()


def test_public_addresses_are_those_of_the_repository() -> None:
    root = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
    assert {z.url for z in omniglot.ZIPS} == {
        f"{root}/{name}"
        for name in (
            "images_background.zip",
            "images_evaluation.zip",
            "images_background_small1.zip",
            "images_background_small2.zip",
            "one-shot-classification/all_runs.zip",
        )
    }


@pytest.fixture
def known_characters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Split files of the tiny sets."""

    def characters(alphabets: dict[str, int]) -> dict[str, int]:
        return {f"{a}/character{c:02d}": N_DRAWINGS for a, n in alphabets.items() for c in range(1, n + 1)}

    runs = {f"run{r:02d}/character{c:02d}": 2 for r in (1, 2) for c in range(1, 21)}
    small = {"small1": characters(SMALL1), "small2": characters(SMALL2), "runs": runs}
    full = {"background": characters({"Latin": 1}), "base": {}, "validation": {}, "novel": {}}
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "omniglot-small.json").write_text(json.dumps(small))
    (tmp_path / "splits" / "omniglot.json").write_text(json.dumps(full))
    monkeypatch.setattr(splits, "FOLDER", tmp_path / "splits")


def unpacked(source: Path, root: Path) -> Path:
    for path in source.rglob("*.zip"):
        target = root if path.stem != "all_runs" else root / "all_runs"
        with zipfile.ZipFile(path) as archive:
            archive.extractall(target)
    return root


@pytest.mark.parametrize("name", ["", "my omniglot"])
def test_folders_that_were_zips_are_known_by_what_is_in_them(
    source: Path, tmp_path: Path, known_characters: None, name: str
) -> None:
    root = unpacked(source, tmp_path / "unpacked")
    if name:
        (root / "images_background_small1").rename(root / name)
    expected = [d.dataset for d in prepare("omniglot", [source], tmp_path / "a")]
    found = [d.dataset for d in prepare("omniglot", [root], tmp_path / "b")]
    for one, other in zip(expected, found, strict=True):
        assert one.files() == other.files() and one.class_digests("area", 28) == other.class_digests(
            "area", 28
        )
        assert one.manifest.population == other.manifest.population


def test_the_folder_of_one_set_may_be_given_itself(
    source: Path, tmp_path: Path, known_characters: None
) -> None:
    root = unpacked(source, tmp_path / "unpacked") / "images_background_small2"
    assert (
        prepare("omniglot-small", [root], tmp_path / "b")[0].dataset.class_names[-1] == "Tagalog/character01"
    )


def test_half_a_zip_beside_its_folder_is_not_used_and_half_a_folder_is_refused(
    source: Path, tmp_path: Path, known_characters: None
) -> None:
    root = unpacked(source, tmp_path / "unpacked")
    (root / "images_background_small1.zip").write_bytes(
        (source / "images_background_small1.zip").read_bytes()[:500]
    )
    assert len(prepare("omniglot-small", [root], tmp_path / "b")[0].dataset.class_names) == 5
    next((root / "images_background_small1").rglob("*_20.png")).unlink()
    with pytest.raises(
        DataError, match=r"images_background_small1\.zip unpacked: 1 characters have another number.*19 of 20"
    ):
        prepare("omniglot-small", [root], tmp_path / "c")


def test_what_is_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "x" / "birds").mkdir(parents=True)
    with pytest.raises(DataError, match=r"nor their folders\. .*x has birds/"):
        prepare("omniglot-small", [tmp_path / "x"], tmp_path / "data")
