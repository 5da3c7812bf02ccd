"""Weights from the hub, by revision; the hub itself is made up, and so is its silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import ConfigError, DataError, FsbenchError
from harness.method import hub, official_weights
from harness.runs import planning
from harness.runs.request import Request

huggingface_hub = pytest.importorskip("huggingface_hub")
from huggingface_hub import errors  # noqa: E402

REVISION = "0123abcd"
NAME = Path(f"hub:maker/net@{REVISION}")


class Hub:
    """A hub with some files, of which some are on this machine."""

    def __init__(self, folder: Path, *files: str, is_reached: bool = True) -> None:
        self.folder, self.files, self.is_reached = folder, files, is_reached
        self.asked: list[tuple[str, str, str]] = []

    def __call__(self, repository: str, file: str, *, revision: str, local_files_only: bool = False) -> str:
        path = self.folder / file
        if path.exists():
            return str(path)
        if local_files_only or not self.is_reached:
            raise errors.LocalEntryNotFoundError("not here")
        self.asked.append((repository, file, revision))
        if file not in self.files:
            raise errors.EntryNotFoundError("404")
        torch.save({"weight": torch.ones(2)}, path)
        return str(path)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(*files: str, **more: Any) -> Hub:
        (tmp_path / "hub").mkdir()
        found = Hub(tmp_path / "hub", *files, **more)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", found)
        return found

    return make


def test_a_revision_is_downloaded_once_under_its_usual_names(made: Any, tmp_path: Path) -> None:
    there = made("pytorch_model.bin")
    path = hub.fetch(NAME)
    assert path.name == "pytorch_model.bin"
    assert there.asked == [("maker/net", f, REVISION) for f in ("model.safetensors", "pytorch_model.bin")]
    there.is_reached = False
    assert hub.fetch(NAME) == path, "from then on without a network"
    kept = official_weights.keep(NAME, tmp_path / "cache")
    assert kept.read_bytes() == path.read_bytes()
    assert (kept.parent / ".origin").read_text() == str(NAME)


def test_its_digest_is_that_of_the_run(made: Any, tmp_path: Path) -> None:
    made("a/other.bin")
    request = Request(weights=(Path(f"{NAME}:a/other.bin"),), seen=("unknown",), allow_leak=True)
    (tmp_path / "hub" / "a").mkdir()
    [spec] = planning.plan(["nearest-mean"], ["glyphs-5w1s"], [0], request, tmp_path)
    assert spec.weights_sha256 == official_weights.file_sha256(tmp_path / "hub/a/other.bin")


@pytest.mark.parametrize(
    "name", ["hub:net@main", "hub:maker/net", "hub:maker/net@", "hub:maker/net@v1:../x y"]
)
def test_a_revision_has_to_be_said(name: str) -> None:
    with pytest.raises(ConfigError, match="expected hub:ORGANISATION/NAME@REVISION"):
        hub.fetch(Path(name))


def test_what_is_not_there_or_not_reached_is_said_with_what_to_do(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = made()
    with pytest.raises(
        DataError, match=r"has no model\.safetensors and no pytorch_model\.bin\. Name the file"
    ):
        hub.fetch(NAME)
    there.is_reached = False
    with pytest.raises(DataError, match=r"could not be reached.*give it as --weights FILE"):
        hub.fetch(NAME)

    def refuses(*name: Any, local_files_only: bool = False, **more: Any) -> str:
        if local_files_only:
            raise errors.LocalEntryNotFoundError("not here")
        raise OSError("disk full\nand more")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuses)
    with pytest.raises(FsbenchError, match=r"the hub answered: disk full$"):
        hub.fetch(NAME)
