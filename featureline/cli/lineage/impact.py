"""`featureline lineage impact|records|replay`: rows, and models trained again."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import Any, cast

import click
import pyarrow.csv
import pyarrow.parquet

import training
from featureline.cli.jobs import jobs_of_server
from featureline.cli.lineage.start import find_model, find_start
from featureline.cli.output import emit, emit_table, progress
from featureline.cli.store import common_options, open_any
from featurestore import InvalidRequest
from featurestore.embedded import EmbeddedStore

__all__ = ["impact", "records", "replay"]

_SHOWN = 1_000
_COLUMNS = ("dataset", "feature_group", "record_identifier", "event_time", "rows")


@click.command()
@click.argument("group")
@click.argument("identifier")
@click.option("--event-time", help="ISO 8601 with a zone.  [default: every record of IDENTIFIER]")
@click.option("--until", help="Event time of the last record, the first being of --event-time.")
@common_options
def impact(
    group: str,
    identifier: str,
    event_time: str | None,
    until: str | None,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Say where records of IDENTIFIER are kept, which datasets have it, and what was made of those.

    Saved datasets are looked into row by row. Of others it is known only that they read a version
    of the table that has the record.
    """
    with open_any(home, connect) as store:
        report = store.impact(
            group,
            identifier,
            _time(event_time, "--event-time"),
            until=_time(until, "--until"),
        )
    emit(report.to_json(), as_json=as_json, text=report.to_text())


@click.command()
@click.argument("start")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write all of them into a .parquet or .csv file.",
)
@common_options
def records(
    start: str, out: Path | None, home: Path | None, connect: str | None, as_json: bool
) -> None:
    """List the records whose values are in START: a model, a job, a dataset.

    Without --out at most 1,000 are shown.
    """
    if out is not None and out.suffix not in (".parquet", ".csv"):
        raise click.UsageError(f"--out: expected a .parquet or .csv file, got {out}")
    shown: list[dict[str, Any]] = []
    total = 0
    with open_any(home, connect) as store:
        tables = store.records_behind(find_start(store.graph, start).uid)
        if out is None:
            for table in tables:
                total += len(table)
                shown += table.slice(0, max(0, _SHOWN - len(shown))).to_pylist()
        else:
            total = _write(out, tables)
    if out is not None:
        emit({"records": total, "out": str(out)}, as_json=as_json, text=f"{total:,} records: {out}")
        return
    emit_table(shown, _COLUMNS, as_json=as_json, empty="no saved dataset leads there")
    if total > len(shown):
        click.echo(f"{total - len(shown):,} more; --out FILE has all", err=True)


@click.command()
@click.argument("model")
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="A new folder for the model that comes out.",
)
@common_options
def replay(
    model: str, keep: Path | None, home: Path | None, connect: str | None, as_json: bool
) -> None:
    """Train MODEL, or a job's model, again from its lineage; exit code 1 when it differs.

    Its datasets are built again from the table versions they name; parameters, seed, threads and
    device are those of its job. The verdict is recorded. With --connect the server trains, and
    Ctrl-C stops it there; the model of --keep is sent from there.
    """
    with open_any(home, connect) as store:
        found = find_model(store.graph, model)
        with progress(f"replay {found.name}", None, "steps") as tick:
            if connect is not None:
                with jobs_of_server(connect) as there:
                    report = there.replay(
                        found.uid, keep=keep, on_progress=lambda seen: tick(seen.done)
                    )
            else:
                report = training.replay(
                    cast(EmbeddedStore, store),
                    found.uid,
                    keep=keep,
                    on_progress=lambda seen: tick(seen.done),
                )
    emit(report.to_json(), as_json=as_json, text=report.to_text())
    if report.verdict != "equal":
        sys.exit(1)


def _time(text: str | None, option: str) -> dt.datetime | None:
    if text is None:
        return None
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"{option}: expected ISO 8601, got {text!r}") from None
    if time.tzinfo is None:
        raise click.UsageError(f"{option}: expected a zone, as in {text}Z, got {text!r}")
    return time


def _write(out: Path, tables: Any) -> int:
    """Write tables into one file, which is there only when it is whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    total = 0
    writer: Any = None
    try:
        for table in tables:
            if writer is None:
                make = (
                    pyarrow.parquet.ParquetWriter
                    if out.suffix == ".parquet"
                    else pyarrow.csv.CSVWriter
                )
                writer = make(str(part), table.schema)
            writer.write_table(table)
            total += len(table)
        if writer is None:
            raise InvalidRequest(f"{out}: nothing to write: no saved dataset leads there")
        writer.close()
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return total
