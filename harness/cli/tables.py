"""What the commands print for people: rows, verdicts, plans and single runs, as tables and sentences."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.cli.terminal import Cells, show_table
from harness.errors import visible
from harness.report.formats import (
    duration,
    flat,
    images_text,
    last_line,
    p_value,
    percent,
    rank_text,
    span,
    told_of,
)

if TYPE_CHECKING:
    from harness.exchange.signed import Signed
    from harness.report.board.by_class import ClassLine
    from harness.report.board.pairs import Pair
    from harness.report.board.power import Power
    from harness.report.board.rows import Row
    from harness.report.board.tables import Table
    from harness.runs.findings import StoredRun

NOT_LISTED = ("badges", "about", "recipe")  # of the provenance: shown elsewhere, or too long


def say(sentence: str) -> None:
    """Print a sentence."""
    sys.stdout.write(visible(sentence, lines=True) + "\n")


class Drawn(NamedTuple):
    """A table as text, and a sentence below it."""

    title: str
    columns: Cells
    rows: Sequence[Cells]
    below: str = ""


def leaderboards(found: Sequence[Table]) -> list[Drawn]:
    """The tables of each setting."""
    from harness.report.board.labels import told_apart

    drawn = []
    for table in found:
        title = f"{table.setting}" + (f" ({table.note})" if table.note else "")
        told = told_apart([row.spec for row in table.rows], [(row.label, row.backbone) for row in table.rows])
        drawn += leaderboard_rows(table.rows, told, title=title)
        failed = [(run.spec.method.name, run.id, last_line(run.traceback)) for run in table.failed]
        drawn += [Drawn("", ("failed", "run", "reason"), failed)] if failed else []
    return drawn


def leaderboard_rows(
    rows: Sequence[Row], apart: Cells = (), *, title: str = "", with_setting: bool = False
) -> list[Drawn]:
    """Tables of rows; those of a protocol with several numbers stand in a table of their own.

    Args:
        rows: any rows.
        apart: what to add to each label; empty for nothing.
        title: above the table.
        with_setting: whether the setting is the first column.
    """
    told = list(zip(rows, apart or [""] * len(rows), strict=True))
    one = [(row, text) for row, text in told if not row.several]
    several = [(row, text) for row, text in told if row.several]
    drawn = []
    for chosen in filter(None, (one, several)):
        first = chosen[0][0]
        cells = [
            ((row.setting,) if with_setting else ()) + tuple(leaderboard_cells(row, text))
            for row, text in chosen
        ]
        columns = (*(("setting",) if with_setting else ()), *_columns(first))
        below = (
            ""
            if not first.several
            else (
                f"Percent of the queries of novel, of base and of all classes; the interval is that of {first.metric}."
            )
        )
        drawn.append(Drawn(title, columns, cells, below))
    return drawn


def draw(tables: Sequence[Drawn]) -> None:
    """Print them."""
    for table in tables:
        right = [i for i, column in enumerate(table.columns) if column not in _LEFT]
        show_table(table.columns, table.rows, title=table.title, right=right, less=_LESS)
        if table.below:
            say(table.below)


_LEFT = ("setting", "method", "backbone", "seeds", "badges", "run", "failed", "reason")
_LESS = (
    "fit", "± over episodes", "episodes", "experiments", "seeds", "backbone", "badges", "run",
    "top1/base", "top1/all", "rank", "top5/base", "top1/novel",
)  # fmt: skip


def _columns(row: Row) -> Cells:
    numbers: Cells = ("accuracy %", "95%", "± over episodes", "rank", "episodes")
    if row.several:
        numbers = (*row.several, "95%", "rank", row.unit)
    return ("method", "backbone", *numbers, "seeds", "images", "fit", "badges", "run")


def leaderboard_cells(row: Row, apart: str = "") -> Cells:
    """One line of a leaderboard."""
    label = f"{row.label} ({apart})" if apart else row.label
    told = span(row.interval), percent(row.sampler.half_width), rank_text(row)
    numbers: tuple[str, ...] = (percent(row.mean), *told)
    if row.several:
        numbers = (*map(percent, row.several.values()), told[0], told[2])
    return (
        label, row.backbone, *numbers, f"{row.n_episodes:,}", ",".join(map(str, row.seeds)),
        images_text(row.budget), duration(row.seconds["fit"] or 0.0), ", ".join(told_of(row)), row.runs[0].id,
    )  # fmt: skip


def comparison(pairs: Sequence[Pair]) -> None:
    """Print verdicts as a table and in words, and what would decide what is open."""
    columns = ("setting", "A %", "B %", "A − B", "95% interval", "p", "verdict")
    rows = [
        (
            pair.setting, percent(pair.models.mean_a), percent(pair.models.mean_b), f"{100 * pair.difference:+.2f}",
            f"[{100 * pair.low:+.2f}, {100 * pair.high:+.2f}]", p_value(pair.p), pair.verdict.word,
        )
        for pair in pairs
    ]  # fmt: skip
    show_table(columns, rows, title=f"A = {pairs[0].a.label}, B = {pairs[0].b.label}", right=(1, 2, 3, 5))
    for pair in pairs:
        m = pair.models
        alone = f"These models alone: p {p_value(m.p)}, sign flips {p_value(m.p_permutation)}, Wilcoxon {p_value(m.p_wilcoxon)}."
        shared = (
            "" if pair.p_shared is None else f"Over the trainings both share: p {p_value(pair.p_shared)}."
        )
        say(" ".join(filter(None, (pair.sentence, pair.advice, alone, shared, pair.overlap_sentence))))


def by_class(lines: Sequence[ClassLine]) -> None:
    """Print the classes of a run, the hardest first."""
    rows = [
        (line.name, line.group, f"{line.n_correct:,}", f"{line.n_query:,}", percent(line.accuracy, 1), line.taken_for)
        for line in lines
    ]  # fmt: skip
    show_table(("class", "group", "right", "queries", "accuracy %", "most taken for"), rows, right=(2, 3, 4))


def power(answers: Sequence[Power]) -> None:
    """Print simulated plans as a table and in words."""
    columns = (
        "setting",
        "episodes",
        "trainings",
        "detectable",
        "plan: trainings",
        "episodes",
        "hours",
        "power",
    )
    rows = []
    for p in answers:
        plan = ("–",) * 4
        if p.plan is not None:
            plan = (
                str(p.plan.n_trainings),
                f"{p.plan.n_episodes:,}",
                f"{p.plan.hours:.1f}",
                percent(p.plan.power, 0),
            )
        rows.append((p.setting, f"{p.n_episodes:,}", str(p.n_trainings), percent(p.detectable), *plan))
    show_table(columns, rows, right=(1, 2, 3, 4, 5, 6, 7), less=("hours",))
    for answer in answers:
        say(answer.sentence)


def signed(found: Signed) -> None:
    """Print what a signature says, what of it is here, and what makes the rest."""
    said = found.signature
    asked = f"{said.method} {said.version} on {said.setting}, {said.backbone}, recipe {said.recipe}, {said.n_episodes:,} episodes"
    say(f"{asked}, made by fsbench {said.made_by}")
    words = {True: "yes", False: "no", None: "unknown"}
    rows = [(part.what, words[part.is_here], part.detail) for part in found.parts]
    for seed, run in found.runs.items():
        told = (
            f"{run.id}" + (f" ({', '.join(run.badges)})" if run.badges else "")
            if run
            else "not in this database"
        )
        rows.append((f"seed {seed}", words[run is not None], told))
    show_table(("", "here", ""), rows)
    if found.accuracy is not None:
        say(f"{percent(found.accuracy)} % over these runs and episodes.")
    if found.command:
        say(f"What is missing is made by\n{found.command}")


def run_details(
    run: StoredRun, accuracy: Mapping[str, float], class_means: Mapping[str, float] | None = None
) -> None:
    """Print all that is known of one run."""
    from harness.images.augmentations import crops_told
    from harness.report.board.rows import partial_badge, standard_episodes
    from harness.runs.signature import signature

    spec = run.spec
    facts = {
        "run": f"{run.id} ({run.status})",
        "signature": str(signature([run], spec.n_episodes)),
        "method": f"{spec.method.name} {spec.method.version} ({spec.method.reference})",
        "setting": f"{spec.setting}, {spec.n_query} queries a class, {spec.n_episodes:,} episodes"
        if spec.shot
        else f"{spec.setting}, {spec.n_episodes:,} test images of {spec.n_way} classes",
        "accuracy %": ", ".join(f"{name} {percent(value)}" for name, value in accuracy.items()) or "–",
        "backbone": f"{spec.shown_backbone}, {spec.image_size}×{spec.image_size}×{spec.channels}, pipeline {spec.pipeline}, {spec.precision}"
        + (f", augmentation {spec.augmentation}" if spec.augmentation else "")
        + (f", training crops from {crops_told(spec.cut_from)}" if spec.cut_from else ""),
        "recipe, seed": f"{spec.recipe}, {spec.seed}",
        **{f"built on {need}": f"fit {fit.fit_key}" for need, fit in spec.required.items()},
        "episodes": spec.episode_digest[:16],
        "images": ", ".join(f"{role} {digest[:12]}" for role, digest in spec.data_digest.items()),
    }
    if class_means:
        facts["class means %"] = ", ".join(f"{name} {percent(value)}" for name, value in class_means.items())
    badges = sorted({*run.badges, *partial_badge(spec.n_episodes, standard_episodes(spec.setting))})
    if badges:
        facts["badges"] = ", ".join(badges)
    if run.rechecks:
        told = (f"{c.sentence} ({c.device}, {c.checked[:10]})" for c in run.rechecks)
        facts["rechecks"] = "; ".join(told)
    if len(run.replicates) > 1:
        facts["replicates"] = ", ".join(digest[:12] for digest in run.replicates)
    show_table(("", ""), list(facts.items()))
    if differs := [(d["name"], d["clean"], d["used"]) for d in run.provenance.get("recipe", [])]:
        show_table(("what differs", "clean", "this run"), differs)
    config = [
        (name, str(entry.value), entry.origin, entry.phase) for name, entry in sorted(spec.config.items())
    ]
    if config:
        show_table(("hyper-parameter", "value", "from", "phase"), config)
    known = sorted((k, v) for k, v in run.provenance.items() if k not in NOT_LISTED)
    show_table(("provenance", ""), [(k, flat(v)) for k, v in known])
    if run.traceback:
        say(run.traceback.rstrip())
