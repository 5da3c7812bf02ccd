"""What must not travel with a result: credentials, which are kept nowhere, and the machine's own names, which stay at home."""

from __future__ import annotations

import getpass
import logging
import platform
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

# user:password@ (a password may hold what a URL should escape), or token@, after scheme://; bounded, so that no text is slow
_IN_ADDRESS = re.compile(
    r"(?i)\b([a-z][a-z0-9+.-]{0,30}://)(?:[^\s/:@\"'<>]{0,300}:[^\s\"'<>]{0,300}@|[^\s/?#@\"'<>]{1,300}@)"
)
_NAMED = re.compile(
    r"(?i)\b((?:ssl)?password|passwd|pwd|passphrase|secret|(?:access_|auth_)?token|api_?key)=[^\s&;'\"<>]+"
)
# /home/anna/x.py, /etc: absolute, of two parts or more, and no part of a URL, a ratio or a closing tag
_PATH = re.compile(r"(?<![\w.:/<~…])~?/(?:[^\s/:;,'\"<>|()\[\]{}]+/)+([^\s/:;,'\"<>|()\[\]{}]*)")
_SHORTEST_NAME = 3  # shorter user and host names are ordinary words


def without_credentials(text: str) -> str:
    """Take user names, passwords and tokens out of every URL and ``password=…`` of a text.

    >>> without_credentials("postgresql+psycopg://anna:pa/ss@db.example/results?sslpassword=x")
    'postgresql+psycopg://db.example/results?sslpassword=***'
    >>> without_credentials("https://ghp_token@git.example/anna/mine.git")
    'https://git.example/anna/mine.git'
    """
    return _NAMED.sub(r"\1=***", _IN_ADDRESS.sub(r"\1", text))


def without_machine(text: str, host: str = "") -> str:
    """Take paths of the machine, its name and its user's out of a text; of a path its last part stays.

    Args:
        text: what is to be published.
        host: another machine's name, where the text comes from there.

    >>> without_machine('File "/home/anna/work/mine.py", line 3')
    'File "…/mine.py", line 3'
    """
    return _without_names(text, ((host, "HOST"), (platform.node(), "HOST"), (_user(), "USER")))


@lru_cache(maxsize=1024)  # thousands of runs say the same
def _without_names(text: str, names: tuple[tuple[str, str], ...]) -> str:
    text = _PATH.sub(lambda found: f"…/{found[1]}", without_credentials(text).replace("file://", ""))
    for name, shown in names:
        if len(name) >= _SHORTEST_NAME and name not in ("root", "localhost"):
            text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", shown, text)
    return text


def all_without_credentials(value: Any) -> Any:
    """The same JSON value, each text ``without_credentials``."""
    return _each_text(value, without_credentials)


def all_without_machine(value: Any, host: str = "") -> Any:
    """The same JSON value, each text ``without_machine``."""
    return _each_text(value, lambda text: without_machine(text, host))


class WithoutCredentials(logging.Formatter):
    """A formatter of log lines that writes no credentials, whatever was logged."""

    def format(self, record: logging.LogRecord) -> str:
        """Format, then take them out of message and traceback alike."""
        return without_credentials(super().format(record))


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _each_text(entry, change) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_each_text(entry, change) for entry in value]
    return value


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return ""
