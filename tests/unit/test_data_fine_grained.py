"""Oxford Flowers, Oxford-IIIT Pets and Stanford Dogs in the layouts of their archives, with two or three classes."""

from __future__ import annotations

import json
import logging
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import rehearsal_sources as sources

from harness import benchmarks
from harness.errors import DataError
from harness.images.prepare import plans, prepare
from harness.images.sources import splits

FLOWERS = {"001.pink primrose": 5, "002.hard-leaved pocket orchid": 6, "003.canterbury bells": 4}
SPLITS = {
    "flowers": {
        "all": FLOWERS,
        "train": dict.fromkeys(FLOWERS, 1),
        "val": dict.fromkeys(FLOWERS, 2),
        "test": {name: n - 3 for name, n in FLOWERS.items()},
    },
    "pets": {
        "all": {"Abyssinian": 5, "english_cocker_spaniel": 4},
        "trainval": {"Abyssinian": 3, "english_cocker_spaniel": 3},
        "test": {"Abyssinian": 2, "english_cocker_spaniel": 1},
    },
    "dogs": {
        "all": {"n02085620-Chihuahua": 5, "n02089078-black-and-tan_coonhound": 4},
        "train": {"n02085620-Chihuahua": 3, "n02089078-black-and-tan_coonhound": 3},
        "test": {"n02085620-Chihuahua": 2, "n02089078-black-and-tan_coonhound": 1},
    },
}
WRITE: dict[str, Callable[[Path, Path], Path]] = {
    "flowers": sources.write_flowers,
    "pets": sources.write_pets,
    "dogs": sources.write_dogs,
}
PARTS = ("train", "val", "trainval", "test")
SETS = pytest.mark.parametrize("name", SPLITS)


@pytest.fixture(autouse=True)
def small_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "splits").mkdir()
    for name, split in SPLITS.items():
        (tmp_path / "splits" / f"{name}.json").write_text(json.dumps(split))
    monkeypatch.setattr(benchmarks, "every", tuple)  # they count the real classes
    monkeypatch.setattr(splits, "FOLDER", tmp_path / "splits")


def made(name: str, tmp_path: Path) -> Path:
    return WRITE[name](tmp_path / name, tmp_path)


@SETS
def test_classes_are_whole_and_their_parts_lie_one_after_the_other(name: str, tmp_path: Path) -> None:
    source = made(name, tmp_path)
    found = prepare(name, [source], tmp_path / "data", accept_terms=True)[0].dataset
    split = SPLITS[name]
    assert dict(zip(found.class_names, found.counts.tolist(), strict=True)) == split["all"]
    told = told_parts(name, source)
    rows = [(c, told[file]) for c, file, _ in found.files()]
    expected = [
        (c, part)
        for c in sorted(split["all"])
        for part in PARTS
        for _ in range(split.get(part, {}).get(c, 0))
    ]
    assert rows == expected


def told_parts(name: str, source: Path) -> dict[str, str]:
    """File → part, read from the lists by other means than the reader's."""
    from scipy.io import loadmat

    if name == "flowers":
        card = loadmat(source / "setid.mat")
        keys = {"train": "trnid", "val": "valid", "test": "tstid"}
        return {f"image_{n:05d}.jpg": part for part, key in keys.items() for n in card[key][0]}
    told = {}
    archive = "annotations.tar.gz" if name == "pets" else "lists.tar"
    with tarfile.open(source / archive) as tar:
        tar.extractall(source / "lists", filter="data")
    if name == "pets":
        for part in ("trainval", "test"):
            lines = (source / f"lists/annotations/{part}.txt").read_text().splitlines()
            told.update({f"{line.split()[0]}.jpg": part for line in lines})
        return told
    for part in ("train", "test"):
        for row in loadmat(source / f"lists/{part}_list.mat")["file_list"]:
            told[str(row[0][0]).split("/")[1]] = part
    return told


@SETS
def test_unpacked_folders_are_the_same_set(name: str, tmp_path: Path) -> None:
    source = made(name, tmp_path)
    expected = prepare(name, [source], tmp_path / "a", accept_terms=True)[0].dataset
    root = tmp_path / "unpacked"
    root.mkdir()
    for path in source.iterdir():
        if path.suffix == ".mat":
            shutil.copy(path, root)
            continue
        with tarfile.open(path) as tar:
            tar.extractall(root, filter="data")
    found = prepare(name, [root], tmp_path / "b", accept_terms=True)[0].dataset
    assert found.files() == expected.files()
    assert found.class_digests("feat", 84) == expected.class_digests("feat", 84)
    given = sorted(source.iterdir())  # each file by itself
    assert plans(name, given, tmp_path / "c", accept_terms=True)[0].n_images == expected.manifest.n_images


@SETS
def test_digests_of_archive_and_lists_are_recorded(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "fsbench.data"):
        plan = plans(name, [made(name, tmp_path)], tmp_path / "data", accept_terms=True)[0]
    assert len(plan.sources) == 3 and all(len(card.md5) == 32 for card in plan.sources)
    is_published = name != "dogs"  # whose authors publish no md5
    assert ("the published file" in caplog.text) == is_published  # made up, so other than published


@SETS
def test_a_picture_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    source = made(name, tmp_path)
    archive = next(path for path in source.iterdir() if path.name.startswith(("images.", "102")))
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    archive.unlink()
    lost = min((tmp_path / "unpacked").rglob("*.jpg"))
    lost.unlink()
    with pytest.raises(DataError, match=f"lacks 1 of the .* pictures .*: {lost.name}"):
        plans(name, [source, tmp_path / "unpacked"], tmp_path / "data", accept_terms=True)


@SETS
def test_other_lists_are_refused_with_what_differs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = made(name, tmp_path)
    split = json.loads((tmp_path / "splits" / f"{name}.json").read_text())
    first = next(iter(split["all"]))
    split["test"][first] += 1
    split["all"][first] += 1
    (tmp_path / "splits" / f"{name}.json").write_text(json.dumps(split))
    n = split["test"][first]
    with pytest.raises(
        DataError, match=f"not the official lists of {name}: {first} has {n - 1} test pictures of {n}"
    ):
        plans(name, [source], tmp_path / "data", accept_terms=True)


@SETS
def test_what_is_missing_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=rf"has no .*`fsbench prepare {name} --source PATH"):
        plans(name, [tmp_path / "empty"], tmp_path / "data", accept_terms=True)
    source = made(name, tmp_path)
    for path in source.iterdir():
        if path.name.startswith(("images.", "102")):
            path.unlink()
    with pytest.raises(DataError, match="has neither"):
        plans(name, [source], tmp_path / "data", accept_terms=True)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"MATLAB 5.0 MAT-file" + bytes(200)])
def test_a_broken_list_is_named(content: bytes, tmp_path: Path) -> None:
    source = made("flowers", tmp_path)
    (source / "setid.mat").write_bytes(content)
    with pytest.raises(DataError, match=r"setid\.mat (is not a MATLAB file|has no variable)"):
        plans("flowers", [source], tmp_path / "data")


def test_dogs_ask_for_their_terms(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ImageNet pictures"):
        plans("dogs", [made("dogs", tmp_path)], tmp_path / "data")
