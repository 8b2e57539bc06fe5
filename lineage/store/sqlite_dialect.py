"""How SQLite is spoken to."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, final

from lineage.store.tables import Dialect

SQLITE = Dialect(
    integers="json_each(?) AS wanted",
    texts="json_each(?) AS wanted",
    columns="(SELECT json_extract(value, '$[0]') AS node, json_extract(value, '$[1]') AS name "
    "FROM json_each(?)) AS wanted",
    join="CROSS JOIN",  # keeps the order of the list, where a plain join may be turned around
    array=json.dumps,
    pairs=lambda pairs: (json.dumps(pairs),),
    in_order="",
    joined="group_concat({})",
    equal="{column} = {value}",
    values=lambda value: (value,),
)


@final
class SQLiteConnection:
    """A connection in the form that the tables take: see `tables.Connection`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany

    def all(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows that a statement answers."""
        return self._execute(statement, parameters).fetchall()

    def one(self, statement: str, *parameters: Any) -> tuple[Any, ...] | None:
        """The first row that a statement answers."""
        row: tuple[Any, ...] | None = self._execute(statement, parameters).fetchone()
        return row

    def each(self, statement: str, *parameters: Any) -> Iterator[tuple[Any, ...]]:
        """The rows that a statement answers, read as they are taken."""
        return iter(self._execute(statement, parameters))

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement for each of several rows."""
        self._executemany(statement, rows)
