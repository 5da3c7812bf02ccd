"""Sources of every benchmark in their exact real layout, made up: true classes, few and tiny pictures.

What is written here is no data set. A class is a small pattern of colours under noise, so that a method can tell
classes apart, and every digest of it has ``-rehearsal-`` in it.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
N = 20  # pictures of a class: one episode of five shots and fifteen queries
N_LARGE = 16  # where there are hundreds of classes: one shot
_LARGE = ("tiered", "omniglot", "omniglot-small", "omniglot-small-lowshot")
PARTS = {"train": 8, "val": 4, "trainval": 12, "test": 8}  # of N, where pictures have an official split
_UNCUT = (
    "glyphs",
    "glyphs-lowshot",
    "glyphs-closed",
    "cifar10",
    "imagenet-lowshot",
)  # drawn here, not rehearsed, or cut otherwise
N_TRAINING, N_HELD_OUT = 3, 2  # pictures of each of the thousand classes of ImageNet low-shot


def write_benchmarks(folder: Path) -> Path:
    """Copy ``benchmarks/`` with splits of fewer images, and the file that marks them as a rehearsal's."""
    shutil.copytree(BENCHMARKS, folder, ignore=shutil.ignore_patterns("__pycache__", "*-features.toml"))
    (folder / "rehearsal").touch()
    (folder / "episodes.lock").write_text("")
    for path in (folder / "splits").glob("*.json"):
        if path.stem not in _UNCUT:
            n = N_LARGE if path.stem in _LARGE else N
            path.write_text(json.dumps(_cut(json.loads(path.read_text()), n)))
    for name in ("flowers", "pets", "dogs"):
        path = folder / f"splits/{name}.json"
        split = json.loads(path.read_text())
        cut = {part: dict.fromkeys(split[part], _part(split, part)) for part in PARTS if part in split}
        path.write_text(json.dumps({**split, **cut}))
    for path in folder.glob("*-closed.toml"):
        path.write_text(path.read_text().replace("image_size = 224", "image_size = 32"))
    ranks, mini = folder / "splits/mini_ranks.json", _split(folder, "mini")
    ranks.write_text(json.dumps(_cut_ranks(json.loads(ranks.read_text()))))
    tiered = _split(folder, "tiered")
    for role in ("base", "validation", "novel", "trainval"):  # a class of both has one folder in ImageNet
        tiered[role] = {w: N if w in mini["all"] else n for w, n in tiered[role].items()}
    (folder / "splits/tiered.json").write_text(json.dumps(tiered))
    _cut_lowshot(folder)
    return folder


def write_imagenet(path: Path, benchmarks: Path) -> Path:
    """``ILSVRC2012_img_train.tar``: an inner tar for each class, of mini, tiered and neither."""
    ranks = json.loads((benchmarks / "splits/mini_ranks.json").read_text())["number"]
    tiered = _split(benchmarks, "tiered")
    wnids = {**tiered["base"], **tiered["validation"], **tiered["novel"], **_split(benchmarks, "mini")["all"]}
    with tarfile.open(path, "w") as archive:
        for wnid, n in sorted({**wnids, "n02980441": 3}.items()):
            numbers = accumulate(map(int, ranks[wnid].split())) if wnid in ranks else range(10, 10 + 7 * n, 7)
            inner = _tar((f"{wnid}_{k}.JPEG", photo(wnid, k)) for k in numbers)
            _add(archive, f"{wnid}.tar", inner)
    return path


def write_lowshot(folder: Path, benchmarks: Path) -> Path:
    """``ILSVRC2012_img_train.tar`` of all thousand classes, and ``ILSVRC2012_img_val.tar``."""
    wnids = list(_split(benchmarks, "imagenet-lowshot")["sizes"])
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as archive:
        for wnid in sorted(wnids):
            names = [f"{wnid}_{7 * k}.JPEG" for k in range(1, N_TRAINING + 1)]
            _add(archive, f"{wnid}.tar", _tar((name, photo(wnid, k)) for k, name in enumerate(names)))
    with np.load(benchmarks / "splits/imagenet-lowshot-val.npz") as card:
        class_of = {int(n): wnid for wnid, row in zip(wnids, card["val_ids"], strict=True) for n in row}
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as archive:
        for number, wnid in sorted(class_of.items()):
            _add(archive, f"ILSVRC2012_val_{number:08d}.JPEG", photo(wnid, 1000 + number))
    return folder


