"""``make lock``: add the digests of new standard settings to ``benchmarks/episodes.lock``; never change one."""

from __future__ import annotations

from harness.benchmarks import settings
from harness.system.files import save_text

HEADER = (
    "# setting and sha256 of its whole episode list; checked at every run and by `fsbench episodes --check`\n"
)


def main() -> None:
    """Draw the lists that are not locked yet and write their digests beside the old ones."""
    own = [b for b in settings.every() if b.folder == settings.FOLDER]
    built_in = [s for b in own for s in (*b.settings(), *b.unbalanced())]
    digests = {setting.name: setting.episodes.digest for setting in built_in}
    lines = [
        f"{name} {digest}\n" for name, digest in sorted({**settings.locked_digests(), **digests}.items())
    ]
    save_text(settings.FOLDER / "episodes.lock", HEADER + "".join(lines))


if __name__ == "__main__":
    main()
