"""Networks of other libraries by name: their input, their weights, what they have seen, and heads on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from harness.backbones import build, check_name
from harness.backbones.named import input_of
from harness.backbones.torchvision_import import import_torchvision
from harness.benchmarks import leaks
from harness.errors import ConfigError
from harness.images.augmentations import augmentation, is_cropped
from harness.images.inputs import normalise
from harness.images.pipelines import geometry_named, network_pipeline, pipeline
from harness.method.official_weights import import_weights
from methods.frozen import Frozen

SMALL = "shufflenet_v2_x0_5"
torchvision = import_torchvision()


def pictures(n: int = 3) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = [(300, 260), (190, 240), (256, 256), (500, 375)]
    return [
        Image.fromarray(rng.integers(0, 256, (h // 10, w // 10, 3), dtype=np.uint8)).resize(
            (w, h), Image.Resampling.BICUBIC
        )
        for w, h in sizes[:n]
    ]


def frozen(name: str, size: int = 64) -> Frozen:
    torch.manual_seed(1)
    return Frozen(Frozen.Config(), build(name, size, 3)).eval().requires_grad_(False)


def test_the_input_of_a_network_is_what_its_library_says() -> None:
    found = input_of(f"torchvision:{SMALL}")
    said = torchvision.models.get_model_weights(SMALL).DEFAULT.transforms()
    assert [found.size] == said.crop_size and found.crop == said.crop_size[0] / said.resize_size[0]
    assert (list(found.mean), list(found.std), found.resample) == (said.mean, said.std, "bilinear")


def test_the_pipeline_of_a_network_is_its_librarys_transform() -> None:
    """Pillow resizes both, so pixels are equal; the normalisation to rounding."""
    made_for = input_of(f"torchvision:{SMALL}")
    ours = pipeline(network_pipeline(*made_for[1:]))
    transform = torchvision.models.get_model_weights(SMALL).DEFAULT.transforms()
    for picture in pictures():
        x = torch.from_numpy(ours.geometry(picture, made_for.size)).permute(2, 0, 1) / 255
        torch.testing.assert_close(normalise(x, ours), transform(picture), rtol=0, atol=1e-5)


def test_a_bicubic_pipeline_resizes_bicubically() -> None:
    name = network_pipeline(0.95, "bicubic", (0.5,) * 3, (0.25,) * 3)
    geometry = pipeline(name).geometry
    resize = torchvision.transforms.Compose([
        torchvision.transforms.Resize(67, torchvision.transforms.InterpolationMode.BICUBIC),
        torchvision.transforms.CenterCrop(64),
    ])  # fmt: skip
    assert geometry.edge(64) == 67
    for picture in pictures():
        np.testing.assert_array_equal(geometry(picture, 64), np.asarray(resize(picture)))


def test_the_name_of_a_pipeline_says_all_of_it() -> None:
    name = network_pipeline(0.875, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    found = pipeline(name)
    assert (found.name, found.mean, found.std) == (name, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert geometry_named(found.geometry.name) == found.geometry and found.geometry.edge(224) == 256
    assert augmentation(name).name == "none" and not is_cropped(name)
    for wrong in (
        "network-cubic-1-0-1",
        "network-bicubic-1-0.5/0.5-1",
        "network-bicubic-2-0-1",
        "network-bicubic-1-0-0",
    ):
        with pytest.raises(ConfigError, match="no pipeline of a network"):
            pipeline(wrong)


def test_weights_of_torchvision_give_its_penultimate_features(tmp_path: Path) -> None:
    torch.manual_seed(5)
    theirs = torchvision.models.get_model(SMALL, weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    method = frozen(f"torchvision:{SMALL}")
    imported = import_weights(method, tmp_path / "weights.pth")
    assert set(imported.set_aside) == {"fc.weight", "fc.bias"}
    x = torch.randn(2, 3, 64, 64)
    theirs.fc = torch.nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(method.embed(x), theirs(x))


def test_weights_of_timm_give_its_features(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    name = "test_resnet.r160_in1k"
    torch.manual_seed(5)
    theirs = timm.create_model(name, pretrained=False).eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    method = frozen(f"timm:{name}")
    import_weights(method, tmp_path / "weights.pth")
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            method.embed(x), theirs.forward_head(theirs.forward_features(x), pre_logits=True)
        )
    found, said = input_of(f"timm:{name}"), timm.get_pretrained_cfg(name)
    assert (found.size, found.crop, found.mean) == (said.input_size[-1], said.crop_pct, said.mean)


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    torch.save(
        torchvision.models.get_model("mobilenet_v3_small", weights=None).state_dict(), tmp_path / "w.pth"
    )
    with pytest.raises(ConfigError, match="does not fit frozen"):
        import_weights(frozen(f"torchvision:{SMALL}"), tmp_path / "w.pth")


def test_a_network_that_is_none_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean `resnet18`"):
        check_name("torchvision:resnt18")
    with pytest.raises(ConfigError, match="images of 3 channels"):
        build(f"torchvision:{SMALL}", 64, 1)
    with pytest.raises(ConfigError, match="and timm:NAME"):
        check_name("resnt18")


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("timm:vit_small_patch14_dinov2.lvd142m", ("lvd142m",)),
        ("timm:convnext_tiny.in12k_ft_in1k", ("imagenet1k", "imagenet22k")),
        ("timm:vit_base_patch32_clip_224.openai", ("wit400m",)),
        ("timm:resnet18.a1_in1k", ("imagenet1k",)),
        ("torchvision:resnet18", ()),
        ("conv4", ()),
    ],
)
def test_names_of_networks_tell_what_their_weights_have_seen(name: str, seen: tuple[str, ...]) -> None:
    assert leaks.told_by(name) == seen


def test_what_ready_made_weights_have_seen_is_asked_of_a_benchmark() -> None:
    from harness import benchmarks

    mini, cub = (benchmarks.load(f"{name}-5w1s").benchmark for name in ("mini", "cub-feat"))
    for corpus in ("imagenet1k", "imagenet22k", "lvd142m"):
        assert len(leaks.of_run([corpus], mini).classes) == 20
    assert leaks.of_run(["lvd142m"], cub).classes and not leaks.of_run(["imagenet1k"], cub).classes
    assert leaks.is_more_than_base(["wit400m"], cub) and leaks.is_more_than_base(["imagenet1k"], mini)
    assert leaks.told(["lvd142m", "mini"]) == "lvd142m (images), mini"


def test_rows_of_unknown_weights_are_not_ranked(tmp_path: Path) -> None:
    import made_up_results as made

    from harness.report.board.tables import tables
    from harness.store import Store

    with Store.open(tmp_path / "results.db", create=True) as store:
        given: dict[str, Any] = {"weights_sha256": "a" * 64, "backbone": "timm:x"}
        store.ingest(made.result("plain", skill=0.5))
        store.ingest(made.result("declared", skill=0.6, changes={**given, "seen": ("mini",)}))
        store.ingest(made.result("guessed", skill=0.9, changes={**given, "seen": ("unknown",)}))
        (table,) = tables(store)
        rows = {row.method: row for row in table.rows}
        assert [row.method for row in table.ranked] == ["declared", "plain"] and table.rows[
            -1
        ].method == "guessed"
        assert rows["guessed"].rank is None and rows["guessed"].half_width
        assert any("unknown" in mark for mark in rows["guessed"].marks)
