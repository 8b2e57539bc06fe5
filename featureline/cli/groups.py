"""`featureline group`: feature groups."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from featureline.cli.output import console, emit, emit_table, read_json
from featureline.cli.store import common_options, open_any
from featurestore import Description, FeatureGroup, FeatureStore, InvalidRequest
from featurestore.schema import (
    definitions_from_json,
    storage_type_from_json,
    throughput_from_json,
    ttl_from_json,
)

__all__ = ["group"]


@click.group()
def group() -> None:
    """Create, describe, list, update, delete and maintain feature groups."""


@group.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@common_options
def create(file: Path, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Create the feature group defined in FILE (JSON in SageMaker's CreateFeatureGroup shape)."""
    definition = FeatureGroup.from_json(read_json(file))
    with open_any(home, connect) as store:
        made = store.create_feature_group(definition)
    emit(made.to_json(), as_json=as_json, text=f"created {_one_line(made)}")


@group.command()
@click.argument("name")
@common_options
def describe(name: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Describe the feature group NAME."""
    with open_any(home, connect) as store:
        found = store.describe(name)
    if as_json:
        emit(found.to_json(), as_json=True, text="")
        return
    emit(None, as_json=False, text=_one_line(found))
    roles = {
        found.group.record_identifier: "record identifier",
        found.group.event_time: "event time",
    }
    emit_table(
        [
            {"feature": f.name, "type": f.type.value, "": roles.get(f.name, "")}
            for f in found.group.features
        ],
        ("feature", "type", ""),
        as_json=False,
        empty="",
    )


@group.command(name="list")
@click.option("--name-contains", default="", help="Only groups whose name has this text.")
@common_options
def list_(name_contains: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """List feature groups."""
    with open_any(home, connect) as store:
        found = store.list_feature_groups(name_contains=name_contains)
    rows = [entry.to_json() for entry in found]
    for row, entry in zip(rows, found, strict=True):
        row["Features"] = len(entry.group.features)
    emit_table(
        rows,
        ("FeatureGroupName", "Version", "Features", "CreationTime"),
        as_json=as_json,
        empty="no feature groups; make one with `featureline group create FILE.json`",
    )


@group.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@common_options
def update(name: str, file: Path, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Change the feature group NAME by FILE: JSON in SageMaker's UpdateFeatureGroup shape.

    One change at a time: FeatureAdditions, ThroughputConfig, or in OnlineStoreConfig TtlDuration or
    StorageType.
    """
    change = _change(file, read_json(file))
    with open_any(home, connect) as store:
        changed = change(store, name)
    emit(changed.to_json(), as_json=as_json, text=f"updated {_one_line(changed)}")


@group.command()
@click.argument("name")
@common_options
def delete(name: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Delete the feature group NAME and its online records; its offline table stays."""
    with open_any(home, connect) as store:
        uri = store.describe(name).offline_uri
        store.delete_feature_group(name)
    kept = f"; its offline table stays in {uri}" if uri else ""
    emit({"deleted": name, "offline": uri or None}, as_json=as_json, text=f"deleted {name}{kept}")


@group.command()
@click.argument("name")
@click.option(
    "--retention",
    default="7d",
    show_default=True,
    metavar="TIME",
    help="How long versions stay readable that are the newest no more: 90s, 45m, 12h, 7d or 4w.",
)
@click.option(
    "--zorder/--no-zorder",
    default=True,
    show_default=True,
    help="Sort the rows of each event date by the record identifier and event time.",
)
@common_options
def maintain(
    name: str, retention: str, zorder: bool, home: Path | None, connect: str | None, as_json: bool
) -> None:
    """Rewrite the small files of the offline table of NAME, and delete files no version needs.

    A vacuum takes away what left the table longer than the retention ago: datasets and readers of
    versions older than that find their files no more, but for versions that the replay of
    something in use needs (see lineage gc). Others may put, flush and read meanwhile.
    """
    kept = _duration(retention)
    with (
        open_any(home, connect) as store,
        console.status(f"maintaining {name}"),
    ):
        report = store.maintain(name, retention=kept, zorder=zorder)
    emit(
        report.to_json(),
        as_json=as_json,
        text=f"{name}: {report.files_before:,} files of {report.bytes_before / 1e6:,.1f} MB → "
        f"{report.files_after:,} of {report.bytes_after / 1e6:,.1f} MB; {report.dates:,} event "
        f"dates rewritten, {report.files_removed:,} old files removed, {report.seconds:.1f} s",
    )


@group.command()
@click.argument("name")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="The newest so many versions.",
)
@common_options
def history(name: str, limit: int, home: Path | None, connect: str | None, as_json: bool) -> None:
    """List the versions of the offline table of NAME, newest first, and which can be read."""
    with open_any(home, connect) as store:
        found = store.versions(name, limit=limit)
    emit_table(
        [version.to_json() for version in found],
        ("version", "time", "operation", "files", "readable"),
        as_json=as_json,
        empty=f"nothing was written to the offline table of {name} yet",
    )


@group.command()
@click.argument("name")
@click.option("--version", type=click.IntRange(min=0), required=True, help="The one to go back to.")
@common_options
def restore(name: str, version: int, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Make an older version of the offline table of NAME the newest one, as a new commit.

    What was flushed since is not in the newest version any more, and is not flushed again; the
    online store stays as it is.
    """
    with open_any(home, connect) as store:
        made = store.restore(name, version)
    emit(
        {"group": name, "restored": version, "version": made},
        as_json=as_json,
        text=f"{name}: version {made} has the rows of version {version}",
    )


def _duration(text: str) -> dt.timedelta:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise click.UsageError(
            f"--retention: expected a number with s, m, h, d or w, such as 7d, got {text!r}"
        )
    try:
        return dt.timedelta(**{_UNITS[found.group(2)]: float(found.group(1))})
    except OverflowError:
        raise click.UsageError(f"--retention: {text!r} is too long") from None


_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _change(file: Path, body: object) -> Callable[[FeatureStore, str], Description]:
    """Read what a file says to change."""
    if not isinstance(body, dict):
        raise InvalidRequest(f"{file}: expected a JSON object, got {type(body).__name__}")
    given = {key: value for key, value in body.items() if key != "FeatureGroupName"}
    online = given.get("OnlineStoreConfig")
    if isinstance(online, dict) and online:
        del given["OnlineStoreConfig"]
        given |= {f"OnlineStoreConfig.{key}": value for key, value in online.items()}
    if len(given) != 1 or next(iter(given)) not in _CHANGES:
        raise InvalidRequest(
            f"{file}: expected one of {', '.join(_CHANGES)}, got {', '.join(given) or 'none'}"
        )
    kind, value = given.popitem()
    return lambda store, name: _CHANGES[kind](store, name, value)


_CHANGES: Final[dict[str, Callable[[FeatureStore, str, Any], Description]]] = {
    "FeatureAdditions": lambda store, name, value: store.add_features(
        name, definitions_from_json(name, value)
    ),
    "OnlineStoreConfig.TtlDuration": lambda store, name, value: store.set_ttl(
        name, ttl_from_json(value)
    ),
    "OnlineStoreConfig.StorageType": lambda store, name, value: store.set_storage_type(
        name, storage_type_from_json(value)
    ),
    "ThroughputConfig": lambda store, name, value: store.set_throughput(
        name, throughput_from_json(value)
    ),
}


def _one_line(found: Description) -> str:
    stores = " and ".join(
        name
        for name, has in (("online", found.group.online), ("offline", found.group.offline))
        if has
    )
    count = len(found.group.features)
    sealed = ", encrypted" if found.group.kms_key else ""
    return f"{found.group.name} (version {found.version}, {count} features, {stores}{sealed})"
