"""A user's folder becomes a benchmark: roles dealt or read, lists locked, one name one split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness import benchmarks
from harness.benchmarks import own
from harness.cli import images
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
    return list(images.imported_folder(source, name, None, ratio, 0, n_query, 16, where))


def test_a_folder_becomes_a_benchmark_with_locked_lists(pictures: Path, where: Places) -> None:
    said = imported(pictures, where)
    assert said[-1] == "settings: my-birds-5w1s, my-birds-5w5s"
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


def test_a_setting_that_cannot_be_drawn_is_not_offered(pictures: Path, where: Places) -> None:
    assert imported(pictures, where, n_query=6)[-1] == "settings: my-birds-5w1s"


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
    path.write_text("class,role\nkind0,base\nkind01,train\nkind02,novel\nkind02,novel\n")
    with pytest.raises(DataError) as caught:
        own.read_splits(path, CLASSES)
    for part in (
        "`kind0` is not a class",
        "`train` is not a role",
        "`kind02` has two rows",
        "validation needs at least 2 classes, found 0",
    ):
        assert part in str(caught.value)
    path.write_text("name,part\n")
    with pytest.raises(DataError, match="base needs at least 2 classes"):
        own.read_splits(path, CLASSES)


@pytest.mark.parametrize("ratio", ["64/16", "a/b/c", "1/0/1", "1/100/100"])
def test_a_ratio_that_leaves_a_role_empty_is_refused(ratio: str) -> None:
    with pytest.raises(ConfigError, match="--split"):
        own.split_by_ratio(CLASSES, ratio, 0)


def test_the_deal_depends_on_the_seed_alone() -> None:
    first = own.split_by_ratio(CLASSES, "2/1/2", 0)
    assert first == own.split_by_ratio(CLASSES[::-1], "2/1/2", 0)
    assert first != own.split_by_ratio(CLASSES, "2/1/2", 1)
