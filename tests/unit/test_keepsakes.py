"""What a run keeps for the pages: words about the method, its contract, small pictures of extreme episodes."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import made_up_results as made
import numpy as np
import pytest
from PIL import Image

from harness.evaluation import thumbnails
from harness.images.stores import ImageStore, store_of_arrays
from harness.method import about, registry
from harness.report.board.tables import stored_runs
from harness.report.pages import method_page
from harness.report.pages.pictures import PNG, of_episode
from harness.runs import RunResult
from harness.store import Store
from harness.system.process import PICTURES


def _store(size: int, channels: int) -> ImageStore:
    """All the images that a made-up episode list refers to: 20 classes of 600."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 600, size, size, channels), dtype=np.uint8)
    return store_of_arrays("made-up", pixels, [f"class {i:02d}" for i in range(20)])


def _pictures(run: RunResult, store: ImageStore) -> dict[str, str]:
    assert run.episodes is not None
    return thumbnails.of_run(store, run.episodes, run.counts["top1"])


@pytest.mark.parametrize("name", ["neg-cosine", "protonet"])
def test_a_method_brings_its_words_its_paper_and_what_differs(name: str, tmp_path: Path) -> None:
    loaded = registry.load(name)
    told = about.about(loaded.cls, loaded.reference, tmp_path)
    assert told["deviations"].startswith("What differs from the authors' code")
    assert "arXiv:" in told["docstring"] and "What differs" not in told["docstring"]
    assert told["reference"].startswith("@") and told["reference"].endswith("}")
    assert "contract" not in told  # it was never checked with this cache


def test_every_built_in_with_a_paper_names_it() -> None:
    without = [n for n in registry.BUILT_IN if not getattr(registry.load(n).cls, "reference", "")]
    assert without == ["frozen", "pixels", "table"]  # the floor, and features of other people


# As the specifications name them: theirs alone, not the codes of others in whose form a method is here.
AUTHORS = {
    "ZZQzzq/BML": "bml bml-global bml-local",
    "icoz69/DeepEMD": "deepemd deepemd-pretrain",
    "facebookresearch/low-shot-shrink-hallucinate": "lowshot-hallucination lowshot-logistic matching-network representation",
    "bl0/negative-margin.few-shot": "cosine neg-cosine neg-softmax softmax",
    "jakesnell/prototypical-networks": "protonet",
    "jshtok/RepMet": "repmet",
    "imtiazziko/LaplacianShot": "laplacianshot",
    "oveilleux/Realistic_Transductive_Few_Shot": "alpha-tim",
    "mboudiaf/TIM": "tim",
    "yhu01/PT-MAP": "pt-map",
    "DanielShalam/BPA": "bpa",
    "amazon-science/few-shot-baseline": "finetune-network transductive-finetune transductive-finetune-network",
    "mileyan/simple_shot": "centroid nearest-mean",
    "WangYueFt/rfs": "knn logistic rfs svm",
    "kjunelee/MetaOptNet": "metaopt-svm",
    "Tsingularity/FRN": "frn",
    "Sha-Lab/FEAT": "feat",
    "cyvius96/few-shot-meta-baseline": "meta-baseline",
    "WenbinLee/DN4": "dn4",
    "floodsung/LearningToCompare_FSL": "relation-network transductive-relation-network",
    "nupurkmr9/S2M2_fewshot": "s2m2",
    "ybendou/easy": "easy soft-kmeans",
}


def test_the_page_of_every_built_in_leads_to_its_authors_code(tmp_path: Path) -> None:
    """Where there is a known one."""
    with Store.open(tmp_path / "results.db", create=True) as store:
        for name in registry.BUILT_IN:
            loaded = registry.load(name)
            told = about.about(loaded.cls, loaded.reference, tmp_path)
            store.ingest(made.result(name, n_episodes=2, provenance={"about": told}))
        pages = method_page.build(stored_runs(store), [])
    found = {(page.name, address) for page in pages for what, address in page.links if what == "code"}
    assert found == {
        (name, f"https://github.com/{code}") for code, names in AUTHORS.items() for name in names.split()
    }


def test_a_contract_belongs_to_one_text_of_a_method(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    text = (
        "from dataclasses import dataclass\nclass Mine:\n    name, version = 'mine', '1'\n    @dataclass(frozen=True)\n"
        "    class Config:\n        pass\n    def fit_base(self, base, ctx): ...\n    def adapt(self, support): ...\n"
        "    def predict(self, state, query): ...\n"
    )
    path.write_text(text)
    first = registry.load(str(path))
    outcomes = [{"promise": "It fits.", "passed": True, "message": ""}]
    about.keep_contract(first.cls, first.reference, outcomes, tmp_path / "cache")
    told = about.about(first.cls, first.reference, tmp_path / "cache")
    assert told["contract"] == [{"name": "It fits.", "passed": True, "detail": ""}] and told["checked"]
    assert told["docstring"] == ""
    path.write_text(text + "# edited\n")
    edited = registry.load(str(path))
    assert "contract" not in about.about(edited.cls, edited.reference, tmp_path / "cache")


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (84, 3)])
def test_extreme_episodes_have_small_pictures_that_the_page_accepts(size: int, channels: int) -> None:
    run = made.result(n_episodes=50)
    found = _pictures(run, _store(size, channels))
    assert found and all(PNG.fullmatch(text) for text in found.values())
    assert sum(map(len, found.values())) <= thumbnails.MAX_BYTES[channels]
    for text in found.values():
        image = Image.open(io.BytesIO(base64.b64decode(text)))
        assert max(image.size) <= thumbnails.MAX_SIDE
    counts = run.counts["top1"]
    assert run.episodes is not None
    for i in thumbnails.extremes(counts.n_correct, counts.n_query)[:2]:
        parts = of_episode(int(i), run.episodes, counts.predictions, found)
        assert len(parts) == 5 and all(len(part.support) == 1 for part in parts)
        assert all(bool(part.wrong) == bool(part.n_wrong) for part in parts)


def test_extremes_alternate_between_worst_and_best() -> None:
    assert thumbnails.extremes([3, 1, 2, 0], [4, 4, 4, 4]).tolist() == [3, 0, 1, 2]
    assert thumbnails.extremes([2], [4]).tolist() == [0]


def test_pictures_are_kept_where_terms_allow_it_or_the_user_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PICTURES, raising=False)
    assert thumbnails.are_kept("glyphs") and thumbnails.are_kept("omniglot")
    assert not any(thumbnails.are_kept(name) for name in ("mini", "tiered", "cub", "cifar100", "my-birds"))
    monkeypatch.setenv(PICTURES, "1")
    assert thumbnails.are_kept("my-birds")
    monkeypatch.setenv(PICTURES, "0")
    assert not thumbnails.are_kept("glyphs")
