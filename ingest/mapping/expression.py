"""Expressions in SQL over the columns of a batch, each row by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, final

import duckdb
import pyarrow as pa

from featurestore.pointintime import connect
from featurestore.record import shown
from ingest.errors import InvalidMapping, Undecodable

__all__ = ["ARROW_TYPES", "Engine", "Evaluated", "Expression", "check_special"]

# What a column of a batch can be, by its SQL type.
ARROW_TYPES: Final = {
    "VARCHAR": pa.string(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", "UTC"),
    "VARCHAR[]": pa.list_(pa.string()),
    "BIGINT[]": pa.list_(pa.int64()),
    "DOUBLE[]": pa.list_(pa.float64()),
}
# What an expression may be made of. Not: subqueries, windows, parameters, stars, positions.
_NODES: Final = frozenset(
    {
        "BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION",
        "CONSTANT", "FUNCTION", "LAMBDA", "LAMBDA_REF", "OPERATOR", "TYPE",
    }
)  # fmt: skip
# DuckDB calls these dependent on the query only because they look at the session's time zone,
# which is UTC here for good.
_ZONED: Final = frozenset(
    {
        "+", "-", "century", "date_diff", "date_part", "date_sub", "date_trunc", "datediff",
        "datepart", "datesub", "datetrunc", "day", "dayname", "dayofmonth", "dayofweek",
        "dayofyear", "decade", "era", "generate_series", "hour", "isodow", "isoyear", "julian",
        "last_day", "make_timestamptz", "microsecond", "millennium", "millisecond", "minute",
        "month", "monthname", "quarter", "range", "second", "strftime", "time_bucket", "timezone",
        "timezone_hour", "timezone_minute", "week", "weekday", "weekofyear", "year", "yearweek",
    }
)  # fmt: skip
# Without a column of this name DuckDB takes these for what the session says.
_SPECIAL: Final = frozenset(
    {
        "current_catalog", "current_date", "current_role", "current_schema", "current_time",
        "current_timestamp", "current_user", "localtime", "localtimestamp", "rowid",
        "session_user", "user",
    }
)  # fmt: skip
_FEW: Final = 32
# A row's own fault; anything else is the engine's.
_ROW_ERRORS: Final = (duckdb.DataError, duckdb.ProgrammingError)


@final
@dataclass(frozen=True, slots=True)
class Expression:
    """A scalar expression that an `Engine` has looked at.

    Args:
        name: what it computes, for errors.
        sql: as written.
        columns: the names it reads.
    """

    name: str
    sql: str
    columns: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class Evaluated:
    """What the expressions gave.

    Args:
        values: of each expression, one value a row; None where it is null or was refused.
        refused: row → why it has no value.
    """

    values: Sequence[Sequence[Any]]
    refused: Mapping[int, Undecodable]


@final
class Engine:
    """A DuckDB of its own that computes expressions and can reach nothing else.

    No files, no network, no extensions, no settings; times are in UTC. One thread, so that the rows
    stay in order. Used by one thread.
    """

    def __init__(self) -> None:
        self._connection: Any = connect(threads=1)
        for setting in (
            "SET autoinstall_known_extensions = false",
            "SET autoload_known_extensions = false",
            "SET enable_external_access = false",
            "SET lock_configuration = true",
        ):
            self._connection.execute(setting)

    def parse(self, sql: object, *, name: str) -> Expression:
        """Look at an expression, and refuse what does not depend on its row alone.

        Args:
            sql: one scalar expression.
            name: what it computes, for errors.

        Raises:
            InvalidMapping: no SQL; more than an expression; an aggregate, a window, a subquery; a
                function that reads the clock, chance or the session.
        """
        if not isinstance(sql, str) or not sql.strip():
            raise InvalidMapping(name, expected="an SQL expression as text", got=shown(sql))
        found = _Seen()
        self._look(_parsed(self._connection, sql, name), found, name, sql)
        columns = [column for column in found.columns if column not in found.parameters]
        return Expression(name, sql, tuple(dict.fromkeys(columns)))

    def result_types(
        self, expressions: Sequence[Expression], columns: Mapping[str, str]
    ) -> list[str]:
        """Return the SQL type of each expression's values.

        Args:
            expressions: as parsed.
            columns: name → SQL type, one of `ARROW_TYPES`, of all that they read.

        Raises:
            InvalidMapping: a function or an operator does not take what it is given.
        """
        empty = _table(columns, [[] for _ in columns], 0)
        types = []
        for expression in expressions:
            self._connection.register("batch", empty)
            try:
                described = self._connection.execute(
                    f"DESCRIBE SELECT {_wrapped(expression.sql)} AS value FROM batch"
                ).fetchall()
            except duckdb.Error as error:
                texts = [c for c in expression.columns if columns.get(c) == "VARCHAR"]
                hint = ""
                if texts and isinstance(error, duckdb.BinderException):
                    hint = (
                        f" ({', '.join(texts)}: text here; declare another type under inputs, or "
                        f"cast it)"
                    )
                raise InvalidMapping(
                    f"{expression.name}: {expression.sql}",
                    expected="an expression that DuckDB can compute",
                    got=_first_line(error) + hint,
                ) from None
            finally:
                self._connection.unregister("batch")
            types.append(str(described[0][1]))
        return types

    def evaluate(
        self,
        expressions: Sequence[tuple[Expression, str]],
        columns: Mapping[str, str],
        values: Sequence[Sequence[Any]],
        rows: int,
    ) -> Evaluated:
        """Compute expressions over rows, in one query.

        A row that has no value for one of them is refused; the others are as if it was not there.

        Args:
            expressions: each with the type its values are cast to, "" for none; timestamps come as
                µs since 1970.
            columns: name → SQL type, one of `ARROW_TYPES`.
            values: of each column, one a row, of the type's Python kind or None; timestamps as µs.
            rows: how many there are.
        """
        if not rows:
            return Evaluated([[] for _ in expressions], {})
        table = _table(columns, values, rows)
        outputs = [_output(expression, kind) for expression, kind in expressions]
        with suppress(*_ROW_ERRORS):
            return Evaluated(self._run(outputs, table), {})
        # Those without a value here may be at fault, or be null by right.
        try:
            computed = self._run([f"TRY({output})" for output in outputs], table)
        except _ROW_ERRORS:
            computed = [[None] * rows for _ in outputs]
        refused: dict[int, Undecodable] = {}
        for (expression, _), output, values_of in zip(expressions, outputs, computed, strict=True):
            suspects = [row for row in range(rows) if values_of[row] is None and row not in refused]
            for part, found in self._parts(output, table, suspects):
                if isinstance(found, duckdb.Error):
                    refused[part[0]] = _no_value(expression, table.slice(part[0], 1), found)
                    continue
                for row, value in zip(part, found, strict=True):
                    values_of[row] = value
        return Evaluated(computed, refused)

    def close(self) -> None:
        """Let go of the memory. May be called twice."""
        self._connection.close()

    def _parts(
        self, output: str, table: pa.Table, rows: list[int]
    ) -> Iterator[tuple[list[int], list[Any] | duckdb.Error]]:
        """Divide rows until each part computes as a whole, or is one row that does not."""
        waiting = [rows] if rows else []
        while waiting:
            part = waiting.pop()
            try:
                found = self._run([output], table.take(part))[0]
            except _ROW_ERRORS as error:
                if len(part) == 1:
                    yield part, error
                elif len(part) <= _FEW:
                    waiting += [[row] for row in part]
                else:
                    middle = len(part) // 2
                    waiting += [part[middle:], part[:middle]]
            else:
                yield part, found

    def _run(self, outputs: Sequence[str], table: pa.Table) -> list[list[Any]]:
        self._connection.register("batch", table)
        try:
            selected = ", ".join(f"{output} AS v{n}" for n, output in enumerate(outputs))
            result = self._connection.sql(f"SELECT {selected} FROM batch").to_arrow_table()
        finally:
            self._connection.unregister("batch")
        return [_listed(column) for column in result.columns]

    def _look(self, node: Any, found: _Seen, name: str, sql: str) -> None:
        """Walk over a parsed expression: collect its columns, refuse what it must not have."""
        if isinstance(node, list):
            for entry in node:
                self._look(entry, found, name, sql)
            return
        if not isinstance(node, dict):
            return
        kind = node.get("class")
        if kind is not None:
            if kind not in _NODES:
                raise _not_scalar(name, sql, kind.lower().replace("_", " "))
            if kind == "COLUMN_REF":
                self._column(node["column_names"], found, name, sql)
                return
            if kind == "FUNCTION":
                self._function(node, found, name, sql)
            if kind == "LAMBDA" and "ARROW" not in str(node.get("syntax_type", "")).upper():
                found.parameters.update(_parameters(node.get("lhs")))
        for member, value in node.items():
            if member != "type_expr":
                self._look(value, found, name, sql)

    def _column(self, names: Sequence[str], found: _Seen, name: str, sql: str) -> None:
        if len(names) != 1:
            raise InvalidMapping(
                f"{name}: {sql}",
                expected="names without dots (declare a nested field under inputs)",
                got=".".join(names),
            )
        found.columns.append(names[0])

    def _function(self, node: Mapping[str, Any], found: _Seen, name: str, sql: str) -> None:
        function = str(node["function_name"]).lower()
        if function in found.functions:
            return
        found.functions.add(function)
        known = self._connection.execute(
            "SELECT function_type, stability, macro_definition FROM duckdb_functions() "
            "WHERE function_name = ?",
            [function],
        ).fetchall()
        kinds = {kind for kind, _, _ in known}
        if not kinds & {"scalar", "macro"}:
            what = next(iter(sorted(map(str, kinds))), None)
            raise _not_scalar(
                name, sql, f"the {what} function {function}" if what else f"{function}, unknown"
            )
        for kind, stability, definition in known:
            if kind == "macro":
                inner = _Seen(functions=found.functions)
                self._look(_parsed(self._connection, definition, name), inner, name, sql)
                if _SPECIAL & set(inner.columns):
                    raise _not_scalar(name, sql, f"{function}, which the session decides")
            elif kind == "scalar" and stability != "CONSISTENT" and function not in _ZONED:
                raise _not_scalar(name, sql, f"{function}, which does not always give the same")


class _Seen:
    """What a walk over an expression has met."""

    def __init__(self, *, functions: set[str] | None = None) -> None:
        self.columns: list[str] = []
        self.parameters: set[str] = set()
        self.functions: set[str] = set() if functions is None else functions


def check_special(names: Sequence[str], where: str) -> None:
    """Refuse names of no declared column that SQL takes for something of the session.

    Raises:
        InvalidMapping: one of them is such a name.
    """
    for name in names:
        if name.lower() in _SPECIAL:
            raise InvalidMapping(
                where,
                expected=f"a name that is a field's (declare {name!r} under inputs if it is one)",
                got=f"{name}, which SQL takes from the session",
            )


def _parsed(connection: Any, sql: str, name: str) -> Any:
    """Return the syntax tree of one expression and nothing else."""
    ((text,),) = connection.execute(
        "SELECT json_serialize_sql(?)", [f"SELECT {_wrapped(sql)}"]
    ).fetchall()
    tree = json.loads(text)
    if tree.get("error"):
        raise InvalidMapping(
            f"{name}: {sql}", expected="an SQL expression", got=str(tree.get("error_message"))
        )
    statements = tree["statements"]
    node = statements[0]["node"]
    selected = node.get("select_list") or []
    if (
        len(statements) != 1
        or node.get("type") != "SELECT_NODE"
        or node.get("from_table", {}).get("type") != "EMPTY"
        or len(selected) != 1
        or selected[0].get("alias")
        or any(node.get(part) for part in ("where_clause", "having", "qualify", "modifiers"))
    ):
        raise InvalidMapping(f"{name}: {sql}", expected="one expression", got="a query")
    return selected


def _not_scalar(name: str, sql: str, got: str) -> InvalidMapping:
    return InvalidMapping(
        f"{name}: {sql}",
        expected="an expression of one row's values (the same message gives the same record, "
        "whatever batch it is in and whenever it is read)",
        got=got,
    )


def _no_value(expression: Expression, row: pa.Table, error: duckdb.Error) -> Undecodable:
    read = ", ".join(f"{name} = {shown(row[name][0].as_py())}" for name in expression.columns)
    return Undecodable(
        f"{expression.name}: {expression.sql}",
        expected=f"a value for {read}" if read else "a value",
        got=_first_line(error),
    )


def _parameters(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for entry in node:
            yield from _parameters(entry)
    elif isinstance(node, dict):
        if node.get("class") == "COLUMN_REF":
            yield node["column_names"][0]
        for value in node.values():
            yield from _parameters(value)


def _wrapped(sql: str) -> str:
    # On lines of its own: a comment at its end must not reach further.
    return f"(\n{sql}\n)"


def _output(expression: Expression, kind: str) -> str:
    sql = _wrapped(expression.sql)
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"epoch_us({sql})"
    return f"CAST({sql} AS {kind})" if kind else sql


def _table(columns: Mapping[str, str], values: Sequence[Sequence[Any]], rows: int) -> pa.Table:
    arrays = {
        name: pa.array(of_column, ARROW_TYPES[kind])
        for (name, kind), of_column in zip(columns.items(), values, strict=True)
    }
    # Without a column a table would have no rows either.
    return pa.table(arrays or {"_row": pa.nulls(rows, pa.int8())})


def _listed(column: pa.ChunkedArray) -> list[Any]:
    kind = column.type
    if column.null_count == 0 and (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        return list(column.to_numpy().tolist())
    return list(column.to_pylist())


def _first_line(error: duckdb.Error) -> str:
    return str(error).strip().partition("\n")[0]
