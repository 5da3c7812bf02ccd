"""CUB-200-2011 in the layout of its archive, with three classes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from picture_files import MODES, encoded, jpeg, noise, tar_of, unpack
from PIL import Image

from harness import benchmarks
from harness.errors import DataError
from harness.images.pipelines import SHORT_92, decode
from harness.images.prepare import plans, prepare
from harness.images.sources import splits
from harness.images.sources.cub import crop_to_box

CLASSES = {"001.Black_footed_Albatross": 3, "002.Laysan_Albatross": 2, "200.Common_Yellowthroat": 2}
BOX = (4.0, 3.0, 17.0, 12.0)


@pytest.fixture(autouse=True)
def three_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "cub.json").write_text(json.dumps({"all": CLASSES}))
    monkeypatch.setattr(benchmarks, "every", tuple)  # they count the real classes
    monkeypatch.setattr(splits, "FOLDER", tmp_path / "splits")


def archive() -> dict[str, bytes]:
    """The members in the order of the real archive: `attributes.txt` beside the folder, tables after pictures."""
    members, lines, boxes = {"attributes.txt": b"1 has_bill_shape::curved"}, [], []
    number = 0
    for name, n in CLASSES.items():
        for i in range(n):
            number += 1
            path = f"{name}/{name[4:]}_{i:04d}_{790000 + number}.jpg"
            members[f"CUB_200_2011/images/{path}"] = jpeg(number, MODES[number % 3])
            lines.append(f"{number} {path}")
            boxes.append(" ".join(map(str, (number, *BOX))))
    members["CUB_200_2011/images/001.Black_footed_Albatross/._x.jpg"] = b"resource fork"
    members["CUB_200_2011/images/.DS_Store"] = b"x"
    tables = {
        "images": "\n".join(lines),
        "bounding_boxes": "\n".join(boxes),
        "classes": "1 001.Black_footed_Albatross",
        "image_class_labels": "1 1",
        "train_test_split": "1 0",
    }
    return {**members, **{f"CUB_200_2011/{k}.txt": v.encode() for k, v in tables.items()}}


@pytest.fixture
def tgz(tmp_path: Path) -> Path:
    path = tmp_path / "CUB_200_2011.tgz"
    path.write_bytes(tar_of(archive(), "gz"))
    return path


def test_the_archive_becomes_classes_by_folder(tgz: Path, tmp_path: Path) -> None:
    found = prepare("cub", [tgz], tmp_path / "data")[0].dataset
    assert dict(zip(found.class_names, found.counts.tolist(), strict=True)) == CLASSES
    assert (found.manifest.pipeline, found.manifest.size) == ("feat-resnet12", 84)
    assert found.files()[3] == ("002.Laysan_Albatross", "Laysan_Albatross_0000_790004.jpg", "")
    content = archive()["CUB_200_2011/images/002.Laysan_Albatross/Laysan_Albatross_0000_790004.jpg"]
    with found.originals() as kept:
        assert kept.read(3) == content
    np.testing.assert_array_equal(found.map("feat", 84)[3], SHORT_92(decode(content, "RGB"), 84))


def test_folder_and_archive_are_the_same_set(tgz: Path, tmp_path: Path) -> None:
    expected = prepare("cub", [tgz], tmp_path / "a")[0].dataset
    root = unpack(tmp_path / "unpacked", archive())
    for source in (tgz.parent, root, root / "CUB_200_2011", root / "CUB_200_2011" / "images"):
        found = prepare("cub", [source], tmp_path / source.name / "b")[0].dataset
        assert found.class_digests("feat", 84) == expected.class_digests("feat", 84)
        assert found.files() == expected.files()


def test_the_cut_variant_is_a_set_of_its_own(tgz: Path, tmp_path: Path) -> None:
    whole = prepare("cub", [tgz], tmp_path / "data")[0].dataset
    cut = prepare("cub-bbox", [tgz], tmp_path / "data")[0].dataset
    assert cut.manifest.classes == whole.manifest.classes
    assert cut.manifest.population == "cub-200-2011-bbox"
    with whole.originals() as a, cut.originals() as b:
        for row in range(7):
            pixels = np.asarray(decode(a.read(row), "RGB"))
            np.testing.assert_array_equal(np.asarray(decode(b.read(row), "RGB")), pixels[3:15, 4:21])


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0.0, 0.0, 30.0, 20.0), (0, 20, 0, 30)),
        ((1.5, 2.5, 3.0, 4.0), (2, 7, 1, 5)),  # rounded outwards
        ((25.0, -2.0, 50.0, 50.0), (0, 20, 25, 30)),  # to the picture
    ],
)
def test_boxes_are_rounded_outwards_and_to_the_picture(
    box: tuple[float, ...], expected: tuple[int, ...]
) -> None:
    pixels = noise(0)
    top, bottom, left, right = expected
    found = decode(crop_to_box(encoded(pixels, "PNG"), box, "x"), "RGB")  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.asarray(found), pixels[top:bottom, left:right])


def test_a_box_outside_the_picture_is_refused() -> None:
    with pytest.raises(DataError, match="is not in it"):
        crop_to_box(jpeg(0), (40.0, 0.0, 5.0, 5.0), "x.jpg")
    with pytest.raises(DataError, match=r"x\.jpg is not a whole image"):
        crop_to_box(jpeg(0)[:50], BOX, "x.jpg")


def test_a_class_with_one_image_too_few_is_named(tmp_path: Path) -> None:
    members = archive()
    members.popitem()
    del members[next(k for k in members if "Laysan" in k)]
    path = tmp_path / "x.tgz"
    path.write_bytes(tar_of(members, "gz"))
    with pytest.raises(DataError, match=r"002\.Laysan_Albatross has 1 of 2"):
        prepare("cub", [path], tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("table", "content", "message"),
    [
        ("images", None, "lacks 'images.txt'"),
        ("bounding_boxes", None, "lacks 'bounding_boxes.txt'"),
        ("bounding_boxes", b"", "no box of"),
        ("bounding_boxes", b"1 2.0 3.0", "broken line"),
        ("bounding_boxes", b"1 a b c d", "broken line"),
        ("bounding_boxes", b"1 1.0 1.0 5.0 5.0", "no box of"),
        ("images", b"1 2 3", "broken line"),
    ],
)
def test_broken_tables_are_refused_where_boxes_are_needed(
    tmp_path: Path, table: str, content: bytes | None, message: str
) -> None:
    members = archive()
    name = f"CUB_200_2011/{table}.txt"
    members[name] = content or b""
    if content is None:
        del members[name]
    root = unpack(tmp_path / "x", members)
    with pytest.raises(DataError, match=message):
        plans("cub-bbox", [root], tmp_path / "data")
    assert plans("cub", [root], tmp_path / "data")[0].n_images == 7


def test_another_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tgz").write_bytes(tar_of({"images/cats/1.jpg": jpeg(0)}, "gz"))
    with pytest.raises(
        DataError, match=r"does not hold the pictures of CUB-200-2011: 001\.Black_footed_Albatross has 0 of 3"
    ):
        plans("cub", [tmp_path / "x.tgz"], tmp_path / "data")
    with pytest.raises(DataError, match="one source"):
        plans("cub", [tmp_path, tmp_path], tmp_path / "data")


def test_pictures_that_are_grey_or_cmyk_become_colour(tgz: Path, tmp_path: Path) -> None:
    found = prepare("cub", [tgz], tmp_path / "data")[0].dataset
    with found.originals() as kept:
        modes = {decode(kept.read(row), "RGB").mode for row in range(7)}
    assert modes == {"RGB"}
    assert found.map("feat", 84).shape == (7, 84, 84, 3)


@pytest.mark.parametrize("kind", ["I;16", "1", "P", "LA", "RGBA"])
def test_every_png_mode_becomes_rgb(kind: str, tmp_path: Path) -> None:
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16)
    image = (
        Image.fromarray(grey * 257)
        if kind == "I;16"
        else Image.fromarray(grey.astype(np.uint8)).convert(kind)
    )
    image.save(tmp_path / "x.png")
    found = np.asarray(decode((tmp_path / "x.png").read_bytes(), "RGB"))
    assert found.shape == (16, 16, 3)
    if kind != "1":
        np.testing.assert_array_equal(found[..., 0], grey)


def renamed(members: dict[str, bytes], old: str, new: str) -> dict[str, bytes]:
    return {name.replace(old, new): content for name, content in members.items()}


@pytest.mark.parametrize(
    "layout", ["another name", "no layers", "without numbers", "flat", "flat in capitals", "copies beside"]
)
def test_the_pictures_are_found_by_their_names_in_any_layout(tgz: Path, tmp_path: Path, layout: str) -> None:
    expected = prepare("cub", [tgz], tmp_path / "a")[0].dataset
    members = archive()
    if layout == "another name":
        members = renamed(members, "CUB_200_2011/images", "birds/all pictures")
    elif layout == "no layers":
        members = renamed(members, "CUB_200_2011/images/", "")
    elif layout == "without numbers":
        members = {re.sub(r"/\d{3}\.", "/", name): content for name, content in members.items()}
    elif layout.startswith("flat"):
        members = {re.sub(r".*/(\w+\.jpg)", r"\1", name): content for name, content in members.items()}
        if "capitals" in layout:
            members = {name.upper(): content for name, content in members.items()}
    else:
        members |= renamed(archive(), "/images/", "/images_small/")
    found = prepare("cub", [unpack(tmp_path / "x", members)], tmp_path / "b")[0].dataset
    assert found.class_digests("feat", 84) == expected.class_digests("feat", 84)


def test_half_an_archive_beside_the_whole_folder_is_not_used(tgz: Path, tmp_path: Path) -> None:
    root = unpack(tmp_path / "x", archive())
    (root / "CUB_200_2011.tgz").write_bytes(tgz.read_bytes()[:1000])
    assert prepare("cub", [root], tmp_path / "b")[0].dataset.counts.sum() == 7


def test_what_is_there_and_what_is_wanted_is_said(tmp_path: Path) -> None:
    root = unpack(tmp_path / "x", {"cats/a.jpg": jpeg(0), "readme": b""})
    with pytest.raises(
        DataError, match=r"x has cats/, readme; wanted are pictures in folders like 001\.Black"
    ):
        plans("cub", [root], tmp_path / "data")


def test_what_was_not_of_the_set_is_counted(tgz: Path, tmp_path: Path) -> None:
    assert prepare("cub", [tgz], tmp_path / "data")[0].account.lines() == [
        "left out, 1 beside-files of macOS: CUB_200_2011/images/001.Black_footed_Albatross/._x.jpg",
        "left out, 7 files that are not of this set: 6 .txt, 1 without an ending",
    ]
