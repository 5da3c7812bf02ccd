"""What the README shows of results.db: the tables of equal budgets, and verdicts as `fsbench compare` prints them.

``python tests/measured.py`` prints that part; ``--write`` puts it into the README, between the two lines that mark it.
``python tests/measured.py heads FOLDER`` prints the tables and verdicts of docs/heads.md from the database in that folder;
``glyphs FOLDER`` those of docs/glyphs.md, ``variants FOLDER`` those of docs/variants.md.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.errors import ConfigError, StoreError
from harness.report import exports
from harness.report.board.pairs import compare_among
from harness.report.board.rows import Row
from harness.report.board.tables import Table, tables
from harness.report.formats import images_text, percent, span
from harness.report.pages import family_page, setting_page
from harness.store import Store

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- made by tests/measured.py -->", "<!-- to here -->"
DRAWINGS = ("omniglot-small-5w1s", "omniglot-small-5w5s")
PHOTOGRAPHS = ("cifar10-5w1s", "cifar10-5w5s")
GLYPHS = ("glyphs-5w1s", "glyphs-5w5s", "glyphs-digits-5w1s")
GROUPS = (
    DRAWINGS,
    ("omniglot-small-20w1s",),
    PHOTOGRAPHS,
    GLYPHS,
    ("omniglot-lake-20w1s-small1", "omniglot-lake-20w1s-small2"),
)
BLOCKS = ("top1/novel", "top5/novel", "top5/all")  # of the six
METHODS = (
    "softmax", "cosine", "neg-softmax", "neg-cosine", "bml", "bml-global", "bml-local", "protonet", "nearest-mean", "centroid",
    "pixels", "magnet", "repmet",
)  # fmt: skip
HEADS = (
    ("tim", "centroid"),
    ("alpha-tim", "tim"),
    ("pt-map", "tim"),
    ("pt-map", "centroid"),
    ("laplacianshot", "bd-cspn"),
    ("bd-cspn", "centroid"),
    ("logistic", "centroid"),
)
PAIRS = (
    ("neg-softmax", "softmax"),
    ("neg-cosine", "cosine"),
    ("bml", "bml-global"),
    ("bml-global", "bml-local"),
    ("protonet", "nearest-mean"),
    ("magnet", "protonet"),
    ("repmet", "protonet"),
    ("magnet", "repmet"),
    ("neg-softmax", "centroid[neg-softmax]"),
    ("softmax", "centroid[softmax]"),
    ("protonet", "centroid[protonet]"),
    ("bml", "centroid[bml]"),
    *((f"{a}[softmax]", f"{b}[softmax]") for a, b in HEADS),
    ("deepemd (grad=full)", "deepemd (grad=flow-only)"),
    ("deepemd (grad=full)", "deepemd-pretrain"),
    ("deepemd (grad=full)", "deepemd-pretrain (classifier=mean)"),
    ("deepemd-pretrain", "deepemd-pretrain (classifier=mean)"),
    ("deepemd (sfc_update_step=100)", "deepemd (sfc_update_step=0)"),
    ("deepemd (variant=grid)", "deepemd (grad=full)"),
    ("deepemd (variant=sampling)", "deepemd (grad=full)"),
    ("lowshot-logistic[sgm]", "lowshot-logistic[none]"),
    ("lowshot-logistic[batchsgm]", "lowshot-logistic[none]"),
    ("lowshot-logistic[l2]", "lowshot-logistic[none]"),
    ("lowshot-hallucination[none]", "lowshot-logistic[none]"),
    ("lowshot-hallucination[batchsgm]", "lowshot-logistic[batchsgm]"),
    ("matching-network[none]", "lowshot-logistic[none]"),
)
VARIED = ("neg-cosine", "neg-softmax", "bml")
VARIANTS = (
    *((f"neg-cosine (margin={margin}, budget)", "neg-cosine (budget)") for margin in (-0.3, -0.05, 0.0, 0.1)),
    ("neg-cosine (margin=0.1, budget)", "cosine (budget)"),
    ("neg-softmax (head_scale=5.0, head_start=1.0, budget)", "neg-softmax (budget)"),
    ("bml (views=global, budget)", "bml (budget)"),
    ("bml (views=local, budget)", "bml (budget)"),
)
VERDICT = re.compile(  # rows with equal results are one entry of the page, so that a pair may not be on it
    r"\S+: .*?\(p [=<] [\d.e-]+, [\d,]+ paired \w+(; on the page, among all its pairs, p [=<] [\d.e-]+)?\)\."
)


def section(home: Path) -> str:
    """Tables and verdicts of the database in a folder, as they stand in the README."""
    with Store.open(home / "results.db") as store:
        every = tables(store)
        verdicts = list(_verdicts(store, every))
        joint = list(_joint(store, [table for table in every if "lowshot" in table.setting]))
    named = [name for group in GROUPS for name in group]
    found = {table.setting: table for table in every if table.setting in named}
    parts = [_table([found[name] for name in group if name in found]) for group in GROUPS]
    transport = ("deepemd", "deepemd-pretrain")
    on = [found[name] for name in (*DRAWINGS, *PHOTOGRAPHS) if name in found]
    parts.append(_configurations(on, "DeepEMD", transport))
    parts.append(
        _heads([table for name in named for table in every if table.setting in (name, name + "-dir2")])
    )
    parts += joint
    return "\n".join([*filter(None, parts), "```", *verdicts, "```", ""])


def _table(group: Sequence[Table]) -> str:
    """A line a row of the recipe `budget`, before that has run of `clean`, and of what is untrained; the best of the first
    setting on top."""
    found = [row for table in group for row in table.rows if row.method.partition("[")[0] in METHODS]
    recipe = "budget" if any(row.recipe == "budget" for row in found) else "clean"
    by_name: dict[str, dict[str, Row]] = {}
    for row in found:
        is_equal = row.recipe == recipe or not row.is_trained
        if is_equal and not row.config:
            by_name.setdefault(_without_recipe(row.label), {})[row.setting] = row
    if not by_name:
        return ""
    names = [table.setting for table in group]
    lines = []
    for name, cells in by_name.items():
        row = next(iter(cells.values()))
        warns = " (its training warns)" if "its training warns" in row.marks else ""
        lines.append([name + warns, *_cells(cells, names), _seeds(row), images_text(row.budget)])
    return _pipes([f"recipe `{recipe}`", *names, "seeds", "images"], lines)


def _configurations(found: Sequence[Table], title: str, methods: Sequence[str], recipe: str = "clean") -> str:
    """A line a configuration of some methods by one recipe, the best of the first setting on top."""
    by_name: dict[str, dict[str, Row]] = {}
    for table in found:
        for row in table.rows:
            if row.method in methods and row.recipe == recipe:
                by_name.setdefault(_without_recipe(row.label), {})[table.setting] = row
    if not by_name:
        return ""
    names = [table.setting for table in found]
    lines = []
    for name, cells in by_name.items():
        seeds = "; ".join(dict.fromkeys(map(_seeds, cells.values())))
        images = "; ".join(dict.fromkeys(images_text(row.budget) for row in cells.values()))
        lines.append([name, *_cells(cells, names), seeds, images])
    return _pipes([title, *names, "seeds", "images"], lines)


def _heads(found: Sequence[Table]) -> str:
    """For each training with several heads a line a head, the best of the first setting on top; milliseconds an episode.

    Settings with numbers of queries that are drawn (`-dir2`) stand beside those where they are equal.
    """
    by_pair: dict[tuple[str, str], dict[str, Row]] = {}
    for table in found:
        for row in table.rows:
            if row.spec.encoder and row.recipe == "budget" and not row.spec.changed:
                by_pair.setdefault((row.spec.encoder, row.method), {})[table.setting] = row
    several = {pair: cells for pair, cells in by_pair.items() if pair[1] != "centroid"}
    names = [t.setting for t in found if any(t.setting in cells for cells in several.values())]
    encoders = sorted({encoder for encoder, _ in several}, reverse=True)
    return "\n".join(
        _pipes(
            [f"on {encoder}", *names, "ms an episode", "seeds"],
            [_head(name, cells, names) for (on, name), cells in by_pair.items() if on == encoder],
        )
        for encoder in encoders
    )


def _head(name: str, cells: dict[str, Row], names: Sequence[str]) -> list[str]:
    row = next(iter(cells.values()))
    marks = [mark for mark in ("transductive", "assumes balance") if mark in row.badges]
    told = f"{name} ({', '.join(marks)})" if marks else name
    cost = "/".join(_milliseconds(cells.get(setting)) for setting in names)
    return [told, *_cells(cells, names), cost, _seeds(row)]


def _pipes(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = "|---" * len(head) + "|"
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(line)} |" for line in lines), ""])


def _cells(cells: dict[str, Row], names: Sequence[str]) -> list[str]:
    return [_cell(cells.get(setting)) for setting in names]


def _seeds(row: Row) -> str:
    return ", ".join(map(str, row.seeds))


def _joint(store: Store, found: Sequence[Table]) -> Iterator[str]:
    """Of the low-shot benchmarks three of the six blocks that papers print."""
    for family in family_page.build([setting_page.build(store, table) for table in found]):
        for block in family.blocks:
            if block.metric in BLOCKS and any(row.phase.startswith("lowshot") for row in block.rows):
                yield f"{family.name}, {exports.block_as_markdown(block)}"


def _milliseconds(row: Row | None) -> str:
    return (
        "–"
        if row is None or not row.seconds["evaluate"]
        else f"{1e3 * row.seconds['evaluate'] / row.n_episodes:.1f}"
    )


def _without_recipe(label: str) -> str:
    return label.removesuffix(" (budget)").replace(", budget)", ")")


def _cell(row: Row | None) -> str:
    return "" if row is None else f"{percent(row.mean)} ({span(row.interval, 1)})"


def heads(store: Store, every: Sequence[Table]) -> str:
    """Tables of the heads on each training of a database, and verdicts between them."""
    encoders = {row.spec.encoder for table in every for row in table.rows if row.spec.encoder}
    pairs = [tuple(f"{name}[{on}]" for name in pair) for on in sorted(encoders) for pair in HEADS]
    return "\n".join([_heads(every), "```", *_verdicts(store, every, pairs), "```", ""])


def glyphs(store: Store, every: Sequence[Table]) -> str:
    """The table of equal budgets on glyphs, and verdicts between its rows."""
    found = [table for name in GLYPHS for table in every if table.setting == name]
    return "\n".join([_table(found), "```", *_verdicts(store, every), "```", ""])


def variants(store: Store, every: Sequence[Table]) -> str:
    """Configurations beside the defaults of their methods, and verdicts between them."""
    found = [table for name in (*DRAWINGS, *PHOTOGRAPHS) for table in every if table.setting == name]
    lines = _configurations(found, "recipe `budget`", VARIED, "budget")
    return "\n".join([lines, "```", *_verdicts(store, every, VARIANTS), "```", ""])


def _verdicts(store: Store, every: Sequence[Table], among: Sequence[Sequence[str]] = PAIRS) -> Iterator[str]:
    """The commands, and the sentence of each verdict; pairs of which the database lacks one are left out."""
    for a, b in among:
        try:
            pairs = compare_among(store, every, a, b)
        except (ConfigError, StoreError):
            continue
        yield f"$ {shlex.join(['fsbench', 'compare', a, b])}"
        yield from (pair.sentence for pair in pairs)


def main() -> None:
    """Print it, or write it into the README."""
    if len(sys.argv) == 3:
        part = {"heads": heads, "glyphs": glyphs, "variants": variants}[sys.argv[1]]
        with Store.open(Path(sys.argv[2]) / "results.db") as store:
            sys.stdout.write(part(store, tables(store)))
        return
    text = section(ROOT)
    if "--write" not in sys.argv:
        sys.stdout.write(text)
        return
    readme = (ROOT / "README.md").read_text()
    before, rest = readme.split(BEGIN + "\n")
    after = rest.split(END)[1]
    (ROOT / "README.md").write_text(f"{before}{BEGIN}\n{text}{END}{after}")


if __name__ == "__main__":
    main()
