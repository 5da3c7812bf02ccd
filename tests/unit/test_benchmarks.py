"""Benchmarks: the grammar of setting names, disjoint roles, locked lists, closed novel images."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from harness import benchmarks
from harness.benchmarks import settings
from harness.errors import ConfigError, DataError


@pytest.mark.parametrize("benchmark", benchmarks.every(), ids=lambda b: b.key)
def test_roles_share_no_class(benchmark: benchmarks.Benchmark) -> None:
    """No class has two roles, but where validation is held-out images of the base classes; no image of a closed set."""
    if benchmark.is_closed:
        spans = [role.spans for role in benchmark.roles.values()]
        assert all(a[c][1] <= b[c][0] for a, b in pairwise(spans) for c in a)
        return
    base, novel = benchmark.roles["base"], benchmark.roles["novel"]
    assert not _classes(base) & _classes(novel)
    if validation := benchmark.roles.get("validation"):
        assert not _classes(validation) & _classes(novel)
        if shared := _classes(validation) & _classes(base):
            assert shared == _classes(validation) and base.images and validation.images
            assert base.images[1] <= validation.images[0]
    assert {"base", "novel"} <= set(benchmark.roles)


def _classes(role: benchmarks.Role) -> set[tuple[str, str]]:
    return {(role.dataset, name) for name in role.classes}


@pytest.mark.parametrize("name", benchmarks.standard_names())
def test_every_standard_setting_is_locked_and_drawn_as_locked(name: str) -> None:
    setting = benchmarks.load(name)
    assert setting.name == name
    assert setting.episodes.digest == benchmarks.locked_digests()[name]  # drawing compares as well
    assert len(setting.episodes) == setting.list_length


def test_an_unlocked_way_shot_query_or_list_is_a_setting_too() -> None:
    setting = benchmarks.load("glyphs-10w2s-q8-e3")
    assert (setting.way, setting.shot, setting.n_query, setting.list_seed) == (10, 2, 8, 3)
    assert setting.name == "glyphs-10w2s-q8-e3"
    assert benchmarks.load("glyphs-5w1s-q15").name == "glyphs-5w1s"
    lists = {benchmarks.load(f"glyphs-5w1s{end}").episodes[:50].digest for end in ("", "-e0", "-e1")}
    assert len(lists) == 3


def test_a_variant_overrides_one_role() -> None:
    small = benchmarks.load("omniglot-lake-20w1s-small1").benchmark
    assert small.key == "omniglot-lake-small1" and len(small.roles["base"].classes) == 136
    assert small.roles["novel"] == benchmarks.load("omniglot-lake-20w1s").benchmark.roles["novel"]


def test_published_episodes_have_one_setting() -> None:
    with pytest.raises(DataError, match="published episodes"):
        _ = benchmarks.load("omniglot-lake-5w1s-small1").episodes


def test_a_changed_list_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "locked_digests", lambda: {"glyphs-5w1s": "0" * 64})
    with pytest.raises(DataError, match=r"episodes\.lock"):
        _ = benchmarks.load("glyphs-5w1s").episodes


def test_globs_mean_standard_settings() -> None:
    assert [s.name for s in benchmarks.expand("glyphs-5w*")] == ["glyphs-5w1s", "glyphs-5w5s"]
    with pytest.raises(ConfigError, match="No setting matches"):
        benchmarks.expand("nothing-*")


def test_novel_images_are_closed_while_a_method_trains(tmp_path: Path) -> None:
    glyphs = benchmarks.load("glyphs-5w1s").benchmark
    with benchmarks.novel_closed(), pytest.raises(DataError, match="not open"):
        glyphs.open("novel", tmp_path)
    assert len(glyphs.open("novel", tmp_path).counts) == 40


def test_two_image_sizes_have_two_digests(tmp_path: Path) -> None:
    glyphs = benchmarks.load("glyphs-5w1s").benchmark
    assert glyphs.open("novel", tmp_path).digest != glyphs.open("novel", tmp_path, image_size=32).digest


def test_cub_alone_is_three_benchmarks_and_says_so() -> None:
    with pytest.raises(ConfigError, match="three different benchmarks"):
        benchmarks.load("cub-5w1s")


def test_the_two_even_cub_splits_share_twelve_novel_classes() -> None:
    feat, closer = (
        benchmarks.load(f"cub-{s}-5w1s").benchmark.roles["novel"].classes for s in ("feat", "closerlook")
    )
    assert len(set(feat) & set(closer)) == 12


def test_a_benchmark_trained_on_more_keeps_the_episodes() -> None:
    digests = {benchmarks.load(name).digest for name in ("tiered-5w1s", "tiered-trainval-5w1s")}
    assert len(digests) == 1
