"""Predictions made elsewhere: files that are none, and answers that cannot be, end in a message."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hostile_home import Attacked, is_message
from test_archives import npz_of

from harness import benchmarks
from harness.images.prepare import ensure

SETTING = "glyphs-5w1s"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Attacked:
    made = Attacked(tmp_path_factory.mktemp("attacked"))
    ensure("glyphs", made.places.data)
    return made


def npz(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


DIGEST = benchmarks.load(SETTING).digest
RIGHT = np.repeat(np.arange(5), 15)[None].repeat(10, 0)
FILES: dict[str, bytes] = {
    "empty.npz": b"",
    "random.npz": np.random.default_rng(0).bytes(500),
    "12GB.npz": npz_of((12 << 30,)),
    "objects.npz": npz(digest=DIGEST, predictions=np.array([{}], object)),
    "no_digest.npz": npz(predictions=RIGHT),
    "digest_number.npz": npz(digest=5, predictions=RIGHT),
    "digest_bytes.npz": npz(digest=np.bytes_(b"\xff\x1b"), predictions=RIGHT),
    "digest_escape.npz": npz(digest="\x1b[2J", predictions=RIGHT),
    "nan.npz": npz(digest=DIGEST, predictions=np.full((10, 75), np.nan)),
    "infinite.npz": npz(digest=DIGEST, predictions=np.full((10, 75), np.inf)),
    "halves.npz": npz(digest=DIGEST, predictions=RIGHT + 0.5),
    "negative.npz": npz(digest=DIGEST, predictions=RIGHT - 9),
    "huge_labels.npz": npz(digest=DIGEST, predictions=RIGHT + 2**62),
    "four_axes.npz": npz(digest=DIGEST, predictions=RIGHT[:, None, None]),
    "no_rows.npz": npz(digest=DIGEST, predictions=RIGHT[:0]),
    "too_many.npz": npz(digest=DIGEST, predictions=np.zeros((10_001, 75), np.uint8)),
    "empty.json": b"",
    "list.json": b"[]",
    "null.json": b"null",
    "nested.json": b"[" * 10**6,
    "ragged.json": json.dumps({"digest": DIGEST, "predictions": [[1], [1, 2]]}).encode(),
    "texts.json": json.dumps({"digest": DIGEST, "predictions": [["\x1b"] * 75]}).encode(),
    "huge_number.json": b'{"digest": "' + DIGEST.encode() + b'", "predictions": [[' + b"9" * 400 + b"]]}",
    "longer_number.json": b'{"digest": "x", "predictions": [[' + b"9" * 5000 + b"]]}",
    "not_utf8.json": b"\xff\xfe{}",
    "surrogate.json": b'{"digest": "\\ud800", "predictions": [[0]]}',
    "empty.csv": b"",
    "no_digest.csv": b"1,2,3\n",
    "letters.csv": b"# digest " + DIGEST.encode() + b"\na,b,c\n",
    "escape.csv": b"# digest " + DIGEST.encode() + b"\n\x1b[2J\n",
    "nul.csv": b"# digest " + DIGEST.encode() + b"\n1,\0,2\n",
    "ragged.csv": b"# digest " + DIGEST.encode() + b"\n1,2\n1\n",
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_no_answers_is_refused(home: Attacked, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    before = home.digest()
    code, said = home.type("score", str(tmp_path / name), "-b", SETTING, "--name", "theirs")
    assert code == 3 and is_message(said) and len(said) < 1000, said
    assert home.digest() == before
    home.still_works()


def test_an_honest_file_under_a_hostile_name_is_taken_harmlessly(home: Attacked, tmp_path: Path) -> None:
    file = tmp_path / "a\x1b[2J.npz"
    file.write_bytes(npz(digest=DIGEST, predictions=RIGHT))
    code, said = home.type("score", str(file), "-b", SETTING, "--name", "theirs")
    assert code == 0 and is_message(said), said
    home.still_works()
    (page,) = (p for p in (home.places.reports / "run").iterdir() if "theirs" in p.read_text())
    assert "a\\x1b[2J.npz" in page.read_text() and "\x1b" not in page.read_text()
    with zipfile.ZipFile(file) as archive:
        assert len(archive.infolist()) == 2
