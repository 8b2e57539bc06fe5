"""`featureline backup`, `restore` and `key`: keeping data, and keeping it secret."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import click
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

from featureline.cli.output import console, emit, emit_table
from featureline.cli.store import common_options
from featurestore import InvalidRequest
from featurestore.backup import take_backup
from featurestore.embedded import open_store
from featurestore.encryption import KeyRing, MasterKey, data_keys
from featurestore.eventtime import format_iso
from featurestore.manifest import Manifest
from featurestore.registry import Registry
from featurestore.restore import check_backup, restore_backup

__all__ = ["backup", "key", "restore"]


@click.command()
@click.argument("destination", metavar="DEST", type=click.Path(path_type=Path))
@common_options
def backup(destination: Path, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Copy the home into the new folder DEST, as it is at one instant, while servers go on.

    Every record that was acknowledged before is in it. The master key of encrypted groups is not.
    """
    chosen = _home(home, connect, "backup")
    with _bar("backup") as show:
        manifest = take_backup(chosen, destination, on_progress=show)
    emit(
        {"backup": str(destination), **_summary(manifest)},
        as_json=as_json,
        text="\n".join((f"{destination}: {_text(manifest)}", *_notes(manifest))),
    )


@click.command()
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path))
@click.option(
    "--verify", is_flag=True, help="Then flush, and compare both stores of every feature group."
)
@click.option("--check", is_flag=True, help="Only check every file's digest; restore nothing.")
@common_options
def restore(
    source: Path,
    verify: bool,
    check: bool,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Make a home from the backup SOURCE; every file is checked against its digest.

    The home must not exist or be empty. Exit code 1 when --verify finds a difference.
    """
    if check and verify:
        raise click.UsageError("give --check or --verify, not both")
    if check:
        with _bar("check") as show:
            manifest = check_backup(source, on_progress=show)
        emit(
            {"checked": str(source), **_summary(manifest)},
            as_json=as_json,
            text=f"{source}: whole; {_text(manifest)}",
        )
        return
    chosen = _home(home, connect, "restore")
    with _bar("restore") as show:
        manifest = restore_backup(source, chosen, on_progress=show)
    reports = _verify(chosen) if verify else {}
    unequal = [name for name, report in reports.items() if not report["equal"]]
    lines = [f"{chosen}: restored {_text(manifest)}", *_notes(manifest)]
    lines += [
        f"{name}: {'equal' if report['equal'] else 'NOT equal'} ({report['online']:,} records "
        f"online, {report['offline']:,} offline)"
        for name, report in reports.items()
    ]
    emit(
        {"home": str(chosen), **_summary(manifest), **({"verified": reports} if verify else {})},
        as_json=as_json,
        text="\n".join(lines),
    )
    if unequal:
        sys.exit(1)


@click.group()
def key() -> None:
    """Make, list and rotate the keys of encrypted feature groups."""


@key.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def new(file: Path, as_json: bool) -> None:
    """Write a new master key into the new FILE, which only its owner can read.

    Keep a copy where no backup of the home lies: without it encrypted records cannot be read.
    """
    made = MasterKey.generate(file)
    emit(
        {"file": str(file), "fingerprint": made.fingerprint},
        as_json=as_json,
        text=f"{file}: master key {made.fingerprint}; set FEATURELINE_MASTER_KEY_FILE to it",
    )


@key.command(name="list")
@common_options
def list_(home: Path | None, connect: str | None, as_json: bool) -> None:
    """List the data keys of the home; needs no master key."""
    chosen = _home(home, connect, "key list")
    names = _group_names(chosen)
    rows: list[dict[str, Any]] = [
        {
            "group": names.get(entry.group_number, ""),
            "number": entry.group_number,
            "version": entry.version,
            "created": format_iso(entry.created_us),
            "messages": entry.reserved,
            "destroyed": None if entry.destroyed_us is None else format_iso(entry.destroyed_us),
        }
        for entry in data_keys(chosen)
    ]
    if not as_json:
        rows = [row | {"destroyed": row["destroyed"] or ""} for row in rows]
    emit_table(
        rows,
        ("group", "number", "version", "created", "messages", "destroyed"),
        as_json=as_json,
        empty="no keys: the home has no encrypted feature group",
    )


@key.command()
@click.option(
    "--new-master-key-file",
    "file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Holds the new master key; make one with `featureline key new`.",
)
@common_options
def rotate(file: Path, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Wrap the data keys of the home with another master key, while servers go on.

    The present one is taken from FEATURELINE_MASTER_KEY_FILE or FEATURELINE_MASTER_KEY. Records
    are not written again.
    """
    fresh = MasterKey.from_file(file)
    with KeyRing.open(_home(home, connect, "key rotate")) as ring:
        wrapped = ring.rotate(fresh)
    emit(
        {"rewrapped": wrapped, "fingerprint": fresh.fingerprint},
        as_json=as_json,
        text=f"{wrapped:,} data keys are wrapped with master key {fresh.fingerprint} now; set "
        f"FEATURELINE_MASTER_KEY_FILE to {file} before the next start",
    )


def _home(home: Path | None, connect: str | None, what: str) -> Path:
    if connect is not None:
        raise click.UsageError(f"{what} works on the files of a home; use --home")
    return Path(home or os.environ.get("FEATURELINE_HOME") or ".featureline").resolve()


def _group_names(home: Path) -> dict[int, str]:
    if not (home / "meta.db").is_file():
        raise InvalidRequest(f"{home}: expected the home of a store, found no meta.db in it")
    with closing(Registry(home / "meta.db")) as registry:
        return {entry.number: entry.group.name for entry in registry.list()}


def _verify(home: Path) -> dict[str, Any]:
    reports: dict[str, Any] = {}
    with open_store(home) as store:
        for entry in store.list_feature_groups():
            if entry.group.online and entry.group.offline:
                reports[entry.group.name] = store.verify(entry.group.name).to_json()
    return reports


def _summary(manifest: Manifest) -> dict[str, Any]:
    body = manifest.to_json()
    return {
        "began": body["began"],
        "finished": body["finished"],
        "files": len(manifest.files),
        "bytes": manifest.size_bytes,
        "tables": {table.group: table.version for table in manifest.tables},
        "not_covered": body["not_covered"],
        "left_out": body["left_out"],
    }


def _text(manifest: Manifest) -> str:
    return (
        f"{len(manifest.files):,} files, {manifest.size_bytes / 1e6:,.1f} MB, "
        f"{len(manifest.tables):,} offline tables, as of {manifest.began:%Y-%m-%d %H:%M:%S} UTC"
    )


def _notes(manifest: Manifest) -> list[str]:
    notes = [f"  not covered: {sentence}" for sentence in manifest.not_covered]
    if manifest.left_out:
        notes.append(f"  left out, as they belong to no store: {', '.join(manifest.left_out)}")
    return notes


@contextmanager
def _bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show bytes done: a bar on a terminal, nothing otherwise (the result is the line)."""
    if not console.is_terminal:
        yield lambda done, total: None
        return
    with Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=30),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
