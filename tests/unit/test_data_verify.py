"""What `verify` says of splits: overlaps, counts, groups in several roles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness import benchmarks
from harness.benchmarks import settings
from harness.images.manifest import ClassCard, Manifest, SourceFile
from harness.images.originals import Picture
from harness.images.pipelines import encode_png
from harness.images.plan import Plan
from harness.images.prepare import write
from harness.images.roles import Problem, RoleClasses, problems
from harness.images.sources import splits
from harness.images.stores import PreparedSet
from harness.images.verify import verify


def a_set(classes: dict[str, tuple[int, str]], dataset: str = "trees") -> PreparedSet:
    """A set whose manifest alone is read: sizes and groups of its classes."""
    cards = tuple(ClassCard(name, group, n) for name, (n, group) in sorted(classes.items()))
    card = Manifest(dataset, "all of it", "L", cards, (SourceFile("x", 1),), "none", "stored", 4)
    return PreparedSet(Path(dataset), card)


TREES = a_set({"ash": (3, "a"), "apple": (3, "a"), "birch": (3, "b"), "cedar": (4, "c")})
BASE = RoleClasses("trees", "base", {"ash": 3, "apple": 3})


def test_disjoint_roles_of_the_right_size_are_no_problem() -> None:
    roles = [BASE, RoleClasses("trees", "novel", {"birch": 3, "cedar": 4})]
    assert list(problems(TREES, roles)) == []


def test_a_class_in_two_roles_is_an_error() -> None:
    found = list(problems(TREES, [BASE, RoleClasses("trees", "novel", {"apple": 3, "birch": 3})]))
    assert found[0] == Problem("error", "split of trees", "1 classes are both base and novel: apple")


def test_roles_of_different_benchmarks_may_share_classes() -> None:
    assert not list(problems(TREES, [BASE, RoleClasses("others", "novel", {"apple": 3})]))


def test_groups_in_several_roles_are_worth_knowing() -> None:
    roles = [
        RoleClasses("trees", "base", {"ash": 3}),
        RoleClasses("trees", "novel", {"apple": 3, "birch": 3}),
    ]
    detail = "1 of 2 groups have classes in several roles: a (1 base, 1 novel)"
    assert list(problems(TREES, roles)) == [Problem("warning", "groups of trees", detail)]


def test_counts_that_differ_from_the_split_are_errors_unless_a_part_is_used() -> None:
    role = {"birch": 4, "cedar": 3}
    found = list(problems(TREES, [RoleClasses("trees", "novel", role)]))
    assert [(p.level, p.detail) for p in found] == [
        ("error", "2 have another number of images: birch has 3 of 4; cedar has 4 of 3")
    ]
    found = list(problems(TREES, [RoleClasses("trees", "novel", role, {"birch": (0, 4), "cedar": (0, 3)})]))
    assert found[0].detail == "1 have another number of images: birch has 3 of 4"


def test_missing_classes_are_worth_knowing() -> None:
    found = list(problems(TREES, [RoleClasses("trees", "base", {"ash": 3, "oak": 3})]))
    assert [(p.level, p.detail) for p in found] == [
        ("warning", "1 of 2 are not in this set (all of it): oak")
    ]


def test_gurmukhi_is_cut_by_the_vinyals_split() -> None:
    split = splits.read("omniglot")
    characters = {c: (20, c.split("/")[0]) for role in splits.ROLES for c in split[role]}
    roles = [RoleClasses("omniglot", role, split[role]) for role in splits.ROLES]
    found = list(problems(a_set(characters), roles))
    detail = "1 of 50 groups have classes in several roles: Gurmukhi (41 base, 4 novel)"
    assert found == [Problem("warning", "groups of omniglot", detail)]


@pytest.mark.parametrize(("file", "n_shared"), [("cifar_fs", 17), ("fc100", 0)])
def test_cifar_fs_cuts_superclasses_and_fc100_does_not(file: str, n_shared: int) -> None:
    whole = splits.read("cifar100")
    groups = [{whole["superclass"][c] for c in splits.read(file)[r]} for r in splits.ROLES]
    assert sum(sum(g in role for role in groups) > 1 for g in set().union(*groups)) == n_shared
    prepared = a_set({c: (600, whole["superclass"][c]) for c in whole["all"]})
    found = list(problems(prepared, [RoleClasses(file, r, splits.read(file)[r]) for r in splits.ROLES]))
    assert [p.detail.split(" of ")[0] for p in found] == ([str(n_shared)] if n_shared else [])


def test_verify_looks_at_the_benchmarks_that_use_the_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pictures() -> Iterator[Picture]:
        for i, name in enumerate(("ash", "apple")):
            pixels = np.random.default_rng(i).integers(0, 256, (4, 4), dtype=np.uint8)
            yield Picture(name, "0.png", lambda p=pixels: encode_png(p), "a")  # type: ignore[misc]

    write(Plan("trees", "x", "L", (SourceFile("x", 1),), "none", 2, 600, "stored", 4, pictures), tmp_path)
    assert [f.level for f in verify("trees", tmp_path)] == ["ok"] * 4
    roles = {name: benchmarks.Role("trees", {c: 1}) for name, c in (("base", "ash"), ("novel", "apple"))}
    card = benchmarks.Benchmark("trees", "", "", roles, 4, 1, "stored", "conv4", 0, 1, 1, ("5w1s",))
    monkeypatch.setattr(settings, "every", lambda: (card,))
    last = verify("trees", tmp_path, benchmarks.roles_of("trees"))[-1]
    assert (last.level, last.check) == ("warning", "groups of trees")
    monkeypatch.setattr(settings, "every", lambda: ())
    assert len(verify("trees", tmp_path, benchmarks.roles_of("trees"))) == 4


def test_the_embedded_set_is_as_its_benchmark_says(tmp_path: Path) -> None:
    from harness.images.prepare import ensure

    ensure("digits", tmp_path)
    last = verify("digits", tmp_path, benchmarks.roles_of("digits"))[-1]
    assert (last.level, last.check) == ("ok", "splits")
    assert "glyphs-digits" in last.detail
