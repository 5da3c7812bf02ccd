"""Finding methods: by name, by entry point, in a user's file; and what is said when there is none."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ConfigError, PluginError
from harness.method import Recipe, check_method, defaults, recipes, registry, traits

METHOD = """
from dataclasses import dataclass


class {cls}:
    @dataclass(frozen=True)
    class Config:
        margin: float = 0.5

    name, version = "{name}", "3"

    def fit_base(self, base, ctx): ...
    def adapt(self, support): ...
    def predict(self, state, query): ...
"""
Write = Callable[..., str]
Install = Callable[..., None]


def method(cls: str = "Mine", name: str = "mine") -> str:
    return METHOD.format(cls=cls, name=name)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(source: str, name: str = "mine.py") -> str:
        path = tmp_path / name
        path.write_text(source)
        return str(path)

    return write


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Install]:
    """Pretends that packages declare entry points; their modules lie in a folder of the path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(*points: tuple[str, str]) -> None:
        found = [EntryPoint(name, value, registry.GROUP) for name, value in points]
        monkeypatch.setattr(registry, "entry_points", lambda group: found if group == registry.GROUP else [])
        registry.installed.cache_clear()

    yield install
    registry.installed.cache_clear()


@pytest.mark.parametrize("name", sorted(registry.BUILT_IN))
def test_a_built_in_is_found_by_the_name_it_calls_itself(name: str) -> None:
    loaded = registry.load(name)
    assert loaded.cls.name == name
    assert loaded.reference == registry.MethodReference(name, name, loaded.cls.version, "")


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"`protonett` is not a method. Did you mean `protonet`.* Known: .*pixels"
    ):
        registry.load("protonett")


def test_a_file_is_a_method_with_the_hash_of_its_text(write: Write) -> None:
    path = write(method())
    loaded = registry.load(path)
    assert loaded.cls.__name__ == "Mine"
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert loaded.reference == registry.MethodReference(f"{path}:Mine", "mine", "3", digest)


def test_the_reference_of_a_file_finds_it_again(write: Write) -> None:
    first = registry.load(write(method()))
    assert registry.load(first.reference.reference) == first


def test_a_relative_path_needs_no_dot(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(write(method())).parent)
    for reference in ("mine.py", "./mine.py", "mine.py:Mine", "./mine.py:Mine"):
        assert registry.load(reference).cls.name == "mine"


def test_an_edited_file_is_another_method(write: Write) -> None:
    first = registry.load(write(method()))
    second = registry.load(write(method().replace('"3"', '"4"')))
    assert (first.cls.version, second.cls.version) == ("3", "4")
    assert first.reference.source_sha256 != second.reference.source_sha256


def test_the_classes_of_a_file_can_be_inspected_like_any_other(write: Write) -> None:
    path = write('"""Cite the paper."""' + method())
    cls = registry.load(path).cls
    assert inspect.getsourcefile(cls) == path
    assert (sys.modules[cls.__module__].__doc__ or "") == "Cite the paper."


def test_several_methods_of_a_file_need_a_choice(write: Write) -> None:
    path = write(method("One", "one") + method("Two", "two"))
    with pytest.raises(PluginError, match=r"holds several methods: One, Two. Say which: .*mine.py:One"):
        registry.load(path)
    assert registry.load(f"{path}:Two").cls.name == "two"


def test_parts_of_methods_and_imported_ones_are_no_choice(write: Write) -> None:
    path = write("from methods.pixels import Pixels\nclass Head:\n    def predict(self): ...\n" + method())
    assert registry.load(path).cls.__name__ == "Mine"


def test_an_unknown_class_gets_the_nearest(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"has no class `Mime`. Did you mean `Mine`.* It has: Mine"):
        registry.load(write(method()) + ":Mime")


def test_a_file_that_is_absent_says_how_a_file_is_written(tmp_path: Path) -> None:
    for reference in (f"{tmp_path}/absent.py", f"{tmp_path}/absent.py:Mine", f"{tmp_path}/absent"):
        with pytest.raises(ConfigError, match=r"There is no file .*absent.* is written ./mine.py"):
            registry.load(reference)


def test_a_syntax_error_names_the_line(write: Write) -> None:
    with pytest.raises(PluginError, match=r"mine.py, line 3: .*: def adapt\(self"):
        registry.load(write("class Mine:\n    x = 1\n    def adapt(self\n"))


