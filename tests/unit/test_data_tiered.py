"""tieredImageNet in every layout it is found in, with two superclasses and three classes in all."""

from __future__ import annotations

import io
import json
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_files import encoded, jpeg, noise, tar_of, unpack
from python2_pickles import python2

from harness import benchmarks
from harness.errors import DataError
from harness.images.prepare import plans, prepare
from harness.images.sources import splits

SIZES = {"n01530575": 3, "n01531178": 2, "n02099601": 2, "n03314780": 1}
ORDER = {"base": ["n01531178", "n01530575"], "validation": ["n02099601"], "novel": ["n03314780"]}
SUPER = {
    "n01530575": "n01524359",
    "n01531178": "n01524359",
    "n02099601": "n02098550",
    "n03314780": "n00020090",
}
SPLITS = {"train": "base", "val": "validation", "test": "novel"}


@pytest.fixture(autouse=True)
def four_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "splits"
    folder.mkdir()
    card: dict[str, Any] = {role: {w: SIZES[w] for w in sorted(wnids)} for role, wnids in ORDER.items()}
    (folder / "tiered.json").write_text(json.dumps({**card, "superclass": SUPER, "label_order": ORDER}))
    monkeypatch.setattr(benchmarks, "every", tuple)  # they count the real classes
    monkeypatch.setattr(splits, "FOLDER", folder)


def picture(wnid: str, i: int) -> np.ndarray:
    """84 pixels, red above blue as in photographs."""
    return noise(int(wnid[1:]) + i, 84, 84)


def imagenet() -> dict[str, dict[str, bytes]]:
    return {
        w: {f"{w}_{10 * i}.JPEG": encoded(noise(i, 40, 50)) for i in range(n)}
        for w, n in {**SIZES, "n01440764": 1}.items()
    }


def test_imagenet_gives_all_pictures_of_its_classes(tmp_path: Path) -> None:
    tar = tmp_path / "ILSVRC2012_img_train.tar"
    tar.write_bytes(tar_of({f"{w}.tar": tar_of(files) for w, files in imagenet().items()}))
    found = prepare("tiered", [tar], tmp_path / "a", accept_terms=True)[0].dataset
    assert dict(zip(found.class_names, found.counts.tolist(), strict=True)) == SIZES
    assert dict(zip(found.class_names, found.groups, strict=True)) == SUPER
    assert found.manifest.population == "imagenet-rebuilt"
    folder = unpack(
        tmp_path / "x", {f"train/{w}/{f}": c for w, files in imagenet().items() for f, c in files.items()}
    )
    again = prepare("tiered", [folder], tmp_path / "b", accept_terms=True)[0].dataset
    assert again.class_digests("metaoptnet", 84) == found.class_digests("metaoptnet", 84)


def test_folders_by_split_are_read(tmp_path: Path) -> None:
    files = {
        f"{split}/{w}/{i}.jpg": jpeg(i)
        for split, role in SPLITS.items()
        for w in ORDER[role]
        for i in range(SIZES[w])
    }
    found = prepare("tiered", [unpack(tmp_path / "x", files)], tmp_path / "data", accept_terms=True)[
        0
    ].dataset
    assert found.counts.sum() == sum(SIZES.values())


def test_a_class_with_one_image_too_few_is_named(tmp_path: Path) -> None:
    files = {f"{w}/{f}": c for w, files in imagenet().items() for f, c in files.items()}
    del files["n02099601/n02099601_10.JPEG"]
    with pytest.raises(DataError, match=r"1 of 4 classes differ.*n02099601 has 1 of 2"):
        prepare("tiered", [unpack(tmp_path / "x", files)], tmp_path / "data", accept_terms=True)
    assert not (tmp_path / "data").exists()


def rows(role: str) -> list[tuple[int, str, int]]:
    """(label, class, image), classes interleaved."""
    found = [(label, w, i) for label, w in enumerate(ORDER[role]) for i in range(SIZES[w])]
    return sorted(found, key=lambda r: r[2])


def ren_labels(role: str) -> dict[str, Any]:
    label = np.array([r[0] for r in rows(role)], dtype=np.int32)
    return {
        "label_specific": label,
        "label_general": np.zeros_like(label),
        "label_specific_str": [f"bird, number {w}" for w in ORDER[role]],
        "label_general_str": {0: "passerine, passeriform bird"},
    }


