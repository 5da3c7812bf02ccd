"""Results offered to somebody else's repository, a folder a run, and what its checks ask of them.

A folder ``<run>-<counts>/`` holds the record (``run.json``), counts and predictions (``result.npz``), the counts as text
(``counts.csv``), its signature, a note on licences, the record in the format of Every Eval Ever, the checkpoint where it is
small, and ``SHA256SUMS`` over all of these. It is somebody's word until it is counted again.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import ConfigError, DataError, FsbenchError, RecordError, StoreError, visible
from harness.exchange import bundles, every_eval_ever
from harness.images import datasets
from harness.report.formats import percent
from harness.runs import THUMBNAILS, RunResult
from harness.runs.publishing import published_result
from harness.runs.request import command, threads_told
from harness.runs.schema import LARGEST_JSON
from harness.runs.signature import of_specs
from harness.system.arrays import MOST_BYTES
from harness.system.files import replaced_folder

if TYPE_CHECKING:
    from harness.runs.findings import Recheck, StoredRun
    from harness.store import Store
    from harness.system.folders import Places
    from harness.system.progress import Progress

SUMS, PULL_REQUEST = "SHA256SUMS", "PULL_REQUEST.md"
MOST_FIT = 25 << 20  # bytes of a checkpoint that travels with a submission
N_RECHECKED = 50
_TEXT = 1 << 20
_FIT = "fits/[0-9a-f]{12}"
_ALLOWED = {
    re.compile(r"run\.json"): LARGEST_JSON,
    re.compile(r"result\.npz"): MOST_BYTES,
    re.compile(r"counts\.csv"): 256 << 20,
    re.compile(r"SIGNATURE|LICENCE\.md|SHA256SUMS|every_eval_ever\.json"): _TEXT,
    re.compile(rf"{_FIT}/fit\.json"): LARGEST_JSON,
    re.compile(rf"{_FIT}/fit\.pt"): MOST_FIT,
}  # what may be in a submission, and how many bytes of it
_NAME = re.compile(r"[0-9a-f]{12}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Verdict:
    """What became of one submission.

    Attributes:
        name: of its folder.
        problem: why it was refused, or what is wrong with its checkpoint; empty when there is nothing.
        check: what counting it again gave; None where it was not done, which ``why_not`` explains.
        badges: of the run as it is stored now.
    """

    name: str
    problem: str = ""
    check: Recheck | None = None
    why_not: str = ""
    badges: tuple[str, ...] = ()

    @property
    def is_accepted(self) -> bool:
        """Whether it was taken in and nothing disputes it."""
        return not self.problem and "disputed" not in self.badges


def submit(store: Store, places: Places, runs: Sequence[StoredRun], target: Path) -> str:
    """Write a folder for each run, and the text of a pull request.

    Args:
        store: has the runs.
        places: where run folders and checkpoints are.
        runs: that ended well.
        target: the folder; other submissions in it stay.

    Returns:
        The text, which is also ``PULL_REQUEST.md``.

    Raises:
        ConfigError: when a run failed, or kept no predictions, without which nobody can count it.
        StoreError: when the folder cannot be written.
    """
    for run in runs:
        if run.status == "failed":
            raise ConfigError(
                f"Run {run.id} failed; only results can be submitted. `fsbench show {run.id}` says why."
            )
    try:
        results = [_write(store, places, run, target / f"{run.id}-{run.replicate[:12]}") for run in runs]
        text = _pull_request(results)
        (target / PULL_REQUEST).write_text(text)
    except OSError as error:
        raise StoreError(
            f"The submission could not be written to {target}: {error.strerror or error}. Choose another folder with --output."
        ) from error
    return text


def accept(
    store: Store, places: Places, target: Path, device: str, progress: Progress, n: int = N_RECHECKED
) -> list[Verdict]:
    """Check every submission of a folder, take in what holds, and count some episodes of it again.

    Checked are: files and digests, the schema of the record, counts against predictions, predictions and episodes against
    the setting's list where it is known here, and the signature. What is taken in says self-reported, and spot-checked or
    disputed once it was counted again, from its checkpoint or, for a method without weights, from the images alone.

    Args:
        store: takes them.
        places: where images are and checkpoints go.
        target: holds ``<run>-<counts>`` folders, or is one.
        device: "auto", "cpu" or "cuda".
        progress: told how far it is.
        n: episodes to count again, ≥ 1.

    Raises:
        ConfigError: when the folder holds no submission.
    """
    found = sorted(p for p in ([target] if _NAME.fullmatch(target.name) else target.glob("*")) if p.is_dir())
    folders = [p for p in found if not p.name.startswith(".")]
    if not folders:
        raise ConfigError(
            f"{target} holds no submission: a folder RUN-COUNTS for each run, as `fsbench submit RUN --output FOLDER` writes it."
        )
    return [_accept(store, places, folder, device, progress, n) for folder in folders]


def _write(store: Store, places: Places, run: StoredRun, target: Path) -> RunResult:
    with tempfile.TemporaryDirectory() as scratch, replaced_folder(target) as folder:
        kept = bundles.folder_of(store, places, run, Path(scratch) / "run")
        result = published_result(RunResult.load(kept))
        _refuse_uncountable(result)
        saved = result.save(Path(scratch) / "published")
        for name in ("run.json", "result.npz"):
            shutil.copyfile(saved / name, folder / name)
        (folder / "counts.csv").write_text(_counts(result))
        (folder / "SIGNATURE").write_text(_signature(result) + "\n")
        (folder / "LICENCE.md").write_text(_licence(result))
        for fit in result.spec.read_from:
            _copy_fit(places.cache / "fits" / fit.fit_key, folder / "fits" / fit.fit_key)
        record = every_eval_ever.as_record(result, has_weights=any(folder.glob("fits/*/fit.pt")))
        (folder / "every_eval_ever.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        (folder / SUMS).write_text(_sums(folder))
    return result


def _refuse_uncountable(result: RunResult) -> None:
    from harness.runs import agreement

    if lacking := agreement.without_predictions(result):
        raise ConfigError(
            f"Run {result.spec.id} has no predictions of {', '.join(lacking)}, so nobody can count them. Run it here, or score "
            "predictions instead of accuracies."
        )


def _copy_fit(kept: Path, target: Path) -> None:
    """The checkpoint where there is one of a size that a repository takes."""
    weights = kept / "fit.pt"
    if not (kept / "fit.json").is_file() or (weights.is_file() and weights.stat().st_size > MOST_FIT):
        return
    target.mkdir(parents=True)
    for name in ("fit.json", "fit.pt"):
        if (kept / name).is_file():
            shutil.copyfile(kept / name, target / name)


def _counts(result: RunResult) -> str:
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(("metric", "episode", "n_correct", "n_query"))
    for metric, counts in sorted(result.counts.items()):
        pairs = zip(counts.n_correct.tolist(), counts.n_query.tolist(), strict=True)
        rows.writerows((metric, i, *pair) for i, pair in enumerate(pairs))
    return file.getvalue()


def _signature(result: RunResult) -> str:
    made_by = str(result.provenance.get("packages", {}).get("fsbench", "")) or "none"
    return str(of_specs([result.spec], result.spec.n_episodes, made_by))


def _licence(result: RunResult) -> str:
    """Whose the pictures are, and what the submission holds of them: nothing, unless small pictures were stored."""
    from harness import benchmarks

    try:
        roles = benchmarks.named(result.spec.benchmark).roles.values()
        sets = dict.fromkeys(role.dataset for role in roles)
    except FsbenchError:
        sets = {}
    terms = [f"- {name}: {datasets.READERS[name].terms}" for name in sets if name in datasets.READERS]
    pictures = (
        "Small pictures of some episodes are in run.json."
        if result.provenance.get(THUMBNAILS)
        else "It holds no picture."
    )
    return "\n".join([
        "# Licence", "",
        "Counts, predictions and record are offered under CC0 1.0 by whoever sends them, unless a file beside this one says otherwise.",
        f"{pictures} The images behind it have terms of their own:", "", *(terms or ["- ask who made the set"]), "",
    ])  # fmt: skip


def _sums(folder: Path) -> str:
    """As ``sha256sum`` writes and checks them."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SUMS)
    return "".join(
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder).as_posix()}\n" for p in files
    )


