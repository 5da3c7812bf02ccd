"""The rooms are the layers: a file imports its own room or earlier ones, and no two files import each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = [
    "errors",
    "seeding",
    "ops",
    "stats",
    "system",
    "backbones",
    "images",
    "benchmarks",
    "method",
    "runs",
    "evaluation",
    "store",
    "training",
    "testing",
    "report",
    "jobs",
    "exchange",
    "keeping",
    "notebook",
    "api",
    "cli",
]
WINDOWS = ("api", "ops", "backbones")  # what methods may import
FILES = sorted(p for folder in ("harness", "methods") for p in (ROOT / folder).rglob("*.py"))


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {dotted(path) for path in FILES}


@cache
def imports(path: Path) -> frozenset[str]:
    """Our modules that a file names anywhere, for type checking alone too."""
    return frozenset(_imports(ast.parse(path.read_text())))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in NAMES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in NAMES or node.module in NAMES:
                    yield full if full in NAMES else node.module


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_a_file_imports_its_own_room_or_earlier_ones(path: Path) -> None:
    own = dotted(path).split(".")
    for module in imports(path) - {"harness"}:
        top, part = module.split(".")[:2]
        if own[0] == "methods":
            assert part in WINDOWS if top == "harness" else part == own[1], f"a method imports {module}"
        elif own != ["harness"]:
            assert top == "harness" and ROOMS.index(part) <= ROOMS.index(own[1]), f"it imports {module}"
            assert {own[1], part} != {"jobs", "store"}, "jobs and store do not know each other"


def test_no_two_files_import_each_other() -> None:
    tuple(TopologicalSorter({dotted(path): imports(path) for path in FILES}).static_order())


def test_every_file_is_in_a_room() -> None:
    here = {path.name.removesuffix(".py") for path in (ROOT / "harness").iterdir() if path.name[0] != "_"}
    assert here == set(ROOMS)
    assert sum(path.is_file() for path in (ROOT / "harness").iterdir()) <= 5
    for room in (ROOT / "harness").glob("*/__init__.py"):
        assert ast.get_docstring(ast.parse(room.read_text())), f"{room} does not say what lives here"
