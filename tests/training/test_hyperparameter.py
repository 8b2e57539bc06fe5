from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from training.errors import InvalidHyperparameter
from training.hyperparameter import (
    Hyperparameter,
    as_text,
    boolean,
    categorical,
    comma_list,
    continuous,
    declared,
    integer,
    nested_list,
    schema,
    text,
    tuple_of,
)


@dataclass(frozen=True, kw_only=True)
class Declared:
    rounds: int = integer(required=True, low=1, tunable=(1, 100), about="how many")
    share: float | None = continuous(above=0, high=1, library=1.0)
    lambda_: float = continuous(1.0, low=0, aliases=("reg_lambda",))
    kind: str = categorical("tree", "linear", default="tree")
    keep: bool = boolean(default=False)
    scores: tuple[str, ...] | None = comma_list("auc", "error", patterns=(r"error@[0-9.]+",))
    signs: tuple[int, ...] | None = tuple_of(-1, 0, 1)
    groups: tuple[tuple[int, ...], ...] | None = nested_list()
    folds: int | None = integer(low=2, refused="folds are not available yet")


BY_NAME = {item.name: item for item in declared(Declared)}


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("rounds", "10", 10),
        ("rounds", 10, 10),
        ("rounds", 10.0, 10),
        ("rounds", " 7 ", 7),
        ("share", "0.5", 0.5),
        ("share", 1, 1.0),
        ("lambda", "1e-3", 0.001),
        ("kind", "linear", "linear"),
        ("keep", "True", True),
        ("keep", "0", False),
        ("keep", True, True),
        ("scores", "auc,error@0.7", ("auc", "error@0.7")),
        ("scores", ["auc"], ("auc",)),
        ("scores", "['auc', 'error']", ("auc", "error")),
        ("signs", "(1,0,-1)", (1, 0, -1)),
        ("signs", (1, -1), (1, -1)),
        ("groups", "[[0,1],[2,3]]", ((0, 1), (2, 3))),
        ("groups", [[0], [1, 2]], ((0,), (1, 2))),
    ],
)
def test_text_and_typed_values_are_read(name: str, given: object, expected: object) -> None:
    assert BY_NAME[name].parse(given) == expected


@pytest.mark.parametrize(
    ("name", "given", "allowed"),
    [
        ("rounds", "0", "an integer >= 1"),
        ("rounds", "1.5", "an integer >= 1"),
        ("rounds", "many", "an integer >= 1"),
        ("rounds", True, "an integer >= 1"),
        ("rounds", None, "an integer >= 1"),
        ("share", "0", "a number in (0, 1]"),
        ("share", "1.01", "a number in (0, 1]"),
        ("share", "nan", "a number in (0, 1]"),
        ("share", "inf", "a number in (0, 1]"),
        ("lambda", "-0.1", "a number >= 0"),
        ("kind", "forest", "one of tree, linear"),
        ("kind", 3, "one of tree, linear"),
        ("keep", "perhaps", "true or false"),
        ("scores", "auc,rmse", "a comma-separated list of auc, error"),
        ("scores", "", "a comma-separated list of auc, error"),
        ("signs", "(2,0)", "a tuple like (1,0,-1)"),
        ("signs", "up", "a tuple like (1,0,-1)"),
        ("groups", "0,1", "a list of lists"),
        ("groups", "[[-1]]", "a list of lists"),
        ("groups", "[]", "a list of lists"),
    ],
)
def test_a_refusal_names_the_hyperparameter_what_is_allowed_and_what_came(
    name: str, given: object, allowed: str
) -> None:
    with pytest.raises(InvalidHyperparameter) as caught:
        BY_NAME[name].parse(given)
    assert str(caught.value).startswith(f"{name}: expected ")
    assert allowed in str(caught.value)
    assert repr(given) in str(caught.value)
    assert caught.value.names == [name]


def test_what_is_not_available_yet_says_why() -> None:
    with pytest.raises(InvalidHyperparameter, match="folds: '5' cannot be used: folds are not"):
        BY_NAME["folds"].parse("5")


def test_the_schema_has_everything_declared() -> None:
    made = schema("declared", declared(Declared))
    assert made["required"] == ["rounds"]
    assert made["additionalProperties"] is False
    assert made["properties"]["rounds"] == {
        "type": "integer",
        "description": "how many",
        "minimum": 1,
        "x-tunable": {"low": 1, "high": 100, "scale": "Linear"},
    }
    assert made["properties"]["share"]["exclusiveMinimum"] == 0
    assert made["properties"]["share"]["x-library-default"] == 1.0
    assert made["properties"]["lambda"]["x-aliases"] == ["reg_lambda"]
    assert made["properties"]["kind"]["enum"] == ["tree", "linear"]
    assert made["properties"]["signs"]["items"] == {"type": "integer", "enum": [-1, 0, 1]}
    assert made["properties"]["folds"]["x-refused"] == "folds are not available yet"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rounds", 3),
        ("share", 0.25),
        ("keep", True),
        ("scores", ("auc", "error@0.5")),
        ("signs", (1, 0)),
        ("groups", ((0, 1), (2,))),
    ],
)
def test_a_value_survives_the_way_through_text(name: str, value: Any) -> None:
    item: Hyperparameter = BY_NAME[name]
    assert item.parse(as_text(value)) == value


def test_a_word_may_stand_in_place_of_a_number() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Slow:
        rate: float | str = continuous("auto", above=0, words=("auto",), about="of learning")

    rate = declared(Slow)[0]
    assert [rate.parse(given) for given in ("auto", " auto", "0.5", 2)] == ["auto", "auto", 0.5, 2]
    with pytest.raises(InvalidHyperparameter, match="expected a number > 0 or auto, got 'slow'"):
        rate.parse("slow")
    made = schema("slow", [rate])["properties"]["rate"]
    assert made["anyOf"] == [{"type": "number", "exclusiveMinimum": 0}, {"enum": ["auto"]}]
    assert made["default"] == "auto"


def test_text_is_taken_as_it_is_and_an_empty_one_as_none() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Named:
        file: str | None = text(about="a file")

    (item,) = declared(Named)
    assert item.parse(" glove.txt ") == "glove.txt"
    assert item.parse("") is None
    with pytest.raises(InvalidHyperparameter, match="file: expected text, got 7"):
        item.parse(7)
