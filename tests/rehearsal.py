"""Rehearse every benchmark end to end on made-up images in the real layouts: prepare, run, report.

    python tests/rehearsal.py [FOLDER]

What cannot run here for lack of ImageNet is thus shown to run. No row of it is a result: accuracies are those of
coloured patches, every digest of images has ``-rehearsal-`` in it, and every row the badge.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import rehearsal_sources as sources

ROOT = Path(__file__).resolve().parents[1]
FEW = ("--backbone", "conv4")
TWENTY = ("--episodes", "20")  # a joint setting has five experiments, and all are run
PROTONET = ("-m", "protonet", "--set", "epochs=1", "--set", "episodes_per_epoch=3", "--set", "train_way=5")
BML = (
    "-m", "bml", "--set", "epochs=1", "--set", "steps_per_epoch=2", "--set", "train_way=3", "--set", "train_shot=2",
    "--set", "train_query=2", "--set", "drop_rate=0", "--set", "decay_epochs=", "--set", "decay_factors=",
)  # fmt: skip


class Source(NamedTuple):
    """What is made up and prepared before some benchmarks run."""

    write: Callable[[Path, Path], Path]
    file: str
    datasets: tuple[str, ...]


class Run(NamedTuple):
    """One call of ``fsbench run``, and the exit code it has to end with."""

    words: tuple[str, ...]
    needs: tuple[str, ...]
    code: int = 0


PUBLISHED = ("--recipe", "as-published")
NEGATIVE = (
    "-m", "neg-cosine", "--set", "epochs=2", "--set", "warmup_epochs=1", "--set", "batch_size=64", "--set", "drop_rate=0",
)  # fmt: skip


SOURCES = {
    "imagenet": Source(sources.write_imagenet, "ILSVRC2012_img_train.tar", ("mini", "tiered")),
    "lowshot": Source(sources.write_lowshot, "lowshot", ("imagenet-lowshot",)),
    "cub": Source(sources.write_cub, "CUB_200_2011.tgz", ("cub", "cub-bbox")),
    "cifar100": Source(sources.write_cifar100, "cifar-100-python.tar.gz", ("cifar100",)),
    "flowers": Source(sources.write_flowers, "flowers", ("flowers",)),
    "pets": Source(sources.write_pets, "pets", ("pets",)),
    "dogs": Source(sources.write_dogs, "dogs", ("dogs",)),
    "omniglot": Source(sources.write_omniglot, "omniglot", ("omniglot",)),
}
MEANS = ("-m", "nearest-mean", "--set", "epochs=1")
PIXELS = ("-m", "pixels")  # no training: what is shown is that images and lists fit each other
_BOTH = ("imagenet", "cub")
RUNS = {
    "mini": [
        Run((*PROTONET, "-b", "mini-5w1s,mini-5w5s"), ("imagenet",)),
        Run((*BML, "-b", "mini-5w1s"), ("imagenet",)),
    ],
    "tiered": [
        Run((*PROTONET, "-b", "tiered-5w1s"), ("imagenet",)),
        Run((*PIXELS, "-b", "tiered-trainval-5w1s"), ("imagenet",)),
    ],
    "cub": [
        Run((*PIXELS, "-b", "cub-*-5w1s"), ("cub",)),
        Run((*BML, "-b", "cub-feat-5w1s"), ("cub",)),
    ],
    "cifar": [
        Run((*PROTONET, "-b", "cifarfs-5w1s,fc100-5w5s"), ("cifar100",)),
        Run((*BML, "-b", "cifarfs-5w1s"), ("cifar100",)),
    ],
    "as published": [  # the authors' pixels: squares of 84, photographs, enlarged pictures
        Run((*BML, *PUBLISHED, "-b", "mini-5w1s"), ("imagenet",)),
        Run((*NEGATIVE, *PUBLISHED, "-b", "mini-5w1s"), ("imagenet",)),
        Run((*BML, *PUBLISHED, "-b", "cub-feat-mixedcrop-5w1s"), ("cub",)),
        Run((*BML, *PUBLISHED, "-b", "cifarfs-5w1s,fc100-5w1s"), ("cifar100",)),
        Run((*BML, *PUBLISHED, "-b", "cub-closerlook-5w1s"), ("cub",), code=2),
        Run((*PROTONET, *PUBLISHED, "-b", "omniglot-5w1s", "--set", "patience=1"), ("omniglot",)),
    ],
    "fine-grained": [
        Run((*PROTONET, "-b", "flowers-5w1s"), ("flowers",)),
        Run((*PIXELS, "-b", "dogs-5w1s,dogs-closed"), ("dogs",)),
        Run((*MEANS, "-b", "flowers-closed"), ("flowers",)),
        Run((*PIXELS, "-b", "flowers-closed-trainval,pets-closed"), ("flowers", "pets")),
    ],
    "lowshot": [Run((*MEANS, "-b", "imagenet-lowshot-n1,imagenet-lowshot-n2"), ("lowshot",))],
    "cross": [
        Run((*PROTONET, "-b", "mini-cub-5w5s"), _BOTH),
        Run((*PIXELS, "-b", "mini64-cub-5w5s"), _BOTH),
        Run((*PROTONET, "-b", "tiered-cub-5w5s"), _BOTH, code=2),
        Run((*PROTONET, "-b", "tiered-cub-5w5s", "--allow-leak"), _BOTH),
    ],
    "omniglot": [
        Run((*PROTONET, "-b", "omniglot-5w1s,omniglot-20w1s,omniglot-small-5w1s"), ("omniglot",)),
        Run((*PROTONET, "-b", "omniglot-lake-*"), ("omniglot",)),
    ],
}


class Stage:
    """The scratch folder of a rehearsal and the command line in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.benchmarks = folder, sources.write_benchmarks(folder / "benchmarks")
        self.environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "FSBENCH_HOME": str(folder), "FSBENCH_DATA": str(folder / "data"),
            "FSBENCH_CACHE": str(folder / "cache"), "FSBENCH_BENCHMARKS": str(self.benchmarks),
        }  # fmt: skip

    def type(self, *words: str, code: int = 0) -> str:
        """Type a command; what it prints.

        Raises:
            SystemExit: when it ends otherwise than it has to.
        """
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "fsbench", *words], env=self.environment, cwd=self.folder, capture_output=True, text=True
        )  # fmt: skip
        tell(
            f"{time.monotonic() - began:5.1f} s  fsbench {' '.join(words)}{f'  (exit {code})' if code else ''}"
        )
        if done.returncode != code:
            raise SystemExit(f"ended with {done.returncode}, not {code}:\n{done.stdout}\n{done.stderr}")
        return done.stdout if code == 0 else done.stderr

    def prepare(self, name: str) -> None:
        """Make a source up and prepare what it holds."""
        source = SOURCES[name]
        path = source.write(self.folder / source.file, self.benchmarks)
        given = sorted(path.glob("ILSVRC2012_img_*.tar")) or [path]
        words = [word for part in given for word in ("--source", str(part))]
        for dataset in source.datasets:
            self.type("prepare", dataset, *words, "--accept-terms")

    def run(self, run: Run) -> list[dict[str, Any]]:
        """Carry a run out and give its rows, each marked as no result."""
        few = FEW if "lowshot" in run.needs else (*FEW, *TWENTY)
        said = self.type("run", *run.words, *few, *(() if run.code else ("--json",)), code=run.code)
        rows: list[dict[str, Any]] = [] if run.code else json.loads(said)
        for row in rows:
            tell(
                f"         {row['setting']:28} {row['method']:10} {100 * row['accuracy']:6.2f}  {', '.join(row['badges'])}"
            )
            if "rehearsal" not in row["badges"]:
                raise SystemExit(f"{row['setting']}: the row does not say that it is a rehearsal's")
        return rows


