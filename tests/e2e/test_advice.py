"""Every command that a message advises is typed here, in the state that produced the message.

``ADVICE`` pairs each message of the code that names a command with that state; a new message without an entry fails.
"""

from __future__ import annotations

import ast
import logging
import re
import shlex
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from picture_files import jpeg, unpack
from prompt import Prompt

from harness.backbones import build
from harness.errors import FsbenchError
from harness.images import datasets, prepare
from harness.jobs import entry, packing, worker
from harness.jobs.batches import Batch, JobState
from harness.jobs.waiting import Waiting
from harness.method import official_weights
from harness.runs import planning
from harness.runs.request import Request
from harness.store import Store
from harness.system.folders import Places
from harness.system.progress import Silent
from methods.margin import Cosine

ROOT = Path(__file__).parents[2]
IN_QUOTES = re.compile(r"`((?:[A-Z_]+=\S+ )?fsbench [^`]+)`")
ON_A_LINE = re.compile(r"^(?:next:)? *(fsbench (?:check|run|import-folder|prepare) [^`\n]+)$", re.MULTILINE)
PIXELS = ["run", "-m", "pixels", "-b", "glyphs-5w1s", "--episodes", "20"]
CLASSES = [f"bird{i}" for i in range(12)]


class Somewhere:
    """A home, the data that all share (or its own), and how to come into a state."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data = folder, data
        self.deleted = ""
        self.prompt = Prompt(folder, data)
        self.places = Places(folder, data, folder / "cache", str(folder / "results.db"))

    def type(self, *words: str, code: int | None = None) -> str:
        found, said = self.prompt.type(*words)
        assert code in (None, found), said
        return said

    def use_own_data(self) -> None:
        """From here on with nothing prepared."""
        self.data = self.folder / "data"
        self.prompt = Prompt(self.folder, self.data)
        self.places = replace(self.places, data=self.data)

    def run_id(self) -> str:
        self.type(*PIXELS, code=0)
        return self.stored_id()

    def stored_id(self) -> str:
        with Store.open(self.places.db) as store:
            return str(store.runs(metrics=())["id"].iloc[0])

    def batch(self) -> Batch:
        """A run given to local jobs by a dispatcher that is gone."""
        request = Request(n_episodes=20)
        specs = planning.plan(["pixels"], ["glyphs-5w1s"], [0], request, self.data)
        groups = packing.pack(specs, self.places, packing.Ways("local"))
        return Batch.create(self.places.runs, "local", groups, {"jobs": 1})

    def birds(self, n: int = 20, name: str = "birds") -> Path:
        """A folder of pictures in twelve classes."""
        members = {f"{c}/{i}.jpg": jpeg(100 * k + i) for k, c in enumerate(CLASSES) for i in range(n)}
        return unpack(self.folder / "pictures" / name, members)

    def import_birds(self) -> Path:
        source = self.birds()
        self.type("import-folder", str(source), "--name", "birds", "--size", "16", "--queries", "5", code=0)
        return source

    def file(self, name: str, text: str = "") -> str:
        (self.folder / name).write_text(text)
        return str(self.folder / name)


@dataclass(frozen=True)
class Advice:
    """A state, the messages that come of it, and what stands for the words in capitals.

    Attributes:
        keys: file of the message and its command, as the code has it.
        said: brings a home into the state; the messages.
        words: what is put in place of PATH, FILE, … when the command is typed.
        codes: exit codes that are no mistake in typing.
        before: what the message asks to do first.
    """

    keys: Sequence[tuple[str, str]]
    said: Callable[[Somewhere], str]
    words: Mapping[str, str] = field(default_factory=dict)
    codes: Sequence[int] = (0,)
    before: Callable[[Somewhere], Any] = lambda at: None


def typed(*words: str, code: int | None = None) -> Callable[[Somewhere], str]:
    return lambda at: at.type(*(word.format(at=at.folder) for word in words), code=code)


def raised(call: Callable[[], Any]) -> str:
    with pytest.raises(FsbenchError) as caught:
        call()
    return str(caught.value)


def unused_set(at: Somewhere) -> str:
    """The benchmark of own pictures lists images that the prepared set no longer holds."""
    at.use_own_data()
    at.import_birds()
    lost = at.folder / "lost"
    shutil.copytree(at.folder / "pictures/birds", lost)
    for path in sorted(lost.glob("bird*/1?.jpg")):
        path.unlink()
    (at.data / "benchmarks").rename(at.folder / "kept")
    shutil.rmtree(at.data / "birds")
    at.type("import-folder", str(lost), "--name", "birds", "--size", "16", "--queries", "5", code=0)
    shutil.rmtree(at.data / "benchmarks")
    (at.folder / "kept").rename(at.data / "benchmarks")
    return at.type("run", "-m", "pixels", "-b", "birds-2w1s", code=3)


def removed_set(at: Somewhere) -> str:
    at.use_own_data()
    at.import_birds()
    shutil.rmtree(at.data / "birds")
    return at.type("run", "-m", "pixels", "-b", "birds-2w1s", "--episodes", "20", code=3)


def damaged_map(at: Somewhere) -> str:
    """Own pictures whose pixels on disk are damaged; the folder goes first, as the message says."""
    at.use_own_data()
    at.import_birds()
    for path in at.data.glob("birds/maps/*.npy"):
        path.write_bytes(b"rotten")
    said = at.type("run", "-m", "pixels", "-b", "birds-2w1s", "--episodes", "20", code=3)
    assert f"Remove {at.data / 'birds'}" in said
    shutil.rmtree(at.data / "birds")
    return said


def without_originals(at: Somewhere) -> str:
    at.use_own_data()
    at.import_birds()
    said = datasets.how_to_have_originals("birds", at.data / "birds")
    shutil.rmtree(at.data / "birds")
    return said


def broken_picture(at: Somewhere) -> str:
    """Typed at a prompt the command has all that was typed; a program of one's own gets the short one."""
    at.use_own_data()
    source = at.birds()
    (source / "bird0/0.jpg").write_bytes(b"half")
    said = at.type("import-folder", str(source), "--name", "birds", "--size", "16", "--queries", "5", code=3)
    assert f"`fsbench import-folder {source} --name birds --queries 5 --size 16 --keep-going`" in said
    return raised(lambda: prepare.import_folder("birds", source, at.data))


