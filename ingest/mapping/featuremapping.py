"""Mappings: which features a message's fields become, declared in plain values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, final

from featurestore import FeatureGroup, FeatureStore
from featurestore.errors import nearest
from featurestore.record import shown
from ingest.decode import Decoded, Deleted
from ingest.errors import IngestError, InvalidMapping, Undecodable
from ingest.mapping.declared import Entry, entries
from ingest.mapping.expression import Engine
from ingest.mapping.path import Path
from ingest.mapping.plan import Plans
from ingest.mapping.planner import Planner
from ingest.source import Message
from ingest.transform import FieldOrigin, FieldOrigins, Transform, Transformed

__all__ = ["FeatureMapping"]

_MEMBERS: Final = ("features", "inputs", "drop", "rest")
_OF_FEATURE: Final = (
    "path", "sql", "value", "default", "required", "type", "of", "from", "zone", "separator",
)  # fmt: skip
_OF_INPUT: Final = tuple(name for name in _OF_FEATURE if name not in ("sql", "required"))


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
    In the expression of a feature its own name is the field's; other computed features it does not
    know. A declared name has the type of its cast, a feature without a cast that of the group, and
    a field that is not declared is text (JSON, where it was no text): types never depend on the
    data. Its value must be of the feature's type, but a whole number may be for Fractional, a
    boolean for Integral (1, 0) and a TIMESTAMPTZ for text and for Unix seconds. It sees its own
    row and nothing else, and times in UTC.

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
        self._inputs: dict[str, Entry] = {}
        if all(isinstance(value, str) for value in declaration.values()):
            self._features = {
                str(feature): Entry(f"feature {feature!r}", path=Path.of_field(str(field)))
                for feature, field in declaration.items()
            }
        else:
            self._read(declaration)
        self._plans: Plans | None = None

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
                features.setdefault(name, Entry(f"feature {name!r}", path=Path.of_field(name)))
        engine: Engine | None = None
        if self._drop is not None or any(entry.sql is not None for entry in features.values()):
            engine = Engine()
        try:
            builder = Planner(group, features, self._inputs, engine, self._topic)
            identifier, event_time = group.record_identifier, group.event_time
            self._plans = Plans(
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

    def origins(self) -> FieldOrigins:
        """Say which fields each feature is read or computed from."""
        named = self._inputs | {n: e for n, e in self._features.items() if e.sql is None}
        return FieldOrigins(
            {name: tuple(self._made_of(entry, named)) for name, entry in self._features.items()},
            self._rest,
        )

    def _made_of(self, entry: Entry, named: Mapping[str, Entry]) -> Iterator[FieldOrigin]:
        if entry.path is not None:
            field = entry.path.text if entry.path.part is not None else str(entry.path.steps[0])
            if entry.is_rename:
                yield FieldOrigin(field)
            else:
                yield FieldOrigin(field, subtype="TRANSFORMATION", detail=entry.path.text)
        engine = None if self._plans is None else self._plans.engine
        if entry.sql is not None and engine is not None:
            for name in engine.parse(entry.sql, name=entry.where).columns:
                through = named.get(name)
                fields = [FieldOrigin(name)] if through is None else self._made_of(through, {})
                for origin in fields:
                    yield origin._replace(subtype="TRANSFORMATION", detail=entry.sql)

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
        features = entries(declaration, "features", _OF_FEATURE)
        if not features and not rest:
            raise InvalidMapping("mapping", expected="features, or rest = true", got="neither")
        self._features = features
        self._inputs = entries(declaration, "inputs", _OF_INPUT)
        for name in self._inputs:
            if name in features:
                raise InvalidMapping(
                    f"input {name!r}",
                    expected="a name that is no feature's (an expression could mean either)",
                    got=f"feature {name!r}",
                )
        parts = {
            entry.path.part
            for entry in (*features.values(), *self._inputs.values())
            if entry.path is not None
        }
        if "topic" in parts and self._topic is None:
            raise InvalidMapping("@topic", expected="a source that is a topic", got="none")


def _says_something(item: object) -> bool:
    return isinstance(item, (dict, Deleted, Mapping))