def rehearse(folder: Path, parts: Sequence[str] = tuple(RUNS)) -> list[dict[str, Any]]:
    """Prepare, run and report the benchmarks of some parts; gives the rows.

    Raises:
        SystemExit: when a command ends otherwise than it has to.
    """
    stage = Stage(folder)
    for name in dict.fromkeys(need for part in parts for run in RUNS[part] for need in run.needs):
        stage.prepare(name)
    rows = [row for part in parts for run in RUNS[part] for row in stage.run(run)]
    stage.type("report")
    general = ("definitions.html", "across.html")  # they show no row
    pages = {p.name: p.read_text() for p in (folder / "reports").glob("*.html") if p.name not in general}
    silent = [name for name, page in pages.items() if '<span class="badge">rehearsal</span>' not in page]
    if silent or len(pages) <= len({row["setting"] for row in rows}):  # the index is one more
        raise SystemExit(f"{len(pages)} pages; these do not say that they are a rehearsal's: {silent}")
    return rows


def tell(line: str) -> None:
    """Print one line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Rehearse everything in a scratch folder, which is removed when all went well."""
    began = time.monotonic()
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="fsbench-rehearsal-"))
    shutil.rmtree(folder, ignore_errors=True)
    rows = rehearse(folder)
    tell(
        f"{len(rows)} rows of {len({row['setting'] for row in rows})} settings in {time.monotonic() - began:.0f} s; no results"
    )
    if len(sys.argv) == 1:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