def imported(at: Somewhere) -> str:
    at.use_own_data()
    source = at.birds()
    return at.type("import-folder", str(source), "--name", "birds", "--size", "16", "--queries", "5", code=0)


def failed_run(at: Somewhere) -> str:
    """A plugin that fails at its first episodes."""
    text = (ROOT / "methods/pixels.py").read_text().replace('"pixels"', '"mine"')
    text = text.replace('"""Do both', 'raise ValueError("not today")\n        """Do both')
    return at.type("run", "-m", at.file("mine.py", text), *PIXELS[3:], code=1)


def failed_recheck(at: Somewhere) -> str:
    failed_run(at)
    return at.type("recheck", at.stored_id())


def failed_submission(at: Somewhere) -> str:
    failed_run(at)
    return at.type("submit", at.stored_id())


def failed_by_class(at: Somewhere) -> str:
    failed_run(at)
    return at.type("show", at.stored_id(), "--by", "class", code=3)


def lost_jobs(at: Somewhere) -> str:
    """Each way in which a job can end without a result: killed, cancelled, never started, without a word."""
    batch = at.batch()
    waiting = Waiting(batch, batch.numbers, Nobody(), at.places)
    run_id = next(iter(waiting._pending))
    said = [waiting._why_lost(run_id)]
    batch.note_job(0, "1")
    for state in ("started", "ended"):
        JobState(state).save(batch.group_path(0))  # type: ignore[arg-type]
        said.append(waiting._why_lost(run_id))
    batch.cancel()
    said.append(waiting._why_lost(run_id))
    logged: list[str] = []
    entry.log.addFilter(lambda record: logged.append(record.getMessage()) or True)  # type: ignore[func-returns-value]
    entry.log.setLevel(logging.INFO)
    signals = entry._Signals()
    signals._received = signal.SIGTERM
    with pytest.raises(SystemExit):
        signals.leave(wants_more=False)
    entry.log.filters.clear()
    return "\n".join([*said, *logged, at.type("status", code=0)])


