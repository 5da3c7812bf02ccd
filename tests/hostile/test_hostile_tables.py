"""Tables of roles and lists of pictures as people make them: read alike, or refused in a sentence that names the file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hostile_bench import Bench
from picture_files import encoded, noise, unpack

ROWS = [
    ("Öl 0", "train"),
    ("Öl 1", "train"),
    ("Öl 2", "VAL"),
    ("Öl 3", "val"),
    ("Öl 4", "Test"),
    ("Öl 5", "novel"),
]


def png(seed: int) -> bytes:
    return encoded(noise(seed, 12, 12), "PNG")


def pictures(root: Path) -> Path:
    return unpack(
        root / "x", {f"{c}/{i}.png": png(10 * k + i) for k, (c, _) in enumerate(ROWS) for i in range(4)}
    )


def flat(root: Path) -> Path:
    return unpack(root / "flat", {f"img/{k}_{i}.png": png(10 * k + i) for k in range(6) for i in range(4)})


def table(mark: str = ",", head: str = "class,role", end: str = "\n") -> str:
    return end.join([head.replace(",", mark), *(mark.join(row) for row in ROWS), ""])


def listed(with_role: bool = False, name: str = "img/{k}_{i}.png") -> str:
    lines = [
        f"{name.format(k=k, i=i)},{c}" + (f",{r}" if with_role else "")
        for k, (c, r) in enumerate(ROWS)
        for i in range(4)
    ]
    return "\n".join(["filename,label" + (",role" if with_role else ""), *lines])


READ = {
    "plain": table().encode(),
    "byte order mark": table().encode("utf-8-sig"),
    "semicolons": table(";").encode(),
    "tabs": table("\t").encode(),
    "UTF-16": table("\t").encode("utf-16"),
    "UTF-16 without a mark": table().encode("utf-16-le"),
    "CRLF and empty rows": table(end="\r\n").encode() + b"\r\n,\r\n;\r\n".replace(b";", b",,"),
    "old Mac": table(end="\r").encode(),
    "spaces": table(" , ").encode(),
    "quotes": re.sub(r"(Öl \d)", r'"\1"', table()).encode(),
    "capitals": table(head="CLASS,Role").encode(),
    "other words": table(head="label,split").encode(),
    "decomposed": table().replace("Ö", "O\u0308").encode(),
    "more columns": table().replace("role", "role,note").encode(),
    "meta roles": table().replace("train", "meta-train").replace("val", "Meta_Val").encode(),
}
REFUSED = {
    "empty": (b"", "no column class and no column role"),
    "no header": ("\n".join(",".join(r) for r in ROWS).encode(), "its first line is `Öl 0"),
    "latin-1": (table().encode("latin-1"), "neither UTF-8 nor UTF-16"),
    "a spreadsheet": (b"PK\x03\x04" + bytes(30), "CSV UTF-8"),
    "a picture": (png(0), "neither UTF-8 nor UTF-16"),
    "another role": (table().replace("VAL", "holdout").encode(), "`holdout` is not a role"),
    "another class": (table().replace("Öl 0", "Öl 9").encode(), "`Öl 9` is not a class of the folder. Did you mean"),
    "two rows": (table().replace("Öl 1", "Öl 0").encode(), "`Öl 0` has two rows"),
    "one novel class": (table().replace("Öl 4,Test\n", "").encode(), "novel needs at least 2"),
    "half a row": (table().encode() + b"x\n", "1 rows lack a cell"),
    "a list without files": (listed().replace("img/0_0", "img/zz").encode(), r"1 of 24 pictures of the list.*img/zz\.png \(not there\)"),
    "two labels": (listed().encode() + b"\nimg/0_0.png,else", "`img/0_0.png` has two labels"),
    "a class in two roles": (listed(True).replace("0_0.png,Öl 0,train", "0_0.png,Öl 0,test").encode(), "in several roles"),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_the_same_table_in_any_form_gives_the_same_benchmark(bench: Bench, name: str) -> None:
    (bench.root / "t.csv").write_bytes(READ[name])
    words = ["--name", "birds", "--size", "16", "--splits", str(bench.root / "t.csv")]
    code, said = bench.type("import-folder", str(pictures(bench.root)), *words)
    assert code == 0 and "2 base, 2 validation, 2 novel classes" in said, said
    split = (bench.data / "benchmarks" / "splits" / "birds.json").read_text()
    assert [split.index(f'"\\u00d6l {k}"') for k in range(6)] == sorted(
        split.index(f'"\\u00d6l {k}"') for k in range(6)
    )


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_such_table_is_refused_and_leaves_nothing(bench: Bench, name: str) -> None:
    content, says = REFUSED[name]
    (bench.root / "t.csv").write_bytes(content)
    source = flat(bench.root) if content.startswith(b"filename") else pictures(bench.root)
    words = ["--name", "birds", "--size", "16", "--splits", str(bench.root / "t.csv")]
    code, said = bench.type("import-folder", str(source), *words)
    assert code in (2, 3) and re.search(says, said), said
    assert not bench.left()


@pytest.mark.parametrize("with_role", [False, True])
@pytest.mark.parametrize("name", ["img/{k}_{i}.png", "{k}_{i}.png", "./img/{k}_{i}.png", "img\\{k}_{i}.png"])
def test_a_list_of_pictures_stands_in_place_of_class_folders(
    bench: Bench, name: str, with_role: bool
) -> None:
    source = unpack(flat(bench.root), {"img/unlisted.png": png(99)})
    (bench.root / "t.csv").write_bytes(listed(with_role, name).encode("utf-16"))
    words = ["--name", "birds", "--size", "16", "--splits", str(bench.root / "t.csv")]
    code, said = bench.type("import-folder", str(source), *words)
    assert code == 0 and "taken: 24 pictures of 6 classes" in said, said
    assert "left out, 1 pictures that are not in the list: img/unlisted.png" in said
    assert ("2 base, 2 validation, 2 novel" if with_role else "3 base, 0 validation, 3 novel") in said


def test_classes_without_a_role_are_named(bench: Bench) -> None:
    (unpack(pictures(bench.root), {"more/0.png": png(7), "more/1.png": png(8)}))
    (bench.root / "t.csv").write_text(table())
    words = ["--name", "birds", "--size", "16", "--splits", str(bench.root / "t.csv")]
    assert (
        "without a role, and not used: more" in bench.type("import-folder", str(bench.root / "x"), *words)[1]
    )
