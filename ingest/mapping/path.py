"""Paths: where in a message a value is found, `items[0].price` or `@header.trace`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, final

from featurestore.record import shown
from ingest.errors import InvalidMapping, Undecodable
from ingest.source import Message

__all__ = ["PARTS", "Path", "Read"]

Read: TypeAlias = Callable[[Mapping[str, object], Message], object]
"""Finds a value in a message's fields or in the message itself; None: absent or null."""

PARTS: Final = ("key", "header", "timestamp", "partition", "offset", "topic")
_QUOTED: Final = r'"(?:[^"]|"")*"'
_BARE: Final = r'[^.\[\]"@\s](?:[^.\[\]"]*[^.\[\]"\s])?'
_FIRST: Final = re.compile(rf"(?P<part>@[a-z]+)|(?P<name>{_QUOTED}|{_BARE})")
_STEP: Final = re.compile(rf"\[(?P<index>-?\d{{1,9}})\]|\.(?P<name>{_QUOTED}|{_BARE})")


@final
@dataclass(frozen=True, slots=True)
class Path:
    """Where a value is found.

    A path is a field's name, then any number of `.name` and `[index]`; `[-1]` is the last element.
    A name with dots, brackets, quotes or a leading `@` stands in double quotes, a quote in it is
    doubled. `@` begins the message's own parts:

    - `@key`: the key as text; `@key.id`: a member of the key, which is a JSON object then;
    - `@header.trace`: the last header of that name, as text;
    - `@timestamp`: when the source got the message;
    - `@partition`, `@offset`, `@topic`.

    What is absent on the way, or null, gives null; what is of another kind refuses the message.

    Args:
        text: the path in its canonical spelling.
        part: the message's own part; None: a field.
        steps: names of members and numbers of elements.

    >>> Path.parse('items[0]."unit.price"', where="feature 'price'").steps
    ('items', 0, 'unit.price')
    """

    text: str
    part: str | None
    steps: tuple[str | int, ...]

    @classmethod
    def parse(cls, text: object, *, where: str) -> Path:
        """Read a path.

        Args:
            text: the path.
            where: what it belongs to, for errors.

        Raises:
            InvalidMapping: it is no path, or could be read in two ways.
        """
        if not isinstance(text, str):
            raise InvalidMapping(where, expected="a path as text", got=shown(text))
        found = _FIRST.match(text)
        if found is None:
            raise _no_path(where, text, 0)
        part = found["part"]
        steps: list[str | int] = [] if part else [_unquoted(found["name"])]
        place = found.end()
        while place < len(text):
            step = _STEP.match(text, place)
            if step is None:
                raise _no_path(where, text, place)
            steps.append(int(step["index"]) if step["index"] else _unquoted(step["name"]))
            place = step.end()
        if part:
            _check_part(where, text, part[1:], steps)
        return cls(_spelled(part, steps), part[1:] if part else None, tuple(steps))

    @classmethod
    def of_field(cls, name: str) -> Path:
        """Return the path of one field by its name as it is."""
        return cls(_spelled(None, [name]), None, (name,))

    @property
    def field(self) -> str | None:
        """The field's name, where the path is a field of the message; None for deeper ones."""
        if self.part is None and len(self.steps) == 1:
            return str(self.steps[0])
        return None

    def reader(self, *, topic: str | None = None) -> Read:
        """Return what finds the value.

        Args:
            topic: what `@topic` gives.
        """
        if self.part == "timestamp":
            return lambda fields, message: message.timestamp_us
        if self.part == "partition":
            return lambda fields, message: message.partition
        if self.part == "offset":
            return lambda fields, message: message.offset
        if self.part == "topic":
            return lambda fields, message: topic
        if self.part == "header":
            name = str(self.steps[0])
            return lambda fields, message: _header(message, name)
        if self.part == "key":
            steps = self.steps
            if not steps:
                return lambda fields, message: _text("@key", message.key)
            return lambda fields, message: _walk(_key_members(message), steps, self.text)
        if self.field is not None:
            name = self.field
            return lambda fields, message: fields.get(name)
        return lambda fields, message: _walk(fields, self.steps, self.text)


def _check_part(where: str, text: str, part: str, steps: Sequence[str | int]) -> None:
    if part not in PARTS:
        known = ", ".join(f"@{name}" for name in PARTS)
        raise InvalidMapping(
            where,
            expected=f'one of {known} (a field whose name begins with @ is written "@{part}")',
            got=repr(text),
        )
    if part == "header":
        if len(steps) != 1 or not isinstance(steps[0], str):
            raise InvalidMapping(
                where, expected='@header.NAME (a name with dots: @header."a.b")', got=repr(text)
            )
    elif part == "key":
        if steps and not isinstance(steps[0], str):
            raise InvalidMapping(where, expected="@key or @key.MEMBER", got=repr(text))
    elif steps:
        raise InvalidMapping(where, expected=f"@{part} alone", got=repr(text))


def _no_path(where: str, text: str, place: int) -> InvalidMapping:
    return InvalidMapping(
        where,
        expected='a path such as customer.address.city, items[0].price, "a.b" or @key.id',
        got=f"{text!r}, which is none from character {place + 1} on",
    )


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _spelled(part: str | None, steps: Sequence[str | int]) -> str:
    text = part or ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
            continue
        name = step if re.fullmatch(_BARE, step) else '"' + step.replace('"', '""') + '"'
        text += f".{name}" if text else name
    return text


def _walk(value: object, steps: Sequence[str | int], path: str) -> object:
    for number, step in enumerate(steps):
        if value is None:
            return None
        if isinstance(step, str):
            if not isinstance(value, Mapping):
                raise Undecodable(
                    _spelled(None, steps[:number]) or path,
                    expected=f"an object with a member {step!r}",
                    got=shown(value),
                )
            value = value.get(step)
        else:
            if not isinstance(value, Sequence) or isinstance(value, str | bytes):
                raise Undecodable(
                    _spelled(None, steps[:number]), expected="an array", got=shown(value)
                )
            value = value[step] if -len(value) <= step < len(value) else None
    return value


def _header(message: Message, name: str) -> str | None:
    for known, value in reversed(message.headers):
        if known == name:
            return _text(f"@header.{name}", value)
    return None


def _key_members(message: Message) -> object:
    text = _text("@key", message.key)
    if text is None:
        return None
    try:
        members = json.loads(text)
    except ValueError as error:
        raise Undecodable("@key", expected=f"a JSON object ({error})", got=shown(text)) from None
    if not isinstance(members, dict):
        raise Undecodable("@key", expected="a JSON object", got=shown(text))
    return members


def _text(where: str, value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Undecodable(
            where, expected="text in UTF-8", got=f"0x{value[error.start]:02x} at {error.start}"
        ) from None
