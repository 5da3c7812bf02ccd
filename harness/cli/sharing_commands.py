"""What the commands about other people's results do: merge, export, import, recheck and score."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.cli import tables
from harness.errors import ConfigError
from harness.exchange import bundles
from harness.report.formats import percent
from harness.runs import folders
from harness.store import Store, merging
from harness.system.folders import Places

ALL = "all"


def merge(store: Store, others: Sequence[str]) -> dict[str, Any]:
    """Merge, and say what came and which results disagree, as JSON types."""
    outcomes = merging.merge(store, others)
    return {
        "merged": {location: dict(counts) for location, counts in outcomes.items()},
        "disagreements": [
            {
                "run": found.spec.id, "method": found.spec.method.name, "setting": found.spec.setting, "seed": found.spec.seed,
                "metric": found.metric, "episodes": found.spec.n_episodes, "differing": found.n_differing,
                "results": [
                    {"digest": digest, "device": device, "accuracy": accuracy}
                    for digest, device, accuracy in zip(found.replicates, found.devices, found.accuracies, strict=True)
                ],
            }
            for found in merging.disagreements(store)
        ],
    }  # fmt: skip


def show_merge(found: Mapping[str, Any]) -> None:
    """Print what came, and the runs whose results disagree."""
    for location, counts in found["merged"].items():
        tables.say(f"{location}: {_counted(counts) or 'no runs'}")
    rows = [
        (
            entry["run"], entry["method"], entry["setting"], str(entry["seed"]), f"{entry['differing']} of {entry['episodes']}",
            " | ".join(f"{percent(r['accuracy'])} ({r['digest'][:8]}, {r['device'] or 'device unknown'})" for r in entry["results"]),
        )
        for entry in found["disagreements"]
    ]  # fmt: skip
    if rows:
        columns = ("run", "method", "setting", "seed", "episodes that differ", "accuracy % of each result")
        tables.show_table(columns, rows, title="Several results of one run", right=(3, 4))


def export(store: Store, where: Places, prefixes: Sequence[str], bundle: Path, *, with_fits: bool) -> str:
    """Export, and say what was written.

    Raises:
        ConfigError: when a run failed: there is no result to export.
    """
    every = store.column("id", status="done") if ALL in prefixes else []
    chosen = sorted({*every, *(store.run(prefix).id for prefix in prefixes if prefix != ALL)})
    failed = [run_id for run_id in chosen if store.run(run_id).status == "failed"]
    if failed:
        raise ConfigError(f"{', '.join(failed)} failed; only results can be exported.")
    written = bundles.export(store, where, chosen, bundle, with_fits=with_fits)
    text = f"{bundle}: {written.n_runs} results, {written.n_fits} checkpoints, {bundle.stat().st_size / 1e6:.1f} MB"
    if written.without_fit:
        text += f"\nno checkpoint in {where.cache} for {', '.join(written.without_fit)}"
    return text


def take_in(store: Store, where: Places, bundle: Path) -> str:
    """Import, and say what came."""
    return f"{bundle}: {_counted(bundles.take_in(store, where, bundle)) or 'no runs'}"


def recheck(store: Store, where: Places, prefix: str, replicate: str, n: int, seed: int, device: str,
            source: str) -> dict[str, Any]:  # fmt: skip
    """Recheck, and say what was found, as JSON types."""
    from harness.jobs import rechecks
    from harness.system.progress import choose

    looked = rechecks.recheck(
        store, where, prefix, replicate, n, seed, device, choose(sys.stderr.isatty()), source
    )
    return {
        "run": looked.run.id, "replicate": looked.run.replicate, "badges": list(looked.run.badges), **looked.check._asdict(),
        "made_on": looked.made_on, "differing": [episode._asdict() for episode in looked.differing],
    }  # fmt: skip


def show_recheck(found: Mapping[str, Any]) -> None:
    """Print the episodes that gave other counts, and the verdict."""
    if found["differing"]:
        rows = [tuple(str(value) for value in episode.values()) for episode in found["differing"]]
        tables.show_table(("episode", "metric", "stored", "counted again"), rows, right=(0, 2, 3))
    text = f"run {found['run']}: {found['n_episodes']} episodes counted again, {found['n_differing']} differ"
    if found["n_differing"] and found["made_on"] not in ("", found["device"]):
        text += f" (stored on {found['made_on']}, counted on {found['device']}: sums may round otherwise)"
    tables.say(f"{text}; badges: {', '.join(found['badges']) or 'none'}")


def score(store: Store, where: Places, file: Path, bench: str, name: str, seed: int) -> dict[str, Any]:
    """Score, store, and say what it came to, as JSON types.

    Raises:
        ConfigError: when other predictions are stored under this name and seed.
    """
    from harness.exchange import scoring

    result = scoring.score(file, bench, name, seed, where)
    if store.has(result.spec.id) and result.digest not in store.run(result.spec.id).replicates:
        raise ConfigError(
            f"{name} has other predictions on {bench} with seed {seed} already (run {result.spec.id}). Choose another "
            "--name, or another --seed for another training."
        )
    outcome = store.ingest(result)
    if not folders.is_done(where.runs, result.spec.id):
        folders.mark_collected(result.save(where.runs), where.db)
    counts = result.counts["top1"]
    return {
        "run": result.spec.id, "outcome": outcome, "method": name, "setting": bench, "seed": seed,
        "episodes": result.spec.n_episodes, "accuracy": float((counts.n_correct / counts.n_query).mean()),
    }  # fmt: skip


def show_score(found: Mapping[str, Any]) -> None:
    """Print what was stored."""
    tables.say(
        f"run {found['run']} ({found['outcome']}): {found['method']} on {found['setting']}, seed {found['seed']}, "
        f"{percent(found['accuracy'])} % over {found['episodes']:,} episodes, self-reported"
    )


def _counted(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {what}" for what, n in sorted(outcomes.items()))
