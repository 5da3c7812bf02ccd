"""Find methods: built in, installed by another package, or in a file of the user's."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.errors import ConfigError, PluginError, nearest
from harness.method.protocol import REQUIRED, check_method

BUILT_IN: Mapping[str, str] = {
    "bml": "methods.bml:Bml",
    "bml-global": "methods.bml:BmlGlobal",
    "bml-local": "methods.bml:BmlLocal",
    "cosine": "methods.margin:Cosine",
    "nearest-mean": "methods.nearest_mean:NearestMean",
    "neg-cosine": "methods.margin:NegCosine",
    "neg-softmax": "methods.margin:NegSoftmax",
    "pixels": "methods.pixels:Pixels",
    "protonet": "methods.protonet:ProtoNet",
    "softmax": "methods.margin:Softmax",
}
GROUP = "fsbench.methods"


@dataclass(frozen=True)
class MethodReference:
    """Which method: where it comes from and which text of it.

    Attributes:
        reference: what the user typed: a name, or ``./mine.py:Mine``; not part of the identity.
        name: the method's own name.
        version: the method's own version.
        source_sha256: of the user's file; empty for built-ins and installed plugins.
    """

    reference: str
    name: str
    version: str
    source_sha256: str = ""


@dataclass(frozen=True)
class Loaded:
    """A method's class and what identifies its text."""

    cls: type[Any]
    reference: MethodReference


def load(reference: str) -> Loaded:
    """Load a method by name, ``./mine.py`` or ``./mine.py:Mine``.

    Raises:
        ConfigError: for an unknown name, with the nearest one.
        PluginError: when the file cannot be read, does not import, or holds no method.
    """
    if _is_file(reference):
        return _from_file(reference)
    targets = installed()
    if reference not in targets:
        raise ConfigError(
            f"`{reference}` is not a method.{nearest(reference, targets)} Known: {', '.join(sorted(targets))}. "
            "A file of your own is written ./mine.py or ./mine.py:Mine."
        )
    module_name, _, class_name = targets[reference].partition(":")
    module = _import(module_name, f"method `{reference}` ({module_name})")
    cls = getattr(module, class_name, None)
    if cls is None:
        raise PluginError(
            f"Method `{reference}` points to {targets[reference]}, where {class_name} does not exist."
        )
    check_method(cls, f"{module_name}:{class_name}")
    return Loaded(cls, MethodReference(reference, cls.name, cls.version))


def expand(pattern: str) -> list[str]:
    """Find the references that a name, a file or a glob over the known names means.

    Raises:
        ConfigError: when nothing matches.
    """
    if _is_file(pattern) or not any(c in pattern for c in "*?["):
        return [pattern]
    import fnmatch

    found = sorted(name for name in installed() if fnmatch.fnmatchcase(name, pattern))
    if not found:
        raise ConfigError(f"No method matches `{pattern}`. `fsbench methods` lists them all.")
    return found


@cache
def installed() -> Mapping[str, str]:
    """Name → "module:Class" of every built-in and every entry point in the group ``fsbench.methods``.

    Raises:
        PluginError: when two origins claim one name.
    """
    targets = dict(BUILT_IN)
    for point in entry_points(group=GROUP):
        if targets.get(point.name, point.value) != point.value:
            raise PluginError(
                f"Two methods are called `{point.name}`: {targets[point.name]} and {point.value} (from "
                f"{point.dist.name if point.dist else 'an installed package'}). Rename or uninstall one."
            )
        targets[point.name] = point.value
    return targets


def _is_file(reference: str) -> bool:
    path = reference.rpartition(":")[0] if ".py:" in reference else reference
    return path.endswith(".py") or "/" in path


def _from_file(reference: str) -> Loaded:
    text, _, class_name = reference.partition(".py:")
    path = Path(text + ".py" if class_name else text).expanduser()
    if not path.is_file():
        raise PluginError(
            f"There is no file {path}. A method of your own is written ./mine.py or ./mine.py:Mine."
        )
    source = path.read_bytes()
    digest = hashlib.sha256(source).hexdigest()
    module = _execute(path, source, f"fsbench_user_{path.stem}_{digest[:12]}")
    cls = _pick(module, path, class_name)
    check_method(cls, f"{path}:{cls.__name__}")
    return Loaded(cls, MethodReference(f"{path}:{cls.__name__}", cls.name, cls.version, digest))


def _execute(path: Path, source: bytes, name: str) -> ModuleType:
    """Run a user's file as a module under a name that carries its content, so that edits are new modules."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_loader(name, loader=None, origin=str(path))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except SyntaxError as error:
        del sys.modules[name]
        raise PluginError(
            f"{path}, line {error.lineno}: {error.msg}: {(error.text or '').strip()}"
        ) from error
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise PluginError(f"{path} does not import:\n{_last_lines(error)}") from error
    return module


def _import(module: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise PluginError(f"The {what} does not import:\n{_last_lines(error)}") from error


def _last_lines(error: BaseException) -> str:
    return "".join(traceback.format_exception(error, limit=-1)).strip()


def _pick(module: ModuleType, path: Path, class_name: str) -> type[Any]:
    own = {n: c for n, c in vars(module).items() if isinstance(c, type) and c.__module__ == module.__name__}
    if class_name:
        if class_name not in own:
            raise PluginError(
                f"{path} has no class `{class_name}`.{nearest(class_name, own)} It has: {', '.join(own)}."
            )
        return own[class_name]
    whole = {n: c for n, c in own.items() if all(callable(getattr(c, f, None)) for f in REQUIRED)}
    if len(whole) == 1:
        return next(iter(whole.values()))
    if whole:
        raise PluginError(
            f"{path} holds several methods: {', '.join(whole)}. Say which: {path}:{next(iter(whole))}."
        )
    near = max(own.items(), key=lambda item: sum(hasattr(item[1], f) for f in REQUIRED), default=None)
    if near is None:
        raise PluginError(f"{path} defines no class. `fsbench new-method NAME` writes a file that works.")
    check_method(near[1], f"{path}:{near[0]}")
    raise AssertionError("check_method accepts only whole methods")
