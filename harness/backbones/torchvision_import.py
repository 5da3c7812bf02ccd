"""Import torchvision also where its registry build meets a CPU-only torch.

torchvision's wheels register fake kernels for two operators that only its compiled, CUDA-linked library declares.
Beside a CPU-only torch that library does not load and the import dies. Declaring the two schemas first lets
transforms, models and datasets work; torchvision.io's decoders stay absent (fsbench decodes with Pillow and OpenCV).
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_library: list[torch.library.Library] = []  # a declaration lives as long as its Library object


def import_torchvision() -> ModuleType:
    """Import torchvision, declaring its missing operators only where the plain import fails.

    Raises:
        ImportError: when torchvision is not installed.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}{_SCHEMA}")
    _library.append(library)
    return importlib.import_module("torchvision")
