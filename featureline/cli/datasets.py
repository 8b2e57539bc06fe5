"""`featureline dataset`: point-in-time datasets."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
import pyarrow as pa
import pyarrow.parquet as pq

from featureline.cli.output import console, emit, emit_table, progress
from featureline.cli.store import common_options, open_any, open_embedded
from featurestore import (
    Dataset,
    FeatureSelection,
    FeatureStore,
    InvalidRequest,
    WrittenDataset,
    eventtime,
)
from featurestore.streamed import memory_bytes

__all__ = ["dataset"]

P = ParamSpec("P")
R = TypeVar("R")


@click.group()
def dataset() -> None:
    """Build point-in-time datasets, check them, and build them again."""


def selection_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add the options that say what a dataset is built from."""
    for option in reversed(
        (
            click.option(
                "--spine",
                required=True,
                type=click.Path(path_type=Path),
                help="Identifiers and times asked for: .parquet, .csv or .arrow.",
            ),
            click.option(
                "--features",
                "texts",
                required=True,
                multiple=True,
                metavar="GROUP[FEATURE,…]",
                help="Features of a group; without [], all of them. May be given several times.",
            ),
            click.option(
                "--time", default="event_time", show_default=True, help="The spine's time column."
            ),
            click.option(
                "--key",
                "keys",
                multiple=True,
                metavar="GROUP=COLUMN",
                help="Spine column of an identifier.",
            ),
            click.option(
                "--prefix",
                "prefixes",
                multiple=True,
                metavar="GROUP=TEXT",
                help="Put before feature names.",
            ),
            click.option(
                "--lookback",
                "lookbacks",
                multiple=True,
                metavar="GROUP=SECONDS",
                help="How old values may be.",
            ),
        )
    ):
        command = option(command)
    return command


as_of_option = click.option(
    "--as-of", metavar="TIME", help="Only what was written offline at or before it."
)


def _memory_limit(context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return memory_bytes(text)
    except InvalidRequest as error:
        raise click.UsageError(error.message.replace("memory_limit", "--memory-limit", 1)) from None


threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Processors to use; the result is the same with any.  [default: all; not with --connect]",
)


