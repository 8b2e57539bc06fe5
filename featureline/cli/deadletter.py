"""`featureline deadletter`: what was refused and why, putting it again, and throwing it away."""

from __future__ import annotations

import datetime as dt
import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from featureline.cli.formats import decoder_of, format_options, is_default
from featureline.cli.ingestion import mapped, stopped_by_signals
from featureline.cli.output import emit, emit_table, progress
from featureline.cli.refusals import letters_folder
from featureline.cli.store import common_options, open_any
from featurestore import FeatureStore, eventtime
from featurestore.errors import InvalidRequest
from ingest import (
    DeadLetter,
    DeadLetters,
    DeadLetterSink,
    DeadLetterTopic,
    LetterFilter,
    ReplayReport,
    purge,
    replay,
)

__all__ = ["deadletter"]

R = TypeVar("R")
_AGE: Final = re.compile(r"(\d+)([smhdw])\Z")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SHOWN: Final = 20
_COLUMNS: Final = ("group", "error", "letters", "waiting", "replayed", "first", "last", "source")


@click.group()
def deadletter() -> None:
    """Look at refused messages, put them into their group again, or throw them away."""


def _filters(command: Callable[..., R]) -> Callable[..., R]:
    """Add the options that choose letters, and hand them on as one argument `wanted`."""

    @functools.wraps(command)
    def gathered(
        *args: Any,
        group: str | None,
        error: str | None,
        since: str | None,
        until: str | None,
        **kwargs: Any,
    ) -> R:
        wanted = LetterFilter(
            group=group,
            error=error,
            since=_moment("--since", since),
            until=_moment("--until", until),
        )
        return command(*args, wanted=wanted, **kwargs)

    described: Callable[..., R] = gathered
    for option in (
        click.option("--until", metavar="TIME", help="First refused before then."),
        click.option(
            "--since",
            metavar="TIME",
            help="First refused then or later: 2024-05-01T00:00:00Z, or an age: 2h, 7d.",
        ),
        click.option("--error", help="Of this class, such as InvalidRecord."),
        click.option("--group", help="Of this feature group."),
    ):
        described = option(described)
    return described


def _places(command: Callable[..., R]) -> Callable[..., R]:
    for option in (
        click.option("--bootstrap", metavar="HOST:PORT", help="Brokers of --topic."),
        click.option("--topic", help="Read letters from this topic instead of a folder."),
        click.option(
            "--dead-letters",
            type=click.Path(path_type=Path, file_okay=False),
            help="Their folder.  [default: HOME/deadletters, or ./deadletters]",
        ),
    ):
        command = option(command)
    return command


