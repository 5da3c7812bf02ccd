"""Stages of long work: how they begin and end."""

from __future__ import annotations

import pytest

from harness.system.progress import stage


class Heard:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def begin(self, stage: str, total: int, unit: str, done: int = 0) -> None:
        self.told.append(f"{stage} {done}/{total} {unit}")

    def advance(self, n: int, note: str = "", part: float = 0.0) -> None:
        self.told.append(f"+{n} {note}")

    def end(self) -> None:
        self.told.append("end")


def test_a_stage_ends_also_when_it_is_interrupted() -> None:
    heard = Heard()
    with pytest.raises(KeyboardInterrupt), stage(heard, "check", 3, "rows", 1) as shown:
        shown.advance(1, "a")
        raise KeyboardInterrupt
    assert heard.told == ["check 1/3 rows", "+1 a", "end"]


def test_of_nothing_to_do_nothing_is_shown() -> None:
    heard = Heard()
    with stage(heard, "check", 0, "folders") as shown:
        shown.advance(0)
    assert heard.told == []
