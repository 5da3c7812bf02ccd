from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from picture_files import class_images

from harness.errors import DataError
from harness.images import maps, prepare, stores
from harness.images.augmentations import ORIGINALS
from harness.images.manifest import SourceFile
from harness.images.originals import Picture
from harness.images.pipelines import encode_png
from harness.images.plan import Plan
from harness.images.prepare import write
from harness.images.stores import PreparedSet, store_of_arrays
from harness.images.verify import verify

CLASSES = {"apple": 5, "birch": 3, "cedar": 4}


def picture(name: str, i: int) -> np.ndarray:
    rng = np.random.default_rng([sum(map(ord, name)), i])
    return rng.integers(0, 256, (12, 12), dtype=np.uint8)


def plan_of(
    classes: dict[str, int], dataset: str = "trees", source: str = "trees.zip", **changes: object
) -> Plan:
    def pictures() -> Iterator[Picture]:
        for i in range(max(classes.values())):  # classes interleaved: arrival order is not row order
            for name in reversed(list(classes)):
                if i < classes[name]:
                    read = lambda n=name, i=i: encode_png(picture(n, i))  # noqa: E731
                    yield Picture(name, f"{i:02d}.png", read, name[0].upper(), f"author{i}")

    n = sum(classes.values())
    card = {
        "dataset": dataset,
        "population": source,
        "mode": "L",
        "sources": (SourceFile(source, 1, source),),
        "terms": "none",
        "n_images": n,
        "n_bytes": n * 300,
        "pipeline": "stored",
        "size": 12,
        "pictures": pictures,
    }
    return Plan(**{**card, **changes})  # type: ignore[arg-type]


@pytest.fixture
def trees(tmp_path: Path) -> PreparedSet:
    return write(plan_of(CLASSES), tmp_path).dataset


def test_rows_are_contiguous_per_class_and_in_file_order(trees: PreparedSet) -> None:
    pixels = trees.map("stored", 12)
    expected = [(name, i) for name, n in CLASSES.items() for i in range(n)]
    assert [(n, f, a) for n, f, a in trees.files()] == [
        (n, f"{i:02d}.png", f"author{i}") for n, i in expected
    ]
    for row, (name, i) in enumerate(expected):
        np.testing.assert_array_equal(pixels[row, :, :, 0], picture(name, i))
    assert trees.groups == ("A", "B", "C")
    assert trees.labels.tolist() == [0] * 5 + [1] * 3 + [2] * 4


def test_selection_keeps_the_order_asked_for_and_gathers_any_rows(trees: PreparedSet) -> None:
    store = trees.select(["cedar", "apple"], "stored", 12)
    assert store.class_names == ("cedar", "apple")
    assert store.counts.tolist() == [4, 5]
    assert store.label.tolist() == [0] * 4 + [1] * 5
    assert store.shape == (12, 12, 1)
    assert len(store) == 9
    got = store.images([8, 0, 8])
    for image, (name, i) in zip(got, [("apple", 4), ("cedar", 0), ("apple", 4)], strict=True):
        np.testing.assert_array_equal(image[:, :, 0], picture(name, i))
    np.testing.assert_array_equal(class_images(store, 1), store.images(range(4, 9)))


def test_gathered_images_are_copies(trees: PreparedSet) -> None:
    store = trees.select(["apple"], "stored", 12)
    store.images([0])[:] = 0
    np.testing.assert_array_equal(store.images([0])[0, :, :, 0], picture("apple", 0))


def test_rotations_make_four_classes_counter_clockwise_and_innermost(trees: PreparedSet) -> None:
    store = trees.select(["birch", "apple"], "stored", 12, images=slice(0, 2), rotations=True)
    assert store.class_names[:5] == (
        "birch/rot000",
        "birch/rot090",
        "birch/rot180",
        "birch/rot270",
        "apple/rot000",
    )
    assert store.groups == ("B",) * 4 + ("A",) * 4
    assert store.counts.tolist() == [2] * 8
    for c, (name, turn) in enumerate((n, t) for n in ("birch", "apple") for t in range(4)):
        for i, image in enumerate(class_images(store, c)):
            np.testing.assert_array_equal(image[:, :, 0], np.rot90(picture(name, i), turn))


def test_image_slice_takes_a_part_of_every_class(trees: PreparedSet) -> None:
    store = trees.select(["apple", "cedar"], "stored", 12, images=slice(2, 4))
    assert store.counts.tolist() == [2, 2]
    np.testing.assert_array_equal(store.images([3])[0, :, :, 0], picture("cedar", 3))
    with pytest.raises(DataError, match="birch"):
        trees.select(["apple", "birch"], "stored", 12, images=slice(3, 5))


