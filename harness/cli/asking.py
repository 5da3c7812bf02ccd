"""The options that decide a run, as words of a command: made from the one declaration in ``runs.request``."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_origin, get_type_hints

import typer

from harness.cli.words import split

if TYPE_CHECKING:
    from harness.runs.request import Request


def asks(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of ``Request`` in place of its parameter ``request``."""
    from harness.runs.request import Request

    hints = get_type_hints(Request)
    options = {field.name: field for field in dataclasses.fields(Request)}
    parameters: list[inspect.Parameter] = []
    own = inspect.signature(command, globals={**_globals_of(command), "Request": Request}, eval_str=True)
    for parameter in own.parameters.values():
        if parameter.name != "request":
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        parameters += [_parameter(field, hints[field.name]) for field in options.values()]

    def asked(**given: Any) -> None:
        command(**{k: v for k, v in given.items() if k not in options}, request=read(given))

    asked.__name__, asked.__doc__ = command.__name__, command.__doc__
    asked.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    asked.__annotations__ = {p.name: p.annotation for p in parameters}
    return asked


def read(given: Mapping[str, Any]) -> Request:
    """What the parser found, as a request; words of the command itself are passed over."""
    from harness.runs import request

    return request.read(
        {word: _words(field, given[field.name]) for word, field in request.words().items()}, "--"
    )


def _globals_of(command: Callable[..., None]) -> dict[str, Any]:
    return dict(vars(inspect.getmodule(command)))


def _parameter(field: dataclasses.Field[Any], hint: Any) -> inspect.Parameter:
    """An option as the parser knows it: mappings and tuples are repeated words, choices are plain text."""
    kind, default = hint, field.default
    if get_origin(hint) in (tuple, Mapping):
        kind, default = list[Path] | None if field.metadata["are_files"] else list[str] | None, None
    elif get_origin(hint) is Literal:
        kind = str
    least = 1 if hint is int else None
    word = typer.Option(field.metadata["word"], help=field.metadata["help"], min=least)
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, word]
    )


def _words(field: dataclasses.Field[Any], value: Any) -> Any:
    """Words with commas taken apart, where several values may be typed."""
    are_several = isinstance(field.default, tuple) and not field.metadata["are_files"]
    return split(value) if value and are_several else value
