"""What a library says of a file never reaches the user raw: each message names the user's path and no object of ours."""

from __future__ import annotations

import gzip
import io
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from picture_files import jpeg, unpack
from prompt import Prompt

from harness.errors import DataError

PAGE = b"<!DOCTYPE html><html><body>Not found</body></html>" * 20


def _npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, x=np.arange(500))
    return stream.getvalue()


def _torch() -> bytes:
    stream = io.BytesIO()
    torch.save({"state": {"w": torch.ones(200)}}, stream)
    return stream.getvalue()


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/b.jpg", b"x" * 500)
    return stream.getvalue()


CONTENTS = {
    "empty": b"",
    "a web page": PAGE,
    "noise": np.random.default_rng(0).bytes(4000),
    "half an npz": _npz()[:200],
    "half a checkpoint": _torch()[:300],
    "a pickle of what is no tensor": pickle.dumps({"state": {"w": complex(1, 2)}, "x": io.BytesIO}),
    "half a pickle": pickle.dumps({"a": list(range(1000))})[:40],
    "half a zip": _zip()[:100],
    "gzip of noise": gzip.compress(b"noise" * 50)[:40],
    "half a picture": jpeg(3)[:200],
}
RAW = re.compile(r"object at 0x|BytesIO|operand|Traceback|<class |Errno|0x[0-9a-f]{6}")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    home = Prompt(folder / "first", folder)
    assert home.type("run", "-m", "pixels", "-b", "glyphs-5w1s", "--episodes", "20")[0] == 0
    return folder


class Reader:
    """Where a file goes, and what is typed so that it is read."""

    def __init__(
        self, name: str, *words: str, before: Callable[[Prompt, Path], object] = lambda p, f: None
    ) -> None:
        self.name, self.words, self.before = name, words, before


def _folder(prompt: Prompt, file: Path) -> None:
    """Eleven good classes beside the file, which is a picture of the twelfth."""
    unpack(file.parent.parent, {f"k{c}/{i}.jpg": jpeg(c * 20 + i) for c in range(12) for i in range(9)})


def _run(prompt: Prompt, file: Path) -> None:
    shutil.copytree(prompt.data / "first", prompt.folder, dirs_exist_ok=True)
    if file.parent.name == "aaaaaaaaaaaa":
        shutil.rmtree(file.parent)
        [run] = [p for p in prompt.folder.glob("runs/*") if p.is_dir() and len(p.name) == 12]
        run.rename(file.parent)


RUN = ("run", "-m", "pixels", "-b", "glyphs-5w1s", "--episodes", "20")
READERS = [
    Reader("pictures/k0/bad.jpg", "import-folder", "{home}/pictures", "--name", "x", before=_folder),
    Reader("pictures.zip", "import-folder", "{file}", "--name", "x"),
    Reader("pictures.tar.gz", "import-folder", "{file}", "--name", "x"),
    Reader("roles.csv", "import-folder", "{home}/pictures", "--name", "x", "--splits", "{file}",
           before=lambda p, f: _folder(p, f.parent / "pictures/k0/x")),
    Reader("w.pt", "run", "-m", "cosine", "-b", "glyphs-5w1s", "--weights", "{file}", "--seen", "omniglot"),
    Reader("w.safetensors", "run", "-m", "cosine", "-b", "glyphs-5w1s", "--weights", "{file}", "--seen", "omniglot"),
    Reader("b.tar.zst", "import", "{file}"),
    Reader("b.tar.gz", "import", "{file}"),
    Reader("a.npz", "score", "{file}", "-b", "glyphs-5w1s", "--name", "x"),
    Reader("a.json", "score", "{file}", "-b", "glyphs-5w1s", "--name", "x"),
    Reader("a.csv", "score", "{file}", "-b", "glyphs-5w1s", "--name", "x"),
    Reader("other.db", "merge", "{file}"),
    Reader("other.db", "--db", "{file}", "leaderboard"),
    Reader("fsbench.toml", *RUN, "--executor", "slurm"),
    Reader("mini.pkl", "prepare", "mini", "--source", "{file}", "--accept-terms"),
    Reader("few-shot-test.npz", "prepare", "mini", "--source", "{file}", "--accept-terms"),
    Reader("cifar-100-python.tar.gz", "prepare", "cifar100", "--source", "{file}"),
    Reader("images_background.zip", "prepare", "omniglot", "--source", "{file}"),
    Reader("train_images_png.pkl", "prepare", "tiered", "--source", "{home}/tiered", "--accept-terms",
           before=lambda p, f: unpack(p.folder / "tiered", {f.name: f.read_bytes()})),
    Reader("f.hdf5", "prepare", "imagenet-lowshot-features", "--source", "{file}", "--accept-terms"),
    Reader("mine.py", "run", "-m", "{file}", "-b", "glyphs-5w1s"),
    Reader("runs/aaaaaaaaaaaa/run.json", "collect", before=_run),
    Reader("runs/aaaaaaaaaaaa/result.npz", "collect", before=_run),
]  # fmt: skip


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("reader", READERS, ids=lambda r: f"{r.words[0]}-{r.name}")
def test_a_file_that_is_something_else_is_told_by_its_path(
    reader: Reader, kind: str, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    prompt, file = Prompt(tmp_path / "home", data), tmp_path / "home" / reader.name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(CONTENTS[kind])
    reader.before(prompt, file)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(CONTENTS[kind])
    words = [w.format(file=file, home=prompt.folder) for w in reader.words]
    code, said = prompt.type(*words)
    if code == 0 and reader.words[0] in ("collect", "import-folder"):
        assert "skipped" in said or "left out" in said or kind == "empty", said
    elif not (kind == "empty" and reader.name == "fsbench.toml"):
        assert code in (1, 2, 3, 4), said
    shown = said.replace(str(tmp_path), "")
    assert not RAW.search(shown), said
    if code and kind != "empty":
        assert file.name in said or file.parent.name in said, said


def test_an_object_of_ours_in_an_error_is_told_as_what_it_is() -> None:
    error = DataError(f"cannot identify image file {io.BytesIO()!r}: <harness.x.Y object at 0x7f01deadbeef>")
    assert str(error) == "cannot identify image file (what was read): (what was read)"
