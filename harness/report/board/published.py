"""The ledger of published numbers, and whether one of them may stand beside one of ours."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_BOTH = "train+val"  # in the note of a number whose base classes are both
LEDGER = Path(__file__).resolve().parents[3] / "benchmarks" / "published.csv"

# Name of the ledger's benchmark → name of ours; what is not listed is the same.
_BENCHMARK = {
    "cub_closerlook": "cub-closerlook",
    "cub_feat": "cub-feat",
    "mini2cub": "mini-cub",
    "mini64_2cub": "mini64-cub",
}
_LOW_SHOT = re.compile(r"imagenet_lowshot-(?P<group>novel|base|all)-(?P<top>top[15])-(?P<n>n\d+)")
_EPISODIC = re.compile(r"(.+)-(\d+w\d+s)(-dir2|-qall)?")
_BACKBONE = {
    "conv4": "conv4",
    "conv64f": "conv4",
    "resnet10": "resnet10",
    "resnet12": "resnet12",
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "wrn2810": "wrn28_10",
}
# Low-shot heads → what stands behind the representation in their authors' names; how ours are called before it.
_PHASE = {
    "lowshot-logistic": "Baseline",
    "lowshot-hallucination": "Generation",
    "matching-network": "Matching Networks",
}
_REPRESENTATION = {"none": "Baseline", "sgm": "SGM", "batchsgm": "Batch SGM", "l2": "L2"}
# Ours → how the ledger's sources spell the same method, letters and digits only.
_SPELLING = {
    "centroid": {"simpleshot"},
    "negcosine": {"negcos", "negmargincosine"},
    "softmax": {"softmaxownrun"},
    "cosine": {"cosineownrun"},
    "protonet": {"protonetthiscode", "protonetoriginalpaper"},
    "matchingnetwork": {"matchingnet"},
    "timgd": {"tim"},
    "bpa": {"ptmapbpap"},
    "relationnetwork": {"relationnet"},
    "transductiverelationnetwork": {"relationnet"},
    "transductivemaml": {"maml"},
    "transductivefinetunenetwork": {"transductivefinetuning"},
    "rfssimple": {"rfs"},
    "s2m2": {"s2m2r"},
    "softkmeans": {"easytransductive"},
}


@dataclass(frozen=True)
class Habits:
    """What a source does in all of its tables, read in its code.

    Attributes:
        image_size: side in pixels; None where tables differ or it is not stated.
        n_query: queries per class; None where it is not stated.
        interval: how its interval is made; empty when it prints none.
        selection: what chose the printed checkpoint, when it was not the validation classes.
        pipelines: (benchmark, our name of its pipeline), "" for all others; empty where it is not known.
    """

    image_size: int | None = None
    n_query: int | None = None
    interval: str = ""
    selection: str = ""
    pipelines: tuple[tuple[str, str], ...] = ()


POPULATION = "± 1.96 × population sd/√T over episodes"  # numpy's default; ours is the sample's, Student's t
_BML = (("mini", "bml-mini"), ("cifarfs", "bml-cifarfs"), ("cub-feat", "bml"), ("", "bml-tiered"))
_DEEPEMD = (("tiered", "deepemd-tiered"), ("cifarfs", "deepemd-cifarfs"), ("", "deepemd"))
_HABITS = {
    "bl0/negative-margin.few-shot": Habits(224, 16, POPULATION, pipelines=(("", "negative-margin"),)),
    "thuml/few-shot": Habits(224, 16, POPULATION, pipelines=(("", "negative-margin"),)),
    "icoz69/DeepEMD": Habits(84, 15, POPULATION, pipelines=_DEEPEMD),
    "ZZQzzq/BML": Habits(
        84, 15, POPULATION + ", for each of ten lists", "checkpoint chosen on test classes", _BML
    ),
    "HaydenFaulkner/pytorch.repmet": Habits(28, 15),
    "open-mmlab/mmfewshot": Habits(84, 15, POPULATION, pipelines=(("", "mmfewshot"),)),
    "RL-VIG/LibFewShot": Habits(84, 15, "Student t over episodes"),
    "Sha-Lab/FEAT": Habits(84, 15, POPULATION),
    "cyvius96/few-shot-meta-baseline": Habits(n_query=15),
    "DanielShalam/BPA": Habits(n_query=15),
    "imtiazziko/LaplacianShot": Habits(84, 15),
    "mboudiaf/TIM": Habits(84, 15, POPULATION, pipelines=(("", "simpleshot"),)),
    "oveilleux/Realistic_Transductive_Few_Shot": Habits(84, 15),
    "yhu01/PT-MAP": Habits(n_query=15),
    "sicara/easy-few-shot-learning": Habits(84, 15, pipelines=(("", "easyfsl"),)),
    "facebookresearch/low-shot-shrink-hallucinate": Habits(224),
}


@dataclass(frozen=True)
class Published:
    """One published number with what is known of its protocol.

    Attributes:
        setting, metric: ours, such as "mini-5w1s" and "top1", "imagenet-lowshot-n1" and "top5/novel".
        method, backbone: as printed.
        accuracy, half_width: fractions; ``half_width`` None where none is printed.
        episodes: as stated, such as "600" or "2000x10"; empty when it is not.
        source: repository whose README prints it, or paper.
        note: what the ledger says beside it.
        is_quoted: the source quotes another paper.
        habits: protocol of the source.
    """

    setting: str
    metric: str
    method: str
    backbone: str
    accuracy: float
    half_width: float | None
    episodes: str
    source: str
    note: str
    is_quoted: bool
    habits: Habits

    @property
    def is_transductive(self) -> bool:
        """Whether the note says that queries are used together."""
        return "transductive" in re.split(r"[;,] *", self.note)

    @property
    def is_protocol_known(self) -> bool:
        """Whether it is known how its source evaluates: at least on pictures of which size, or made how."""
        return self.habits != Habits() and bool(self.image_size or self.pipeline)

    @property
    def settings(self) -> tuple[str, ...]:
        """Where it stands: on its setting, and on that of its base classes where those are of train and validation."""
        name, rest = self.setting.split("-", 1)
        return (self.setting, f"{name}-trainval-{rest}") if _BOTH in self.note else (self.setting,)

    @property
    def pipeline(self) -> str:
        """Our name of its pipeline; empty where it is not known."""
        known, benchmark = dict(self.habits.pipelines), self.setting.rpartition("-")[0]
        return known.get(benchmark, known.get("", ""))

    @property
    def is_population(self) -> bool:
        """Whether its half-width is 1.96 × population sd/√T."""
        return self.half_width is not None and self.habits.interval.startswith(POPULATION)

    @property
    def standard_half_width(self) -> float | None:
        """Its half-width by the sample's standard deviation, as ours are; None where none is printed."""
        n = self.n_episodes
        if self.half_width is None or not self.is_population or n is None:
            return self.half_width
        return self.half_width * math.sqrt(n / (n - 1))

    @property
    def n_episodes(self) -> int | None:
        """Episodes behind the mean, all lists together; None where they are not stated.

        >>> Published("s", "top1", "X", "conv4", .6, None, "2000x10", "s", "", False, Habits()).n_episodes
        20000
        """
        parts = self.episodes.split("x")
        return math.prod(map(int, parts)) if all(part.isdigit() for part in parts) else None

    @property
    def image_size(self) -> int | None:
        """Side in pixels, from the note where it says so."""
        said = re.search(r"(\d+)x\1", self.note)
        return int(said[1]) if said else self.habits.image_size

    @property
    def protocol(self) -> str:
        """The protocol in a few words."""
        parts = [
            self.backbone,
            f"{self.image_size}×{self.image_size}" if self.image_size else "",
            f"{self.habits.n_query} queries" if self.habits.n_query else "",
            f"{self.episodes} episodes" if self.episodes else "episodes not stated",
            self.habits.interval if self.half_width is not None else "",
            self.habits.selection,
            f"pipeline {self.pipeline}" if self.pipeline else "",
            "transductive" if self.is_transductive else "",
            "quoted, so the protocol is that of its paper" if self.is_quoted else "",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Ours:
    """The side of our number that decides whether a published one is comparable.

    Attributes:
        setting, metric, method, backbone, image_size, n_query: of the row; the method as papers print it.
        pipeline, recipe: of the row.
        badges: such as "transductive", "test-selected", "leak", "extra data".
    """

    setting: str
    metric: str
    method: str
    backbone: str
    image_size: int
    n_query: int
    pipeline: str = ""
    recipe: str = "clean"
    badges: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparability:
    """Whether two protocols allow a comparison.

    Attributes:
        reasons: why not; empty when they do.
        caveats: what differs without a bias to one side, or is not stated by the source.
        is_known: whether anything is known of theirs; nothing is called comparable otherwise.
    """

    reasons: tuple[str, ...]
    caveats: tuple[str, ...]
    is_known: bool = True

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        also = f" ({'; '.join(self.caveats)})" if self.caveats else ""
        if self.reasons:
            return f"not comparable, because {'; '.join(self.reasons)}{also}"
        return f"comparable{also}" if self.is_known else f"protocol unknown{also}"


def comparability(theirs: Published, ours: Ours) -> Comparability:
    """Compare two protocols: split, pixels, backbone, base classes, recipe, selection, use of the queries.

    >>> one = Published("mini-5w1s", "top1", "X", "ResNet12", .6, None, "", "s", "", False, Habits(84, 15))
    >>> comparability(one, Ours("mini-5w1s", "top1", "x", "resnet12", 84, 15)).sentence
    'comparable (pixels not stated; ours by the recipe clean; it prints no interval)'
    """
    reasons = [
        f"other split or shots ({theirs.setting})" if ours.setting not in theirs.settings else "",
        f"other metric ({theirs.metric})" if theirs.metric != ours.metric else "",
        *_images_and_model(theirs, ours),
        *_training(theirs, ours),
    ]
    n_query = theirs.habits.n_query
    caveats = [
        f"{n_query} queries per class, ours {ours.n_query}" if n_query not in (None, ours.n_query) else "",
        "input size not stated" if theirs.image_size is None else "",
        "pixels not stated" if theirs.is_protocol_known and not theirs.pipeline else "",
        f"ours by the recipe {ours.recipe}" if ours.recipe != "as-published" else "",
        "it prints no interval" if theirs.half_width is None else "",
    ]
    return Comparability(tuple(filter(None, reasons)), tuple(filter(None, caveats)), theirs.is_protocol_known)


def _images_and_model(theirs: Published, ours: Ours) -> list[str]:
    size, backbone = theirs.image_size, backbone_name(theirs.backbone)
    return [
        f"other input size ({size} pixels, ours {ours.image_size})" if size not in (None, ours.image_size) else "",
        f"other pixels (pipeline {theirs.pipeline}, ours {ours.pipeline})" if ours.pipeline and theirs.pipeline not in ("", ours.pipeline) else "",
        f"other backbone ({theirs.backbone}, ours {ours.backbone})" if backbone != ours.backbone else "",
        "tested on box-cropped images" if "box-cropped" in theirs.note else "",
    ]  # fmt: skip


def _training(theirs: Published, ours: Ours) -> list[str]:
    badges = set(ours.badges) - (
        {"extra data"} if theirs.metric == "top1/test" else set()
    )  # theirs start from ImageNet
    selected, transductive = bool(theirs.habits.selection), theirs.is_transductive
    return [
        "other base classes (train + validation)" if _BOTH in theirs.note and "-trainval-" not in ours.setting else "",
        "theirs was selected on test classes" if selected and "test-selected" not in badges else "",
        "ours was selected on test classes" if "test-selected" in badges and not selected else "",
        "theirs is transductive" if transductive and "transductive" not in badges else "",
        "ours is transductive" if "transductive" in badges and not transductive else "",
        *(f"ours has the badge `{badge}`" for badge in ("leak", "extra data", "rehearsal") if badge in badges),
        "ours has the badge `resized`" if "resized" in badges and theirs.image_size is None else "",
    ]  # fmt: skip


def printed_as(called: str, values: Mapping[str, Any]) -> str:
    """How papers print a method: what its features were trained with, or a hyper-parameter, may be part of the name.

    Args:
        called: ours, such as ``tim`` or ``lowshot-logistic[sgm]``.
        values: its hyper-parameters.

    >>> printed_as("lowshot-logistic[none]", {}), printed_as("deepemd", {"variant": "grid"}), printed_as("tim[softmax]", {"solver": "gd"})
    ('Baseline / Baseline', 'deepemd-grid', 'tim-gd')
    """
    name, _, on = called.removesuffix("]").partition("[")
    if name in _PHASE and on in _REPRESENTATION:
        return f"{_REPRESENTATION[on]} / {_PHASE[name]}"
    if name == "rfs":
        return "rfs-distill" if values.get("generation") else "rfs-simple"
    if name == "meta-baseline" and values.get("epochs") == 0:
        return "classifier-baseline"
    part = values.get({"deepemd": "variant", "tim": "solver"}.get(name, ""))
    return f"{name}-{part}" if part else name


def matching(ours: Ours, ledger: tuple[Published, ...] | None = None) -> list[Published]:
    """Find published numbers of the same method, setting and metric; those with our backbone first."""
    name = _letters(ours.method)
    spellings = {name} | _SPELLING.get(name, set())
    found = [
        entry for entry in ledger_of(ours.setting, ledger)
        if entry.metric == ours.metric and _letters(entry.method) in spellings
    ]  # fmt: skip
    return sorted(found, key=lambda e: (backbone_name(e.backbone) != ours.backbone, e.source, e.backbone))


def ledger_of(setting: str, ledger: tuple[Published, ...] | None = None) -> list[Published]:
    """Every published number of a setting, in the order of the ledger."""
    if ledger is None:
        return list(_by_setting().get(setting, ()))
    return [entry for entry in ledger if setting in entry.settings]


@cache
def _by_setting() -> dict[str, list[Published]]:
    found: dict[str, list[Published]] = {}
    for entry in read():
        for setting in dict.fromkeys(entry.settings):
            found.setdefault(setting, []).append(entry)
    return found


@cache
def read(path: Path = LEDGER) -> tuple[Published, ...]:
    """Read the ledger."""
    with path.open(newline="") as file:
        return tuple(_entry(row) for row in csv.DictReader(file))


def place(benchmark: str) -> tuple[str, str]:
    """Give our setting and metric for an id of the ledger.

    >>> place("mini2cub-5w5s-dir2"), place("imagenet_lowshot-novel-top5-n1")
    (('mini-cub-5w5s-dir2', 'top1'), ('imagenet-lowshot-n1', 'top5/novel'))
    """
    low_shot = _LOW_SHOT.fullmatch(benchmark)
    if low_shot:
        return f"imagenet-lowshot-{low_shot['n']}", f"{low_shot['top']}/{low_shot['group']}"
    if benchmark.endswith("-closed"):
        return benchmark, "top1/test"
    name, way_shot, marginal = _EPISODIC.fullmatch(benchmark).groups("")  # type: ignore[union-attr]
    return f"{_BENCHMARK.get(name, name)}-{way_shot}{marginal}", "top1"


def backbone_name(printed: str) -> str:
    """Give our name of a backbone as printed; what is unknown stays as it is, in lower case.

    >>> backbone_name("ResNet-12"), backbone_name("Conv64F†"), backbone_name("ViT-small")
    ('resnet12', 'conv4', 'vit-small')
    """
    plain = _letters(printed.partition("(")[0])
    return _BACKBONE.get(plain, printed.lower())


def _entry(row: dict[str, str]) -> Published:
    setting, metric = place(row["benchmark"])
    method, quoted = re.subn(r" \(reported by its paper\)$", "", row["method"])
    source = row["source"].removeprefix("readme:").removesuffix(" README")
    owner = "/".join(source.split()[0].split("/")[:2])
    is_quoted = bool(quoted) or "as quoted" in row["note"] or row["note"].startswith("Reported")
    habits = Habits() if is_quoted else _HABITS.get(owner, Habits())  # a quoted paper has its own
    return Published(
        setting, metric, method, row["backbone"], float(row["accuracy"]) / 100,
        float(row["ci95"]) / 100 if row["ci95"] else None, row["episodes"], source, row["note"],
        is_quoted, habits,
    )  # fmt: skip


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
