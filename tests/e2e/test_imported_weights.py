"""`fsbench run --weights`: official checkpoints become rows without a training, and say where they come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from scratch_home import Home

from harness.backbones import build
from harness.errors import ConfigError
from harness.method.official_weights import file_sha256
from harness.runs import planning
from harness.runs.request import Request
from methods.margin import Cosine

RUN = ["run", "-m", "cosine", "-b", "glyphs-5w1s", "--episodes", "30"]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def home(tmp_path: Path, data: Path) -> Home:
    return Home(tmp_path / "home", data)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint as the authors' code writes it, base classifier included."""
    return official(tmp_path / "best_model.tar", "conv4")


def official(path: Path, backbone: str) -> Path:
    torch.manual_seed(7)
    method = Cosine(Cosine.Config(), build(backbone, 28, 1))
    state = {
        name: method.state_dict()[key] for key, names in method.official_names().items() for name in names
    }
    torch.save({"epoch": 399, "state": {**state, "classifier.L.weight_v": torch.ones(64, 8)}}, path)
    return path


def test_imported_weights_give_a_row_without_training(home: Home, checkpoint: Path) -> None:
    said = home.run(*RUN, "--weights", str(checkpoint), "--seen", "omniglot", "--json").stdout
    (row,) = json.loads(said)
    assert "imported fit" in row["badges"] and "extra data" in row["badges"] and "leak" not in row["badges"]
    (run_id,) = home.run_ids()
    shown = json.loads(home.run("show", run_id, "--json").stdout)
    assert shown["provenance"]["weights"] == {
        "file": "best_model.tar",
        "sha256": file_sha256(checkpoint),
        "set_aside": ["classifier.L.weight_v"],
        "seen": ["omniglot"],
    }
    assert shown["spec"]["weights_sha256"] == file_sha256(checkpoint)
    assert shown["curves"] == [] and shown["provenance"]["seconds"]["fit"] == 0
    assert "classifier.L.weight_v" in home.run("show", run_id).stdout
    (fit,) = home.folder.glob("cache/fits/*/fit.pt")
    kept = torch.load(fit, weights_only=True)["state"]
    sent = torch.load(checkpoint, weights_only=True)["state"]
    names = Cosine(Cosine.Config(), build("conv4", 28, 1)).official_names()
    assert all(torch.equal(kept[key], sent[several[0]]) for key, several in names.items())


@pytest.mark.nightly
def test_jobs_give_the_row_of_this_process_though_the_file_is_gone(
    tmp_path: Path, data: Path, home: Home, checkpoint: Path
) -> None:
    words = [*RUN, "--weights", str(checkpoint), "--seen", "glyphs"]
    home.run(*words)
    other = Home(tmp_path / "other", data)
    other.run(*words, "--executor", "local")
    assert other.content == home.content
    checkpoint.unlink()
    for folder in other.folder.glob("cache/fits/*"):
        folder.rename(other.folder / folder.name)
    for folder in other.folder.glob("runs/[0-9a-f]*"):
        folder.rename(other.folder / f"run-{folder.name}")
    (other.folder / "results.db").unlink()
    other.run("resume")
    assert other.content == home.content


@pytest.mark.parametrize(
    ("is_given", "seen", "message"),
    [
        (True, [], "say what they were trained on"),
        (False, ["mini"], "give them with --weights"),
        (True, ["glyhps"], "names nothing"),
        (True, ["glyphs:all"], r"40 novel classes \(A15/character00.*--allow-leak"),
    ],
)
def test_weights_of_untold_or_wrong_origin_are_refused(
    checkpoint: Path, data: Path, is_given: bool, seen: list[str], message: str
) -> None:
    options = Request(weights=(checkpoint,) if is_given else (), seen=seen)
    with pytest.raises(ConfigError, match=message):
        planning.plan(["cosine"], ["glyphs-5w1s"], [0], options, data)