def test_store_digest_depends_on_each_ingredient_and_not_on_the_place(
    trees: PreparedSet, tmp_path: Path
) -> None:
    elsewhere = write(plan_of(CLASSES), tmp_path / "elsewhere").dataset
    ask = (["apple", "birch"], "stored", 12)
    digest = trees.select(*ask).digest
    assert elsewhere.select(*ask).digest == digest
    others = [
        trees.select(["birch", "apple"], "stored", 12),
        trees.select(["apple", "birch"], "area", 12),
        trees.select(["apple", "birch"], "stored", 10),
        trees.select(*ask, images=slice(0, 3)),
        trees.select(*ask, rotations=True),
        write(plan_of({"apple": 5, "birch": 2}), tmp_path / "other").dataset.select(*ask),
    ]
    assert len({digest, *(o.digest for o in others)}) == 7


def test_pipelines_of_equal_geometry_share_a_map(trees: PreparedSet) -> None:
    trees.select(["apple"], "area", 12)
    assert maps.stored(trees.folder) == ["straight-12"]


def test_another_size_is_built_from_the_originals_on_demand(trees: PreparedSet) -> None:
    told: list[tuple[int, int]] = []
    assert trees.map("stored", 6, lambda done, n: told.append((done, n))).shape == (12, 6, 6, 1)
    assert trees.map("snell", 24).shape == (12, 24, 24, 1)
    assert told[-1] == (12, 12)
    assert maps.stored(trees.folder) == ["nearest-24", "straight-12", "straight-6"]


def test_whole_pictures_keep_their_proportions_in_mind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pictures() -> Iterator[Picture]:
        for i, shape in enumerate([(40, 20), (10, 30)]):
            yield Picture("oak", f"{i}.png", lambda s=shape: encode_png(np.zeros(s, np.uint8)), "O")  # type: ignore[misc]

    oak = write(plan_of({"oak": 2}, pictures=pictures), tmp_path).dataset
    turned = oak.select(["oak"], "stored", 12, rotations=True)
    assert turned.cut_from(8, "feat") == turned.cut_from(8, "feat", "", "originals") == ORIGINALS
    edges = [turned.cut_from(size, "feat", crops_from="map") for size in (8, 12, 30)]
    assert edges == [24, 36, 40]  # no edge is longer than 40
    assert turned.cut_from(84, "libfewshot") == 96  # windows of a resized picture
    assert turned.cut_from(8, "feat", crops_from="stored") == turned.cut_from(8, "feat", "none") == 0
    monkeypatch.setattr(stores, "LARGE_PICTURE", 100)
    assert turned.cut_from(8, "feat") == 24  # pictures that take long to decode
    store, extents = turned.whole(24)
    assert store.shape == (24, 24, 1) and store.label.tolist() == turned.label.tolist()
    assert extents.tolist() == [[40, 20], [10, 30], [20, 40], [30, 10]] * 2
    assert oak.extents.tolist() == [[40, 20], [10, 30]]


def test_the_pictures_are_the_same_at_every_size_and_through_every_pipeline(
    trees: PreparedSet, tmp_path: Path
) -> None:
    ask = (["apple", "birch"], "stored", 12)
    expected = trees.select(*ask).pictures
    assert len(expected) == 64
    assert trees.select(["apple", "birch"], "snell", 24).pictures == expected
    assert (
        write(plan_of({"apple": 5, "birch": 3}), tmp_path / "again").dataset.select(*ask).pictures == expected
    )
    others = [
        trees.select(["birch", "apple"], "stored", 12),
        trees.select(*ask, images=slice(0, 3)),
        trees.select(*ask, rotations=True),
    ]
    assert len({expected, *(o.pictures for o in others)}) == 4


def test_where_originals_are_not_kept_there_are_no_whole_pictures(tmp_path: Path) -> None:
    small = write(plan_of(CLASSES, has_originals=False), tmp_path).dataset.select(["apple"], "stored", 12)
    memory = store_of_arrays("memory", np.zeros((1, 2, 12, 12, 1), np.uint8), ["apple"])
    assert small.pictures == memory.pictures == ""
    assert small.cut_from(12, "feat") == memory.cut_from(12, "feat") == 0
    for store in (small, memory):
        with pytest.raises(DataError, match="original pictures"):
            store.whole(24)
        with pytest.raises(DataError, match="original pictures"):
            store.cut_from(12, "feat", crops_from="originals")


def test_a_set_prepared_before_extents_were_recorded_has_them_measured(trees: PreparedSet) -> None:
    np.save(trees.folder / "originals.npy", np.load(trees.folder / "originals.npy")[:, :3])
    assert trees.extents.tolist() == [[12, 12]] * 12


