"""The commands about what there is: methods and their hyper-parameters, settings, lists, contracts, the machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.words import AsJson, answer, where
from harness.errors import ConfigError, DataError, FsbenchError, PluginError

if TYPE_CHECKING:
    from harness.benchmarks import Benchmark, Setting
    from harness.benchmarks.episodes import JointList
    from harness.system.folders import Places

app = typer.Typer()

_FEWER = "It has too few classes or pictures for this setting; a way, a shot or -q of less may do."


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="Show one method's hyper-parameters.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the methods, or describe one."""
    if name:
        answer(one_method(name), as_json, show_method)
    else:
        answer(every_method(), as_json, show_methods)


@app.command()
def benchmarks(as_json: AsJson = False) -> None:
    """List the settings: what is prepared, what is missing and how to get it."""
    answer(every_setting(where()), as_json, show_benchmarks)


@app.command()
def episodes(
    setting: Annotated[str | None, typer.Argument(help="A setting, like glyphs-5w1s.")] = None,
    n: Annotated[
        int | None,
        typer.Option("--episodes", help="Only the first so many (default: the benchmark's count)."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Draw every locked list and compare digests.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Export a fixed episode list, or check all of them."""
    if check:
        typer.echo(check_lists())
    elif setting:
        answer(episode_list(setting, n), as_json, show_episode_list)
    else:
        raise ConfigError(
            "Which setting? `fsbench episodes glyphs-5w1s --json` exports a list, `--check` checks all."
        )


@app.command()
def card(
    setting: Annotated[str, typer.Argument(help="A setting, like mini-5w1s.")],
    croissant: Annotated[
        bool, typer.Option("--croissant", help="JSON-LD by Croissant 1.0, with its responsible-AI fields.")
    ] = False,
) -> None:
    """Print the card of a benchmark: what, whose pictures, splits with digests, how made, known faults, how to cite."""
    import json

    from harness.exchange import card as cards

    found = cards.card(setting, where().data)
    if croissant:
        typer.echo(json.dumps(cards.as_croissant(found), indent=1, ensure_ascii=False))
    else:
        sys.stdout.write(cards.as_markdown(found))


@app.command()
def check(
    method: Annotated[str, typer.Argument(help="Name or ./mine.py.")],
    quick: Annotated[
        bool,
        typer.Option("--quick", help="In seconds: one pass of training, and what that cannot tell left out."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the method contract: every promise with pass or fail."""
    outcomes = contract(method, where(), is_quick=quick)
    answer(outcomes, as_json, show_contract)
    raise typer.Exit(int(any(o["passed"] is False for o in outcomes)))


@app.command()
def new_method(name: Annotated[str, typer.Argument(help="Name of the method; the file is NAME.py.")]) -> None:
    """Write a method of your own that works, in at most 40 lines."""
    typer.echo(write_method(name, Path()))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Show the state of everything: packages, devices, data, disk, SLURM, database."""
    from harness.cli import doctor

    answer(doctor.examine(where()), as_json, doctor.show)


def every_method() -> list[dict[str, Any]]:
    """Every registered method; built-in ones as their text says, to load no torch, installed ones as they load.

    One that does not import is listed with the reason and breaks only itself.
    """
    import inspect

    from harness.method import outline, registry, traits

    found: list[dict[str, Any]] = []
    for name, target in sorted(registry.installed().items()):
        try:
            cls = outline.read(target) if name in registry.BUILT_IN else registry.load(name).cls
        except PluginError as error:
            found.append({"name": name, "version": "", "from": target, "about": "", "problem": str(error)})
            continue
        found.append({
            "name": name, "version": cls.version, "from": target, "about": (inspect.getdoc(cls) or "").split("\n")[0],
            "transductive": traits(cls).transductive, "assumes_balance": traits(cls).assumes_balance,
            "takes": traits(cls).takes, "protocols": sorted(traits(cls).protocols), "problem": "",
        })  # fmt: skip
    return found


def show_methods(rows: Sequence[dict[str, Any]]) -> None:
    """Print them."""
    from harness.cli import terminal

    terminal.show_table(
        ("method", "version", "protocols", "features", "queries", "from", "what it does"),
        [
            (
                r["name"],
                r["version"],
                ", ".join(r.get("protocols", [])),
                "of a fit" if r.get("takes") in ("vectors", "maps") else "own",
                _of_queries(r),
                r["from"],
                r["about"] or f"DOES NOT IMPORT: {r['problem']}",
            )
            for r in rows
        ],
        less=("from", "version", "queries"),
    )


def _of_queries(row: dict[str, Any]) -> str:
    """How a method uses the queries of an episode: each alone, together, or as so many of every class."""
    if not row.get("transductive"):
        return "" if row["problem"] else "alone"
    return "together, balanced" if row["assumes_balance"] else "together"


def one_method(name: str) -> dict[str, Any]:
    """One method: its docstring, hyper-parameters and the layers of defaults."""
    import dataclasses

    from harness.method import about, defaults, recipes, registry
    from harness.runs.against_clean import declared_against_clean

    loaded = registry.load(name)
    cls = loaded.cls
    fields = [
        {
            "name": f.name,
            "type": str(f.type),
            "default": repr(f.default),
            "phase": f.metadata.get("phase", "fit"),
            "doc": f.metadata.get("doc", ""),
        }
        for f in dataclasses.fields(cls.Config)
    ]
    return {
        "name": cls.name, "version": cls.version, "about": about.description(cls),
        "config": fields, "defaults": {k: dict(v) for k, v in defaults(cls).items()},
        "recipes": {
            recipe: {key: declared_against_clean(cls, declared, key) for key in declared.keys}
            for recipe, declared in recipes(cls).items()
        },
    }  # fmt: skip


def show_method(found: dict[str, Any]) -> None:
    """Print it."""
    from harness.cli import terminal

    sys.stdout.write(f"{found['name']} {found['version']}\n\n{found['about']}\n\n")
    columns = ("hyper-parameter", "type", "default", "phase", "meaning")
    terminal.show_table(
        columns,
        [(f["name"], f["type"], f["default"], f["phase"], f["doc"]) for f in found["config"]],
        less=("type", "phase"),
    )
    for key, values in found["defaults"].items():
        sys.stdout.write(f"on {key}: {', '.join(f'{k}={v}' for k, v in values.items())}\n")
    sys.stdout.write(f"recipes: {', '.join(found['recipes'])}\n")
    for recipe, keys in found["recipes"].items():
        for key, values in keys.items():
            told = ", ".join(f"{d['name']} {d['used']} (clean: {d['clean']})" for d in values)
            sys.stdout.write(f"{recipe} on {key}: {told or 'as clean'}\n")


def every_setting(where: Places) -> list[dict[str, Any]]:
    """Every standard setting: its size, whether its images are prepared, and how to get them."""
    from harness import benchmarks as known

    rows = []
    for benchmark in known.every():
        found, how = _state(benchmark, where)
        for setting in benchmark.settings():
            state, missing = (found, how) if _can_be_drawn(setting) else ("cannot be drawn", _FEWER)
            rows.append({
                "setting": setting.name, "title": benchmark.title, "about": benchmark.about,
                "classes": {role: len(part.counts) for role, part in benchmark.roles.items()},
                "queries": setting.n_query, "episodes": setting.n_episodes, "image_size": benchmark.image_size,
                "state": state, "how": missing,
            })  # fmt: skip
    return rows


def show_benchmarks(rows: Sequence[dict[str, Any]]) -> None:
    """Print them, then how to get what is missing."""
    from harness import benchmarks as known
    from harness.cli import terminal

    columns = ("setting", "base/validation/novel", "queries", "episodes", "pixels", "images")
    terminal.show_table(
        columns,
        [
            (
                r["setting"], "/".join(str(r["classes"].get(role, "–")) for role in known.ROLES), str(r["queries"]),
                f"{r['episodes']:,}", str(r["image_size"]), r["state"],
            )
            for r in rows
        ],
        less=("queries", "episodes", "pixels"),
        right=(2, 3, 4),
    )  # fmt: skip
    for how in dict.fromkeys(line for r in rows for line in r["how"].splitlines()):
        sys.stdout.write(f"{how}\n")
    sys.stdout.write("Any other way, shot or number of queries is a setting too: glyphs-10w2s-q8.\n")


def episode_list(name: str, n: int | None) -> dict[str, Any]:
    """One list as JSON types: class names, and per episode the rows of support and query images."""
    from harness import benchmarks as known
    from harness.benchmarks.episodes import ClosedList, JointList

    setting = known.load(name)
    n = n or setting.n_episodes
    if not 1 <= n <= setting.list_length:
        raise ConfigError(f"--episodes {n}: the list of {name} has {setting.list_length} episodes.")
    chosen = setting.episodes[:n]
    if isinstance(chosen, JointList):
        return _joint_list(setting, chosen)
    if isinstance(chosen, ClosedList):
        return {
            "setting": setting.name, "digest": setting.digest, "list_length": setting.list_length, "n_way": chosen.n_way,
            "classes": list(setting.benchmark.roles["base"].classes), "base_support": chosen.base.tolist(),
            "base_label": chosen.base_label.tolist(), "query": chosen.query.ravel().tolist(),
            "query_label": chosen.classes.ravel().tolist(),
        }  # fmt: skip
    role = setting.benchmark.roles["novel"]
    return {
        "setting": setting.name, "digest": setting.digest, "list_length": setting.list_length, "n_way": setting.way, "shot": setting.shot,
        "n_query": setting.n_query, "classes": list(role.classes), "rotations": role.rotations, "counts": role.counts.tolist(),
        "episodes": [
            {"classes": e.tolist(), "support": s.tolist(), "query": [rows[rows >= 0].tolist() for rows in q]}
            for e, s, q in zip(chosen.classes, chosen.support, chosen.query, strict=True)
        ],
    }  # fmt: skip


def _joint_list(setting: Setting, chosen: JointList) -> dict[str, Any]:
    """The experiments of the joint protocol as JSON types; rows number the images of all classes."""
    classes = setting.benchmark.joint
    assert classes is not None, "a joint list belongs to a joint benchmark"
    return {
        "setting": setting.name, "digest": setting.digest, "list_length": setting.list_length, "n_way": chosen.n_way,
        "n_base": chosen.n_base, "shot": chosen.shot, "n_query": setting.n_query,
        "classes": [*classes.base, *classes.novel], "counts": classes.counts.tolist(), "asked": chosen.asked.tolist(),
        "base_support": chosen.base.tolist(), "query": chosen.query.tolist(),
        "episodes": [{"classes": chosen.novel.tolist(), "support": rows.tolist()} for rows in chosen.support],
    }  # fmt: skip


def show_episode_list(found: dict[str, Any]) -> None:
    """Say what the list is, and show its first episode."""
    if "query_label" in found:
        sys.stdout.write(
            f"{found['setting']}: {found['list_length']:,} test images of {found['n_way']} classes, given "
            f"{len(found['base_support']):,} training images; sha256 {found['digest']}\nfirst test images: rows "
            f"{found['query'][:5]} …, labels {found['query_label'][:5]} …\n--json prints them all.\n"
        )
        return
    first = found["episodes"][0]
    if "asked" in found:
        n_base, n_novel = len(found["asked"]) - len(first["classes"]), len(first["classes"])
        sys.stdout.write(
            f"{found['setting']}: {found['list_length']} experiments with {found['shot']} images of each of {n_novel} novel "
            f"classes and all {len(found['base_support']):,} training images of {n_base} base classes; {found['n_query']} "
            f"queries a class, {found['n_way']} labels; sha256 {found['digest']}\nfirst experiment: novel labels "
            f"{first['classes'][:5]} …, support rows {first['support'][:5]} …\n--json prints them all.\n"
        )
        return
    sys.stdout.write(
        f"{found['setting']}: {found['list_length']:,} episodes, {found['n_way']}-way {found['shot']}-shot, {found['n_query']} "
        f"queries a class; sha256 {found['digest']}\nfirst episode: classes {first['classes']}, support rows {first['support']}\n"
        "--json prints them all.\n"
    )


def check_lists() -> str:
    """Draw every standard list and compare it with episodes.lock.

    Raises:
        DataError: when one differs or a standard setting is not locked.
    """
    from harness import benchmarks as known

    locked = known.locked_digests()
    missing = [name for name in known.standard_names() if name not in locked]
    if missing:
        raise DataError(
            f"benchmarks/episodes.lock does not know {', '.join(missing)}; `make lock` adds new settings."
        )
    for name in known.standard_names():
        assert known.load(name).episodes.digest == locked[name]  # drawing it compares, and says what differs
    return f"{len(locked)} lists are as locked"


def contract(reference: str, where: Places, *, is_quick: bool = False) -> list[dict[str, Any]]:
    """Run the method contract; later runs of the method show how it came out, unless it was the quick part of it."""
    import dataclasses

    from harness.method import about, registry
    from harness.testing import MethodContract

    checked = MethodContract(reference, is_quick=is_quick).run_all()
    outcomes = [dataclasses.asdict(outcome) for outcome in checked]
    if not is_quick:
        loaded = registry.load(reference)
        about.keep_contract(loaded.cls, loaded.reference, outcomes, where.cache)
    return outcomes


def show_contract(outcomes: Sequence[dict[str, Any]]) -> None:
    """Print each promise with pass or fail, and why."""
    from harness.cli import terminal
    from harness.testing.contract import LEFT_OUT

    word = {True: "pass", False: "FAIL", None: "–"}
    terminal.show_table(
        ("", "promise", "", "s"),
        [(word[o["passed"]], o["promise"], o["message"], f"{o['seconds']:.1f}") for o in outcomes],
        right=(3,),
    )
    n_failed = sum(o["passed"] is False for o in outcomes)
    n_left = sum(o["message"] == LEFT_OUT for o in outcomes)
    sys.stdout.write(
        f"{n_failed} of {len(outcomes)} promises are broken\n"
        if n_failed
        else f"the contract holds, as far as it was checked: {n_left} promises were left out\n"
        if n_left
        else "the contract holds\n"
    )


def write_method(name: str, folder: Path) -> str:
    """Write NAME.py from the template.

    Raises:
        ConfigError: when the name cannot be one, or the file exists.
    """
    import keyword
    import re
    from importlib import resources

    from harness.method import registry

    stem = name.removesuffix(".py").replace("-", "_")
    if not stem.isidentifier() or keyword.iskeyword(stem):
        raise ConfigError(f"`{name}` cannot name a method; use letters, digits and dashes, like my-method.")
    path = folder / f"{stem}.py"
    if stem.replace("_", "-") in registry.installed():
        raise ConfigError(
            f"`{name}` is the name of a method that exists (`fsbench methods`); choose another."
        )
    if path.exists():
        raise ConfigError(f"{path} exists already; choose another name.")
    template = (resources.files("harness.method") / "method.py.txt").read_text()
    class_name = "".join(part.capitalize() for part in re.split(r"_+", stem))
    path.write_text(template.replace("CLASS_NAME", class_name).replace("METHOD_NAME", stem.replace("_", "-")))
    return f"{path} is written. Next:\n  fsbench check ./{path}\n  fsbench run --method ./{path} --bench glyphs-5w1s"


def _state(benchmark: Benchmark, where: Places) -> tuple[str, str]:
    """Whether the images are prepared, and what to type if not."""
    from harness.images.datasets import GENERATED, how_to_prepare

    datasets = dict.fromkeys(part.dataset for part in benchmark.roles.values())
    missing = [name for name in datasets if name not in GENERATED and not _is_prepared(name, where)]
    if missing:
        return f"missing: {', '.join(missing)}", "\n".join(how_to_prepare(name) for name in missing)
    return "ready", ""


def _can_be_drawn(setting: Setting) -> bool:
    """Whether there are episodes of a setting; those of shipped benchmarks are locked, all of them."""
    from harness import benchmarks as known

    try:
        return setting.name in known.locked_digests() or len(setting.episodes) > 0
    except DataError:
        return False


def _is_prepared(dataset: str, where: Places) -> bool:
    from harness.images.stores import PreparedSet

    try:
        PreparedSet.open(where.data / dataset)
    except FsbenchError:
        return False
    return True


@app.command()
def config(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the defaults that fsbench.toml in the home sets, and where things are."""
    from harness.cli import defaults, terminal

    commands = context.parent.command.commands if context.parent else {}  # type: ignore[attr-defined]
    words = {
        name: {p.name: word for word, p in defaults.options_of(c).items()} for name, c in commands.items()
    }
    set_here = defaults.default_map(where().home, commands)
    rows = [
        {"command": name, "option": f"--{words[name][parameter]}", "value": value}
        for name, table in set_here.items()
        for parameter, value in table.items()
    ]
    place = {"home": str(where().home), "data": str(where().data), "cache": str(where().cache)}

    def show(_: Any) -> None:
        sys.stdout.write("".join(f"{name}: {path}\n" for name, path in place.items()))
        if rows:
            cells = [(r["command"], r["option"], _written(r["value"])) for r in rows]
            terminal.show_table(("command", "option", "default here"), cells)
        else:
            sys.stdout.write(f"No defaults are set in {where().home / defaults.FILE}.\n")

    answer({**place, "defaults": rows}, as_json, show)


def _written(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