def test_a_leak_that_is_allowed_is_on_every_page(home: Home, checkpoint: Path) -> None:
    given = ["--weights", str(checkpoint)]
    allowed = home.run(*RUN, *given, "--seen", "glyphs:all", "--allow-leak", "--json").stdout
    assert "leak" in json.loads(allowed)[0]["badges"]
    (run_id,) = home.run_ids()
    leak = json.loads(home.run("show", run_id, "--json").stdout)["provenance"]["leak"]
    assert len(leak["classes"]) == 40 and leak["pictures"] == []
    home.run("report")
    pages = [
        home.folder / "reports" / name for name in ("glyphs-5w1s.html", f"run/{run_id}.html", "index.html")
    ]
    assert all('<span class="badge">leak</span>' in page.read_text() for page in pages)
    unknown = home.run(*RUN, *given, "--seen", "unknown", "--json").stdout
    assert "leak" in json.loads(unknown)[0]["badges"]
    assert len(home.run_ids()) == 2  # another claim about the weights is another run


def test_weights_that_do_not_fit_are_listed(home: Home, checkpoint: Path, tmp_path: Path) -> None:
    given = ["--weights", str(checkpoint), "--seen", "unknown"]
    wrong = home.run("run", "-m", "pixels,cosine", "-b", "glyphs-5w1s", *given, code=2).stderr
    assert "pixels does not say" in wrong and "cosine" in wrong
    resnet = official(tmp_path / "resnet.tar", "resnet12")
    wrong = home.run(*RUN, "--weights", str(resnet), "--seen", "unknown", code=2).stderr
    assert "missing: feature.trunk.0" in wrong and "superfluous: " in wrong
    assert "Is it of this method, backbone and image size?" in wrong
    assert not list(home.folder.glob("cache/fits/*/fit.json"))
    absent = home.run(*RUN, "--weights", "none.tar", "--seen", "unknown", code=2).stderr
    assert "there is no such file" in absent


def test_a_backbone_serves_methods_that_have_no_checkpoints_of_their_own(
    home: Home, checkpoint: Path
) -> None:
    words = ["run", "-m", "protonet,nearest-mean", "-b", "glyphs-5w1s", "--episodes", "30"]
    rows = json.loads(home.run(*words, "--weights", str(checkpoint), "--seen", "omniglot", "--json").stdout)
    assert {row["method"] for row in rows} == {"protonet", "nearest-mean"}
    sent = torch.load(checkpoint, weights_only=True)["state"]
    kept = [torch.load(fit, weights_only=True)["state"] for fit in home.folder.glob("cache/fits/*/fit.pt")]
    assert all(
        torch.equal(state["backbone.stages.0.0.weight"], sent["feature.trunk.0.C.weight"]) for state in kept
    )
    (centre,) = (state["centre"] for state in kept if "centre" in state)
    assert centre.abs().max() > 0  # the mean base feature, measured after the import


def test_a_file_that_is_no_checkpoint_leaves_nothing(home: Home, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"<!DOCTYPE html>")
    said = home.run(*RUN, "--weights", str(tmp_path / "w.pth"), "--seen", "unknown", code=2).stderr
    assert f"{tmp_path / 'w.pth'} cannot be read" in said and "web page" in said
    assert not (home.folder / "cache").exists()


def test_a_plan_with_weights_writes_nothing(home: Home, checkpoint: Path) -> None:
    home.run(*RUN, "--weights", str(checkpoint), "--seen", "unknown", "--dry-run")
    assert not (home.folder / "cache").exists()


def test_a_training_records_what_it_saw(home: Home) -> None:
    home.run("run", "-m", "nearest-mean", "-b", "glyphs-5w1s", "--episodes", "10", "--set", "epochs=1")
    (fit,) = home.folder.glob("cache/fits/*/fit.json")
    saw = json.loads(fit.read_text())["saw"]
    assert list(saw) == ["base", "validation"]
    assert saw["base"]["dataset"] == "glyphs" and len(saw["base"]["classes"]) == 96
    assert len(saw["base"]["digest"]) == 64
