"""What a user may say about a run, declared once: the words of ``run`` and ``tune``, and the command that makes a run again.

Each field of ``Request`` is an option. Those that are a field of the specification take its default from there; for the
others ``back`` reads from a specification what would have to be typed.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args, get_type_hints

from harness.errors import ConfigError, FsbenchError, nearest
from harness.images.augmentations import ORIGINALS, is_cropped
from harness.method.recipe import CLEAN, Conditions, CropsFrom, SelectionRole
from harness.runs.spec import Precision, RunSpec, Tuning
from harness.system.text import plain_text, value_text

WEIGHTS_FILE = "FILE"  # stands for a file whose name no specification holds
FAMILY = "family"  # the augmentation of the pipeline's family, typed over that of a recipe


class Usual(NamedTuple):
    """What a benchmark asks for; None when it no longer exists."""

    backbone: str | None = None
    pipeline: str | None = None
    image_size: int | None = None
    is_leak: bool = False


def usual(spec: RunSpec) -> Usual:
    """What is usual for the benchmark of a run, and whether its novel classes were seen in training."""
    from harness import benchmarks
    from harness.benchmarks import leaks

    try:
        benchmark = benchmarks.load(spec.setting).benchmark
    except FsbenchError:
        return Usual()
    is_leak = bool(leaks.of_run(spec.seen, benchmark, spec.started_from))
    return Usual(benchmark.backbone, benchmark.pipeline, benchmark.image_size, is_leak)


def option(word: str, help: str, *, sets: str = "", default: Any = None, choices: Any = None, are_files: bool = False,
           back: Callable[[RunSpec, Usual], Any] | None = None) -> Any:  # fmt: skip
    """Declare an option.

    Args:
        word: what is typed.
        help: what it means.
        sets: the field of the specification that takes the value as it is.
        default: where there is no such field.
        choices: a ``Literal`` of allowed values.
        are_files: whether the values are paths, one a word, since a path may hold commas.
        back: from a specification and what is usual to the value that was given; the default where none was.
    """
    if sets:
        default = next(f.default for f in dataclasses.fields(RunSpec) if f.name == sets)
    known = get_args(choices)
    metadata = {
        "word": word, "help": help, "sets": sets, "choices": known, "are_files": are_files, "back": back,
    }  # fmt: skip
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _is_clean(spec: RunSpec) -> bool:
    """Whether what is not typed is the benchmark's; else it is all typed, since a recipe may be changed."""
    return spec.recipe == CLEAN


def _crops_from(spec: RunSpec) -> str | None:
    if not is_cropped(spec.augmentation or spec.pipeline):
        return None
    return {0: "stored", ORIGINALS: "originals"}.get(
        spec.cut_from, "map"
    )  # what is usual depends on the pictures


def _given(spec: RunSpec, _: Usual) -> dict[str, str]:
    return {name: _written(v.value) for name, v in sorted(spec.config.items()) if v.origin == "--set"}


def _written(value: Any) -> str:
    return ",".join(map(_written, value)) if isinstance(value, list) else str(value)


