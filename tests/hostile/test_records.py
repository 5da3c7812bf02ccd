"""Bundles and run folders of somebody else: refused with a message or taken harmlessly, and the pages still come."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hostile_home import Attacked, is_message
from mutations import EVERY, FORGERIES, HONEST, forged, write

from harness.exchange import archive

ACCEPTED_IN_A_BUNDLE = {
    "a long traceback with escapes", "an origin of its own", "HTML in every text", "reported by somebody",
    "digest {}",
}  # fmt: skip
ALSO_IN_A_FOLDER = {"no predictions", "no list"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Attacked:
    return Attacked(tmp_path_factory.mktemp("attacked"))


def bundle_of(path: Path, *folders: Path) -> Path:
    """Pack run folders as their names say."""
    files = {f"runs/{folder.name}/{file.name}": file for folder in folders for file in folder.iterdir()}
    archive.write(path, files)
    return path


@pytest.mark.parametrize("kind", EVERY)
def test_a_bundle_is_refused_whole_or_harmless(home: Attacked, tmp_path: Path, kind: str) -> None:
    header, arrays = forged(EVERY[kind])
    names = [str(header.get(key)) for key in ("id", "digest")]
    folder = write(tmp_path / f"{names[0]:0<12.12}-{names[1]:0<12.12}", header, arrays)
    before, is_there = home.digest(), (home.places.runs / names[0]).exists()
    code, said = home.type("import", str(bundle_of(tmp_path / "b.tar.gz", folder)))
    assert is_message(said) and len(said) < 1500, said
    if kind in ACCEPTED_IN_A_BUNDLE:
        assert code == 0, said
        _is_harmless(home, header["id"])
    else:
        assert code == 3, said
        assert home.digest() == before and (home.places.runs / names[0]).exists() is is_there
    home.still_works()


@pytest.mark.parametrize("kind", EVERY)
def test_a_run_folder_is_skipped_and_named_or_harmless(home: Attacked, tmp_path: Path, kind: str) -> None:
    header, arrays = forged(EVERY[kind])
    other = Attacked(tmp_path / "home")
    name = str(header.get("id"))
    write(other.places.runs / name, header, arrays)
    honest = HONEST if HONEST.spec.id != name else None
    if honest:
        honest.save(other.places.runs)
    code, said = other.type("collect")
    assert code == 0 and is_message(said), said
    is_taken = kind in ACCEPTED_IN_A_BUNDLE | ALSO_IN_A_FOLDER
    assert ("1 skipped" in said) is not is_taken, said
    assert (name in other.ids()) is is_taken or name == HONEST.spec.id
    assert honest is None or HONEST.spec.id in other.ids()  # one rotten folder does not stop the others
    if is_taken:
        other.still_works()


def _is_harmless(home: Attacked, run_id: str) -> None:
    """What was taken is self-reported from a named source, whatever it says of itself."""
    code, said = home.type("show", run_id)
    assert code == 0 and "self-reported" in said and "b.tar.gz" in said and is_message(said)


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_bundle_with_a_forgery_stores_nothing_of_its_honest_runs(tmp_path: Path, kind: str) -> None:
    home = Attacked(tmp_path / "home")
    header, arrays = forged(FORGERIES[kind])
    bad = write(tmp_path / f"{header['id']}-{header['digest'][:12]}", header, arrays)
    from made_up_results import result

    first = result("first", "victim-5w1s", n_episodes=20)
    good = first.save(tmp_path / "good").rename(tmp_path / f"{first.spec.id}-{first.digest[:12]}")
    before = home.digest()
    code, said = home.type("import", str(bundle_of(tmp_path / "b.tar.zst", good, bad)))
    assert code == 3 and "Nothing of it was kept" in said and is_message(said), said
    assert home.digest() == before and not home.places.runs.exists()
    shutil.rmtree(bad)
    assert home.type("import", str(bundle_of(tmp_path / "c.tar.zst", good)))[0] == 0
    assert first.spec.id in home.ids()


def test_a_failure_while_storing_leaves_neither_rows_nor_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.errors import StoreError
    from harness.store import Store

    home = Attacked(tmp_path / "home")
    folder = HONEST.save(tmp_path / "made").rename(tmp_path / f"{HONEST.spec.id}-{HONEST.digest[:12]}")
    bundle = bundle_of(tmp_path / "b.tar.gz", folder)

    def full(*_: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "ingest_all", full)
        assert home.type("import", str(bundle)) == (3, "the disk is full")
    assert not list(home.places.runs.glob("*"))
    assert home.type("import", str(bundle))[0] == 0
    home.still_works()


def test_a_rotten_folder_is_made_anew(tmp_path: Path) -> None:
    home = Attacked(tmp_path / "home")
    words = ("run", "-m", "pixels", "-b", "glyphs-5w1s", "--episodes", "20")
    code, said = home.type(*words)
    assert code == 0, said
    (folder,) = home.places.runs.glob("[0-9a-f]*")
    whole = home.digest()
    for rot in (b"{", b"", b"\xff\xfe", b"[" * 100_000, None):
        with_rot = folder / ("run.json" if rot is not None else "result.npz")
        with_rot.write_bytes(rot or b"PK")
        (home.places.home / "results.db").unlink()
        assert "1 skipped" in home.type("collect")[1]
        code, said = home.type(*words)
        assert code == 0 and "pixels" in said, said
        assert (home.places.runs / folder.name / "result.npz").stat().st_size > 100
        assert len(home.ids()) == 1 and whole
