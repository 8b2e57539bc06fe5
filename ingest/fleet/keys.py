"""Reading the tables of a settings file: what each key must be, and every mistake in words."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, final

from featurestore.errors import nearest

__all__ = ["Key", "Reading", "Secret", "read_table"]

Shape = Literal["text", "path", "whole", "number", "truth", "texts", "table", "settings"]

_SHAPES: Final[Mapping[Shape, str]] = {
    "text": "text",
    "path": "a path",
    "whole": "a whole number",
    "number": "a number",
    "truth": "true or false",
    "texts": "a list of texts",
    "table": "a table",
    "settings": "a table, or the path of a TOML file with it",
}
_REFERENCE: Final = re.compile(r"\$(\$|\{(?P<name>[^}]*)\})")
_SHOWN: Final = 60


class Secret(str):
    """A text that came from the environment or a file, and is never shown."""

    __slots__ = ()


@final
@dataclass(frozen=True, slots=True)
class Key:
    """What one key of a table must be.

    Args:
        shape: of its value.
        required: it has to be there.
        default: its value where it is not there; None: it is then left out.
        choices: what a text may be.
        minimum: of a number.
        secret: its value may also come from a file, which `KEY_file` names, or from the environment
            variable that `KEY_env` names.
        keys: of a table; None: any.
    """

    shape: Shape = "text"
    required: bool = False
    default: object = None
    choices: Sequence[str] = ()
    minimum: float | None = None
    secret: bool = False
    keys: Mapping[str, Key] | None = None


@final
@dataclass(slots=True)
class Reading:
    """One reading of a settings file: its mistakes, and the files that it named.

    Args:
        folder: where relative paths begin.
        environ: where `${NAME}` is looked up.
        problems: a line for each mistake.
        files: other files that were read.
    """

    folder: Path
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    problems: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def problem(self, where: str, expected: str, got: str, advice: str = "") -> None:
        """Note a mistake."""
        self.problems.append(f"{where}: expected {expected}, got {got}{advice}")

    def path(self, text: str) -> Path:
        """Return a path, relative to the settings file."""
        return self.folder / Path(text).expanduser()

    def text_of(self, file: str, where: str) -> Secret | None:
        """Return what a file of a secret holds, without white space around it."""
        path = self.path(file)
        self.files.append(path)
        try:
            found = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
            self.problem(where, "a file with the secret", f"{str(path)!r}: {reason}")
            return None
        if not found:
            self.problem(where, "a file with the secret", f"{str(path)!r}, which is empty")
            return None
        return Secret(found)

    def variable(self, name: str, where: str) -> Secret | None:
        """Return the value of an environment variable."""
        found = self.environ.get(name)
        if not found:
            self.problem(where, f"the environment variable {name!r}", "none of that name")
            return None
        return Secret(found)

    def beside(self, file: str) -> Reading:
        """Return a reading of another file, whose relative paths begin at its own folder."""
        folder = self.path(file).parent
        return Reading(folder, self.environ, self.problems, self.files)

    def table_of(self, file: str, where: str) -> dict[str, Any] | None:
        """Return what a TOML file holds, with `${NAME}` replaced."""
        path = self.path(file)
        self.files.append(path)
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            self.problem(where, "a TOML file", f"{str(path)!r}: {error.strerror}")
        except ValueError as error:
            self.problem(where, "a TOML file", f"{str(path)!r}: {error}")
        else:
            return {
                name: self.resolved(value, f"{path.name}: {name}") for name, value in found.items()
            }
        return None

    def resolved(self, value: object, where: str) -> object:
        """Replace `${NAME}` in all texts by environment variables; `$$` is a dollar sign."""
        if isinstance(value, str):
            return self._substituted(value, where)
        if isinstance(value, list):
            return [self.resolved(one, f"{where}[{n}]") for n, one in enumerate(value)]
        if isinstance(value, dict):
            return {
                name: self.resolved(one, f"{where}.{name}" if where else name)
                for name, one in value.items()
            }
        return value

    def _substituted(self, text: str, where: str) -> str:
        is_secret = False

        def replace(found: re.Match[str]) -> str:
            nonlocal is_secret
            if found[1] == "$":
                return "$"
            is_secret = True
            name = found["name"]
            if name not in self.environ:
                self.problem(
                    where, f"the environment variable {name!r}", "none of that name", _export(name)
                )
            return self.environ.get(name, "")

        replaced = _REFERENCE.sub(replace, text)
        return Secret(replaced) if is_secret else replaced


def read_table(
    values: object, keys: Mapping[str, Key], where: str, reading: Reading
) -> dict[str, Any]:
    """Check a table and return its values, with defaults where there are any.

    Args:
        values: what the file has.
        keys: what may be there; anything else is a mistake.
        where: names the table in messages.
        reading: takes the mistakes.

    >>> reading = Reading(Path())
    >>> read_table({"topik": "t"}, {"topic": Key(required=True)}, "source", reading)
    {}
    >>> for problem in reading.problems:
    ...     print(problem)
    source.topik: expected one of topic, got 'topik'; did you mean 'topic'?
    source.topic: expected text, got nothing
    """
    if not isinstance(values, Mapping):
        reading.problem(where, "a table", _shown(values))
        return {}
    secrets = [name for name, key in keys.items() if key.secret]
    ways = {f"{name}_{way}": (name, way) for name in secrets for way in ("file", "env")}
    known = [*keys, *ways]
    found: dict[str, Any] = {}
    for name, value in values.items():
        at = f"{where}.{name}" if where else name
        key = keys.get(name)
        if key is not None:
            read = _value(value, key, at, reading)
        elif name in ways:
            secret, way = ways[name]
            if sum(one in values for one in (secret, f"{secret}_file", f"{secret}_env")) > 1:
                reading.problem(at, f"one of {secret}, {secret}_file, {secret}_env", "several")
            read = _secret(value, way, at, reading)
            name = secret
        else:
            reading.problem(at, f"one of {', '.join(known)}", repr(name), nearest(name, known))
            continue
        if read is not None:
            found[name] = read
    for name, key in keys.items():
        given = name in values or any(
            way in values for way, (secret, _) in ways.items() if secret == name
        )
        if not given and key.required:
            at = f"{where}.{name}" if where else name
            reading.problem(at, _SHAPES[key.shape], "nothing")
        elif not given and key.default is not None:
            found[name] = key.default
    return found


def _secret(value: object, way: str, where: str, reading: Reading) -> Secret | None:
    """Return the secret in the file, or in the environment variable, that a value names."""
    name = _value(value, Key(), where, reading)
    if not isinstance(name, str):
        return None
    return reading.text_of(name, where) if way == "file" else reading.variable(name, where)


def _value(value: object, key: Key, where: str, reading: Reading) -> object:
    """Return a value that is as its key says, else None with the mistake noted."""
    if key.shape == "settings" and isinstance(value, str):
        file, value = value, reading.table_of(value, where)
        if value is None:
            return None
        reading = reading.beside(file)
    read = _shaped(value, key.shape)
    if read is None:
        reading.problem(where, _SHAPES[key.shape], _shown(value))
        return None
    if key.choices and read not in key.choices:
        choices = ", ".join(key.choices)
        advice = "" if isinstance(value, Secret) else nearest(str(value), key.choices)
        reading.problem(where, f"one of {choices}", _shown(value), advice)
        return None
    if key.minimum is not None and isinstance(read, int | float) and read < key.minimum:
        reading.problem(where, f"at least {key.minimum:g}", _shown(value))
        return None
    if key.shape == "path":
        return str(reading.path(str(read)))
    if key.keys is not None:
        return read_table(read, key.keys, where, reading)
    return read


def _shaped(value: object, shape: Shape) -> object:
    if isinstance(value, Secret):
        value = _number_in(value, shape)
    if shape in ("text", "path"):
        return value if isinstance(value, str) and value else None
    if shape == "truth":
        return value if isinstance(value, bool) else None
    if shape == "whole":
        return value if isinstance(value, int) and not isinstance(value, bool) else None
    if shape == "number":
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if shape == "texts":
        texts = isinstance(value, list) and all(isinstance(one, str) for one in value)
        return value if texts else None
    return dict(value) if isinstance(value, Mapping) else None


def _number_in(text: Secret, shape: Shape) -> object:
    """Return the number that an environment variable holds, where one is expected."""
    try:
        return {"whole": int, "number": float}.get(shape, lambda same: same)(text)
    except ValueError:
        return text


def _shown(value: object) -> str:
    if isinstance(value, Secret):
        return "another value (not shown: it is from the environment)"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _export(name: str) -> str:
    return f"; export {name}=… before you start, or write $$ for a dollar sign"
