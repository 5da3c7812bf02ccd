"""Archives that come from elsewhere: what is listed comes back, and nothing else is ever written."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ConfigError, StoreError
from harness.exchange import archive

ALLOWED = {re.compile(r"part/[a-z]+\.txt"): 1 << 20}
LINK, FOLDER = tarfile.SYMTYPE, tarfile.DIRTYPE


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {}
    for name in ("one", "two"):
        found[f"part/{name}.txt"] = tmp_path / name
        (tmp_path / name).write_text(name * 1000)
    return found


def listed(**contents: bytes) -> dict[str, Any]:
    from hashlib import sha256

    return {
        f"part/{name}.txt": {"size": len(content), "sha256": sha256(content).hexdigest()}
        for name, content in contents.items()
    }


def handmade(path: Path, header: Any, members: list[tuple[str, bytes, bytes]]) -> Path:
    """A hand-made .tar.gz; members are (name, type, content or target of a link)."""
    with tarfile.open(path, "w:gz") as tar:
        first = header if isinstance(header, bytes) else json.dumps(header).encode()
        for name, kind, content in [("bundle.json", tarfile.REGTYPE, first), *members]:
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == LINK:
                member.linkname = content.decode()
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["b.tar.zst", "b.tar.gz", "b.tgz"])
def test_what_was_written_comes_back_and_equal_files_give_equal_archives(
    tmp_path: Path, files: dict[str, Path], name: str
) -> None:
    first, second = tmp_path / "a" / name, tmp_path / "b" / name
    archive.write(first, files)
    archive.write(second, dict(reversed(files.items())))
    assert first.read_bytes() == second.read_bytes()
    archive.extract(first, tmp_path / "out", ALLOWED)
    assert {p.name: p.read_text() for p in (tmp_path / "out/part").iterdir()} == {
        "one.txt": "one" * 1000,
        "two.txt": "two" * 1000,
    }


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([("part/one.txt", tarfile.REGTYPE, b"two")], "is not what bundle.json promises"),
        ([("part/one.txt", tarfile.REGTYPE, b"one!")], "is not what bundle.json promises"),
        ([("part/two.txt", tarfile.REGTYPE, b"one")], "which bundle.json does not list"),
        ([("part/one.txt", tarfile.REGTYPE, b"one")] * 2, "which bundle.json does not list"),
        ([("../one.txt", tarfile.REGTYPE, b"one")], "does not belong there"),
        ([("/tmp/one.txt", tarfile.REGTYPE, b"one")], "does not belong there"),
        ([("part/one.txt", LINK, b"/etc/passwd")], "does not belong there"),
        ([("part", LINK, b"/tmp"), ("part/one.txt", tarfile.REGTYPE, b"one")], "does not belong there"),
        ([("part", FOLDER, b"")], "does not belong there"),
        ([], "it lacks part/one.txt"),
    ],
)  # fmt: skip
def test_anything_unlisted_or_changed_is_refused(
    tmp_path: Path, members: list[tuple[str, bytes, bytes]], problem: str
) -> None:
    bundle = handmade(tmp_path / "b.tar.gz", {"format": 1, "files": listed(one=b"one")}, members)
    with pytest.raises(StoreError, match=problem):
        archive.extract(bundle, tmp_path / "out", ALLOWED)
    outside = [p for p in tmp_path.rglob("*") if p.is_file() and not p.is_relative_to(tmp_path / "out")]
    assert outside == [bundle]


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda p: p.write_bytes(b"not an archive"), "cannot be read"),
        (lambda p: handmade(p, b"{}", []), "cannot be read"),
        (lambda p: handmade(p, {"format": 2, "files": {}}, []), "format 2; this fsbench reads 1"),
        (lambda p: p.write_bytes(handmade(p, {"format": 1, "files": {}}, []).read_bytes()[:60]), "was not taken in"),
    ],
)  # fmt: skip
def test_what_is_not_a_bundle_is_said_so(tmp_path: Path, make: Callable[[Path], Any], problem: str) -> None:
    make(tmp_path / "b.tar.gz")
    with pytest.raises(StoreError, match=problem):
        archive.extract(tmp_path / "b.tar.gz", tmp_path / "out", ALLOWED)


def test_a_bundle_that_is_not_there_is_a_wrong_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no file"):
        archive.extract(tmp_path / "b.tar.gz", tmp_path / "out", ALLOWED)


def test_a_truncated_zstandard_archive_is_damaged(tmp_path: Path, files: dict[str, Path]) -> None:
    bundle = tmp_path / "b.tar.zst"
    archive.write(bundle, files)
    for n in (0, 10, bundle.stat().st_size // 2, bundle.stat().st_size - 20):
        cut = tmp_path / "cut.tar.zst"
        cut.write_bytes(bundle.read_bytes()[:n])
        with pytest.raises(StoreError, match=r"was not taken in"):
            archive.extract(cut, tmp_path / f"out{n}", ALLOWED)


def test_the_name_tells_the_kind(tmp_path: Path, files: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"NAME\.tar\.zst, or NAME\.tar\.gz"):
        archive.write(tmp_path / "b.zip", files)
