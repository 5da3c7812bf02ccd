"""Benchmarks and their settings: who is base, validation and novel, and which episodes are asked.

A benchmark is a file in ``benchmarks/``; its class counts come from a split file, so episode lists are known
before any image is there.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.benchmarks import closed, sampling
from harness.benchmarks.episodes import AnyList, ClosedList
from harness.benchmarks.experiments import N_EXPERIMENTS, JointClasses
from harness.benchmarks.roles import Role as Role
from harness.benchmarks.roles import read_joint, read_role
from harness.errors import ConfigError, DataError, nearest
from harness.system.folders import benchmarks_folder, places

if TYPE_CHECKING:
    from harness.images.roles import RoleClasses
    from harness.images.stores import ImageStore

FOLDER = benchmarks_folder()
RoleName = Literal["base", "validation", "novel"]
ROLES: tuple[RoleName, ...] = ("base", "validation", "novel")
_AMBIGUOUS = FOLDER / "ambiguous.toml"
_closed: list[bool] = []  # not a context variable: threads started by a method must meet it too
_SETTING = re.compile(r"(?P<stem>.+)-(?P<way>\d+)w(?P<shot>\d+)s(?P<rest>(-[a-z0-9]+)*)")
_DIRICHLET = re.compile(r"dir(?P<alpha>[1-9])")
_ALL = "qall"
_N_ALL = 1_000  # episodes of a list that asks all images: each has hundreds of queries
_JOINT_SETTING = re.compile(r"(?P<key>.+)-n(?P<shot>\d+)")


@dataclass(frozen=True)
class Benchmark:
    """Images, roles and rules that make numbers comparable; a file in ``benchmarks/``.

    Attributes:
        name, variant: ``omniglot-lake`` and ``small1``: the setting is ``omniglot-lake-20w1s-small1``.
        title, about: for people.
        roles: base, novel and, where there is one, validation.
        image_size, channels, pipeline, backbone: defaults of the benchmark; channels 0 takes what the set has.
        seed: of the episode lists.
        n_query, n_episodes: per class; the field's standard count.
        n_query_dirichlet: mean queries per class of the unbalanced lists ("-dir2"); None for ``n_query``. Smaller where
            classes have few images.
        standard: the settings listed by ``fsbench benchmarks``, like "5w1s".
        n_seeds: trainings of each row that were planned before looking (STATISTICS s.9); None for the usual number.
        fixed_episodes: "sampled", or "groups" where published episodes are the groups of the novel set.
        protocol: "episodic"; "joint": base and novel classes are asked together, and a setting is named by n; "closed":
            all test images of the classes trained on are asked, in one setting, named as the benchmark.
        joint: its classes, where the protocol is joint.
        folder: where its file is.
    """

    name: str
    title: str
    about: str
    roles: Mapping[str, Role]
    image_size: int
    channels: int
    pipeline: str
    backbone: str
    seed: int
    n_query: int
    n_episodes: int
    standard: tuple[str, ...]
    variant: str = ""
    n_seeds: int | None = None
    fixed_episodes: Literal["sampled", "groups"] = "sampled"
    n_query_dirichlet: int | None = None
    protocol: str = "episodic"
    joint: JointClasses | None = None
    folder: Path = FOLDER

    @property
    def is_closed(self) -> bool:
        """Whether its protocol is the closed-set one."""
        return self.protocol == "closed"

    @property
    def key(self) -> str:
        """Name and variant, unique among benchmarks."""
        return f"{self.name}-{self.variant}" if self.variant else self.name

    def setting(
        self,
        way: int,
        shot: int,
        n_query: int | None = None,
        list_seed: int | None = None,
        marginal: str = "",
    ) -> Setting:
        """One way × shot of this benchmark."""
        return Setting(
            self, way, shot, n_query or self.usual_queries(way, shot, marginal), list_seed, marginal
        )

    def usual_queries(self, way: int, shot: int, marginal: str) -> int:
        """Queries per class unless a setting says otherwise; where all images are asked, those of the largest class."""
        if marginal == _ALL:
            return int(self.roles["novel"].counts.max()) - shot
        return (self.n_query_dirichlet if marginal else None) or self.n_query

    def unbalanced(self) -> tuple[Setting, ...]:
        """The standard settings with queries by the Dirichlet(2) rule; none where episodes are published or joint."""
        if self.joint or self.fixed_episodes == "groups":
            return ()
        return tuple(self.setting(s.way, s.shot, marginal="dir2") for s in self.settings())

    def settings(self) -> tuple[Setting, ...]:
        """The standard settings."""
        if self.is_closed:
            return (self.setting(len(self.roles["base"].classes), 0),)
        if self.joint:
            return tuple(self.at(int(text.removeprefix("n"))) for text in self.standard)
        pairs = (re.fullmatch(r"(\d+)w(\d+)s", text) for text in self.standard)
        return tuple(self.setting(int(m[1]), int(m[2])) for m in pairs if m)

    def at(self, n: int) -> Setting:
        """The setting of the joint protocol with n images of each novel class."""
        assert self.joint is not None, f"{self.key} is not joint"
        return self.setting(len(self.joint.counts), n)

    def test_images(self) -> ClosedList:
        """The list of the closed-set protocol: test images, and the training images that go with them."""
        return closed.test_images(self.roles, self.seed)

    def open(
        self, role: RoleName, data_home: Path, pipeline: str | None = None, image_size: int | None = None
    ) -> ImageStore:
        """Open the images of one role; of the joint and the closed protocol's "novel" all images of all classes.

        Raises:
            DataError: when the set is not prepared, saying how, or does not hold what the split lists.
        """
        from harness.images.prepare import ensure

        if role == "novel" and _closed:
            raise DataError("Novel images are not open while a method trains on base classes.")
        part = self.roles[role]
        counts, names, images = part.counts, list(part.classes), part.taken
        if self.joint and role == "novel":
            counts, names, images = self.joint.counts, [*self.joint.base, *self.joint.novel], None
        if self.is_closed and role == "novel":
            counts = closed.whole(self.roles)
            images = [slice(0, n) for n in counts.tolist()]
        store = ensure(part.dataset, data_home).select(
            names,
            pipeline or self.pipeline,
            image_size or self.image_size,
            images=images,
            rotations=part.rotations,
        )
        if not np.array_equal(store.counts, counts):
            raise DataError(
                f"The prepared set `{part.dataset}` does not hold the images that the split of {self.key} lists for its "
                f"{role} classes. `fsbench verify {part.dataset}` says what is missing."
            )
        if self.channels not in (0, store.shape[2]):
            raise DataError(
                f"{self.key} has {self.channels} channels; the prepared set `{part.dataset}` has {store.shape[2]}."
            )
        return store

    def open_with_validation(self, data_home: Path, pipeline: str, image_size: int) -> ImageStore:
        """Open base and validation classes as one; where base classes are turned, the others are too.

        Raises:
            ConfigError: when there are no validation classes, or they are not other classes of the same data set.
        """
        from harness.images.prepare import ensure

        base, other = self.roles["base"], self.roles.get("validation")
        is_alike = other is not None and (other.dataset, other.images) == (base.dataset, base.images)
        if other is None or not is_alike or set(other.classes) & set(base.classes):
            raise ConfigError(
                f"{self.key} has no validation classes that could be trained on after the length is settled: "
                + ("there are none." if other is None else "its validation images are not of other classes.")
            )
        return ensure(base.dataset, data_home).select(
            [*base.classes, *other.classes],
            pipeline,
            image_size,
            images=slice(*base.images) if base.images else None,
            rotations=base.rotations,
        )


@dataclass(frozen=True)
class Setting:
    """A benchmark at one way and shot; the unit of a leaderboard column.

    Attributes:
        benchmark: the benchmark.
        way, shot: classes per episode, support images per class.
        n_query: queries per class.
        list_seed: seed of another evaluation list ("-e3"); None for the benchmark's own.
        marginal: "" for equally many queries of each class; "dir2" for numbers of them by the Dirichlet(2) rule of
            Veilleux et al.; "qall" for all images that are not support. Support and classes are the same in all three.
        is_query_typed: whether the name said how many queries ("-q15", "-qall").
    """

    benchmark: Benchmark
    way: int
    shot: int
    n_query: int
    list_seed: int | None = None
    marginal: str = ""
    is_query_typed: bool = field(default=False, compare=False)

    @property
    def name(self) -> str:
        """``mini-5w1s``, and what differs from the benchmark's rule: ``mini-5w1s-q16``; jointly ``glyphs-lowshot-n1``."""
        b = self.benchmark
        if b.is_closed:
            return b.key
        if b.joint:
            return f"{b.key}-n{self.shot}"
        usual = b.usual_queries(self.way, self.shot, self.marginal)
        parts = [b.name, f"{self.way}w{self.shot}s", b.variant, self.marginal]
        parts += [f"q{self.n_query}" if self.n_query != usual else ""]
        parts += [f"e{self.list_seed}" if self.list_seed is not None else ""]
        return "-".join(p for p in parts if p)

    @property
    def n_episodes(self) -> int:
        """The number evaluated unless ``--episodes`` says otherwise."""
        return min(self.benchmark.n_episodes, self.list_length)

    @property
    def list_length(self) -> int:
        """Episodes in the whole list; experiments, or test images, of other protocols."""
        if self.benchmark.joint:
            return N_EXPERIMENTS
        if self.benchmark.is_closed:
            return int(self.benchmark.roles["novel"].counts.sum())
        if self.benchmark.fixed_episodes == "groups":
            return len(self.benchmark.roles["novel"].counts) // self.way
        return _N_ALL if self.marginal == _ALL else sampling.LIST_LENGTH

    @property
    def balanced(self) -> Setting:
        """The benchmark's own setting with equally many queries of each class: the one with the same support."""
        return self.benchmark.setting(self.way, self.shot, list_seed=self.list_seed)

    @property
    def digest(self) -> str:
        """sha256 of the whole list: the locked one where there is one (the list is checked when it is drawn)."""
        return locked_digests().get(self.name) or self.episodes.digest

    @cached_property
    def episodes(self) -> AnyList:
        """The whole list, checked against ``benchmarks/episodes.lock`` where it is locked.

        Raises:
            DataError: when this setting cannot be sampled, or the list is not the locked one.
        """
        drawn = self._draw()
        locked = locked_digests().get(self.name)
        if locked is not None and drawn.digest != locked:
            raise DataError(
                f"The episode list of {self.name} has digest {drawn.digest[:12]}, but benchmarks/episodes.lock "
                f"says {locked[:12]}. The split file or the sampler was changed; restore it, or give the new "
                "benchmark a new name."
            )
        return drawn

    def _draw(self) -> AnyList:
        b, novel = self.benchmark, self.benchmark.roles["novel"]
        if b.joint:
            return b.joint.experiments(self.shot, b.seed)
        if b.is_closed:
            return b.test_images()
        if self.marginal:
            return self._unbalanced()
        if b.fixed_episodes == "groups":
            groups = [name.rpartition("/")[0] for name in novel.classes]
            drawn = sampling.one_per_group(novel.counts, groups, self.shot)
            if drawn.n_way != self.way or drawn.query.shape[2] != self.n_query:
                raise DataError(f"{b.key} has published episodes: {b.standard[0]} is its only setting.")
            return drawn
        return sampling.sample(novel.counts, self.way, self.shot, self.n_query, self.list_length, self._seed)

    def _unbalanced(self) -> AnyList:
        b, counts = self.benchmark, self.benchmark.roles["novel"].counts
        if b.fixed_episodes == "groups":
            raise DataError(f"{b.key} has published episodes: {b.standard[0]} is its only setting.")
        balanced = sampling.sample(counts, self.way, self.shot, b.n_query, self.list_length, self._seed)
        if self.marginal == _ALL:
            return sampling.all_remaining(balanced, counts)
        return sampling.unbalanced(balanced, counts, self.n_query, int(self.marginal[3:]), self._seed)

    @property
    def _seed(self) -> int:
        seed = self.benchmark.seed
        return seed if self.list_seed is None else seed + 1_000_003 * (self.list_seed + 1)


