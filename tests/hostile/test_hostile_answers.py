"""Files of answers as other harnesses write them: read alike, or refused in a sentence that names the file."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import FsbenchError
from harness.exchange import answers
from harness.exchange.answers import read

DIGEST = "ab12" * 16
LABELS = np.arange(24).reshape(2, 12) % 3
ROWS = "\n".join(",".join(map(str, row)) for row in LABELS)
COUNTS = "episode,n_correct,n_query\n0,9,12\n1,6,12\n"


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def csv(rows: str = ROWS, first: str = f"# digest {DIGEST}") -> bytes:
    return f"{first}\n{rows}\n".encode()


LABELLED: dict[str, tuple[str, bytes]] = {
    "npz": (".npz", npz(digest=DIGEST, predictions=LABELS)),
    "npz in three axes": (".npz", npz(digest=DIGEST, predictions=LABELS.reshape(2, 3, 4))),
    "npz with a digest of bytes": (".npz", npz(digest=DIGEST.encode(), predictions=LABELS)),
    "npz with a raw digest": (".npz", npz(digest=np.frombuffer(bytes.fromhex(DIGEST), np.uint8), predictions=LABELS)),
    "npz with a list of a digest": (".npz", npz(digest=[DIGEST], predictions=LABELS.astype(np.uint8))),
    "npz of floats": (".npz", npz(digest=DIGEST.upper(), predictions=LABELS.astype(float))),
    "json": (".json", json.dumps({"digest": DIGEST, "predictions": LABELS.tolist()}).encode()),
    "json in three axes": (".JSON", json.dumps({"digest": f"sha256:{DIGEST}", "predictions": LABELS.reshape(2, 3, 4).tolist()}).encode()),
    "json with a mark": (".json", json.dumps({"Digest": DIGEST, "Predictions": LABELS.tolist()}).encode("utf-8-sig")),
    "csv": (".csv", csv()),
    "csv with trailing commas": (".csv", csv(ROWS.replace("\n", ",\n") + ",", f"# digest {DIGEST},,,")),
    "csv with semicolons": (".csv", csv(ROWS.replace(",", ";"), f"#digest;{DIGEST};")),
    "csv of Excel": (".csv", csv(ROWS.replace(",", "\t"), f"# digest\t{DIGEST}").replace(b"\n", b"\r\n").decode().encode("utf-16")),
    "csv of floats": (".csv", csv(ROWS.replace("0", "0.0"))),
    "csv with empty rows": (".csv", csv("\n" + ROWS + "\n,,\n\n")),
}  # fmt: skip
COUNTED: dict[str, tuple[str, bytes]] = {
    "csv": (".csv", csv(COUNTS)),
    "csv in another order": (".csv", csv("n_query;episode;correct\n12;1;6\n12;0;9\n")),
    "csv of accuracies": (".csv", csv("Episode,Accuracy,N_query,note\n0,0.75,12,x\n1,0.5,12,\n")),
    "json": (".json", json.dumps({"digest": DIGEST, "n_correct": [9, 6], "n_query": 12}).encode()),
    "json of accuracies": (".json", json.dumps({"digest": DIGEST, "accuracies": [0.75, 0.5], "n_query": [12, 12]}).encode()),
    "npz of accuracies": (".npz", npz(digest=DIGEST, acc=np.float32([0.75, 0.5]), n_query=12)),
}  # fmt: skip
REFUSED: dict[str, tuple[str, bytes, str]] = {
    "empty npz": (".npz", b"", "cannot be read"),
    "empty json": (".json", b"", "cannot be read"),
    "empty csv": (".csv", b"", "first line"),
    "text": (".txt", b"x", r"read from \.npz"),
    "json of nothing": (".json", b"{}", "it holds nothing"),
    "json of a list": (".json", b"[1]", "not an object"),
    "json that is nested": (".json", b"[" * 100_000, "cannot be read"),
    "json that is not text": (".json", b"\xff\xfe\xfd", "neither UTF-8"),
    "ragged rows": (".json", json.dumps({"digest": DIGEST, "predictions": [[0, 1], [0]]}).encode(), "cannot be read"),
    "ragged lines": (".csv", csv("0,1\n0\n"), "cannot be read"),
    "words for labels": (".json", json.dumps({"digest": DIGEST, "predictions": [["cat"]]}).encode(), "whole numbers"),
    "halves": (".csv", csv("0.5,1\n"), "whole numbers"),
    "no numbers": (".json", json.dumps({"digest": DIGEST, "predictions": [[None]]}).encode(), "whole numbers"),
    "not finite": (".json", b'{"digest": "' + DIGEST.encode() + b'", "predictions": [[NaN, Infinity]]}', "whole numbers"),
    "objects": (".npz", npz(digest=DIGEST, predictions=np.array([[{}]])), "cannot be read"),
    "counts without queries": (".json", json.dumps({"digest": DIGEST, "n_correct": [1]}).encode(), "n_query"),
    "percent": (".csv", csv("episode,accuracy,n_query\n0,75.0,12\n"), "not percent"),
    "accuracies below nothing": (".csv", csv("episode,accuracy,n_query\n0,-0.5,12\n"), "not percent"),
    "accuracies that are not finite": (".csv", csv("episode,accuracy,n_query\n0,nan,12\n"), "not percent"),
    "accuracies of other queries": (".csv", csv("episode,accuracy,n_query\n0,0.77,12\n"), "no whole number"),
    "episodes from one": (".csv", csv("episode,n_correct,n_query\n1,3,12\n2,3,12\n"), "numbered from 0"),
    "episodes twice": (".csv", csv("episode,n_correct,n_query\n0,3,12\n0,3,12\n"), "numbered from 0"),
    "a missing episode": (".csv", csv("episode,n_correct,n_query\n0,3,12\n2,3,12\n"), "numbered from 0"),
    "a column that is missing": (".csv", csv("episode,n_correct\n0,3\n"), "no column n_query"),
    "words for counts": (".csv", csv("episode,n_correct,n_query\n0,many,12\n"), "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", LABELLED)
def test_labels_are_read_in_any_form(tmp_path: Path, name: str) -> None:
    suffix, content = LABELLED[name]
    (tmp_path / f"a{suffix}").write_bytes(content)
    found = read(tmp_path / f"a{suffix}")
    assert found.digest == DIGEST and found.n_correct is None
    np.testing.assert_array_equal(found.predictions, LABELS)


@pytest.mark.parametrize("name", COUNTED)
def test_counts_are_read_in_any_form(tmp_path: Path, name: str) -> None:
    suffix, content = COUNTED[name]
    (tmp_path / f"a{suffix}").write_bytes(content)
    found = read(tmp_path / f"a{suffix}")
    assert found.digest == DIGEST and found.predictions is None
    np.testing.assert_array_equal(found.n_correct, [9, 6])
    np.testing.assert_array_equal(found.n_query, [12, 12])


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_answer_is_a_sentence(tmp_path: Path, name: str) -> None:
    suffix, content, says = REFUSED[name]
    (tmp_path / f"a{suffix}").write_bytes(content)
    with pytest.raises(FsbenchError, match=says) as caught:
        read(tmp_path / f"a{suffix}")
    assert str(tmp_path / f"a{suffix}") in str(caught.value)


def test_an_npz_that_unpacks_to_too_much_is_refused_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_MOST_BYTES", 1 << 20)
    (tmp_path / "a.npz").write_bytes(npz(digest=DIGEST, predictions=np.zeros(1 << 18, dtype=np.int64)))
    with pytest.raises(FsbenchError, match=r"an array would take 2,097,152 bytes; at most [0-9,]+ are read"):
        read(tmp_path / "a.npz")


@pytest.mark.parametrize("damage", [lambda c, r: c[: r.randrange(len(c))], lambda c, r: _flipped(c, r)])
@pytest.mark.parametrize("form", ["npz", "json", "csv"])
@pytest.mark.parametrize("seed", range(10))
def test_a_damaged_file_is_read_or_refused_in_words(
    tmp_path: Path, form: str, damage: Callable[[bytes, random.Random], bytes], seed: int
) -> None:
    suffix, content = LABELLED[form]
    (tmp_path / f"a{suffix}").write_bytes(damage(content, random.Random(seed)))
    try:
        found = read(tmp_path / f"a{suffix}")
        assert found.predictions is None or found.predictions.dtype == np.int64
    except FsbenchError as error:
        assert str(tmp_path) in str(error)


def _flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)
