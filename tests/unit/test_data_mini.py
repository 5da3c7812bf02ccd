"""mini-ImageNet in every layout it is found in, with two images a class and three classes, one a role."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_files import MODES, encoded, jpeg, noise, tar_of, unpack, zip_of
from PIL import Image
from python2_pickles import python2

from harness import benchmarks
from harness.errors import DataError
from harness.images.pipelines import STRAIGHT, decode, pipeline
from harness.images.prepare import plans, prepare
from harness.images.sources import splits
from harness.images.sources.mini import RAVI, REBUILT
from harness.images.verify import verify

CLASSES = {"base": ["n01532829", "n01558993"], "validation": ["n01855672"], "novel": ["n01930112"]}
IMAGES = {
    "n01532829": [(5, 28), (9, 60)],
    "n01558993": [(1, 7), (1300, 20001)],
    "n01855672": [(2, 2), (3, 30)],
}
IMAGES["n01930112"] = [(4, 10), (1299, 19000)]
WNIDS = sorted(IMAGES)
TAKEN = [(w, n) for w in WNIDS for _, n in IMAGES[w]]


def bits(ranks: list[int]) -> str:
    return f"{sum(1 << (r - 1) for r in ranks):x}"


@pytest.fixture(autouse=True)
def four_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "splits"
    folder.mkdir()
    (folder / "mini.json").write_text(json.dumps({k: dict.fromkeys(v, 2) for k, v in CLASSES.items()}))
    card = {
        "rank": {w: bits([r for r, _ in rows]) for w, rows in IMAGES.items()},
        "number": {w: f"{rows[0][1]} {rows[1][1] - rows[0][1]}" for w, rows in IMAGES.items()},
    }
    (folder / "mini_ranks.json").write_text(json.dumps(card))
    monkeypatch.setattr(benchmarks, "every", tuple)  # they count the real classes
    monkeypatch.setattr(splits, "FOLDER", folder)


def content(wnid: str, number: int) -> bytes:
    """A picture of ImageNet: one PNG under the name of a JPEG, grey and CMYK ones among the others."""
    seed = int(wnid[1:]) + number
    if (wnid, number) == ("n01855672", 30):
        return encoded(noise(seed, 100, 130), "PNG")
    return encoded(noise(seed, 100, 130), "JPEG", MODES[number % 3])


def class_folder(wnid: str) -> dict[str, bytes]:
    """All files of a class: those of mini-ImageNet and others, in the order of their names."""
    numbers = sorted({n for _, n in IMAGES.get(wnid, [])} | {1, 3, 99}, key=str)
    return {f"{wnid}_{n}.JPEG": content(wnid, n) for n in numbers}


EVERY = [*WNIDS, "n01440764", "n02099601"]


def image_folder(prefix: str = "train") -> dict[str, bytes]:
    files = {f"{prefix}/{w}/{f}": c for w in EVERY for f, c in class_folder(w).items()}
    return {
        **files,
        f"{prefix}/n01532829/._n01532829_28.JPEG": b"x",
        "val/ILSVRC2012_val_00000001.JPEG": b"x",
    }


def tar_of_tars() -> bytes:
    return tar_of({f"{w}.tar": tar_of(class_folder(w)) for w in EVERY})


def imagenet(kind: str, path: Path) -> Path:
    if kind == "tar of tars":
        (path / "ILSVRC2012_img_train.tar").write_bytes(tar_of_tars())
        return path / "ILSVRC2012_img_train.tar"
    if kind == "folder with the tar":
        imagenet("tar of tars", path)
    elif kind == "inner tars":
        unpack(path, {f"{w}.tar": tar_of(class_folder(w)) for w in EVERY})
    elif kind == "image folder":
        unpack(path, image_folder())
    elif kind == "kaggle":
        unpack(path, image_folder("ILSVRC/Data/CLS-LOC/train"))
        unpack(path, {"ILSVRC/Annotations/CLS-LOC/train/n01532829/n01532829_28.xml": b"x"})
    elif kind == "class folders":
        unpack(path, {f"{w}/{f}": c for w in WNIDS for f, c in class_folder(w).items()})
    else:
        (path / "x.tar.gz").write_bytes(tar_of(image_folder("ILSVRC/Data/CLS-LOC/train"), "gz"))
        return path / "x.tar.gz"
    return path


@pytest.mark.parametrize(
    "kind",
    ["tar of tars", "folder with the tar", "inner tars", "image folder", "kaggle", "class folders", "tar.gz"],
)
def test_imagenet_is_read_in_every_layout(tmp_path: Path, kind: str) -> None:
    (tmp_path / "source").mkdir()
    source = imagenet(kind, tmp_path / "source")
    found = prepare("mini", [source], tmp_path / "data", accept_terms=True)[0].dataset
    assert found.manifest.population == REBUILT
    assert found.files() == [(w, f"{w}_{n}.JPEG", "") for w in WNIDS for _, n in IMAGES[w]]
    pixels = found.map("metaoptnet", 84)
    with found.originals() as kept:
        for row, (w, n) in enumerate(TAKEN):
            assert kept.read(row) == content(w, n)
            np.testing.assert_array_equal(pixels[row], STRAIGHT(decode(content(w, n), "RGB"), 84))
    assert all(f.level != "error" for f in verify("mini", tmp_path / "data"))


def test_numbers_and_ranks_are_in_numeric_order(tmp_path: Path) -> None:
    # as text, n01558993_20001 comes before n01558993_7
    source = unpack(tmp_path / "x", image_folder())
    found = prepare("mini", [source], tmp_path / "data", accept_terms=True)[0].dataset
    assert [f for w, f, _ in found.files() if w == "n01558993"] == [
        "n01558993_7.JPEG",
        "n01558993_20001.JPEG",
    ]


def test_other_classes_are_passed_over_unread(tmp_path: Path) -> None:
    files = {f"{w}.tar": tar_of(class_folder(w)) for w in WNIDS} | {"n01440764.tar": b"not a tar"}
    (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(tar_of(files))
    found = prepare("mini", [tmp_path], tmp_path / "data", accept_terms=True)[0].dataset
    assert found.class_names == tuple(WNIDS)


def csv_names() -> dict[str, bytes]:
    return {f"{w}{r:08d}.jpg": content(w, n) for w in WNIDS for r, n in IMAGES[w]}


@pytest.mark.parametrize(
    "layout",
    ["images/{f}", "{f}", "train/{w}/{f}", "miniimagenet/data/{w}/{f}"],
    ids=["FEAT", "flat", "MAML", "R2D2"],
)
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_pictures_under_csv_names_are_ravis(tmp_path: Path, layout: str, kind: str) -> None:
    files = {layout.format(f=f, w=f[:9]): c for f, c in csv_names().items()}
    files |= {
        "split/train.csv": b"filename,label\n",
        layout.format(f="n0153282900000006.jpg", w="n01532829"): b"x",
    }
    source = tmp_path / "images.zip"
    if kind == "zip":
        source.write_bytes(zip_of(files))
    else:
        source = unpack(tmp_path / "source", files)
    found = prepare("mini", [source], tmp_path / "data", accept_terms=True)[0].dataset
    assert found.manifest.population == RAVI
    assert found.manifest.has_originals
    assert [f for _, f, _ in found.files()] == list(csv_names())


def test_pictures_that_were_made_small_are_no_originals(tmp_path: Path) -> None:
    small = {w: [noise(int(w[1:]) + r, 84, 84) for r, _ in IMAGES[w]] for w in WNIDS}
    files = {
        f"train/{w}/{w}{r:08d}.jpg": encoded(pixels, "PNG")  # without loss, so that pixels can be compared
        for w in WNIDS
        for pixels, (r, _) in zip(small[w], IMAGES[w], strict=True)
    }
    source = unpack(tmp_path / "source", files)
    found = prepare("mini", [source], tmp_path / "data", accept_terms=True)[0].dataset
    assert (found.manifest.population, found.manifest.has_originals) == (RAVI, False)
    np.testing.assert_array_equal(found.map("metaoptnet", 84), [p for w in WNIDS for p in small[w]])
    remedy = rf"Remove {found.folder} and type `fsbench prepare mini --source PATH --accept-terms`, where PATH is your own ILSVRC"
    for view, size in (("closerlook", 224), ("feat", 84), ("metaoptnet", 80)):
        with pytest.raises(DataError, match=f"needs the original pictures. {remedy}"):
            found.map(view, size)
    with pytest.raises(DataError, match=f"without the original pictures. {remedy}"):
        found.originals()


ROWS = [(w, i) for w in WNIDS for i in range(2)]


def pixels_of(wnids: list[str]) -> np.ndarray:
    return np.stack([noise(int(w[1:]) + i, 84, 84) for w in wnids for i in range(2)])


def ren(wnids: list[str]) -> dict[str, Any]:
    return {
        "image_data": pixels_of(wnids),
        "class_dict": {w: [2 * c, 2 * c + 1] for c, w in enumerate(wnids)},
    }


def gidaris(wnids: list[str], first: int = 0, named: bool = True) -> dict[str, Any]:
    card = {"data": pixels_of(wnids), "labels": [first + c for c in range(len(wnids)) for _ in range(2)]}
    return {**card, "catname2label": {w: first + c for c, w in enumerate(wnids)} if named else {}}


def py2(value: Any) -> bytes:
    return python2(value, 2)


def py3(value: Any) -> bytes:
    return pickle.dumps(value, 4)


def caches(kind: str, folder: Path, write: Callable[[Any], bytes]) -> Path:
    folder.mkdir(parents=True)
    for i, (role, name) in enumerate(zip(CLASSES, ("train", "val", "test"), strict=True)):
        wnids = CLASSES[role]
        if kind == "ren":
            (folder / f"mini-imagenet-cache-{name}.pkl").write_bytes(write(ren(wnids)))
        elif kind == "learn2learn":
            name = {"val": "validation"}.get(name, name)
            (folder / f"mini-imagenet-cache-{name}.pkl").write_bytes(write(ren(wnids)))
        elif kind == "libfewshot":
            pictures = [Image.fromarray(p) for p in pixels_of(wnids)]
            labels = {w: c for c, w in enumerate(wnids)}
            content = (pictures, [c for c in range(len(wnids)) for _ in range(2)], labels)
            (folder / f"{name}.pth").write_bytes(pickle.dumps(content))
        elif kind.startswith("gidaris"):
            name = {"train": "train_phase_train"}.get(name, name)
            card = gidaris(wnids, 10 * i, named=kind == "gidaris")
            (folder / f"miniImageNet_category_split_{name}.pickle").write_bytes(write(card))
            more = folder / "miniImageNet_category_split_train_phase_test.pickle"
            more.write_bytes(write(gidaris(CLASSES["base"])))
        else:
            order = [1, 0, 3, 2][: 2 * len(wnids)]
            targets = np.array([sorted(wnids).index(w) for w in wnids for _ in range(2)])[order]
            np.savez(folder / f"few-shot-{name}.npz", features=pixels_of(wnids)[order], targets=targets)
    return folder


@pytest.mark.parametrize(
    "kind", ["ren", "learn2learn", "gidaris", "gidaris without names", "tadam", "libfewshot"]
)
@pytest.mark.parametrize("write", [py2, py3], ids=["python 2", "python 3"])
def test_caches_give_their_pixels_unchanged(tmp_path: Path, kind: str, write: Callable[[Any], bytes]) -> None:
    source = caches(kind, tmp_path / "source", write)
    found = prepare("mini", [source], tmp_path / "data", accept_terms=True)[0].dataset
    assert found.manifest.population == RAVI
    assert found.class_names == tuple(WNIDS)
    pixels = found.map("metaoptnet", 84)
    if kind == "tadam":  # shuffled within its role: here neighbours are exchanged
        pixels = np.asarray(pixels).reshape(4, 2, 84, 84, 3)[:, ::-1].reshape(8, 84, 84, 3)
    np.testing.assert_array_equal(pixels, pixels_of(WNIDS))
    assert not found.manifest.has_originals
    assert not list(found.folder.glob("originals*"))
    assert [f.level for f in verify("mini", tmp_path / "data")] == ["ok"] * 3
    with pytest.raises(DataError, match="not the original pictures"):
        found.map("feat", 84)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_libfewshots_whole_pictures_are_originals(tmp_path: Path, protocol: int) -> None:
    for role, name in zip(CLASSES, ("train", "val", "test"), strict=True):
        pixels = [noise(int(w[1:]) + i, 100, 130) for w in CLASSES[role] for i in range(2)]
        labels = [10 + c for c in range(len(CLASSES[role])) for _ in range(2)]
        content = (
            [Image.fromarray(p) for p in pixels],
            labels,
            {w: 10 + c for c, w in enumerate(CLASSES[role])},
        )
        (tmp_path / f"{name}.pth").write_bytes(pickle.dumps(content, protocol))
    found = prepare("mini", [tmp_path], tmp_path / "data", accept_terms=True)[0].dataset
    assert found.manifest.has_originals
    picture = Image.fromarray(noise(int(WNIDS[0][1:]), 100, 130))
    np.testing.assert_array_equal(found.map("feat", 84)[0], pipeline("feat").geometry(picture, 84))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (([Image.new("RGB", (84, 84))], [0], {"n01532829": 0}), "n01532829 has 1 of 2"),
        (([1, 2], [0, 1], {}), "does not hold a list of pictures"),
        ({"images": []}, "is not pictures, labels and a dictionary"),
        (([Image.new("L", (84, 84))], [0], {"n01532829": 0}), "A picture of mode 'L' is not read"),
        (([Image.new("RGB", (84, 84))], ["a"], {"n01532829": 0}), "1 whole numbers were expected"),
    ],
)
def test_a_pth_with_other_contents_is_refused(tmp_path: Path, content: object, message: str) -> None:
    (tmp_path / "train.pth").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=message):
        plans("mini", [tmp_path], tmp_path / "data", accept_terms=True)


def test_a_tar_of_pickles_is_read_as_it_is(tmp_path: Path) -> None:
    folder = caches("ren", tmp_path / "source", py2)
    files = {p.name: p.read_bytes() for p in sorted(folder.iterdir())}
    (tmp_path / "mini-imagenet.tar.gz").write_bytes(tar_of(files, "gz"))
    found = prepare("mini", [tmp_path / "mini-imagenet.tar.gz"], tmp_path / "data", accept_terms=True)[
        0
    ].dataset
    np.testing.assert_array_equal(found.map("metaoptnet", 84), pixels_of(WNIDS))


def test_a_cache_given_alone_is_a_part(tmp_path: Path) -> None:
    folder = caches("tadam", tmp_path / "source", py3)
    found = prepare("mini", [folder / "few-shot-test.npz"], tmp_path / "data", accept_terms=True)[0].dataset
    assert found.class_names == tuple(CLASSES["novel"])


def test_two_populations_do_not_mix(tmp_path: Path) -> None:
    source = unpack(
        tmp_path / "both", {**image_folder(), **{f"images/{f}": c for f, c in csv_names().items()}}
    )
    with pytest.raises(DataError, match="one of the two is needed"):
        plans("mini", [source], tmp_path / "data", accept_terms=True)
    prepare("mini", [caches("ren", tmp_path / "a", py3)], tmp_path / "data", accept_terms=True)
    with pytest.raises(DataError, match=r"already prepared from a \(ravi\).*imagenet-rebuilt"):
        rebuilt = unpack(tmp_path / "b", image_folder())
        prepare("mini", [rebuilt], tmp_path / "data", accept_terms=True)


def test_one_role_twice_is_refused(tmp_path: Path) -> None:
    folder = caches("ren", tmp_path / "source", py3)
    caches("gidaris", tmp_path / "source" / "more", py3)
    with pytest.raises(DataError, match="one role twice"):
        plans("mini", [folder], tmp_path / "data", accept_terms=True)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    files = image_folder()
    del files["train/n01532829/n01532829_60.JPEG"]
    source = unpack(tmp_path / "x", files)
    with pytest.raises(DataError, match=r"n01532829 lacks 1 \(n01532829_60\.JPEG\)"):
        prepare("mini", [source], tmp_path / "data", accept_terms=True)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("image_data"), "has no `image_data`"),
        (lambda c: c.update(image_data=c["image_data"][:, :80]), "was expected"),
        (lambda c: c.update(image_data=c["image_data"] / 255), "float64 where"),
        (lambda c: c.update(class_dict=[1]), "`class_dict` is a list"),
        (lambda c: c.update(class_dict={"n01532829": [0, 1]}), "n01558993 has 0 of 2"),
        (lambda c: c["class_dict"].update(n01558993=[2, 4]), "not rows of its own"),
        (lambda c: c["class_dict"].update(n01558993=[1, 2]), "not rows of its own"),
        (lambda c: c["class_dict"].update(n01558993="ab"), "whole numbers"),
        (lambda c: c["class_dict"].update(n01558993=[0.5, 1]), "whole numbers"),
        (lambda c: c["class_dict"].update(n01558993=[[1], [2, 3]]), "whole numbers"),
        (
            lambda c: c["class_dict"].update(n99999999=c["class_dict"].pop("n01558993")),
            "n01558993 has 0 of 2",
        ),
    ],
)
def test_a_cache_with_other_contents_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    card = ren(CLASSES["base"])
    change(card)
    path = tmp_path / "mini-imagenet-cache-train.pkl"
    path.write_bytes(pickle.dumps(card))
    with pytest.raises(DataError, match=message):
        prepare("mini", [path], tmp_path / "data", accept_terms=True)
    assert not (tmp_path / "data").exists()


def test_pickles_are_not_run(tmp_path: Path) -> None:
    path = tmp_path / "mini-imagenet-cache-train.pkl"
    path.write_bytes(b"cos\nsystem\n(S'touch evil'\ntR.")
    with pytest.raises(DataError, match=r"os\.system"):
        plans("mini", [path], tmp_path / "data", accept_terms=True)


def test_terms_and_sources_are_the_users(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--accept-terms"):
        plans("mini", [tmp_path], tmp_path / "data")
    with pytest.raises(DataError, match="give your own copy"):
        plans("mini", [], tmp_path / "data", accept_terms=True)
    with pytest.raises(DataError, match="holds nothing of mini"):
        plans("mini", [unpack(tmp_path / "x", {"a.jpg": jpeg(0)})], tmp_path / "data", accept_terms=True)
