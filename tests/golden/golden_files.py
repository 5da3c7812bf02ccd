"""Reading of the golden vectors and the rules by which their manifests describe weights without storing them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

FOLDER = Path(__file__).parent


def load(family: str, file: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of one golden file and its manifest entry; a missing file or entry is an error."""
    with np.load(FOLDER / family / file) as archive:
        arrays = {name: archive[name] for name in archive.files}
    manifest = json.loads((FOLDER / family / "manifest.json").read_text())
    entries = manifest.get("files", manifest.get("cases"))
    return arrays, next(entry for entry in entries if entry["file"] == file)


def tensor(array: np.ndarray, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.as_tensor(array.copy()).to(dtype)


def weights_in_order(module: nn.Module) -> list[Tensor]:
    """Parameters and running statistics in state order, without the batch counters."""
    return [value for name, value in module.state_dict().items() if not name.endswith("num_batches_tracked")]


def hashed_uniform(k: int, n: int) -> np.ndarray:
    """n numbers in [0, 1) for tensor number k: the integer hash of the manifests' `weight_fill_formula`."""
    with np.errstate(over="ignore"):
        x = np.arange(1, n + 1, dtype=np.uint32) * np.uint32(2654435761) + np.uint32((k + 1) * 40503 % 2**32)
        x ^= x >> np.uint32(16)
        x *= np.uint32(0x85EBCA6B)
        x ^= x >> np.uint32(13)
        x *= np.uint32(0xC2B2AE35)
        x ^= x >> np.uint32(16)
    return x / 2.0**32


def hashed_tensor(k: int, shape: list[int], role: str) -> np.ndarray:
    u = hashed_uniform(k, int(np.prod(shape)))
    fan_in = int(np.prod(shape[1:]))
    rule = {
        "conv_weight": (2 * u - 1) * np.sqrt(6 / fan_in),
        "linear_weight": (2 * u - 1) * np.sqrt(6 / fan_in),
        "conv_bias": 0.1 * (2 * u - 1),
        "linear_bias": 0.1 * (2 * u - 1),
        "bn_weight": 0.8 + 0.4 * u,
        "bn_bias": 0.2 * (2 * u - 1),
        "running_mean": 0.2 * (2 * u - 1),
        "running_var": 0.7 + 0.6 * u,
    }
    return rule[role].reshape(shape)


def fill_by_hash(module: nn.Module, parameters: list[dict[str, Any]]) -> nn.Module:
    """Give a float64 module the weights its manifest entry lists, tensor by tensor, in eval mode."""
    module = module.double()
    mine = weights_in_order(module)
    assert [list(t.shape) for t in mine] == [p["shape"] for p in parameters]
    with torch.no_grad():
        for target, p in zip(mine, parameters, strict=True):
            target.copy_(torch.from_numpy(hashed_tensor(p["k"], p["shape"], p["role"])))
    return module.eval()


def images(array_u8: np.ndarray, dtype: torch.dtype = torch.float64) -> Tensor:
    """Network input of the arrays called `images_u8`."""
    return (tensor(array_u8, dtype) - 127.5) / 64
