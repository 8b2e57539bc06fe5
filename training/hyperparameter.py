"""Hyperparameters declared as data: types, ranges, defaults, aliases, and what refuses a value.

An algorithm is a frozen dataclass; each field is declared with one of the functions here, which
return a dataclass field that carries its `Hyperparameter`. From the declarations come the parsing
of strings, the checks, and one JSON schema for documentation, tuner, lineage and command line.

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True, kw_only=True)
... class Mean:
...     shrink: float = continuous(0.0, low=0, about="pseudo-count of zeros")
>>> declared(Mean)[0].parse("0.5")
0.5
>>> declared(Mean)[0].parse("-1")
Traceback (most recent call last):
...
training.errors.InvalidHyperparameter: shrink: expected a number >= 0, got '-1'
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, final

from training.errors import InvalidHyperparameter

__all__ = [
    "Dependency",
    "Hyperparameter",
    "Interval",
    "Tunable",
    "as_text",
    "boolean",
    "categorical",
    "comma_list",
    "continuous",
    "declared",
    "integer",
    "nested_list",
    "schema",
    "text",
    "tuple_of",
]

Kind = Literal[
    "integer", "continuous", "categorical", "boolean", "comma_list", "nested_list", "tuple", "text"
]
Value = bool | int | float | str | tuple[Any, ...] | None


@final
@dataclass(frozen=True)
class Interval:
    """A range of numbers whose ends are closed (`low`, `high`) or open (`above`, `below`).

    >>> 1.0 in Interval(above=0, high=1), 0.0 in Interval(above=0, high=1)
    (True, False)
    >>> str(Interval(above=0, high=1)), str(Interval(low=1))
    ('in (0, 1]', '>= 1')
    """

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        left = self.low if self.low is not None else self.above
        right = self.high if self.high is not None else self.below
        if left is None and right is None:
            return ""
        if right is None:
            return f"{'>=' if self.low is not None else '>'} {left:g}"
        if left is None:
            return f"{'<=' if self.high is not None else '<'} {right:g}"
        opening = "[" if self.low is not None else "("
        closing = "]" if self.high is not None else ")"
        return f"in {opening}{left:g}, {right:g}{closing}"


@final
@dataclass(frozen=True)
class Tunable:
    """The range a tuner should search: numbers from `low` to `high`, or `choices`."""

    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    scale: Literal["Linear", "Logarithmic"] = "Linear"


@final
@dataclass(frozen=True)
class Dependency:
    """A rule between hyperparameters.

    Attributes:
        names: those concerned, as the message shows them with their values.
        rule: the rule in words.
        holds: whether an algorithm's values keep it.
    """

    names: tuple[str, ...]
    rule: str
    holds: Callable[[Any], bool]


@final
@dataclass(frozen=True, kw_only=True)
class Hyperparameter:
    """One declared hyperparameter.

    Attributes:
        name: as users write it (`lambda`), which may differ from the field (`lambda_`).
        field_name: the dataclass field.
        kind: how a string is read.
        about: one phrase for documentation.
        default: the value when it is not given; None: not set.
        library: the value a wrapped library uses when it is not set.
        required: whether a job must give it.
        interval: the numbers allowed.
        choices: the words allowed; for a list, those of its items.
        patterns: further items a list allows, as regular expressions.
        words: what may stand in place of a number, a boolean or a list, such as `auto`.
        aliases: other names for it.
        tunable: the recommended search range.
        refused: why any value but the default is refused at present.
    """

    name: str
    kind: Kind
    field_name: str = ""
    about: str = ""
    default: Value = None
    library: Value = None
    required: bool = False
    interval: Interval = field(default_factory=Interval)
    choices: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    tunable: Tunable | None = None
    refused: str = ""

    @property
    def allowed(self) -> str:
        """What a value may be, in words."""
        return " or ".join([self._allowed, *self.words])

    @property
    def _allowed(self) -> str:
        match self.kind:
            case "integer":
                return f"an integer {self.interval}".rstrip()
            case "continuous":
                return f"a number {self.interval}".rstrip()
            case "boolean":
                return "true or false"
            case "categorical":
                return f"one of {', '.join(self.choices)}"
            case "comma_list":
                items = [*self.choices, *self.patterns]
                return f"a comma-separated list of {', '.join(items)}"
            case "tuple":
                return f"a tuple like (1,0,-1) of {', '.join(self.choices)}"
            case "text":
                return "text"
            case "nested_list":
                return "a list of lists of feature numbers, like [[0,1],[2,3]]"

    def parse(self, value: object) -> Value:
        """Read a value given as text or already typed, and check it.

        Raises:
            InvalidHyperparameter: it is malformed or not allowed; the message names what is.
        """
        if isinstance(value, str) and value.strip() in self.words:
            return value.strip()
        try:
            read = _READ[self.kind](value)
        except (ValueError, TypeError):
            raise self._refusal(value) from None
        self._check(read, value)
        return read

    def _check(self, read: Value, given: object) -> None:
        items: Sequence[Any]
        match self.kind:
            case "integer" | "continuous":
                if read not in self.interval:  # type: ignore[operator]
                    raise self._refusal(given)
            case "categorical":
                if read not in self.choices:
                    raise self._refusal(given)
            case "comma_list" | "tuple":
                items = read if isinstance(read, tuple) else ()
                if not items or not all(self._is_item(str(item)) for item in items):
                    raise self._refusal(given)
            case "nested_list":
                items = read if isinstance(read, tuple) else ()
                if not items or any(number < 0 for group in items for number in group):
                    raise self._refusal(given)
            case "boolean" | "text":
                pass
        if self.refused and read != self.default:
            raise InvalidHyperparameter(
                f"{self.name}: {as_text(given)!r} cannot be used: {self.refused}",
                names=[self.name],
            )

    def _is_item(self, item: str) -> bool:
        return item in self.choices or any(re.fullmatch(p, item) for p in self.patterns)

    def _refusal(self, given: object) -> InvalidHyperparameter:
        return InvalidHyperparameter(
            f"{self.name}: expected {self.allowed}, got {given!r}", names=[self.name]
        )


def integer(default: int | str | None = None, **options: Any) -> Any:
    """Declare an integer; `low`, `high`, `above`, `below` bound it, `words` may replace it."""
    return _declare("integer", default, options)


def continuous(default: float | str | None = None, **options: Any) -> Any:
    """Declare a finite number; `low`, `high`, `above`, `below` bound it, `words` may replace it."""
    return _declare("continuous", default, options)


def categorical(*choices: str, default: str | None = None, **options: Any) -> Any:
    """Declare one word out of several."""
    return _declare("categorical", default, {**options, "choices": choices})


def boolean(default: bool | str | None = None, **options: Any) -> Any:
    """Declare true or false; 1, 0, yes and no are read as well."""
    return _declare("boolean", default, options)


def comma_list(*choices: str, default: tuple[str, ...] | str | None = None, **options: Any) -> Any:
    """Declare a comma-separated list of words; `words` may replace it."""
    return _declare("comma_list", default, {**options, "choices": choices})


def tuple_of(*choices: int, **options: Any) -> Any:
    """Declare a tuple of integers, such as `(1,0,-1)`."""
    return _declare("tuple", None, {**options, "choices": tuple(str(c) for c in choices)})


def nested_list(**options: Any) -> Any:
    """Declare a list of lists of integers >= 0, such as `[[0,1],[2,3]]`."""
    return _declare("nested_list", None, options)


def text(**options: Any) -> Any:
    """Declare any text, such as the name of a file; an empty one is as none."""
    return _declare("text", None, options)


def declared(cls: type[Any]) -> tuple[Hyperparameter, ...]:
    """Return the hyperparameters of an algorithm's class, in the order of its fields."""
    found = []
    for item in dataclasses.fields(cls):
        given: Hyperparameter = item.metadata["hyperparameter"]
        found.append(
            dataclasses.replace(
                given, field_name=item.name, name=given.name or item.name.rstrip("_")
            )
        )
    return tuple(found)


