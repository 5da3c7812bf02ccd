"""The pictures of a setting, drawn by matplotlib: accuracy against images and other costs, classes, hardness, sweeps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from math import ceil, floor, log10
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import NullLocator

from harness import stats
from harness.report.board.across import Across
from harness.report.board.rows import Row
from harness.report.board.sweeps import Sweep
from harness.report.formats import duration, percent
from harness.report.pages.setting_page import Cost, Entry, SettingPage, mean_accuracy
from harness.report.pages.svg import INK, LINE, MUTED, PAPER, SERIES, draw, figure, style

WIDTH = 7.6  # inches
LABEL_SPACE = 0.38  # of the width, left of the axes
MARKERS = "osD^v"
LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
MAX_CLASSES = 20
MAX_SHOWN = 5  # rows told apart in a picture
NAME_SIZE = 8  # points, of names beside marks
LETTER = 4.6  # points, the width of one
MAX_SWEEPS = 8
MAX_LABEL = 38  # letters
MAX_TICKS = 5  # of a logarithmic axis
LOGARITHMIC = ("training, GFLOP",)


def images(page: SettingPage) -> Markup | None:
    """Accuracy with its interval against training images seen, one mark a method, and the front; None without rows."""
    entries = page.methods
    if not entries:
        return None
    known = [log10(v) for e in entries if (v := e.cost.images) and e.row.is_trained]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    room = max(0.1 * (high - low), 0.12)
    before, behind = (low - 3 * room, high + 3 * room) if known else (0.0, 1.0)
    place = [_place(e, before, behind) for e in entries]
    x = _spread(place, 0.35 * room)
    floor = _floor(entries)
    front = [
        i
        for i in pareto(place, [e.row.mean for e in entries])
        if place[i] < behind and entries[i].row.mean > floor
    ]
    tips: dict[str, list[str]] = {}
    with style():
        made = figure(WIDTH, 3.6)
        axes = made.add_axes((0.075, 0.14, 0.915, 0.84))
        for at in sorted({round(p, 3) for p in place if p < behind}):
            beside = [x[i] for i, p in enumerate(place) if round(p, 3) == at]
            if len(beside) > 1:
                axes.axvspan(min(beside) - 0.1 * room, max(beside) + 0.1 * room, color=LINE, alpha=0.35, lw=0)
        told = [
            f"{e.row.called}, {e.row.backbone}: {percent(e.row.mean)}% ({_ends(e.row.interval)}), {_seen(e)}"
            for e in entries
        ]
        _marks(axes, "m", x, [e.row for e in entries], floor, front, told, tips, has_intervals=True)
        names = [(x[i], 100 * max(e.row.mean, floor), _called(e.row, floor)) for i, e in enumerate(entries)]
        axes.set_xlim(before - (2 * room if known else 0.5), behind + (3 * room if known else 0.5))
        _ticks_of_images(axes, entries, before, behind, known)
        axes.set_xlabel("training images seen")
        axes.set_ylabel("accuracy %")
        axes.margins(y=0.08)
        _name(axes, names)
        alt = f"Accuracy of {len(entries)} methods on {page.table.name} against the training images they saw"
        return draw(made, "images", alt, tips)


def _marks(
    axes: Any,
    gid: str,
    x: Sequence[float],
    rows: Sequence[Row],
    floor: float,
    front: Sequence[int],
    told: Sequence[str],
    tips: dict[str, list[str]],
    *,
    has_intervals: bool = False,
) -> None:
    """A mark for each row and a line along the front; what is below the floor is a triangle on it, without an interval."""
    y = [100 * max(row.mean, floor) for row in rows]
    below = [i for i, row in enumerate(rows) if row.mean < floor]
    behind = [i for i in range(len(rows)) if i not in front and i not in below]
    axes.plot([x[i] for i in front], [y[i] for i in front], "-", color=MUTED, lw=1, drawstyle="steps-post")
    for kind, of_kind, mark, colour, face in (
        ("below", below, "v", MUTED, PAPER),
        ("behind", behind, "o", MUTED, PAPER),
        ("front", front, "o", SERIES[0], SERIES[0]),
    ):
        ends = [(i, rows[i].interval.low, rows[i].interval.high) for i in of_kind if has_intervals]
        known = [
            (x[i], 100 * low, 100 * high) for i, low, high in ends if low is not None and high is not None
        ]
        if known and kind != "below":
            axes.vlines(*zip(*known, strict=True), color=colour, lw=2)
        axes.plot(
            [x[i] for i in of_kind],
            [y[i] for i in of_kind],
            mark,
            ms=6,
            color=colour,
            mfc=face,
            gid=gid + kind,
        )
        tips[gid + kind] = [told[i] for i in of_kind]


def _called(row: Row, floor: float, most: int = MAX_LABEL) -> str:
    """What stands beside a mark: the name, and the number where that is below the picture."""
    return _short(row.called, most) + (f", {percent(row.mean)}" if row.mean < floor else "")


def _floor(entries: Sequence[Entry]) -> float:
    """Where the picture ends below: what is untrained and far below the others stands there, with its number."""
    lows = [
        e.row.mean if e.row.interval.low is None else e.row.interval.low for e in entries if e.row.is_trained
    ]
    tops = [e.row.mean for e in entries if e.row.is_trained]
    return min(lows) - (max(tops) - min(lows)) if lows else 0.0


def costs(page: SettingPage) -> Markup | None:
    """Accuracy against what it costs, each with its Pareto front; None when no two rows recorded any cost."""
    kinds: list[tuple[str, Callable[[Cost], float | None], Callable[[float], str]]] = [
        ("training, GFLOP", lambda c: c.flop and c.flop / 1e9, lambda v: f"{v:,.3g} GFLOP"),
        ("training, seconds", lambda c: c.fit_seconds, duration),
        ("evaluation, ms per episode", lambda c: c.episode_ms, lambda v: f"{v:.3g} ms"),
        ("parameters, millions", lambda c: c.parameters and c.parameters / 1e6, lambda v: f"{v:.3g} M"),
        ("peak memory, GB", lambda c: c.peak_bytes and c.peak_bytes / 1e9, lambda v: f"{v:.2f} GB"),
    ]
    found = []
    for name, value, write in kinds:
        known = [(e, v) for e in page.entries if (v := value(e.cost))]
        if len(known) > 1:
            found.append((name, known, write))
    if not found:
        return None
    tips: dict[str, list[str]] = {}
    with style():
        made = figure(WIDTH, 2.5 * -(-len(found) // 2))
        grid = made.subplots(-(-len(found) // 2), 2, squeeze=False, sharey=True)
        made.subplots_adjust(left=0.08, right=0.98, top=0.97, bottom=0.2 / len(grid), hspace=0.45, wspace=0.1)
        for axes, (name, known, write) in zip(grid.flat, found, strict=False):
            _cost_panel(axes, name, known, write, tips, _floor(page.methods))
        for axes in grid.flat[len(found) :]:
            axes.set_visible(False)
        for row in grid:
            row[0].set_ylabel("accuracy %")
        return draw(
            made, "cost", "Accuracy against training time, evaluation time, parameters and memory", tips
        )


def classes(page: SettingPage) -> Markup | None:
    """Accuracy per class: a bar for the mean of the best rows, a mark for each; None without predictions."""
    shown = [(e, mean_accuracy(e.classes)) for e in page.entries if e.classes is not None]
    if not shown or not page.class_names:
        return None
    table = np.stack([accuracy for _, accuracy in shown])  # (M, C)
    asked = np.flatnonzero(~np.isnan(table).any(axis=0))
    if not len(asked):
        return None
    hardest_first = asked[np.argsort(table[:, asked].mean(axis=0), kind="stable")][:MAX_CLASSES]
    names, tips = [page.class_names[c] for c in hardest_first], {}
    labels = [_short(entry.row.label) for entry, _ in shown]
    with style():
        made, axes = _rows(names, labels)
        for i, c in enumerate(hardest_first):
            mean = 100 * table[:, c].mean()
            told = "; ".join(f"{e.row.label} {100 * accuracy[c]:.1f}%" for e, accuracy in shown)
            axes.barh([i], [mean], height=0.6, color=LINE, gid=f"b{i}")
            tips[f"b{i}"] = f"{page.class_names[c]}: mean {mean:.1f}%; {told}"
        for k, (entry, accuracy) in enumerate(shown):
            axes.plot(
                100 * accuracy[hardest_first], range(len(hardest_first)), MARKERS[k], ms=4.5, color=SERIES[k],
                label=labels[k], gid=f"s{k}",
            )  # fmt: skip
            tips[f"s{k}"] = f"{entry.row.label}, {entry.row.backbone}"
        axes.set_xlabel("accuracy %")
        _legend(axes, labels)
        return draw(made, "classes", f"Accuracy of {len(names)} classes, hardest first", tips)


def hardness(page: SettingPage) -> Markup | None:
    """Accuracy of the best rows in each tenth of the episodes, against its mean hardness; None where unmeasured."""
    part, tips = page.hardness, {}
    if part is None:
        return None
    shown = part.rows[:MAX_SHOWN]
    labels = [_short(found.row.label) for found in shown]
    with style():
        made, axes = _wide(labels)
        for k, found in enumerate(shown):
            values = [100 * share for share in found.accuracy]
            axes.plot(part.omega, values, "-", lw=1, color=SERIES[k])
            for i, (omega, value) in enumerate(zip(part.omega, values, strict=True)):
                label = None if i else labels[k]
                axes.plot([omega], [value], MARKERS[k], ms=4.5, color=SERIES[k], gid=f"h{k}x{i}", label=label)
                tips[f"h{k}x{i}"] = f"{found.row.label}, tenth {i + 1} of the episodes: {value:.1f}%"
        axes.set_xlabel("hardness, nats")
        axes.set_ylabel("accuracy %")
        _legend(axes, labels)
        return draw(made, "hardness", f"Accuracy of {len(shown)} rows against hardness", tips)


def sweep(found: Sweep, number: int) -> Markup:
    """Accuracy against a hyper-parameter: novel classes with their intervals, and the validation episodes."""
    tips: dict[str, str] = {}
    values = [point.value for point in found.points]
    labels = ["novel", "validation, which chooses the epoch"]
    has_validation = all(point.validation for point in found.points)
    with style():
        made, axes = _wide(labels if has_validation else labels[:1])
        novel = [point.row.mean for point in found.points]
        _curve(axes, values, novel, labels[0], 0, f"{found.name} {{}}: {{}}", tips)
        for value, point in zip(values, found.points, strict=True):
            low, high = point.row.interval.low, point.row.interval.high
            if low is not None and high is not None:
                axes.plot([value, value], [100 * low, 100 * high], "-", lw=2, color=SERIES[0])
        if has_validation:
            means = [float(np.mean(point.validation)) for point in found.points]
            _curve(axes, values, means, labels[1], 1, f"{found.name} {{}}: {{}} on validation", tips)
        if min(values) > 0:
            _perhaps_logarithmic(axes, values)
        axes.set_xlabel(found.name)
        axes.set_ylabel("accuracy %")
        _legend(axes, labels if has_validation else labels[:1])
        alt = f"Accuracy of {found.method} against {found.name}, {len(values)} values"
        return draw(made, f"{'abcdefgh'[number]}sweep", alt, tips)


def profiles(across: Across) -> Markup:
    """Share of settings × seeds on which each of the best methods is above an accuracy."""
    tips: dict[str, str] = {}
    labels = [_short(profile.label) for profile in across.profiles[:MAX_SHOWN]]
    with style():
        made, axes = _wide(labels)
        for k, profile in enumerate(across.profiles[:MAX_SHOWN]):
            thresholds, shares = zip(*profile.points, strict=True)
            axes.step(
                [100 * x for x in thresholds], [100 * y for y in shares], where="post", lw=1.6, color=SERIES[k],
                ls=LINES[k], label=labels[k], gid=f"f{k}",
            )  # fmt: skip
            tips[f"f{k}"] = profile.label
        axes.set_xlabel("accuracy above, %")
        axes.set_ylabel("share of scores, %")
        _legend(axes, labels)
        return draw(made, "profile", f"Performance profiles of {len(tips)} methods", tips)


def _curve(
    axes: Any, x: Sequence[float], y: Sequence[float], label: str, k: int, told: str, tips: dict[str, str]
) -> None:
    """A line of fractions with a mark on every point, and what the marks tell."""
    axes.plot(x, [100 * value for value in y], LINES[k], lw=1, color=SERIES[k])
    for i, (value, height) in enumerate(zip(x, y, strict=True)):
        axes.plot(
            [value], [100 * height], MARKERS[k], ms=4.5, color=SERIES[k], gid=f"{label[0]}{i}",
            label=None if i else label,
        )  # fmt: skip
        tips[f"{label[0]}{i}"] = told.format(f"{value:g}", f"{percent(height)}%")


def pareto(cost: Sequence[float], gain: Sequence[float]) -> list[int]:
    """Positions, by rising cost, of those that nothing cheaper or equal in cost reaches.

    >>> pareto([3, 1, 2], [0.9, 0.5, 0.4])
    [1, 0]
    """
    order = sorted(range(len(cost)), key=lambda i: (cost[i], -gain[i]))
    front: list[int] = []
    for i in order:
        if not front or gain[i] > gain[front[-1]]:
            front.append(i)
    return front


def _columns(legend: Sequence[str]) -> int:
    """Columns of a legend that fit the width."""
    longest = max(map(len, legend), default=0)
    return min(len(legend), 3 if longest <= 16 else 2 if longest <= 26 else 1)


def _space(legend: Sequence[str]) -> float:
    """Inches that a legend takes above the axes."""
    return 0.22 * -(-len(legend) // _columns(legend)) + 0.06 if legend else 0.0


def _legend(axes: Any, labels: Sequence[str]) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=_columns(labels), fontsize=9)


def _wide(legend: Sequence[str]) -> tuple[Any, Any]:
    """One axes over the whole width, with room for a legend above."""
    above = _space(legend)
    height = 2.9 + above
    made = figure(WIDTH, height)
    return made, made.add_axes((0.08, 0.48 / height, 0.9, 2.35 / height))


def _rows(labels: Sequence[str], legend: Sequence[str] = ()) -> tuple[Any, Any]:
    """One axes with a labelled line per row, the first on top."""
    above = _space(legend)
    height = 0.26 * len(labels) + 0.75 + above
    made = figure(WIDTH, height)
    axes = made.add_axes((LABEL_SPACE, 0.55 / height, 0.97 - LABEL_SPACE, 1 - (0.7 + above) / height))
    axes.set_yticks(range(len(labels)), [_short(label) for label in labels], fontsize=9)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    return made, axes


def _ends(interval: stats.Interval | None) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return "unknown"
    return f"{percent(interval.low)} to {percent(interval.high)}"


def _cost_panel(
    axes: Any,
    name: str,
    known: Sequence[tuple[Entry, float]],
    write: Callable[[float], str],
    tips: dict[str, list[str]],
    floor: float,
) -> None:
    """Mark each row, those far below the others at the floor; the front, which nothing cheaper reaches, by name."""
    cost, mean = [v for _, v in known], [e.row.mean for e, _ in known]
    gain = [100 * max(m, floor) for m in mean]
    below = [k for k, m in enumerate(mean) if m < floor]
    front = [k for k in pareto(cost, mean) if k not in below]
    told = [f"{e.row.label}, {e.row.backbone}: {percent(e.row.mean)}%, {write(v)}" for e, v in known]
    gid = re.sub(r"[^a-z]", "", name.lower())
    _marks(axes, gid, cost, [e.row for e, _ in known], floor, front, told, tips)
    axes.margins(x=0.15, y=0.12)
    _perhaps_logarithmic(axes, cost, always=name in LOGARITHMIC)
    axes.set_xlabel(name)
    named = [*sorted(front, key=lambda k: -mean[k]), *below]
    names = [(cost[k], gain[k], _called(known[k][0].row, floor, 24)) for k in named]
    _name(axes, names, zip(cost, gain, strict=True))


def _perhaps_logarithmic(axes: Any, values: Sequence[float], always: bool = False) -> None:
    """Make the axis of positive values logarithmic where they span much, or always."""
    low, high = min(values), max(values)
    if always or high > 20 * low:
        axes.set_xscale("log")
        axes.set_xlim(low / 2, high * 2)
        axes.set_xticks(_ticks(low / 2, high * 2))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}" if x >= 1 and x == round(x) else f"{x:g}")


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers along a logarithmic axis, few enough to be read: of each decade 1, 2 and 5, 1, or every second 1.

    >>> _ticks(50_000, 200_000), _ticks(0.5, 300)
    ([50000, 100000, 200000], [1, 10, 100])
    """
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    for digits, step in (((1, 2, 5), 1), ((1,), 1), ((1,), 2)):
        every = [digit * 10**decade for decade in decades[::step] for digit in digits]
        inside = [tick for tick in every if low <= tick <= high]
        if len(inside) <= MAX_TICKS:
            break
    return inside


