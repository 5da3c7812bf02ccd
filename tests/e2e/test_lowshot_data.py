"""ImageNet low-shot from pictures and from saved features, at the size of a toy: same rows, same experiments."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from harness.images.sources import imagenet_lowshot

N_HELD_OUT, N_FEATURES = 2, 6
SIZES = {
    f"n{i:08d}": size for i, size in zip((7, 3, 9, 1, 8, 2), (5, 4, 5, 6, 6, 5), strict=True)
}  # label order
BASE = (("n00000007",), ("n00000003",))
NOVEL = (("n00000009", "n00000001"), ("n00000008", "n00000002"))
DRAWS = {size: [[(e + k) % size for k in range(2)] for e in range(5)] for size in (4, 5, 6)}
TOML = """
name = "imagenet-lowshot"
title = "toy"
about = "toy"
protocol = "joint"
image_size = 224
channels = 3
pipeline = "simpleshot"
backbone = "resnet10"
seed = 1
n_query = 2
n_episodes = 5
settings = ["n1", "n2"]
draws = "imagenet-lowshot-draws.json.gz"
sizes = "imagenet-lowshot.json#sizes"
asked = "imagenet-lowshot.json#base_2+novel_2"
base = { dataset = "imagenet-lowshot", split = "imagenet-lowshot.json#base_1+base_2", images = [0, -2] }
novel = { dataset = "imagenet-lowshot", split = "imagenet-lowshot.json#novel_1+novel_2" }

[variants.features]
base = { dataset = "imagenet-lowshot-features" }
novel = { dataset = "imagenet-lowshot-features" }
image_size = 1
channels = 0
pipeline = "features"
backbone = "features"
"""


def kept(name: str) -> list[int]:
    return sorted({p for draw in DRAWS[SIZES[name]] for p in draw})


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A benchmarks folder with six classes of the published form."""
    folder = tmp_path / "benchmarks"
    (folder / "splits").mkdir(parents=True)
    split: dict[str, Any] = {"about": "toy", "sizes": SIZES}
    for half in (1, 2):
        split[f"base_{half}"] = {name: SIZES[name] + N_HELD_OUT for name in BASE[half - 1]}
        split[f"novel_{half}"] = {name: len(kept(name)) + N_HELD_OUT for name in NOVEL[half - 1]}
    (folder / "splits" / "imagenet-lowshot.json").write_text(json.dumps(split))
    with gzip.open(folder / "splits" / "imagenet-lowshot-draws.json.gz", "wt") as stream:
        json.dump(DRAWS, stream)
    numbers = np.arange(1, 1 + N_HELD_OUT * len(SIZES), dtype=np.uint16).reshape(len(SIZES), N_HELD_OUT)
    np.savez(folder / "splits" / "imagenet-lowshot-val.npz", val_ids=numbers)
    (folder / "imagenet-lowshot.toml").write_text(TOML)
    (folder / "ambiguous.toml").write_text("")
    (folder / "episodes.lock").write_text("")
    return tmp_path


