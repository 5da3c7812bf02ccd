"""Time commands that only read beside the import they cannot do without: ``python tests/performance/commands.py``.

Processor seconds of whole processes on the shipped results.db: each command and ``import numpy, sqlalchemy`` in turn,
``--runs 5`` times after a first one, which stands in a column of its own: `leaderboard` judges every table then, and gives the
same answer again while nothing changes. The ratio is the median of those taken pair by pair, because a machine's speed drifts.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
BESIDE = [sys.executable, "-c", "import numpy, sqlalchemy"]
COMMANDS = (
    "leaderboard",
    "compare protonet nearest-mean -b omniglot-small-5w1s",
    "show {run}",
    "status",
    "methods",
    "benchmarks",
    "report --format csv",
)


def processor_seconds(command: list[str], home: Path) -> float:
    """User and system seconds of one process and what it started."""
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "FSBENCH_HOME": str(home), "FSBENCH_DATA": str(home), "FSBENCH_CACHE": str(home),
    }  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1):  # 1: the verdict is negative
        sys.exit(f"{command} failed: {done.stderr.decode()}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    from harness.store import Store

    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        shutil.copy(ROOT / "results.db", home)
        with Store.open(home / "results.db") as store:
            run = store.column("id", status="done")[0]
        print(f"  {'processor seconds':<52} {'first':>8} {'again':>8} {'import':>8} {'ratio':>7}")
        for words in COMMANDS:
            command = [sys.executable, str(ROOT / "fsbench.py"), *words.format(run=run).split()]
            (first, _), *pairs = (
                (processor_seconds(command, home), processor_seconds(BESIDE, home))
                for _ in range(options.runs + 1)
            )
            mine, beside = (median(column) for column in zip(*pairs, strict=True))
            ratio = median(a / b for a, b in pairs)
            print(
                f"  {'fsbench ' + words.format(run=run):<52} {first:8.3f} {mine:8.3f} {beside:8.3f} {ratio:6.2f}×"
            )


if __name__ == "__main__":
    main()
