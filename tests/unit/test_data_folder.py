"""A user's own pictures, in folders and archives as people have them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from picture_files import encoded, jpeg, noise, tar_of, unpack, zip_of
from PIL import Image

from harness.errors import ConfigError, DataError
from harness.images.pipelines import SQUASH_96, decode
from harness.images.prepare import ensure, import_folder
from harness.images.verify import verify


def sixteen_bit() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((9, 9), 40_000, dtype=np.uint16)).save(stream, "PNG")
    return stream.getvalue()


FILES = {
    "hawk/a.jpg": jpeg(1),
    "hawk/B.JPEG": encoded(noise(2), "PNG"),  # a PNG by another name
    "hawk/c.png": sixteen_bit(),
    "owl/a.jpg": jpeg(3, "CMYK"),
    "owl/b.gif": encoded(noise(4), "GIF", "P"),
    "owl/c.tif": encoded(noise(5), "TIFF", "1"),
    "owl/d.webp": encoded(noise(6), "WEBP"),
    "owl/e.bmp": encoded(noise(7), "BMP", "L"),
}
STRAY = {
    "readme.txt": b"x",
    "cover.jpg": jpeg(8),
    "owl/._a.jpg": b"x",
    "owl/.thumbs/a.jpg": b"x",
    "hawk/Thumbs.db": b"x",
    "__MACOSX/owl/a.jpg": b"x",
    ".git/a/x.png": b"x",
}


@pytest.mark.parametrize("kind", ["folder", "zip", "tgz"])
@pytest.mark.parametrize("top", ["", "birds/", "my/birds/"])
def test_a_folder_or_an_archive_of_it_is_the_same_set(tmp_path: Path, kind: str, top: str) -> None:
    files = {f"{top}{name}": content for name, content in {**FILES, **STRAY}.items()}
    source = tmp_path / "birds"
    if kind == "folder":
        unpack(source, files)
    else:
        source.write_bytes(zip_of(files) if kind == "zip" else tar_of(files, "gz"))
    found = import_folder("birds", source, tmp_path / "data").dataset
    assert found.files() == [(*name.split("/"), "") for name in sorted(FILES)]
    assert found.groups == ("", "")
    pixels = found.map("easyfsl", 84)
    for row, name in enumerate(sorted(FILES)):
        np.testing.assert_array_equal(pixels[row], SQUASH_96(decode(FILES[name], "RGB"), 84))
    assert [f.level for f in verify("birds", tmp_path / "data")] == ["ok"] * 4
    assert ensure("birds", tmp_path / "data").class_names == ("hawk", "owl")


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    found = import_folder("birds", unpack(tmp_path / "x", FILES), tmp_path / "data").dataset
    assert np.unique(found.map("easyfsl", 84)[2]).tolist() == [round(40_000 / 257)]


def test_deeper_folders_are_groups(tmp_path: Path) -> None:
    files = {
        f"set/{g}/{c}/{i}.jpg": jpeg(i) for g, c in (("b", "x"), ("a", "y"), ("a", "x")) for i in range(2)
    }
    found = import_folder("birds", unpack(tmp_path / "x", files), tmp_path / "data").dataset
    assert found.class_names == ("a/x", "a/y", "b/x")
    assert found.groups == ("a", "a", "b")


def test_size_and_pipeline_can_be_chosen(tmp_path: Path) -> None:
    found = import_folder(
        "birds", unpack(tmp_path / "x", FILES), tmp_path / "data", pipeline="stored", size=32
    )
    assert (found.dataset.manifest.pipeline, found.dataset.map("stored", 32).shape) == (
        "stored",
        (8, 32, 32, 3),
    )


def test_importing_twice_changes_nothing_and_another_folder_is_refused(tmp_path: Path) -> None:
    source = unpack(tmp_path / "x", FILES)
    assert import_folder("birds", source, tmp_path / "data").change == "new"
    assert import_folder("birds", source, tmp_path / "data").change == "unchanged"
    (source / "owl" / "f.jpg").write_bytes(jpeg(9))
    with pytest.raises(DataError, match="already prepared from x"):
        import_folder("birds", source, tmp_path / "data")


@pytest.mark.parametrize("name", ["mini", "Birds", "my birds", "../x", "", "a/b", "-x", "x-", "1w", ".x"])
def test_names_that_cannot_be_one_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="small letters"):
        import_folder(name, unpack(tmp_path / "x", FILES), tmp_path / "data")


@pytest.mark.parametrize("files", [
    {"a.jpg": jpeg(0)},
    {"one/a.jpg": jpeg(0), "one/b.jpg": jpeg(1)},
    {"one/a.txt": b"x", "two/b.txt": b"x"},
])  # fmt: skip
def test_fewer_than_two_classes_are_refused(tmp_path: Path, files: dict[str, bytes]) -> None:
    with pytest.raises(DataError, match="a folder for each class"):
        import_folder("birds", unpack(tmp_path / "x", files), tmp_path / "data")


def test_a_broken_picture_is_named_and_nothing_appears(tmp_path: Path) -> None:
    source = unpack(tmp_path / "x", {**FILES, "owl/z.jpg": jpeg(0)[:300]})
    with pytest.raises(DataError, match=r"owl/z\.jpg is not a whole image.*\n.*--keep-going"):
        import_folder("birds", source, tmp_path / "data")
    assert not (tmp_path / "data" / "birds").exists()


def test_absent_folders_and_names_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        import_folder("birds", tmp_path / "nowhere", tmp_path / "data")
    with pytest.raises(DataError, match="fsbench import-folder PATH --name birds"):
        ensure("birds", tmp_path / "data")


@pytest.mark.real_data
def test_real_photographs_are_imported(shared_path: Callable[[str], Path], tmp_path: Path) -> None:
    found = import_folder(
        "cifar10", shared_path("data/cifar10-600.zip"), tmp_path, pipeline="stored", size=32
    )
    assert found.dataset.counts.tolist() == [600] * 10
    assert "airplane" in found.dataset.class_names