def fsbench(toy: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "FSBENCH_BENCHMARKS": str(toy / "benchmarks"), "FSBENCH_HOME": str(toy / "home"),
        "FSBENCH_DATA": str(toy / "data"), "FSBENCH_CACHE": str(toy / "cache"),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "fsbench", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done


def feature(label: int, position: int, *, held_out: bool) -> np.ndarray[Any, Any]:
    """Close to its class's corner; the last number says which picture it is."""
    value = np.full(N_FEATURES, 0.1, dtype=np.float32)
    value[label % (N_FEATURES - 1)] = 3 + label
    value[-1] = (100 * label + position + (50 if held_out else 0)) / 1000
    return value


def save_features(path: Path, counts: list[int], *, held_out: bool, padding: int = 3) -> None:
    rows = [feature(label, p, held_out=held_out) for label, n in enumerate(counts) for p in range(n)]
    with h5py.File(path, "w") as file:
        file["all_feats"] = np.vstack([*rows, np.zeros((padding, N_FEATURES), np.float32)])
        file["all_labels"] = np.concatenate(
            [np.repeat(np.arange(len(counts)), counts), np.zeros(padding)]
        ).astype(np.int32)
        file["count"] = np.array([len(rows)], dtype=np.int32)


def save_both(folder: Path) -> Path:
    folder.mkdir()
    save_features(folder / "train.hdf5", list(SIZES.values()), held_out=False)
    save_features(folder / "val.hdf5", [N_HELD_OUT] * len(SIZES), held_out=True)
    return folder


def save_pictures(folder: Path) -> Path:
    """Pictures of one grey each, which says class and number; names sort differently as text and as numbers."""
    for label, (name, n) in enumerate(SIZES.items()):
        (folder / "train" / name).mkdir(parents=True)
        for k in range(n):
            grey = Image.new("RGB", (260, 256), (40 * label, 10 * k, 0))
            grey.save(folder / "train" / name / f"{name}_{9 + k}.JPEG", quality=95)
    (folder / "val").mkdir()
    for number in range(1, 1 + N_HELD_OUT * len(SIZES)):
        grey = Image.new("RGB", (256, 300), (40 * ((number - 1) // N_HELD_OUT), 200, 50))
        grey.save(folder / "val" / f"ILSVRC2012_val_{number:08d}.JPEG", quality=95)
    return folder


def test_saved_features_are_run_from_end_to_end(toy: Path) -> None:
    source = save_both(toy / "hdf5")
    said = fsbench(
        toy, "prepare", "imagenet-lowshot-features", "--source", str(source), "--accept-terms"
    ).stdout
    n_rows = sum(SIZES[n] + 2 for half in BASE for n in half) + sum(
        len(kept(n)) + 2 for half in NOVEL for n in half
    )
    assert f"{n_rows} images" in said
    row = json.loads(
        fsbench(toy, "run", "-m", "pixels", "-b", "imagenet-lowshot-features-n1", "--json").stdout
    )[0]
    # Each class has a corner of its own among the three of this half, so nearest means make no error on features.
    assert row["metrics"] == dict.fromkeys(row["metrics"], 1.0)
    assert "error" not in fsbench(toy, "verify", "imagenet-lowshot-features").stdout
    words = ["run", "-m", "nearest-mean", "-b", "imagenet-lowshot-features-n2", "--set", "epochs=1", "--json"]
    trained = json.loads(fsbench(toy, *words).stdout)[0]
    assert trained["backbone"] == "features" and trained["episodes"] == 5
    spec = json.loads(fsbench(toy, "show", row["runs"][0], "--json").stdout)["spec"]
    assert spec["channels"] == N_FEATURES and len(spec["data_digest"]["novel"]) == 64


def test_features_lie_in_the_rows_of_the_pictures_and_padding_is_cut(toy: Path) -> None:
    fsbench(
        toy,
        "prepare",
        "imagenet-lowshot-features",
        "--source",
        str(save_both(toy / "hdf5")),
        "--accept-terms",
    )
    found = np.load(toy / "data" / "imagenet-lowshot-features" / "maps" / "features-1.npy")[:, 0, 0]
    labels = {name: label for label, name in enumerate(SIZES)}
    expected = []
    for name in sorted(SIZES):
        positions = range(SIZES[name]) if name in (*BASE[0], *BASE[1]) else kept(name)
        expected += [feature(labels[name], p, held_out=False) for p in positions]
        expected += [feature(labels[name], p, held_out=True) for p in range(N_HELD_OUT)]
    np.testing.assert_array_equal(found, np.stack(expected))


def test_other_features_have_another_identity(toy: Path) -> None:
    first, second = save_both(toy / "hdf5"), save_both(toy / "other")
    with h5py.File(second / "train.hdf5", "a") as file:
        file["all_feats"][0, 0] += 1e-3
    ids = []
    for source, data in ((first, "data"), (second, "data2")):
        prepare = ["prepare", "imagenet-lowshot-features", "--source", str(source), "--accept-terms"]
        fsbench(toy, *prepare)
        plan = fsbench(
            toy, "run", "-m", "pixels", "-b", "imagenet-lowshot-features-n1", "--dry-run", "--json"
        )
        ids.append(json.loads(plan.stdout)[0]["run"])
        (toy / "data").rename(toy / f"{data}-done")
    assert ids[0] != ids[1]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "val.hdf5").unlink(), "needs two HDF5 files"),
        (lambda folder: (folder / "val.hdf5").write_bytes(b"not a file"), "not an HDF5 file"),
        (lambda folder: save_features(folder / "val.hdf5", [1] * 6, held_out=True), "needs two HDF5 files"),
        (
            lambda folder: save_features(folder / "train.hdf5", [6, 4, 5, 5, 6, 5], held_out=False),
            "not grouped",
        ),
    ],
)
def test_other_feature_files_are_refused(toy: Path, spoil: Any, message: str) -> None:
    source = save_both(toy / "hdf5")
    spoil(source)
    words = ["prepare", "imagenet-lowshot-features", "--source", str(source), "--accept-terms"]
    assert message in fsbench(toy, *words, code=3).stderr
    assert not (toy / "data" / "imagenet-lowshot-features").exists()


