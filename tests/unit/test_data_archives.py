from __future__ import annotations

import gzip
import io
import random
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import DataError
from harness.images.account import accounted
from harness.images.sources.archives import archive_in, contents, members, sniff, tar_members, unpacked

FILES = {"a/one.txt": b"one", "a/b/two.bin": bytes(range(256)) * 40, "three": b""}
LEFT_OUT = {"a/._one.txt": b"resource fork", "__MACOSX/a/one.txt": b"resource fork"}


def noise(n: int) -> bytes:
    return random.Random(0).randbytes(n)


def tar_bytes(files: dict[str, bytes], *extra: tarfile.TarInfo, mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return stream.getvalue()


def zip_bytes(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def write(path: Path, kind: str, files: dict[str, bytes]) -> Path:
    if kind == "folder":
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    elif kind == "zip":
        path.write_bytes(zip_bytes(files))
    else:
        path.write_bytes(tar_bytes(files, mode=f"w:{kind}" if kind != "tar" else "w"))
    return path


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "gz", "bz2", "xz"])
def test_every_kind_of_archive_gives_the_same_members(tmp_path: Path, kind: str) -> None:
    source = write(tmp_path / "source", kind, {**FILES, **LEFT_OUT})
    found = {m.path: (m.n_bytes, m.read()) for m in members(source)}
    assert found == {name: (len(content), content) for name, content in FILES.items()}


def test_members_may_be_skipped_without_reading(tmp_path: Path) -> None:
    source = write(tmp_path / "x.tar", "tar", FILES)
    assert [m.read() for m in members(source) if m.path == "three"] == [b""]


def test_a_tar_inside_a_tar_is_read_forward(tmp_path: Path) -> None:
    outer = {f"n{i}.tar": tar_bytes({f"n{i}_{k}.JPEG": noise(700 + k) for k in range(3)}) for i in range(2)}
    source = write(tmp_path / "x.tar", "tar", outer)
    found = []
    for member in members(source):
        with member.open() as stream:
            found += [(inner.path, len(inner.read())) for inner in tar_members(stream, member.path)]
    assert found == [(f"n{i}_{k}.JPEG", 700 + k) for i in range(2) for k in range(3)]


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil", "C:\\evil", "C:/evil"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_paths_that_lead_outside_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    source = write(tmp_path / "x", kind, {name: b"evil"})
    with pytest.raises(DataError, match="outside"):
        list(members(source))


