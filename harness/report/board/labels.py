"""What tells rows of one name apart: the few values that differ between them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from harness.runs import RunSpec


def told_apart(specs: Sequence[RunSpec], groups: Sequence[Hashable]) -> list[str]:
    """Say for each spec which values set it apart from the others of its group; empty where it is alone.

    Args:
        specs: one per row.
        groups: one per row; rows that look alike (same label and backbone) have the same.
    """
    told = []
    for spec, group in zip(specs, groups, strict=True):
        mine = spec.particulars()
        others = [other.particulars() for other, g in zip(specs, groups, strict=True) if g == group]
        differing = (name for name in mine if any(other.get(name) != mine[name] for other in others))
        told.append(", ".join(f"{name} {mine[name]}" for name in differing))
    return told
