"""tieredImageNet as single 84-pixel PNG files, ``<split>_<superclass>_<class>_<i>.png``, of SimpleShot and TIM.

The csv files beside them repeat what the names say. Numbers are Ren's labels, as in ``tiered_files``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from harness.images.originals import Picture
from harness.images.sources import splits
from harness.images.sources.archives import Member, members
from harness.images.sources.arrays import is_bgr, spread
from harness.images.sources.tiered_files import ROLE, Survey, class_of_each, decoded, encoded

_LOG = logging.getLogger("fsbench.data")
_NAME = re.compile(r"(train|val|test)_(\d+)_(\d+)_(\d+)\.png")


class _Named(NamedTuple):
    """One file and what its name says."""

    split: str
    general: int
    specific: int
    place: int
    member: Member


def survey(sources: Sequence[Path]) -> Survey | None:
    """Read all names and some pictures: count, check labels, tell the order of colours; None where no file is named so.

    Raises:
        DataError: when the labels do not fit the split, or a picture is broken.
    """
    listed = [(f.split, f.general, f.specific, f.member.n_bytes) for f in _files(sources)]
    if not listed:
        return None
    _wnids([row[:3] for row in listed])
    step = spread(len(listed)).step
    sample = (
        decoded(np.frombuffer(f.member.read(), np.uint8), f.member.path)
        for i, f in enumerate(_files(sources))
        if i % step == 0
    )
    is_turned = is_bgr(sample, "the PNG files")
    note = f"order of colours found: {'BGR, turned to RGB' if is_turned else 'RGB'}"
    _LOG.info("PNG files of tieredImageNet: %s", note)
    return Survey(len(listed), sum(n for *_, n in listed), frozenset(["png"] if is_turned else []), note)


def pictures(sources: Sequence[Path], is_turned: bool) -> Iterator[Picture]:
    """The pictures, red first.

    Args:
        sources: as for ``survey``.
        is_turned: whether the files have blue first.
    """
    group = splits.read("tiered")["superclass"]
    wnid_of = _wnids([(f.split, f.general, f.specific) for f in _files(sources)])
    for file in _files(sources):
        wnid, name = wnid_of[file.split, file.specific], PurePosixPath(file.member.path).name
        yield Picture(wnid, name, partial(_read, file.member, is_turned), group[wnid], order=file.place)


def _wnids(rows: Sequence[tuple[str, int, int]]) -> dict[tuple[str, int], str]:
    """(split, class number) → WordNet id, from (split, superclass number, class number) of every file."""
    found = {}
    for split in dict.fromkeys(row[0] for row in rows):
        own = np.array([row[1:] for row in rows if row[0] == split], dtype=np.int64)  # (n, 2)
        names = class_of_each((own[:, 1], own[:, 0]), ROLE[split], f"{split}_*.png")
        found.update({(split, number): name for number, name in zip(own[:, 1].tolist(), names, strict=True)})
    return found


def _read(member: Member, is_turned: bool) -> bytes:
    return encoded(np.frombuffer(member.read(), np.uint8), member.path, is_turned)


def _files(sources: Sequence[Path]) -> Iterator[_Named]:
    for source in sources:
        for member in members(source):
            if match := _NAME.fullmatch(PurePosixPath(member.path).name):
                yield _Named(match[1], int(match[2]), int(match[3]), int(match[4]), member)
