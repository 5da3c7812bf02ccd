"""Damaged sources of every reader: a DataError or a whole set, never another exception, a partial set or a stray file."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from picture_files import encoded, jpeg, noise, tar_of, zip_of
from PIL import Image
from python2_pickles import python2

from harness import benchmarks
from harness.errors import DataError
from harness.images.prepare import import_folder, prepare
from harness.images.sources import splits

CIFAR = {"apple": 1, "train": 1}
BIRDS = {"001.Black_footed_Albatross": 2, "002.Laysan_Albatross": 1}
WNIDS = ["n01532829", "n01558993"]


def write_splits(folder: Path) -> None:
    cards: dict[str, Any] = {
        "cifar100": {
            "all": CIFAR,
            "superclass": dict.fromkeys(CIFAR, "x"),
            "md5": dict.fromkeys(("train", "test", "meta"), ""),
        },
        "fc100": {"base": CIFAR, "validation": {}, "novel": {}},
        "cub": {"all": BIRDS},
        "mini": {"base": dict.fromkeys(WNIDS, 1), "validation": {}, "novel": {}},
        "mini_ranks": {"rank": dict.fromkeys(WNIDS, "1"), "number": dict.fromkeys(WNIDS, "7")},
        "tiered": {
            "base": dict.fromkeys(WNIDS, 1),
            "validation": {},
            "novel": {},
            "superclass": dict.fromkeys(WNIDS, "s"),
            "label_order": {"base": WNIDS, "validation": [], "novel": []},
        },
    }
    folder.mkdir()
    for name, card in cards.items():
        (folder / f"{name}.json").write_text(json.dumps(card))


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


SMALL = np.stack([noise(i, 84, 84) for i in range(2)])
CIFAR_ROWS = {"data": np.zeros((1, 3072), dtype=np.uint8), "fine_labels": [0]}
CIFAR_TGZ = {
    "cifar-100-python/train": python2(CIFAR_ROWS),
    "cifar-100-python/test": python2({**CIFAR_ROWS, "fine_labels": [1]}),
    "cifar-100-python/meta": python2({"fine_label_names": list(CIFAR), "coarse_label_names": ["x"]}),
}
CUB_IMAGES = {f"CUB_200_2011/images/{c}/{c[4:]}_{i}.jpg": jpeg(i) for c, n in BIRDS.items() for i in range(n)}
CUB = {
    **CUB_IMAGES,
    "CUB_200_2011/images.txt": "\n".join(
        f"{i} {k.split('images/')[1]}" for i, k in enumerate(CUB_IMAGES)
    ).encode(),
    "CUB_200_2011/bounding_boxes.txt": "\n".join(f"{i} 1.0 2.0 9.0 9.0" for i in range(3)).encode(),
}
PNG_STREAMS = [np.frombuffer(encoded(i, "PNG"), np.uint8)[:, None] for i in SMALL]
SOURCES: dict[str, tuple[str, dict[str, bytes]]] = {  # name of the set, and its files
    "cifar tgz": ("cifar100", {"cifar-100-python.tar.gz": tar_of(CIFAR_TGZ, "gz")}),
    "cifar tar": ("cifar100", {"cifar-100-python.tar": tar_of(CIFAR_TGZ)}),
    "cifar folder": ("cifar100", CIFAR_TGZ),
    "fc100 pickle": (
        "cifar100",
        {"FC100_train.pickle": pickle.dumps({"data": np.zeros((2, 32, 32, 3), np.uint8), "labels": [0, 1]})},
    ),
    "cub tgz": ("cub", {"CUB_200_2011.tgz": tar_of(CUB, "gz")}),
    "cub boxes": ("cub-bbox", CUB),
    "imagenet tar": (
        "mini",
        {"ILSVRC2012_img_train.tar": tar_of({f"{w}.tar": tar_of({f"{w}_7.JPEG": jpeg(0)}) for w in WNIDS})},
    ),
    "imagenet folder": ("tiered", {f"train/{w}/{w}_7.JPEG": jpeg(1) for w in WNIDS}),
    "csv names": ("mini", {"images.zip": zip_of({f"images/{w}00000001.jpg": jpeg(2) for w in WNIDS})}),
    "ren": (
        "mini",
        {
            "mini-imagenet-cache-train.pkl": python2(
                {"image_data": SMALL, "class_dict": {w: [i] for i, w in enumerate(WNIDS)}}
            )
        },
    ),
    "gidaris": (
        "mini",
        {
            "miniImageNet_category_split_train_phase_train.pickle": pickle.dumps(
                {"data": SMALL, "labels": [0, 1]}
            )
        },
    ),
    "tadam": ("mini", {"few-shot-train.npz": npz(features=SMALL, targets=np.arange(2))}),
    "libfewshot": (
        "mini",
        {
            "train.pth": pickle.dumps(
                ([Image.fromarray(i) for i in SMALL], [0, 1], {w: i for i, w in enumerate(WNIDS)})
            )
        },
    ),
    "png pickles": (
        "tiered",
        {
            "train_images_png.pkl": python2(PNG_STREAMS),
            "train_labels.pkl": python2({"label_specific": np.arange(2), "label_general": np.zeros(2, int)}),
        },
    ),
    "tiered npz": (
        "tiered",
        {"train_images.npz": npz(images=SMALL), "train_labels.pkl": pickle.dumps({"labels": [0, 1]})},
    ),
    "fc100 npz": (
        "cifar100",
        {"few-shot-train.npz": npz(features=np.zeros((2, 32, 32, 3), np.uint8), targets=np.arange(2))},
    ),
    "bertinetto": (
        "cifar100",
        {
            "cifar100.zip": zip_of(
                {f"cifar100/data/{c}/a.png": encoded(SMALL[0][:32, :32], "PNG") for c in CIFAR}
            )
        },
    ),
    "simpleshot": ("tiered", {f"train_0_{i}_0.png": encoded(SMALL[i], "PNG") for i in range(2)}),
    "folder": ("birds", {"birds.zip": zip_of({f"{c}/{i}.jpg": jpeg(i) for c in "ab" for i in range(2)})}),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("fuzz")
    write_splits(root / "splits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "FOLDER", root / "splits")
        patch.setattr(benchmarks, "every", tuple)
        yield root


def write_source(root: Path, files: dict[str, bytes]) -> None:
    shutil.rmtree(root / "source", ignore_errors=True)
    for name, content in files.items():
        (root / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "source" / name).write_bytes(content)


def attempt(root: Path, dataset: str, files: dict[str, bytes]) -> bool:
    """Prepare from these files; whether a whole set came of it. Nothing else may have changed."""
    write_source(root, files)
    data = root / "data"
    shutil.rmtree(data, ignore_errors=True)
    before = {p for p in root.rglob("*") if not p.is_relative_to(data)}
    try:
        if dataset == "birds":
            only = root / "source" / "birds.zip"
            found = import_folder("birds", only, data).dataset
        else:
            found = prepare(dataset, [root / "source"], data, accept_terms=True)[0].dataset
    except DataError:
        assert not (data / dataset).exists()
        whole = False
    else:
        pixels = found.map(found.manifest.pipeline, found.manifest.size)
        assert len(pixels) == found.manifest.n_images == len(found.files())
        whole = True
    assert {p for p in root.rglob("*") if not p.is_relative_to(data)} == before
    assert {p.name for p in data.glob("*")} <= {dataset, ".preparing"}
    return whole


@pytest.mark.parametrize("name", SOURCES)
def test_the_undamaged_source_is_prepared(home: Path, name: str) -> None:
    assert attempt(home, *SOURCES[name])


@pytest.mark.parametrize("name", SOURCES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_sources_end_in_a_data_error_or_a_whole_set(
    home: Path, name: str, data: st.DataObject
) -> None:
    dataset, files = SOURCES[name]
    file = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[file])
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(
            st.one_of(st.integers(0, min(600, len(content) - 1)), st.integers(0, len(content) - 1))
        )
        content[place] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    attempt(home, dataset, {**files, file: bytes(content)})


WRONG = [
    b"",
    b"<!DOCTYPE html><title>Quota exceeded</title>",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    pickle.dumps(None),
    pickle.dumps([{"data": 1}]),
    pickle.dumps({"data": "x", "labels": None, "image_data": 3, "class_dict": 4}),
    pickle.dumps(Path("x")),
    zip_of({"a/b.txt": b"x"}),
    tar_of({"../../evil": b"x"}),
    zip_of({"/tmp/evil": b"x"}),
    npz(images=np.array([None]), features=1, targets="x"),
]


@pytest.mark.parametrize("name", SOURCES)
def test_files_of_another_kind_are_data_errors(home: Path, name: str) -> None:
    dataset, files = SOURCES[name]
    for file in files:
        for wrong in WRONG:
            assert not attempt(home, dataset, {**files, file: wrong}), (file, wrong[:20])
