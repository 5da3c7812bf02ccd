"""One honest record, and many ways in which somebody else's may be none: each a change of run.json and the arrays."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from made_up_results import result

from harness.errors import FsbenchError
from harness.runs import Counts, RunResult, RunSpec

Header, Arrays = dict[str, Any], dict[str, Any]
Mutation = Callable[[Header, Arrays], None]
HONEST = result("victim", "victim-5w1s", n_episodes=20)
BAD_TEXTS = ("a\x1b[2Jb", "a\x07b", "a\x9bb", "a\0b", "a\nb", "\ud800", "x" * 500, 7, None, ["a"], {"a": 1})
BAD_NUMBERS = (0, -1, 2**40, 2**70, 1.5, "5", None, True, float("nan"), [])


def put(path: str, value: Any) -> Mutation:
    """Write a value at a dotted path of run.json."""

    def change(header: Header, _: Arrays) -> None:
        *way, last = path.split(".")
        place: Any = header
        for key in way:
            place = place[key]
        place[last] = value

    return change


def drop(path: str) -> Mutation:
    """Leave a field out."""

    def change(header: Header, _: Arrays) -> None:
        *way, last = path.split(".")
        place: Any = header
        for key in way:
            place = place[key]
        del place[last]

    return change


def array(name: str, make: Callable[[Any], Any]) -> Mutation:
    """Replace an array by what is made of it."""

    def change(_: Header, arrays: Arrays) -> None:
        arrays[name] = make(arrays[name])

    return change


def both(*changes: Mutation) -> Mutation:
    """Several changes."""

    def change(header: Header, arrays: Arrays) -> None:
        for one in changes:
            one(header, arrays)

    return change


def better(header: Header, arrays: Arrays) -> None:
    """Better counts than the predictions give."""
    arrays["n_correct:top1"] = np.minimum(arrays["n_correct:top1"] + 5, 75)


def one_query(header: Header, arrays: Arrays) -> None:
    """An accuracy of 100% from one query an episode."""
    arrays["n_correct:top1"] = arrays["n_query:top1"] = np.ones(20, np.int64)


def another_metric(header: Header, arrays: Arrays) -> None:
    """The same under the name of another metric, which would rank the row where there is no top1."""
    one_query(header, arrays)
    for part in ("n_correct", "n_query"):
        arrays[f"{part}:top1/novel"] = arrays.pop(f"{part}:top1")
    arrays.pop("predictions:top1")
    header["metrics"] = ["top1/novel"]


def pretend_joint(header: Header, arrays: Arrays) -> None:
    """A list in which base classes seem to be asked, so that five-fold top-5 counts rank the row."""
    another_metric(header, arrays)
    arrays["episodes:support"] = arrays["episodes:support"][:, 1:]


def nested(depth: int) -> Any:
    """Lists in lists."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


