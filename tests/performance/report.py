"""Time the report on a made-up database and print a table: ``python tests/performance/report.py``.

Options: ``--episodes 2000 --methods 42 --settings 40 --runs 5000``, and ``--no-browser`` to leave out Chromium, in which
opening and the first sort of the index are timed where it and playwright are there.
The database and the site are made in ``--keep FOLDER`` (a scratch folder unless given) and used again when they are there.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from made_up_results import episode_table, result

from harness import stats
from harness.store import Store

CHROMIUM = Path("/usr/bin/chromium")
BUILD = """
import sys, time
started = time.perf_counter()
from pathlib import Path
from harness.report import upkeep
from harness.store import Store
from harness.system.folders import Places
home = Path(sys.argv[1])
places = Places(home, home / "data", home / "cache", str(home / "results.db"))
with Store.open(places.db) as store:
    upkeep.keep(places, store, places.reports, None)
print(time.perf_counter() - started)
"""


def fill(location: Path, options: argparse.Namespace) -> None:
    """A run per method and setting, then more seeds until there are enough."""
    table, n = episode_table(options.episodes), 0
    with Store.open(location, create=True) as store:
        for seed in range(options.runs):
            for method in range(options.methods):
                for setting in range(options.settings):
                    if n == options.runs:
                        return
                    name = f"glyphs-5w{1 + 4 * (setting % 2)}s-e{setting // 2}"
                    skill = 0.4 + 0.01 * method + 0.005 * (setting % 7)
                    spent = {"images": 1e4 * (1 + method % 7), "steps": 1e3, "seconds": 60.0, "flop": 1e12}
                    told = {"budget": {"own": spent, "below": dict.fromkeys(spent, 0.0)}}
                    run = result(
                        f"method-{method:02d}",
                        name,
                        skill,
                        seed,
                        options.episodes,
                        table=table,
                        provenance=told,
                    )
                    store.ingest(run)
                    n += 1


def build(home: Path) -> tuple[float, float, float]:
    """Seconds, processor seconds (a busy machine has more of the first) and peak bytes of one build, imports and all.

    Of all its processes together: their memory is looked at five times a second, what they share counted once.
    """
    before, peak = resource.getrusage(resource.RUSAGE_CHILDREN), 0
    made = subprocess.Popen(
        [sys.executable, "-c", BUILD, home], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    while made.poll() is None:
        peak = max(peak, memory_of_session(made.pid))
        time.sleep(0.2)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if made.returncode or made.stdout is None:
        sys.exit("the build failed")
    processor = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return float(made.stdout.read()), processor, peak


def memory_of_session(leader: int) -> int:
    """Bytes that a process and those it started hold."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):  # it may end meanwhile
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == leader:
                total += int((folder / "smaps_rollup").read_text().split("Pss:")[1].split()[0]) << 10
    return total


def all_pairs(n_methods: int, n_episodes: int) -> float:
    """Seconds to judge a table of rows with three trainings, the best of three: intervals, all pairs, ranks and words."""
    random = np.random.default_rng(0)
    rows = [
        stats.summarise(f"row {m}", random.integers(30, 60, (3, n_episodes)) / 75, 75)
        for m in range(n_methods)
    ]
    best = float("inf")
    for _ in range(3):  # the first also imports what it needs
        started = time.perf_counter()
        judged = stats.judge(rows, stats.DEFAULT)
        best = min(best, time.perf_counter() - started)
    assert judged.pairs.words.shape == (n_methods, n_methods)
    return best


def missing_for_the_browser() -> list[str]:
    """What timing in Chromium needs and is not there."""
    is_there = {str(CHROMIUM): CHROMIUM.exists(), "playwright": find_spec("playwright") is not None}
    return [name for name, found in is_there.items() if not found]


SORTED = """async () => {
  const started = performance.now();
  document.querySelectorAll("thead th button")[4].click();
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  return performance.now() - started;
}"""


def in_chromium(page: Path, n: int = 3) -> tuple[float, float]:
    """Seconds until the index is open, and from the click to the picture of the first sort: medians of fresh tabs."""
    from playwright.sync_api import sync_playwright

    opened, sorts = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(n):
            tab = browser.new_page()
            tab.goto("about:blank")
            started = time.perf_counter()
            tab.goto(page.as_uri())
            opened.append(time.perf_counter() - started)
            sorts.append(tab.evaluate(SORTED) / 1e3)
            tab.wait_for_selector("thead th:nth-child(5)[aria-sort]")
            tab.close()
        browser.close()
    return median(opened), median(sorts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("episodes", 2_000), ("methods", 42), ("settings", 40), ("runs", 5_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--browser", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        location, site = folder / "results.db", folder / "reports"
        print(
            f"{options.runs} runs × {options.episodes} episodes, {options.methods} methods, {options.settings} settings"
        )
        if not location.exists():
            started = time.perf_counter()
            fill(location, options)
            print(f"  {'making the database':<48} {time.perf_counter() - started:8.1f} s")
        shutil.rmtree(site, ignore_errors=True)
        for what in ("first build", "the same again, nothing changed", "one run more"):
            if what == "one run more":
                with Store.open(location) as store:
                    table = episode_table(options.episodes)
                    store.ingest(result("newcomer", "glyphs-5w1s-e0", 0.5, 0, options.episodes, table=table))
            seconds, processor, peak = build(folder)
            print(f"  {what:<48} {seconds:8.1f} s   {processor:6.1f} s of processor   {peak / 1e6:6.0f} MB")
        front = [site / "index.html", *(site / "static").iterdir()]
        print(
            f"  {'front page with its style and script':<48} {sum(p.stat().st_size for p in front) / 1e3:8.0f} kB"
        )
        size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
        print(f"  {'size of the site':<48} {size / 1e6:8.1f} MB")
        print(f"  {'judging 40 rows × 3 trainings × 2,000 episodes':<48} {all_pairs(40, 2_000):8.2f} s")
        if options.browser:
            missing = missing_for_the_browser()
            seconds = (None, None) if missing else in_chromium(site / "index.html")
            for what, took in zip(("opening", "the first sort of"), seconds, strict=True):
                told = f"{took:8.2f} s" if took else f"not timed, there is no {' and no '.join(missing)}"
                print(f"  {what + ' the index in Chromium':<48} {told}")
    print(
        f"  {'memory of this script':<48} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:8.0f} MB"
    )


if __name__ == "__main__":
    main()
