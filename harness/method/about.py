"""What a run keeps of its method for the pages: description, reference, deviations, and how its contract came out."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.method.registry import MethodReference
from harness.system.files import save_text
from harness.system.provenance import utc_now

log = logging.getLogger("fsbench.keepsakes")
DEVIATIONS = "What differs"  # begins the paragraph that says what is not as the authors have it


def about(cls: type[Any], reference: MethodReference, cache: Path) -> dict[str, Any]:
    """Describe a method as JSON types.

    Args:
        cls: its class.
        reference: which text of it.
        cache: where ``keep_contract`` wrote.

    Returns:
        docstring and deviations (texts, empty where there are none), reference (BibTeX of the optional class
        attribute ``reference``), and where the contract was checked: contract, a list of {name, passed, detail},
        and checked (UTC).
    """
    paragraphs = description(cls).split("\n\n")
    differs = [p for p in paragraphs if p.startswith(DEVIATIONS)]
    return {
        "docstring": "\n\n".join(p for p in paragraphs if p not in differs),
        "deviations": "\n\n".join(differs),
        "reference": inspect.cleandoc(str(getattr(cls, "reference", ""))),
        **_contract(_contract_path(cls, reference, cache)),
    }


def description(cls: type[Any]) -> str:
    """The docstring of a method's class and that of its module, or of the family where a package offers the class."""
    told = (inspect.cleandoc(text or "") for text in (cls.__doc__, _family(cls).__doc__))
    return "\n\n".join(dict.fromkeys(filter(None, told)))


def keep_contract(
    cls: type[Any], reference: MethodReference, outcomes: Iterable[Mapping[str, Any]], cache: Path
) -> None:
    """Remember how a method's contract came out, for the runs of this text of it.

    Args:
        cls: its class.
        reference: which text of it.
        outcomes: with promise, passed (None: not checked) and message.
        cache: holds ``contracts/``.
    """
    contract = [{"name": o["promise"], "passed": o["passed"], "detail": o["message"]} for o in outcomes]
    checked = utc_now()
    try:
        save_text(
            _contract_path(cls, reference, cache), json.dumps({"contract": contract, "checked": checked})
        )
    except OSError as error:
        log.warning("runs will not show this: %s cannot be written (%s)", cache, error.strerror)


def _contract(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}  # never checked here
    return found if isinstance(found, dict) else {}


def _contract_path(cls: type[Any], reference: MethodReference, cache: Path) -> Path:
    source = reference.source_sha256 or _source_sha256(_family(cls))
    key = json.dumps([reference.name, reference.version, source])
    return cache / "contracts" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def _family(cls: type[Any]) -> ModuleType:
    """The package that offers a class of one of its modules, else the class's own module."""
    module = sys.modules[cls.__module__]
    package = sys.modules.get(cls.__module__.rpartition(".")[0])
    return package if package and getattr(package, cls.__name__, None) is cls else module


def _source_sha256(module: ModuleType) -> str:
    """sha256 over the files of a module or family; empty where it has none."""
    path = Path(module.__file__ or "")
    files = sorted(path.parent.glob("*.py")) if path.name == "__init__.py" else [path]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.is_file())).hexdigest()