def _pull_request(results: Sequence[RunResult]) -> str:
    rows = []
    for result in results:
        spec, metric = result.spec, next(iter(sorted(result.counts)))
        counts = result.counts.get("top1", result.counts[metric])
        asked = counts.n_query > 0
        mean = float((counts.n_correct[asked] / counts.n_query[asked]).mean())
        rows.append(
            f"| {spec.label} | {spec.setting} | {spec.seed} | {percent(mean)} | {spec.n_episodes:,} | `{spec.id}` |"
        )
    settings = sorted({result.spec.setting for result in results})
    lines = [
        f"# {len(results)} run{'s' if len(results) > 1 else ''} on {', '.join(settings)}", "",
        "| method | setting | seed | accuracy % | episodes | run |", "|---|---|---|---|---|---|", *rows, "",
        "Signatures:", "", "```", *(_signature(result) for result in results), "```", "",
        "Made by:", "", "```", *(threads_told(r.provenance) * (not r.spec.is_scored) + command(r.spec) for r in results), "```", "",
        "`fsbench accept FOLDER` checks digests, schema, counts against predictions and the episode list, and counts "
        f"{N_RECHECKED} episodes again where the checkpoint came along. Until then the rows say self-reported.", "",
        "- [ ] The runs are ours, and may be published under the terms of LICENCE.md in each folder.",
        "- [ ] No hyper-parameter was chosen on novel classes, or the row says so.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _accept(store: Store, places: Places, folder: Path, device: str, progress: Progress, n: int) -> Verdict:
    try:
        with tempfile.TemporaryDirectory() as scratch:
            _take_apart(folder, Path(scratch))
            result = bundles.checked(folder, Path(scratch) / "runs" / folder.name)
            _check_texts(folder, result)
            bundles.take_folder(store, places, Path(scratch), folder)
    except (StoreError, OSError, UnicodeDecodeError) as error:
        return Verdict(folder.name, problem=visible(str(error)))
    run = store.run(result.spec.id, result.digest)
    try:
        check, why_not = _rechecked(store, places, run, device, progress, n)
    except StoreError as error:  # a checkpoint of something else, which whoever sent it has to answer for
        return Verdict(
            folder.name, problem=f"taken in as self-reported, but {visible(str(error))}", badges=run.badges
        )
    return Verdict(folder.name, "", check, why_not, store.run(run.id, run.replicate).badges)


def _take_apart(folder: Path, scratch: Path) -> None:
    """Copy what may be in a submission to where an archive would have it, its digests checked on the way.

    Raises:
        RecordError: for a file too many, too large or with another digest, or a link.
    """
    if not _NAME.fullmatch(folder.name):
        raise RecordError("its name is not that of a run and its counts, 12 hex digits each")
    sums = _read_sums(folder)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise RecordError(f"`{visible(name)}` is no plain file")
        if path.is_dir():
            continue
        limit = next((size for form, size in _ALLOWED.items() if form.fullmatch(name)), None)
        if limit is None:
            raise RecordError(f"`{visible(name)}` is nothing that a submission has")
        if path.stat().st_size > limit:
            raise RecordError(f"`{name}` is larger than {limit >> 20} MB")
        if name != SUMS and hashlib.sha256(path.read_bytes()).hexdigest() != sums.pop(name, ""):
            raise RecordError(f"`{name}` does not have the digest that {SUMS} says")
        target = scratch / (name if name.startswith("fits/") else f"runs/{folder.name}/{name}")
        if name.startswith("fits/") or name in ("run.json", "result.npz"):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    if sums:
        raise RecordError(f"it lacks {', '.join(map(visible, sorted(sums)))}")


def _read_sums(folder: Path) -> dict[str, str]:
    path = folder / SUMS
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _TEXT:
        raise RecordError(f"it has no {SUMS}")
    lines = [re.fullmatch(r"([0-9a-f]{64})  (\S{1,200})", line) for line in path.read_text().splitlines()]
    if not all(lines):
        raise RecordError(f"{SUMS} has lines that are no digest and name")
    return {match[2]: match[1] for match in lines if match}


def _check_texts(folder: Path, result: RunResult) -> None:
    """What is said in words, compared with what the record gives.

    Raises:
        RecordError: when the signature or the table of counts is of something else.
    """
    for name, own in (("SIGNATURE", _signature(result) + "\n"), ("counts.csv", _counts(result))):
        path = folder / name
        if not path.is_file() or path.read_text() != own:
            raise RecordError(f"{name} is not that of its record")


def _rechecked(
    store: Store, places: Places, run: StoredRun, device: str, progress: Progress, n: int
) -> tuple[Recheck | None, str]:
    """Count some of it again, or say why that cannot be done here."""
    from harness.jobs import rechecks

    try:
        return rechecks.recheck(store, places, run.id, run.replicate, n, 0, device, progress).check, ""
    except (ConfigError, DataError) as error:
        return None, str(error)


def told(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """A sentence for each."""
    for one in verdicts:
        if one.problem:
            yield f"{one.name}: {'' if one.badges else 'refused: '}{one.problem}"
            continue
        counted = f"{one.check.sentence}" if one.check else f"not counted again: {one.why_not}"
        yield f"{one.name}: taken in ({', '.join(one.badges)}); {counted}"
