"""The layers of CONTRIBUTING.md: a file imports only from lower rows, and methods import harness.api only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = (
    {
        "errors",
        "seeding",
        "config",
        "types",
        "supports",
        "metrics",
        "stats",
        "files",
        "progress",
        "places",
        "published",
        "ranges",
        "threads",
        "claims",
        "progress_file",
        "slurm_options",
        "switches",
        "bundle_files",
    },
    {
        "data",
        "sampling",
        "benchmarks",
        "ops",
        "backbones",
        "baseset",
        "lock",
        "own_images",
        "world",
        "checkpoints",
        "joint",
        "benchmark_roles",
        "leaks",
        "python_use",
    },
    {"method", "registry", "features", "fitting", "api"},
    {
        "evaluate",
        "spec",
        "runs",
        "planning",
        "provenance",
        "job",
        "joint_evaluation",
        "run_results",
        "worker",
        "testing",
        "validation",
        "selection",
        "pieces",
        "run_folders",
        "groups",
        "packing",
        "estimates",
        "weights",
        "recount",
        "parallel",
        "training",
        "badges",
        "keepsakes",
        "thumbnails",
    },
    {
        "store",
        "dispatch",
        "executors",
        "groupjob",
        "status",
        "waiting",
        "bundles",
        "merging",
        "rechecks",
        "hardness",
        "scoring",
        "tuning",
    },
    {"report"},
    {
        "commands",
        "catalogue",
        "image_commands",
        "result_commands",
        "health",
        "job_commands",
        "sharing",
        "tune_command",
    },
    {"cli"},
)
ROW = {name: row for row, names in enumerate(ROWS) for name in names}
FILES = sorted(p for folder in ("harness", "methods") for p in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_only_from_lower_rows(path: Path) -> None:
    own = _part(path)
    for module in _imports(path):
        top, _, rest = module.partition(".")
        if path.is_relative_to(ROOT / "methods"):
            family = f"methods.{path.parent.name}" if path.parent.name != "methods" else "methods."
            assert top != "harness" or module == "harness.api", (
                f"{path.name} imports {module}; methods import harness.api only"
            )
            assert top != "methods" or module.startswith(family), (
                f"{path.name} imports {module} of another family"
            )
        elif top == "harness" and rest and own:
            part = rest.split(".")[0]
            assert part in ROW, f"{module} has no row in this test"
            assert ROW[part] <= ROW[own], f"{own} (row {ROW[own]}) imports {part} (row {ROW[part]})"
            assert {own, part} != {"store", "dispatch"}, "store and dispatch do not know each other"


def test_every_file_has_a_row() -> None:
    assert {_part(p) for p in FILES if p.is_relative_to(ROOT / "harness")} - {""} <= set(ROW)


def _part(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "harness" and parts[1] != "__init__" else ""


def _imports(path: Path) -> Iterator[str]:
    """Modules imported anywhere in the file, but not those imported for type checking alone."""
    tree = ast.parse(path.read_text())
    typing_only = {
        node for branch in ast.walk(tree) if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }  # fmt: skip
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "harness":
                yield from (f"harness.{alias.name}" for alias in node.names)
            else:
                yield node.module
