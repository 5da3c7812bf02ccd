"""A line to print in papers that says what was done: setting, list, images, method, configuration, seeds and version.

After the example of sacreBLEU (Post 2018, "A Call for Clarity in Reporting BLEU Scores"). A number with its signature can
be looked up, compared and made again: ``fsbench show SIGNATURE`` reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote

from harness.errors import ConfigError
from harness.runs.spec import RunSpec

if TYPE_CHECKING:
    from harness.runs.findings import StoredRun

FORMAT = "fsbench1"
NOBODY_SAID = "none"  # in place of a digest or version that was not recorded
_LENGTH = 8  # of a digest, hex digits
_PLAIN = "[](),=+:/"  # beside letters, digits and _.-~; all else is percent-encoded, so that no name breaks the line
_HEX = rf"[0-9a-f]{{{_LENGTH}}}|{NOBODY_SAID}"
_SEED = r"\d{1,9}(?:-\d{1,9})?"
_FORM = re.compile(
    rf"{FORMAT}\|(?P<setting>[^|]+)\|list:(?P<episodes>{_HEX})\|pix:(?P<pixels>{_HEX})\|(?P<method>[^|@]+)@(?P<version>[^|@]*)"
    rf"\|(?P<backbone>[^|]+)\|(?P<recipe>[^|]+)\|cfg:(?P<config>{_HEX})\|seeds:(?P<seeds>{_SEED}(?:,{_SEED})*)"
    r"\|ep:(?P<n_episodes>\d{1,7})\|v(?P<made_by>[^|]+)"
)
_MOST_SEEDS = 10_000
EXAMPLE = "fsbench1|SETTING|list:…|pix:…|METHOD@VERSION|BACKBONE|RECIPE|cfg:…|seeds:0-2|ep:2000|v0.1.0"


class Signature(NamedTuple):
    """What a signature says.

    Attributes:
        setting: its name.
        episodes, pixels: beginnings of the digests of the episode list and of the novel images as they were given.
        method, version: as rows are called, ``tim[softmax]``.
        backbone, recipe: names.
        config: beginning of the digest over all that tells rows of a table apart: hyper-parameters, pixels of all roles,
            precision, what it is built on, … (``FitSpec.row_key``).
        seeds: of the trainings, ascending.
        n_episodes: that the number is a mean over, the first of the list.
        made_by: version of fsbench that made the counts.
    """

    setting: str
    episodes: str
    pixels: str
    method: str
    version: str
    backbone: str
    recipe: str
    config: str
    seeds: tuple[int, ...]
    n_episodes: int
    made_by: str

    def __str__(self) -> str:
        """The line."""
        names = (quote(name, safe=_PLAIN) for name in self[3:5])
        parts = (
            FORMAT, quote(self.setting, safe=_PLAIN), f"list:{self.episodes}", f"pix:{self.pixels}", "@".join(names),
            quote(self.backbone, safe=_PLAIN), quote(self.recipe, safe=_PLAIN), f"cfg:{self.config}",
            f"seeds:{seeds_text(self.seeds)}", f"ep:{self.n_episodes}", f"v{quote(self.made_by, safe=_PLAIN)}",
        )  # fmt: skip
        return "|".join(parts)

    def fits(self, spec: RunSpec) -> bool:
        """Whether a run is one of those that it names, or the same over more episodes."""
        mine = of_specs([spec], spec.n_episodes, "")
        is_same = self[:8] == mine[:8]
        return is_same and spec.seed in self.seeds and spec.n_episodes >= self.n_episodes


def is_meant(text: str) -> bool:
    """Whether a text is meant as a signature, readable or not.

    >>> is_meant("fsbench1|glyphs-5w1s"), is_meant("3dcbe0")
    (True, False)
    """
    return "|" in text


def signature(runs: Sequence[StoredRun], n_episodes: int) -> Signature:
    """Of a row: its runs, one a seed, over their first episodes."""
    versions = (str(run.provenance.get("packages", {}).get("fsbench", "")) for run in runs)
    made_by = ",".join(sorted(set(filter(None, versions))))
    return of_specs([run.spec for run in runs], n_episodes, made_by or NOBODY_SAID)


def of_specs(specs: Sequence[RunSpec], n_episodes: int, made_by: str) -> Signature:
    """Of runs that differ in their seeds alone."""
    spec = specs[0]
    return Signature(
        setting=spec.setting,
        episodes=_beginning(spec.episode_digest),
        pixels=_beginning(spec.data_digest.get("novel", "")),
        method=spec.called,
        version=spec.method.version,
        backbone=spec.backbone,
        recipe=spec.recipe,
        config=_beginning(spec.row_key),
        seeds=tuple(sorted(one.seed for one in specs)),
        n_episodes=n_episodes,
        made_by=made_by,
    )


def read(text: str) -> Signature:
    """Read a signature back; line breaks and blanks that a PDF put in do not matter.

    Raises:
        ConfigError: when it is none, saying what one looks like.
    """
    told = "".join(text.split())
    match = _FORM.fullmatch(told)
    if match is None:
        first = told.partition("|")[0]
        newer = re.fullmatch(r"fsbench(\d+)", first)
        if newer and first != FORMAT:
            raise ConfigError(
                f"`{text:.200}` is a signature of another version ({first}); this fsbench reads {FORMAT}. Install the version "
                "that wrote it."
            )
        raise ConfigError(
            f"`{text:.200}` is no signature: {_first_fault(told)}. One looks like {EXAMPLE}; copy it whole, in quotation marks."
        )
    names = {
        name: unquote(match[name])
        for name in ("setting", "method", "version", "backbone", "recipe", "made_by")
    }
    return Signature(
        **names,
        episodes=match["episodes"],
        pixels=match["pixels"],
        config=match["config"],
        seeds=tuple(sorted(_seeds(match["seeds"]))),
        n_episodes=int(match["n_episodes"]),
    )


def seeds_text(seeds: Iterable[int]) -> str:
    """Write seeds as ``--seeds`` takes them.

    >>> seeds_text([0, 1, 2]), seeds_text([0, 1, 4]), seeds_text([7])
    ('0-2', '0,1,4', '7')
    """
    runs: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    parts = (f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs)
    return ",".join(parts)


def _seeds(text: str) -> set[int]:
    ends = [tuple(map(int, part.split("-"))) for part in text.split(",")]
    if sum(last - first + 1 for first, last in ((e[0], e[-1]) for e in ends)) > _MOST_SEEDS:
        raise ConfigError(f"`seeds:{text:.100}` names more than {_MOST_SEEDS:,} seeds, which no row has.")
    found = {seed for end in ends for seed in range(end[0], end[-1] + 1)}
    if not found or any(last < first for first, last in ((e[0], e[-1]) for e in ends)):
        raise ConfigError(f"`seeds:{text:.100}` names no seeds: a range goes up, like 0-2.")
    return found


def _first_fault(told: str) -> str:
    """Which of its parts is not as it has to be."""
    parts, asked = told.split("|"), EXAMPLE.split("|")
    if len(parts) != len(asked):
        return f"it has {len(parts)} parts between bars, not {len(asked)}"
    for i, (part, like) in enumerate(zip(parts, asked, strict=True)):
        whole = str(_SAMPLE).split("|")
        if not _FORM.fullmatch("|".join([*whole[:i], part, *whole[i + 1 :]])):
            return f"`{part:.60}` stands where `{like}` has to"
    return "its parts do not fit together"


def _beginning(digest: str) -> str:
    """Of a digest, as a signature prints it; external lists may have other names than hex digits.

    >>> _beginning("3F2A" * 16), _beginning("")
    ('3f2a3f2a', 'none')
    """
    found = digest[:_LENGTH].lower()
    return found if re.fullmatch(_HEX, found) else NOBODY_SAID


_SAMPLE = Signature("s", "0" * 8, "0" * 8, "m", "1", "b", "clean", "0" * 8, (0,), 1, "0")
