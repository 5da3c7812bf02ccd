"""torchvision imports beside a CPU-only torch, and where the plain import already works."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.backbones import torchvision_import

IMPORT = "from harness.backbones.torchvision_import import import_torchvision; "
USE = (
    "import_torchvision(); from torchvision import models, transforms, datasets; print(models.resnet18().fc)"
)


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_torchvision_can_be_imported_in_a_fresh_process() -> None:
    assert "out_features=1000" in run(IMPORT + USE)


def test_transforms_work_whatever_the_build() -> None:
    code = "import_torchvision(); import torch; from torchvision import transforms; "
    shape = "print(tuple(transforms.CenterCrop(4)(torch.zeros(1, 8, 8)).shape))"
    assert run(IMPORT + code + shape).strip() == "(1, 4, 4)"


def test_importing_twice_is_harmless() -> None:
    assert "out_features=1000" in run(IMPORT + "import_torchvision(); " + USE)


def test_where_the_operators_exist_nothing_is_declared() -> None:
    # declared beforehand, as a build that fits does; a second declaration would raise
    declare = (
        "import torch; lib = torch.library.Library('torchvision', 'DEF'); "
        + "; ".join(f"lib.define('{n}{torchvision_import._SCHEMA}')" for n in ("nms", "qnms"))
        + "; "
    )
    assert "out_features=1000" in run(declare + IMPORT + USE)


def test_another_failure_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(torchvision_import.importlib, "import_module", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        torchvision_import.import_torchvision()
