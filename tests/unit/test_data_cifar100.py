"""CIFAR-100 in the layouts of its publishers: two images a class in the train file, one in the test file."""

from __future__ import annotations

import io
import json
import logging
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_files import class_images, encoded, zip_of
from python2_pickles import python2

from harness import benchmarks
from harness.errors import DataError
from harness.images.prepare import plans, prepare
from harness.images.sources import splits
from harness.images.verify import verify

REAL = splits.read("cifar100")
NAMES = list(REAL["all"])
COARSE = sorted(set(REAL["superclass"].values()))
N_TRAIN, N_TEST = 2, 1


@pytest.fixture(autouse=True)
def three_images_a_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "splits"
    folder.mkdir()
    for name in ("cifar100", "cifar_fs", "fc100"):
        card = splits.read(name)
        counted = ("all", *splits.ROLES)
        fewer = {k: dict.fromkeys(v, N_TRAIN + N_TEST) if k in counted else v for k, v in card.items()}
        (folder / f"{name}.json").write_text(json.dumps(fewer))
    monkeypatch.setattr(benchmarks, "every", tuple)  # they count the real classes
    monkeypatch.setattr(splits, "FOLDER", folder)


def image(label: int, i: int) -> np.ndarray:
    return np.random.default_rng([label, i]).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def cifar_file(n: int, first: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    rows = [(label, first + i) for label in range(100) for i in range(n)]
    rows = [rows[i] for i in rng.permutation(len(rows))]
    return {
        "data": np.stack([image(*row).transpose(2, 0, 1).reshape(-1) for row in rows]),
        "fine_labels": [label for label, _ in rows],
        "coarse_labels": [COARSE.index(REAL["superclass"][NAMES[label]]) for label, _ in rows],
        "filenames": [f"{NAMES[label]}_s_{i:06d}.png" for label, i in rows],
        "batch_label": "training batch 1 of 1",
    }


def files(write: Callable[[Any], bytes]) -> dict[str, bytes]:
    meta = {"fine_label_names": NAMES, "coarse_label_names": COARSE}
    contents = {"train": cifar_file(N_TRAIN, 0, 1), "test": cifar_file(N_TEST, N_TRAIN, 2), "meta": meta}
    return {f"cifar-100-python/{name}": write(content) for name, content in contents.items()}


def write_tgz(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_folder(root: Path, members: dict[str, bytes]) -> Path:
    for name, content in members.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.fixture
def tgz(tmp_path: Path) -> Path:
    return write_tgz(tmp_path / "cifar-100-python.tar.gz", {**files(python2), "cifar-100-python/._x": b"x"})


def test_both_files_are_merged_train_first(tgz: Path, tmp_path: Path) -> None:
    found = prepare("cifar100", [tgz], tmp_path / "data")[0].dataset
    assert found.class_names == tuple(sorted(NAMES))
    assert set(found.counts.tolist()) == {3}
    assert found.groups[found.class_names.index("apple")] == "fruit_and_vegetables"
    store = found.select(["train", "apple"], "stored", 32)
    for c, label in enumerate((90, 0)):
        pixels = class_images(store, c)
        assert {p.tobytes() for p in pixels[:2]} == {image(label, i).tobytes() for i in range(2)}
        np.testing.assert_array_equal(pixels[2], image(label, 2))
    assert found.manifest.population == "cifar-100-python"
    assert found.map("deepemd", 84).shape == (300, 84, 84, 3)  # originals are kept: they can be enlarged
    assert all(f.level != "error" for f in verify("cifar100", tmp_path / "data"))


@pytest.mark.parametrize("write", [python2, lambda v: pickle.dumps(v, 4)], ids=["python 2", "python 3"])
def test_a_folder_gives_the_same_pixels(tgz: Path, tmp_path: Path, write: Callable[[Any], bytes]) -> None:
    root = write_folder(tmp_path / "unpacked", files(write))
    expected = prepare("cifar100", [tgz], tmp_path / "a")[0].dataset
    for source in (root, root / "cifar-100-python"):
        found = prepare("cifar100", [source], tmp_path / source.name / "b")[0].dataset
        assert found.class_digests("stored", 32) == expected.class_digests("stored", 32)


def split_pickle(file: str, role: str, write: Callable[[Any], bytes] = python2) -> bytes:
    labels = [NAMES.index(c) for c in splits.read(file)[role] for _ in range(3)]
    data = np.stack([image(label, i % 3) for i, label in enumerate(labels)])
    return write({"data": data, "labels": labels})


def test_pickles_of_a_split_give_some_classes_and_say_so(tmp_path: Path) -> None:
    roles = {"train": "base", "val": "validation", "test": "novel"}
    root = write_folder(
        tmp_path / "FC100", {f"FC100_{k}.pickle": split_pickle("fc100", v) for k, v in roles.items()}
    )
    found = prepare("cifar100", [root], tmp_path / "data")[0].dataset
    assert len(found.class_names) == 100
    assert found.manifest.population == "FC100_test+FC100_train+FC100_val"
    np.testing.assert_array_equal(class_images(found.select(["baby"], "stored", 32), 0)[1], image(2, 1))


def test_renamed_pickles_are_known_by_their_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "CIFAR-FS", {"val.pickle": split_pickle("cifar_fs", "validation", pickle.dumps)})
    found = prepare("cifar100", [tmp_path / "CIFAR-FS" / "val.pickle"], tmp_path / "data")[0].dataset
    assert set(found.class_names) == set(splits.read("cifar_fs")["validation"])
    assert found.manifest.population == "val"


def test_tadams_arrays_are_fc100s(tmp_path: Path) -> None:
    for file, role in (("train", "base"), ("val", "validation"), ("test", "novel")):
        labels = np.array([NAMES.index(c) for c in splits.read("fc100")[role] for _ in range(3)])
        order = np.random.default_rng(2022).permutation(len(labels))  # shuffled, as they come
        pixels = np.stack([image(label, i % 3) for i, label in enumerate(labels)])
        np.savez(tmp_path / f"few-shot-{file}.npz", features=pixels[order], targets=labels[order])
    found = prepare("cifar100", [tmp_path], tmp_path / "data")[0].dataset
    assert len(found.class_names) == 100
    assert found.manifest.population == "few-shot-test+few-shot-train+few-shot-val"
    pixels = class_images(found.select(["baby"], "stored", 32), 0)
    assert {p.tobytes() for p in pixels} == {image(2, i).tobytes() for i in range(3)}
    np.savez(tmp_path / "few-shot-val.npz", features=np.zeros((2, 84, 84, 3), np.uint8), targets=[0, 1])
    with pytest.raises(DataError, match=r"\(N, 32, 32, 3\) uint8 was expected"):  # mini-ImageNet's, same name
        plans("cifar100", [tmp_path / "few-shot-val.npz"], tmp_path / "other")


LAYOUTS = {
    "Bertinetto": ("cifar_fs", "cifar100/data/{c}/{c}_s_{i:06d}.png"),
    "DeepEMD FC100": ("fc100", "FC100/{split}/{c}/{i}.png"),
    "DeepEMD CIFAR-FS": ("cifar_fs", "cifar_fs/meta-{split}/{c}/{i}.png"),
}


def pictures_in_folders(layout: str) -> dict[str, bytes]:
    file, path = LAYOUTS[layout]
    found = {
        path.format(split=split, c=c, i=i): encoded(image(NAMES.index(c), i), "PNG")
        for split, role in (("train", "base"), ("val", "validation"), ("test", "novel"))
        for c in splits.read(file)[role]
        for i in range(3)
    }
    lists = {f"cifar100/splits/bertinetto/{s}.txt": b"train\napple\n" for s in ("train", "val", "test")}
    return found | (lists if layout == "Bertinetto" else {})


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_pictures_in_folders_by_class_are_read(tmp_path: Path, layout: str, kind: str) -> None:
    source = tmp_path / "cifar100.zip"
    if kind == "zip":
        source.write_bytes(zip_of(pictures_in_folders(layout)))
    else:
        source = write_folder(tmp_path / "source", pictures_in_folders(layout))
    found = prepare("cifar100", [source], tmp_path / "data")[0].dataset
    assert found.class_names == tuple(sorted(NAMES))  # one of them is called `train`
    assert found.manifest.population == "100 classes in folders"
    store = found.select(["train", "apple"], "stored", 32)
    expected = [[image(label, i) for i in range(3)] for label in (90, 0)]
    np.testing.assert_array_equal([class_images(store, c) for c in (0, 1)], expected)


def test_pictures_in_folders_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    files = pictures_in_folders("Bertinetto")
    del files["cifar100/data/apple/apple_s_000001.png"]
    with pytest.raises(DataError, match="apple has 2 of 3"):
        plans("cifar100", [write_folder(tmp_path / "x", files)], tmp_path / "data")
    large = {"cifar100/data/apple/a.png": encoded(np.zeros((84, 84, 3), np.uint8), "PNG")}
    with pytest.raises(DataError, match=r"a\.png has 84×84 pixels"):
        plans("cifar100", [write_folder(tmp_path / "y", large)], tmp_path / "data")


def test_pickles_of_two_splits_hold_images_twice(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "x", {
        "FC100/val.pickle": split_pickle("fc100", "validation"),
        "CIFAR-FS/train.pickle": split_pickle("cifar_fs", "base"),
    })  # fmt: skip
    with pytest.raises(DataError, match="has 6 of 3"):
        plans("cifar100", [root], tmp_path / "data")


def test_other_numbers_than_cifars_are_refused(tmp_path: Path) -> None:
    data = np.zeros((48, 32, 32, 3), dtype=np.uint8)
    path = tmp_path / "CIFAR_FS_val.pickle"
    path.write_bytes(pickle.dumps({"data": data, "labels": np.repeat(range(16), 3).tolist()}))
    with pytest.raises(DataError, match="under CIFAR-100's own numbers"):
        plans("cifar100", [path], tmp_path / "data")


def broken(change: Callable[[dict[str, Any]], object], name: str = "train") -> dict[str, bytes]:
    found = files(lambda v: pickle.dumps(v, 2))
    path = f"cifar-100-python/{name}"
    content = pickle.loads(found[path])
    change(content)
    return {**found, path: pickle.dumps(content, 2)}


@pytest.mark.parametrize(
    ("change", "file", "message"),
    [
        (lambda c: c.pop("data"), "train", "has no `data`"),
        (lambda c: c.update(data=c["data"][:, :5]), "train", "rows of 3,072"),
        (lambda c: c.update(data=c["data"].astype(float)), "train", "rows of 3,072"),
        (lambda c: c.update(fine_labels=c["fine_labels"][:-1]), "train", "200 whole numbers"),
        (lambda c: c.update(fine_labels=["a"] * 200), "train", "200 whole numbers"),
        (lambda c: c.update(fine_labels=[100] * 200), "train", "outside 0 to 99"),
        (
            lambda c: c.update(data=c["data"][1:], fine_labels=c["fine_labels"][1:]),
            "train",
            r"has 2 of 3 images",
        ),
        (lambda c: c["fine_label_names"].reverse(), "meta", "other classes"),
        (lambda c: c.update(fine_label_names=[1, 2]), "meta", "a name was expected"),
    ],
)
def test_what_is_not_cifar_100_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], file: str, message: str
) -> None:
    source = write_tgz(tmp_path / "cifar-100-python.tar.gz", broken(change, file))
    with pytest.raises(DataError, match=message):
        prepare("cifar100", [source], tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_missing_files_and_empty_folders_say_what_is_needed(tmp_path: Path) -> None:
    part = {k: v for k, v in files(python2).items() if not k.endswith("meta")}
    with pytest.raises(DataError, match="meta is missing"):
        plans("cifar100", [write_folder(tmp_path / "x", part)], tmp_path / "data")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="cifar-100-python"):
        plans("cifar100", [tmp_path / "empty"], tmp_path / "data")


