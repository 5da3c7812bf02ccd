"""Commands that only read load no more than their answer needs: each is started in a process of its own."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import made_up_results as made
import pytest

from harness import stats
from harness.method import outline, registry, traits
from harness.store import Store

LOOK = """
import sys, fsbench
sys.argv[0] = "fsbench"
try:
    fsbench.main()
except SystemExit as ended:
    code = ended.code
watched = ("torch", "scipy", "scipy.stats", "pandas", "matplotlib", "PIL")
print(*(name for name in watched if name in sys.modules), file=open(LOOK, "w"))
sys.exit(code)
"""
PLAIN = '''
from dataclasses import dataclass


class Plain:
    """A method whose file needs no torch."""

    name, version, uses_backbone = "plain", "1", False

    @dataclass(frozen=True)
    class Config:
        """None."""

    def fit_base(self, base, ctx): ...
    def adapt(self, support): ...
    def predict(self, state, query): ...
'''


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a database of made-up runs, a report of it, and a method in a file."""
    folder = tmp_path_factory.mktemp("home")
    with Store.open(folder / "results.db", create=True) as store:
        made.fill(store, n_methods=2, n_episodes=60)
        (folder / "run").write_text(store.column("id", status="done")[0])
    (folder / "plain.py").write_text(PLAIN)
    return folder


def loaded(home: Path, *words: str, expected: int = 0) -> set[str]:
    """Which of the heavy packages a command loads."""
    look = home / "look"
    environment = {
        **os.environ, "FSBENCH_HOME": str(home), "FSBENCH_DATA": str(home / "data"), "FSBENCH_CACHE": str(home / "cache"),
    }  # fmt: skip
    code = LOOK.replace("LOOK", repr(str(look)))
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=home, env=environment, capture_output=True, text=True
    )
    assert done.returncode == expected, done.stderr
    assert done.stdout
    return set(look.read_text().split())


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        (["leaderboard"], "scipy"),  # its quantile of Student's t
        (["leaderboard"], ""),  # nothing changed: the answer is known
        (["leaderboard", "--json"], "scipy"),
        (["compare", "method-0", "method-1", "-b", "glyphs-5w1s"], "scipy scipy.stats"),  # Wilcoxon's test
        (["show", "RUN"], ""),
        (["show", "RUN", "--json"], ""),
        (["show", "RUN", "--by", "class"], ""),
        (["status"], ""),
        (["runs"], ""),
        (["methods"], ""),
        (["methods", "./plain.py"], ""),
        (["methods", "pixels"], "torch PIL"),
        (["benchmarks"], "PIL"),  # what opens prepared images
        (["report", "--format", "csv"], "scipy scipy.stats"),
        (["run", "-m", "./plain.py", "-b", "glyphs-5w1s", "--dry-run"], "PIL"),  # draws glyphs on first use
        (["run", "-m", "pixels", "-b", "glyphs-5w1s", "--dry-run"], "PIL torch"),
        (["run", "-m", "pixels", "-b", "glyphs-5w1s", "--dry-run", "--json"], "PIL torch"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_loads_what_its_answer_needs(home: Path, words: list[str], needed: str) -> None:
    run = (home / "run").read_text()
    assert loaded(home, *(run if word == "RUN" else word for word in words)) <= set(needed.split())


def test_report_does_not_load_torch_and_draws_once(home: Path) -> None:
    assert loaded(home, "report") == {"scipy", "scipy.stats", "matplotlib", "PIL"}
    assert loaded(home, "report") == set(), "nothing changed, so there is nothing to compute or to draw"


@pytest.mark.parametrize("name", sorted(registry.BUILT_IN))
def test_the_text_of_a_method_says_what_its_class_is(name: str) -> None:
    cls, read = registry.load(name).cls, outline.read(registry.BUILT_IN[name])
    assert (read.version, inspect.getdoc(read), traits(read)) == (
        cls.version,
        inspect.getdoc(cls),
        traits(cls),
    )


def test_statistics_are_found_by_their_public_names() -> None:
    found = {name: getattr(stats, name) for name in stats.__all__}
    homes = {
        name: value.__module__
        for name, value in found.items()
        if inspect.isroutine(value) or inspect.isclass(value)
    }
    assert set(homes.values()) <= {
        f"harness.stats.{path.stem}" for path in Path(stats.__file__).parent.glob("*.py")
    }
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        getattr(stats, "nonesuch")  # noqa: B009
