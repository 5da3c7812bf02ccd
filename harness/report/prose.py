"""Texts that people wrote, as HTML: Markdown, of which no tag, picture or script comes through."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from markdown_it import MarkdownIt


def block(text: str) -> Markup:
    r"""Paragraphs, lists and code of a docstring; two backquotes are one, as in reStructuredText.

    >>> print(block("One *word*:\n\n- ``a``"))
    <p>One <em>word</em>:</p>
    <ul>
    <li><code>a</code></li>
    </ul>
    """
    return Markup(_markdown().render(text).strip())


def inline(text: str) -> Markup:
    """One line of text.

    >>> print(inline("a *b* <i>"))
    a <em>b</em> &lt;i&gt;
    """
    return Markup(_markdown().renderInline(text))


@cache
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt

    # headings would break the outline of the page; pictures are requests
    return MarkdownIt("commonmark", {"html": False}).disable(
        ["image", "heading", "lheading", "html_block", "html_inline"]
    )