def test_an_archive_of_another_md5_is_used_with_a_warning(
    tgz: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "fsbench.data"):
        plan = plans("cifar100", [tgz], tmp_path / "data")[0]
    assert "eb9058c3a382ffc7106e4002c42a8d85" in caplog.text
    assert plan.population == "cifar-100-python"


@pytest.mark.parametrize("folder", ["", "cifar100/", "data/cifar_100/"])
def test_the_three_files_are_found_in_a_folder_of_any_name(tmp_path: Path, folder: str) -> None:
    members = files(pickle.dumps)
    whole = prepare("cifar100", [write_folder(tmp_path / "x", members)], tmp_path / "a")[0].dataset
    renamed = {name.replace("cifar-100-python/", folder): content for name, content in members.items()}
    found = prepare(
        "cifar100", [write_folder(tmp_path / "y", {**renamed, "other/train": b"x"})], tmp_path / "b"
    )[0].dataset
    assert found.class_digests("stored", 32) == whole.class_digests("stored", 32)
    assert found.manifest.population == whole.manifest.population == "cifar-100-python"


def test_half_an_archive_beside_the_whole_folder_is_not_used(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "x", files(pickle.dumps))
    (root / "cifar-100-python.tar.gz").write_bytes(b"\x1f\x8b half")
    assert prepare("cifar100", [root], tmp_path / "a")[0].dataset.counts.sum() == 300


def test_what_is_there_is_said(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "x", {"cats/a.png": b"x"})
    with pytest.raises(DataError, match=r"holds no file of cifar100\. .*x has cats/"):
        plans("cifar100", [root], tmp_path / "data")