def write_cub(path: Path, benchmarks: Path) -> Path:
    """``CUB_200_2011.tgz`` with its lists and boxes, and the stray file beside the folder."""
    classes = _split(benchmarks, "cub")["all"]
    files = [
        f"{bird}/{bird.partition('.')[2]}_{i + 1:04d}_{1000 * c + i}.jpg"
        for c, (bird, n) in enumerate(classes.items())
        for i in range(n)
    ]
    lists = {
        "images.txt": (f"{k} {file}" for k, file in enumerate(files, start=1)),
        "bounding_boxes.txt": (f"{k} 2.0 3.0 24.0 17.0" for k in range(1, len(files) + 1)),
        "classes.txt": (f"{c} {bird}" for c, bird in enumerate(classes, start=1)),
        "image_class_labels.txt": (f"{k} {int(file[:3])}" for k, file in enumerate(files, start=1)),
    }
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        _add(archive, "attributes.txt", b"1 has_bill_shape::curved\n")
        for name, lines in lists.items():
            _add(archive, f"CUB_200_2011/{name}", "".join(f"{line}\n" for line in lines).encode())
        for k, file in enumerate(files):
            _add(archive, f"CUB_200_2011/images/{file}", photo(file[:3], k))
    return path


def write_flowers(folder: Path, benchmarks: Path) -> Path:
    """``102flowers.tgz``, ``imagelabels.mat`` and ``setid.mat``; numbers of a class are scattered, as in the real one."""
    split = _split(benchmarks, "flowers")
    rows = [
        (c, part) for part in ("train", "val", "test") for c in split["all"] for _ in range(split[part][c])
    ]
    order = np.random.default_rng(3).permutation(len(rows))
    classes = list(split["all"])
    folder.mkdir(parents=True, exist_ok=True)
    labels, parts = [], {"trnid": [], "valid": [], "tstid": []}
    key = {"train": "trnid", "val": "valid", "test": "tstid"}
    with tarfile.open(folder / "102flowers.tgz", "w:gz", compresslevel=1) as archive:
        for number, i in enumerate(order, start=1):
            name, part = rows[i]
            labels.append(classes.index(name) + 1)
            parts[key[part]].append(number)
            _add(archive, f"jpg/image_{number:05d}.jpg", photo(name, int(i)))
    savemat(folder / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    savemat(folder / "setid.mat", {k: np.array([v], dtype=np.uint16) for k, v in parts.items()})
    return folder


def write_pets(folder: Path, benchmarks: Path) -> Path:
    """``images.tar.gz`` with a few pictures that no list names, and ``annotations.tar.gz``."""
    split = _split(benchmarks, "pets")
    folder.mkdir(parents=True, exist_ok=True)
    lists: dict[str, list[str]] = {"trainval": [], "test": []}
    with tarfile.open(folder / "images.tar.gz", "w:gz", compresslevel=1) as archive:
        for c, (name, n) in enumerate(split["all"].items(), start=1):
            for place in range(n + 1):  # one more than is listed
                _add(archive, f"images/{name}_{place + 1}.jpg", photo(name, place))
                if place < n:
                    part = "trainval" if place % n < split["trainval"][name] else "test"
                    lists[part].append(f"{name}_{place + 1} {c} {1 + name[0].islower()} {c}\n")
            _add(archive, f"images/{name}_1.mat", b"MATLAB 5.0 MAT-file")
    with tarfile.open(folder / "annotations.tar.gz", "w:gz", compresslevel=1) as archive:
        for part, lines in lists.items():
            _add(archive, f"annotations/{part}.txt", "".join(lines).encode())
        head = "#Image CLASS-ID SPECIES BREED ID\n" * 6
        _add(archive, "annotations/list.txt", (head + "".join(lists["trainval"] + lists["test"])).encode())
        _add(archive, "annotations/trimaps/Abyssinian_1.png", stroke("trimap", 1))
    return folder


def write_dogs(folder: Path, benchmarks: Path) -> Path:
    """``images.tar`` and ``lists.tar``, whose MATLAB files have a column of names."""
    split = _split(benchmarks, "dogs")
    folder.mkdir(parents=True, exist_ok=True)
    lists: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    with tarfile.open(folder / "images.tar", "w") as archive:
        for c, (name, n) in enumerate(split["all"].items(), start=1):
            for place in range(n):
                file = f"{name}/{name.partition('-')[0]}_{7 * place + 3}.jpg"
                _add(archive, f"Images/{file}", photo(name, place))
                lists["train" if place < split["train"][name] else "test"].append((file, c))
    with tarfile.open(folder / "lists.tar", "w") as archive:
        for part, rows in {**lists, "file": [*lists["train"], *lists["test"]]}.items():
            files = np.empty((len(rows), 1), dtype=object)
            files[:, 0] = [file for file, _ in rows]
            stream = io.BytesIO()
            savemat(stream, {"file_list": files, "labels": np.array([[c] for _, c in rows], dtype=np.uint8)})
            _add(archive, f"{part}_list.mat", stream.getvalue())
    return folder


def write_cifar100(path: Path, benchmarks: Path) -> Path:
    """``cifar-100-python.tar.gz``: three pickles; of each class five sixths are in the train file."""
    split = _split(benchmarks, "cifar100")
    names, groups = list(split["all"]), sorted(set(split["superclass"].values()))
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for file, places in (("train", range(N - 4)), ("test", range(N - 4, N))):
            rows = [(label, place) for place in places for label in range(100)]
            pixels = [
                pattern(names[label], place, 32, 32).transpose(2, 0, 1).reshape(-1) for label, place in rows
            ]
            card = {
                "data": np.stack(pixels),
                "fine_labels": [label for label, _ in rows],
                "coarse_labels": [groups.index(split["superclass"][names[label]]) for label, _ in rows],
                "filenames": [f"{names[label]}_s_{place:06d}.png" for label, place in rows],
                "batch_label": f"{file}ing batch 1 of 1",
            }
            _add(archive, f"cifar-100-python/{file}", pickle.dumps(card, 2))
        meta = pickle.dumps({"fine_label_names": names, "coarse_label_names": groups}, 2)
        _add(archive, "cifar-100-python/meta", meta)
    return path


def write_omniglot(folder: Path, benchmarks: Path) -> Path:
    """Lake's five zips: two full sets, two small ones, and the 20 one-shot runs."""
    full, small = _split(benchmarks, "omniglot"), _split(benchmarks, "omniglot-small")
    every = {**full["background"], **full["base"], **full["validation"], **full["novel"]}
    sets = {
        "images_background": full["background"],
        "images_evaluation": {c: n for c, n in every.items() if c not in full["background"]},
        "images_background_small1": small["small1"],
        "images_background_small2": small["small2"],
    }
    number = {character: i for i, character in enumerate(every, start=1)}  # one over all sets, as in Lake's
    folder.mkdir(parents=True, exist_ok=True)
    for name, characters in sets.items():
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            for character, n in characters.items():
                for drawer in range(1, n + 1):
                    file = f"{name}/{character}/{number[character]:04d}_{drawer:02d}.png"
                    archive.writestr(file, stroke(character, drawer))
    write_runs(folder / "all_runs.zip")
    return folder


def write_runs(path: Path) -> Path:
    """Write ``all_runs.zip``: in each run, test item m is an answer to training class 21 - m."""
    with zipfile.ZipFile(path, "w") as archive:
        for run in (f"run{r:02d}" for r in range(1, 21)):
            lines = [
                f"{run}/test/item{m:02d}.png {run}/training/class{21 - m:02d}.png\n" for m in range(1, 21)
            ]
            archive.writestr(f"{run}/class_labels.txt", "".join(lines))
            for m in range(1, 21):
                archive.writestr(f"{run}/training/class{m:02d}.png", stroke(f"{run}/{m}", 0))
                archive.writestr(f"{run}/test/item{m:02d}.png", stroke(f"{run}/{21 - m}", 1))
    return path


def pattern(name: str, place: int, height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(height, width, 3) uint8: 4×4 patches of the class's colours, reddish as photographs are, under noise."""
    colours = np.random.default_rng(zlib.crc32(name.encode())).integers(40, 190, (4, 4, 3))
    colours[..., 0] += 20
    patches = colours.repeat(height // 4, axis=0).repeat(width // 4, axis=1)
    noise = np.random.default_rng([zlib.crc32(name.encode()), place]).integers(-120, 120, patches.shape)
    return (patches + noise).clip(0, 255).astype(np.uint8)


def photo(name: str, place: int) -> bytes:
    """Encode one picture of a class as JPEG."""
    return _encoded(Image.fromarray(pattern(name, place, 24, 32)), "JPEG")


def stroke(name: str, place: int) -> bytes:
    """Encode one drawing of a character: 35×35, 1 bit, black on white, as PNG."""
    ink = np.random.default_rng(zlib.crc32(name.encode())).random((7, 7)) < 0.35
    drawn = ink.repeat(5, axis=0).repeat(5, axis=1)
    drawn ^= np.random.default_rng([zlib.crc32(name.encode()), place]).random(drawn.shape) < 0.03
    return _encoded(Image.fromarray(~drawn), "PNG")


def _split(benchmarks: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((benchmarks / f"splits/{name}.json").read_text())
    return found


def _cut(split: Mapping[str, Any], n: int) -> dict[str, Any]:
    """Lower every number of images to ``n``."""
    return {
        key: {name: min(count, n) for name, count in value.items()} if _are_counts(value) else value
        for key, value in split.items()
    }


def _part(split: Mapping[str, Any], part: str) -> int:
    """Pictures of a class in a part; training has validation's where there is none."""
    return PARTS["trainval" if part == "train" and "val" not in split else part]


def _are_counts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(count, int) for count in value.values())


def _cut_ranks(card: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the first ranks and numbers of each class of mini-ImageNet."""
    ranks = {}
    for wnid, mask in card["rank"].items():
        places = [place for place, bit in enumerate(reversed(f"{int(mask, 16):b}")) if bit == "1"]
        ranks[wnid] = f"{sum(1 << place for place in places[:N]):x}"
    numbers = {wnid: " ".join(text.split()[:N]) for wnid, text in card["number"].items()}
    return {**card, "rank": ranks, "number": numbers}


def _cut_lowshot(folder: Path) -> None:
    """Cut ImageNet low-shot: sizes, draws and held-out pictures go together, and the settings with them."""
    split, splits = _split(folder, "imagenet-lowshot"), folder / "splits"
    split["sizes"] = dict.fromkeys(split["sizes"], N_TRAINING)
    for half in ("base_1", "base_2", "novel_1", "novel_2"):
        split[half] = dict.fromkeys(split[half], N_TRAINING + N_HELD_OUT)
    (splits / "imagenet-lowshot.json").write_text(json.dumps(split))
    rng = np.random.default_rng(5)
    draws = {str(N_TRAINING): [rng.permutation(N_TRAINING).tolist() for _ in range(5)]}
    (splits / "imagenet-lowshot-draws.json.gz").write_bytes(gzip.compress(json.dumps(draws).encode()))
    with np.load(splits / "imagenet-lowshot-val.npz") as card:
        numbers = card["val_ids"][:, :N_HELD_OUT]
    np.savez(splits / "imagenet-lowshot-val.npz", val_ids=numbers)
    path = folder / "imagenet-lowshot.toml"
    text = (
        path.read_text().replace("n_query = 50", f"n_query = {N_HELD_OUT}").replace("-50]", f"-{N_HELD_OUT}]")
    )
    text = text.replace("image_size = 224", "image_size = 32")
    path.write_text(re.sub(r"settings = \[.*?\]", 'settings = ["n1", "n2"]', text))


def _encoded(image: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def _tar(members: Iterable[tuple[str, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members:
            _add(archive, name, content)
    return stream.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))
