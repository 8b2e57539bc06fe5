"""`featureline ingest`: streams and files into feature groups, each record exactly once."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import click

from featureline.cli.output import emit, progress, read_json
from featureline.cli.store import common_options, home_of, open_any
from featurestore import FeatureStore, InvalidRequest
from featurestore.embedded import EmbeddedStore
from ingest import (
    DeadLetters,
    FileSource,
    JsonDecoder,
    KafkaSource,
    Pipeline,
    Report,
    RowDecoder,
    Source,
)
from ingest.validate import check

__all__ = ["ingest", "load_file"]

_PAGE = 2000


@click.group()
def ingest() -> None:
    """Bring streams and files into feature groups, each record exactly once."""


def _options(command: Any) -> Any:
    for option in reversed(
        (
            click.option("--group", required=True, help="The feature group."),
            click.option(
                "--mapping",
                "mapping_file",
                type=click.Path(path_type=Path, exists=True, dir_okay=False),
                help="JSON object: feature → field; other fields are left out.",
            ),
            click.option(
                "--dead-letters",
                type=click.Path(path_type=Path, file_okay=False),
                help="Folder of refused messages.  [default: HOME/deadletters, or ./deadletters]",
            ),
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


@ingest.command()
@click.option("--bootstrap", required=True, metavar="HOST:PORT", help="Kafka brokers.")
@click.option("--topic", required=True, help="The topic to read.")
@_options
@click.option("--consumer-group", help="Kafka consumer group.  [default: featureline-GROUP]")
@click.option("--until-caught-up", is_flag=True, help="Stop when what is there now is stored.")
@click.option(
    "--assignment",
    type=click.Choice(["group", "all"]),
    default="group",
    show_default=True,
    help="Share partitions out among the consumer group, or read them all here.",
)
@common_options
def kafka(
    bootstrap: str,
    topic: str,
    group: str,
    mapping_file: Path | None,
    dead_letters: Path | None,
    batch_size: int,
    consumer_group: str | None,
    until_caught_up: bool,
    assignment: Literal["group", "all"],
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Ingest JSON messages of a Kafka topic until Ctrl-C, or until caught up."""
    source = KafkaSource(
        bootstrap,
        topic,
        consumer_group=consumer_group or f"featureline-{group}",
        assignment=assignment,
    )
    with open_any(home, connect) as store:
        letters = _dead_letters(store, dead_letters)
        pipeline = Pipeline(
            source,
            store,
            group,
            mapping=_mapping(mapping_file),
            dead_letters=DeadLetters(letters),
            batch_size=batch_size,
        )
        with (
            progress(f"{topic} → {group}", None, "messages") as tick,
            _stopped_by_signals() as stop,
        ):
            report = pipeline.run(
                until_caught_up=until_caught_up, stop=stop, on_progress=_ticking(tick)
            )
    _say(group, report, letters, as_json)


@ingest.command()
@click.argument("path", type=click.Path(path_type=Path))
@_options
@common_options
def files(
    path: Path,
    group: str,
    mapping_file: Path | None,
    dead_letters: Path | None,
    batch_size: int,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Ingest PATH, a Parquet, CSV or JSON-lines file or a folder of one kind.

    A row that was stored before is not stored again; a load that was killed goes on at its row.
    """
    source = FileSource(path)
    with open_any(home, connect) as store:
        letters = _dead_letters(store, dead_letters)
        pipeline = Pipeline(
            source,
            store,
            group,
            mapping=_mapping(mapping_file),
            dead_letters=DeadLetters(letters),
            batch_size=batch_size,
        )
        with (
            progress(f"{path.name} → {group}", None, "rows") as tick,
            _stopped_by_signals() as stop,
        ):
            report = pipeline.run(stop=stop, on_progress=_ticking(tick))
    _say(group, report, letters, as_json)


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


def _mapping(file: Path | None) -> dict[str, str]:
    if file is None:
        return {}
    body = read_json(file)
    if not isinstance(body, dict) or not all(isinstance(value, str) for value in body.values()):
        raise InvalidRequest(f"{file}: expected an object of feature → field")
    return body


def _dead_letters(store: FeatureStore, folder: Path | None) -> Path:
    if folder is not None:
        return folder
    return (home_of(store) if isinstance(store, EmbeddedStore) else Path()) / "deadletters"


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
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