@deadletter.command("list")
@_filters
@click.option("--each", is_flag=True, help="Every letter with its id, instead of counts.")
@click.option(
    "--limit", type=click.IntRange(min=1), help="Of --each: so many letters.  [default: all]"
)
@_places
@common_options
def list_letters(
    wanted: LetterFilter,
    each: bool,
    limit: int | None,
    dead_letters: Path | None,
    topic: str | None,
    bootstrap: str | None,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Count refused messages by group, source and error.

    A letter waits until a replay has stored its record; then it is kept, as replayed, until it is
    purged.
    """
    with (
        open_any(home, connect) as store,
        _opened(store, dead_letters, topic, bootstrap) as (letters, where),
    ):
        found = (letter for letter in letters.read(wanted.group) if wanted(letter))
        if each:
            rows = []
            for letter in found:
                rows.append(_line(letter))
                if len(rows) == limit:
                    break
            columns: Sequence[str] = ("id", "group", "attempt", "state", "reason")
        else:
            rows = _counts(found)
            columns = _COLUMNS if len({row["source"] for row in rows}) > 1 else _COLUMNS[:-1]
    if not as_json:
        rows = [{**row, **_short(row)} for row in rows]
    emit_table(rows, columns, as_json=as_json, empty=f"no dead letters{_of(wanted)} in {where}")


@deadletter.command()
@click.argument("ids", nargs=-1, metavar="ID…")
@_filters
@click.option(
    "--payload",
    "form",
    type=click.Choice(["auto", "text", "json", "hex"]),
    default="auto",
    show_default=True,
    help="How payloads are written; auto: JSON, else text, else hex.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=_SHOWN,
    show_default=True,
    help="Show so many, at most.",
)
@_places
@common_options
def show(
    ids: tuple[str, ...],
    wanted: LetterFilter,
    form: str,
    limit: int,
    dead_letters: Path | None,
    topic: str | None,
    bootstrap: str | None,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Show letters whole: payload, reason, position, headers.

    ID is the short id of `list --each`, SOURCE/PARTITION/OFFSET, or the end of that, such as 0/17.
    Exit code 1 when an ID names no letter.
    """
    wanted = replace(wanted, ids=ids)
    shown: list[DeadLetter] = []
    more = 0
    with (
        open_any(home, connect) as store,
        _opened(store, dead_letters, topic, bootstrap) as (letters, where),
    ):
        for letter in letters.read(wanted.group):
            if wanted(letter):
                shown[len(shown) :] = [letter][: limit - len(shown)]
                more += 1
    more -= len(shown)
    for one in ids:
        if not any(LetterFilter(ids=(one,))(letter) for letter in shown) and not more:
            raise InvalidRequest(
                f"no dead letter {one!r} in {where}; `featureline deadletter list --each` has the "
                f"ids"
            )
    if as_json:
        click.echo(json.dumps([{**one.to_json(), "id": one.id} for one in shown]))
    elif not shown:
        click.echo(f"no dead letters{_of(wanted)} in {where}")
    else:
        click.echo("\n\n".join(_shown(one, form) for one in shown))
    if more and not as_json:
        click.echo(f"\nand {more:,} more; --limit shows more of them", err=True)


@deadletter.command("replay")
@click.argument("ids", nargs=-1, metavar="[ID…]")
@_filters
@click.option(
    "--mapping",
    "mapping_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="TOML or JSON, as `featureline ingest` takes it.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be stored, and store nothing.")
@_places
@format_options
@common_options
def replay_letters(
    ids: tuple[str, ...],
    wanted: LetterFilter,
    mapping_file: Path | None,
    dry_run: bool,
    dead_letters: Path | None,
    topic: str | None,
    bootstrap: str | None,
    home: Path | None,
    connect: str | None,
    as_json: bool,
    **formats: Any,
) -> None:
    """Put the letters of --group through decoder, mapping and check again, and store what fits.

    For when the group's features or the mapping have been corrected. Each record is stored once,
    however often this is run and wherever it is killed. What is refused again stays, with the new
    reason.
    """
    if wanted.group is None:
        raise click.UsageError("--group is needed: each group's letters have their own mapping")
    mapping, transforms = mapped(mapping_file, None)
    with (
        open_any(home, connect) as store,
        _opened(store, dead_letters, topic, bootstrap) as (letters, _),
        progress(f"letters → {wanted.group}", None, "letters") as tick,
        stopped_by_signals() as stop,
    ):
        decoder = None
        if not is_default(formats):
            decoder = decoder_of(formats, mapping, store, wanted.group)
        report = replay(
            letters,
            store,
            wanted.group,
            decoder=decoder,
            mapping=mapping if decoder is None else None,
            transforms=transforms,
            where=replace(wanted, ids=ids),
            dry_run=dry_run,
            stop=stop,
            on_progress=tick,
        )
    emit({"group": wanted.group, **asdict(report)}, as_json=as_json, text=_said(wanted, report))


@deadletter.command("purge")
@_filters
@click.option("--older-than", metavar="AGE", help="First refused so long ago: 30d, 12h, 4w.")
@click.option("--replayed", is_flag=True, help="Only those whose records a replay has stored.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--dead-letters",
    type=click.Path(path_type=Path, file_okay=False),
    help="Their folder.  [default: HOME/deadletters, or ./deadletters]",
)
@common_options
def purge_letters(
    wanted: LetterFilter,
    older_than: str | None,
    replayed: bool,
    yes: bool,
    dead_letters: Path | None,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Throw letters away, for good; without options all of them. It asks first.

    A topic has no such command: its retention removes what is in it.
    """
    if older_than is not None:
        if wanted.until is not None:
            raise click.UsageError("give --older-than or --until, not both")
        wanted = replace(wanted, until=_ago("--older-than", older_than))
    if replayed:
        wanted = replace(wanted, replayed=True)
    with open_any(home, connect) as store, _opened(store, dead_letters) as (letters, where):
        assert isinstance(letters, DeadLetters)
        meant = [letter for letter in letters.read(wanted.group) if wanted(letter)]
        waiting = sum(letter.replayed is None for letter in meant)
        if meant and not yes:
            click.confirm(
                f"remove {len(meant):,} dead letters{_of(wanted)} from {where}"
                f"{f', {waiting:,} of them not replayed' if waiting else ''}?",
                abort=True,
                err=True,
            )
        groups = sorted({letter.group for letter in meant})
        removed = purge(letters, store.graph, groups, wanted)
    emit(
        {"removed": removed, "waiting": waiting, "folder": where},
        as_json=as_json,
        text=f"{removed:,} dead letters removed from {where}",
    )


@contextmanager
def _opened(
    store: FeatureStore, folder: Path | None, topic: str | None = None, bootstrap: str | None = None
) -> Iterator[tuple[DeadLetterSink, str]]:
    """Open the place that the options name, and say what it is called."""
    if (topic is None) != (bootstrap is None):
        raise click.UsageError("--topic and --bootstrap go together")
    sink: DeadLetterSink
    if topic is not None and bootstrap is not None:
        if folder is not None:
            raise click.UsageError("give --topic or --dead-letters, not both")
        sink, where = DeadLetterTopic(bootstrap, topic), f"topic {topic} at {bootstrap}"
    else:
        if folder is not None and not folder.is_dir():
            raise InvalidRequest(f"--dead-letters {folder}: no such folder")
        place = letters_folder(store, folder)
        sink, where = DeadLetters(place), str(place)
    try:
        yield sink, where
    finally:
        sink.close()


def _counts(letters: Iterator[DeadLetter]) -> list[dict[str, Any]]:
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for letter in letters:
        row = rows.setdefault(
            (letter.group, letter.source, letter.error),
            {
                "group": letter.group,
                "source": letter.source,
                "error": letter.error,
                "letters": 0,
                "waiting": 0,
                "replayed": 0,
                "first": _iso(letter.time),
                "last": _iso(letter.time),
                "example": letter.reason,
            },
        )
        row["letters"] += 1
        row["replayed" if letter.replayed else "waiting"] += 1
        row["first"] = min(row["first"], _iso(letter.time))
        row["last"] = max(row["last"], _iso(letter.time))
    return [rows[key] for key in sorted(rows)]


def _short(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the times of a row to the second, for a table."""
    return {
        name: str(row[name])[:19].replace("T", " ")
        for name in ("first", "last", "time")
        if name in row
    }


def _line(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "group": letter.group,
        "source": letter.source,
        "partition": letter.partition,
        "offset": letter.offset,
        "time": _iso(letter.time),
        "error": letter.error,
        "reason": letter.reason,
        "attempt": letter.attempt,
        "state": "waiting" if letter.replayed is None else "replayed",
    }


def _shown(letter: DeadLetter, form: str) -> str:
    lines = [
        f"{letter.id}  {letter.group}",
        f"  source: {letter.source}",
        f"  position: partition {letter.partition} offset {letter.offset}",
        f"  refused: {_iso(letter.time)}, attempt {letter.attempt}",
        f"  reason: {letter.error}: {letter.reason}",
    ]
    if letter.replayed is not None:
        lines.append(f"  replayed: {_iso(letter.replayed)}")
    if letter.schema:
        lines.append(f"  schema: {letter.schema}")
    if letter.timestamp_us is not None:
        lines.append(f"  timestamp: {eventtime.format_iso(letter.timestamp_us)}")
    if letter.key is not None:
        lines.append(f"  key: {_text(letter.key, 'auto')}")
    lines += [f"  header {name}: {_text(value, 'auto')}" for name, value in letter.headers]
    lines.append(f"  payload: {_payload(letter.payload, form)}")
    return "\n".join(lines)


def _payload(payload: bytes | Mapping[str, object] | None, form: str) -> str:
    if payload is None:
        return "none (a tombstone)"
    if isinstance(payload, bytes):
        return _text(payload, form)
    return json.dumps(payload, default=str, ensure_ascii=False)


def _text(value: bytes, form: str) -> str:
    if form in ("auto", "json"):
        try:
            return json.dumps(json.loads(value), ensure_ascii=False)
        except (ValueError, RecursionError):
            if form == "json":
                return f"(no JSON) {value!r}"
    if form == "hex":
        return value.hex(" ")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return value.decode(errors="backslashreplace") if form == "text" else value.hex(" ")
    # A terminal must not take a message for its own commands.
    return "".join(one if one.isprintable() or one in "\n\t" else repr(one)[1:-1] for one in text)


def _said(wanted: LetterFilter, report: ReplayReport) -> str:
    would = "would be " if report.is_dry_run else ""
    lines = [
        f"{wanted.group}: of {report.letters:,} letters {report.stored:,} {would}stored, "
        f"{report.refused:,} {would}refused again"
    ]
    for count, text in (
        (report.known, "had been stored by a replay that was cut"),
        (report.skipped, "say nothing that concerns records"),
        (report.waiting, "are of a batch that the pipeline has not stored; it reads them again"),
    ):
        if count:
            lines.append(f"  {count:,} {text}")
    lines += [f"  {count:,} × {reason}" for reason, count in report.reasons.items()]
    return "\n".join(lines)


def _of(wanted: LetterFilter) -> str:
    return f" ({wanted.text})" if wanted.text else ""


def _moment(option: str, text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    if _AGE.match(text):
        return _ago(option, text)
    try:
        return eventtime.to_datetime(eventtime.parse_iso(text))
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}; an age like 7d is good as well") from error


def _ago(option: str, text: str) -> dt.datetime:
    found = _AGE.match(text)
    if found is None:
        raise click.UsageError(
            f"{option}: expected a number and s, m, h, d or w, like 30d, got {text!r}"
        )
    age = dt.timedelta(seconds=int(found[1]) * _SECONDS[found[2]])
    try:
        return dt.datetime.now(dt.UTC) - age
    except OverflowError:
        raise click.UsageError(f"{option}: {text} is before the year 1") from None


def _iso(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