def metaopt_labels(role: str) -> dict[str, Any]:
    first = {"base": 0, "validation": 351, "novel": 448}[role]
    return {"labels": [first + r[0] for r in rows(role)]}


def png(pixels: np.ndarray) -> np.ndarray:
    return np.frombuffer(encoded(pixels, "PNG"), np.uint8)[:, None]


def py2(value: Any) -> bytes:
    return python2(value, 2)


def files(
    kind: str, write: Callable[[Any], bytes] = py2, bgr: bool = False, prefix: str = ""
) -> dict[str, bytes]:
    found = {}
    for split, role in SPLITS.items():
        images = [picture(w, i)[..., ::-1] if bgr else picture(w, i) for _, w, i in rows(role)]
        if kind == "png":
            found[f"{prefix}{split}_images_png.pkl"] = write([png(i) for i in images])
            found[f"{prefix}{split}_labels.pkl"] = write(ren_labels(role))
        else:
            stream = io.BytesIO()
            np.savez(stream, images=np.stack(images))
            found[f"{prefix}{split}_images.npz"] = stream.getvalue()
            found[f"{prefix}{split}_labels.pkl"] = write(metaopt_labels(role))
    return found


@pytest.mark.parametrize("kind", ["png", "npz"])
@pytest.mark.parametrize("bgr", [False, True], ids=["rgb", "bgr"])
@pytest.mark.parametrize("write", [py2, pickle.dumps], ids=["python 2", "python 3"])
def test_files_of_small_pictures_give_red_green_blue(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, bgr: bool, write: Callable[[Any], bytes]
) -> None:
    source = unpack(tmp_path / "tiered-imagenet", files(kind, write, bgr))
    with caplog.at_level(logging.INFO, "fsbench.data"):
        found = prepare("tiered", [source], tmp_path / "data", accept_terms=True)[0].dataset
    store = found.select(list(SIZES), "metaoptnet", 84)
    expected = [picture(w, i) for w, n in SIZES.items() for i in range(n)]
    np.testing.assert_array_equal(store.images(range(len(store))), expected)
    word = "BGR, turned to RGB" if bgr else "RGB"
    assert f"train_images{'_png.pkl' if kind == 'png' else '.npz'}: {word}" in found.manifest.note
    assert word in caplog.text
    assert (found.manifest.population, found.manifest.has_originals) == ("ren", False)
    assert found.groups == tuple(SUPER[w] for w in sorted(SIZES))


def test_the_archive_of_ren_is_read_as_it_is(tmp_path: Path) -> None:
    tar = tmp_path / "tiered-imagenet.tar"
    tar.write_bytes(tar_of({f"tiered-imagenet/{k}": v for k, v in files("png").items()}))
    found = prepare("tiered", [tar], tmp_path / "data", accept_terms=True)[0].dataset
    assert found.class_names == tuple(sorted(SIZES))


def test_zenodos_names_are_known(tmp_path: Path) -> None:
    source = unpack(tmp_path / "x", files("png", prefix="tiered-imagenet-"))
    assert plans("tiered", [source], tmp_path / "data", accept_terms=True)[0].n_images == sum(SIZES.values())


def test_grey_pictures_do_not_tell_the_order_of_colours(tmp_path: Path) -> None:
    found = files("npz")
    stream = io.BytesIO()
    np.savez(stream, images=np.full((len(rows("base")), 84, 84, 3), 128, dtype=np.uint8))
    found["train_images.npz"] = stream.getvalue()
    with pytest.raises(DataError, match="order of colours cannot be told"):
        plans("tiered", [unpack(tmp_path / "x", found)], tmp_path / "data", accept_terms=True)


def named_pngs(bgr: bool = False, general: int = 3) -> dict[str, bytes]:
    """SimpleShot's files: split, superclass, class and place in the name, csv files beside them."""
    found = {
        f"data/{split}_{general}_{label}_{i}.png": encoded(
            picture(w, i)[..., ::-1] if bgr else picture(w, i), "PNG"
        )
        for split, role in SPLITS.items()
        for label, w, i in rows(role)
    }
    names = [name.removeprefix("data/") for name in found]
    return found | {
        f"{split}.csv": "".join(f"{n},{n.split('_')[2]}\n" for n in names if n.startswith(split)).encode()
        for split in SPLITS
    }


