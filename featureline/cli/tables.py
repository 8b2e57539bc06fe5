"""`featureline ingest changes|query|flight`: tables and queries into feature groups."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any, Final, Literal

import click

from featureline.cli.ingestion import pipeline_options, run_pipeline
from featureline.cli.output import read_json
from featureline.cli.store import common_options, open_any
from featurestore import FeatureStore, InvalidRequest
from featurestore.embedded import EmbeddedStore
from ingest import DeltaChanges, FlightSource, QuerySource

__all__ = ["changes", "flight", "query"]

_GROUP: Final = "group:"
_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_until_caught_up = click.option(
    "--until-caught-up", is_flag=True, help="Stop when what is there now is stored."
)


@click.command()
@click.argument("uri")
@pipeline_options
@_until_caught_up
@click.option(
    "--starting-version",
    type=click.IntRange(min=0),
    help="Begin with what this version changed.  [default: the table as it is, then changes]",
)
@click.option(
    "--starting-time", help="Begin with the first version since, in ISO form with a zone."
)
@click.option(
    "--on-rewrite",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="What to do about a version that removes rows without saying which.",
)
@click.option(
    "--identifier",
    help="Column of the record identifier, to follow overwrites.  [default: the group's own]",
)
@click.option(
    "--storage-options",
    "storage_file",
    type=_FILE,
    help="JSON object of options for the object store, beside the environment's.",
)
@common_options
def changes(
    uri: str,
    starting_version: int | None,
    starting_time: str | None,
    on_rewrite: Literal["fail", "skip"],
    identifier: str | None,
    storage_file: Path | None,
    home: Path | None,
    connect: str | None,
    **options: Any,
) -> None:
    """Ingest the changes of the Delta table URI until Ctrl-C, or until caught up.

    URI is a folder, an address on an object store, or group:NAME for a feature group's own table.
    """
    if starting_version is not None and starting_time is not None:
        raise click.UsageError("give --starting-version or --starting-time, not both")
    with open_any(home, connect) as store:
        if identifier is None:
            identifier = _identifier(store, options["group"], options["mapping_file"])
        source = DeltaChanges(
            _table(store, uri),
            storage_options=_texts(storage_file),
            starting_version=starting_version,
            starting_time=None if starting_time is None else _moment(starting_time),
            on_rewrite=on_rewrite,
            identifier=identifier,
        )
        run_pipeline(store, source, uri, unit="changes", **options)


@click.command()
@pipeline_options
@_until_caught_up
@click.option("--sql", help="The query, one SELECT.")
@click.option("--sql-file", type=_FILE, help="File with the query.")
@click.option(
    "--order-by",
    metavar="COLUMN",
    multiple=True,
    help="Read the answer once, in this order, which must be total. May be given several times.",
)
@click.option("--increasing", metavar="COLUMN", help="Read rows with higher values, for ever.")
@click.option("--database", type=_FILE, help="DuckDB file to read.")
@click.option(
    "--param",
    "parameters",
    metavar="NAME=VALUE",
    multiple=True,
    help="Value for $NAME in the query: JSON, else text. May be given several times.",
)
@click.option("--memory-limit", default="1GB", show_default=True, help="For DuckDB.")
@click.option(
    "--look-s",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="With --increasing: seconds between two looks.",
)
@click.option(
    "--settle-s",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="With --increasing: leave times younger than this for later.",
)
@common_options
def query(
    sql: str | None,
    sql_file: Path | None,
    order_by: tuple[str, ...],
    increasing: str | None,
    database: Path | None,
    parameters: tuple[str, ...],
    memory_limit: str,
    look_s: float,
    settle_s: float,
    home: Path | None,
    connect: str | None,
    **options: Any,
) -> None:
    """Ingest what DuckDB answers to a query: over Parquet, CSV, JSON, or a database file."""
    if (sql is None) == (sql_file is None):
        raise click.UsageError("give --sql or --sql-file")
    if bool(order_by) == (increasing is not None):
        raise click.UsageError("give --order-by or --increasing")
    if sql_file is not None:
        sql = sql_file.read_text(encoding="utf-8")
    assert sql is not None
    source = QuerySource(
        sql,
        order_by=order_by,
        increasing=increasing,
        database=database,
        parameters=dict(map(_parameter, parameters)),
        memory_limit=memory_limit,
        look_s=look_s,
        settle_s=settle_s,
    )
    with open_any(home, connect) as store:
        run_pipeline(store, source, "query", unit="rows", **options)


@click.command()
@click.argument("location")
@pipeline_options
@_until_caught_up
@click.option("--path", help="The flight's path, with / between its parts.")
@click.option("--command", help="The flight's command.")
@click.option(
    "--partition-by",
    type=click.Choice(["order", "ticket"]),
    default="order",
    show_default=True,
    help="How endpoints are known again.",
)
@click.option("--flight-ca", type=_FILE, help="PEM file of authorities, for grpc+tls.")
@click.option(
    "--flight-token-file",
    type=_FILE,
    help="File with the token.  [default: $FEATURELINE_FLIGHT_TOKEN]",
)
@common_options
def flight(
    location: str,
    path: str | None,
    command: str | None,
    partition_by: Literal["order", "ticket"],
    flight_ca: Path | None,
    flight_token_file: Path | None,
    home: Path | None,
    connect: str | None,
    **options: Any,
) -> None:
    """Ingest the streams of an Arrow Flight server, such as grpc+tcp://HOST:PORT, once."""
    if (path is None) == (command is None):
        raise click.UsageError("give --path or --command")
    source = FlightSource(
        location,
        path=[] if path is None else path.split("/"),
        command=command,
        partition_by=partition_by,
        tls_roots=flight_ca,
        token_file=flight_token_file,
    )
    with open_any(home, connect) as store:
        run_pipeline(store, source, path or "flight", unit="rows", **options)


def _table(store: FeatureStore, uri: str) -> str:
    if not uri.startswith(_GROUP):
        return uri
    if not isinstance(store, EmbeddedStore):
        raise click.UsageError(f"{uri}: a group's own table is read from its home; use --home")
    name = uri.removeprefix(_GROUP)
    store.describe_feature_group(name)  # refuses a name that is none
    return store.offline_uri(name)


def _identifier(store: FeatureStore, group: str, mapping_file: Path | None) -> str | None:
    """Return the column of the group's record identifier, where that is plain."""
    name = store.describe_feature_group(group).record_identifier
    if mapping_file is None:
        return name
    try:
        mapping = read_json(mapping_file)
    except InvalidRequest:
        return None  # whoever needs the mapping says what is wrong with it
    column = mapping.get(name) if isinstance(mapping, dict) else None
    return column if isinstance(column, str) else None


def _texts(file: Path | None) -> dict[str, str]:
    body = {} if file is None else read_json(file)
    if not isinstance(body, dict) or not all(isinstance(value, str) for value in body.values()):
        raise InvalidRequest(f"{file}: expected an object of option → text")
    return body


def _moment(text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise click.UsageError(f"--starting-time: {error}") from error
    if moment.tzinfo is None:
        raise click.UsageError(f"--starting-time: expected a time with a zone, got {text}")
    return moment


def _parameter(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"--param: expected NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
