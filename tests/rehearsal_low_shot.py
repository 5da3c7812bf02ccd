"""ImageNet low-shot at its true size, on features that are made up: time and peak memory of every head. No row is a result.

Writes 1,281,167 training and 50,000 held-out features of 512 numbers for 1,000 classes, in the HDF5 layout of the
benchmark's authors, prepares them as a user would, and runs every head on every n through the command line. What the
published recipes repeat for hours (steps of the classifiers, clusters of the analogies) is cut by ``--share`` and told
beside the times, which are per piece and for the whole recipe in proportion.

    python tests/rehearsal_low_shot.py [--share 0.02] [--shots 1,2,5,10,20] [--folder DIR] [--dim 512] [--heads NAME,…]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from harness.images.sources import splits

BENCH = "imagenet-lowshot-features"
N_HELD_OUT = 50
_AT_ONCE = 20_000


class Recipe(NamedTuple):
    """One head: what is typed, and how many steps the published recipe has for each taken here."""

    method: str
    settings: dict[str, object]
    times: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--share", type=float, default=0.02, help="of the published steps")
    parser.add_argument("--shots", default="1,2,5,10,20")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--clusters", type=int, default=8, help="of a base class; published 100")
    parser.add_argument(
        "--per-class",
        type=int,
        default=100,
        help="support images of each class for a matching network; published 100",
    )
    parser.add_argument("--heads", default="lowshot-logistic,lowshot-hallucination,matching-network")
    parser.add_argument("--folder", type=Path, help="kept; a scratch folder else")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rehearse(asked, asked.folder or Path(scratch))


def rehearse(asked: argparse.Namespace, folder: Path) -> None:
    source = folder / "hdf5"
    if not source.exists():
        began = time.monotonic()
        size = write(source, asked.dim)
        print(f"written: {size / 2**30:.1f} GiB of HDF5 in {time.monotonic() - began:.0f} s")
    run = Command(folder)
    run("prepare", "prepare", BENCH, "--source", str(source), "--accept-terms")
    heads = asked.heads.split(",")
    for recipe in (r for r in recipes(asked.share, asked.clusters, asked.per_class) if r.method in heads):
        shots = asked.shots.split(",")
        for n in (
            shots[:1] if recipe.method == "matching-network" else shots
        ):  # as many support rows at every n
            words = [w for name, value in recipe.settings.items() for w in ("--set", f"{name}={value}")]
            experiments = ["--episodes", "1"] if recipe.method == "matching-network" else []
            title = f"{recipe.method}, n={n}" + (", 1 of 5 experiments" if experiments else "")
            run(title, "run", "-m", recipe.method, "-b", f"{BENCH}-n{n}", *words, *experiments, "--json",
                times=recipe.times)  # fmt: skip


def recipes(share: float, clusters: int, per_class: int) -> list[Recipe]:
    def steps(n: int) -> int:
        return max(1, round(share * n))

    few = max(1, steps(60_000) // 400)  # of a matching network: each reads two thousand features in sequence
    plain = f"representation(aux=none,classifier_steps={steps(10_000)})"
    head = {"features": plain, "n_steps": steps(10_000)}
    generator = {"clusters": clusters, "generator_steps": steps(120_000)}
    return [
        Recipe("lowshot-logistic", head, 1 / share),
        Recipe("lowshot-hallucination", {**head, **generator}, 1 / share),
        Recipe(
            "matching-network", {"features": plain, "n_steps": few, "base_per_class": per_class}, 60_000 / few
        ),
    ]


def write(folder: Path, dim: int) -> int:
    """Features of each class around a centre of its own, non-negative like pooled ones; bytes written."""
    folder.mkdir(parents=True)
    sizes = list(splits.read("imagenet-lowshot")["sizes"].values())
    random = np.random.default_rng(0)
    centres = random.random((len(sizes), dim), dtype=np.float32)
    for name, counts in (("train", sizes), ("val", [N_HELD_OUT] * len(sizes))):
        labels = np.repeat(np.arange(len(counts)), counts)
        padded = -(-len(labels) // 64) * 64
        with h5py.File(folder / f"{name}.hdf5", "w") as file:
            features = file.create_dataset("all_feats", (padded, dim), "float32")
            for start in range(0, len(labels), _AT_ONCE):
                part = labels[start : start + _AT_ONCE]
                noise = random.standard_normal((len(part), dim), dtype=np.float32)
                features[start : start + len(part)] = np.maximum(centres[part] + 0.5 * noise, 0)
            file["all_labels"] = np.pad(labels, (0, padded - len(labels))).astype(np.int32)
            file["count"] = np.array([len(labels)], np.int32)
    return sum(path.stat().st_size for path in folder.iterdir())


class Command:
    """The command line in a home of its own; prints time and peak memory of each call."""

    def __init__(self, folder: Path) -> None:
        self._environment = {
            **os.environ,
            "FSBENCH_HOME": str(folder), "FSBENCH_DATA": str(folder / "data"), "FSBENCH_CACHE": str(folder / "cache"),
        }  # fmt: skip

    def __call__(self, title: str, *words: str, times: float = 1.0) -> None:
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            ["/usr/bin/env", sys.executable, "-c", _MEASURED, *words],
            env=self._environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{title} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        peak = json.loads(done.stderr.strip().splitlines()[-1])
        told = f"{title}: {time.monotonic() - began:.0f} s, {processor:.0f} s of processor time"
        told += f", peak {peak['anonymous'] / 2**30:.2f} GiB of its own and {peak['resident'] / 2**30:.2f} GiB with mapped pages"
        if done.stdout.strip().startswith("["):
            (row,) = json.loads(done.stdout)
            seconds = {stage: row[f"{stage}_seconds"] or 0.0 for stage in ("fit", "embed", "evaluate")}
            told += "; " + ", ".join(f"{stage} {s:.0f} s" for stage, s in seconds.items())
            told += f"; top-5 all {100 * row['metrics']['top5/all']:.0f}%"
            if times > 1:
                told += f"; published steps are {times:.0f} times as many"
        print(told, flush=True)


# What a process holds itself is told apart from pages of files that it maps, which the system takes back at need.
_MEASURED = """
import json, sys, threading, time
import fsbench
peak = {"anonymous": 0, "resident": 0}
def look():
    while True:
        fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
        own, whole = (1024 * int(fields[name].split()[0]) for name in ("RssAnon", "VmRSS"))
        peak["anonymous"], peak["resident"] = max(peak["anonymous"], own), max(peak["resident"], whole)
        time.sleep(0.05)
threading.Thread(target=look, daemon=True).start()
sys.argv = ["fsbench", *sys.argv[1:]]
try:
    fsbench.main()
finally:
    sys.stderr.write("\\n" + json.dumps(peak) + "\\n")
"""


if __name__ == "__main__":
    main()
