"""`featureline ingest audit`: what was produced beside what is stored."""

from __future__ import annotations

import datetime as dt
import functools
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from featureline.cli.formats import FORMAT_OPTIONS, decoder_of, format_options
from featureline.cli.ingestion import connection_options, mapped
from featureline.cli.output import emit, progress
from featureline.cli.refusals import letters_folder
from featureline.cli.store import common_options, open_any
from featurestore import eventtime
from ingest import AuditReport, DeadLetters, FileSource, Source, kafka_source
from ingest import audit as run_audit
from ingest.sources.kafka import Client

__all__ = ["audit"]

R = TypeVar("R")


@click.group()
def audit() -> None:
    """Read a source again up to where it was ingested, and compare it with both stores.

    Each message's record must be in the offline table as often as it was produced, each refused
    message in the dead letters, and the online record of each identifier must be its newest. Give
    the options that the ingestion had. Exit code 1 when there is a difference.
    """


def _options(command: Callable[..., R]) -> Callable[..., R]:
    for option in (
        click.option(
            "--limit",
            type=click.IntRange(min=0),
            default=20,
            show_default=True,
            help="Name so many differences of a kind.",
        ),
        click.option(
            "--exclusive",
            is_flag=True,
            help="Nobody else writes to the group: a row that no message has is a difference.",
        ),
        click.option("--to", "end", metavar="OFFSET|TIME", help="Only what is before it."),
        click.option(
            "--from", "start", metavar="OFFSET|TIME", help="Only from there on, in each partition."
        ),
        click.option(
            "--dead-letters",
            type=click.Path(path_type=Path, file_okay=False),
            help="Folder of refused messages.  [default: HOME/deadletters, or ./deadletters]",
        ),
        click.option(
            "--mapping",
            "mapping_file",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="As the ingestion had it.",
        ),
        click.option("--group", required=True, help="The feature group."),
    ):
        command = option(command)
    return command


def _audited(make: Callable[..., Source]) -> Callable[..., None]:
    """Make a command that audits the source that `make` returns for its options."""

    @functools.wraps(make)
    def command(
        *,
        group: str,
        mapping_file: Path | None,
        dead_letters: Path | None,
        start: str | None,
        end: str | None,
        exclusive: bool,
        limit: int,
        home: Path | None,
        connect: str | None,
        as_json: bool,
        **options: Any,
    ) -> None:
        bounds = _bound("--from", start), _bound("--to", end)
        mapping, transforms = mapped(mapping_file, options.get("topic"))
        formats = {name: options.pop(name) for name in list(options) if name in FORMAT_OPTIONS}
        with (
            open_any(home, connect) as store,
            progress(f"audit of {group}", None, "messages") as tick,
        ):
            decoder = decoder_of(formats, mapping, store, group) if formats else None
            report = run_audit(
                make(group=group, **options),
                store,
                group,
                decoder=decoder,
                mapping=mapping if decoder is None else None,
                transforms=transforms,
                dead_letters=DeadLetters(letters_folder(store, dead_letters)),
                start=bounds[0],
                end=bounds[1],
                exclusive=exclusive,
                limit=limit,
                on_progress=tick,
            )
        emit({"group": group, **asdict(report)}, as_json=as_json, text=_text(group, report))
        if not report.equal:
            sys.exit(1)

    return command


@audit.command()
@click.option("--bootstrap", required=True, metavar="HOST:PORT", help="Kafka brokers.")
@click.option("--topic", required=True, help="The topic.")
@click.option("--consumer-group", help="That of the ingestion.  [default: featureline-GROUP]")
@connection_options
@_options
@format_options
@common_options
@_audited
def kafka(
    *,
    group: str,
    bootstrap: str,
    topic: str,
    consumer_group: str | None,
    client: Client | None,
    security_file: Path | None,
) -> Source:
    """Audit the ingestion of a Kafka topic. It joins no consumer group and commits nothing."""
    return kafka_source(
        topic,
        consumer_group=consumer_group or f"featureline-{group}",
        bootstrap=bootstrap,
        client=client,
        security_file=security_file,
        assignment="all",
    )


@audit.command()
@click.argument("path", type=click.Path(path_type=Path))
@_options
@common_options
@_audited
def files(*, group: str, path: Path) -> Source:
    """Audit the ingestion of PATH, a file or folder as `featureline ingest files` takes it."""
    return FileSource(path)


def _bound(option: str, text: str | None) -> int | dt.datetime | None:
    if text is None or text.isdecimal():
        return None if text is None else int(text)
    try:
        return eventtime.to_datetime(eventtime.parse_iso(text))
    except ValueError as error:
        raise click.UsageError(f"{option}: expected an offset or a time: {error}") from error


def _text(group: str, report: AuditReport) -> str:
    lines = [
        f"{group}: {'equal' if report.equal else 'not equal'}: {report.messages:,} messages, "
        f"{report.stored:,} stored, {report.refused:,} refused, {report.skipped:,} skipped"
        + (f", {report.erased:,} erased" if report.erased else "")
    ]
    if not report.surplus_judged:
        lines.append(
            "  whether more is stored than was produced was not judged: it is a part of the "
            "source, or more is being ingested"
        )
    for kind in ("missing", "extra", "different", "not_in_dead_letters", "online"):
        ones = getattr(report, kind)
        count = report.counts.get(kind, 0)
        if count:
            lines.append(f"  {kind.replace('_', ' ')}: {count:,}")
        for one in ones:
            where = f"partition {one.partition} offset {one.offset}: " if one.offset >= 0 else ""
            what = f"{one.identifier} " if one.identifier else ""
            when = f"at {one.event_time.isoformat()} " if one.event_time is not None else ""
            often = ""
            if one.event_time is not None:
                often = f" ({one.produced:,} produced, {one.stored:,} stored)"
            lines.append(f"    {where}{what}{when}{one.reason}{often}")
        if count > len(ones):
            lines.append(f"    and {count - len(ones):,} more")
    return "\n".join(lines)