@dataset.command()
@selection_options
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="The Parquet file to write; with --engine spark, the folder.",
)
@as_of_option
@click.option(
    "--engine",
    type=click.Choice(["duckdb", "spark"]),
    default="duckdb",
    show_default=True,
    help="Spark builds on a cluster what does not fit on this machine.",
)
@click.option(
    "--memory-limit",
    metavar="SIZE",
    callback=_memory_limit,
    help="Build within so much memory, such as 2GB; 64MB or more. Rows wait on disk meanwhile.",
)
@threads_option
@click.option(
    "--keep/--no-keep",
    default=None,
    help="Keep it in the home, or on the server, as well.  [default: keep, unless --memory-limit]",
)
@common_options
def build(
    spine: Path,
    texts: tuple[str, ...],
    time: str,
    keys: tuple[str, ...],
    prefixes: tuple[str, ...],
    lookbacks: tuple[str, ...],
    out: Path,
    as_of: str | None,
    engine: str,
    memory_limit: int | None,
    threads: int | None,
    keep: bool | None,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Join a spine with features as they were known at each row's time, into --out (Parquet).

    The dataset is also kept by the store: `featureline train` takes its fingerprint. What is built
    with a memory limit, or by Spark, is not kept: `train` takes its file. Spark writes a
    folder of files. Its session is that of SPARK_REMOTE or of Spark's own settings, else one on
    this machine.
    """
    selections = _selections(texts, keys, prefixes, lookbacks)
    moment = _moment(as_of)
    made: Dataset | WrittenDataset
    if keep and (engine == "spark" or memory_limit is not None):
        raise click.UsageError(
            "--keep: what is kept is read whole; expected neither --memory-limit nor --engine spark"
        )
    if engine == "spark":
        with (
            open_embedded(home, connect, "dataset build --engine spark") as store,
            console.status("building the dataset"),
        ):
            made = store.write_dataset(
                spine,
                selections,
                out,
                memory_limit=memory_limit,
                time=time,
                as_of=moment,
                threads=threads,
                engine="spark",
            )
    elif memory_limit is not None:
        _refuse_folder(out)
        with (
            _opened(home, connect, threads) as store,
            progress(f"dataset {out.name}", _rows_of(spine), "rows") as tick,
        ):
            made = store.write_dataset(
                spine,
                selections,
                out,
                memory_limit=memory_limit,
                time=time,
                as_of=moment,
                on_progress=tick,
                **_given(threads),
            )
    else:
        _refuse_folder(out)
        with (
            _opened(home, connect, threads) as store,
            console.status("building the dataset"),
        ):
            made = store.dataset(spine, selections, time=time, as_of=moment, **_given(threads))
            made.write(out)
            if keep is not False:
                store.save_dataset(made)
    result = {
        "fingerprint": made.fingerprint,
        "rows": len(made),
        "versions": made.versions,
        "out": str(out),
    }
    versions = ", ".join(f"{name}@{version}" for name, version in made.versions.items())
    features = [name for name, origin in made.manifest["columns"].items() if origin != "spine"]
    emit(
        result,
        as_json=as_json,
        text=f"{len(made):,} rows × {len(features)} features of {versions}\n"
        f"fingerprint {made.fingerprint}\n{out}",
    )


@dataset.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--rows", type=click.IntRange(min=1), help="How many rows, at random.  [default: all]"
)
@click.option("--seed", default=0, show_default=True, help="Of the choice of rows.")
@common_options
def check(
    file: Path,
    rows: int | None,
    seed: int,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Derive the values of the dataset FILE again, without the join's engine; exit 1 on a fault.

    FILE may be the folder that Spark wrote.
    """
    with open_any(home, connect) as store, console.status("checking"):
        report = store.check_dataset(Dataset.read(file), rows=rows, seed=seed)
    lines = [
        f"{'passed' if report.passed else 'FAILED'}: {report.values:,} values of "
        f"{report.checked:,} rows derived again, {report.wrong:,} wrong, "
        f"{report.future:,} from the future",
        *(f"  {example}" for example in report.examples),
    ]
    emit(report.to_json(), as_json=as_json, text="\n".join(lines))
    if not report.passed:
        sys.exit(1)


@dataset.command()
@selection_options
@as_of_option
@common_options
def explain(
    spine: Path,
    texts: tuple[str, ...],
    time: str,
    keys: tuple[str, ...],
    prefixes: tuple[str, ...],
    lookbacks: tuple[str, ...],
    as_of: str | None,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Say what a build would read, without building: files left out, rows, columns, memory."""
    selections = _selections(texts, keys, prefixes, lookbacks)
    with open_any(home, connect) as store:
        plan = store.explain_dataset(spine, selections, time=time, as_of=_moment(as_of))
    emit(plan.to_json(), as_json=as_json, text=str(plan))


@dataset.command("list")
@common_options
def list_saved(home: Path | None, connect: str | None, as_json: bool) -> None:
    """List the datasets that are kept in the home or on the server, the oldest first."""
    with open_any(home, connect) as store:
        saved = store.list_datasets()
    rows = [
        {
            "fingerprint": one.fingerprint if as_json else one.fingerprint[:12],
            "rows": one.manifest["rows"],
            "features": len(one.features),
            "versions": one.manifest["versions"]
            if as_json
            else ", ".join(f"{name}@{at}" for name, at in one.manifest["versions"].items()),
            "saved": one.saved.isoformat(timespec="seconds"),
            "bytes": one.size_bytes,
        }
        for one in saved
    ]
    columns = ("fingerprint", "rows", "features", "versions", "saved", "bytes")
    emit_table(rows, columns, as_json=as_json, empty="no dataset is kept")


@dataset.command()
@click.argument("fingerprint")
@common_options
def show(fingerprint: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Show what the dataset FINGERPRINT was built from, and the statistics of its columns.

    The first characters of a fingerprint will do, four or more.
    """
    with open_any(home, connect) as store:
        found = store.describe_dataset(fingerprint)
    manifest = found.manifest
    lines = [
        f"fingerprint  {found.fingerprint}",
        f"rows         {manifest['rows']:,}",
        f"spine        {manifest['spine_digest']}",
        f"versions     {', '.join(f'{n}@{v}' for n, v in manifest['versions'].items())}",
        f"as of        {manifest['as_of'] or '-'}",
        f"saved        {found.saved.isoformat(timespec='seconds')}",
        f"file         {found.path}",
        *(_column_line(name, facts) for name, facts in found.statistics.items()),
    ]
    emit(found.to_json(), as_json=as_json, text="\n".join(lines))


@dataset.command()
@click.argument("fingerprint")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the rows to this Parquet file too.",
)
@threads_option
@common_options
def rebuild(
    fingerprint: str,
    out: Path | None,
    threads: int | None,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Build the dataset FINGERPRINT again from the table versions it names; exit 1 if it cannot be.

    The first characters of a fingerprint will do, four or more.
    """
    with (
        _opened(home, connect, threads) as store,
        console.status("building the dataset again"),
    ):
        made = store.rebuild_dataset(fingerprint, **_given(threads))
        if out is not None:
            made.write(out)
    result = {
        "fingerprint": made.fingerprint,
        "rows": len(made),
        "versions": made.versions,
        "out": None if out is None else str(out),
    }
    emit(
        result,
        as_json=as_json,
        text=f"{len(made):,} rows, the same as the first time\nfingerprint {made.fingerprint}",
    )


def _column_line(name: str, facts: Mapping[str, Any]) -> str:
    text = f"  {name}: {facts['type']}, {facts['count']:,} values, {facts['nulls']:,} nulls"
    if facts.get("mean") is not None:
        text += f", mean {facts['mean']:.6g}, std {facts['std']:.6g}"
    if facts.get("min") is not None:
        text += f", from {facts['min']} to {facts['max']}"
    if "distinct" in facts:
        top = ", ".join(f"{entry['value']} ({entry['count']:,})" for entry in facts["top"][:3])
        text += f", {facts['distinct']:,} distinct: {top}"
    return text


def _selections(
    texts: tuple[str, ...],
    keys: tuple[str, ...],
    prefixes: tuple[str, ...],
    lookbacks: tuple[str, ...],
) -> list[FeatureSelection]:
    selections = [FeatureSelection.parse(text) for text in texts]
    selections = _apply(selections, keys, "--key", lambda s, value: replace(s, key=value))
    selections = _apply(selections, prefixes, "--prefix", lambda s, value: replace(s, prefix=value))
    return _apply(selections, lookbacks, "--lookback", _with_lookback)


def _apply(
    selections: list[FeatureSelection], pairs: tuple[str, ...], option: str, change: Any
) -> list[FeatureSelection]:
    for pair in pairs:
        group, equals, value = pair.partition("=")
        if not equals or group not in {selection.group for selection in selections}:
            raise click.UsageError(
                f"{option}: expected GROUP=VALUE with a group of --features, got {pair!r}"
            )
        selections = [change(s, value) if s.group == group else s for s in selections]
    return selections


def _with_lookback(selection: FeatureSelection, seconds: str) -> FeatureSelection:
    try:
        return replace(selection, lookback=dt.timedelta(seconds=float(seconds)))
    except ValueError:
        raise click.UsageError(f"--lookback: expected seconds, got {seconds!r}") from None


def _opened(home: Path | None, connect: str | None, threads: int | None) -> FeatureStore:
    """Open the store; a server decides for itself how many processors a build gets."""
    return open_any(home, connect) if threads is None else open_embedded(home, connect, "--threads")


def _given(threads: int | None) -> dict[str, Any]:
    return {} if threads is None else {"threads": threads}


def _rows_of(spine: Path) -> int | None:
    """Return how many rows a progress bar ends at; None where only reading the file would tell."""
    if spine.suffix.lower() != ".parquet":
        return None
    try:
        return int(pq.ParquetFile(spine).metadata.num_rows)
    except (pa.ArrowInvalid, OSError):
        return None  # the build says so


def _refuse_folder(out: Path) -> None:
    if out.is_dir():
        raise click.UsageError(f"--out: expected a file, {out} is a folder (--engine spark)")


def _moment(text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    try:
        return eventtime.to_datetime(eventtime.parse_iso(text))
    except ValueError as error:
        raise click.UsageError(f"--as-of: {error}") from None
