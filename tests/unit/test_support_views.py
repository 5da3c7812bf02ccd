"""Views of a support image: what they are made of, and heads that are fitted on them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression as Sklearn
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn

from harness.api import EpisodeBatch, Grid, SupportViews, l2_normalise
from harness.errors import PluginError
from harness.evaluation.features import Viewed, below_head
from harness.images.inputs import Inputs, as_input
from harness.images.stores import ImageStore, store_of_arrays
from harness.method import registry
from harness.testing.workbench import Workbench

CPU = torch.device("cpu")
ROWS = np.array([3, 0, 5, 3])


def store(channels: int, pipeline: str, size: int = 20) -> ImageStore:
    rng = np.random.default_rng(channels)
    pixels = rng.integers(0, 256, (2, 4, size, size, channels), dtype=np.uint8)
    return store_of_arrays("drawn", pixels, ("a", "b"), ("", ""), pipeline)


def seen(
    images: ImageStore, pipeline: str, rows: np.ndarray = ROWS, training_pass: int | None = None
) -> torch.Tensor:
    with Inputs(images, pipeline, CPU, SupportViews(4)) as inputs:
        return inputs.take(rows, training_pass)


@pytest.mark.parametrize(("channels", "pipeline"), [(1, "stored"), (3, "metaoptnet")])
def test_the_first_view_is_the_image_and_the_others_hang_on_it_alone(channels: int, pipeline: str) -> None:
    images = store(channels, pipeline)
    views = seen(images, pipeline)
    assert views.shape == (4, 5, channels, 20, 20) and views.dtype == torch.float32
    assert torch.equal(views[:, 0], as_input(images, ROWS, pipeline, CPU))
    assert torch.equal(views[0], views[3]), "an image has the same views each time"
    assert torch.equal(views[1], seen(images, pipeline, ROWS[1:2])[0]), "whatever is asked beside it"
    apart = (views[:, 1:] - views[:, :1]).abs().amax((2, 3, 4))  # (n, v) from the image as it is
    assert (apart > 0.01).sum(1).min() >= 3, "views differ; one of 25 shifts is none"
    assert not torch.equal(views, seen(images, pipeline, training_pass=7))


def test_where_nothing_is_changed_in_training_views_are_shifted_by_a_tenth_of_the_edge() -> None:
    images = store(1, "stored")
    for image, *views in seen(images, "stored").squeeze(2).numpy():
        room = np.pad(image, 2)
        windows = [room[i : i + 20, j : j + 20] for i in range(5) for j in range(5)]
        assert all(any(np.allclose(view, w, atol=1e-6) for w in windows) for view in views)


class _Flat(nn.Module):
    """Embeds pixels."""

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, :, ::2, ::3]


def viewed(head: Any) -> tuple[EpisodeBatch, np.ndarray, np.ndarray]:
    """An episode of 2 classes of 2 images; its views as 16 rows, 8 of each class, and its queries as they are."""
    images = store(1, "stored")
    table = below_head(head, _Flat()).embed(seen(images, "stored", np.arange(8)))  # (8, 1 + 4, D)
    support, query = table.unflatten(0, (2, 4))[:, :2], table[[2, 3, 6, 7]]
    plain = _Flat().embed(as_input(images, np.array([2, 3, 6, 7]), "stored", CPU)).flatten(1)
    rows, plain = (l2_normalise(x).double() for x in (support[:, :, 1:].flatten(0, 2), plain))
    return EpisodeBatch(support[None], query[None], []), rows.numpy(), plain.numpy()


def test_logistic_is_fitted_on_the_views_and_asked_of_the_image_as_it_is() -> None:
    cls = registry.load("logistic").cls
    head = cls(cls.Config(views=4), nn.Identity())
    batch, x, plain = viewed(head)
    found = head.predict_batch(batch)[0]
    fitted = Sklearn(C=1.0, tol=1e-10, max_iter=10_000).fit(x, np.repeat([0, 1], 8))
    theirs = fitted.decision_function(plain)
    np.testing.assert_allclose(found[:, 1] - found[:, 0], theirs, atol=1e-4)


def test_svm_is_fitted_on_the_views_and_asked_of_the_image_as_it_is() -> None:
    cls = registry.load("svm").cls
    head = cls(cls.Config(views=4), nn.Identity())
    batch, x, plain = viewed(head)
    fitted = make_pipeline(StandardScaler(), SVC(kernel="linear", tol=1e-8)).fit(x, np.repeat([0, 1], 8))
    np.testing.assert_array_equal(head.predict_batch(batch)[0].argmax(1), fitted.predict(plain))
    state = head.fit(batch.support)
    kernel = (torch.from_numpy(plain) - state.mean) / state.deviation @ state.support.double().mT
    # features are float32; positive is for class 0 of ours and for class 1 of theirs
    np.testing.assert_allclose(
        -state.machines.margins(kernel)[0, :, 0], fitted.decision_function(plain), atol=1e-4
    )


def test_a_head_is_given_views_of_the_fit_below_it_from_training_to_scores() -> None:
    bench = Workbench(registry.load("logistic").cls, {"features": "nearest-mean", "views": 2})
    assert bench.fit.error is None
    problem = bench.problem(way=5, shot=2)
    assert problem.support.shape == (5, 2, 3, 64) and problem.query.shape == (25, 3, 64)
    plain = bench.below(bench.encoder).source.take(np.arange(4))
    torch.testing.assert_close(bench.source.take(np.arange(4))[:, 0], plain.flatten(1))


@pytest.mark.parametrize(
    ("head", "fit", "said"),
    [
        (SimpleNamespace(views=SupportViews(2)), SimpleNamespace(views=Grid((2,))), "so no head can ask SupportViews"),
        (type("OnMaps", (), {"takes": "maps", "views": SupportViews(2)})(), SimpleNamespace(), "of which there is one view"),
    ],
)  # fmt: skip
def test_views_that_cannot_be_given_are_refused(head: Any, fit: Any, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        below_head(head, fit)


def test_each_view_is_embedded_with_as_many_images_as_without_views() -> None:
    sizes = list[int]()
    fit = SimpleNamespace(embed=lambda images: sizes.append(len(images)) or images)
    assert Viewed(fit, SupportViews(2)).embed(torch.zeros(6, 3, 1, 4, 4)).shape == (6, 3, 16)
    assert sizes == [6, 6, 6]