def test_an_import_error_shows_the_line_that_failed_only(write: Write) -> None:
    with pytest.raises(
        PluginError,
        match=r"(?s)does not import:\n[^\n]*mine.py, line 1: import torchh\n[^\n]*No module named 'torchh'",
    ) as caught:
        registry.load(write("import torchh\n"))
    assert "_execute" not in str(caught.value)


def test_an_import_error_in_a_library_is_told_by_the_users_own_line(write: Write, tmp_path: Path) -> None:
    write("def deep():\n    return {}['gone']\n", "deeplib.py")
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(PluginError) as caught:
            registry.load(write("import deeplib\n\nTABLE = deeplib.deep()\n"))
    finally:
        sys.path.remove(str(tmp_path))
    assert str(caught.value).splitlines()[1:] == [
        f"{tmp_path}/mine.py, line 3: TABLE = deeplib.deep()", "KeyError: 'gone'"
    ]  # fmt: skip


def test_a_module_beside_the_file_that_is_not_found_says_how_to_find_it(write: Write, tmp_path: Path) -> None:
    write("x = 1\n", "neighbour.py")
    with pytest.raises(PluginError, match=rf"line 1: import neighbour\n.*type PYTHONPATH={tmp_path} before"):
        registry.load(write("import neighbour\n"))


def test_a_syntax_error_of_a_module_that_is_imported_names_both_lines(write: Write, tmp_path: Path) -> None:
    write("def broken(:\n", "brokenlib.py")
    source = f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nimport brokenlib\n"
    try:
        with pytest.raises(PluginError, match=r"(?s)mine.py, line 3: import brokenlib.*brokenlib.py.*line 1"):
            registry.load(write(source))
    finally:
        sys.path.remove(str(tmp_path))


FACTORY = "def make(name):\n" + "".join(f"    {line}\n" for line in method("Made", "x").splitlines())
FACTORY += "    Made.name = name\n    return Made\n"


def test_a_method_made_by_a_factory_works_and_keeps_its_name(write: Write) -> None:
    path = write(f"{FACTORY}Wide = make('wide')\n")
    loaded = registry.load(path)
    assert loaded.cls.name == "wide" and loaded.reference.reference == f"{path}:Wide"
    assert registry.load(loaded.reference.reference).cls is loaded.cls


def test_a_method_made_by_an_imported_factory_works(write: Write, tmp_path: Path) -> None:
    write(FACTORY, "factorylib.py")
    source = f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nfrom factorylib import make\nWide = make('wide')\n"
    try:
        assert registry.load(write(source)).reference.reference == f"{tmp_path}/mine.py:Wide"
    finally:
        sys.path.remove(str(tmp_path))


def test_a_factory_that_is_named_says_how_to_name_what_it_makes(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"`make` of .* is no class but a function.*MakeMethod = make\(…\)"):
        registry.load(write(FACTORY) + ":make")


def test_an_alias_is_no_second_method(write: Write) -> None:
    path = write(method() + "Best = Mine\n")
    assert registry.load(path).reference.reference == f"{path}:Mine"
    assert registry.load(f"{path}:Best").cls is registry.load(path).cls


def test_an_alias_of_a_method_from_elsewhere_is_a_method_of_the_file(write: Write) -> None:
    path = write("from methods.pixels import Pixels as Flat\n")
    assert registry.load(path).reference.reference == f"{path}:Flat"
    assert registry.load(f"{path}:Flat").cls.name == "pixels"


def test_a_file_that_only_imports_a_method_says_how_to_name_it(write: Write) -> None:
    path = write("from methods.pixels import Pixels\n")
    with pytest.raises(
        PluginError, match=rf"defines no class; it imports Pixels, which is named {path}:Pixels"
    ):
        registry.load(path)
    assert registry.load(f"{path}:Pixels").cls.name == "pixels"


def test_a_file_that_failed_may_be_mended(write: Write) -> None:
    with pytest.raises(PluginError):
        registry.load(write("import torchh\n"))
    assert registry.load(write(method())).cls.name == "mine"


