"""What the authors' networks are given, and which episodes they are asked: transforms, samplers, the counted protocol."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from golden_files import load, tensor
from PIL import Image

from harness.api import EpisodeBatch
from harness.benchmarks import sampling
from harness.evaluation import counting
from harness.images.inputs import normalise, to_float
from harness.images.pipelines import pipeline
from harness.images.stores import ImageStore
from harness.method.recipe import recipes
from harness.training.base_set import BaseSet
from methods.bml import Bml
from methods.margin import NegCosine

CPU = torch.device("cpu")
BML = {  # letter of the authors' transform → benchmark whose recipe has it
    "A": "mini",
    "B": "tiered",
    "C": "fc100",
    "D": "cifarfs",
    "E": "cub-feat-mixedcrop",
}


def given(picture: np.ndarray, name: str, size: int) -> np.ndarray:
    """What a network gets of a picture: (C, size, size)."""
    view = pipeline(name)
    image = Image.fromarray(picture)
    return normalise(to_float(torch.from_numpy(view.geometry(image, size)[None].copy()), view), view)[
        0
    ].numpy()


@pytest.mark.parametrize("letter", ["A", "D", "E"])
def test_pictures_of_binocular_mutual_learning(letter: str) -> None:
    arrays, entry = load("bml", f"test_transform_{letter}.npz")
    said = recipes(Bml)["as-published"].conditions[BML[letter]]
    assert said.pipeline is not None
    ours = given(arrays["image"], said.pipeline, arrays["out"].shape[-1])
    np.testing.assert_allclose(ours, arrays["out"], rtol=0, atol=1e-5)  # float32; within entry["tolerance"]
    assert entry["tolerance"]["atol"] >= 1e-5


def test_pictures_of_negative_margin() -> None:
    arrays, entry = load("negative_margin", "test_transform.npz")
    facts = entry["hyper_parameters"]
    said = recipes(NegCosine)["as-published"].conditions["mini"]
    view = pipeline(said.pipeline or "")
    assert view.geometry.edge(facts["image_size"]) == facts["resize"]
    assert (list(view.mean), list(view.std)) == (facts["mean"], facts["std"])
    ours = given(arrays["image"], view.name, facts["image_size"])
    np.testing.assert_allclose(ours, arrays["out"], rtol=0, atol=1e-5)


def rows_drawn(label: np.ndarray, n: int, way: int, per_class: int, seed: int) -> list[list[list[int]]]:
    """Training episodes of images whose colour is their number: for each, the rows of each class in order."""
    order, counts = np.argsort(label, kind="stable"), np.bincount(label)
    pixels = np.arange(len(label), dtype=np.uint8).reshape(-1, 1, 1, 1)
    names = tuple(map(str, range(len(counts))))
    store = ImageStore("rows", names, names, "", pixels, order, counts)
    base = BaseSet(store, "stored", CPU, torch.Generator().manual_seed(seed))
    episodes = list(base.episodes(n, way, 1, per_class - 1))
    return [(255 * one.images).round().flatten(1).int().tolist() for one in episodes]


def slot_major(rows: list[list[int]]) -> list[int]:
    """Their order of an episode: the first image of every class, then the second, …"""
    return [row for slot in zip(*rows, strict=True) for row in slot]


def test_training_episodes_are_those_of_binocular_mutual_learning() -> None:
    arrays, entry = load("bml", "sampler.npz")
    facts = entry["hyper_parameters"]
    way, per_class, seed = facts["n_cls"], facts["n_per"], facts["seed"]
    drawn = rows_drawn(arrays["labels"], len(arrays["single"]), way, per_class, seed)
    assert [slot_major(one) for one in drawn] == arrays["single"].tolist()
    for rank, batches in enumerate(arrays["dist"]):  # of every step's episodes, each process keeps one
        n = facts["ep_per_batch"]
        drawn = rows_drawn(arrays["labels"], n * len(batches), way, per_class, seed + rank)
        assert [slot_major(one) for one in drawn[rank::n]] == batches.tolist()


def test_training_episodes_are_those_of_deepemd() -> None:
    arrays, entry = load("deepemd", "episode_sampler.npz")
    n, way, per_class = arrays["n_batch_n_cls_n_per"].tolist()
    drawn = rows_drawn(arrays["label"], n, way, per_class, entry["seed"])
    assert [slot_major(one) for one in drawn] == arrays["batches"].tolist()


def protocol() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays, entry = load("negative_margin", "protocol.npz")
    return arrays, entry


def test_mean_and_interval_are_theirs() -> None:
    arrays, entry = protocol()
    accuracy, rtol = arrays["acc_all"], entry["tolerance"]["mean_ci_rtol"]
    assert accuracy.mean() == pytest.approx(float(arrays["mean"]), rel=rtol)
    printed = 1.96 * accuracy.std(ddof=0) / np.sqrt(len(accuracy))
    assert printed == pytest.approx(float(arrays["ci95"]), rel=rtol)


def test_their_episodes_and_ours_are_laid_out_alike() -> None:
    arrays, entry = protocol()
    facts, label = entry["hyper_parameters"], arrays["labels"]
    theirs = arrays["episode_index"]  # (E, W, S + Q)
    counts = np.unique(label, return_counts=True)[1]
    drawn = sampling.sample(counts, facts["n_way"], facts["n_support"], facts["n_query"], len(theirs), 0)
    by_class = np.argsort(label, kind="stable")
    ours = by_class[np.concatenate([drawn.support, drawn.query], axis=2)]
    for index in (theirs, ours):
        assert index.shape == theirs.shape
        for episode in index:
            classes = label[episode]  # (W, S + Q)
            assert (classes == classes[:, :1]).all() and len(set(classes[:, 0])) == facts["n_way"]
            assert len(set(episode.ravel().tolist())) == episode.size


def test_the_head_of_an_episode_is_as_accurate_as_theirs_on_their_episodes() -> None:
    """Starts and orders are not stored: theirs lie within four standard deviations of our own, drawn twenty times."""
    arrays, entry = protocol()
    facts, index = entry["hyper_parameters"], arrays["episode_index"]
    n, way, shot = len(index), facts["n_way"], facts["n_support"]
    x = tensor(arrays["features"], torch.float32)[torch.from_numpy(index)]  # (E, W, S + Q, D)
    method = NegCosine.__new__(NegCosine)  # its head alone, without a network
    torch.nn.Module.__init__(method)
    method.config = NegCosine.Config(head_scale=float(facts["scale"]))
    label = np.arange(way).repeat(facts["n_query"])
    repeated = []
    for draw in range(20):
        rng = [torch.Generator().manual_seed(n * draw + i) for i in range(n)]
        scores = method.predict_batch(EpisodeBatch(x[:, :, :shot], x[:, :, shot:].flatten(1, 2), rng))
        repeated.append(counting.n_correct(counting.predicted(scores), label) / len(label))
    ours = np.array(repeated)  # (draws, E)
    assert (np.abs(ours.mean(0) - arrays["acc_all"]) < 4 * ours.std(0)).all()
    assert abs(ours.mean() - float(arrays["mean"])) < 4 * ours.mean(1).std()
