"""The planner: checks what a mapping declares against a group, and makes plans of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, final

from featurestore import FeatureGroup, FeatureType, InvalidRecord, eventtime
from featurestore.feature import FeatureDefinition
from featurestore.record import feature_value, shown
from ingest.errors import InvalidMapping
from ingest.mapping.cast import COLLECTIONS, Cast, Convert, Uncastable, as_text
from ingest.mapping.declared import Entry
from ingest.mapping.expression import Engine, Expression, check_special
from ingest.mapping.path import Path, Read
from ingest.mapping.plan import Column, Computed, Plan

__all__ = ["Planner"]

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


@final
class Planner:
    """Makes plans of a declaration for one group."""

    def __init__(
        self,
        group: FeatureGroup,
        features: Mapping[str, Entry],
        inputs: Mapping[str, Entry],
        engine: Engine | None,
        topic: str | None,
    ) -> None:
        self._group = group
        self._features = features
        self._inputs = inputs
        self._engine = engine
        self._topic = topic
        self._columns: dict[str, Column] = {}  # by the name in lower case, as SQL compares them

    def plan(self, names: Sequence[str], *, partial: bool = False) -> Plan:
        """Make the plan of some features; partial: as far as they are there, none is required."""
        renames: list[tuple[str, str]] = []
        others: list[tuple[str, Read]] = []
        computed: list[Computed] = []
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

    def condition(self, sql: str) -> Plan:
        """Make a plan whose rows have the one member `drop`."""
        assert self._engine is not None
        expression = self._resolved(self._engine.parse(sql, name="drop"))
        (kind,) = self._engine.result_types([expression], self._types([expression]))
        if kind != "BOOLEAN":
            raise InvalidMapping(f"drop: {sql}", expected="a condition", got=f"a value of {kind}")
        return self._of([], [], [Computed("drop", expression, "BOOLEAN")])

    def _of(
        self,
        renames: list[tuple[str, str]],
        others: list[tuple[str, Read]],
        computed: list[Computed],
    ) -> Plan:
        used = dict.fromkeys(name for one in computed for name in one.expression.columns)
        columns = [self._columns[name.lower()] for name in used]
        return Plan(renames, others, computed, columns, self._engine)

    def _other(self, name: str, entry: Entry) -> Read:
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

    def _checked(self, name: str, entry: Entry, value: object) -> object:
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

    def _computed(self, name: str, entry: Entry) -> Computed:
        assert self._engine is not None
        expression = self._resolved(self._engine.parse(entry.sql, name=entry.where))
        (got,) = self._engine.result_types([expression], self._types([expression]))
        kind, after = _of_result(got, self._group.definitions[name], expression)
        default = self._checked(name, entry, entry.default)
        return Computed(name, expression, kind, after, default, entry.required)

    def _types(self, expressions: Sequence[Expression]) -> dict[str, str]:
        used = dict.fromkeys(name for one in expressions for name in one.columns)
        return {name: self._columns[name.lower()].kind for name in used}

    def _resolved(self, expression: Expression) -> Expression:
        """Find what an expression's names are; they are then spelled as they were at first."""
        names = []
        for name in expression.columns:
            self._check_computed(name, expression)
            column = self._columns.get(name.lower())
            if column is None:
                column = self._columns[name.lower()] = self._column(name, expression)
            elif column.name != name and column.is_undeclared:
                raise InvalidMapping(
                    f"{expression.name}: {expression.sql}",
                    expected="names that differ by more than their case (SQL does not tell it)",
                    got=f"{name} beside {column.name}; declare what is meant under inputs",
                )
            names.append(column.name)
        return replace(expression, columns=tuple(dict.fromkeys(names)))

    def _check_computed(self, name: str, expression: Expression) -> None:
        """Refuse the name of a computed feature, but in its own expression: there it is a field."""
        for known, entry in self._features.items():
            is_other = entry.sql is not None and entry.where != expression.name
            if is_other and known.lower() == name.lower():
                raise InvalidMapping(
                    f"{expression.name}: {expression.sql}",
                    expected="names of fields, inputs, and features that are not computed",
                    got=f"{known}, which is computed by sql",
                )

    def _column(self, name: str, expression: Expression) -> Column:
        declared = {**self._features, **self._inputs}
        found = [known for known in declared if known.lower() == name.lower()]
        if len(found) > 1:
            raise InvalidMapping(
                f"{expression.name}: {expression.sql}",
                expected="names that differ by more than their case (SQL does not tell it)",
                got=" and ".join(found),
            )
        if not found or declared[found[0]].sql is not None:
            check_special([name], f"{expression.name}: {expression.sql}")
            entry = Entry(f"field {name!r}", path=Path.of_field(name))
            return Column(name, "VARCHAR", entry.reading(as_text, self._topic), is_undeclared=True)
        (known,) = found
        entry = declared[known]
        is_input = known in self._inputs
        cast = entry.cast or _implied(entry.path)
        if cast is None and not is_input:
            cast = _cast_of(self._group.definitions[known])
        if cast is None and entry.path is None:
            cast = Cast(_kind_of_constant(entry))
        if cast is not None and cast.kind in COLLECTIONS and cast.of is None:
            of = "string" if is_input else _ELEMENT[self._group.definitions[known].type]
            cast = replace(cast, of=of)
        converter: Convert = as_text
        if cast is None:
            kind = "VARCHAR"
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
        return Column(name, kind, entry.reading(converter, self._topic))


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


def _kind_of_constant(entry: Entry) -> str:
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