def test_the_same_broken_file_fails_again(write: Write) -> None:
    path = write("raise RuntimeError('not today')\n")
    for _ in range(2):
        with pytest.raises(PluginError, match="not today"):
            registry.load(path)


def test_a_file_without_a_class_points_to_the_template(write: Write) -> None:
    with pytest.raises(
        PluginError, match=r"defines no class. `fsbench new-method NAME` writes a file that works"
    ):
        registry.load(write("x = 1\n"))


def test_what_a_class_lacks_is_said_at_once(write: Write) -> None:
    path = write("class Mine:\n    def adapt(self): ...\nclass Other: ...\n")
    with pytest.raises(PluginError) as caught:
        registry.load(path)
    text = str(caught.value)
    assert text.startswith(f"{path}:Mine is not a method: ")
    for part in (
        "no function `predict`",
        "no frozen dataclass `Config`",
        'name = "mine"',
        "`version`",
    ):
        assert part in text
    assert "`adapt`" not in text


@dataclass
class Thawed:
    pass


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("Config", Thawed, "no frozen dataclass"),
        ("Config", None, "no frozen dataclass"),
        ("name", "", "no text `name`"),
        ("version", 1, "no text `version`"),
        ("predict", 3, "no function `predict`"),
    ],
)
def test_a_method_of_the_wrong_kind_is_refused(
    write: Write, attribute: str, value: Any, message: str
) -> None:
    cls = registry.load(write(method())).cls
    check_method(cls, "here")
    with pytest.raises(PluginError, match=f"^here is not a method: it has {message}"):
        check_method(type("Changed", (cls,), {attribute: value}), "here")


def test_an_example_name_is_made_of_the_class_name() -> None:
    with pytest.raises(PluginError, match='name = "cross-domain-head"'):
        check_method(type("CrossDomainHead", (), {}), "here")


def test_optional_attributes_have_defaults(write: Write) -> None:
    cls = registry.load(write(method())).cls
    found = traits(cls)
    assert (found.uses_backbone, found.transductive, found.equivariant) == (True, False, False)
    assert found.protocols == {"episodic"}
    assert (defaults(cls), recipes(cls)["clean"]) == ({}, Recipe())
    own = type(
        "Own",
        (cls,),
        {"transductive": True, "protocols": ["joint"], "RECIPES": {"as-published": {"mini": {}}}},
    )
    assert traits(own).transductive
    assert traits(own).protocols == {"joint"}
    assert recipes(own)["as-published"].keys == ("mini",)


def test_an_installed_package_adds_a_method(write: Write, install: Install) -> None:
    write(method("Plugged", "plugged"), "plugged_package.py")
    install(("plugged", "plugged_package:Plugged"))
    assert set(registry.installed()) == {*registry.BUILT_IN, "plugged"}
    assert registry.load("plugged").reference == registry.MethodReference("plugged", "plugged", "3", "")


def test_two_origins_of_one_name_are_refused_with_both(install: Install) -> None:
    install(("protonet", "other_package:ProtoNet"))
    with pytest.raises(
        PluginError, match=r"`protonet`: methods.protonet:ProtoNet and other_package:ProtoNet"
    ):
        registry.load("pixels")


def test_one_origin_declared_twice_is_one_method(install: Install) -> None:
    install(("protonet", "methods.protonet:ProtoNet"))
    assert registry.load("protonet").cls.name == "protonet"


def test_a_broken_package_breaks_only_itself(write: Write, install: Install) -> None:
    write("import torchh\n", "broken_package.py")
    install(("broken", "broken_package:Broken"), ("hollow", "methods.pixels:Hollow"))
    assert registry.load("pixels").cls.name == "pixels"
    with pytest.raises(PluginError, match=r"(?s)`broken` \(broken_package\) does not import:\n.*'torchh'"):
        registry.load("broken")
    with pytest.raises(PluginError, match=r"points to methods.pixels:Hollow, where Hollow does not exist"):
        registry.load("hollow")


def test_globs_mean_every_name_they_match() -> None:
    assert registry.expand("p*") == sorted(name for name in registry.BUILT_IN if name.startswith("p"))
    assert registry.expand("protonet") == ["protonet"]
    assert registry.expand("./some*.py") == ["./some*.py"]  # files are not expanded
    with pytest.raises(ConfigError, match=r"No method matches `q\*`"):
        registry.expand("q*")
