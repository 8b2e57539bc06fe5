"""What a mapping declares of one value: where it comes from and what it must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, final

from featurestore.errors import nearest
from featurestore.record import shown
from ingest.errors import InvalidMapping, Undecodable
from ingest.mapping.cast import Cast, Uncastable
from ingest.mapping.path import Path, Read
from ingest.source import Message

__all__ = ["Entry", "entries"]

_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


@final
@dataclass(frozen=True, slots=True)
class Entry:
    """One declared value: of a path, an expression or a constant."""

    where: str
    path: Path | None = None
    sql: str | None = None
    value: object = None
    cast: Cast | None = None
    default: object = None
    required: bool = False

    @classmethod
    def parse(cls, where: str, body: object, members: Sequence[str]) -> Entry:
        """Read one value's declaration.

        Args:
            where: what it declares, for errors.
            body: a path, or a table.
            members: what the table may have.

        Raises:
            InvalidMapping: it breaks a rule.
        """
        if isinstance(body, str):
            return cls(where, path=Path.parse(body, where=where))
        if not isinstance(body, Mapping):
            raise InvalidMapping(where, expected="a path or a table", got=shown(body))
        for name in body:
            if name not in members:
                raise InvalidMapping(
                    where,
                    expected=f"the members {', '.join(members)}",
                    got=f"{name!r}{nearest(str(name), members)}",
                )
        origins = [name for name in ("path", "sql", "value") if body.get(name) is not None]
        if len(origins) != 1:
            raise InvalidMapping(
                where,
                expected="one of " + ", ".join(n for n in ("path", "sql", "value") if n in members),
                got=" and ".join(origins) or "none",
            )
        required = body.get("required", False)
        if not isinstance(required, bool):
            raise InvalidMapping(where, expected="required: true or false", got=shown(required))
        default = body.get("default")
        if required and default is not None:
            raise InvalidMapping(
                where, expected="a default, or a value that is required", got="both"
            )
        cast = Cast.parse(body, where=where)
        (origin,) = origins
        if origin == "value" and (cast is not None or default is not None or required):
            raise InvalidMapping(where, expected="a constant alone", got="a constant and more")
        if origin == "sql":
            if not isinstance(body["sql"], str):
                raise InvalidMapping(where, expected="sql as text", got=shown(body["sql"]))
            if cast is not None:
                raise InvalidMapping(
                    where, expected="no type beside sql (the expression casts)", got=cast.kind
                )
        return cls(
            where,
            path=Path.parse(body["path"], where=where) if origin == "path" else None,
            sql=body["sql"] if origin == "sql" else None,
            value=body.get("value"),
            cast=cast,
            default=default,
            required=required,
        )

    @property
    def is_rename(self) -> bool:
        """Whether it is a field of the message as it is."""
        return (
            self.path is not None
            and self.path.field is not None
            and self.cast is None
            and self.default is None
            and not self.required
        )

    def to_json(self) -> dict[str, object]:
        """Write the declaration in its canonical form."""
        body: dict[str, object] = {}
        if self.path is not None:
            body["path"] = self.path.text
        if self.sql is not None:
            body["sql"] = self.sql
        if self.value is not None:
            body["value"] = self.value
        if self.cast is not None:
            body.update(self.cast.to_json())
        if self.default is not None:
            body["default"] = self.default
        if self.required:
            body["required"] = True
        return body

    def reading(self, convert: Callable[[Any], Any] | None, topic: str | None) -> Read:
        """Return what reads the value and converts it; the default is converted already."""
        if self.path is None:
            constant = self.value
            return lambda fields, message: constant
        where = f"{self.where} from {self.path.text}"
        read, default, required = self.path.reader(topic=topic), self.default, self.required
        field = self.path.field

        def value(fields: Mapping[str, object], message: Message) -> object:
            if field is not None:
                found = fields.get(field)
            else:
                try:
                    found = read(fields, message)
                except Undecodable as error:
                    expected = f"{error.expected} at {error.where}"
                    raise Undecodable(where, expected=expected, got=error.got) from None
            if found is None:
                if required:
                    raise Undecodable(where, expected="a value", got="none")
                return default
            if convert is None:
                return found
            try:
                return convert(found)
            except Uncastable as error:
                raise Undecodable(where, expected=error.expected, got=shown(found)) from None

        return value


def entries(
    declaration: Mapping[str, object], member: str, members: Sequence[str]
) -> dict[str, Entry]:
    """Read a table of declarations, by name.

    Raises:
        InvalidMapping: one of them breaks a rule.
    """
    body = declaration.get(member, _NOTHING)
    if not isinstance(body, Mapping):
        raise InvalidMapping(member, expected="a table", got=shown(body))
    what = member[:-1]
    return {
        str(name): Entry.parse(f"{what} {str(name)!r}", entry, members)
        for name, entry in body.items()
    }