@dataclass(frozen=True)
class Request:
    """What a user may say about a run beside method, setting and seed.

    Raises:
        ConfigError: when a value is not one of its choices.
    """

    overrides: Mapping[str, str] = option(
        "--set", "Hyper-parameter: key=value; may be repeated.", default={}, back=_given
    )
    n_episodes: int | None = option(
        "--episodes",
        "Only the first so many episodes (default: the benchmark's count).",
        back=lambda spec, _: spec.n_episodes,
    )
    backbone: str | None = option(
        "--backbone",
        "Another backbone than the benchmark's.",
        back=lambda spec, usual: None if spec.backbone in ("none", usual.backbone) else spec.backbone,
    )
    recipe: str = option(
        "--recipe",
        "clean, or another that the method has: as-published. What is typed beside it wins.",
        sets="recipe",
    )
    precision: Precision = option(
        "--precision", "fp32, bf16 or fp16, of training and embedding.", sets="precision", choices=Precision
    )
    pipeline: str | None = option(
        "--pipeline",
        "Another image pipeline than the benchmark's.",
        back=lambda spec, usual: (
            None if _is_clean(spec) and usual.pipeline in (None, spec.pipeline) else spec.pipeline
        ),
    )
    augmentation: str | None = option(
        "--augmentation",
        "Of every training batch, like padded4-jitter-flip or none (default: that of the pipeline, where the method asks).",
        back=lambda spec, _: spec.augmentation or (None if _is_clean(spec) else FAMILY),
    )
    n_images: int | None = option(
        "--images",
        "Training images: the epochs of every training are fitted to them, and it ends when they were seen.",
        back=lambda spec, _: spec.budget or None,
    )
    world_size: int = option(
        "--gpus",
        "Train in so many processes, a GPU each: divides batches, part of what a run is.",
        sets="world_size",
    )
    weights: tuple[Path, ...] = option(
        "--weights",
        "Official checkpoint to import in place of a training, of a head in place of that of its features; needs --seen. "
        "Again for a head's own: generator.tar.",
        default=(),
        are_files=True,
        back=lambda spec, _: (Path(WEIGHTS_FILE),) * len(spec.imported),
    )
    seen: tuple[str, ...] = option(
        "--seen",
        "What --weights were trained on: mini, tiered:validation, imagenet, …, or unknown.",
        sets="seen",
    )
    allow_leak: bool = option(
        "--allow-leak",
        "Run although novel classes were seen in training; gives a badge.",
        default=False,
        back=lambda _, usual: usual.is_leak,
    )
    select_on: str | None = option(
        "--select-on",
        "novel chooses the checkpoint as some papers did, and the row is badged test-selected (default: validation).",
        choices=SelectionRole,
        back=lambda spec, _: None if _is_clean(spec) and spec.select_on == "validation" else spec.select_on,
    )
    tuning: Tuning = option(
        "--tuning",
        "What the values were chosen on: none, support-CV, validation or novel; shown with the row and in exports.",
        sets="tuning",
        choices=Tuning,
    )
    is_compiled: bool = option(
        "--compile", "Pass the backbone through torch.compile; pays on a GPU.", sets="is_compiled"
    )
    crops_from: str | None = option(
        "--crops-from",
        "Cut random training crops from the stored squares, a map of larger whole pictures, or the originals (default, if kept).",
        choices=CropsFrom,
        back=lambda spec, _: _crops_from(spec),
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            known, value = field.metadata["choices"], getattr(self, field.name)
            if known and value is not None and value not in known:
                raise ConfigError(
                    f"{field.metadata['word']} {value}: known are {', '.join(known)}.{nearest(value, known)}"
                )

    def as_fields(self) -> dict[str, Any]:
        """Fields of the specification that take a value as it was typed."""
        return {
            f.metadata["sets"]: getattr(self, f.name) for f in dataclasses.fields(self) if f.metadata["sets"]
        }

    @property
    def conditions(self) -> Conditions:
        """What was typed of the conditions that a recipe may set, too."""
        return Conditions(
            pipeline=self.pipeline,
            augmentation=self.augmentation,
            crops_from=cast("CropsFrom | None", self.crops_from),
            select_on=cast("SelectionRole | None", self.select_on),
            n_episodes=self.n_episodes,
            n_images=self.n_images,
        )

    def words(self) -> list[str]:
        """What has to be typed for it: the options that are not at their defaults."""
        return [word for f in dataclasses.fields(self) for word in _words(f, getattr(self, f.name))]


def words() -> dict[str, dataclasses.Field[Any]]:
    """Word, without its dashes → option."""
    return {field.metadata["word"].removeprefix("--"): field for field in dataclasses.fields(Request)}


def read(given: Mapping[str, Any], where: str = "") -> Request:
    """A request by its words, with values as they are typed, stand in a TOML file or are given in Python.

    Args:
        given: word → value, such as ``{"episodes": 600, "set": {"lr": 0.1}}``; None says nothing.
        where: what a message has before the word.

    Raises:
        ConfigError: for a value of another kind, or that is not one of the option's choices.
    """
    known, hints = words(), get_type_hints(Request)
    read = {
        known[word].name: _read(f"{where}{word}", value, known[word], hints[known[word].name])
        for word, value in given.items()
        if value is not None
    }
    return Request(**read)


def _read(where: str, value: Any, field: dataclasses.Field[Any], hint: Any) -> Any:
    if field.default is dataclasses.MISSING:
        return overrides(where, value)
    if field.metadata["are_files"]:
        each = value if isinstance(value, list | tuple) else [value]
        return tuple(one if isinstance(one, Path) else Path(plain_text(where, one)) for one in each)
    if isinstance(field.default, tuple):
        return tuple(texts(where, value))
    if isinstance(field.default, bool):
        if not isinstance(value, bool):
            raise ConfigError(f"{where} must be true or false.")
        return value
    if hint in (int, int | None):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ConfigError(f"{where} must be a whole number from 1 on.")
        return int(value)
    return plain_text(where, value)


def overrides(where: str, given: Any) -> dict[str, str]:
    """Hyper-parameters as texts, of a table of values or of ``key=value`` texts.

    Raises:
        ConfigError: for anything else.
    """
    if isinstance(given, Mapping):
        return {str(name): value_text(f"{where} {name}", value) for name, value in given.items()}
    if not isinstance(given, list | tuple):
        raise ConfigError(f"{where} must be a table, like {where.split()[-1]} = {{lr = 0.01}}.")
    if wrong := [text for text in given if "=" not in text]:
        raise ConfigError(f"{where} {wrong[0]}: expected key=value, like --set lr=0.01.")
    return {key.strip(): value.strip() for key, _, value in (text.partition("=") for text in given)}


def texts(where: str, value: Any) -> list[str]:
    """A list of values, or a text with commas between them.

    Raises:
        ConfigError: when one is neither a plain text nor a number.
    """
    if isinstance(value, list | tuple):
        return [value_text(where, entry) for entry in value]
    return [part.strip() for part in value_text(where, value).split(",")]


def request_of(spec: RunSpec) -> Request:
    """What was said of a run, as far as it decides the counts; the file of imported weights is not known any more."""
    known = usual(spec)
    return Request(
        **{
            f.name: getattr(spec, f.metadata["sets"])
            if f.metadata["sets"]
            else f.metadata["back"](spec, known)
            for f in dataclasses.fields(Request)
        }
    )


def command(spec: RunSpec, seeds: Sequence[int] = ()) -> str:
    """The shell command that makes a run again; or the runs of other seeds."""
    if spec.is_scored:
        words = ["fsbench", "score", "FILE", "--bench", spec.setting, "--name", spec.method.name]
        return shlex.join([*words, "--seed", str(spec.seed)])
    from harness.benchmarks.settings import (
        with_queries,
    )  # loads numpy, which the words of the command line do without

    setting = spec.setting if _is_clean(spec) else with_queries(spec.setting, spec.n_query)
    return run_command(spec.method.reference, setting, seeds or [spec.seed], request_of(spec))


def threads_told(provenance: Mapping[str, Any]) -> str:
    """What to type before a command so that it has as many threads as a training had; empty where that is not known."""
    told = provenance.get("training") or provenance
    threads = told.get("threads") if told.get("device_type") == "cpu" else None
    return f"OMP_NUM_THREADS={threads} MKL_NUM_THREADS={threads} " if threads else ""


def run_command(method: str, setting: str, seeds: Sequence[int], request: Request) -> str:
    """What to type for some runs."""
    named = ["--method", method, "--bench", setting, "--seeds", ",".join(map(str, seeds))]
    return shlex.join(["fsbench", "run", *named, *request.words()])


def _words(field: dataclasses.Field[Any], value: Any) -> list[str]:
    word = field.metadata["word"]
    if isinstance(value, Mapping):
        return [part for key, text in value.items() for part in (word, f"{key}={text}")]
    if value == field.default:
        return []
    if isinstance(value, bool):
        return [word]
    if field.metadata["are_files"]:
        return [part for path in value for part in (word, str(path))]
    return [word, ",".join(value) if isinstance(value, tuple) else str(value)]