def _place(entry: Entry, untrained: float, unknown: float) -> float:
    """Where a row stands along the logarithmic axis of images: on it, before it, or behind it."""
    seen = entry.cost.images
    if not entry.row.is_trained:
        return untrained
    return log10(seen) if seen else unknown


def _seen(entry: Entry) -> str:
    """What a training saw, in words."""
    if not entry.row.is_trained:
        return "untrained"
    seen = entry.cost.images
    return f"{seen:,.0f} images" if seen else "images not recorded"


def _ticks_of_images(
    axes: Any, entries: Sequence[Entry], before: float, behind: float, known: Sequence[float]
) -> None:
    """Round numbers along the axis, and words for the places before and behind it where something stands there."""
    inside = _ticks(10 ** min(known) / 1.5, 10 ** max(known) * 1.15) or [10 ** min(known)] if known else []
    at = {log10(tick): f"{tick:,.0f}" for tick in inside}
    if any(not e.row.is_trained for e in entries):
        at[before] = "none"
    if any(e.row.is_trained and not e.cost.images for e in entries):
        at[behind] = "not recorded"
    axes.set_xticks(list(at), list(at.values()))


def _spread(places: Sequence[float], step: float) -> list[float]:
    """Stand what has one place side by side around it, in the order given.

    >>> _spread([1.0, 2.0, 1.0], 0.1)
    [0.95, 2.0, 1.05]
    """
    same: dict[float, list[int]] = {}
    for i, place in enumerate(places):
        same.setdefault(round(place, 3), []).append(i)
    spread = list(places)
    for members in same.values():
        width = min(step, 4 * step / len(members))
        for k, i in enumerate(members):
            spread[i] = round(places[i] + width * (k - (len(members) - 1) / 2), 6)
    return spread