def test_links_and_devices_are_left_out(tmp_path: Path) -> None:
    infos = []
    for name, kind in (("sym", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("dev", tarfile.CHRTYPE)):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        infos.append(info)
    (tmp_path / "x.tar").write_bytes(tar_bytes(FILES, *infos))
    assert [m.path for m in members(tmp_path / "x.tar")] == list(FILES)

    link = zipfile.ZipInfo("sym")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr("plain", "text")
    assert [m.path for m in members(tmp_path / "x.zip")] == ["plain"]


def test_links_to_folders_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    write(tmp_path / "d", "folder", FILES)
    write(tmp_path / "away", "folder", {"x": b"x"})
    (tmp_path / "d" / "loop").symlink_to(tmp_path / "d")
    (tmp_path / "d" / "away").symlink_to(tmp_path / "away")
    (tmp_path / "away" / "back").symlink_to(tmp_path / "d")
    (tmp_path / "d" / "a" / "away").symlink_to(tmp_path / "away")
    with accounted() as account:
        assert sorted(m.path for m in members(tmp_path / "d")) == sorted([*FILES, "away/x"])
    assert account.passed == {
        "links to a folder above themselves": ["loop", "away/back"],
        "links to a folder that another link led to": ["a/away"],
    }


def test_what_a_reader_does_not_open_is_counted(tmp_path: Path) -> None:
    write(tmp_path / "d", "folder", {**FILES, **LEFT_OUT})
    with accounted() as account:
        for member in members(tmp_path / "d"):
            if member.path.endswith(".txt"):
                member.read()
                member.read()  # twice is once
    assert account.lines() == [
        "left out, 2 beside-files of macOS: __MACOSX/a/one.txt, a/._one.txt",
        "left out, 2 files that are not of this set: 1 .bin, 1 without an ending",
    ]


def test_archives_among_the_files_are_folders_and_half_of_one_beside_its_folder_is_not_read(
    tmp_path: Path,
) -> None:
    inner = zip_bytes({"deep/one.txt": b"1", "two.txt": b"2"})
    root = write(
        tmp_path / "d", "folder", {"deep.zip": inner, "a/b.tar": tar_bytes({"c.zip": inner}), "x/y": b"y"}
    )
    (root / "x.tgz").write_bytes(b"half")
    with accounted() as account:
        found = {m.path: m.read() for m in unpacked(root)}
    assert found == {
        "deep/one.txt": b"1", "deep/two.txt": b"2", "a/b/c/deep/one.txt": b"1", "a/b/c/two.txt": b"2", "x/y": b"y",
    }  # fmt: skip
    assert account.passed == {"archives whose folder lies beside them": ["x.tgz"]}
    (root / "x.tgz").rename(root / "z.tgz")
    with pytest.raises(DataError, match=r"z\.tgz was given as an archive"):
        list(unpacked(root))


@pytest.mark.parametrize("kind", ["zip", "tar", "gz", "bz2", "xz"])
def test_truncation_anywhere_is_found(tmp_path: Path, kind: str) -> None:
    whole = write(tmp_path / "whole", kind, {"a": noise(1500), "b": noise(600), "c": noise(10)}).read_bytes()
    end = len(whole) if kind != "tar" else 512 * (1 + 3 + 1 + 2 + 1 + 1)  # a tar is padded after its end mark
    for cut in {0, 1, 512, 600, 2048, 2049, end // 2, end - 1} - set(range(end, 5000)):
        (tmp_path / "cut").write_bytes(whole[:cut])
        with pytest.raises(DataError):
            for member in members(tmp_path / "cut"):
                member.read()


@pytest.mark.parametrize("text", [b"<!DOCTYPE html><html>", b"\n <HTML><body>quota", b"\xef\xbb\xbf<html>"])
def test_a_web_page_saved_as_an_archive_is_called_that(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(text)
    with pytest.raises(DataError, match="web page"):
        list(members(tmp_path / "x.zip"))


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"just text")
    with pytest.raises(DataError, match="neither an archive"):
        list(members(tmp_path / "x.zip"))
    with pytest.raises(DataError, match="cannot be read"):
        list(members(tmp_path / "absent.zip"))


def test_encrypted_zips_are_data_errors(tmp_path: Path) -> None:
    content = bytearray(zip_bytes({"a": b"secret"}))
    for offset in (6, content.index(b"PK\x01\x02") + 8):
        content[offset] |= 1
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(DataError, match="encrypted"):
        [m.read() for m in members(tmp_path / "x.zip")]


SEEDS = [
    zip_bytes(FILES),
    tar_bytes(FILES),
    gzip.compress(tar_bytes(FILES)),
    tar_bytes(FILES, mode="w:xz"),
    tar_bytes(FILES, mode="w:bz2"),
]


@settings(max_examples=400, deadline=None)
@given(
    seed=st.sampled_from(SEEDS),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=8),
    cut=st.floats(0.2, 1),
)
def test_damaged_archives_give_safe_members_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, seed: bytes, flips: list[tuple[float, int]], cut: float
) -> None:
    content = bytearray(seed)
    for where, change in flips:
        content[int(where * len(content))] ^= change
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content[: int(cut * len(content)) + 1])
    try:
        for member in members(path):
            assert not member.path.startswith("/")
            assert ".." not in member.path.split("/")
            assert len(member.read()) == member.n_bytes
    except DataError:
        pass


def test_folders_that_are_not_wanted_are_not_entered(tmp_path: Path) -> None:
    write(tmp_path / "d", "folder", {"train/n01/a": b"1", "train/n02/a": b"2", "n01/deep/a": b"3"})
    entered: list[str] = []

    def skip(folder: str) -> bool:
        entered.append(folder)
        return folder == "n01"

    assert [m.path for m in members(tmp_path / "d", skip)] == ["train/n02/a"]
    assert "deep" not in entered


def test_an_archive_is_found_in_the_folder_that_holds_it(tmp_path: Path) -> None:
    root = write(tmp_path / "d", "folder", {"a/b/set.tar.gz": b"x", "set.txt": b"x", "a/b/c/deep.zip": b"x"})
    assert archive_in(root, "set.tar*") == root / "a" / "b" / "set.tar.gz"
    assert archive_in(root, "other.*", "deep.zip") == root
    assert archive_in(root / "set.txt", "*.zip") == root / "set.txt"


def test_a_file_of_a_kind_is_its_own_contents(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(zip_bytes({"a.npy": b"1"}))  # a zip as well
    assert [(m.path, m.read()[:2]) for m in contents(tmp_path / "x.npz", (".npz",))] == [("x.npz", b"PK")]
    assert [m.path for m in contents(tmp_path / "x.npz", (".pkl",))] == ["a.npy"]


def test_sniffing_never_needs_a_name(tmp_path: Path) -> None:
    for kind in ("zip", "tar", "gz", "bz2", "xz"):
        assert sniff(write(tmp_path / "x", kind, FILES)) == kind
