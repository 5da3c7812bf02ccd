"""The pictures of an episode: what each class was shown with, and which queries were taken for another class."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.runs import EpisodeTable

PNG = re.compile(r"iVBORw0KGgo[A-Za-z0-9+/]*={0,2}")  # the base64 of a PNG, nothing else reaches a page


@dataclass(frozen=True)
class WrongQuery:
    """A query that was given to another class: its picture and the name of that class."""

    source: str
    predicted: str


@dataclass(frozen=True)
class ClassPictures:
    """One class of an episode.

    Attributes:
        name: of the class.
        support: pictures it was shown with, as data addresses.
        wrong: pictured queries of it that were given to another class.
        n_wrong, n_query: all of its queries given to another class, and all of them.
    """

    name: str
    support: tuple[str, ...]
    wrong: tuple[WrongQuery, ...]
    n_wrong: int
    n_query: int


def of_episode(
    i: int,
    episodes: EpisodeTable,
    predictions: npt.NDArray[np.unsignedinteger[Any]] | None,
    thumbnails: Mapping[str, Any],
) -> tuple[ClassPictures, ...]:
    """Arrange the stored pictures of one episode by class; empty where not every support image has one.

    Args:
        i: number of the episode.
        episodes: the list, with classes, support and query rows.
        predictions: (E, W·Q) labels, places in class order; None where the run kept none.
        thumbnails: base64 of a PNG by image row (as text); anything else is left out.
    """
    names = [episodes.class_names[c] for c in episodes.classes[i]]
    found = []
    for label, name in enumerate(names):
        support = tuple(filter(None, (_source(row, thumbnails) for row in episodes.support[i, label])))
        given = _given(i, label, episodes, predictions)
        rows = episodes.query[i, label]
        pairs = zip(rows[rows >= 0], given, strict=True)
        wrong = [(_source(row, thumbnails), names[k]) for row, k in pairs if k != label]
        pictured = tuple(WrongQuery(source, predicted) for source, predicted in wrong if source)
        found.append(ClassPictures(name, support, pictured, len(wrong), len(given)))
    return tuple(found) if all(len(c.support) == episodes.support.shape[2] for c in found) else ()


def _given(i: int, label: int, episodes: EpisodeTable, predictions: npt.NDArray[Any] | None) -> list[int]:
    """The predicted labels of a class's queries; the true one where none were kept."""
    asked, n_places = episodes.query[i, label] >= 0, episodes.query.shape[2]
    if predictions is None:
        return [label] * int(asked.sum())
    return [int(k) for k in predictions[i, label * n_places : (label + 1) * n_places][asked]]


def _source(row: np.int32, thumbnails: Mapping[str, Any]) -> str:
    text = thumbnails.get(str(int(row)), "")
    return f"data:image/png;base64,{text}" if isinstance(text, str) and PNG.fullmatch(text) else ""