def named(key: str) -> Benchmark:
    """Find a benchmark by its name and variant, as specifications name it.

    Raises:
        ConfigError: when there is none any more.
    """
    found = next((b for b in every() if b.key == key), None)
    if found is None:
        raise ConfigError(f"`{key}` is not a benchmark.{nearest(key, [b.key for b in every()])}")
    return found


def load(name: str) -> Setting:
    """Find a setting by name.

    Raises:
        ConfigError: with the nearest names.

    >>> load("glyphs-5w1s").name
    'glyphs-5w1s'
    """
    match = _SETTING.fullmatch(name)
    table = {(b.name, b.variant): b for b in every()}
    if whole := next((b for b in every() if b.is_closed and b.key == name), None):
        return whole.settings()[0]
    if match:
        query = list_seed = None
        variant, marginal = [], ""
        for part in filter(None, match["rest"].split("-")):
            if _DIRICHLET.fullmatch(part) or part == _ALL:
                marginal = part
            elif re.fullmatch(r"q\d+", part):
                query = int(part[1:])
            elif re.fullmatch(r"e\d+", part):
                list_seed = int(part[1:])
            else:
                variant.append(part)
        benchmark = table.get((match["stem"], "-".join(variant)))
        if benchmark and (benchmark.joint or benchmark.is_closed):
            what = "all classes jointly" if benchmark.joint else "all test images of the classes trained on"
            raise ConfigError(f"`{name}`: {benchmark.key} asks {what}; its settings are {_names(benchmark)}.")
        if benchmark:
            n_query = None if marginal == _ALL else query
            found = benchmark.setting(int(match["way"]), int(match["shot"]), n_query, list_seed, marginal)
            return replace(found, is_query_typed=bool(query is not None or marginal))
        if match["stem"] in ambiguous():
            raise ConfigError(f"`{name}` is not one setting: {ambiguous()[match['stem']]}")
    if jointly := _JOINT_SETTING.fullmatch(name):
        joint = next((b for b in every() if b.joint and b.key == jointly["key"]), None)
        if joint:
            return _at(joint, int(jointly["shot"]))
    known = standard_names()
    raise ConfigError(
        f"`{name}` is not a setting.{nearest(name, known)} A setting is BENCHMARK-<way>w<shot>s, like "
        f"{known[0]}; `fsbench benchmarks` lists them all."
    )


