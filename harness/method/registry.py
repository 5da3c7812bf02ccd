"""Find methods: built in, installed by another package, or in a file of the user's."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from harness.errors import ConfigError, PluginError, StoreError, nearest
from harness.method import outline
from harness.method.protocol import REQUIRED, check_method
from harness.system.files import save_text

BUILT_IN: Mapping[str, str] = {
    "alpha-tim": "methods.tim:AlphaTim",
    "anil": "methods.anil:Anil",
    "bd-cspn": "methods.bd_cspn:BdCspn",
    "bml": "methods.bml:Bml",
    "bml-global": "methods.bml:BmlGlobal",
    "bml-local": "methods.bml:BmlLocal",
    "bpa": "methods.bpa:Bpa",
    "centroid": "methods.centroid:Centroid",
    "cosine": "methods.margin:Cosine",
    "deepemd": "methods.deepemd:DeepEmd",
    "deepemd-pretrain": "methods.deepemd:DeepEmdPretrain",
    "dn4": "methods.dn4:Dn4",
    "easy": "methods.easy:Easy",
    "feat": "methods.feat:Feat",
    "finetune": "methods.finetune:Finetune",
    "finetune-network": "methods.finetune_network:FinetuneNetwork",
    "frn": "methods.frn:Frn",
    "frozen": "methods.frozen:Frozen",
    "knn": "methods.knn:Knn",
    "laplacianshot": "methods.laplacianshot:LaplacianShot",
    "logistic": "methods.logistic:LogisticRegression",
    "lowshot-hallucination": "methods.lowshot:LowshotHallucination",
    "lowshot-logistic": "methods.lowshot:LowshotLogistic",
    "magnet": "methods.magnet:Magnet",
    "maml": "methods.maml:Maml",
    "matching-network": "methods.lowshot:MatchingNetwork",
    "meta-baseline": "methods.meta_baseline:MetaBaseline",
    "metaopt-svm": "methods.metaopt_svm:MetaOptSvm",
    "nearest-mean": "methods.nearest_mean:NearestMean",
    "neg-cosine": "methods.margin:NegCosine",
    "neg-softmax": "methods.margin:NegSoftmax",
    "pixels": "methods.pixels:Pixels",
    "protonet": "methods.protonet:ProtoNet",
    "pt-map": "methods.pt_map:PtMap",
    "relation-network": "methods.relation_network:RelationNetwork",
    "repmet": "methods.repmet:RepMet",
    "representation": "methods.lowshot:Representation",
    "rfs": "methods.rfs:Rfs",
    "ridge": "methods.ridge:Ridge",
    "s2m2": "methods.s2m2:S2m2",
    "soft-kmeans": "methods.easy:SoftKmeans",
    "softmax": "methods.margin:Softmax",
    "svm": "methods.svm:Svm",
    "table": "methods.frozen:Table",
    "tim": "methods.tim:Tim",
    "transductive-finetune": "methods.finetune:TransductiveFinetune",
    "transductive-finetune-network": "methods.finetune_network:TransductiveFinetuneNetwork",
    "transductive-maml": "methods.maml:TransductiveMaml",
    "transductive-relation-network": "methods.relation_network:TransductiveRelationNetwork",
}
GROUP = "fsbench.methods"
T = TypeVar("T")
_SHA256 = re.compile(r"[0-9a-f]{64}")


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
    """Load what the user types: a name, ``./mine.py`` or ``./mine.py:Mine``; for what is stored, ``load_stored``.

    Raises:
        ConfigError: for an unknown name, file or class of it, with the nearest one.
        PluginError: when it does not import, or holds no method.
    """
    return _from_file(reference) if _is_file(reference) else _registered(reference)


def load_stored(reference: MethodReference, cache: Path, place: str = "") -> Loaded:
    """Load the method of a stored run; every load of a reference that was read from somewhere goes through here.

    A record may come from anybody, so its reference decides nothing: what is loaded is a registered name, or a file that
    the user has named at a prompt (``vouch``) and that still has that text. The bytes that are hashed are the bytes that
    run.

    Args:
        reference: as it was stored.
        cache: where ``vouch`` wrote.
        place: a copy of the file to look at first (a snapshot), else empty.

    Raises:
        ConfigError: when no such method is registered, the file has not been named here or has another text, or what is
            found is of another name or version.
        PluginError: when it does not import.
    """
    if reference.source_sha256:
        loaded = _from_bytes(*_same_text(reference, cache, place))
    elif reference.reference in installed():
        loaded = _registered(reference.reference)
    else:
        raise ConfigError(
            f"The run was made by a method called {reference.reference!r:.80}, which is not registered here, and it names no "
            "text of a file. `fsbench methods` lists what there is; install the package it comes from."
        )
    found = loaded.reference
    if (found.name, found.version) != (reference.name, reference.version):
        raise ConfigError(
            f"The run was made by {reference.name} {reference.version}; here is version {found.version} of {found.name}, "
            "which may count otherwise. Install the fsbench that made it, or run anew."
        )
    return loaded


def vouch(reference: MethodReference, cache: Path) -> None:
    """Remember that the user named a file of his own, so that runs of this very text may load it again.

    Raises:
        StoreError: when the cache cannot be written.
    """
    if reference.source_sha256:
        path = _split(reference.reference)[0].absolute()
        try:
            save_text(_word(reference, cache), str(path))
        except OSError as error:
            raise StoreError(
                f"{cache} could not be written: {error.strerror}. Free some space, or set FSBENCH_CACHE."
            ) from error


def vouch_for(typed: str, reference: MethodReference, cache: Path) -> None:
    """Take the user's word, ``--method ./mine.py``, for the file of a stored run.

    Raises:
        ConfigError: when there is no such file, or its sha256 is not that of the run.
    """
    path = _split(typed)[0]
    digest = hashlib.sha256(_bytes_of(path)).hexdigest()
    if digest != reference.source_sha256:
        wanted = reference.source_sha256[:12] or "none, since the method is a registered one"
        raise ConfigError(
            f"--method {typed} is not the text that made the run: its sha256 begins {digest[:12]}, that of the run is "
            f"{wanted}. Ask whoever made the run for the file, or run anew."
        )
    vouch(MethodReference(str(path), reference.name, reference.version, digest), cache)


def refuse_unnamed(reference: MethodReference, cache: Path) -> None:
    """Refuse the file of a stored run that the user never named.

    Raises:
        ConfigError: saying how to name it.
    """
    if reference.source_sha256 and not _word(reference, cache).is_file():
        raise ConfigError(
            f"The run was made by a file, {reference.reference!r:.120}, whose text (sha256 {reference.source_sha256[:12]}…) "
            "you have not named here. Nothing of it was executed. Read the file; if you trust it, type the same command "
            "with --method ./mine.py, its path."
        )


def _registered(reference: str) -> Loaded:
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


def pair_of(typed: str) -> tuple[str, str]:
    """Take a head and the fit whose features it is to have apart, ``tim[softmax]``; nothing behind a name of another kind.

    Brackets are those of a glob unless a method's name stands in them.

    >>> pair_of("tim[softmax(epochs=5)]"), pair_of("neg-[cs]*"), pair_of("protonet")
    (('tim', 'softmax(epochs=5)'), ('neg-[cs]*', ''), ('protonet', ''))

    Raises:
        ConfigError: when a backbone stands there too, as in the label of a row.
    """
    head, bracket, features = typed.removesuffix("]").partition("[")
    name = re.split(r"[(,]", features)[0].strip()
    if not (bracket and typed.endswith("]") and (name in installed() or _is_file(name))):
        return typed, ""
    if "," in re.sub(r"\(.*\)", "", features):
        backbone = features.rpartition(",")[2].strip()
        raise ConfigError(f"{typed}: name it {head}[{features.rpartition(',')[0]}] --backbone {backbone}.")
    return head, features


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


@cache
def called_by(name: str) -> str:
    """The hyper-parameter by whose value the fits of a built-in method are called in labels; empty as a rule."""
    return getattr(outline.read(BUILT_IN[name]), "called_by", "") if name in BUILT_IN else ""


def _is_file(reference: str) -> bool:
    path = reference.rpartition(":")[0] if ".py:" in reference else reference
    return path.endswith(".py") or "/" in path


def _split(reference: str) -> tuple[Path, str]:
    """The path of ``./mine.py`` or ``./mine.py:Mine``, and the name of the class or nothing."""
    text, _, class_name = reference.partition(".py:")
    return Path(text + ".py" if class_name else text).expanduser(), class_name


def _bytes_of(path: Path) -> bytes:
    if not path.is_file():
        raise ConfigError(
            f"There is no file {path}. A method of your own is written ./mine.py or ./mine.py:Mine."
        )
    return path.read_bytes()


def _from_file(reference: str) -> Loaded:
    path, class_name = _split(reference)
    return _from_bytes(path, _bytes_of(path), class_name)


def _from_bytes(path: Path, source: bytes, class_name: str) -> Loaded:
    digest = hashlib.sha256(source).hexdigest()
    module = _execute(path, source, f"fsbench_user_{path.stem}_{digest}")
    name, cls = _pick(module, path, class_name)
    check_method(cls, f"{path}:{name}")
    return Loaded(cls, MethodReference(f"{path}:{name}", cls.name, cls.version, digest))


def _word(reference: MethodReference, cache: Path) -> Path:
    """The file that keeps the user's word for a text: named by its sha256, it holds the path that was typed."""
    digest = reference.source_sha256
    return cache / "named" / (digest if _SHA256.fullmatch(digest) else "none")