# Where a name may stand beside its mark, in points, the first that is free: left, where no line of the front leaves, then right,
# above, below, then further.
_BESIDE = (
    (-7, 0), (7, 0), (-7, 9), (-7, -9), (7, 9), (7, -9), (-7, 18), (-7, -18), (7, 18), (7, -18), (7, 27), (7, -27),
)  # fmt: skip


def _name(
    axes: Any, marks: Sequence[tuple[float, float, str]], others: Iterable[tuple[float, float]] = ()
) -> None:
    """Write names beside marks where they cover no mark and no other name; those without room keep their tooltips."""
    pixel = axes.figure.dpi / 72
    axes.get_xlim(), axes.get_ylim()  # so that limits are settled
    frame = axes.get_window_extent()
    on_paper = axes.transData.transform([(x, y) for x, y, _ in marks] + list(others)) if marks else []
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in on_paper]
    for (x, y, text), (at_x, at_y) in zip(marks, on_paper, strict=False):
        width, height = LETTER * len(text) * pixel, NAME_SIZE * pixel
        for right, up in _BESIDE:
            start = at_x + right * pixel - (width if right < 0 else 0)
            box = (start, at_y + up * pixel - height / 2, start + width, at_y + up * pixel + height / 2)
            is_inside = (
                frame.x0 <= box[0] and box[2] <= frame.x1 and frame.y0 <= box[1] and box[3] <= frame.y1
            )
            if is_inside and not any(_overlap(box, other) for other in taken):
                axes.annotate(
                    text, (x, y), (right, up), textcoords="offset points", fontsize=NAME_SIZE, color=INK,
                    ha="left" if right > 0 else "right", va="center",
                )  # fmt: skip
                taken.append(box)
                break


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _short(label: str, most: int = MAX_LABEL) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"