def test_pictures_give_the_same_experiments_as_features(toy: Path) -> None:
    """The pictures' greys say which were taken: base classes whole, novel ones where a draw goes, then held-out ones."""
    said = fsbench(
        toy, "prepare", "imagenet-lowshot", "--source", str(save_pictures(toy / "ilsvrc")), "--accept-terms"
    )
    assert "sorted as text" in said.stderr  # six classes are not the published list
    pixels = np.load(toy / "data" / "imagenet-lowshot" / "maps" / "short96-224.npy")
    greys = np.round(pixels[:, 100, 100, :2] / [40, 10]).astype(int)
    labels = {name: label for label, name in enumerate(SIZES)}
    expected = []
    for name in sorted(SIZES):
        by_name = sorted(range(SIZES[name]), key=lambda k: str(9 + k))
        positions = range(SIZES[name]) if name in (*BASE[0], *BASE[1]) else kept(name)
        expected += [[labels[name], by_name[p]] for p in positions] + [[labels[name], 20]] * N_HELD_OUT
    assert greys.tolist() == expected
    fsbench(
        toy,
        "prepare",
        "imagenet-lowshot-features",
        "--source",
        str(save_both(toy / "hdf5")),
        "--accept-terms",
    )
    digests = {
        json.loads(fsbench(toy, "episodes", f"imagenet-lowshot{kind}-n2", "--json").stdout)["digest"]
        for kind in ("", "-features")
    }
    assert len(digests) == 1
    row = json.loads(fsbench(toy, "run", "-m", "pixels", "-b", "imagenet-lowshot-n1", "--json").stdout)[0]
    assert row["episodes"] == 5 and row["metrics"]["top5/all"] > 0.5


def test_a_class_that_is_not_whole_is_refused(toy: Path) -> None:
    source = save_pictures(toy / "ilsvrc")
    words = ["prepare", "imagenet-lowshot", "--source", str(source), "--accept-terms"]
    (source / "val" / "ILSVRC2012_val_00000003.JPEG").unlink()
    assert "n00000003 has 1 of 2" in fsbench(toy, *words, code=3).stderr
    next((source / "train" / "n00000001").iterdir()).unlink()
    assert "n00000001 has 5 of 6" in fsbench(toy, *words, code=3).stderr


def test_the_list_is_known_by_the_digest_git_gives_it(tmp_path: Path) -> None:
    ordered = {"n2": ["n2_1.JPEG", "n2_10.JPEG"], "n1": ["n1_3.JPEG"]}
    path = tmp_path / "train.json"
    path.write_text(
        '{"label_names": ["n2", "n1"], "image_labels": [0, 0, 1], '
        '"image_names": ["train/n2/n2_1.JPEG", "train/n2/n2_10.JPEG", "train/n1/n1_3.JPEG"]}'
    )
    by_git = subprocess.run(
        ["git", "hash-object", str(path)], capture_output=True, text=True, check=True
    ).stdout
    assert imagenet_lowshot.list_digest(ordered) == by_git.strip()