def _same_text(reference: MethodReference, cache: Path, place: str) -> tuple[Path, bytes, str]:
    """Find a file with the text of a stored run among the places where it may be; its bytes are read once."""
    refuse_unnamed(reference, cache)
    path, class_name = _split(reference.reference)
    named = Path(_word(reference, cache).read_text())
    for candidate in ([_split(place)[0]] if place else []) + [path, named]:
        source = candidate.read_bytes() if candidate.is_file() else b""
        if hashlib.sha256(source).hexdigest() == reference.source_sha256:
            return candidate, source, class_name
    raise ConfigError(
        f"{path} was changed after the runs were planned, or is gone: no file with the text of the run (sha256 "
        f"{reference.source_sha256[:12]}…) is there. Type `fsbench run …` again, or name a copy with --method ./mine.py."
    )


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
        _with_torchvision(lambda: exec(compile(source, str(path), "exec"), module.__dict__))
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise PluginError(f"{path} does not import:\n{_own_line(error, path.name, path.parent)}") from error
    return module


def _import(module: str, what: str) -> ModuleType:
    try:
        return _with_torchvision(lambda: importlib.import_module(module))
    except (Exception, SystemExit) as error:
        top = module.partition(".")[0]
        raise PluginError(f"The {what} does not import:\n{_own_line(error, top)}") from error
    return module


