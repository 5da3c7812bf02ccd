"""A user's folder becomes a benchmark: roles dealt or read, lists locked, one name one split."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness import benchmarks
from harness.benchmarks import own
from harness.cli import catalogue, images
from harness.errors import ConfigError, DataError
from harness.system.folders import Places, places

CLASSES = [f"kind{i:02d}" for i in range(15)]


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    monkeypatch.setenv("FSBENCH_DATA", str(tmp_path / "data"))
    _forget()
    yield places(tmp_path)  # type: ignore[misc]
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    benchmarks.every.cache_clear()
    benchmarks.locked_digests.cache_clear()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(8):
            Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(
                tmp_path / "pictures" / name / f"{i}.png"
            )
    return tmp_path / "pictures"


def imported(
    source: Path, where: Places, ratio: str = "2/1/2", n_query: int = 3, name: str = "my-birds"
) -> list[str]:
    asked = images.FolderRequest(source, name, ratio=ratio, n_query=n_query, size=16)
    return list(images.imported_folder(asked, where))


def test_a_folder_becomes_a_benchmark_with_locked_lists(pictures: Path, where: Places) -> None:
    said = imported(pictures, where)
    assert said[-2] == "settings: my-birds-5w1s, my-birds-5w5s"
    setting = benchmarks.load("my-birds-5w1s")
    assert benchmarks.locked_digests()[setting.name] == setting.episodes.digest
    roles = setting.benchmark.roles
    assert [len(roles[r].classes) for r in ("base", "validation", "novel")] == [6, 3, 6]
    assert sorted(c for role in roles.values() for c in role.classes) == CLASSES
    store = setting.benchmark.open("novel", where.data)
    assert store.shape == (16, 16, 3) and len(store.label) == 48


def test_importing_again_changes_nothing_and_another_split_is_refused(pictures: Path, where: Places) -> None:
    imported(pictures, where)
    before = benchmarks.load("my-birds-5w1s").digest
    imported(pictures, where)
    assert benchmarks.load("my-birds-5w1s").digest == before
    with pytest.raises(ConfigError, match="another --name"):
        imported(pictures, where, ratio="1/1/1")


def test_pictures_that_were_lost_are_prepared_again_by_name_alone(pictures: Path, where: Places) -> None:
    imported(pictures, where)
    files = {p: p.read_bytes() for p in (where.data / "benchmarks").rglob("*") if p.is_file()}
    shutil.rmtree(where.data / "my-birds")
    _forget()
    said = list(images.imported_folder(images.FolderRequest(pictures, "my-birds"), where))
    assert said[-1] == "its benchmark is there already and stays as it is: my-birds-5w1s, my-birds-5w5s"
    assert all(p.read_bytes() == content for p, content in files.items())
    assert len(benchmarks.load("my-birds-5w1s").benchmark.open("novel", where.data)) == 6 * 8


def test_other_lists_and_other_pictures_under_a_name_are_refused_and_change_nothing(
    pictures: Path, where: Places
) -> None:
    imported(pictures, where)
    files = {p: p.read_bytes() for p in where.data.rglob("*") if p.is_file()}
    _forget()
    with pytest.raises(ConfigError, match=r"already, with 3 queries and seed 0, and its lists are locked"):
        imported(pictures, where, n_query=4)
    (pictures / CLASSES[0] / "0.png").unlink()
    with pytest.raises(ConfigError, match="with other roles or images"):
        list(images.imported_folder(images.FolderRequest(pictures, "my-birds"), where))
    assert {p: p.read_bytes() for p in where.data.rglob("*") if p.is_file()} == files


def test_a_setting_that_cannot_be_drawn_is_not_offered(pictures: Path, where: Places) -> None:
    assert imported(pictures, where, n_query=6)[-2] == "settings: my-birds-5w1s"


def test_readiness_is_what_can_be_drawn(pictures: Path, where: Places) -> None:
    imported(pictures, where)
    path = benchmarks.user_folder() / "my-birds.toml"
    path.write_text(path.read_text().replace('"5w5s"', '"5w5s", "7w1s"'))
    _forget()
    states = {row["setting"]: row["state"] for row in catalogue.every_setting(where)}
    assert states["my-birds-5w1s"] == states["my-birds-5w5s"] == "ready"
    assert states["my-birds-7w1s"] == "cannot be drawn"


@pytest.mark.parametrize(
    ("n_classes", "n_images", "roles", "expected"),
    [
        (4, 2, (2, 0, 2), (1, ("2w1s",))),
        (6, 5, (3, 0, 3), (4, ("3w1s",))),
        (10, 6, (5, 0, 5), (1, ("5w1s", "5w5s"))),
        (11, 15, (4, 2, 5), (10, ("5w1s", "5w5s"))),
        (15, 16, (8, 2, 5), (15, ("5w1s",))),
        (100, 600, (64, 16, 20), (15, ("5w1s", "5w5s"))),
    ],
)
def test_a_folder_of_any_size_gets_something_that_can_be_asked(
    n_classes: int, n_images: int, roles: tuple[int, ...], expected: tuple[int, tuple[str, ...]]
) -> None:
    counts = {f"k{i:03d}": n_images for i in range(n_classes)}
    dealt = own.deal(counts, 0)
    assert tuple(map(len, dealt.values())) == roles
    assert sorted(c for names in dealt.values() for c in names) == sorted(counts)
    assert own.asked(counts, dealt) == expected
    if n_classes == 100:  # as it always was
        assert dealt == own.split_by_ratio(list(counts), "64/16/20", 0)


def test_a_class_of_one_picture_is_trained_on_and_not_asked() -> None:
    counts = {**{f"k{i}": 4 for i in range(5)}, "single": 1, "other": 1}
    assert {"single", "other"} <= set(own.deal(counts, 3)["base"])
    with pytest.raises(ConfigError, match="at least 2 base and 2 novel"):
        own.deal({"a": 5, "b": 1, "c": 1, "d": 1}, 0)
    with pytest.raises(ConfigError, match="single has one picture and cannot be a validation class"):
        own.asked(counts, {"base": ["k0", "k1"], "validation": ["k2", "single"], "novel": ["k3", "k4"]})
    with pytest.raises(ConfigError, match=r"`single` has 1 pictures.*Give it another role"):
        own.asked(counts, {"base": ["k0", "k1"], "validation": [], "novel": ["k3", "single"]})


def test_a_csv_of_roles_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    path.write_text(
        "class,role\nkind00,base\nkind01,base\nkind02,validation\nkind05,validation\nkind03,novel\nkind04,novel\n"
    )
    roles = own.read_splits(path, CLASSES)
    assert roles == {
        "base": ["kind00", "kind01"],
        "validation": ["kind02", "kind05"],
        "novel": ["kind03", "kind04"],
    }


def test_every_problem_of_a_csv_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    path.write_text("class,role\nkind0,base\nkind01,trane\nkind02,novel\nkind02,novel\n")
    with pytest.raises(DataError) as caught:
        own.read_splits(path, CLASSES)
    for part in (
        "`kind0` is not a class",
        "`trane` is not a role",
        "`kind02` has two rows",
        "base needs at least 2 classes, found 1",
    ):
        assert part in str(caught.value)
    path.write_text("name,part\n")
    with pytest.raises(DataError, match=r"no column role; its first line is `name \| part`"):
        own.read_splits(path, CLASSES)


@pytest.mark.parametrize("ratio", ["64/16", "a/b/c", "1/0/1", "1/100/100"])
def test_a_ratio_that_leaves_a_role_empty_is_refused(ratio: str) -> None:
    with pytest.raises(ConfigError, match="--split"):
        own.split_by_ratio(CLASSES, ratio, 0)


def test_the_deal_depends_on_the_seed_alone() -> None:
    first = own.split_by_ratio(CLASSES, "2/1/2", 0)
    assert first == own.split_by_ratio(CLASSES[::-1], "2/1/2", 0)
    assert first != own.split_by_ratio(CLASSES, "2/1/2", 1)
