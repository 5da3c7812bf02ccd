"""From a matplotlib figure to inline SVG: colours of the page, a tooltip on every mark, the same bytes every time."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Colours that stand for the page's own; `draw` puts the variable in their place, so that dark mode follows.
INK, MUTED, LINE, PAPER = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04"
SERIES = ("#0c0d01", "#0c0d02", "#0c0d03", "#0c0d04", "#0c0d05", "#0c0d06", "#0c0d07")
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", PAPER: "--paper"} | {
    colour: f"--s{i}" for i, colour in enumerate(SERIES, 1)
}
_SVG, _HREF = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
_UNSEEN = ("metadata", "style", "clipPath")  # nothing is drawn outside the axes
STYLE: Mapping[str, Any] = {
    "svg.fonttype": "none",  # text stays text: searchable, small, in the page's own font
    "svg.hashsalt": "fsbench",
    "text.parse_math": False,
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "figure.facecolor": "none",
    "legend.frameon": False,
}


def figure(width: float, height: float) -> Figure:
    """Make an empty figure, sizes in inches; call it, and what draws on it, inside ``style()``."""
    made = Figure(figsize=(width, height))
    FigureCanvasSVG(made)
    return made


def style() -> Any:
    """The context in which figures are made and drawn."""
    return matplotlib.rc_context(dict(STYLE))


def draw(made: Figure, name: str, alt: str, tooltips: Mapping[str, str]) -> Markup:
    """Write a figure as inline SVG.

    Args:
        made: the figure; artists with a tooltip have their key of ``tooltips`` as gid.
        name: letters, unique on its page; ids begin with it.
        alt: what it shows, for those who do not see it.
        tooltips: text by gid.
    """
    file = io.StringIO()
    made.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(file.getvalue())
    used = {node.attrib[_HREF].removeprefix("#") for node in root.iter() if _HREF in node.attrib}
    _simplify(root, name, used, tooltips)
    root.attrib = {"class": "figure", "role": "img", "aria-label": alt, "viewBox": root.attrib["viewBox"]}
    _share_styles(root, name)
    return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=True))


def _simplify(node: ElementTree.Element, name: str, used: set[str], tooltips: Mapping[str, str]) -> None:
    """Drop what nobody sees or refers to, put tooltips in, and use the page's colours, below one element."""
    kept: list[ElementTree.Element] = []
    for child in node:
        tip = tooltips.get(child.attrib.get("id", ""))
        _simplify(child, name, used, tooltips)
        child.tag = child.tag.removeprefix(_SVG)
        child.attrib = {k.replace(_HREF, "href"): v for k, v in _attributes(child, name, used)}
        child.text, child.tail = child.text and (child.text.strip() or None), None
        if tip:
            title = ElementTree.Element("title")
            title.text = tip
            child.insert(0, title)
        is_bare = child.tag == "g" and not child.attrib and not tip
        is_unseen = child.tag in _UNSEEN or (
            child.tag == "path" and child.attrib.get("style") == "fill: none"
        )
        is_unseen |= child.tag == "defs" and not len(child)
        if is_bare:
            kept += list(child)
        elif not is_unseen:
            kept.append(child)
    node[:] = kept
    node.tag = node.tag.removeprefix(_SVG)


def _share_styles(root: ElementTree.Element, name: str) -> None:
    """Write each style once, as a class that carries the figure's name; a third of the size."""
    known: dict[str, str] = {}
    for node in root.iter():
        style_text = node.attrib.pop("style", "")
        if style_text:
            node.attrib["class"] = known.setdefault(style_text, f"{name[:2]}{len(known)}")
    sheet = ElementTree.Element("style")
    sheet.text = "".join(f".{cls}{{{text}}}" for text, cls in known.items())
    root.insert(0, sheet)


def _attributes(node: ElementTree.Element, name: str, used: set[str]) -> Iterator[tuple[str, str]]:
    """The attributes of one element that matter, ids named after the figure, numbers short, colours of the page."""
    for key, value in node.attrib.items():
        if key == "id":
            if value in used:
                yield key, f"{name}-{value}"
            continue
        if key == "clip-path" or (key == "transform" and value.startswith("rotate(-0 ")):
            continue
        text = " ".join(value.split())
        if key == "style":
            text = re.sub(r"font: ([\d.]+)px [^;]*", r"font-size: \1px", text)
            text = re.sub(
                r"(font-family: [^;]*|font-size: 10px|stroke-linejoin: miter|stroke-linecap: square)(; *|$)",
                "",
                text,
            )
            text = text.strip(" ;")
        elif key == _HREF:
            text = f"#{name}-{text[1:]}"
        text = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), text)
        yield key, re.sub(r"#0[ac]0[bd]0\d", lambda colour: f"var({_VARIABLES[colour[0]]})", text)