def _with_torchvision(load: Callable[[], T]) -> T:
    """Load a method, once more where what it imports needs a torchvision that does not import by itself."""
    try:
        return load()
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
    from harness.backbones.torchvision_import import import_torchvision  # loads torch, as what failed has

    import_torchvision()
    return load()


def _own_line(error: BaseException, own: str, beside: Path | None = None) -> str:
    """Say in which line of the method's own text an import failed, and of what.

    Args:
        error: what was raised.
        own: the file, or the top package, whose text counts as the method's own; a library's lines help nobody.
        beside: the folder of a user's file, where a module that was not found may lie.
    """
    frames = traceback.extract_tb(error.__traceback__)
    last = next((f for f in reversed(frames) if {own, f"{own}.py"} & set(Path(f.filename).parts)), None)
    place = f"{last.filename}, line {last.lineno}: {last.line}\n" if last else ""
    said = "".join(traceback.format_exception_only(error)).strip()
    if isinstance(error, SyntaxError):
        said = f"{error.filename}, line {error.lineno}: {error.msg}: {(error.text or '').strip()}"
    if isinstance(error, ModuleNotFoundError) and error.name and beside is not None:
        name = error.name.partition(".")[0]
        if (beside / f"{name}.py").exists() or (beside / name).is_dir():
            said += f". `{name}` lies beside the file: type PYTHONPATH={shlex.quote(str(beside))} before the command."
    return place + said


def _pick(module: ModuleType, path: Path, class_name: str) -> tuple[str, type[Any]]:
    """The class that is meant, and a name under which the file holds it: what it defines, makes or calls anew."""
    classes = {n: c for n, c in vars(module).items() if isinstance(c, type)}
    if class_name:
        return class_name, _called(class_name, module, classes, path)
    own = _once({n: c for n, c in classes.items() if c.__module__ == module.__name__})
    made = _once(
        {n: c for n, c in classes.items() if c.__module__ != module.__name__ and not _is_imported(n, c)}
    )
    whole = {n: c for n, c in own.items() if _is_whole(c)} or {n: c for n, c in made.items() if _is_whole(c)}
    if len(whole) == 1:
        return next(iter(whole.items()))
    if whole:
        raise PluginError(
            f"{path} holds several methods: {', '.join(whole)}. Say which: {path}:{next(iter(whole))}."
        )
    near = max(own.items(), key=lambda item: sum(hasattr(item[1], f) for f in REQUIRED), default=None)
    if near is None:
        raise PluginError(
            f"{path} defines no class{_seen(classes, path)}. `fsbench new-method NAME` writes a file that works."
        )
    check_method(near[1], f"{path}:{near[0]}")
    raise AssertionError("check_method accepts only whole methods")


def _called(name: str, module: ModuleType, classes: Mapping[str, type[Any]], path: Path) -> type[Any]:
    if name in classes:
        return classes[name]
    if hasattr(module, name):
        made = f"{name.title().replace('_', '')}Method"
        raise ConfigError(
            f"`{name}` of {path} is no class but a {type(getattr(module, name)).__name__}. If it makes methods, write the "
            f"one that you mean into the file, like {made} = {name}(…), and name that: {path}:{made}."
        )
    raise ConfigError(
        f"{path} has no class `{name}`.{nearest(name, classes)} It has: {', '.join(classes) or 'none'}."
    )


def _once(classes: Mapping[str, type[Any]]) -> dict[str, type[Any]]:
    """Each class under one name: its own where the file has that, else the first alias."""
    by_class: dict[type[Any], str] = {}
    for name, cls in classes.items():
        if cls not in by_class or name == cls.__name__:
            by_class[cls] = name
    return {name: cls for cls, name in by_class.items()}


def _is_imported(name: str, cls: type[Any]) -> bool:
    """Whether a class is there under the name that it has where it comes from: as a base, or for an annotation."""
    return getattr(sys.modules.get(cls.__module__), name, None) is cls


def _is_whole(cls: type[Any]) -> bool:
    return all(callable(getattr(cls, function, None)) for function in REQUIRED)


def _seen(classes: Mapping[str, type[Any]], path: Path) -> str:
    """Whole methods that a file only imports, and how to name one."""
    whole = [name for name, cls in classes.items() if _is_whole(cls)]
    return f"; it imports {', '.join(whole)}, which is named {path}:{whole[0]}" if whole else ""
