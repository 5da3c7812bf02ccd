"""Nothing from outside decides what runs: stored references, jobs from elsewhere, and values that become job scripts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostile_home import Attacked, is_message
from made_up_results import result

from harness.errors import ConfigError, FsbenchError
from harness.jobs import batches, dispatch, packing, slurm_options
from harness.method import registry
from harness.runs import MethodReference, RunSpec

METHOD = '''
from dataclasses import dataclass
from pathlib import Path
import torch
Path(r"{trace}").touch()
class Mine:
    name, version, uses_backbone = "mine", "1", False
    @dataclass(frozen=True)
    class Config:
        """None."""
    def __init__(self, config, backbone): pass
    def fit_base(self, base, ctx): pass
    def adapt(self, support): return support.n_way
    def predict(self, state, query): return torch.ones((len(query), state))
'''


@pytest.fixture
def home(tmp_path: Path) -> Attacked:
    return Attacked(tmp_path / "home")


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A file that only executed code makes."""
    return tmp_path / "executed"


@pytest.fixture
def file(tmp_path: Path, trace: Path) -> Path:
    path = tmp_path / "planted.py"
    path.write_text(METHOD.format(trace=trace))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def spec_of(reference: str, digest: str = "", name: str = "mine", version: str = "1") -> RunSpec:
    spec = result("protonet", n_episodes=20).spec
    return replace(spec, config={}, backbone="none", method=MethodReference(reference, name, version, digest))


# What somebody else may have written in the place of a reference: (reference, sha256), given a planted file.
REFERENCES: dict[str, Callable[[Path], tuple[str, str]]] = {
    "a path without a digest": lambda f: (str(f), ""),
    "a path and the true digest of what lies there": lambda f: (str(f), sha256(f)),
    "a class of it": lambda f: (f"{f}:Mine", sha256(f)),
    "another digest": lambda f: (f"{f}:Mine", "0" * 64),
    "a relative path": lambda f: (f"./{f.name}", sha256(f)),
    "a name with a slash": lambda f: ("runs/x/log.txt", ""),
    "no such name": lambda f: ("os", ""),
    "a module and a class": lambda f: ("antigravity:geohash", ""),
    "a digest that leads out of the cache": lambda f: (str(f), "../../planted.py"),
    "nothing": lambda f: ("", ""),
    "a control character": lambda f: ("mine\x1b[2J", ""),
}


