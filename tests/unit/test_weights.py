"""Imported weights: what is refused, and what a file may hold."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.backbones import build
from harness.errors import ConfigError
from harness.method.official_weights import file_sha256, import_weights
from methods.bml import Bml
from methods.margin import Cosine
from methods.protonet import ProtoNet


class Small(nn.Module):
    """One layer that its authors call ``net.fc``."""

    name = "small"
    official_extras = ("head.",)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def official_names(self) -> dict[str, tuple[str, ...]]:
        return {f"layer.{leaf}": (f"net.fc.{leaf}",) for leaf in ("weight", "bias")}


STATE = {"net.fc.weight": torch.ones(3, 2), "net.fc.bias": torch.zeros(3)}


@pytest.mark.parametrize("envelope", [None, "state", "model", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_is_found_in_its_envelope(tmp_path: Path, envelope: str | None, prefix: str) -> None:
    state = {prefix + key: value for key, value in STATE.items()}
    path = tmp_path / "w.pth"
    torch.save({envelope: state, "epoch": 3} if envelope else state, path)
    method = Small()
    imported = import_weights(method, path)
    assert torch.equal(method.layer.weight, torch.ones(3, 2))
    assert imported.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == file_sha256(path)


def test_what_a_fitted_method_does_not_need_is_named(tmp_path: Path) -> None:
    torch.save({**STATE, "head.weight": torch.ones(9, 3)}, tmp_path / "w.pth")
    assert import_weights(Small(), tmp_path / "w.pth").set_aside == ("head.weight",)


class Attack:
    """A pickle that would make a folder when it is read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._path),)


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    torch.save({"state": STATE, "extra": Attack(tmp_path / "made")}, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match="cannot be read as a checkpoint"):
        import_weights(Small(), tmp_path / "w.pth")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken"])
def test_a_broken_file_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read as a checkpoint"):
        import_weights(Small(), tmp_path / "w.pth")


def test_an_absent_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        import_weights(Small(), tmp_path / "w.pth")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], {"state": {}}])
def test_a_file_without_tensors_is_a_sentence(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match="holds no state dict"):
        import_weights(Small(), tmp_path / "w.pth")


def test_a_method_without_official_weights_says_so(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "w.pth")
    method = ProtoNet(ProtoNet.Config(), build("conv4", 28, 1))
    with pytest.raises(ConfigError, match="protonet does not say"):
        import_weights(method, tmp_path / "w.pth")


def test_a_backbone_that_the_authors_do_not_have_is_named(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match="resnet12 and resnet18"):
        import_weights(Bml(Bml.Config(drop_rate=0.0), build("conv4", 28, 1)), tmp_path / "w.pth")


def test_a_checkpoint_of_another_backbone_lists_everything(tmp_path: Path) -> None:
    cosine = Cosine(Cosine.Config(), build("conv4", 28, 1))
    state = {
        name: cosine.state_dict()[key] for key, names in cosine.official_names().items() for name in names
    }
    torch.save({"state": state}, tmp_path / "w.pth")
    other = Cosine(Cosine.Config(), build("resnet12", 28, 1))
    with pytest.raises(ConfigError) as error:
        import_weights(other, tmp_path / "w.pth")
    n_missing, n_extra = len(other.official_names()), len(state)
    assert f"{n_missing + n_extra} problems" in str(error.value)


@pytest.mark.parametrize("name", ["conv4", "resnet12", "resnet18", "wrn28_10"])
def test_every_weight_of_a_backbone_has_an_official_name(name: str) -> None:
    options = {"depth": 10, "widen": 1} if name == "wrn28_10" else {}
    method = Cosine(Cosine.Config(), build(name, 32, 3, **options))
    names = method.official_names()
    assert set(names) == set(method.state_dict())
    official = [one for several in names.values() for one in several]
    assert len(official) == len(set(official))