class Nobody:
    """An engine without jobs."""

    def submit(self, batch: Batch, numbers: Sequence[int]) -> None: ...
    def advance(self, batch: Batch) -> None: ...
    def cancel(self, batch: Batch) -> None: ...
    def alive(self, batch: Batch) -> dict[int, str]:
        return {}


def done_folder(at: Somewhere) -> str:
    batch = at.batch()
    list(worker.carry_out(batch.group(0).specs, at.places, "cpu", Silent()))
    return at.type("status", code=0)


def other_counts(at: Somewhere) -> str:
    """The database has another result of the run than its folder."""
    run_id = at.run_id()
    with Store.open(at.places.db) as store:
        result = store.result(store.run(run_id).pk)
    top1 = result.counts["top1"]
    labels = top1.predictions.copy()
    labels[0] = (labels[0] + 1) % 5
    truth = np.repeat(np.arange(5), 15)
    counts = replace(top1, n_correct=(labels == truth).sum(axis=1), predictions=labels)
    Path(at.places.db).unlink()
    with Store.open(at.places.db, create=True) as store:
        store.ingest(replace(result, counts={"top1": counts}))
    return at.type(*PIXELS, "--force", code=0)


def rotten_folder(at: Somewhere) -> str:
    run_id = at.run_id()
    (at.places.runs / run_id / "result.npz").write_bytes(b"rotten")
    return at.type("collect")


def damaged(sql: str, *words: str) -> Callable[[Somewhere], str]:
    """A message of a database in which somebody wrote."""

    def said(at: Somewhere) -> str:
        run_id = at.run_id()
        with sqlite3.connect(at.places.db) as db:
            db.executescript(sql)
        return at.type(*(word.replace("RUN", run_id) for word in words))

    return said


def no_database(at: Somewhere) -> str:
    at.run_id()
    Path(at.places.db).write_bytes(b"no database" * 1000)
    return at.type("leaderboard", code=3)


def move_database(at: Somewhere) -> None:
    Path(at.places.db).rename(at.folder / "aside.db")
    for path in at.folder.glob("results.db-*"):
        path.unlink()


def unknown_list(at: Somewhere) -> str:
    at.run_id()
    with Store.open(at.places.db) as store:
        return raised(lambda: store.episode_list("0" * 64))


def empty_database(at: Somewhere) -> str:
    Store.open(at.places.db, create=True).close()
    return at.type("leaderboard", code=0)


def weights(at: Somewhere) -> Path:
    method = Cosine(Cosine.Config(), build("conv4", 28, 1))
    state = {n: method.state_dict()[key] for key, names in method.official_names().items() for n in names}
    torch.save({"state": state}, at.folder / "best.tar")
    return at.folder / "best.tar"


def lost_weights(at: Somewhere) -> str:
    gone = raised(lambda: official_weights.kept(at.places.cache, "0" * 64))
    method = Cosine(Cosine.Config(), build("conv4", 28, 1))
    other = raised(lambda: official_weights.import_weights(method, weights(at), "0" * 64))
    return f"{gone}\n{other}"


def edited_file(at: Somewhere) -> str:
    text = Path(ROOT / "methods/pixels.py").read_text().replace('"pixels"', '"mine"')
    at.type("run", "-m", at.file("mine.py", text), *PIXELS[3:], code=0)
    at.file("mine.py", text + "\n")
    return at.type("recheck", at.stored_id())


