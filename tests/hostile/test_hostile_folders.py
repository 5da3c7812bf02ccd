"""Folders and archives as people have them: each gives a set with every file accounted for, or a sentence and nothing else."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
from hostile_bench import Bench
from picture_files import encoded, jpeg, noise, tar_of, unpack, zip_of
from PIL import Image

N_CLASSES = 8


def png(seed: int) -> bytes:
    return encoded(noise(seed, 12, 12), "PNG")


def whole(n_classes: int = N_CLASSES, n: int = 3, top: str = "", start: int = 0) -> dict[str, bytes]:
    """Class folders k0, k1, … of n pictures each."""
    return {
        f"{top}k{c + start}/{i}.png": png(100 * (c + start) + i) for c in range(n_classes) for i in range(n)
    }


def tiff(levels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(levels.astype(np.float32)).save(stream, "TIFF")
    return stream.getvalue()


def zip_without_mark(names: dict[bytes, bytes]) -> bytes:
    """A zip whose names are bytes of some code page, without the mark for UTF-8."""
    content = zip_of({f"{i:0{len(name)}d}": data for i, (name, data) in enumerate(names.items())})
    for i, name in enumerate(names):
        content = content.replace(f"{i:0{len(name)}d}".encode(), name)
    return content


Files = dict[str, bytes]
TAKEN: dict[str, tuple[Files, str]] = {
    "plain": (whole(), "taken: 24 pictures of 8 classes"),
    "one level of packing": (whole(top="my/birds/"), "8 classes"),
    "capitals": ({name.replace(".png", ".PNG"): c for name, c in whole().items()}, "8 classes"),
    "loose picture": ({**whole(), "cover.png": png(9)}, "1 pictures beside the class folders: cover.png"),
    "hidden": ({**whole(), ".trash/x.png": png(9), "k0/.x.png": png(9)}, "2 hidden files"),
    "macOS": ({**whole(), "k0/._0.png": b"x", "__MACOSX/k0/._0.png": b"x"}, "2 beside-files of macOS"),
    "system files": ({**whole(), "k0/Thumbs.db": b"x", "desktop.ini": b"x"}, r"\(\.db\): k0/Thumbs\.db"),
    "a class of unreadable kinds": (
        {**whole(), "k9/0.heic": b"x", "k9/1.heic": b"x"},
        r"1 folders without a picture that is read: k9 \(2 \.heic\)",
    ),
    "a picture without an ending": ({**whole(), "k0/7": png(9)}, r"\(without an ending\): k0/7"),
    "names with spaces and quotes": ({f"it's a {n}": c for n, c in whole().items()}, "8 classes"),
    "control characters": ({**whole(), "k0/\x1b[31m.txt": b"x"}, r"k0/\\x1b\[31m\.txt"),
    "umlauts, decomposed": ({f"u\u0308{n}": c for n, c in whole().items()}, "8 classes"),
    "one name in two groups": (
        {**whole(4, top="a/"), **whole(4, top="b/", start=3)}, r"1 names belong to several classes: a/k3 = b/k3",
    ),
    "capitals alone": ({**whole(), "K0/x.png": png(99)}, "K0 = k0"),
    "equal pictures": ({**whole(), "k1/same.png": png(0)}, "1 in two classes.*k0 = k1"),
    "a class of one picture": ({**whole(), "k9/0.png": png(999)}, r"smallest: k9 \(1\)"),
    "float pictures": ({n.replace("png", "tif"): tiff(noise(i)[..., 0] / 255) for i, n in enumerate(whole())}, "8 classes"),
    "zip of zips": ({"data.zip": zip_of({f"k{c}.zip": zip_of(dict(whole(1, start=c))) for c in range(8)})}, "8 classes"),
    "tar in a folder": ({"pictures.tar.gz": tar_of(whole(), "gz")}, "8 classes"),
    "half an archive beside its folder": (
        {**whole(top="birds/"), "birds.zip": zip_of(whole())[:500]}, "1 archives whose folder lies beside them: birds.zip",
    ),
    "roles": ({**whole(3, top="train/"), **whole(2, top="Val/", start=3), **whole(3, top="TEST/", start=5)},
              "3 base, 2 validation, 3 novel"),
    "meta roles": ({**whole(3, top="meta-train/"), **whole(3, top="meta_test/", start=3)}, "3 base, 0 validation, 3 novel"),
    "roles with a layer between": (
        {**whole(3, top="x/train/images/"), **whole(3, top="x/test/images/", start=3)}, "3 base, 0 validation, 3 novel",
    ),
    "a class called train": ({**whole(4), "train/0.png": png(7), "train/1.png": png(8)}, "5 classes"),
    "four classes": (whole(4), "2 base, 0 validation, 2 novel classes"),
    "ten classes": (whole(10, 4), "settings: birds-5w1s"),
}  # fmt: skip
REFUSED: dict[str, tuple[Files, str]] = {
    "nothing": ({}, "pictures in 0 folder"),
    "no class folder": ({"a.png": png(0), "b.png": png(1)}, "a folder for each class"),
    "one class": (whole(1), "1 folder"),
    "three classes": (whole(3), "at least 2 base and 2 novel"),
    "one picture a class": (whole(8, 1), "0 have more than 1 pictures"),
    "text under the name of a picture": ({**whole(), "k0/9.png": b"hello"}, "1 of 25 pictures.*k0/9.png"),
    "a web page": ({**whole(), "k0/9.jpg": b"<!DOCTYPE html><title>404"}, "it is a web page"),
    "empty and cut pictures": (
        {**whole(), "k0/9.png": b"", "k1/9.jpg": jpeg(0)[:300], "k2/9.png": png(3)[:60]}, "3 of 27 pictures",
    ),
    "infinite floats": ({**whole(), "k0/9.tif": tiff(np.full((9, 9), np.inf))}, "are no levels"),
    "floats that are not levels": ({**whole(), "k0/9.tif": tiff(np.full((9, 9), -3.0))}, "are no levels"),
    "a split of images": ({**whole(top="train/"), **whole(top="test/")}, "8 of 8 classes are in several roles.*--merge-roles"),
    "one shared class": ({**whole(4, top="train/"), **whole(4, top="test/", start=3)}, r"1 of 7 classes.*\(k3\)"),
    "a folder beside roles": (
        {**whole(3, top="train/"), **whole(3, top="test/", start=3), **whole(2, top="more/", start=6)}, "more beside them",
    ),
    "roles without novel": ({**whole(3, top="train/"), **whole(3, top="val/", start=3)}, "novel needs at least 2"),
    "composed and decomposed twins": ({**whole(), "\u00fc/0.png": png(1), "u\u0308/0.png": png(2)}, "once their letters are"),
    "a half archive alone": ({"birds.zip": zip_of(whole())[:500]}, "cannot be read"),
    "a web page as a zip": ({"birds.zip": b"<html>quota exceeded"}, "web page"),
}  # fmt: skip


def n_told(said: str) -> int:
    """Files that the report speaks of: taken, and left out (folders do not count)."""
    taken = re.search(r"taken: ([\d,]+) pictures", said)
    left = re.findall(r"left out, ([\d,]+) (?!folders)", said)
    assert taken, said
    return sum(int(n.replace(",", "")) for n in (taken[1], *left))


@pytest.mark.parametrize("name", TAKEN)
def test_what_can_be_taken_is_and_every_file_is_accounted_for(bench: Bench, name: str) -> None:
    files, says = TAKEN[name]
    code, said = bench.type(
        "import-folder", str(unpack(bench.root / "x", files)), "--name", "birds", "--size", "16"
    )
    assert code == 0, said
    assert re.search(says, said), said
    if "zip of zips" not in name and "tar in a folder" not in name:
        assert n_told(said) == len(files), said
    settings = re.search(r"settings: (.*)", said)
    assert settings and re.fullmatch(r"birds-\dw\ds(, birds-\dw\ds)*", settings[1])
    for setting in settings[1].split(", "):  # what is offered can be drawn
        assert bench.type("episodes", setting)[0] == 0


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_is_refused_in_a_sentence_and_leaves_nothing(bench: Bench, name: str) -> None:
    files, says = REFUSED[name]
    (bench.root / "x").mkdir()
    code, said = bench.type(
        "import-folder", str(unpack(bench.root / "x", files)), "--name", "birds", "--size", "16"
    )
    assert code in (2, 3), said
    assert re.search(says, said, re.DOTALL), said
    assert "BytesIO" not in said and not bench.left()


def test_every_broken_picture_is_named_and_the_command_advised_works(bench: Bench) -> None:
    bad = {
        "k0/9.png": b"",
        "k1/9.jpg": jpeg(0)[:300],
        "k2/9.png": b"<html>",
        "k3/9.tif": tiff(np.full((9, 9), np.nan)),
    }
    source = unpack(bench.root / "my birds", {**whole(), **bad})
    code, said = bench.type("import-folder", str(source), "--name", "birds", "--size", "16", "--queries", "2")
    assert code == 3 and all(f"{source}/{name} " in said for name in bad) and not bench.left()
    advised = re.search(r"`fsbench (.*)`", said)
    assert advised and "--size 16" in advised[1] and "--queries 2" in advised[1]
    code, said = bench.type(*shlex.split(advised[1]))
    assert code == 0 and "left out, 4 broken pictures" in said and "24 images" in said
    card = (bench.data / "birds" / "manifest.json").read_text()
    assert all(f"{source}/{name}: is not a whole image" in card for name in bad)
    assert bench.type("verify", "birds")[0] == 0


def test_links_are_followed_and_circles_are_told_of(bench: Bench) -> None:
    away = unpack(bench.root / "away", whole())
    source = unpack(bench.root / "x", whole(2, start=20))
    for c in range(N_CLASSES):
        (source / f"k{c}").symlink_to(away / f"k{c}")
    (source / "loop").symlink_to(source)
    (source / "k20" / "up").symlink_to(source / "k20")
    (source / "again").symlink_to(away / "k0")
    (source / "gone").symlink_to(bench.root / "nowhere")
    (source / "k21" / "9.png").symlink_to(away / "k0" / "0.png")
    os.mkfifo(source / "pipe")
    (source / "empty").mkdir()
    code, said = bench.type("import-folder", str(source), "--name", "birds", "--size", "16")
    assert code == 0 and "taken: 31 pictures of 10 classes" in said, said
    for line in ("2 links to a folder above themselves: loop, k20/up", "1 links to a folder that another link led to: k0",
                 "1 links that lead nowhere: gone", "1 that are neither files nor folders: pipe",
                 "1 folders with nothing in them: empty"):  # fmt: skip
        assert f"left out, {line}" in said, said


def test_equal_names_in_several_roles_become_one_class_when_asked(bench: Bench) -> None:
    files = {
        **whole(top="train/"),
        **{f"test/k{c}/{i}.png": png(5000 + 10 * c + i) for c in range(8) for i in range(2)},
    }
    source = unpack(bench.root / "x", files)
    code, said = bench.type("import-folder", str(source), "--name", "birds", "--size", "16", "--merge-roles")
    assert code == 0 and "taken: 40 pictures of 8 classes" in said, said


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_in_utf8_are_read_and_those_in_other_code_pages_refused(bench: Bench, kind: str) -> None:
    names = [f"ü{c}/{i}.png" for c in range(4) for i in range(3)]
    for coding, expected in (("utf-8", 0), ("latin-1", 3), ("shift-jis", 3)):
        told = [n.replace("ü", "鳥") if coding == "shift-jis" else n for n in names]
        raw = {n.encode(coding): png(i) for i, n in enumerate(told)}
        path = bench.root / f"{coding}.{kind}"
        if kind == "zip":
            path.write_bytes(zip_without_mark(raw))
            with zipfile.ZipFile(path) as archive:
                assert archive.testzip() is None
        else:
            path.write_bytes(tar_of({n.decode("utf-8", "surrogateescape"): c for n, c in raw.items()}))
        code, said = bench.type("import-folder", str(path), "--name", f"b-{coding}", "--size", "16")
        assert code == expected, said
        assert expected == 0 or "not UTF-8" in said
    assert '"\\u00fc0"' in (bench.data / "b-utf-8" / "manifest.json").read_text()


def test_pictures_lie_as_their_camera_says_unless_asked_otherwise(bench: Bench) -> None:
    pixels = np.zeros((20, 40, 3), dtype=np.uint8)
    pixels[:, :20] = 255  # the left half is bright
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: the left becomes the top
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", exif=exif)
    files = {**whole(), "k0/turned.jpg": stream.getvalue()}
    source = unpack(bench.root / "x", files)
    for words, is_upright in (((), True), (("--as-stored",), False)):
        name = "upright" if is_upright else "stored"
        assert bench.type("import-folder", str(source), "--name", name, "--size", "16", *words)[0] == 0
        stored = np.load(bench.data / name / "maps" / "squash96-16.npy")[3].mean(-1)
        assert (stored[:4].mean() > 200) == is_upright and (stored[:, :4].mean() > 200) != is_upright
        assert (f'"is_upright": {str(is_upright).lower()}') in (
            bench.data / name / "manifest.json"
        ).read_text()
        extent = np.load(bench.data / name / "originals.npy")[3, 3:].tolist()
        assert extent == ([40, 20] if is_upright else [20, 40])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--name", "cub"], "known data set"),
        (["--name", "My Birds"], "small letters"),
        (["--name", "birds", "--split", "a/b/c"], "three whole numbers"),
        (["--name", "birds", "--split", "1/50/50"], "leaves"),
        (["--name", "birds", "--queries", "50"], "at least 2 base"),
        (["--name", "birds", "--split", "1/1/1", "--queries", "50"], "Choose --queries 2 or fewer"),
        (["--name", "birds", "--splits", "absent.csv"], "no file"),
    ],
)
def test_values_are_checked_before_pictures_are_prepared(
    bench: Bench, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.images import prepare

    def refuse(*_: object, **__: object) -> Callable[[], None]:
        raise AssertionError("pictures were prepared")

    monkeypatch.setattr(prepare, "write", refuse)
    code, said = bench.type("import-folder", str(unpack(bench.root / "x", whole())), *words)
    assert code in (2, 3) and says in said and not bench.left()


def test_a_set_that_is_too_small_without_its_broken_pictures_leaves_nothing(bench: Bench) -> None:
    files = {**whole(4), **{f"k{c}/{i}.png": b"" for c in (1, 2) for i in range(3)}}
    source = unpack(bench.root / "x", files)
    code, said = bench.type("import-folder", str(source), "--name", "birds", "--size", "16", "--keep-going")
    assert code in (2, 3) and not bench.left(), said


def test_the_command_advised_after_an_import_works(bench: Bench) -> None:
    said = bench.type(
        "import-folder", str(unpack(bench.root / "x", whole(5))), "--name", "birds", "--size", "16"
    )[1]
    advised = re.search("next: fsbench (.*)", said)
    assert advised
    words = shlex.split(advised[1].replace("nearest-mean,", ""))  # the other trains for some seconds
    assert bench.type(*words, "--episodes", "20")[0] == 0


def test_a_set_whose_map_is_gone_says_a_command_that_works(bench: Bench) -> None:
    source = unpack(bench.root / "x", whole(5))
    words = ["import-folder", str(source), "--name", "messy2", "--size", "16"]
    assert bench.type(*words)[0] == 0
    (bench.data / "messy2" / "originals.npy").write_bytes(b"x")
    (bench.data / "messy2" / "maps" / "squash96-16.npy").unlink()
    said = bench.type("run", "-m", "pixels", "-b", "messy2-2w1s", "--episodes", "5")[1]
    assert "fsbench prepare messy2" not in said
    assert f"Remove {bench.data / 'messy2'}" in said and "fsbench import-folder PATH --name messy2" in said
    shutil.rmtree(bench.data / "messy2")
    assert bench.type(*words)[0] == 0
