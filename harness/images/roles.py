"""Whether a prepared set can play the roles that the benchmarks give it: classes, counts, overlaps, groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

from harness.images.stores import PreparedSet


class RoleClasses(NamedTuple):
    """One role of one benchmark in this set.

    Attributes:
        benchmark, role: names.
        classes: number of images used of each class.
        spans: which of them, from and up to, where the class has others; None where they are all.
    """

    benchmark: str
    role: str
    classes: Mapping[str, int]
    spans: Mapping[str, tuple[int, int]] | None = None

    def shares(self, other: RoleClasses, name: str) -> bool:
        """Whether both have a class, and not parts of it that have no image in common."""
        if name not in self.classes or name not in other.classes:
            return False
        if self.spans is None or other.spans is None:
            return True
        (start, stop), (begin, end) = self.spans[name], other.spans[name]
        return start < end and begin < stop


class Problem(NamedTuple):
    """Something a user should know: an "error" makes numbers wrong, a "warning" is a property of the split."""

    level: Literal["warning", "error"]
    check: str
    detail: str


def problems(prepared: PreparedSet, roles: Sequence[RoleClasses]) -> Iterator[Problem]:
    """Compare a prepared set with the roles that benchmarks give it."""
    for role in roles:
        yield from _contents(prepared, role)
    by_benchmark = defaultdict(list)
    for role in roles:
        by_benchmark[role.benchmark].append(role)
    for name, own in by_benchmark.items():
        for a, b in combinations(own, 2):
            if shared := sorted(name for name in a.classes if a.shares(b, name)):
                yield Problem(
                    "error",
                    f"split of {name}",
                    f"{len(shared)} classes are both {a.role} and {b.role}: {_shown(shared)}",
                )
        yield from _shared_groups(prepared, name, own)


def _contents(prepared: PreparedSet, role: RoleClasses) -> Iterator[Problem]:
    """Classes that are missing, and classes of another size than the split says."""
    check = f"{role.role} classes of {role.benchmark}"
    found = dict(zip(prepared.class_names, prepared.counts.tolist(), strict=True))
    missing = [c for c in role.classes if c not in found]
    if missing:
        yield Problem(
            "warning",
            check,
            f"{len(missing)} of {len(role.classes)} are not in this set ({prepared.manifest.population}): {_shown(missing)}",
        )
    wrong = [
        f"{c} has {found[c]} of {n}"
        for c, n in role.classes.items()
        if c in found and (found[c] < _last(role, c, n) if role.spans else found[c] != n)
    ]
    if wrong:
        yield Problem("error", check, f"{len(wrong)} have another number of images: {_shown(wrong)}")


def _last(role: RoleClasses, name: str, n: int) -> int:
    """Images that a class must have, at least."""
    return role.spans[name][1] if role.spans else n


def _shared_groups(prepared: PreparedSet, name: str, roles: Sequence[RoleClasses]) -> Iterator[Problem]:
    """Groups (alphabets, superclasses) with classes in more than one role: novel classes are then less new."""
    group_of = dict(zip(prepared.class_names, prepared.groups, strict=True))
    members: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    if len({tuple(role.classes) for role in roles}) == 1:
        return  # a closed set: its roles are parts of the same classes
    for role in roles:
        for c in role.classes:
            if group := group_of.get(c):
                members[group][role.role] += 1
    shared = [
        f"{group} ({', '.join(f'{n} {role}' for role, n in counts.items())})"
        for group, counts in sorted(members.items())
        if len(counts) > 1
    ]
    if shared:
        yield Problem(
            "warning",
            f"groups of {name}",
            f"{len(shared)} of {len(members)} groups have classes in several roles: {_shown(shared)}",
        )


def _shown(items: Sequence[str]) -> str:
    return f"{'; '.join(items[:3])}{f' and {len(items) - 3} more' if len(items) > 3 else ''}"
