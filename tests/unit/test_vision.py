"""torchvision imports beside a CPU-only torch, and where the plain import already works."""

from __future__ import annotations

import subprocess
import sys


def answer(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_transforms_work_whatever_the_build() -> None:
    code = """
from harness.backbones.torchvision_import import import_torchvision
assert import_torchvision() is import_torchvision()
import torch
from torchvision import transforms
print(tuple(transforms.CenterCrop(4)(torch.zeros(1, 8, 8)).shape))
"""
    assert answer(code) == "(1, 4, 4)"


def test_nothing_is_declared_where_the_plain_import_works() -> None:
    """A build that declares its own operators must not meet a second declaration."""
    code = """
import torch
own = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    own.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from harness.data import vision
vision.import_torchvision()
print(len(vision._library))
"""
    assert answer(code) == "0"