def test_a_map_that_cannot_be_built_says_how_to_prepare(trees: PreparedSet) -> None:
    path = trees.folder / "manifest.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps({**card, "has_originals": False}))
    with pytest.raises(DataError, match="import-folder PATH --name trees") as caught:
        PreparedSet.open(trees.folder).map("feat", 84)
    assert caught.value.exit_code == 3
    assert "straight-12" in str(caught.value)


def test_classes_that_are_absent_are_named(trees: PreparedSet) -> None:
    with pytest.raises(DataError, match="2 of 3 classes are not in trees") as caught:
        trees.select(["apple", "birhc", "oak"], "stored", 12)
    assert "Did you mean `birch`?" in str(caught.value)


def test_a_set_that_is_absent_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Type `fsbench prepare omniglot-small --source PATH`"):
        PreparedSet.open(tmp_path / "omniglot-small")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 2}', '{"format": 1}', '{"format": 1, "classes": 3}']
)
def test_a_broken_or_newer_manifest_is_refused(trees: PreparedSet, text: str) -> None:
    (trees.folder / "manifest.json").write_text(text)
    with pytest.raises(DataError, match="import-folder PATH --name trees"):
        PreparedSet.open(trees.folder)


def test_digests_of_a_file_are_those_of_its_pixels(trees: PreparedSet) -> None:
    path = trees.folder / "maps" / "straight-12.npy"
    expected = maps.pixel_digests(np.load(path), trees.counts)
    assert maps.map_digests(path, trees.counts) == expected == list(trees.class_digests("stored", 12))


def test_small_pictures_are_kept_as_pixels_alone(tmp_path: Path) -> None:
    small = write(plan_of(CLASSES, has_originals=False, note="red first"), tmp_path).dataset
    whole = write(plan_of(CLASSES), tmp_path / "whole").dataset
    assert small.class_digests("stored", 12) == whole.class_digests("stored", 12)
    assert {p.name for p in small.folder.iterdir()} == {"images.csv", "manifest.json", "maps"}
    assert (small.manifest.has_originals, small.manifest.note) == (False, "red first")
    assert write(plan_of(CLASSES, has_originals=False), tmp_path).change == "unchanged"
    with pytest.raises(DataError, match="without the original pictures"):
        small.originals()


def test_a_truncated_map_is_refused(trees: PreparedSet) -> None:
    path = trees.folder / "maps" / "straight-12.npy"
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(DataError, match="cannot be read"):
        trees.map("stored", 12)


def test_a_picture_that_cannot_be_decoded_is_named_and_nothing_appears(tmp_path: Path) -> None:
    def pictures() -> Iterator[Picture]:
        yield Picture("apple", "whole.png", lambda: encode_png(picture("apple", 0)))
        yield Picture("apple", "worm.png", lambda: b"not a picture")

    with pytest.raises(DataError, match=r"apple/worm\.png is not a whole image"):
        write(plan_of(CLASSES, pictures=pictures), tmp_path)
    assert not (tmp_path / "trees").exists()


def test_progress_counts_reading_and_decoding(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    write(plan_of(CLASSES), tmp_path, lambda done, n: told.append((done, n)))
    assert told[0] == (1, 24)
    assert told[-1] == (24, 24)
    assert [d for d, _ in told] == sorted(d for d, _ in told)


def test_preparing_twice_changes_nothing(trees: PreparedSet) -> None:
    before = {p: p.stat().st_mtime_ns for p in trees.folder.rglob("*")}
    assert write(plan_of(CLASSES), trees.folder.parent).change == "unchanged"
    assert {p: p.stat().st_mtime_ns for p in trees.folder.rglob("*")} == before


def test_another_source_extends_where_allowed_and_shared_classes_count_once(trees: PreparedSet) -> None:
    more = plan_of({"birch": 3, "dogwood": 2}, source="more.zip", if_other="extend")
    done = write(more, trees.folder.parent)
    assert done.change == "extended"
    assert done.dataset.counts.tolist() == [5, 3, 4, 2]
    assert done.dataset.manifest.population == "more.zip+trees.zip"
    fresh = write(plan_of({**CLASSES, "dogwood": 2}), trees.folder.parent / "fresh").dataset
    assert done.dataset.class_digests("stored", 12) == fresh.class_digests("stored", 12)
    assert write(more, trees.folder.parent).change == "unchanged"


def test_another_source_is_refused_where_it_would_mix_populations(trees: PreparedSet) -> None:
    with pytest.raises(DataError, match=r"already prepared from trees\.zip"):
        write(plan_of(CLASSES, source="other.zip"), trees.folder.parent)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = prepare.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DataError, match=r"needs 0\.0 MB more.*Free space"):
        write(plan_of(CLASSES), tmp_path)
    assert not list(tmp_path.rglob("*.bin"))


