"""The methods of docs/write-a-method.md are complete: each keeps the contract, and runs, as it stands there."""

from __future__ import annotations

import re
import time
from importlib import resources
from pathlib import Path

import pytest
import torch
from scratch_home import Home

from harness.cli import catalogue
from harness.method import registry, traits
from harness.system.folders import Places

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "write-a-method.md").read_text()
EXAMPLES = {
    block[3 : block.index(":")]: block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
}
TRAINED = ["comparator.py", "maml.py"]
HEADS = ["soft_k_means.py", "peers_bd_cspn.py"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("methods")
    for name, text in EXAMPLES.items():
        (folder / name).write_text(text)
    return folder


def test_there_are_five() -> None:
    assert sorted(EXAMPLES) == sorted(["nearest_centroid.py", *TRAINED, *HEADS])


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_keeps_the_contract(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within five times the promised ten seconds: this guards against work, not against busy machines."""
    places = Places(tmp_path, tmp_path, tmp_path / "cache", "")
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the time of every thread counts, waiting for each other included
    try:
        began = time.process_time()
        outcomes = catalogue.contract(str(folder / name), places, is_quick=True)
        seconds = time.process_time() - began
    finally:
        torch.set_num_threads(n_threads)
    assert [(o["name"], o["message"]) for o in outcomes if o["passed"] is False] == []
    kept = {o["name"] for o in outcomes if o["passed"]}
    assert {"scores_are_well_formed", "any_way_and_shot", "queries_may_be_permuted", "keeps_no_state"} <= kept
    assert seconds < 50
    catalogue.show_contract(outcomes)
    assert "the contract holds, as far as it was checked: 6 promises were left out" in capsys.readouterr().out
    assert not places.cache.exists(), "a part of the contract is not shown as the contract"


def test_a_method_without_a_training_and_a_backbone_says_so(folder: Path) -> None:
    said = traits(registry.load(str(folder / "nearest_centroid.py")).cls)
    assert said.untrained and not said.uses_backbone
    for name in (*TRAINED, *HEADS):
        said = traits(registry.load(str(folder / name)).cls)
        assert said.uses_backbone and not said.untrained


def test_the_examples_run(folder: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home", tmp_path / "data")
    for name, text in EXAMPLES.items():
        (home.folder / name).write_text(text)
    (home.folder / "short.toml").write_text(
        f"""
        bench = "glyphs-5w1s"
        episodes = 20
        run = [
            {{method = "./nearest_centroid.py"}},
            {{method = {[f"./{name}" for name in HEADS]}, set = {{features = "nearest-mean(epochs=1)"}}}},
            {{method = {[f"./{name}" for name in TRAINED]}, set = {{epochs = 1, episodes = 10}}}},
        ]
        """.replace("\n        ", "\n")
    )
    typed = ",".join(f"./{name}" for name in EXAMPLES)
    rows = {row["method"]: row for row in home.json("run", "short.toml", "-m", typed)}
    assert len(rows) == 5
    learned = {row["accuracy"] for name, row in rows.items() if name not in ("comparator", "maml-unicorn")}
    assert min(learned) > 0.4  # a fifth by chance; ten episodes are no training for the other two
    assert rows["nearest-centroid"]["backbone"] == "images"
    assert "untrained" in rows["nearest-centroid"]["badges"]


def test_the_template_and_the_readme_call_the_same() -> None:
    readme = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    template = (resources.files("harness.method") / "method.py.txt").read_text()
    calls = [
        set(re.findall(r"\b(?:ctx|base|support)\.\w+|\bsquared_distances|\bhyper\(", text))
        for text in (readme[1] if readme else "", template)
    ]
    assert calls[0] == calls[1] and len(calls[0]) > 6
