"""`featureline ingest`: streams and files into feature groups, each record exactly once."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import click

from featureline.cli.fleet import run_workers
from featureline.cli.formats import (
    decoder_of,
    format_options,
    format_settings,
)
from featureline.cli.output import console, emit, progress
from featureline.cli.refusals import Refusals, refusal_options
from featureline.cli.store import common_options, home_of, open_any
from featurestore import FeatureStore
from featurestore.embedded import EmbeddedStore
from ingest import (
    Decoder,
    FileSource,
    JsonDecoder,
    Pipeline,
    Report,
    RowDecoder,
    Source,
    Transform,
    kafka_source,
    read_mapping,
    transforms_of,
)
from ingest.fleet.settings import PipelineSettings
from ingest.sources.kafka import CLIENTS, Client
from ingest.validate import check

__all__ = [
    "connection_options",
    "ingest",
    "load_file",
    "mapped",
    "pipeline_options",
    "run_pipeline",
    "stopped_by_signals",
]

_PAGE = 2000


@click.group()
def ingest() -> None:
    """Bring streams and files into feature groups, each record exactly once."""


def pipeline_options(command: Any) -> Any:
    """Add what every command takes that fills a feature group from a source."""
    for option in reversed(
        (
            click.option("--group", required=True, help="The feature group."),
            click.option(
                "--mapping",
                "mapping_file",
                type=click.Path(path_type=Path, exists=True, dir_okay=False),
                help="TOML or JSON: feature → field, or paths, casts, SQL and lookups.",
            ),
            refusal_options,
            click.option(
                "--batch-size",
                type=click.IntRange(min=1),
                default=2000,
                show_default=True,
                help="Messages stored in one transaction, at most.",
            ),
        )
    ):
        command = option(command)
    return command


def connection_options(command: Any) -> Any:
    """Add how to talk to the brokers: `client` and `security_file`."""
    client = click.option(
        "--client",
        type=click.Choice(CLIENTS),
        help="Client library.  [default: $FEATURELINE_KAFKA_CLIENT, or kafka-python]",
    )
    security = click.option(
        "--security",
        "security_file",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="TOML file for TLS and SASL.  [default: $FEATURELINE_KAFKA_…]",
    )
    return client(security(command))


@ingest.command()
@click.option(
    "--bootstrap",
    required=True,
    envvar="FEATURELINE_KAFKA_BOOTSTRAP",
    metavar="HOST:PORT",
    help="Kafka brokers.  [env var: FEATURELINE_KAFKA_BOOTSTRAP]",
)
@click.option("--topic", required=True, help="The topic to read.")
@pipeline_options
@click.option("--consumer-group", help="Kafka consumer group.  [default: featureline-GROUP]")
@click.option("--until-caught-up", is_flag=True, help="Stop when what is there now is stored.")
@click.option(
    "--assignment",
    type=click.Choice(["group", "all"]),
    default="group",
    show_default=True,
    help="Share partitions out among the consumer group, or read them all here.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that share the partitions.",
)
@connection_options
@click.option(
    "--on-gap",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="When messages were removed before they were stored: stop, or go on after them.",
)
@format_options
@common_options
def kafka(
    bootstrap: str,
    topic: str,
    group: str,
    mapping_file: Path | None,
    refusals: Refusals,
    batch_size: int,
    consumer_group: str | None,
    until_caught_up: bool,
    assignment: Literal["group", "all"],
    workers: int,
    client: Client | None,
    security_file: Path | None,
    on_gap: Literal["fail", "skip"],
    home: Path | None,
    connect: str | None,
    as_json: bool,
    **formats: Any,
) -> None:
    """Ingest the messages of a Kafka topic until Ctrl-C, or until caught up."""
    members = consumer_group or f"featureline-{group}"
    if workers > 1:
        if assignment == "all":
            raise click.UsageError("--workers share partitions out as a group: --assignment group")
        with open_any(home, connect) as store:
            store.describe_feature_group(group)
            letters = refusals.place(store)
        source_values: dict[str, Any] = {
            "kind": "kafka",
            "bootstrap": bootstrap,
            "topic": topic,
            "consumer_group": members,
            "client": client,
            "security_file": None if security_file is None else str(security_file),
            "on_gap": on_gap,
        }
        settings = PipelineSettings(
            topic,
            group,
            {name: value for name, value in source_values.items() if value is not None},
            format_settings(formats),
            {} if mapping_file is None else read_mapping(mapping_file),
            tombstones=formats["tombstones"],
            tombstone_key=formats["tombstone_key"],
            dead_letters=refusals.settings(letters, bootstrap),
            stop_rule=refusals.rule_settings,
            workers=workers,
            batch_size=batch_size,
            until_caught_up=until_caught_up,
        )
        _say(group, run_workers(settings, home, connect), letters, as_json)
        return
    try:
        source = kafka_source(
            topic,
            consumer_group=members,
            bootstrap=bootstrap,
            security_file=security_file,
            client=client,
            assignment=assignment,
            on_gap=on_gap,
        )
    except ImportError as error:
        raise click.ClickException(str(error)) from error
    mapping, _ = mapped(mapping_file, topic)
    with open_any(home, connect) as store:
        decoder = decoder_of(formats, mapping, store, group)
        run_pipeline(
            store,
            source,
            topic,
            unit="messages",
            group=group,
            mapping_file=mapping_file,
            refusals=refusals,
            batch_size=batch_size,
            until_caught_up=until_caught_up,
            as_json=as_json,
            decoder=decoder,
            bootstrap=bootstrap,
            security_file=security_file,
        )


@ingest.command()
@click.argument("path", type=click.Path(path_type=Path))
@pipeline_options
@click.option("--watch", is_flag=True, help="Go on with files that come later, until Ctrl-C.")
@click.option("--pattern", help="Names of the files below the folder, such as '*.parquet'.")
@click.option("--until-caught-up", is_flag=True, help="With --watch: stop when all files are in.")
@click.option(
    "--settle-s",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    help="With --watch: a file is whole when it has not changed for so long.",
)
@click.option(
    "--index",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of digests, so that known files are not read again.  "
    "[default, with --watch: HOME/ingest/files.jsonl]",
)
@click.option(
    "--on-unreadable",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="With --watch: what to do about a damaged file.",
)
@common_options
def files(
    path: Path,
    watch: bool,
    pattern: str | None,
    settle_s: float,
    index: Path | None,
    on_unreadable: Literal["fail", "skip"],
    home: Path | None,
    connect: str | None,
    **options: Any,
) -> None:
    """Ingest PATH, a Parquet, CSV, JSON-lines or Arrow file or a folder of one kind.

    A row that was stored before is not stored again; a load that was killed goes on at its row.
    """
    with open_any(home, connect) as store:
        if index is None and watch and isinstance(store, EmbeddedStore):
            index = home_of(store) / "ingest" / "files.jsonl"
        source = FileSource(
            path,
            watch=watch,
            pattern=pattern,
            settle_s=settle_s,
            index=index,
            on_unreadable=on_unreadable,
        )
        run_pipeline(store, source, path.name, unit="rows", **options)


def run_pipeline(
    store: FeatureStore,
    source: Source,
    title: str,
    *,
    unit: str,
    group: str,
    mapping_file: Path | None,
    refusals: Refusals,
    batch_size: int,
    until_caught_up: bool,
    as_json: bool,
    decoder: Decoder | None = None,
    bootstrap: str | None = None,
    security_file: Path | None = None,
) -> None:
    """Run a pipeline with the options that `pipeline_options` adds, and print what it did.

    Args:
        store: where the group is.
        source: what to read.
        title: what the progress calls the source: the topic's name, if it is one.
        unit: what the progress counts.
        group: the feature group.
        mapping_file: see `mapped`.
        refusals: where refused messages go, and how many are too many.
        batch_size: messages per transaction.
        until_caught_up: stop when what is there now is stored.
        as_json: print one JSON document.
        decoder: with the short form of the mapping in it; None: the source's default.
        bootstrap: the brokers that are read from, if it is Kafka.
        security_file: TLS and SASL towards them; None: from the environment.
    """
    mapping, transforms = mapped(mapping_file, None if bootstrap is None else title)
    with closing(refusals.sink(store, bootstrap, security_file)) as sink:
        pipeline = Pipeline(
            source,
            store,
            group,
            decoder=decoder,
            mapping=mapping if decoder is None else None,
            transforms=transforms,
            dead_letters=sink,
            stop_rule=refusals.stop_rule,
            batch_size=batch_size,
        )
        with (
            progress(f"{title} → {group}", None, unit) as tick,
            stopped_by_signals() as stop,
        ):
            report = pipeline.run(
                until_caught_up=until_caught_up, stop=stop, on_progress=_ticking(tick)
            )
    _say(group, report, refusals.place(store), as_json)


def load_file(store: FeatureStore, group: str, path: Path) -> dict[str, Any]:
    """Put every row of a file, whether or not it was put before."""
    definition = store.describe_feature_group(group)
    source: Source = FileSource(path)
    stored = 0
    refused: list[dict[str, Any]] = []
    try:
        source.seek(dict)
        decoder = JsonDecoder() if source.columns is None else RowDecoder()
        for feature in source.columns or ():
            definition.feature_type(feature)
        with progress(f"{path.name} → {group}", None) as tick:
            while not (batch := source.poll(_PAGE, 0.0)).is_last:
                checked = check(batch.messages, decoder, definition)
                if checked.batch:
                    checked = checked.without(store.put_checked(checked.batch))
                stored += checked.written
                refused += [
                    {
                        "index": refusal.message.offset,
                        "code": refusal.error,
                        "message": f"{refusal.reason} (row {refusal.message.offset})",
                    }
                    for refusal in checked.refused
                ]
                tick(stored)
    finally:
        source.close()
    return {"group": group, "stored": stored, "refused": refused}


def _say(group: str, report: Report, dead_letters: Path, as_json: bool) -> None:
    rate = report.read / report.seconds if report.seconds else 0.0
    text = (
        f"{group}: {report.written:,} written, {report.refused:,} refused "
        f"in {report.seconds:.1f} s ({rate:,.0f} messages/s)"
    )
    if report.refused:
        text += f"\nwhat was refused, and why: {dead_letters}"
    body = {"group": group, **asdict(report), "dead_letters": str(dead_letters)}
    emit(body, as_json=as_json, text=text)


def _ticking(tick: Callable[[int], None]) -> Callable[[Report], None]:
    return lambda report: tick(report.read)


def mapped(file: Path | None, topic: str | None) -> tuple[dict[str, str], list[Transform]]:
    """Read --mapping: the short form for a decoder, or the transforms of the full one."""
    if file is None:
        return {}, []
    body = read_mapping(file)
    if not all(isinstance(value, str) for value in body.values()):
        return {}, transforms_of(body, topic=topic)
    for feature, field in body.items():
        if any(mark in field for mark in ".[@"):
            console.print(
                f"{file}: {feature} is read from a field called {field!r}; for a path write it "
                f"under [features]",
                markup=False,
            )
    return body, []


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """Let Ctrl-C and SIGTERM end a run after the batch in hand; a second Ctrl-C ends at once."""
    stop = threading.Event()

    def on_signal(number: int, frame: object) -> None:
        if stop.is_set():
            sys.exit(130)
        stop.set()

    before = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