def test_a_place_that_cannot_be_written_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="FSBENCH_DATA"):
        write(plan_of(CLASSES), tmp_path / "file")


KILLED = """
    import os, signal, sys
    from dataclasses import replace
    from pathlib import Path
    from harness.images import originals, maps
    from harness.images.prepare import write
    sys.path[:0] = [{here!r}, {here!r} + '/..']
    from test_data_images import CLASSES, plan_of
    originals._FLUSH_EVERY, maps._CHUNK = 2, 2
    plan = plan_of(CLASSES)
    def die(done, n):
        if done == {step}:
            os.kill(os.getpid(), signal.SIGKILL)
    write(plan, Path({home!r}), die)
"""


@pytest.mark.parametrize("step", [1, 7, 12, 16, 22])
def test_a_killed_preparation_goes_on_where_it_was(tmp_path: Path, step: int) -> None:
    code = textwrap.dedent(KILLED.format(here=str(Path(__file__).parent), home=str(tmp_path), step=step))
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], env=env, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "trees").exists()

    read: list[str] = []
    plan = plan_of(CLASSES)

    def pictures() -> Iterator[Picture]:
        for p in plan.pictures():
            yield p._replace(read=lambda p=p: (read.append(p.file), p.read())[1])  # type: ignore[misc]

    resumed = write(plan_of(CLASSES, pictures=pictures), tmp_path).dataset
    assert len(read) == {1: 12, 7: 6}.get(step, 0)  # whole pairs read before the kill are not read again
    fresh = write(plan_of(CLASSES), tmp_path / "fresh").dataset
    for name in ("images.csv", "originals.npy", "originals.bin", "maps/straight-12.npy", "manifest.json"):
        assert (resumed.folder / name).read_bytes() == (fresh.folder / name).read_bytes()
    assert all(f.level == "ok" for f in verify("trees", tmp_path))


def test_a_kill_between_the_two_renames_loses_nothing(trees: PreparedSet) -> None:
    home = trees.folder.parent
    trees.folder.rename(home / ".trees.123.old")
    assert write(plan_of(CLASSES), home).change == "unchanged"


def test_verify_finds_nothing_wrong_with_a_fresh_set(trees: PreparedSet) -> None:
    findings = verify("trees", trees.folder.parent)
    assert [f.level for f in findings] == ["ok"] * 4


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_verify_rebuilds_a_changed_map(trees: PreparedSet) -> None:
    path = trees.folder / "maps" / "straight-12.npy"
    before = path.read_bytes()
    flip_last_byte(path)
    found = {f.check: f for f in verify("trees", trees.folder.parent)}["pixels of straight-12"]
    assert found.level == "repaired"
    assert "cedar" in found.detail
    assert path.read_bytes() == before


def test_verify_does_not_trust_changed_originals(trees: PreparedSet) -> None:
    flip_last_byte(trees.folder / "originals.bin")
    flip_last_byte(trees.folder / "maps" / "straight-12.npy")
    levels = {f.check: f.level for f in verify("trees", trees.folder.parent)}
    assert levels == {"counts": "ok", "originals": "error", "pixels of straight-12": "error"}


def test_verify_reports_missing_originals_and_rows(trees: PreparedSet) -> None:
    (trees.folder / "originals.bin").unlink()
    lines = (trees.folder / "images.csv").read_text().splitlines()
    (trees.folder / "images.csv").write_text("\n".join(lines[:-1]))
    levels = {f.check: f.level for f in verify("trees", trees.folder.parent)}
    assert levels["counts"] == levels["originals"] == "error"


def test_verify_warns_of_equal_pictures_in_two_classes(tmp_path: Path) -> None:
    def pictures() -> Iterator[Picture]:
        for name in ("apple", "birch"):
            yield Picture(name, "same.png", lambda: encode_png(picture("apple", 0)))

    write(plan_of(CLASSES, pictures=pictures), tmp_path)
    last = verify("trees", tmp_path)[-1]
    assert last.level == "warning"
    assert "apple = birch" in last.detail


def test_a_store_can_be_made_of_arrays() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 5, 1), dtype=np.uint8)
    store = store_of_arrays("tiny", pixels, ["a", "b", "c"])
    assert store.counts.tolist() == [4, 4, 4]
    np.testing.assert_array_equal(class_images(store, 2), pixels[2])
    assert store.digest != store_of_arrays("tiny", pixels[:, ::-1], ["a", "b", "c"]).digest
