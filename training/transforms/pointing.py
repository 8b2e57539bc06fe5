"""The part of JSONPath that a transform job's filters may use, as SageMaker lists it.

$                          the whole
.name  ['name']            an attribute
['a','b']                  several attributes, as an object of these
[0]  [-1]  [0,2]           one element, from the end, several as a list
[1:]  [:-1]  [1:3]         a slice
*  [*]                     every value, as a list
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self, final

from training.errors import InvalidData, InvalidJob

__all__ = ["Pointer"]

_LONGEST: Final = 63
_NAME: Final = re.compile(r"\.([A-Za-z_][\w\-]*)")
_QUOTED: Final = re.compile(r"\s*(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\")\s*(,|$)")
_SLICE: Final = re.compile(r"\s*(-?\d+)?\s*:\s*(-?\d+)?\s*")
_NUMBERS: Final = re.compile(r"\s*-?\d+\s*(,\s*-?\d+\s*)*")

_Step = Callable[[Any], Any]


@final
@dataclass(frozen=True)
class Pointer:
    """A path that picks a part of a JSON value.

    >>> Pointer.parse("$.features[1:]").pick({"id": 7, "features": [1, 2, 3]})
    [2, 3]
    >>> Pointer.parse("$['id','score']").pick({"id": 7, "wind": 3.5, "score": 0.9})
    {'id': 7, 'score': 0.9}
    >>> Pointer.parse("$[0,-1]").pick([7, 3.5, 0.9])
    [7, 0.9]
    """

    text: str
    steps: tuple[_Step, ...]

    @classmethod
    def parse(cls, text: str, *, field: str = "InputFilter") -> Self:
        """Read a path.

        Args:
            text: such as `$.features`, of at most 63 characters.
            field: of the job, for errors.

        Raises:
            InvalidJob: it is none, or uses what is not available; the message has the place.
        """
        if not text.startswith("$") or len(text) > _LONGEST:
            raise _refused(
                field, text, 0, f"a path of at most {_LONGEST} characters that begins with $"
            )
        steps: list[_Step] = []
        at = 1
        while at < len(text):
            if text.startswith("..", at):
                raise _refused(field, text, at, "one step after another; `..` is not available")
            if text.startswith(".[", at):
                at += 1  # As SageMaker's own examples write it.
            if text.startswith(".*", at):
                steps.append(_every)
                at += 2
            elif found := _NAME.match(text, at):
                steps.append(_attribute(found[1]))
                at = found.end()
            elif text.startswith("[", at):
                end = _closing(text, at)
                if end < 0:
                    raise _refused(field, text, at, "a closing bracket")
                steps.append(_bracket(text[at + 1 : end], field, text, at))
                at = end + 1
            else:
                raise _refused(field, text, at, "`.name`, `['name']`, `[0]`, `[1:3]` or `*`")
        return cls(text, tuple(steps))

    @property
    def is_whole(self) -> bool:
        """Whether it picks everything."""
        return not self.steps

    def pick(self, value: Any) -> Any:
        """Return the part of a value.

        Raises:
            InvalidData: there is no such part; the message says what is there.
        """
        for step in self.steps:
            try:
                value = step(value)
            except _Absent as absent:
                raise InvalidData(f"{self.text} finds nothing: {absent}") from None
        return value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pointer) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


class _Absent(Exception):
    """What a step looks for is not there."""


def _closing(text: str, start: int) -> int:
    """Return where the bracket that opens at `start` closes, or -1."""
    quote = ""
    at = start + 1
    while at < len(text):
        sign = text[at]
        if quote:
            if sign == "\\":
                at += 1
            elif sign == quote:
                quote = ""
        elif sign in "'\"":
            quote = sign
        elif sign == "]":
            return at
        at += 1
    return -1


def _bracket(inside: str, field: str, text: str, at: int) -> _Step:
    if inside.strip() in ("*", ""):
        return _every
    if found := _SLICE.fullmatch(inside):
        start, end = (None if part is None else int(part) for part in found.groups())
        return _slice(start, end)
    if _NUMBERS.fullmatch(inside):
        return _elements([int(part) for part in inside.split(",")])
    names, place = [], 0
    while place < len(inside):
        quoted = _QUOTED.match(inside, place)
        if quoted is None or (quoted[3] == "," and quoted.end() == len(inside)):
            raise _refused(
                field, text, at, "names in quotes, numbers, a slice or * between the brackets"
            )
        names.append(re.sub(r"\\(.)", r"\1", quoted[1] if quoted[1] is not None else quoted[2]))
        place = quoted.end()
    return _attribute(names[0]) if len(names) == 1 else _attributes(names)


def _attribute(name: str) -> _Step:
    def step(value: Any) -> Any:
        return _object(value, name)[name]

    return step


def _attributes(names: list[str]) -> _Step:
    def step(value: Any) -> Any:
        return {name: _object(value, name)[name] for name in names}

    return step


def _elements(places: list[int]) -> _Step:
    def element(value: Any, place: int) -> Any:
        if not isinstance(value, list):
            raise _Absent(f"expected a list, got {_shown(value)}")
        if not -len(value) <= place < len(value):
            raise _Absent(f"expected an element [{place}] of a list, which has {len(value)}")
        return value[place]

    def step(value: Any) -> Any:
        if len(places) == 1:
            return element(value, places[0])
        return [element(value, place) for place in places]

    return step


def _slice(start: int | None, end: int | None) -> _Step:
    def step(value: Any) -> Any:
        if not isinstance(value, list):
            raise _Absent(f"expected a list, got {_shown(value)}")
        return value[start:end]

    return step


def _every(value: Any) -> Any:
    if isinstance(value, dict):
        return list(value.values())
    if not isinstance(value, list):
        raise _Absent(f"expected a list or an object, got {_shown(value)}")
    return value


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Absent(f"expected an object with {name!r}, got {_shown(value)}")
    if name not in value:
        raise _Absent(f"expected {name!r} among {', '.join(map(repr, value)) or 'no names'}")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _refused(field: str, text: str, at: int, expected: str) -> InvalidJob:
    return InvalidJob(
        f"{field}: {text[:100]!r} at character {at + 1}: expected {expected}", field=field
    )