@pytest.mark.parametrize("kind", REFERENCES)
def test_no_way_to_a_load_executes_what_the_user_did_not_name(
    home: Attacked, file: Path, trace: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    spec, places = spec_of(*REFERENCES[kind](file)), home.places
    group = batches.Group(
        (spec,), str(places.home), str(places.home), str(places.cache), "cpu", {spec.method.reference: "x"}
    )
    ways: list[Callable[[], Any]] = [
        lambda: registry.load_stored(spec.method, places.cache),
        lambda: batches.code_digest(spec.method, places.cache),
        group.check,
        lambda: packing.pack([spec], places, packing.Ways("local")),
    ]
    for way in ways:
        with pytest.raises(FsbenchError) as told:
            way()
        assert is_message(told.value) and not trace.exists()


def test_a_bundle_cannot_name_the_code_it_brings(home: Attacked, tmp_path: Path, trace: Path) -> None:
    """The run's own log is the file: its digest is in the spec, its path in the reference, which no id covers."""
    from harness.exchange import archive

    log = tmp_path / "log.txt"
    log.write_text(METHOD.format(trace=trace))
    true = result("mine", "theirs-5w1s", n_episodes=20)
    spec = replace(true.spec, method=MethodReference("", "mine", "1", sha256(log)))
    reference = str(home.places.runs / spec.id / "log.txt")
    forged = replace(true, spec=replace(spec, method=replace(spec.method, reference=reference)))
    folder = forged.save(tmp_path / "made", log)
    name = f"runs/{forged.spec.id}-{forged.digest[:12]}"
    archive.write(tmp_path / "b.tar.zst", {f"{name}/{f.name}": f for f in folder.iterdir()})
    assert home.type("import", str(tmp_path / "b.tar.zst"))[0] == 0
    assert Path(reference).read_text() == log.read_text()  # it lies where the reference says
    for words in (
        ["recheck", spec.id],
        ["hardness", "glyphs-5w1s", "--from", spec.id],
        ["collect"],
        ["resume"],
    ):
        code, said = home.type(*words)
        assert not trace.exists(), words
        assert code in (0, 2, 3) and is_message(said), said
    code, said = home.type("recheck", spec.id, "--method", str(tmp_path / "made.py"))
    assert code == 2 and "There is no file" in said
    home.still_works()
    assert home.type("show", spec.id)[0] == 0 and not trace.exists()


def test_the_user_names_a_file_and_only_its_own_text_is_taken(
    home: Attacked, file: Path, tmp_path: Path, trace: Path
) -> None:
    method = spec_of("elsewhere/mine.py:Mine", sha256(file)).method
    other = tmp_path / "other.py"
    other.write_text(file.read_text() + "# edited\n")
    with pytest.raises(ConfigError, match="is not the text that made the run"):
        registry.vouch_for(str(other), method, home.places.cache)
    with pytest.raises(ConfigError, match=r"--method \./mine\.py"):
        registry.load_stored(method, home.places.cache)
    registry.vouch_for(str(file), method, home.places.cache)
    assert not trace.exists()
    assert registry.load_stored(method, home.places.cache).cls.__name__ == "Mine" and trace.exists()
    file.write_text(other.read_text())
    with pytest.raises(ConfigError, match="was changed after the runs were planned, or is gone"):
        registry.load_stored(method, home.places.cache)
    assert registry.load(str(file)).cls.__name__ == "Mine"  # typed at the prompt, it loads as ever


@pytest.mark.parametrize(("name", "version"), [("protonet", "1"), ("pixels", "9")])
def test_a_registered_name_stands_for_itself_alone(home: Attacked, name: str, version: str) -> None:
    """Else a row called protonet would be counted again with pixels, which its reference names."""
    with pytest.raises(ConfigError, match=f"made by {name} {version}; here is version 1 of pixels"):
        registry.load_stored(MethodReference("pixels", name, version), home.places.cache)
    assert (
        registry.load_stored(MethodReference("pixels", "pixels", "1"), home.places.cache).cls.name == "pixels"
    )


def test_jobs_of_a_home_from_elsewhere_are_not_resumed_unnamed(
    home: Attacked, file: Path, trace: Path
) -> None:
    """The folder of jobs came with the home, with a cache of its own in which the file is vouched for."""
    places = home.places
    spec = spec_of(str(file), sha256(file))
    theirs = places.home / "their-cache"
    registry.vouch(spec.method, theirs)
    group = batches.Group(
        (spec,), str(places.home), str(places.home), str(theirs), "cpu", {str(file): sha256(file)}
    )
    batches.Batch.create(places.runs, "local", [group], {"jobs": 1})
    code, said = home.type("resume")
    assert code == 2 and "you have not named here" in said and not trace.exists()
    assert dispatch.status.statuses(places.runs)[0].state == "not submitted"


# --- fsbench.toml and --slurm ---------------------------------------------------------------------------------

HOSTILE_VALUES = [
    "a\nrm -rf $HOME",
    "a\r\nb",
    "a\x1b[2J",
    "a\x00b",
    "a\x85b",
    "a\u2028b",
    "\ud800",
    "$(touch x)",
    "`touch x`",
    "a; touch x",
    "'",
    '"',
    "a\\\nb",
    "x" * 10_000,
    "",
]


@pytest.mark.parametrize("key", ["partition", "comment", "time", "gpus", "mem"])
@pytest.mark.parametrize("value", HOSTILE_VALUES, ids=ascii)
def test_no_value_becomes_a_line_of_a_job_script(key: str, value: str) -> None:
    with pytest.raises(ConfigError) as told:
        slurm_options.submitit_parameters({key: value})
    assert is_message(told.value) and len(str(told.value)) < 500


@pytest.mark.parametrize(
    "content",
    [
        'slurm = "x"',
        "[slurm]\npartition = [1]",
        "[slurm]\npartition = 1.5",
        "[slurm]\ngpus = true",
        "[slurm]\ngpus = -1",
        "[slurm]\ngpus = 99999999999999999999",
        "[slurm]\ntime = 2020-01-01",
        "[slurm]\npartition = {a = 1}",
        '[slurm]\ncomment = """a\nb"""',
        '[slurm]\ncomment = "a\\u001bb"',
        '[slurm]\n"a\\nb" = "c"',
        '[slurm]\npartition = "a"\npartition = "b"',
        "x = " + "[" * 5000 + "]" * 5000,
        "[slurm]\n" + "# long\n" * 20_000,
        "\udcff",
        "[slurm",
    ],
    ids=lambda text: ascii(text[:30]),
)
def test_a_hostile_fsbench_toml_is_refused_with_a_message(tmp_path: Path, content: str) -> None:
    (tmp_path / "fsbench.toml").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError) as told:
        slurm_options.read(tmp_path, [])
    assert is_message(told.value)


def test_an_honest_fsbench_toml_is_read(tmp_path: Path) -> None:
    (tmp_path / "fsbench.toml").write_text(
        '[slurm]\npartition = "gpu,big"\ngpus = 2\ntime = "1-12:00"\nmem = "64G"\ncomment = "paper 2 (rerun)"\n'
        'constraint = "[a100|h100]&ib"\ngres = "gpu:a100:2"\nnodelist = "n[01-12]"'
    )
    found = slurm_options.submitit_parameters(slurm_options.read(tmp_path, ["time=90"]))
    assert (found["time"], found["gpus_per_node"], found["mem"]) == (90, 2, "64G")
    assert json.dumps(found)