FORGERIES: dict[str, Mutation] = {
    "counts better than the predictions": better,
    "one query an episode": one_query,
    "the same as another metric": another_metric,
    "the same as a joint experiment": pretend_joint,
    "counts of 2^40": both(
        array("n_correct:top1", lambda a: a + 2**40), array("n_query:top1", lambda a: a + 2**40)
    ),
    "no predictions": lambda _, arrays: arrays.pop("predictions:top1"),
    "a badge that only rechecks give": put("provenance.badges", ["spot-checked"]),
    "a tuning that nobody did": put("provenance.badges", ["tuned (1)"]),
    "fewer classes asked": put("spec.n_way", 2),
    "an episode list with the same class twice": array("episodes:classes", np.zeros_like),
}
FIELDS: dict[str, Mutation] = {
    **{f"method name {v!r:.20}": put("spec.method.name", v) for v in BAD_TEXTS},
    **{f"setting {v!r:.20}": put("spec.setting", v) for v in ("a\x1bb", "\ud800", None, "x" * 400)},
    **{
        f"class name {v!r:.20}": put("class_names", [v] * 20) for v in ("a\x1bb", "a\x9bb", "\ud800", None, 5)
    },
    **{f"host {v!r:.20}": put("provenance.host", v) for v in ("a\x07b", 3, "x" * 10_000)},
    **{f"n_way {v!r:.20}": put("spec.n_way", v) for v in BAD_NUMBERS},
    **{f"n_episodes {v!r:.20}": put("spec.n_episodes", v) for v in (0, -1, 2**40, None, 1.0)},
    **{f"seed {v!r:.20}": put("spec.seed", v) for v in (-1, 2**64, "x")},
    **{
        f"seconds {v!r:.20}": put("provenance.seconds", v)
        for v in (5, {"fit": "x"}, {"fit": -1}, {"fit": float("inf")})
    },
    **{f"about {v!r:.20}": put("provenance.about", v) for v in ("x", {"contract": 5}, {"contract": ["x"]})},
    **{
        f"thumbnails {v!r:.20}": put("provenance.thumbnails", v)
        for v in ("x", {"1": 5}, {"1": "<svg onload=x>"})
    },
    **{f"peak {v!r:.20}": put("provenance.peak_rss_bytes", v) for v in ("x", -1, None, {})},
    **{
        f"curves {v!r:.20}": put("curves", v)
        for v in ("x", [1], [{"step": "x"}], [{"loss": float("nan")}], {})
    },
    **{
        f"config {v!r:.20}": put("spec.config", v)
        for v in ("x", {"a": 1}, {"a": {"value": "\x1b", "origin": "x"}})
    },
    **{f"digest {v!r:.20}": put("spec.data_digest", v) for v in ("x", {"novel": 5}, {"novel": "\x1b"}, {})},
    "nested provenance": put("provenance.x", nested(50)),
    "deeply nested provenance": put("provenance.x", nested(900)),
    "an unknown number of bytes": put("provenance.more_bytes", "many"),
    "badges that are no list": put("provenance.badges", "leak"),
    "badges that are no texts": put("provenance.badges", [5]),
    "an id of another run": put("id", "0" * 12),
    "a digest of another result": put("digest", "0" * 64),
    "a status of its own": put("status", "great"),
    "failed with counts": put("status", "failed"),
    "format true": put("format", True),
    "no spec": drop("spec"),
    "no method": drop("spec.method"),
    "an unknown field of the spec": put("spec.surprise", 1),
    "metrics that are not there": put("metrics", ["top1", "top5"]),
    "metrics that are no list": put("metrics", "top1"),
    "self_reported is a text": put("provenance.self_reported", "no"),
    "reported by somebody": put("provenance.reported_by", "the authors"),
    "an origin of its own": both(put("provenance.self_reported", False), put("provenance.finished", "9999")),
    "a long traceback with escapes": put("traceback", "\x1b[2J" * 1000),
    "HTML in every text": both(
        put("provenance.host", "<script>x</script>"), put("spec.backbone", "<img src=x>")
    ),
}
ARRAYS: dict[str, Mutation] = {
    "predictions of another shape": array("predictions:top1", lambda a: a[:, :-1]),
    "predictions beyond the ways": array("predictions:top1", lambda a: a + 5),
    "predictions below zero": array("predictions:top1", lambda a: a.astype(np.int8) - 100),
    "predictions as floats": array("predictions:top1", lambda a: a.astype(float)),
    "predictions as objects": array("predictions:top1", lambda a: a.astype(object)),
    "predictions as texts": array("predictions:top1", lambda a: a.astype("U9")),
    "counts of another length": array("n_correct:top1", lambda a: a[:-1]),
    "counts in two dimensions": array("n_correct:top1", lambda a: a[:, None]),
    "counts below zero": array("n_correct:top1", lambda a: a - 1000),
    "counts as floats": array("n_correct:top1", lambda a: a + 0.5),
    "no queries": array("n_query:top1", np.zeros_like),
    "classes beyond the names": array("episodes:classes", lambda a: a + 1000),
    "classes below zero": array("episodes:classes", lambda a: a - 1000),
    "classes in one dimension": array("episodes:classes", np.ravel),
    "images below zero": array("episodes:query", lambda a: a - 10**6),
    "images of another shape": array("episodes:query", lambda a: a[..., :-1]),
    "images as a scalar": array("episodes:support", lambda a: np.int64(5)),
    "no support": lambda _, arrays: arrays.pop("episodes:support"),
    "no list": lambda _, arrays: [arrays.pop(f"episodes:{part}") for part in ("classes", "support", "query")],
    "no class names": put("class_names", []),
}
EVERY = {**FORGERIES, **FIELDS, **ARRAYS}


def forged(change: Mutation) -> tuple[Header, Arrays]:
    """A record with a change, and with ids and digests made anew so that nothing but the change is wrong."""
    header, arrays = copy.deepcopy(json.loads(json.dumps(HONEST._header()))), dict(HONEST._arrays())
    before = header["id"], header["digest"]
    change(header, arrays)
    try:
        spec = RunSpec.from_json(header["spec"])
        renewed = spec.id if header["id"] == before[0] else header["id"]
    except (FsbenchError, KeyError):
        renewed = header.get("id")
    header["id"] = renewed
    if header.get("digest") == before[1]:
        header["digest"] = _digest(header, arrays) or before[1]
    return header, arrays


def _digest(header: Header, arrays: Arrays) -> str:
    try:
        counts = {m: Counts(arrays[f"n_correct:{m}"], arrays[f"n_query:{m}"]) for m in header["metrics"]}
        return RunResult(HONEST.spec, header["status"], counts).digest
    except (KeyError, TypeError, ValueError):
        return ""


def write(folder: Path, header: Header, arrays: Arrays) -> Path:
    """Write a run folder."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(header))
    np.savez_compressed(folder / "result.npz", **arrays)
    return folder
