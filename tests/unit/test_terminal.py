"""Tables on a terminal of 80 columns: no line is longer, no number is cut, what is left out is named."""

import io
import re
import sys

import pytest

from harness.cli.terminal import fitting, show_table

ROWS = [
    ("neg-cosine (epochs=3, image_size=48, warmup_epochs=1, bf16)", "38.41", "35.80–41.09", "conv4", "7890a03d0a78"),
    ("pixels", "28.72", "28.43–29.02", "none", "efc5324132cd"),
]  # fmt: skip
COLUMNS = ("method", "accuracy %", "95%", "backbone", "run")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def drawn(width, less, monkeypatch):
    """What a terminal of a width shows."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    show_table(COLUMNS, ROWS, title="a setting", right=(1,), less=less)
    return re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_terminal_shows_whole_numbers(width, monkeypatch):
    text = drawn(width, ("backbone", "run"), monkeypatch)
    lines = text.split("\n")
    assert max(map(len, [line for line in lines if "Left out" not in line])) <= width
    for row in ROWS:
        assert any(row[1] in line and row[2] in line for line in lines)
    assert "image_size=48," in text  # a long label wraps between words
    assert ("Left out at" in text) == (width == 60)
    if width == 60:
        assert "backbone" in text.split("Left out")[1] and "conv4" not in text


def test_what_matters_less_goes_first():
    cells = [COLUMNS, *ROWS]
    assert fitting(cells, ("run", "backbone"), 200) == [0, 1, 2, 3, 4]
    assert fitting(cells, ("run", "backbone"), 60) == [0, 1, 2, 3]
    assert fitting(cells, ("backbone", "run"), 60) == [0, 1, 2, 4] or fitting(
        cells, ("backbone", "run"), 60
    ) == [0, 1, 2]
    assert fitting(cells, (), 10) == [0, 1, 2, 3, 4]
