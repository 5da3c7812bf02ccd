"""What the text of a method's class says, read without running it: a list of methods needs no torch."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

_OURS = "harness"
_PARSING = Lock()  # threads that parse at once mix up the levels that CPython 3.11 counts, and fail
ASKED = (
    "fit_base",
    "embed",
)  # functions, or modules declared, that say what a method is (``protocol.traits``)


def read(target: str) -> type[Any]:
    """Make a bare class with the docstring and the literal class attributes of a method, inherited ones too, and which functions it has.

    Classes of other packages but ours (``nn.Module``) are passed over, and so is every value that only running would tell.

    Args:
        target: "module:Class", where the module may hand on the class from another of its package.

    >>> read("methods.pixels:Pixels").version
    '1'
    """
    module, _, name = target.partition(":")
    return type(name, (), _said(module, name))


def _said(module: str, name: str) -> dict[str, Any]:
    for node in _statements(module):
        if isinstance(node, ast.ClassDef) and node.name == name:
            bases = (_said(module, base.id) for base in reversed(node.bases) if isinstance(base, ast.Name))
            said = {key: value for inherited in bases for key, value in inherited.items()}
            doc = ast.get_docstring(node)
            return {**said, **_literals(node), **({"__doc__": doc} if doc else {})}
        if isinstance(node, ast.ImportFrom) and _package(node.module or "") in (_package(module), _OURS):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _said(node.module or "", alias.name)
    return {}


@cache
def _statements(module: str) -> list[ast.stmt]:
    content = _file(module).read_text(encoding="utf-8")
    with _PARSING:
        return ast.parse(content).body


def _literals(node: ast.ClassDef) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for line in node.body:
        shown = line.name if isinstance(line, ast.FunctionDef) else getattr(_declared(line), "id", "")
        if shown in ASKED:
            found[shown] = True
        targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name) and isinstance(line, ast.Assign | ast.AnnAssign) and line.value:
                try:
                    found[target.id] = ast.literal_eval(line.value)
                except ValueError:
                    continue  # a name or a call
    return found


def _declared(line: ast.stmt) -> ast.expr | None:
    return line.target if isinstance(line, ast.AnnAssign) else None


def _package(module: str) -> str:
    return module.partition(".")[0]


def _file(module: str) -> Path:
    spec = importlib.util.find_spec(
        _package(module)
    )  # of the package: to find a module would import what it is in
    assert spec is not None and spec.submodule_search_locations, f"{module} is in no package"
    path = Path(spec.submodule_search_locations[0], *module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
