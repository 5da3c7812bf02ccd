"""Made-up results for tests of what reads the database: no training, the same numbers every time."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from harness import benchmarks
from harness.runs import ConfigValue, Counts, EpisodeTable, MethodReference, RunResult, RunSpec
from harness.store import Hardness, Store

N_CLASSES = 20


def episode_table(
    n_episodes: int, way: int = 5, shot: int = 1, n_query: int = 15, names: Sequence[str] = ()
) -> EpisodeTable:
    """The first episodes of one list over ``N_CLASSES`` classes (or those named)."""
    random = np.random.default_rng(7)
    names = names or [f"class {i:02d}" for i in range(N_CLASSES)]
    classes = np.argsort(random.random((20_000, len(names))), axis=1)[:n_episodes, :way].astype(
        np.int32
    )  # (E, W)
    images = random.integers(0, 12_000, (n_episodes, way, shot + n_query), dtype=np.int32)
    return EpisodeTable(classes, images[..., :shot], images[..., shot:], tuple(names), ("",) * len(names))


def result(
    method: str = "protonet", setting: str = "glyphs-5w1s", skill: float = 0.6, seed: int = 0, n_episodes: int = 300,
    way: int = 5, shot: int = 1, n_query: int = 15, changes: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None, table: EpisodeTable | None = None, keep_predictions: bool = True,
) -> RunResult:  # fmt: skip
    """A run right in about ``skill`` of its queries; episodes are hard for all methods alike."""
    benchmark = setting.rpartition("-")[0]
    spec = RunSpec(
        method=MethodReference(method, method, "1"), benchmark=benchmark, setting=setting, n_way=way, shot=shot,
        n_query=n_query, n_episodes=n_episodes, config={"epochs": ConfigValue(12, "glyphs"), "lr": ConfigValue(1e-3, "default")},
        backbone="conv4", image_size=28, channels=1, pipeline="area" if benchmark.startswith("omniglot") else "stored",
        episode_digest=benchmarks.locked_digests().get(setting, f"{setting:e<64}"[:64]),
        data_digest={"base": "b" * 64, "novel": "d" * 64}, seed=seed,
    )  # fmt: skip
    spec = RunSpec(**{**spec.__dict__, **(changes or {})})
    table = table or episode_table(spec.n_episodes, way, shot, n_query)
    labels = _predictions(spec, skill, table)
    truth = np.repeat(np.arange(spec.n_way), n_query)
    counts = Counts(
        (labels == truth).sum(axis=1),
        np.full(spec.n_episodes, truth.size),
        labels if keep_predictions else None,
    )
    facts = {
        "seconds": {"fit": 10 + 80 * skill, "embed": 1.5, "evaluate": 2 + 3 * skill}, "parameters": int(1e5 + 1e6 * skill),
        "peak_rss_bytes": int(4e8 + 1e8 * skill), "peak_gpu_bytes": 0, "badges": [], "commit": "0123456789ab", "host": "made-up",
        "packages": {"numpy": "1.26.4", "torch": "2.13.0"}, "finished": "2030-01-02T03:04:05+00:00",
    }  # fmt: skip
    curve = tuple({"step": i, "loss": 2.0 / (i + 1), "accuracy": skill - 0.3 / (i + 1)} for i in range(12))
    return RunResult(spec, "done", {"top1": counts}, table, {**facts, **(provenance or {})}, curve)


def failure(
    method: str, setting: str = "glyphs-5w1s", message: str = "ValueError: scores (75, 3), expected (75, 5)"
) -> RunResult:
    """A run that ended in an error."""
    spec = result(method, setting, n_episodes=2).spec
    return RunResult(spec, "failed", traceback=f"Traceback (most recent call last):\n{message}")


def fill(store: Store, n_methods: int = 6, n_episodes: int = 300, n_repeated: int = 2) -> None:
    """A small world: methods of rising skill on several settings, some with three seeds, a hole, a failure, hostile names."""
    for i in range(n_methods):
        for setting, way in (("glyphs-5w1s", 5), ("glyphs-5w5s", 5), ("omniglot-20w1s", 20)):
            if i == 1 and setting == "glyphs-5w5s":
                continue  # a hole
            for seed in range(3 if i < n_repeated else 1):
                skill = 0.45 + 0.04 * (i // 2) + 0.002 * seed + (0.15 if "5w5s" in setting else 0)
                badges = ["transductive"] if i == 2 else []
                told = {"about": ABOUT} if i == 3 else {}
                store.ingest(
                    result(
                        f"method-{i}",
                        setting,
                        skill,
                        seed,
                        n_episodes,
                        way,
                        provenance={"badges": badges, **told},
                    )
                )
    store.ingest(with_pictures(result("protonet", "omniglot-5w1s", 0.97, n_episodes=n_episodes)))
    store.ingest(result("<script>alert(1)</script>", "glyphs-5w1s", 0.4, n_episodes=n_episodes))
    store.ingest(failure("broken"))
    store.ingest(result("partial", "glyphs-5w1s", 0.6, n_episodes=n_episodes // 3))
    store.add_hardness(hardness(n_episodes))


ABOUT = {
    "docstring": "A method that <says> what it is.\n\nIt has ``code``,\nand a list:\n\n- one\n- two",
    "deviations": "What differs from the authors' code: nothing.",
    "reference": "@misc{described, title={Described & more}}",
    "contract": [
        {"name": "`fit_base` opens no novel image.", "passed": True, "detail": ""},
        {"name": "It is fast.", "passed": False, "detail": "it took <b>hours</b>"},
        {"name": "`embed` is tidy.", "passed": None, "detail": "does not apply"},
    ],
    "checked": "2030-01-02T03:04:05+00:00",
}


def hardness(n_episodes: int, setting: str = "glyphs-5w1s") -> Hardness:
    """The shared hardness of made-up episodes, as a worse extractor would measure it."""
    omega = 1.2 - np.random.default_rng(11).normal(0, 0.08, 20_000)[:n_episodes]
    extractor = {"run": "0" * 12, "method": "protonet", "version": "1", "backbone": "conv4", "seed": 0}
    return Hardness(result(setting=setting, n_episodes=2).spec.episode_digest, "d" * 64, extractor, omega)


def with_pictures(run: RunResult) -> RunResult:
    """The same run with pictures of its worst and best episode, as a worker would store them."""
    assert run.episodes is not None
    order = np.argsort(run.counts["top1"].n_correct, kind="stable")
    rows = {
        int(row)
        for i in (order[0], order[-1])
        for part in (run.episodes.support, run.episodes.query)
        for row in part[i].ravel()
    }
    thumbnails = {str(row): _png(row) for row in rows}
    return replace(run, provenance={**run.provenance, "thumbnails": thumbnails})


def _png(row: int) -> str:
    """Eight by eight random grey pixels."""
    pixels = np.random.default_rng(row).integers(0, 256, (8, 8), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _predictions(spec: RunSpec, skill: float, table: EpisodeTable) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(E, W·Q) labels: hardness by episode and class is shared by all methods, the rest is chance."""
    shared = np.random.default_rng(11)
    episode = shared.normal(0, 0.08, 20_000)[: spec.n_episodes, None]
    by_class = shared.normal(0, 0.06, len(table.class_names))[table.classes]  # (E, W)
    own = np.random.default_rng([spec.seed, *spec.method.name.encode()])
    chance = np.clip(skill + episode + by_class, 0.02, 0.98).repeat(spec.n_query, axis=1)  # (E, W·Q)
    truth = np.repeat(np.arange(spec.n_way), spec.n_query)
    wrong = (truth + own.integers(1, spec.n_way, chance.shape)) % spec.n_way
    return np.where(own.random(chance.shape) < chance, truth, wrong).astype(np.uint8)