def _at(benchmark: Benchmark, n: int) -> Setting:
    assert benchmark.joint is not None
    if not 1 <= n <= benchmark.joint.most_shots:
        raise ConfigError(
            f"`{benchmark.key}-n{n}`: its experiments draw 1 to {benchmark.joint.most_shots} images of each novel "
            f"class. Settings: {_names(benchmark)}."
        )
    return benchmark.at(n)


def _names(benchmark: Benchmark) -> str:
    return ", ".join(setting.name for setting in benchmark.settings())


def with_queries(name: str, n_query: int) -> str:
    """The name of an episodic setting that also says how many queries a class has.

    >>> with_queries("mini-5w1s", 15), with_queries("mini-5w1s-q16", 16), with_queries("glyphs-lowshot-n1", 5)
    ('mini-5w1s-q15', 'mini-5w1s-q16', 'glyphs-lowshot-n1')
    >>> with_queries("of-yesterday-5w1s-qall", 9), with_queries("of-yesterday-5w1s-e3", 9)
    ('of-yesterday-5w1s-qall', 'of-yesterday-5w1s-e3-q9')
    """
    match = _SETTING.fullmatch(name)
    if match is None or re.search(r"-(q\d+|qall|dir\d+)(-|$)", match["rest"]):
        return name
    return f"{name}-q{n_query}"


