"""Plans: how a batch of messages becomes records, as a mapping says for one group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeAlias, final

from featurestore.record import shown
from ingest.decode import Decoded, Deleted
from ingest.errors import Undecodable
from ingest.mapping.expression import Engine, Expression
from ingest.mapping.path import Read
from ingest.source import Message
from ingest.transform import Transformed

__all__ = ["Column", "Computed", "Plan", "Plans"]

_Row: TypeAlias = tuple[Mapping[str, object], Message]
_Result: TypeAlias = "dict[str, object] | Undecodable"


@final
@dataclass(frozen=True, slots=True)
class Column:
    """What an expression reads: a name, its SQL type, and where a row's value is."""

    name: str
    kind: str
    read: Read
    is_undeclared: bool = False


@final
@dataclass(frozen=True, slots=True)
class Computed:
    """A feature that is computed: its expression, the type of that in SQL, and what follows."""

    name: str
    expression: Expression
    kind: str
    after: Callable[[Any], Any] | None = None
    default: object = None
    required: bool = False


@final
class Plan:
    """How rows become records: fields taken as they are, others read, the rest computed."""

    def __init__(
        self,
        renames: Sequence[tuple[str, str]],
        others: Sequence[tuple[str, Read]],
        computed: Sequence[Computed],
        columns: Sequence[Column],
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
        of_columns: list[Sequence[object]] = [list(c) for c in zip(*values, strict=True)]
        try:
            evaluated = self._engine.evaluate(
                wanted, kinds, of_columns or [[] for _ in kinds], len(good)
            )
        except UnicodeEncodeError:
            if not self._refuse_surrogates(good, values, results):
                raise
            self._compute(rows, results)
            return
        for number, at in enumerate(good):
            if number in evaluated.refused:
                results[at] = evaluated.refused[number]
        for one, computed in zip(self._computed, evaluated.values, strict=True):
            is_plain = one.after is None and one.default is None and not one.required
            for at, value in zip(good, computed, strict=True):
                record = results[at]
                if isinstance(record, Undecodable):
                    continue
                if is_plain:
                    if value is not None:
                        record[one.name] = value
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
    ) -> int:
        """Refuse the rows with a text that is no Unicode, as JSON may have it; count them."""
        refused = 0
        for at, row in zip(good, values, strict=True):
            for column, value in zip(self._columns, row, strict=True):
                for text in value if isinstance(value, list) else [value]:
                    if isinstance(text, str) and not _is_unicode(text):
                        results[at] = Undecodable(
                            f"field of {column.name!r}", expected="valid Unicode", got=shown(text)
                        )
                        refused += 1
        return refused


@final
@dataclass(frozen=True, slots=True)
class Plans:
    """What an open mapping does: with records, with deletions, and what it leaves out."""

    records: Plan
    keys: Plan
    keys_and_times: Plan
    drop: Plan | None
    engine: Engine | None

    def rename(
        self, records: Sequence[Decoded], messages: Sequence[Message]
    ) -> Sequence[Transformed]:
        """Map items that are nothing but renamed; the others are looked at one by one."""
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
        """Map what a deletion needs: its identifier, and its event time if it has none."""
        plan = self.keys_and_times if item.event_time is None else self.keys
        (fields,) = plan.map([(item.fields, message)])
        return fields if isinstance(fields, Undecodable) else item._replace(fields=fields)


def _getter(fields: Sequence[str]) -> Callable[[Any], Sequence[object]]:
    if not fields:
        return lambda item: ()
    if len(fields) == 1:
        (field,) = fields
        return lambda item: (item[field],)
    return itemgetter(*fields)


def _followed(one: Computed, value: object) -> object:
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
