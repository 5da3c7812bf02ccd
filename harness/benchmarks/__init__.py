"""Who is base, validation and novel, which episodes are asked, and what must not have been seen.

Images come from below as rows of a store; no method and no run is known here.
"""

from harness.benchmarks.roles import Role
from harness.benchmarks.settings import (
    FOLDER,
    ROLES,
    Benchmark,
    RoleName,
    Setting,
    ambiguous,
    every,
    expand,
    load,
    locked_digests,
    named,
    novel_closed,
    roles_of,
    standard_names,
    unbalanced_names,
    user_folder,
)

__all__ = [
    "FOLDER",
    "ROLES",
    "Benchmark",
    "Role",
    "RoleName",
    "Setting",
    "ambiguous",
    "every",
    "expand",
    "load",
    "locked_digests",
    "named",
    "novel_closed",
    "roles_of",
    "standard_names",
    "unbalanced_names",
    "user_folder",
]