def test_either_order_of_file_names_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    files, sizes = {"n1": ["n1_9.JPEG", "n1_10.JPEG"]}, {"n1": 2}
    for ordered in (["n1_10.JPEG", "n1_9.JPEG"], ["n1_9.JPEG", "n1_10.JPEG"]):
        monkeypatch.setattr(imagenet_lowshot, "PUBLISHED_LIST", imagenet_lowshot.list_digest({"n1": ordered}))
        found, note = imagenet_lowshot.in_published_order(files, sizes)
        assert found == {"n1": ordered} and note.endswith("the published list")


@pytest.mark.nightly
def test_features_of_a_run_go_out_and_come_in_again(toy: Path) -> None:
    """Pictures → a network's features → the authors' files → the same features as images: the same counts."""
    setting = toy / "benchmarks" / "imagenet-lowshot.toml"
    setting.write_text(TOML.replace("image_size = 224", "image_size = 32", 1))  # seconds in place of a minute
    pictures = save_pictures(toy / "pictures")
    fsbench(toy, "prepare", "imagenet-lowshot", "--source", str(pictures), "--accept-terms")
    size = ("--set", "epochs=1", "--backbone", "conv4")
    words = ["run", "-b", "imagenet-lowshot-n2", "-m", "representation", *size, "--json"]
    [row] = json.loads(fsbench(toy, *words).stdout)
    out = toy / "features"
    said = fsbench(toy, "export-features", row["runs"][0], str(out)).stdout
    assert f"features of {len(SIZES)} classes, by representation" in said
    with h5py.File(out / "train.hdf5") as file:
        n = sum(SIZES.values())
        assert file["all_feats"].shape[0] == len(file["all_labels"]) == -(-n // 64) * 64
        assert (
            file["count"][()].tolist() == [n]
            and file["all_labels"][:n].tolist() == np.repeat(range(6), list(SIZES.values())).tolist()
        )
        assert not file["all_feats"][n:].any() and not file["all_labels"][n:].any()
        start = np.cumsum([0, *SIZES.values()])
        kept_rows = [
            start[i] + p
            for i, name in enumerate(SIZES)
            for p in ([*range(SIZES[name])] if name in BASE[0] + BASE[1] else kept(name))
        ]
        assert np.flatnonzero(np.abs(file["all_feats"][:n]).sum(1)).tolist() == kept_rows
    split = json.loads((out / "splitfile_3.json").read_text())
    for label, (name, size_of) in enumerate(SIZES.items()):
        if name not in BASE[0] + BASE[1]:
            assert split[label] == [int(start[label]) + p for p in DRAWS[size_of][2]]
    index = json.loads((out / "label_idx.json").read_text())
    assert index["label_names"] == list(SIZES)
    assert index["novel_classes_2"] == [list(SIZES).index(n) for n in sorted(NOVEL[1], key=list(SIZES).index)]
    fsbench(toy, "prepare", "imagenet-lowshot-features", "--source", str(out), "--accept-terms")
    words = ["run", "-b", "imagenet-lowshot-features-n2", "--json", "-m"]
    [same] = json.loads(fsbench(toy, *words, "representation", "--set", "classifier_steps=1").stdout)
    assert same["metrics"] == row["metrics"]  # the means of the same features, by cosine
    [raw] = json.loads(fsbench(toy, *words, "pixels").stdout)
    fsbench(toy, "export-features", raw["runs"][0], str(toy / "raw"), code=2)  # pixels has no features
    assert (
        "holds something else"
        in fsbench(toy, "export-features", row["runs"][0], str(toy / "pictures"), code=2).stderr
    )


def save_generator(path: Path, n_base: int, clusters: int, dim: int) -> Path:
    """A generator.tar of weights that are all zero but for what says a half."""
    sizes = {"fc1": (512, 3 * dim), "fc2": (512, 512), "fc3": (dim, 512)}
    state = {f"{name}.weight": torch.zeros(shape) for name, shape in sizes.items()}
    state |= {f"{name}.bias": torch.full(shape[:1], 0.5) for name, shape in sizes.items()}
    points = torch.zeros(n_base * clusters, dim)
    torch.save({"state": state, "points": points, "n": n_base, "k": clusters}, path)
    return path


@pytest.mark.nightly
def test_a_generator_of_the_authors_goes_to_the_head(toy: Path) -> None:
    """On saved features the head's file alone is imported; nothing is clustered, mined or trained for it."""
    source = save_both(toy / "hdf5")
    fsbench(toy, "prepare", "imagenet-lowshot-features", "--source", str(source), "--accept-terms")
    words = [
        "run",
        "-m",
        "lowshot-hallucination",
        "-b",
        "imagenet-lowshot-features-n1",
        "--seen",
        "imagenet-lowshot:base",
    ]
    for value in (
        "features=representation(aux=none,classifier_steps=1)",
        "n_steps=2",
        "batch_size=4",
        "clusters=2",
    ):
        words += ["--set", value]  # fmt: skip
    good = save_generator(toy / "generator.tar", 2, 2, N_FEATURES)
    [row] = json.loads(fsbench(toy, *words, "--weights", str(good), "--json").stdout)
    shown = json.loads(fsbench(toy, "show", row["runs"][0], "--json").stdout)
    assert "imported fit" in row["badges"] and shown["provenance"]["weights"]["file"] == "generator.tar"
    assert shown["spec"]["weights_sha256"] and shown["curves"] == []
    [features] = shown["spec"]["required"].values()
    assert features["weights_sha256"] == ""
    bad = save_generator(toy / "other.tar", 3, 2, N_FEATURES + 1)
    said = " ".join(fsbench(toy, *words, "--weights", str(bad), code=2).stderr.split())
    assert (
        "other.tar does not fit" in said and "3 base classes of 2 clusters and features of 7 numbers" in said
    )
    twice = fsbench(toy, *words, "--weights", str(good), "--weights", str(bad), code=2).stderr
    assert "Give one file of each" in twice


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("external link", "is a link or lies in another file"),
        ("soft link", "is a link or lies in another file"),
        ("external storage", "is a link or lies in another file"),
        ("missing class", "and none of 1 of the 6 labels (3)"),
        ("another network", "features of two networks"),
        ("another length", "features of one length"),
    ],
)
def test_files_that_are_not_what_they_should_be(toy: Path, spoil: str, said: str) -> None:
    folder = save_both(toy / "hdf5")
    path = folder / "val.hdf5"
    with h5py.File(path, "a") as file:
        features, labels = file["all_feats"][()], file["all_labels"][()]
        if spoil == "external link":
            del file["all_feats"]
            file["all_feats"] = h5py.ExternalLink("train.hdf5", "/all_feats")
        elif spoil == "soft link":
            file.move("all_feats", "other")
            file["all_feats"] = h5py.SoftLink("/other")
        elif spoil == "external storage":
            del file["all_feats"]
            raw = str(toy / "secret")
            Path(raw).write_bytes(features.tobytes())
            file.create_dataset("all_feats", features.shape, "f4", external=[(raw, 0, features.nbytes)])
        elif spoil == "missing class":
            rows = np.flatnonzero(labels[: N_HELD_OUT * len(SIZES)] != 3)
            del file["all_feats"], file["all_labels"], file["count"]
            file["all_feats"], file["all_labels"], file["count"] = (
                features[rows],
                labels[rows],
                np.array([len(rows)]),
            )
        elif spoil == "another network":
            file.attrs["representation"] = "0123456789ab"
        else:
            del file["all_feats"]
            file["all_feats"] = features[:, :-1]
    words = ("prepare", "imagenet-lowshot-features", "--source", str(folder), "--accept-terms")
    assert said in fsbench(toy, *words, code=3).stderr
