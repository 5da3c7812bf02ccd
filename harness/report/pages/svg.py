"""From a matplotlib figure to inline SVG: colours of the page, a tooltip on every mark, the same bytes every time."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from harness.errors import visible

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


Tooltips = Mapping[str, str | Sequence[str]]


def figure(width: float, height: float) -> Figure:
    """Make an empty figure, sizes in inches; call it, and what draws on it, inside ``style()``."""
    made = Figure(figsize=(width, height))
    FigureCanvasSVG(made)
    return made


def style() -> Any:
    """The context in which figures are made and drawn."""
    return matplotlib.rc_context(dict(STYLE))


def draw(made: Figure, name: str, alt: str, tooltips: Tooltips) -> Markup:
    """Write a figure as inline SVG.

    Args:
        made: the figure; artists with a tooltip have their key of ``tooltips`` as gid.
        name: letters, unique on its page; ids begin with it.
        alt: what it shows, for those who do not see it.
        tooltips: text by gid, or a text for each mark of a line that is all marks.
    """
    file = io.StringIO()
    made.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(visible(file.getvalue(), lines=True))  # XML has no control characters
    ids = _short_ids(root, name)
    _simplify(root, ids, tooltips)
    root.attrib = {
        "class": "figure",
        "role": "img",
        "aria-label": visible(alt),
        "viewBox": root.attrib["viewBox"],
    }
    _share_styles(root, name)
    return Markup(ElementTree.tostring(root, encoding="unicode").replace(" />", "/>"))


def _short_ids(root: ElementTree.Element, name: str) -> Mapping[str, str]:
    """New ids of what is drawn more than once, by old id, in the order of their use."""
    used = (node.attrib[_HREF].removeprefix("#") for node in root.iter() if _HREF in node.attrib)
    return {old: f"{name[:2]}-{i}" for i, old in enumerate(dict.fromkeys(used))}


def _simplify(node: ElementTree.Element, ids: Mapping[str, str], tooltips: Tooltips) -> None:
    """Drop what nobody sees or refers to, put tooltips in, and use the page's colours, below one element."""
    kept: list[ElementTree.Element] = []
    for child in node:
        tip = tooltips.get(child.attrib.get("id", ""))
        _simplify(child, ids, tooltips)
        child.tag = child.tag.removeprefix(_SVG)
        child.attrib = {k.replace(_HREF, "href"): v for k, v in _attributes(child, ids)}
        child.text, child.tail = child.text and (child.text.strip() or None), None
        if isinstance(tip, str):
            _tell(child[0] if len(child) == 1 and not len(child[0]) else child, tip)
        elif tip:
            for mark, text in zip(child.iter("use"), tip, strict=True):
                _tell(mark, text)
        is_bare = child.tag == "g" and not child.attrib and child.find("title") is None
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


def _tell(mark: ElementTree.Element, text: str) -> None:
    title = ElementTree.Element("title")
    title.text = visible(text, lines=True)
    mark.insert(0, title)


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


def _attributes(node: ElementTree.Element, ids: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The attributes of one element that matter, with new ids, short numbers, colours of the page."""
    for key, value in node.attrib.items():
        if key == "id":
            if value in ids:
                yield key, ids[value]
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
            text = f"#{ids[text[1:]]}"
        text = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), text)
        text = _short_path(text) if key == "d" else text
        yield key, re.sub(r"#0[ac]0[bd]0\d", lambda colour: f"var({_VARIABLES[colour[0]]})", text)


def _short_path(path: str) -> str:
    """Write lines along an axis as H and V, and no space that can be left out.

    >>> _short_path("M 1 2 L 3 2 L 3 4.5 L 5 6 z")
    'M1 2H3V4.5L5 6z'
    """
    written, at = "", ["", ""]
    for letter, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", path):
        to = numbers.split()
        if letter == "L" and len(to) == 2 and to[0] == at[0]:
            written += f"V{to[1]}"
        elif letter == "L" and len(to) == 2 and to[1] == at[1]:
            written += f"H{to[0]}"
        else:
            written += letter + " ".join(to)
        at = to[-2:] if len(to) >= 2 else at
    return written
