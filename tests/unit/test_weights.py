"""Imported weights: what is refused, and what a file may hold."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.backbones import build
from harness.errors import ConfigError
from harness.method.official_weights import file_sha256, import_weights, keep
from methods.bml import Bml
from methods.margin import Cosine
from methods.nearest_mean import NearestMean
from methods.pixels import Pixels
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
    method = Pixels(Pixels.Config(), build("conv4", 28, 1))
    with pytest.raises(ConfigError, match="pixels does not say"):
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
    counters = "num_batches_tracked"  # of no effect in evaluation
    n_missing = sum(not key.endswith(counters) for key in other.official_names())
    n_extra = sum(not name.endswith(counters) for name in state)
    assert f"{n_missing + n_extra} problems" in str(error.value)


@pytest.mark.parametrize("name", ["conv4", "resnet12", "resnet18", "wrn28_10"])
def test_every_weight_of_a_backbone_has_an_official_name(name: str) -> None:
    options = {"depth": 10, "widen": 1} if name == "wrn28_10" else {}
    method = Cosine(Cosine.Config(), build(name, 32, 3, **options))
    names = method.official_names()
    assert set(names) == set(method.state_dict())
    official = [one for several in names.values() for one in several]
    assert len(official) == len(set(official))


def official_state(method: Any) -> dict[str, torch.Tensor]:
    """A state as the method's authors write it, with values of its own."""
    torch.manual_seed(3)
    own = {
        key: torch.rand_like(value) if value.is_floating_point() else value
        for key, value in method.state_dict().items()
    }
    return {name: own[key] for key, names in method.official_names().items() for name in names}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("feature.", "module.feature."),
        ("feature.", "feature.module."),
        ("feature.", "model.module.feature."),
        ("feature.", ""),
        ("feature.", "encoder."),
    ],
)
def test_one_beginning_that_all_names_share_does_not_matter(tmp_path: Path, ours: str, theirs: str) -> None:
    expected = Cosine(Cosine.Config(), build("conv4", 28, 1))
    state = official_state(expected)
    torch.save({theirs + name.removeprefix(ours): value for name, value in state.items()}, tmp_path / "w.pth")
    method = Cosine(Cosine.Config(), build("conv4", 28, 1))
    assert import_weights(method, tmp_path / "w.pth").set_aside == ()
    for key, (name, *_) in method.official_names().items():
        assert torch.equal(method.state_dict()[key], state[name])


def test_what_has_no_effect_in_evaluation_may_be_absent(tmp_path: Path) -> None:
    method = Cosine(Cosine.Config(), build("conv4", 28, 1))
    state = {name: value for name, value in official_state(method).items() if "num_batches" not in name}
    torch.save(state, tmp_path / "w.pth")
    import_weights(method, tmp_path / "w.pth")
    del state["feature.trunk.0.C.weight"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match=r"1 problems:\n  missing: feature\.trunk\.0\.C\.weight"):
        import_weights(method, tmp_path / "w.pth")


@pytest.mark.parametrize("cls", [ProtoNet, NearestMean])
@pytest.mark.parametrize(
    ("name", "whose"), [("conv4", 0), ("conv4", 1), ("resnet12", 0), ("resnet12", 1), ("resnet12", 2)]
)
def test_a_backbone_is_taken_out_of_anybodys_checkpoint(
    tmp_path: Path, cls: type[Any], name: str, whose: int
) -> None:
    sender, method = (cls(cls.Config(), build(name, 32, 3)) for _ in range(2))
    torch.manual_seed(5)
    own = {
        key: torch.rand_like(value) if value.is_floating_point() else value
        for key, value in sender.state_dict().items()
    }
    names = (sender.official_names(), *sender.other_names())[whose]
    beginning = ("module.backbone.stages.", "module.feature.", "module.encoder.")[whose]
    state = {
        beginning + official.removeprefix("backbone.stages."): own[key]
        for key, several in names.items()
        for official in several
    }
    torch.save({"params": {**state, "module.fc.weight": torch.ones(9, 3)}, "epoch": 3}, tmp_path / "w.pth")
    imported = import_weights(method, tmp_path / "w.pth")
    assert [name.removeprefix("module.") for name in imported.set_aside] == ["fc.weight"]
    assert all(torch.equal(method.state_dict()[key], own[key]) for key in names)


def test_a_student_and_its_teacher_in_one_file_are_not_told_apart(tmp_path: Path) -> None:
    method = ProtoNet(ProtoNet.Config(), build("conv4", 28, 1))
    state = {key.removeprefix("backbone.stages."): value for key, value in method.state_dict().items()}
    torch.save(
        {f"{who}.{key}": value for who in ("student", "teacher") for key, value in state.items()},
        tmp_path / "w.pth",
    )
    with pytest.raises(ConfigError, match=r"several networks that fit, under student\. and teacher\."):
        import_weights(method, tmp_path / "w.pth")


def test_safetensors_are_read(tmp_path: Path) -> None:
    tensors = {"net.fc.weight": torch.rand(3, 2), "net.fc.bias": torch.rand(3).to(torch.bfloat16)}
    (tmp_path / "w.safetensors").write_bytes(safetensors_of(tensors))
    method = Small()
    import_weights(method, tmp_path / "w.safetensors")
    assert torch.equal(method.layer.weight, tensors["net.fc.weight"])
    assert torch.equal(method.layer.bias, tensors["net.fc.bias"].float())


def safetensors_of(tensors: dict[str, torch.Tensor]) -> bytes:
    """The format as its documentation has it, written by hand."""
    kinds = {torch.float32: "F32", torch.bfloat16: "BF16"}
    cards, parts, end = {}, [], 0
    for name, value in tensors.items():
        content = value.contiguous().view(torch.uint8).numpy().tobytes()
        cards[name] = {
            "dtype": kinds[value.dtype],
            "shape": list(value.shape),
            "data_offsets": [end, end + len(content)],
        }
        parts.append(content)
        end += len(content)
    head = json.dumps({"__metadata__": {"format": "pt"}, **cards}).encode()
    return struct.pack("<Q", len(head)) + head + b"".join(parts)


def test_a_file_that_is_no_checkpoint_is_named_by_the_users_path_and_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "mine" / "w.pth"
    path.parent.mkdir()
    path.write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(ConfigError, match=rf"{path} cannot be read.*a web page"):
        keep(path, tmp_path / "cache")
    torch.save({**STATE, "net.fc.bias": torch.tensor([0.0, float("nan"), 1.0])}, path)
    with pytest.raises(
        ConfigError, match=rf"{path}: 1 of 2 tensors hold numbers that are not finite \(net\.fc\.bias\)"
    ):
        keep(path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    torch.save({**STATE, "more": torch.ones(1)}, path)
    kept = keep(path, tmp_path / "cache")
    with pytest.raises(ConfigError, match=rf"^{path} does not fit small; 1 problems"):
        import_weights(Small(), kept)
