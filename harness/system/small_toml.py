"""A small TOML file of the user's, read within limits."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from harness.errors import ConfigError

_LARGEST = 1 << 16  # bytes


def read_toml(path: Path) -> dict[str, Any]:
    """Tables and values of a TOML file.

    Raises:
        ConfigError: when it cannot be read or is larger than 64 KiB.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ConfigError(f"{path} is larger than {_LARGEST:,} bytes; it is not what fsbench reads.")
        text = content.decode()
        found = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:  # tomllib's and the decoder's own are ValueErrors
        raise ConfigError(f"{path} cannot be read: {error!s:.200}.") from error
    return found