def expand(pattern: str) -> list[Setting]:
    """Find the settings that a name or a glob means: over the standard names, or over those of the unbalanced lists.

    A glob that ends in "-dir2" means the latter.

    Raises:
        ConfigError: when nothing matches.
    """
    if not any(c in pattern for c in "*?["):
        return [load(pattern)]
    import fnmatch

    known = unbalanced_names() if pattern.endswith("-dir2") else standard_names()
    found = [name for name in known if fnmatch.fnmatchcase(name, pattern)]
    if not found:
        raise ConfigError(f"No setting matches `{pattern}`. `fsbench benchmarks` lists them all.")
    return [load(name) for name in found]


def standard_names() -> list[str]:
    """Names of all standard settings, sorted by benchmark."""
    return [setting.name for benchmark in every() for setting in benchmark.settings()]


def unbalanced_names() -> list[str]:
    """Names of the standard settings with queries by the Dirichlet(2) rule."""
    return [setting.name for benchmark in every() for setting in benchmark.unbalanced()]


@contextmanager
def novel_closed() -> Iterator[None]:
    """Refuse, in the whole process, to open novel images meanwhile: training must not see them."""
    _closed.append(True)
    try:
        yield
    finally:
        _closed.pop()


@cache
def every() -> tuple[Benchmark, ...]:
    """Every benchmark of ``benchmarks/*.toml``, sorted by file name, then the user's own."""
    paths = [
        p for folder in (FOLDER, user_folder()) for p in sorted(folder.glob("*.toml")) if p != _AMBIGUOUS
    ]
    return tuple(benchmark for path in paths for benchmark in _read(path))


