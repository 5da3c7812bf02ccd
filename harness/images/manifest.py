"""The card of a prepared set: what it holds, where it came from, under which terms."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from harness.errors import DataError
from harness.system.files import save_text

FORMAT = 1
FILE = "manifest.json"


@dataclass(frozen=True)
class ClassCard:
    """One class of a prepared set: its name, the group it belongs to (alphabet, superclass) and its size."""

    name: str
    group: str
    n_images: int


@dataclass(frozen=True)
class SourceFile:
    """One file a set was prepared from: name, bytes, and md5 (empty where the file is too large to hash)."""

    file: str
    n_bytes: int
    md5: str = ""


@dataclass(frozen=True)
class Manifest:
    """Everything about a prepared set but its pixels.

    Attributes:
        dataset: name of the set, and of its folder.
        population: which photographs they are, where one name has several ("omniglot-background-small1").
        mode: "L" (grey, one channel) or "RGB".
        classes: in the order of the rows, by name.
        sources: the files it was prepared from.
        terms: licence or terms of use, in words.
        pipeline: name of the default pipeline.
        size: the default image size in pixels.
        has_originals: whether the source bytes are kept, so that other pipelines and sizes can be built.
        note: what preparing found out about the source (the order of colours in a file that does not say).
        n_features: length of the saved features that stand in place of pictures; 0 where there are pictures.
        is_upright: whether pictures are turned as their EXIF orientation says; else they are taken as stored.
        left_out: pictures that were broken and left out on request, as "path: why".
    """

    dataset: str
    population: str
    mode: Literal["L", "RGB"]
    classes: tuple[ClassCard, ...]
    sources: tuple[SourceFile, ...]
    terms: str
    pipeline: str
    size: int
    has_originals: bool = True
    note: str = ""
    n_features: int = 0
    is_upright: bool = False
    left_out: tuple[str, ...] = ()

    @property
    def n_images(self) -> int:
        """Number of images of all classes."""
        return sum(c.n_images for c in self.classes)

    @property
    def n_channels(self) -> int:
        """1 for grey, 3 for colour, the length of saved features."""
        return self.n_features or (1 if self.mode == "L" else 3)

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` into a folder, aside and renamed."""
        save_text(folder / FILE, json.dumps({"format": FORMAT, **asdict(self)}, indent=1))

    @staticmethod
    def read(folder: Path, remedy: str) -> Manifest:
        """Read the manifest of a prepared set.

        Args:
            folder: the prepared set.
            remedy: what to type when it is absent or broken; ends the message.

        Raises:
            DataError: when it is absent, unreadable, or of a newer format.
        """
        path = folder / FILE
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DataError(f"{folder.name} is not prepared: there is no {path}. {remedy}") from error
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({error}). {remedy}") from error
        if not isinstance(card, dict) or card.pop("format", None) != FORMAT:
            raise DataError(f"{path} is not of format {FORMAT}, the one this version reads. {remedy}")
        try:
            classes = tuple(ClassCard(**c) for c in card.pop("classes"))
            sources = tuple(SourceFile(**s) for s in card.pop("sources"))
            left_out = tuple(str(path) for path in card.pop("left_out", ()))
            return Manifest(classes=classes, sources=sources, left_out=left_out, **card)
        except (TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{path} lacks a field or has one too many ({error}). {remedy}") from error
