"""Tables that people make: one reader takes them as they come, or says what is wrong in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import DataError
from harness.system import small_tables

WORDS = st.text(st.characters(categories=("L", "N"), max_codepoint=0x2FFF), min_size=1, max_size=6)


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [",", ";", "\t", "|", ", "])
def test_codings_ends_of_lines_and_delimiters_do_not_matter(
    tmp_path: Path, coding: str, end: str, mark: str
) -> None:
    lines = [["Class", " ROLE", ""], ["", ""], ["Öl", '"a, b; c"', ""], ["x y", " z "], [], [mark.strip(" ")]]
    path = tmp_path / "t.csv"
    path.write_bytes(end.join(mark.join(line) for line in lines).encode(coding))
    assert small_tables.read(path, {"class": (), "role": ()}, {}) == (
        ("class", "role"), [(3, ("Öl", "a, b; c")), (4, ("x y", "z"))],
    )  # fmt: skip


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=5), st.sampled_from(",;\t"))
def test_what_is_written_is_read(rows: list[tuple[str, str]], mark: str) -> None:
    content = "\n".join(mark.join(row) for row in rows)
    expected = [[small_tables.decoded(cell.encode()) for cell in row] for row in rows]
    assert [cells for _, cells in small_tables.cells(small_tables.decoded(content.encode()))] == expected


def test_letters_are_composed_and_other_words_for_columns_are_known(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Split,File Name\ntrain,u\u0308.png\n")
    table = small_tables.read(
        tmp_path / "t.csv", {"filename": ("file_name",)}, {"role": ("split",), "author": ()}
    )
    assert table == (("filename", "role"), [(2, ("\u00fc.png", "train"))])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", r"no column class and no column role; its first line is `\(empty\)`"),
        (b"class\na\n", "no column role"),
        (b"class,role,class\na,b,c\n", "two columns for class"),
        (b"class,role\na,b\nc\n", "1 rows lack a cell of class, role; the first is line 3"),
        (b"class,role\nM\xfcller,base\n", "neither UTF-8 nor UTF-16: it has the byte 0xfc at 12.*CSV UTF-8"),
        (b"PK\x03\x04xl/workbook.xml", "a spreadsheet"),
        (b"class,role\n" + b"a" * 200_000 + b",base\n", "cannot be taken apart"),
        (b"\xff\xfeclass", "neither UTF-8 nor UTF-16"),
        (b'class,role\n"a,base\nb,base\n', "lack a cell"),
    ],
)
def test_what_is_no_table_is_a_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=says):
        small_tables.read(tmp_path / "t.csv", {"class": (), "role": ()}, {})