def unregistered(at: Somewhere) -> str:
    """A run of a plugin that is not installed here."""
    at.run_id()
    with sqlite3.connect(at.places.db) as db:
        [(spec,)] = db.execute("SELECT spec FROM run").fetchall()
        db.execute(
            "UPDATE run SET spec = ?", [spec.replace('"reference": "pixels"', '"reference": "theirs"')]
        )
    return at.type("recheck", at.stored_id())


def unprepared(at: Somewhere) -> str:
    """Sets that are drawn need no source, so their command can be typed here as it is."""
    at.use_own_data()
    return at.type("verify", "glyphs", code=3)


def photographs(at: Somewhere) -> None:
    at.use_own_data()
    at.birds(2, "cifar")


def no_gpu(at: Somewhere) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        return at.type(*PIXELS, "--device", "cuda", code=2)


def written_method(at: Somewhere) -> str:
    return at.type("new-method", "my-own", code=0)


def deleted_run(at: Somewhere) -> str:
    at.deleted = at.run_id()
    return at.type("runs", "delete", at.deleted, "--because", "a test", code=0)


def lines_with(word: str, text: str) -> str:
    """Of many, those about one thing."""
    return "\n".join(line for line in text.splitlines() if word in line)


def edited_counts(at: Somewhere) -> str:
    run_id = at.run_id()
    with sqlite3.connect(at.places.db) as db:
        db.execute("UPDATE result SET n_correct = n_query")
    db.close()
    return run_id


SHORT = "-m pixels -b glyphs-5w1s --episodes 20"
BRIEF = "--episodes 20 --set epochs=1 --set episodes_per_epoch=2 --set train_way=5"  # in place of a whole training
BIRDS = {"PATH": "{at}/pictures/birds"}
DAMAGED_LIST = "UPDATE episode_list SET support = x'00'"
DAMAGED_LABELS = "UPDATE prediction SET labels = x'00'"
DAMAGED_PICTURES = "UPDATE shared SET content = 'AAAA' WHERE pk IN (SELECT shared_pk FROM run_picture)"
SMALL_LABELS = "UPDATE run SET n_way = 2"
DAMAGED_ROW = "UPDATE run SET provenance = '{'"
COLLECT = "fsbench collect"
RESUME = "fsbench resume"

