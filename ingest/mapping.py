"""Mappings: which features a message's fields become, declared in plain values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Final, TypeAlias, final

from featurestore import FeatureGroup, FeatureStore, FeatureType, InvalidRecord, eventtime
from featurestore.errors import nearest
from featurestore.feature import FeatureDefinition
from featurestore.record import feature_value, shown
from ingest.cast import COLLECTIONS, Cast, Uncastable, as_text
from ingest.decode import Decoded, Deleted
from ingest.errors import IngestError, InvalidMapping, Undecodable
from ingest.expression import Engine, Expression, check_special
from ingest.path import Path, Read
from ingest.source import Message
from ingest.transform import Transform, Transformed

__all__ = ["FeatureMapping"]

_MEMBERS: Final = ("features", "inputs", "drop", "rest")
_OF_FEATURE: Final = (
    "path", "sql", "value", "default", "required", "type", "of", "from", "zone", "separator",
)  # fmt: skip
_OF_INPUT: Final = tuple(name for name in _OF_FEATURE if name not in ("sql", "required"))
_ELEMENT: Final = {
    FeatureType.STRING: "string",
    FeatureType.INTEGRAL: "integral",
    FeatureType.FRACTIONAL: "fractional",
}
_SQL: Final = {
    "string": "VARCHAR",
    "integral": "BIGINT",
    "fractional": "DOUBLE",
    "boolean": "BOOLEAN",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
}
_FITTING: Final = {
    FeatureType.STRING: ("string", "timestamp"),
    FeatureType.INTEGRAL: ("integral", "boolean"),
    FeatureType.FRACTIONAL: ("integral", "fractional", "timestamp"),
}
_WHOLE: Final = frozenset(
    f"{sign}{size}INT" for sign in ("", "U") for size in ("TINY", "SMALL", "BIG", "HUGE", "")
) | {"INTEGER", "UINTEGER"}
_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
_Row: TypeAlias = tuple[Mapping[str, object], Message]
_Result: TypeAlias = "dict[str, object] | Undecodable"


@final
class FeatureMapping(Transform):
    """Makes a record of a message as a declaration says.

    The declaration is a table as TOML or JSON gives it:

    - `features`: feature → a path (see `Path`), or a table with one of `path`, `sql` and `value`
      (a constant), and with `default` (for absent and null), `required`, and a cast: `type`
      (`string`, `integral`, `fractional`, `boolean`, `timestamp`, `list`, `set`, `vector`), `of`
      (a collection's elements), `separator` (of a text that is a collection), `from` (a
      timestamp's form: `seconds`, `millis`, `micros`, `nanos`, `iso` or a strptime pattern) and
      `zone` (of a pattern without `%z`).
    - `inputs`: name → the same without `sql`: values that expressions read and nobody stores.
    - `drop`: an SQL condition; where it is true the message is left out, and nothing else of it
      is looked at.
    - `rest`: true: features of the group that are not declared come from the field of their name.

    An expression reads the names of `inputs`, of features that have a path or value, and of fields.
    A declared one has the type of its cast, a feature without a cast that of the group, a field
    that is not declared is text (JSON, where it was no text): types never depend on the data. Its
    value must be of the feature's type, but a whole number may be for Fractional, a boolean for
    Integral (1, 0) and a TIMESTAMPTZ for text and for Unix seconds. It sees its own row and
    nothing else, and times in UTC.

    A value that is absent or null is left out. A message with a value that cannot be cast or
    computed is refused; the others of its batch are not touched. Of a deletion only the record
    identifier is mapped, and the event time where the deletion does not have its own.

    A table of texts alone is the short form, feature → field, and there a field's name is taken as
    it is, dots and all.

    Args:
        declaration: see above.
        topic: what the path `@topic` gives.

    Raises:
        InvalidMapping: the declaration breaks a rule.

    >>> mapping = FeatureMapping({"features": {"city": "customer.address.city"}})
    >>> mapping.describe()["features"]
    {'city': {'path': 'customer.address.city'}}
    """

    def __init__(self, declaration: Mapping[str, object], *, topic: str | None = None) -> None:
        if not isinstance(declaration, Mapping) or not declaration:
            raise InvalidMapping(
                "mapping", expected="a table with features", got=shown(declaration)
            )
        self._topic = topic
        self._rest = False
        self._drop: str | None = None
        self._inputs: dict[str, _Entry] = {}
        if all(isinstance(value, str) for value in declaration.values()):
            self._features = {
                str(feature): _Entry(f"feature {feature!r}", path=Path.of_field(str(field)))
                for feature, field in declaration.items()
            }
        else:
            self._read(declaration)
        self._plans: _Plans | None = None

    def open(self, store: FeatureStore, group: FeatureGroup) -> None:
        """Get ready for records of a group.

        Raises:
            InvalidMapping: a type does not fit its feature, an expression cannot be computed or
                does not depend on its row alone.
            FeatureNotFound: the group lacks a feature.
        """
        self.close()
        features = dict(self._features)
        for name in features:
            group.feature_type(name)
        if self._rest:
            for name in group.feature_names:
                features.setdefault(name, _Entry(f"feature {name!r}", path=Path.of_field(name)))
        engine: Engine | None = None
        if self._drop is not None or any(entry.sql is not None for entry in features.values()):
            engine = Engine()
        try:
            builder = _Builder(group, features, self._inputs, engine, self._topic)
            identifier, event_time = group.record_identifier, group.event_time
            self._plans = _Plans(
                builder.plan(list(features)),
                builder.plan([name for name in (identifier,) if name in features], partial=True),
                builder.plan(
                    [name for name in (identifier, event_time) if name in features], partial=True
                ),
                None if self._drop is None else builder.condition(self._drop),
                engine,
            )
        except BaseException:
            if engine is not None:
                engine.close()
            raise

    def apply(
        self, records: Sequence[Decoded], messages: Sequence[Message]
    ) -> Sequence[Transformed]:
        """Return the mapped records, in the same order."""
        plans = self._plans
        if plans is None:
            raise IngestError("the mapping is not open: call open(store, group) before apply")
        if plans.drop is None and plans.records.is_rename:
            return plans.rename(records, messages)
        out: list[Transformed] = list(records)
        rows = [
            (item.fields if isinstance(item, Deleted) else item, message)
            for item, message in zip(records, messages, strict=True)
        ]
        live = [at for at, item in enumerate(records) if _says_something(item)]
        if plans.drop is not None:
            dropped = plans.drop.map([rows[at] for at in live])  # type: ignore[misc]
            kept = []
            for at, verdict in zip(live, dropped, strict=True):
                if isinstance(verdict, Undecodable):
                    out[at] = verdict
                elif verdict.get("drop") is True:
                    out[at] = None
                else:
                    kept.append(at)
            live = kept
        puts = [at for at in live if not isinstance(records[at], Deleted)]
        mapped = plans.records.map([rows[at] for at in puts])  # type: ignore[misc]
        for at, result in zip(puts, mapped, strict=True):
            out[at] = result
        for at in live:
            item = records[at]
            if isinstance(item, Deleted):
                out[at] = plans.deleted(item, messages[at])
        return out

    def describe(self) -> Mapping[str, object]:
        """Return the declaration in its canonical form."""
        body: dict[str, object] = {
            "transform": "mapping",
            "features": {name: entry.to_json() for name, entry in self._features.items()},
        }
        if self._inputs:
            body["inputs"] = {name: entry.to_json() for name, entry in self._inputs.items()}
        if self._drop is not None:
            body["drop"] = self._drop
        if self._rest:
            body["rest"] = True
        return body

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical declaration: equal for equal mappings, however written."""
        text = json.dumps(self.describe(), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def close(self) -> None:
        """Let go of DuckDB, where there are expressions."""
        plans, self._plans = self._plans, None
        if plans is not None and plans.engine is not None:
            plans.engine.close()

    def _read(self, declaration: Mapping[str, object]) -> None:
        for name in declaration:
            if name not in _MEMBERS:
                raise InvalidMapping(
                    "mapping",
                    expected=f"the members {', '.join(_MEMBERS)}",
                    got=f"{name!r}{nearest(str(name), _MEMBERS)}",
                )
        rest = declaration.get("rest", False)
        if not isinstance(rest, bool):
            raise InvalidMapping("rest", expected="true or false", got=shown(rest))
        self._rest = rest
        drop = declaration.get("drop")
        if drop is not None and not isinstance(drop, str):
            raise InvalidMapping("drop", expected="an SQL condition as text", got=shown(drop))
        self._drop = drop
        features = _entries(declaration, "features", _OF_FEATURE)
        if not features and not rest:
            raise InvalidMapping("mapping", expected="features, or rest = true", got="neither")
        self._features = features
        self._inputs = _entries(declaration, "inputs", _OF_INPUT)
        for name in self._inputs:
            if name in features:
                raise InvalidMapping(
                    f"input {name!r}",
                    expected="a name that is no feature's (an expression could mean either)",
                    got=f"feature {name!r}",
                )
        if any(
            entry.path is not None and entry.path.part == "topic"
            for entry in (*features.values(), *self._inputs.values())
        ):
            if self._topic is None:
                raise InvalidMapping("@topic", expected="a source that is a topic", got="none")


@final
@dataclass(frozen=True, slots=True)
class _Entry:
    """One declared value: of a path, an expression or a constant."""

    where: str
    path: Path | None = None
    sql: str | None = None
    value: object = None
    cast: Cast | None = None
    default: object = None
    required: bool = False

    @classmethod
    def parse(cls, where: str, body: object, members: Sequence[str]) -> _Entry:
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

        def value(fields: Mapping[str, object], message: Message) -> object:
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


@final
@dataclass(frozen=True, slots=True)
class _Column:
    """What an expression reads: a name, its SQL type, and where a row's value is."""

    name: str
    kind: str
    read: Read


@final
@dataclass(frozen=True, slots=True)
class _Computed:
    """A feature that is computed: its expression, the type of that in SQL, and what follows."""

    name: str
    expression: Expression
    kind: str
    after: Callable[[Any], Any] | None = None
    default: object = None
    required: bool = False


@final
class _Builder:
    """Makes plans of a declaration for one group."""

    def __init__(
        self,
        group: FeatureGroup,
        features: Mapping[str, _Entry],
        inputs: Mapping[str, _Entry],
        engine: Engine | None,
        topic: str | None,
    ) -> None:
        self._group = group
        self._features = features
        self._inputs = inputs
        self._engine = engine
        self._topic = topic
        self._columns: dict[str, _Column] = {}  # by the name in lower case, as SQL compares them

    def plan(self, names: Sequence[str], *, partial: bool = False) -> _Plan:
        """Make the plan of some features; partial: as far as they are there, none is required."""
        renames: list[tuple[str, str]] = []
        others: list[tuple[str, Read]] = []
        computed: list[_Computed] = []
        for name in names:
            entry = self._features[name]
            if partial:
                entry = replace(entry, required=False)
            if entry.sql is not None:
                computed.append(self._computed(name, entry))
            elif entry.is_rename and entry.path is not None:
                renames.append((name, str(entry.path.field)))
            else:
                others.append((name, self._other(name, entry)))
        return self._of(renames, others, computed)

    def condition(self, sql: str) -> _Plan:
        """Make a plan whose rows have the one member `drop`."""
        assert self._engine is not None
        expression = self._resolved(self._engine.parse(sql, name="drop"))
        (kind,) = self._engine.result_types([expression], self._types([expression]))
        if kind != "BOOLEAN":
            raise InvalidMapping(f"drop: {sql}", expected="a condition", got=f"a value of {kind}")
        return self._of([], [], [_Computed("drop", expression, "BOOLEAN")])

    def _of(
        self,
        renames: list[tuple[str, str]],
        others: list[tuple[str, Read]],
        computed: list[_Computed],
    ) -> _Plan:
        used = dict.fromkeys(name for one in computed for name in one.expression.columns)
        columns = [self._columns[name.lower()] for name in used]
        return _Plan(renames, others, computed, columns, self._engine)

    def _other(self, name: str, entry: _Entry) -> Read:
        definition = self._group.definitions[name]
        entry = replace(
            entry,
            value=self._checked(name, entry, entry.value),
            default=self._checked(name, entry, entry.default),
        )
        cast = entry.cast or _implied(entry.path)
        if cast is None:
            return entry.reading(None, self._topic)
        return entry.reading(_to_feature(cast, definition, entry.where), self._topic)

    def _checked(self, name: str, entry: _Entry, value: object) -> object:
        """Return a constant or a default as the group takes it."""
        if value is None:
            return None
        try:
            return feature_value(self._group, name, value)
        except InvalidRecord as error:
            raise InvalidMapping(
                entry.where,
                expected=f"a default or constant that is {error.expected or 'of its type'}",
                got=shown(value),
            ) from None

    def _computed(self, name: str, entry: _Entry) -> _Computed:
        assert self._engine is not None
        expression = self._resolved(self._engine.parse(entry.sql, name=entry.where))
        (got,) = self._engine.result_types([expression], self._types([expression]))
        kind, after = _of_result(got, self._group.definitions[name], expression)
        default = self._checked(name, entry, entry.default)
        return _Computed(name, expression, kind, after, default, entry.required)

    def _types(self, expressions: Sequence[Expression]) -> dict[str, str]:
        used = dict.fromkeys(name for one in expressions for name in one.columns)
        return {name: self._columns[name.lower()].kind for name in used}

    def _resolved(self, expression: Expression) -> Expression:
        """Find what an expression's names are; they are then spelled as they were at first."""
        names = []
        for name in expression.columns:
            column = self._columns.get(name.lower())
            if column is None:
                column = self._columns[name.lower()] = self._column(name, expression)
            names.append(column.name)
        return replace(expression, columns=tuple(dict.fromkeys(names)))

    def _column(self, name: str, expression: Expression) -> _Column:
        declared = {**self._features, **self._inputs}
        found = [known for known in declared if known.lower() == name.lower()]
        if len(found) > 1:
            raise InvalidMapping(
                f"{expression.name}: {expression.sql}",
                expected="names that differ by more than their case (SQL does not tell it)",
                got=" and ".join(found),
            )
        if not found:
            check_special([name], f"{expression.name}: {expression.sql}")
            entry = _Entry(f"field {name!r}", path=Path.of_field(name))
            return _Column(name, "VARCHAR", entry.reading(as_text, self._topic))
        (known,) = found
        entry = declared[known]
        if entry.sql is not None:
            raise InvalidMapping(
                f"{expression.name}: {expression.sql}",
                expected="names of fields, inputs, and features that are not computed",
                got=f"{known}, which is computed by sql",
            )
        is_input = known in self._inputs
        cast = entry.cast or _implied(entry.path)
        if cast is None and not is_input:
            cast = _cast_of(self._group.definitions[known])
        if cast is None and entry.path is None:
            cast = Cast(_kind_of_constant(entry))
        if cast is not None and cast.kind in COLLECTIONS and cast.of is None:
            of = "string" if is_input else _ELEMENT[self._group.definitions[known].type]
            cast = replace(cast, of=of)
        if cast is None:
            converter, kind = as_text, "VARCHAR"
        else:
            converter = cast.converter(where=entry.where)
            kind = _SQL[cast.of or "string"] + "[]" if cast.of else _SQL[cast.kind]
        try:
            # A constant and a default have the column's type from here on.
            entry = replace(
                entry,
                value=None if entry.value is None else converter(entry.value),
                default=None if entry.default is None else converter(entry.default),
            )
        except Uncastable as error:
            raise InvalidMapping(
                entry.where,
                expected=error.expected,
                got=shown(entry.default if entry.value is None else entry.value),
            ) from None
        return _Column(name, kind, entry.reading(converter, self._topic))


@final
class _Plan:
    """How rows become records: fields taken as they are, others read, the rest computed."""

    def __init__(
        self,
        renames: Sequence[tuple[str, str]],
        others: Sequence[tuple[str, Read]],
        computed: Sequence[_Computed],
        columns: Sequence[_Column],
        engine: Engine | None,
    ) -> None:
        self._renames = tuple(renames)
        self._others = tuple(others)
        self._computed = tuple(computed)
        self._columns = tuple(columns)
        self._engine = engine
        self._names = tuple(feature for feature, _ in renames)
        self._getter = _getter([field for _, field in renames])
        self.is_rename = not others and not computed

    def map(self, rows: Sequence[_Row]) -> list[_Result]:
        """Return each row's record, or why it is refused."""
        results: list[_Result] = []
        for fields, message in rows:
            try:
                results.append(self.record(fields, message))
            except Undecodable as error:
                results.append(error)
        if self._computed:
            self._compute(rows, results)
        return results

    def record(self, fields: Mapping[str, object], message: Message) -> dict[str, object]:
        """Return what is not computed of one row's record."""
        try:
            record = dict(zip(self._names, self._getter(fields), strict=True))
        except KeyError:
            record = {feature: fields[field] for feature, field in self._renames if field in fields}
        for feature, read in self._others:
            value = read(fields, message)
            if value is not None:
                record[feature] = value
        return record

    def renamed(self, items: Sequence[Any]) -> list[Any]:
        """Return the records of many rows that are nothing but renamed; None where that fails."""
        names, getter = self._names, self._getter
        out: list[Any] = []
        for item in items:
            try:
                out.append(dict(zip(names, getter(item), strict=True)))
            except (KeyError, TypeError):
                out.append(None)
        return out

    def _compute(self, rows: Sequence[_Row], results: list[_Result]) -> None:
        assert self._engine is not None
        good: list[int] = []
        values: list[list[object]] = []
        for at, (fields, message) in enumerate(rows):
            if isinstance(results[at], Undecodable):
                continue
            try:
                values.append([column.read(fields, message) for column in self._columns])
            except Undecodable as error:
                results[at] = error
            else:
                good.append(at)
        kinds = {column.name: column.kind for column in self._columns}
        wanted = [(one.expression, one.kind) for one in self._computed]
        of_columns = list(zip(*values, strict=True)) if values and self._columns else []
        try:
            evaluated = self._engine.evaluate(
                wanted, kinds, of_columns or [[] for _ in kinds], len(good)
            )
        except UnicodeEncodeError:
            self._refuse_surrogates(good, values, results)
            self._compute(rows, results)
            return
        for number, at in enumerate(good):
            if number in evaluated.refused:
                results[at] = evaluated.refused[number]
        for one, computed in zip(self._computed, evaluated.values, strict=True):
            for at, value in zip(good, computed, strict=True):
                record = results[at]
                if isinstance(record, Undecodable):
                    continue
                try:
                    found = _followed(one, value)
                except Undecodable as error:
                    results[at] = error
                else:
                    if found is not None:
                        record[one.name] = found

    def _refuse_surrogates(
        self, good: Sequence[int], values: Sequence[Sequence[object]], results: list[_Result]
    ) -> None:
        """Refuse the rows with a text that is no Unicode, as JSON may have it."""
        for at, row in zip(good, values, strict=True):
            for column, value in zip(self._columns, row, strict=True):
                for text in value if isinstance(value, list) else [value]:
                    if isinstance(text, str) and not _is_unicode(text):
                        results[at] = Undecodable(
                            f"field of {column.name!r}", expected="valid Unicode", got=shown(text)
                        )


@final
@dataclass(frozen=True, slots=True)
class _Plans:
    """What an open mapping does: with records, with deletions, and what it leaves out."""

    records: _Plan
    keys: _Plan
    keys_and_times: _Plan
    drop: _Plan | None
    engine: Engine | None

    def rename(
        self, records: Sequence[Decoded], messages: Sequence[Message]
    ) -> Sequence[Transformed]:
        out: list[Transformed] = self.records.renamed(records)
        for at, mapped in enumerate(out):
            if mapped is None:
                item = records[at]
                if isinstance(item, Deleted):
                    out[at] = self.deleted(item, messages[at])
                elif isinstance(item, Mapping):
                    out[at] = self.records.record(item, messages[at])
                else:
                    out[at] = item
        return out

    def deleted(self, item: Deleted, message: Message) -> Transformed:
        plan = self.keys_and_times if item.event_time is None else self.keys
        (fields,) = plan.map([(item.fields, message)])
        return fields if isinstance(fields, Undecodable) else item._replace(fields=fields)


def _entries(
    declaration: Mapping[str, object], member: str, members: Sequence[str]
) -> dict[str, _Entry]:
    body = declaration.get(member, _NOTHING)
    if not isinstance(body, Mapping):
        raise InvalidMapping(member, expected="a table", got=shown(body))
    what = member[:-1]
    return {
        str(name): _Entry.parse(f"{what} {str(name)!r}", entry, members)
        for name, entry in body.items()
    }


def _says_something(item: object) -> bool:
    return isinstance(item, dict | Deleted) or isinstance(item, Mapping)


def _getter(fields: Sequence[str]) -> Callable[[Any], Sequence[object]]:
    if not fields:
        return lambda item: ()
    if len(fields) == 1:
        (field,) = fields
        return lambda item: (item[field],)
    return itemgetter(*fields)


def _implied(path: Path | None) -> Cast | None:
    """Return the type that a message's own part has."""
    if path is not None and path.part == "timestamp":
        return Cast("timestamp", source="micros")
    if path is not None and path.part == "offset":
        return Cast("integral")
    return None


def _cast_of(definition: FeatureDefinition) -> Cast:
    element = _ELEMENT[definition.type]
    return Cast(element) if definition.collection is None else Cast("list", element)


def _kind_of_constant(entry: _Entry) -> str:
    kinds = {bool: "boolean", int: "integral", float: "fractional", str: "string"}
    kind = kinds.get(type(entry.value))
    if kind is None:
        raise InvalidMapping(
            entry.where, expected="text, a number or a boolean", got=shown(entry.value)
        )
    return kind


def _to_feature(
    cast: Cast, definition: FeatureDefinition, where: str
) -> Callable[[Any], Any] | None:
    """Return what makes a feature's value of a message's, as the cast says."""
    name = definition.type.value
    if cast.kind in COLLECTIONS or definition.collection is not None:
        element = _ELEMENT[definition.type]
        wanted = None if definition.collection is None else definition.collection.value.lower()
        if cast.kind != wanted or cast.of not in (None, element):
            raise InvalidMapping(
                where,
                expected=f"a type that fits {definition.collection or ''} {name}".replace(
                    "  ", " "
                ),
                got=cast.kind + (f" of {cast.of}" if cast.of else ""),
            )
        return replace(cast, of=element).converter(where=where)
    if cast.kind not in _FITTING[definition.type]:
        raise InvalidMapping(
            where,
            expected=f"a type that fits {name}: {', '.join(_FITTING[definition.type])}",
            got=cast.kind,
        )
    convert = cast.converter(where=where)
    if cast.kind == "boolean":
        return lambda value: int(convert(value))
    if cast.kind == "timestamp":
        form = _time_form(definition)
        return lambda value: form(convert(value))
    return convert


def _time_form(definition: FeatureDefinition) -> Callable[[int], object]:
    if definition.type is FeatureType.STRING:
        return eventtime.format_iso
    return lambda us: us / 1_000_000


def _of_result(
    got: str, definition: FeatureDefinition, expression: Expression
) -> tuple[str, Callable[[Any], Any] | None]:
    """Return what an expression's values are cast to in SQL, and what is done with them after."""
    fractional = got in ("DOUBLE", "FLOAT") or got.startswith("DECIMAL")
    nothing = got == '"NULL"'
    if definition.collection is not None:
        element = got.removesuffix("]").rpartition("[")[0]
        fits = got.endswith("]") and _fits(element, definition.type)
        if fits or nothing:
            return f"{_SQL[_ELEMENT[definition.type]]}[]", None
    elif got == "TIMESTAMP WITH TIME ZONE" and definition.type is not FeatureType.INTEGRAL:
        return got, _time_form(definition)
    elif nothing or _fits(got, definition.type):
        return _SQL[_ELEMENT[definition.type]], None
    elif got == "BOOLEAN" and definition.type is FeatureType.INTEGRAL:
        return "BIGINT", None
    hint = ""
    if got in ("TIMESTAMP", "DATE"):
        hint = "; say which zone it is in: … AT TIME ZONE 'UTC'"
    elif definition.type is FeatureType.INTEGRAL and fractional:
        hint = "; say how to round: CAST(round(…) AS BIGINT)"
    elif definition.type is FeatureType.STRING and definition.collection is None:
        hint = "; CAST(… AS VARCHAR)"
    kind = " of ".join(filter(None, (definition.collection, definition.type)))
    raise InvalidMapping(
        f"{expression.name}: {expression.sql}", expected=f"values for {kind}", got=got + hint
    )


def _fits(got: str, kind: FeatureType) -> bool:
    if kind is FeatureType.STRING:
        return got in ("VARCHAR", "JSON", "UUID") or got.startswith("ENUM")
    if got in _WHOLE:
        return True
    return kind is FeatureType.FRACTIONAL and (
        got in ("DOUBLE", "FLOAT") or got.startswith("DECIMAL")
    )


def _followed(one: _Computed, value: object) -> object:
    if value is None:
        if one.required:
            raise Undecodable(
                f"{one.expression.name}: {one.expression.sql}", expected="a value", got="null"
            )
        return one.default
    return value if one.after is None else one.after(value)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
