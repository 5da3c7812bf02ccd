"""Picture every kind of page at three widths, into docs/pages: ``python tests/screenshots.py [--home .] [--out docs/pages]``.

The site is made from the home's ``results.db`` in a scratch folder, as ``fsbench publish`` makes it. A picture shows the top
of a page, two screens high at most, in 64 colours, so that all of them stay below two megabytes.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from harness.exchange.publishing import publish
from harness.store import Store
from harness.system.folders import Places

WIDTHS = (1400, 820, 420)
MOST_SCREENS, SCREEN = 2, 1000  # pixels
KINDS = {
    "front": "index.html", "setting": "SETTING.html", "benchmark": "family-*.html", "across": "across.html", "method": "method/*.html",
    "run": "run/*.html", "results": "run/????????????.html", "definitions": "definitions.html", "signature": "signature/*.html",
    "not-found": "404.html",
}  # fmt: skip


def pages(site: Path, setting: str) -> dict[str, Path]:
    """A page of each kind: of the setting that was asked for, else the longest, which has most to show."""
    found = {}
    for kind, pattern in KINDS.items():
        there = sorted(
            site.glob(pattern.replace("SETTING", setting)), key=lambda p: (-p.stat().st_size, p.name)
        )
        if kind == "results":  # of a run that has several, each of which has a page, too
            there = [path for path in there if any(path.parent.glob(f"{path.stem}-*.html"))]
        if there:
            found[kind] = there[0]
    return found


def shoot(site: Path, setting: str, out: Path, scheme: str) -> int:
    """Write the pictures and give their bytes."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for width in WIDTHS:
            context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": SCREEN})
            tab = context.new_page()
            for kind, path in pages(site, setting).items():
                tab.goto(path.as_uri())
                tab.wait_for_timeout(400)  # a script brings the pair that is drawn
                high = min(tab.evaluate("document.documentElement.scrollHeight"), MOST_SCREENS * SCREEN)
                raw = tab.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": width, "height": high})
                small = Image.open(BytesIO(raw)).convert("RGB").quantize(64, dither=Image.Dither.NONE)
                small.save(out / f"{kind}-{width}{'-dark' if scheme == 'dark' else ''}.png", optimize=True)
            context.close()
        browser.close()
    return sum(path.stat().st_size for path in out.glob("*.png"))


def main() -> None:
    """Make the site and picture it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path())
    parser.add_argument("--out", type=Path, default=Path("docs/pages"))
    parser.add_argument("--setting", default="cifar10-5w1s")
    parser.add_argument("--dark", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, Store.open(options.home / "results.db") as store:
        home, site = Path(scratch) / "home", Path(scratch) / "site"
        publish(store, Places(home, home, home, str(options.home / "results.db")), str(site))
        size = shoot(site, options.setting, options.out, "dark" if options.dark else "light")
    print(f"{len(list(options.out.glob('*.png')))} pictures in {options.out}, {size / 1e3:,.0f} kB")


if __name__ == "__main__":
    main()
