"""How a database goes about the statements of a look-up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lineage.store.tables import Connection


class Explaining:
    """A connection that says how the database goes about a statement, and answers nothing."""

    def __init__(self, connection: Connection, explain: str) -> None:
        self.plan = ""
        self.plans: list[str] = []
        self._connection = connection
        self._explain = explain

    def all(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        rows = self._connection.all(f"{self._explain} {statement}", *parameters)
        self.plan = "\n".join(str(row[-1]) for row in rows)
        self.plans.append(self.plan)
        return []

    def one(self, statement: str, *parameters: Any) -> tuple[Any, ...] | None:
        self.all(statement, *parameters)
        return None

    def each(self, statement: str, *parameters: Any) -> Iterator[tuple[Any, ...]]:
        raise NotImplementedError

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        raise NotImplementedError