def roles_of(dataset: str) -> list[RoleClasses]:
    """What the benchmarks want of a data set."""
    from harness.images.roles import RoleClasses

    return [
        RoleClasses(benchmark.key, name, role.classes, role.spans if role.is_part else None)
        for benchmark in every()
        for name, role in benchmark.roles.items()
        if role.dataset == dataset
    ]


def user_folder() -> Path:
    """Where ``fsbench import-folder`` keeps the user's own benchmarks: FSBENCH_DATA/benchmarks."""
    return places().data / "benchmarks"


@cache
def ambiguous() -> Mapping[str, str]:
    """Name that means several benchmarks → what to say, from ``benchmarks/ambiguous.toml``."""
    return {name: entry["says"] for name, entry in tomllib.loads(_AMBIGUOUS.read_text()).items()}


@cache
def locked_digests() -> Mapping[str, str]:
    """Setting → sha256 of its list, from ``benchmarks/episodes.lock`` and the user's own."""
    files = [FOLDER / "episodes.lock", *sorted(user_folder().glob("*.lock"))]
    lines = [line for file in files for line in file.read_text().splitlines()]
    return dict(line.split() for line in lines if line and not line.startswith("#"))


def _read(path: Path) -> Iterator[Benchmark]:
    """One benchmark a file, and one more for each ``[variants.NAME]`` table, which overrides it or goes ``without`` a role."""
    data = tomllib.loads(path.read_text())
    variants: dict[str, dict[str, Any]] = data.pop("variants", {})
    yield _build(data, path)
    for name, changes in variants.items():
        merged = {**data, **changes, "variant": name}
        for role in ROLES:
            if role in changes and role in data:
                merged[role] = {**data[role], **changes[role]}
        for role in merged.pop("without", ()):
            del merged[role]
        yield _build(merged, path)


def _build(data: Mapping[str, Any], path: Path) -> Benchmark:
    fields = dict(data)
    try:
        fields["roles"] = {role: read_role(fields.pop(role), path.parent) for role in ROLES if role in fields}
        if fields.get("protocol") == "closed":
            n_episodes = int(fields["roles"]["novel"].counts.sum())
            fields = {"n_query": 1, "n_episodes": n_episodes, "settings": ["closed"], **fields}
        fields["standard"] = tuple(fields.pop("settings"))
        fields["folder"] = path.parent
        if fields.get("protocol") == "joint":
            fields["joint"] = read_joint(fields, path.parent / "splits")
        return Benchmark(**fields)
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{path}: {error} in the benchmark's definition.") from error
