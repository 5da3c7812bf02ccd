"""Backbones that start from ImageNet: torchvision's networks layer for layer, its files and no others, the leak told."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from harness import benchmarks
from harness.backbones import build
from harness.backbones.official import torchvision_names
from harness.backbones.torchvision_import import import_torchvision
from harness.benchmarks import leaks
from harness.errors import ConfigError, DataError, MisfitError
from harness.method.hyper import ConfigValue
from harness.runs import starts
from harness.training import pretrained

import_torchvision()
from torchvision import models  # noqa: E402 -- after the import that makes it work beside a torch without CUDA

NETWORKS = {"resnet18": models.resnet18, "resnet50_torchvision": models.resnet50}
IMAGENET = {"pretrained": ConfigValue("imagenet", "--set")}


@pytest.fixture(params=NETWORKS)
def name(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A network whose "published" file is one made up here, in FSBENCH_DATA."""
    chosen = str(request.param)
    torch.manual_seed(3)
    network = NETWORKS[chosen](weights=None)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):  # as trained ones are: no two alike
            torch.nn.init.uniform_(layer.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(layer.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
    (tmp_path / "weights").mkdir()
    torch.save(network.state_dict(), tmp_path / "weights" / "new.pth")
    sha256 = hashlib.sha256((tmp_path / "weights" / "new.pth").read_bytes()).hexdigest()
    file = f"{chosen}-{sha256[:8]}.pth"
    (tmp_path / "weights" / "new.pth").rename(tmp_path / "weights" / file)
    monkeypatch.setitem(starts.FILES, chosen, file)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return chosen


def test_the_network_is_torchvisions(name: str, tmp_path: Path) -> None:
    network = NETWORKS[name](weights=None)
    network.load_state_dict(torch.load(tmp_path / "weights" / starts.FILES[name], weights_only=True))
    own = build(name, 64)
    pretrained.start(own, name, tmp_path)
    network.eval(), own.eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x = network.maxpool(network.relu(network.bn1(network.conv1(images))))
        expected = network.layer4(network.layer3(network.layer2(network.layer1(x))))
        found = own(images)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_every_tensor_is_loaded_and_only_the_classifier_is_left(name: str, tmp_path: Path) -> None:
    theirs = torch.load(tmp_path / "weights" / starts.FILES[name], weights_only=True)
    own = build(name, 64)
    pretrained.start(own, name, tmp_path)
    names = torchvision_names(own.stages)
    assert set(theirs) - set(names.values()) == {"fc.weight", "fc.bias"}
    assert set(names) == set(own.stages.state_dict())
    assert all(torch.equal(value, theirs[names[key]]) for key, value in own.stages.state_dict().items())


def test_what_is_recorded_is_the_file_and_its_sha256(name: str, tmp_path: Path) -> None:
    path = tmp_path / "weights" / starts.FILES[name]
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert pretrained.facts(name, tmp_path) == {"file": path.name, "sha256": sha256, "seen": ["imagenet"]}


def test_another_file_under_the_name_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "weights" / starts.FILES[name]
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match="is not the published file: its sha256 is"):
        pretrained.found(name, tmp_path)


def test_torchs_own_cache_is_looked_at_and_a_failed_download_says_where_to_put_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights" / starts.FILES[name]
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    moved = path.rename(tmp_path / "hub" / "checkpoints" / path.name)
    assert pretrained.found(name, tmp_path) == moved
    moved.unlink()

    def fails(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fails)
    with pytest.raises(DataError, match=f"no network. Fetch it by other means and put it to .*{path.name}"):
        pretrained.found(name, tmp_path)


def test_weights_of_another_network_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = next(n for n in NETWORKS if n != name)
    monkeypatch.setitem(starts.FILES, other, starts.FILES[name])
    with pytest.raises(DataError, match="does not fit"):
        pretrained.start(build(other, 64), other, tmp_path)


def test_grey_images_and_other_networks_are_refused() -> None:
    starts.refuse_unfit(IMAGENET, "resnet18", 3)
    starts.refuse_unfit({}, "conv4", 1)
    for backbone, channels in (("conv4", 3), ("resnet18", 1), ("resnet50", 3)):
        with pytest.raises(ConfigError, match="there are such weights of resnet18 and resnet50_torchvision"):
            starts.refuse_unfit(IMAGENET, backbone, channels)


def test_the_leak_guard_is_told() -> None:
    closed = {n: benchmarks.load(f"{n}-closed").benchmark for n in ("flowers", "pets", "dogs")}
    started = starts.starts_from(IMAGENET)
    assert started == ("imagenet",) and starts.starts_from({}) == ()
    assert not leaks.of_run((), closed["flowers"], started) and not leaks.of_run((), closed["pets"], started)
    assert len(leaks.of_run((), closed["dogs"], started).classes) == 120
    assert len(leaks.of_run((), benchmarks.load("mini-5w1s").benchmark, started).classes) == 20


def test_a_run_that_starts_from_what_it_asks_is_refused_unless_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.runs import planning
    from harness.runs.badges import badges
    from harness.runs.request import Request

    class NoImages(planning.Images):
        """Images of every benchmark, without any."""

        def digests(self, benchmark: object, pipeline: str, image_size: int) -> dict[str, str]:
            return {"base": "b" * 64, "novel": "n" * 64}

        def cut_from(self, *_: object) -> int:
            return 0

    method, images = planning.registry.load("repmet"), NoImages(tmp_path)
    request = Request(overrides={"pretrained": "imagenet"})
    with pytest.raises(
        MisfitError, match="the weights of imagenet that it starts from hold 120 novel classes"
    ):
        planning.make_spec(method, benchmarks.load("dogs-closed"), request, images)
    allowed = Request(overrides={"pretrained": "imagenet"}, allow_leak=True)
    facts = {
        "is_transductive": False,
        "assumes_balance": False,
        "is_untrained": False,
        "is_trained": True,
        "is_imported": False,
    }
    told = {}
    for setting, asked in (("dogs-closed", allowed), ("flowers-closed", request)):
        spec = planning.make_spec(method, benchmarks.load(setting), asked, images)
        assert spec.started_from == ("imagenet",) and spec.config["pretrained"].value == "imagenet"
        told[setting] = badges(spec, benchmarks.named(setting), **facts)
    assert {"leak", "extra data"} <= set(told["dogs-closed"])
    assert "extra data" in told["flowers-closed"] and "leak" not in told["flowers-closed"]
    plain = planning.make_spec(method, benchmarks.load("flowers-closed"), Request(), images)
    assert "pretrained" not in plain.config and plain.started_from == ()
    with pytest.raises(ConfigError, match="there are such weights"):
        planning.make_spec(method, benchmarks.load("glyphs-closed"), request, images)


def test_a_training_starts_from_it_and_a_finished_fit_needs_no_file(name: str, tmp_path: Path) -> None:
    from stored_results import spec_of

    from harness.runs import planning
    from harness.system.folders import Places
    from harness.system.progress import Silent
    from harness.training.build import Workplace
    from harness.training.build import build as build_method

    reference = planning.registry.load("repmet").reference
    spec = spec_of(
        method=reference, backbone=name, image_size=64, channels=3, pipeline="stored", config=IMAGENET
    )
    at = Workplace(Places(tmp_path, tmp_path, tmp_path, ""), torch.device("cpu"), Silent())
    theirs = torch.load(tmp_path / "weights" / starts.FILES[name], weights_only=True)

    def first(method: torch.nn.Module) -> torch.Tensor:
        return method.state_dict()["embed.backbone.stages.0.0.weight"]

    assert torch.equal(first(build_method(spec.fit, at, spec.config, is_start=True)), theirs["conv1.weight"])
    (tmp_path / "weights" / starts.FILES[name]).unlink()
    assert not torch.equal(first(build_method(spec.fit, at, spec.config)), theirs["conv1.weight"])
