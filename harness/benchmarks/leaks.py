"""Which classes and pictures a training saw, and which of them a benchmark asks as novel.

Classes are named by the source of their pictures: mini-ImageNet and tieredImageNet are both ImageNet, by WordNet id;
CIFAR-FS and FC100 are both CIFAR-100; Stanford Dogs are ImageNet's training pictures. Across sources 43 pictures are known to be in CUB and in ImageNet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from harness.benchmarks import settings
from harness.benchmarks.settings import ROLES, Benchmark, Role
from harness.errors import ConfigError, nearest
from harness.images.sources import splits

UNKNOWN = "unknown"
CORPORA = {  # what ready-made weights were trained on → how, and what of it is known to be in our benchmarks
    "imagenet1k": ("classes", ("imagenet",)),
    "imagenet22k": ("classes", ("imagenet",)),
    "lvd142m": ("images", ("imagenet", "cub", "flowers", "pets")),
    "wit400m": ("text", ()),
    "laion2b": ("text", ()),
}
_TAGS = {  # in names of ready-made networks, such as vit_small_patch14_dinov2.lvd142m
    "in1k": "imagenet1k",
    "in21k": "imagenet22k",
    "in22k": "imagenet22k",
    "in12k": "imagenet22k",
    "lvd142m": "lvd142m",
    "openai": "wit400m",
    "laion2b": "laion2b",
}
SOURCES = ("imagenet", "cub", "cifar100", "omniglot")
_SOURCE_OF = {
    "mini": "imagenet",
    "tiered": "imagenet",
    "imagenet-lowshot": "imagenet",
    "imagenet-lowshot-features": "imagenet",
    "dogs": "imagenet",
    "cub-bbox": "cub",
    "omniglot-small": "omniglot",
}
_SHOWN = 8


class Sight(NamedTuple):
    """What was seen, or is asked, of one source of pictures.

    Attributes:
        source: "imagenet", "cub", "cifar100", "omniglot", or the data set's own name.
        classes: names of classes; None for all of the source.
        is_mini: whether only mini-ImageNet's 600 pictures of each class are meant.
        dataset, spans: of which prepared set, and by class which of its images, where a role has parts of classes.
    """

    source: str
    classes: frozenset[str] | None
    is_mini: bool = False
    dataset: str = ""
    spans: Mapping[str, tuple[int, int]] | None = None

    def has_class(self, name: str) -> bool:
        """Whether a class of the source is among them."""
        return self.classes is None or name in self.classes

    def has_images_of(self, other: Sight, name: str) -> bool:
        """Whether images of a class that the other has may be among them."""
        if not self.has_class(name):
            return False
        if self.dataset != other.dataset or self.spans is None or other.spans is None:
            return True
        (start, stop), (begin, end) = self.spans[name], other.spans[name]
        return start < end and begin < stop


class Overlap(NamedTuple):
    """What a training saw of the novel classes.

    Attributes:
        classes: novel classes that were trained on, sorted.
        pictures: pictures of other novel classes that were trained on, "in the novel set = in the training set".
    """

    classes: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.classes or self.pictures)

    def __str__(self) -> str:
        told = []
        if self.classes:
            told.append(f"{len(self.classes)} novel classes ({_listed(self.classes)})")
        if self.pictures:
            told.append(f"{len(self.pictures)} pictures of novel classes ({_listed(self.pictures)})")
        return " and ".join(told)


class Duplicate(NamedTuple):
    """One photograph in two sources.

    Attributes:
        wnid, number: in ImageNet, ``<wnid>_<number>.JPEG``.
        bird, file: its class and file in CUB.
    """

    wnid: str
    number: int
    bird: str
    file: str


def sight(role: Role) -> Sight:
    """What a training on the images of a role sees."""
    source, spans = _SOURCE_OF.get(role.dataset, role.dataset), role.spans
    if role.dataset == "dogs":  # n02085620-Chihuahua
        spans = {name.partition("-")[0]: span for name, span in spans.items()}
    parts = spans if role.is_part else None
    return Sight(source, frozenset(spans), role.dataset == "mini", role.dataset, parts)


def overlap(seen: Sequence[Sight], novel: Role) -> Overlap:
    """Compare what was seen with a benchmark's novel classes.

    >>> mini, tiered = (next(b for b in benchmarks.every() if b.key == key) for key in ("mini", "tiered"))
    >>> len(overlap([sight(tiered.roles["base"])], mini.roles["novel"]).classes)
    5
    """
    asked = sight(novel)
    assert asked.classes is not None
    classes = {
        name
        for part in seen
        if part.source == asked.source
        for name in asked.classes
        if part.has_images_of(asked, name)
    }
    pictures = {text for part in seen for text in _pictures(part, asked, classes)}
    return Overlap(tuple(sorted(classes)), tuple(sorted(pictures)))


def of_run(seen: Sequence[str], benchmark: Benchmark, started_from: Sequence[str] = ()) -> Overlap:
    """What a run's training saw of its novel classes.

    Args:
        seen: what imported weights were trained on, as the user says (``--seen``); empty for a training on the
            benchmark's own base classes.
        benchmark: the benchmark.
        started_from: what the weights that the training started from had seen, in the same words.

    Raises:
        ConfigError: for a name that is none.
    """
    parts = [part for name in (*seen, *started_from) for part in named(name)]
    return overlap(parts if seen else [*parts, sight(benchmark.roles["base"])], benchmark.roles["novel"])


def is_more_than_base(seen: Sequence[str], benchmark: Benchmark) -> bool:
    """Whether imported weights were trained on more than the benchmark's base classes.

    Raises:
        ConfigError: for a name that is none.
    """
    base = sight(benchmark.roles["base"])
    return (
        UNKNOWN in seen
        or any(name in CORPORA for name in seen)
        or any(
            part.source != base.source
            or part.classes is None
            or not part.classes <= (base.classes or frozenset())
            for name in seen
            for part in named(name)
        )
    )


def named(name: str) -> list[Sight]:
    """Read a word of ``--seen``.

    Args:
        name: a benchmark (its base classes), ``BENCHMARK:ROLE`` with base, validation, novel or all, a whole
            source (imagenet, cub, cifar100, omniglot), what ready-made networks have seen (imagenet1k, lvd142m, …), or
            "unknown", which names nothing.

    Raises:
        ConfigError: for anything else.
    """
    key, _, role = name.partition(":")
    known = {b.key: b for b in settings.every()}
    if name == UNKNOWN:
        return []
    if key in known and (role or "base") in (*ROLES, "all"):
        roles = known[key].roles
        return [sight(roles[r]) for r in roles if role == "all" or r == (role or "base")]
    if name in SOURCES:
        return [Sight(name, None)]
    if name in CORPORA:
        return [Sight(source, None) for source in CORPORA[name][1]]
    words = [*known, *SOURCES, *CORPORA, UNKNOWN]
    raise ConfigError(
        f"--seen {name} names nothing that weights can be trained on.{nearest(key, words)} Name a benchmark (its base "
        f"classes), BENCHMARK:ROLE with base, validation, novel or all, a whole source ({', '.join(SOURCES)}), what "
        f"ready-made networks have seen ({', '.join(CORPORA)}), or {UNKNOWN}. `fsbench benchmarks` lists the benchmarks."
    )


def told_by(backbone: str) -> tuple[str, ...]:
    """What the name of a ready-made network says that its weights have seen; empty where it says nothing.

    >>> told_by("timm:vit_base_patch16_224.augreg_in21k_ft_in1k"), told_by("conv4")
    (('imagenet1k', 'imagenet22k'), ())
    """
    parts = re.split(r"[._]", backbone.rpartition(":")[2].partition(".")[2])
    return tuple(sorted({_TAGS[part] for part in parts if part in _TAGS}))


def told(seen: Sequence[str]) -> str:
    """What was seen, in words: "lvd142m (images)"."""
    return ", ".join(f"{name} ({CORPORA[name][0]})" if name in CORPORA else name for name in seen)


@cache
def duplicates() -> tuple[Duplicate, ...]:
    """The 43 pictures that are in CUB and in ImageNet, as Meta-Dataset lists them."""
    card = splits.read("cub")
    class_of = {name.partition(".")[2].lower(): name for name in card["all"]}
    found = []
    for picture, file in card["imagenet_duplicates"].items():
        wnid, number = re.fullmatch(r"n\d+/(n\d+)_(\d+)\.JPEG", picture).groups()  # type: ignore[union-attr]
        bird = class_of[re.sub(r"_\d+_\d+\.jpg$", "", file).lower()]
        found.append(Duplicate(wnid, int(number), bird, file))
    return tuple(found)


def _pictures(seen: Sight, asked: Sight, known: set[str]) -> Iterator[str]:
    """Pictures that both sides have under different names, unless their class is told already."""
    if {seen.source, asked.source} != {"imagenet", "cub"}:
        return
    photographs, birds = (seen, asked) if seen.source == "imagenet" else (asked, seen)
    for twin in duplicates():
        own = twin.bird if asked.source == "cub" else twin.wnid
        is_there = not photographs.is_mini or twin.number in _mini_numbers().get(twin.wnid, ())
        if is_there and photographs.has_class(twin.wnid) and birds.has_class(twin.bird) and own not in known:
            names = twin.file, f"{twin.wnid}_{twin.number}.JPEG"
            yield " = ".join(names if asked.source == "cub" else names[::-1])


@cache
def _mini_numbers() -> dict[str, frozenset[int]]:
    return {wnid: frozenset(i.number for i in images) for wnid, images in splits.mini_images().items()}


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return f"{', '.join(names[:_SHOWN])}{f' and {more} more' if more > 0 else ''}"
