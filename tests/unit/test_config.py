"""Hyper-parameters: parsing, layers, origins, and every problem said at once."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ConfigError
from harness.method.hyper import as_json, from_json, hyper, layers, parse, phase_of, resolve


@dataclass(frozen=True)
class Config:
    lr: float = hyper(0.1, "step size, > 0")
    epochs: int = hyper(10, "passes, ≥ 1")
    metric: Literal["cosine", "euclidean"] = hyper("cosine", "how far is far")
    milestones: tuple[int, ...] = hyper((60, 80), "epochs")
    crop: tuple[int, float] = hyper((84, 0.5), "edge and least area")
    nesterov: bool = hyper(False, "look ahead")
    image_size: int | None = hyper(None, "edge in pixels")
    init: str = hyper("torch", "name of a scheme")
    steps: int = hyper(100, "of the head", phase="adapt")

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"lr must be > 0, found {self.lr}")


def settle(
    *defaults: Any, keys: tuple[str, ...] = ("mini", "mini-5w1s"), overrides: dict[str, str] | None = None
) -> Any:
    resolved = resolve(Config, defaults, keys, overrides or {}, method="mine")
    return SimpleNamespace(
        config=from_json(Config, {name: entry.value for name, entry in resolved.items()}),
        origins={name: entry.origin for name, entry in resolved.items()},
    )


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("3", int, 3),
        ("-3", int, -3),
        ("1", float, 1.0),
        ("1e-3", float, 0.001),
        ("cosine", str, "cosine"),
        ("true", bool, True),
        ("No", bool, False),
        ("0", bool, False),
        ("none", int | None, None),
        ("", int | None, None),
        ("105", int | None, 105),
        ("euclidean", Literal["cosine", "euclidean"], "euclidean"),
        ("2", Literal[1, 2], 2),
        ("2,3", tuple[int, ...], (2, 3)),
        ("(2, 3)", tuple[int, ...], (2, 3)),
        ("2,", tuple[int, ...], (2,)),
        ("", tuple[int, ...], ()),
        ("84,0.5", tuple[int, float], (84, 0.5)),
        ("2,3", tuple[int, ...] | None, (2, 3)),
        ("none", tuple[int, ...] | None, None),
    ],
)
def test_a_text_is_read_by_its_type(text: str, kind: Any, value: Any) -> None:
    found = parse(text, kind)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("abc", float, "expected a number, found 'abc'"),
        ("1.5", int, "expected a whole number, found '1.5'"),
        ("maybe", bool, "expected true or false, found 'maybe'"),
        (
            "cosin",
            Literal["cosine", "euclidean"],
            "expected one of cosine, euclidean.* Did you mean `cosine`",
        ),
        ("1", tuple[int, float], "expected 2 values separated by commas, found 1"),
        ("1,x", tuple[int, ...], "expected a whole number, found 'x'"),
        ("x", int | None, "expected a whole number"),
        ("nan", float, "expected a finite number, found .nan."),
        ("inf", float, "expected a finite number, found .inf."),
        ("1", dict, "cannot be written on the command line"),
    ],
)
def test_a_text_of_another_type_is_refused_with_what_was_expected(text: str, kind: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        parse(text, kind)


@given(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.lists(st.integers())
)
def test_what_python_prints_is_read_back(i: int, f: float, b: bool, many: list[int]) -> None:
    assert parse(str(i), int) == i
    assert parse(str(f), float) == f
    assert parse(str(b), bool) is b
    assert parse(str(tuple(many)), tuple[int, ...]) == tuple(many)


def test_layers_grow_stronger() -> None:
    assert layers("mini", "mini-5w1s", "conv4") == ("mini", "mini-5w1s", "conv4/mini", "conv4/mini-5w1s")


def test_field_defaults_hold_where_no_layer_says_otherwise() -> None:
    settled = settle()
    assert settled.config == Config()
    assert set(settled.origins) == {f.name for f in dataclasses.fields(Config)}
    assert set(settled.origins.values()) == {"default"}


def test_the_strongest_layer_wins_and_is_the_origin() -> None:
    table = {
        "mini-5w1s": {"lr": 0.2, "epochs": 20},
        "mini": {"lr": 0.3, "epochs": 30, "steps": 3},
        "conv4/mini": {"lr": 0.4},
        "tiered": {"lr": 9.0},
    }
    settled = settle(table, keys=layers("mini", "mini-5w1s", "conv4"))
    assert (settled.config.lr, settled.origins["lr"]) == (0.4, "conv4/mini")
    assert (settled.config.epochs, settled.origins["epochs"]) == (20, "mini-5w1s")
    assert (settled.config.steps, settled.origins["steps"]) == (3, "mini")
    assert settled.origins["init"] == "default"


def test_a_recipe_wins_over_every_layer_of_the_defaults() -> None:
    settled = settle({"mini-5w1s": {"lr": 0.2}}, {"mini": {"lr": 0.5}})
    assert settled.config.lr == 0.5


def test_an_override_wins_over_everything() -> None:
    settled = settle({"mini": {"lr": 0.2}}, overrides={"lr": "1", "milestones": "3,4"})
    assert (settled.config.lr, settled.origins["lr"]) == (1.0, "--set")
    assert settled.config.milestones == (3, 4)


def test_all_problems_are_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        settle({"mini": {"epoch": 3}}, overrides={"lrr": "1", "epochs": "many", "metric": "cosin"})
    text = str(caught.value)
    assert "DEFAULTS['mini'] of mine sets `epoch`, which Config does not declare." in text
    assert "`lrr` is not a hyper-parameter of mine. Did you mean `lr`? Known: crop, epochs," in text
    assert "--set epochs=many: expected a whole number, found 'many'." in text
    assert "--set metric=cosin: expected one of cosine, euclidean" in text
    assert "Did you mean `cosine`?" in text
    assert len(text.splitlines()) == 4


def test_a_method_without_hyper_parameters_says_so() -> None:
    @dataclass(frozen=True)
    class Empty:
        pass

    with pytest.raises(ConfigError, match=r"`lr` is not a hyper-parameter of pixels. Known: none"):
        resolve(Empty, [], (), {"lr": "1"}, method="pixels")


def test_a_value_out_of_range_names_the_method() -> None:
    with pytest.raises(ConfigError, match=r"^mine: lr must be > 0, found -1.0$"):
        settle(overrides={"lr": "-1"})


def test_a_field_knows_its_description_and_phase() -> None:
    by_name = {f.name: f for f in dataclasses.fields(Config)}
    assert by_name["lr"].metadata["doc"] == "step size, > 0"
    assert phase_of(Config, "lr") == "fit"
    assert phase_of(Config, "steps") == "adapt"


def test_a_plain_field_belongs_to_the_fit() -> None:
    @dataclass(frozen=True)
    class Plain:
        margin: float = 0.5

    assert phase_of(Plain, "margin") == "fit"


def test_tuples_travel_as_lists() -> None:
    assert as_json(((1, 2), "a", None)) == [[1, 2], "a", None]


@given(
    st.builds(
        Config,
        lr=st.floats(1e-6, 1e3),
        milestones=st.lists(st.integers(1, 99), max_size=4).map(tuple),
        crop=st.tuples(st.integers(1, 200), st.floats(0, 1)),
        image_size=st.none() | st.integers(1, 200),
    )
)
def test_a_configuration_survives_json(config: Config) -> None:
    values = {f.name: as_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
    assert from_json(Config, json.loads(json.dumps(values))) == config


def test_an_optional_tuple_survives_json() -> None:
    @dataclass(frozen=True)
    class Optional:
        sides: tuple[int, ...] | None = hyper(None, "sides")

    for sides in (None, (1, 2)):
        assert from_json(Optional, {"sides": as_json(sides)}) == Optional(sides)


def test_a_configuration_that_is_not_accepted_any_more_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Config does not accept this configuration: .*'momentum'"):
        from_json(Config, {"momentum": 0.9})
    with pytest.raises(ConfigError, match="lr must be > 0"):
        from_json(Config, {"lr": 0.0})


def test_what_a_recipe_changes_says_so() -> None:
    layered = [{"mini": {"lr": 0.5}}, {"mini": {"lr": 0.25}}]
    resolved = resolve(Config, layered, ("mini",), {}, method="mine", recipe="as-published")
    assert resolved["lr"].origin == "mini (as-published)"
    assert resolve(Config, layered[:1], ("mini",), {}, method="mine")["lr"].origin == "mini"
