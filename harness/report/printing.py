"""How pages are printed: templates, the filters they use, and text that is safe to write."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from harness.errors import visible
from harness.images.augmentations import crops_told
from harness.report import formats, prose
from harness.report.board.rows import Row
from harness.report.formats import method_file, run_file, slug
from harness.report.pages import setting_page
from harness.report.pages.run_page import Curve

if TYPE_CHECKING:
    from jinja2 import Environment


def print_page(path: Path, template: str, **context: Any) -> None:
    """Write a page by its template."""
    print_text(path, _environment().get_template(template).render(**context))


def print_text(path: Path, text: str) -> None:
    """Write text that shows what cannot be shown as what it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(visible(text, lines=True), encoding="utf-8", errors="backslashreplace", newline="\n")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        percent=formats.percent, duration=formats.duration, images=formats.images_text, rank=formats.rank_text, span=formats.span, slug=slug, run_file=run_file,
        method_file=method_file, p_value=formats.p_short, last_line=formats.last_line,
        polyline=polyline, flat=formats.flat, crops=crops_told, ends=formats.ends, seed_marks=seed_marks, square=setting_page.square, breakable=breakable, signed=formats.signed, inline=prose.inline,
        prose=prose.block,
    )  # fmt: skip
    return made


def polyline(curve: Curve, low: float | None = None, high: float | None = None) -> str:
    """Points of a curve in a box of 200 × 60, from the lowest value to the highest, its own unless given."""
    low, high = curve.low if low is None else low, curve.high if high is None else high
    first, last = curve.points[0][0], curve.points[-1][0]
    across, up = (last - first) or 1.0, (high - low) or 1.0
    return " ".join(
        f"{200 * (x - first) / across:.0f},{60 - 60 * (y - low) / up:.0f}" for x, y in curve.points
    )


def seed_marks(row: Row, scale: tuple[float, float]) -> Markup:
    """A dot for each training of a row on the scale of its bar; none where there is one."""
    means = row.accuracy.mean(axis=1) if len(row.seeds) > 1 else ()
    places = (formats.on_scale(mean, scale) for mean in means)
    return Markup("").join(Markup('<b style="--m:{}"></b>').format(f"{place:.0f}") for place in places)


def breakable(setting: str) -> Markup:
    """A name that may be broken after its dashes."""
    return Markup("-<wbr>").join(setting.split("-"))