@pytest.mark.parametrize("bgr", [False, True], ids=["rgb", "bgr"])
@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_single_files_are_known_by_their_names(tmp_path: Path, bgr: bool, kind: str) -> None:
    source = tmp_path / "tiered.tar"
    if kind == "tar":
        source.write_bytes(tar_of(named_pngs(bgr)))
    else:
        source = unpack(tmp_path / "source", named_pngs(bgr))
    found = prepare("tiered", [source], tmp_path / "data", accept_terms=True)[0].dataset
    store = found.select(list(SIZES), "metaoptnet", 84)
    expected = [picture(w, i) for w, n in SIZES.items() for i in range(n)]
    np.testing.assert_array_equal(store.images(range(len(store))), expected)
    assert (found.manifest.population, found.manifest.has_originals) == ("ren", False)
    assert ("turned" in found.manifest.note) is bgr


def test_single_files_of_other_classes_are_refused(tmp_path: Path) -> None:
    files = named_pngs()
    del files["data/train_3_1_2.png"]
    with pytest.raises(DataError, match="not the base classes in the known order"):
        plans("tiered", [unpack(tmp_path / "x", files)], tmp_path / "data", accept_terms=True)
    files = named_pngs()
    files["data/train_4_1_2.png"] = files.pop("data/train_3_1_2.png")
    with pytest.raises(DataError, match="does not fit the superclasses"):
        plans("tiered", [unpack(tmp_path / "y", files)], tmp_path / "data", accept_terms=True)


@pytest.mark.parametrize(
    ("file", "value", "message"),
    [
        ("train_labels.pkl", {"labels": [0, 1, 0, 1, 0]}, "not the base classes in the known order"),
        ("train_labels.pkl", {"labels": [0, 1, 0, 1]}, "not the base classes"),
        ("train_labels.pkl", {"label": []}, "has no `labels`"),
        ("train_labels.pkl", {"labels": "aaaaa"}, "whole numbers"),
        ("train_labels.pkl", [0, 1], "a dictionary was expected"),
        (
            "train_labels.pkl",
            {**ren_labels("base"), "label_general": [0, 1, 0, 1, 1]},
            "does not fit the superclasses",
        ),
        ("train_labels.pkl", {**ren_labels("base"), "label_general": [0, 1]}, "whole numbers"),
        ("train_images_png.pkl", [png(noise(0, 84, 84))], "1 pictures and 5 labels"),
        ("train_images_png.pkl", {"images": 1}, "not a list of PNG streams"),
        ("train_images_png.pkl", [b"bytes"], "not a list of PNG streams"),
        ("train_images_png.pkl", [png(noise(0, 32, 32))] * 5, "84×84 were expected"),
        ("train_images_png.pkl", [png(noise(0, 84, 84))[:-50]] * 5, "not a whole image"),
    ],
)
def test_other_contents_are_refused(tmp_path: Path, file: str, value: object, message: str) -> None:
    source = unpack(tmp_path / "x", {**files("png"), file: pickle.dumps(value)})
    with pytest.raises(DataError, match=message):
        prepare("tiered", [source], tmp_path / "data", accept_terms=True)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("shape", [(5, 84, 84), (5, 32, 32, 3), (5, 3, 84, 84)])
def test_arrays_of_another_shape_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    stream = io.BytesIO()
    np.savez(stream, images=np.zeros(shape, dtype=np.uint8))
    source = unpack(tmp_path / "x", {**files("npz"), "train_images.npz": stream.getvalue()})
    with pytest.raises(DataError, match="expected"):
        plans("tiered", [source], tmp_path / "data", accept_terms=True)


def test_images_without_labels_are_refused(tmp_path: Path) -> None:
    found = files("npz")
    del found["val_labels.pkl"]
    with pytest.raises(DataError, match=r"no val_labels\.pkl"):
        plans("tiered", [unpack(tmp_path / "x", found)], tmp_path / "data", accept_terms=True)


def test_pickled_objects_in_an_npz_are_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.savez(stream, images=np.array([{}], dtype=object))
    source = unpack(tmp_path / "x", {**files("npz"), "train_images.npz": stream.getvalue()})
    with pytest.raises(DataError, match="object where"):
        plans("tiered", [source], tmp_path / "data", accept_terms=True)
