"""What tells rows of one name apart: the few values that differ between them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from harness.runs import RunSpec


def told_apart(specs: Sequence[RunSpec], groups: Sequence[Hashable]) -> list[str]:
    """Say for each spec which values set it apart from the others of its group; empty where it is alone.

    Args:
        specs: one per row.
        groups: one per row; rows that look alike (same label and backbone) have the same.
    """
    told = []
    for spec, group in zip(specs, groups, strict=True):
        mine = _values(spec)
        others = [_values(other) for other, g in zip(specs, groups, strict=True) if g == group]
        differing = (name for name in mine if any(other.get(name) != mine[name] for other in others))
        told.append(", ".join(f"{name} {mine[name]}" for name in differing))
    return told


def _values(spec: RunSpec) -> Mapping[str, Any]:
    return {
        "version": spec.method.version,
        "source": spec.method.source_sha256[:8] or "built in",
        "input": spec.image_size,
        "pipeline": spec.pipeline,
        "crops from": f"{spec.cut_from} pixels" if spec.cut_from else "stored squares",
        "weights": spec.weights_sha256[:8] or "own",
        "trained on": ", ".join(spec.seen) or "base",
        "processes": spec.world_size,
        "batch per process": spec.per_rank_batch,
        "base images": spec.data_digest.get("base", "none")[:8],
        **spec.values(),
    }