def schema(
    title: str,
    hyperparameters: Sequence[Hyperparameter],
    *,
    dependencies: Sequence[Dependency] = (),
    legacy: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of an algorithm's hyperparameters.

    What JSON schema has no word for is under `x-` keys: aliases, the tunable range, the value of
    the wrapped library, the dependencies in words, and the legacy names with their replacements.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "object",
        "properties": {item.name: _property(item) for item in hyperparameters},
        "required": [item.name for item in hyperparameters if item.required],
        "additionalProperties": False,
        "x-dependencies": [{"names": list(item.names), "rule": item.rule} for item in dependencies],
        "x-legacy": dict(legacy or {}),
    }


def as_text(value: object) -> str:
    """Write a typed value the way a job carries it: as text.

    >>> [as_text(v) for v in (True, 10, 0.1, ["auc", "error"], [[0, 1], [2]])]
    ['true', '10', '0.1', 'auc,error', '[[0,1],[2]]']
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        if any(isinstance(item, list | tuple) for item in value):
            return json.dumps(value, separators=(",", ":"))
        return ",".join(as_text(item) for item in value)
    return str(value)


def _declare(kind: Kind, default: Value, options: dict[str, Any]) -> Any:
    ends = {end: options.pop(end) for end in ("low", "high", "above", "below") if end in options}
    tunable = options.pop("tunable", None)
    if isinstance(tunable, tuple):
        tunable = Tunable(*tunable)
    item = Hyperparameter(
        kind=kind,
        name=options.pop("name", ""),
        default=default,
        interval=Interval(**ends),
        tunable=tunable,
        **options,
    )
    metadata = {"hyperparameter": item}
    if item.required:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


def _read_integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(value)
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(value)
    return int(value)


def _read_number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(value)
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _read_word(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value.strip()


def _read_text(value: object) -> str | None:
    return _read_word(value) or None


def _read_boolean(value: object) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    text = as_text(value).strip().lower()
    if text not in words:
        raise ValueError(value)
    return words[text]


def _read_list(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list | tuple) else str(value).strip("[]").split(",")
    return tuple(str(item).strip().strip("'\"") for item in items)


def _read_tuple(value: object) -> tuple[int, ...]:
    items = value if isinstance(value, list | tuple) else str(value).strip(" ()[]").split(",")
    return tuple(_read_integer(item) for item in items if item != "")


def _read_nested(value: object) -> tuple[tuple[int, ...], ...]:
    groups = json.loads(value) if isinstance(value, str) else value
    if not isinstance(groups, list | tuple):
        raise TypeError(value)
    return tuple(_read_tuple(list(group)) for group in groups)


_READ: Mapping[Kind, Callable[[object], Value]] = {
    "integer": _read_integer,
    "continuous": _read_number,
    "categorical": _read_word,
    "boolean": _read_boolean,
    "comma_list": _read_list,
    "text": _read_text,
    "tuple": _read_tuple,
    "nested_list": _read_nested,
}

_JSON_TYPE: Mapping[Kind, dict[str, Any]] = {
    "integer": {"type": "integer"},
    "continuous": {"type": "number"},
    "categorical": {"type": "string"},
    "text": {"type": "string"},
    "boolean": {"type": "boolean"},
    "comma_list": {"type": "array", "items": {"type": "string"}},
    "tuple": {"type": "array", "items": {"type": "integer"}},
    "nested_list": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
}

_ENDS = {
    "low": "minimum",
    "high": "maximum",
    "above": "exclusiveMinimum",
    "below": "exclusiveMaximum",
}


def _property(item: Hyperparameter) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(_JSON_TYPE[item.kind]))
    made["description"] = item.about
    made |= {
        word: end
        for name, word in _ENDS.items()
        if (end := getattr(item.interval, name)) is not None
    }
    if item.kind == "categorical":
        made["enum"] = list(item.choices)
    elif item.kind == "comma_list":
        options: list[dict[str, Any]] = [{"enum": list(item.choices)}]
        made["items"]["anyOf"] = options + [{"pattern": f"^{p}$"} for p in item.patterns]
    elif item.kind == "tuple":
        made["items"]["enum"] = [int(choice) for choice in item.choices]
    if item.words:
        kept = {name: made.pop(name) for name in list(made) if name != "description"}
        made["anyOf"] = [kept, {"enum": list(item.words)}]
    if item.default is not None:
        made["default"] = item.default
    if item.library is not None:
        made["x-library-default"] = item.library
    if item.aliases:
        made["x-aliases"] = list(item.aliases)
    if item.tunable is not None:
        made["x-tunable"] = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(item.tunable).items()
            if value not in (None, ())
        }
    if item.refused:
        made["x-refused"] = item.refused
    return made
