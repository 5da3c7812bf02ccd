"""Named random streams: one seed a run, and from it one independent number for each purpose."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def stream(seed: int, *names: object) -> int:
    """Derive a 63-bit seed from a run seed and the name of what it is for.

    Two paths never share a stream, and adding a stream moves no other: the seed is the head of
    sha256("fsbench/seed/name/…"), so ("a", "b") and "a/b" are one path.

    >>> stream(0, "training") == stream(0, "training"), stream(0, "training") == stream(0, "episode", 1)
    (True, False)
    """
    text = "/".join(["fsbench", str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, *names: object) -> np.random.Generator:
    """Open the named stream as a numpy generator (Philox)."""
    import numpy as np

    return np.random.Generator(np.random.Philox(stream(seed, *names)))


def torch_generator(seed: int, *names: object) -> torch.Generator:
    """Open the named stream as a CPU torch generator."""
    import torch

    return torch.Generator().manual_seed(stream(seed, *names))
