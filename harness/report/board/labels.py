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
    found = [spec.particulars() for spec in specs]
    alike: dict[Hashable, list[dict[str, str]]] = {}
    for mine, group in zip(found, groups, strict=True):
        alike.setdefault(group, []).append(mine)
    told = []
    for mine, group in zip(found, groups, strict=True):
        differing = (name for name in mine if any(other.get(name) != mine[name] for other in alike[group]))
        told.append(", ".join(f"{name} {mine[name]}" for name in differing))
    return told
