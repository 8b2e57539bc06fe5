"""`featureline ingest preview`: what would be stored of the first messages."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from featureline.cli.formats import decoder_of, format_options, is_default
from featureline.cli.ingestion import connection_options, mapped
from featureline.cli.output import emit
from featureline.cli.store import common_options, open_any
from ingest import FileSource, Preview, Source, kafka_source, preview_messages
from ingest.sources.kafka import Client

__all__ = ["preview_command"]


@click.command("preview")
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--bootstrap", metavar="HOST:PORT", help="Kafka brokers.")
@click.option("--topic", help="The topic to read from its beginning, instead of PATH.")
@click.option("--group", required=True, help="The feature group.")
@click.option(
    "--mapping",
    "mapping_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="TOML or JSON, as for `ingest kafka` and `ingest files`.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1, max=10_000),
    default=10,
    show_default=True,
    help="So many messages.",
)
@connection_options
@format_options
@common_options
def preview_command(
    path: Path | None,
    bootstrap: str | None,
    topic: str | None,
    group: str,
    mapping_file: Path | None,
    limit: int,
    client: Client | None,
    security_file: Path | None,
    home: Path | None,
    connect: str | None,
    as_json: bool,
    **formats: Any,
) -> None:
    """Show what would be stored of the first messages of PATH or --topic, and store nothing."""
    source: Source
    if path is not None and topic is None and bootstrap is None:
        source = FileSource(path)
    elif path is None and topic is not None and bootstrap is not None:
        source = kafka_source(
            topic,
            consumer_group=f"featureline-preview-{group}",
            bootstrap=bootstrap,
            client=client,
            security_file=security_file,
            assignment="all",
        )
    else:
        raise click.UsageError("give PATH, or --bootstrap and --topic")
    with open_any(home, connect) as store:
        mapping, transforms = mapped(mapping_file, topic)
        decoder = None
        if not is_default(formats):
            decoder = decoder_of(formats, mapping, store, group)
        found = preview_messages(
            source,
            store,
            group,
            decoder=decoder,
            mapping=mapping if decoder is None else None,
            transforms=transforms,
            limit=limit,
        )
    emit(
        [asdict(entry) for entry in found],
        as_json=as_json,
        text="\n".join(map(_line, found)) or "there are no messages",
    )


def _line(entry: Preview) -> str:
    # Of a file its name: the whole partition has the path and the digest.
    partition = entry.partition.rpartition("/")[2].partition("#")[0]
    place = f"{partition} {entry.offset}  {entry.outcome}"
    if entry.reason is not None:
        return f"{place}: {entry.reason}"
    if entry.record is None:
        return place
    return f"{place}  {json.dumps(entry.record, default=str, ensure_ascii=False)}"