ADVICE = [
    Advice([("benchmarks/leaks.py", "fsbench benchmarks")],
           lambda at: at.type("run", "-m", "cosine", "-b", "glyphs-5w1s", "--weights", str(weights(at)), "--seen", "nope", code=2)),
    Advice([("benchmarks/settings.py", "fsbench benchmarks")], typed("episodes", "nope-5w1s", code=2)),
    Advice([("benchmarks/settings.py", "fsbench benchmarks")], typed(*PIXELS[:4], "nope*", code=2)),
    Advice([("benchmarks/settings.py", "fsbench verify {part.dataset}")], unused_set, codes=(0, 3)),
    Advice([("cli/catalogue.py", "fsbench check ./{path}"), ("cli/catalogue.py", "fsbench run --method ./{path} --bench glyphs-5w1s")],
           written_method, {"--bench glyphs-5w1s": "--bench glyphs-5w1s --episodes 20"}),
    Advice([("cli/catalogue.py", "fsbench methods")], typed("new-method", "protonet", code=2)),
    Advice([("cli/catalogue.py", "fsbench episodes glyphs-5w1s --json")], typed("episodes", code=2)),
    Advice([("cli/images.py", "fsbench run -m nearest-mean,pixels -b {settings[0]}")], imported, {"-b": "--episodes 20 -b"}),
    Advice([("cli/jobs.py", "fsbench run … --executor local")], typed("status", code=0), {"…": SHORT}),
    Advice([("cli/jobs.py", RESUME), ("jobs/waiting.py", RESUME), ("jobs/entry.py", RESUME)], lost_jobs),
    Advice([("cli/jobs.py", COLLECT)], done_folder),
    Advice([("cli/results.py", "fsbench show {run_id} --by class")],
           lambda at: at.type("show", at.run_id(), "--by", "nope", code=2)),
    Advice([("cli/run.py", "fsbench show {recorded[0]}")], failed_run),
    Advice([("cli/run.py", "fsbench run -m protonet -b glyphs-5w1s"), ("cli/run.py", "fsbench methods"),
            ("cli/run.py", "fsbench benchmarks")], typed("run", code=2), {"-m": f"{BRIEF} -m"}),
    Advice([("cli/results.py", "fsbench leaderboard")],
           lambda at: at.run_id() and at.type("leaderboard", "--badge", "nope", code=0)),
    Advice([("cli/results.py", "fsbench run -m protonet -b glyphs-5w1s")], empty_database, {"-m": f"{BRIEF} -m"}),
    Advice([("exchange/views.py", "fsbench runs")],
           lambda at: at.run_id() and at.type("query", "SELECT run FROM runs", "-m", "nobody", code=2)),
    Advice([("exchange/answers.py", "fsbench score --help")],
           lambda at: at.type("score", at.file("a.npz", "{}"), "-b", "glyphs-5w1s", "--name", "x", code=3)),
    Advice([("exchange/scoring.py", "fsbench score --help")],
           lambda at: at.type("score", at.file("a.json", '{"digest": "0", "predictions": [[0]]}'), "-b", "glyphs-5w1s",
                              "--name", "x", code=3)),
    Advice([("exchange/archive.py", "fsbench export RUN… {bundle.name}")],
           lambda at: at.run_id() and at.type("import", "nope.tar.zst", code=2), {"RUN…": "all"}),
    Advice([("images/datasets.py", "fsbench prepare {known.dataset}{source}{' --accept-terms' if known.must_accept else ''}")],
           unprepared, {"PATH": "{at}/zips"}),
    Advice([("images/datasets.py", "fsbench import-folder PATH --name {dataset} --size {size}")],
           typed("run", "-m", "pixels", "-b", "cifar10-5w1s", code=3), {"PATH": "{at}/pictures/cifar"}, before=photographs),
    Advice([("images/datasets.py", "fsbench import-folder PATH --name {dataset}")], removed_set, BIRDS),
    Advice([("images/datasets.py", "fsbench import-folder PATH --name {dataset}")], damaged_map, BIRDS),
    Advice([("images/datasets.py", "fsbench import-folder PATH --name {dataset}")], without_originals, BIRDS),
    Advice([("images/sources/folder.py", "fsbench import-folder PATH --name {dataset} --keep-going")], broken_picture, BIRDS),
    Advice([("jobs/dispatch.py", "fsbench show %s")], other_counts),
    Advice([("jobs/dispatch.py", "fsbench run …")], rotten_folder, {"…": SHORT}),
    Advice([("jobs/hardness.py", "fsbench leaderboard -b '{setting.benchmark.key}-*'")],
           lambda at: at.type("hardness", "glyphs-digits-5w1s", "--from", at.run_id(), code=2),
           before=lambda at: at.type("run", "-m", "pixels", "-b", "glyphs-digits-5w1s", "--episodes", "20", code=0)),
    Advice([("jobs/rechecks.py", "fsbench show {run.id}")], failed_recheck),
    Advice([("exchange/submissions.py", "fsbench show {run.id}")], failed_submission),
    Advice([("method/official_weights.py", "fsbench run … --weights FILE")], lost_weights,
           {"…": "-m cosine -b glyphs-5w1s --episodes 20 --seen omniglot", "FILE": "{at}/best.tar"}),
    Advice([("method/protocol.py", "fsbench new-method NAME")],
           lambda at: at.type("check", at.file("part.py", "class Mine:\n    def predict(self): ...\n"), code=1), {"NAME": "my-own"}),
    Advice([("method/registry.py", "fsbench new-method NAME")],
           lambda at: at.type("check", at.file("none.py", "x = 1\n"), code=1), {"NAME": "my-own"}),
    Advice([("method/registry.py", "fsbench run …")], edited_file, {"…": f"-m {{at}}/mine.py {SHORT[10:]}"}),
    Advice([("method/registry.py", "fsbench methods")], typed("run", "-m", "nope*", "-b", "glyphs-5w1s", code=2)),
    Advice([("method/registry.py", "fsbench methods")], unregistered),
    Advice([("report/board/by_class.py", "{command(run.spec)} --force")], failed_by_class, codes=(1,)),  # it fails again
    Advice([("runs/planning.py", "fsbench methods")], typed("run", "-m", "bml", "-b", "glyphs-lowshot-n1", code=2)),
    Advice([("store/connection.py", COLLECT)], no_database, before=move_database),
    Advice([("store/lists.py", "fsbench run … --bench SETTING")], unknown_list,
           {"…": "-m pixels --episodes 20", "SETTING": "glyphs-5w5s"}),
    Advice([("store/lists.py", COLLECT)], damaged(DAMAGED_LIST, "show", "RUN", "--by", "class"), before=move_database),
    Advice([("store/models.py", COLLECT)], damaged(DAMAGED_LABELS, "show", "RUN", "--by", "class"), before=move_database),
    Advice([("store/reading.py", COLLECT)], damaged(SMALL_LABELS, "show", "RUN", "--by", "class"), before=move_database),
    Advice([("store/reading.py", COLLECT)], damaged(DAMAGED_ROW, "show", "RUN"), before=move_database),
    Advice([("store/shared.py", COLLECT)], damaged(DAMAGED_PICTURES, "report"), before=move_database),
    Advice([("store/compacting.py", "fsbench fsck")], damaged(DAMAGED_LABELS, "fsck", "--compact"), codes=(3,)),
    Advice([("store/migrations.py", "fsbench run --method protonet --bench glyphs-5w1s")],
           typed("leaderboard", code=3), {"--bench": f"{BRIEF} --bench"}),
    Advice([("system/process.py", "fsbench doctor")], no_gpu),
    Advice([("cli/keeping.py", "fsbench runs restore {' '.join(dict.fromkeys(ids))}")], deleted_run),
    Advice([("store/reading.py", "fsbench runs restore {entry.run_id}")],
           lambda at: deleted_run(at) and at.type("show", at.deleted, code=2)),
    Advice([("cli/run.py", "fsbench runs restore {run_id}")], lambda at: deleted_run(at) and at.type(*PIXELS)),
    Advice([("keeping/rows.py", "fsbench runs delete {run.id}"), ("keeping/rows.py", "fsbench score")],
           lambda at: at.type("runs", "rename", at.run_id(), "other", code=2), {"fsbench score": "fsbench score --help"}),
    Advice([("store/tombstones.py", "fsbench runs --deleted")], lambda at: at.type("runs", "restore", at.run_id(), code=2)),
    Advice([("cli/doctor.py", "fsbench fsck")], lambda at: edited_counts(at) and lines_with("fsck", at.type("doctor")), codes=(0, 3)),
    Advice([("cli/keeping.py", "fsbench fsck --repair")], lambda at: edited_counts(at) and at.type("fsck", code=3), codes=(0, 3)),
]  # fmt: skip
ELSEWHERE = {  # the state needs what this file does not have: where it is typed instead
    (
        "jobs/executors.py",
        RESUME,
    ): "tests/slurm/test_slurm.py::test_what_a_limit_refused_is_not_submitted_until_resume",
    (
        "cli/features.py",
        "fsbench run -m '{heads}' -b {bench or 'SETTING'} --weights {weights} --seen WHAT",
    ): "tests/e2e/test_feature_tables.py::test_features_go_out_and_come_back_as_the_same_rows",
    (
        "exchange/saved_features.py",
        "fsbench export-features RUN FOLDER",
    ): "tests/e2e/test_feature_tables.py::test_the_low_shot_authors_files_come_in_again",
    (
        "evaluation/features.py",
        "fsbench fsck --repair",
    ): "tests/e2e/test_rot.py::test_a_zeroed_table_gives_no_number_and_is_made_again",
    (
        "exchange/submissions.py",
        "fsbench submit RUN --output FOLDER",
    ): "tests/e2e/test_submissions.py::test_a_run_is_submitted_accepted_and_counted_again_as_typed",
}
EXPLAINED = {
    ("exchange/card.py", "fsbench episodes {setting.name} --json"),
    ("exchange/card.py", "fsbench show RUN"),
    ("exchange/submissions.py", "fsbench accept FOLDER"),
    ("cli/sharing.py", "fsbench submit"),
    ("cli/sharing.py", "fsbench query"),  # help and files, not messages: they say what a command is for
    ("benchmarks/lock.py", "fsbench episodes --check"),
    ("benchmarks/own.py", "fsbench import-folder"),
    ("cli/keeping.py", "fsbench runs --deleted"),
    ("cli/keeping.py", "fsbench score"),
    ("cli/keeping.py", "fsbench runs delete"),
    ("keeping/fsck.py", "fsbench run with the words that the run was made with"),
    ("keeping/fsck.py", "fsbench run with the words that its runs were made with"),
    ("cli/sharing.py", "fsbench recheck"),
    ("cli/sharing.py", "fsbench export"),
}


