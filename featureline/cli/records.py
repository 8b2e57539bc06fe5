"""`featureline put`, `get`, `delete`, `records`, `flush`, `verify`: the record verbs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from featureline.cli.ingestion import load_file
from featureline.cli.output import emit, emit_table, progress, read_json
from featureline.cli.store import common_options, open_any
from featurestore import FeatureStore, Get, Put
from featurestore.provenance import recorded_load

__all__ = ["delete", "flush", "get", "put", "records", "verify"]

_PAGE = 1000


@click.command()
@click.argument("group")
@click.argument(
    "file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True)
)
@common_options
def put(group: str, file: Path, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Put the records of FILE (.json, .jsonl, .csv or .parquet; - for JSON on stdin) into GROUP.

    A .json file has one record or a list of records. Refused records are named and the others
    are stored; then the exit code is 1.
    """
    is_stdin = str(file) == "-"
    with open_any(home, connect) as store:
        store.describe_feature_group(group)  # of an unknown group lineage shall not speak
        source = "" if is_stdin else str(file.absolute())
        with recorded_load(store.graph, group, source) as job:
            if is_stdin or file.suffix.lower() == ".json":
                result = _put_json(store, group, file)
            else:
                result = load_file(store, group, file)
            job.property("rows", result["stored"])
            job.property("refused", len(result["refused"]))
    refused = result["refused"]
    lines = [f"{group}: {result['stored']:,} stored, {len(refused):,} refused"]
    lines += [f"  {error['message']}" for error in refused[:20]]
    if len(refused) > 20:
        lines.append(f"  … and {len(refused) - 20:,} more")
    emit(result, as_json=as_json, text="\n".join(lines))
    if refused:
        sys.exit(1)


@click.command()
@click.argument("group")
@click.argument("identifiers", nargs=-1, required=True, metavar="ID…")
@click.option("--features", default="", help="Names to return, separated by commas.")
@common_options
def get(
    group: str,
    identifiers: tuple[str, ...],
    features: str,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Get the latest records of the identifiers ID… of GROUP; exit code 1 when none is there."""
    names = tuple(name.strip() for name in features.split(",") if name.strip())
    with open_any(home, connect) as store:
        found = store.batch_get([Get(group, identifiers, names)])
    if as_json:
        body = [{"identifier": entry.identifier, "record": entry.record} for entry in found]
        emit(body, as_json=True, text="")
    for entry in () if as_json else found:
        click.echo(entry.identifier)
        for name, value in entry.record.items():
            click.echo(f"  {name:<24} {value}")
    if not found:
        if not as_json:
            click.echo(f"{group}: no record", err=True)
        sys.exit(1)


@click.command()
@click.argument("group")
@click.argument("identifier", metavar="ID")
@click.option("--event-time", required=True, help="When it was deleted; later than the record.")
@click.option("--hard", is_flag=True, help="Remove the record online instead of hiding it.")
@common_options
def delete(
    group: str,
    identifier: str,
    event_time: str,
    hard: bool,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Delete the record ID of GROUP; a marker goes to the offline store."""
    with open_any(home, connect) as store:
        store.delete(group, identifier, event_time=event_time, hard=hard)
    emit({"deleted": identifier}, as_json=as_json, text=f"{group}: deleted {identifier}")


@click.command()
@click.argument("group")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after so many.")
@click.option("--include-soft-deleted", is_flag=True, help="Also list soft-deleted ones.")
@common_options
def records(
    group: str,
    limit: int | None,
    include_soft_deleted: bool,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """List the identifiers of GROUP that can be read now."""
    found: list[str] = []
    with open_any(home, connect) as store:
        for count, identifier in enumerate(
            store.records(group, include_soft_deleted=include_soft_deleted)
        ):
            if count == limit:
                break
            if as_json:
                found.append(identifier)
            else:
                click.echo(identifier)
    if as_json:
        emit(found, as_json=True, text="")


@click.command()
@click.argument("group", required=False)
@common_options
def flush(group: str | None, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Move the outbox into the Delta tables, of GROUP or of all groups; returns when committed."""
    with open_any(home, connect) as store:
        flushed = store.flush(group)
    rows = [
        {"group": name, "records": entry.records, "version": entry.version}
        for name, entry in flushed.items()
    ]
    emit_table(
        rows, ("group", "records", "version"), as_json=as_json, empty="no feature groups to flush"
    )


@click.command()
@click.argument("group")
@common_options
def verify(group: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Compare the online and the offline store of GROUP; exit code 1 when they differ."""
    with open_any(home, connect) as store, progress(f"verify {group}", None) as tick:
        report = store.verify(group, on_progress=tick)
    verdict = "equal" if report.equal else "NOT equal"
    lines = [
        f"{group}: {verdict} ({report.online:,} records online, {report.offline:,} offline)",
        *(f"  {entry.identifier}: {entry.reason}" for entry in report.differences),
    ]
    emit(report.to_json(), as_json=as_json, text="\n".join(lines))
    if not report.equal:
        sys.exit(1)


def _put_json(store: FeatureStore, group: str, file: Path) -> dict[str, Any]:
    body = read_json(file)
    entries = body if isinstance(body, list) else [body]
    stored = 0
    refused: list[dict[str, Any]] = []
    for start, page in _pages(entries):
        errors = store.batch_write([Put(group, record) for record in page])
        stored += len(page) - len(errors)
        refused += [
            {"index": start + error.index, "code": error.code, "message": error.message}
            for error in errors
        ]
    return {"group": group, "stored": stored, "refused": refused}


def _pages(entries: list[Any]) -> Iterator[tuple[int, list[Any]]]:
    if not entries:
        yield 0, []  # the store says what is wrong with an empty batch
    for start in range(0, len(entries), _PAGE):
        yield start, entries[start : start + _PAGE]