def texts(path: Path) -> Iterator[str]:
    """Every text of a file but docstrings; what is put into one stands in braces, as it is written."""
    tree = ast.parse(path.read_text())
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(
            node.body[0], ast.Expr
        ):
            skipped.add(id(node.body[0].value))
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(value) for value in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                v.value if isinstance(v, ast.Constant) else f"{{{ast.unparse(v.value)}}}" for v in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.value


def commands(text: str) -> list[str]:
    quoted = [*IN_QUOTES.findall(text), *re.findall(r"`(\{command\([^`]*)`", text), *ON_A_LINE.findall(text)]
    return quoted or ([text] if text.startswith("fsbench prepare") else [])


def advised() -> set[tuple[str, str]]:
    """File and command of every message in the code that names one."""
    files = [*(ROOT / "harness").rglob("*.py"), *(ROOT / "methods").rglob("*.py"), ROOT / "fsbench.py"]
    return {
        (str(path.relative_to(ROOT)).removeprefix("harness/"), command)
        for path in files
        for text in texts(path)
        for command in commands(text)
    }


def test_every_message_that_names_a_command_has_an_entry_here() -> None:
    entries = {key for advice in ADVICE for key in advice.keys} | set(ELSEWHERE) | EXPLAINED
    assert advised() == entries


@pytest.mark.parametrize("place", ELSEWHERE.values())
def test_what_is_typed_elsewhere_is(place: str) -> None:
    file, _, name = place.partition("::")
    assert f"def {name}(" in (ROOT / file).read_text()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def _name(advice: Advice) -> str:
    return "-".join(f"{file}:{command.split()[1]}" for file, command in advice.keys)


@pytest.mark.parametrize("advice", ADVICE, ids=_name)
def test_the_advised_command_works_where_it_is_advised(
    advice: Advice, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    at = Somewhere(tmp_path, data)
    found = list(dict.fromkeys(commands(advice.said(at))))
    for _, command in advice.keys:
        pattern = re.sub(r"\\\{.*?\\\}(?=[^}']|$)|%s", ".+", re.escape(command))
        assert any(re.fullmatch(pattern, line) for line in found), (command, found)
    advice.before(at)
    for line in found:
        for name, words in advice.words.items():
            line = line.replace(name, words.format(at=tmp_path))
        code, said = at.prompt.type(*shlex.split(line)[1:])
        assert code in advice.codes, f"{line}\n{said}"  # a traceback of ours would have come through
