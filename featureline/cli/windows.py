"""`featureline window`: windowed features."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import click

from featureline.cli.output import emit, emit_table, progress, read_json
from featureline.cli.store import common_options, open_any
from featurestore import FeatureStore, InvalidRequest, WindowedDescription, WindowedGroup
from featurestore.embedded import EmbeddedStore

__all__ = ["window"]


@click.group()
def window() -> None:
    """Aggregates of a feature group's records over time windows."""


@window.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@common_options
def create(file: Path, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Create the windowed group defined in FILE, and take the events from before in.

    FILE is JSON: WindowedGroupName, SourceFeatureGroupName, ByFeatureName and WindowedFeatures,
    each with Aggregation, WindowSeconds, SourceFeatureName and FeatureName.
    """
    definition = WindowedGroup.from_json(read_json(file))
    with open_any(home, connect) as store:
        if isinstance(store, EmbeddedStore):
            with progress(f"fill {definition.name}", None, "events") as tick:
                made = store.create_windowed_group(definition, on_progress=tick)
        else:
            made = store.create_windowed_group(definition)
    emit(made.to_json(), as_json=as_json, text=f"created {_one_line(made)}")


@window.command()
@click.argument("name")
@common_options
def describe(name: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Describe the windowed group NAME."""
    with open_any(home, connect) as store:
        found = store.describe_windowed_group(name)
    if as_json:
        emit(found.to_json(), as_json=True, text="")
        return
    emit(None, as_json=False, text=_one_line(found))
    types = {feature.name: feature.type.value for feature in found.features}
    emit_table(
        [
            {
                "feature": feature.name,
                "type": types[feature.name],
                "aggregation": feature.kind.value,
                "of": feature.of or "",
                "over": feature.over,
            }
            for feature in found.group.features
        ],
        ("feature", "type", "aggregation", "of", "over"),
        as_json=False,
        empty="",
    )


@window.command(name="list")
@common_options
def list_(home: Path | None, connect: str | None, as_json: bool) -> None:
    """List windowed groups."""
    with open_any(home, connect) as store:
        rows = [_row(entry) for entry in store.list_windowed_groups()]
    emit_table(
        rows,
        ("WindowedGroupName", "SourceFeatureGroupName", "ByFeatureName", "Features", "Status"),
        as_json=as_json,
        empty="no windowed groups; make one with `featureline window create FILE.json`",
    )


@window.command()
@click.argument("name")
@common_options
def delete(name: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Delete the windowed group NAME; its source stays as it is."""
    with open_any(home, connect) as store:
        store.delete_windowed_group(name)
    emit({"deleted": name}, as_json=as_json, text=f"deleted {name}")


@window.command()
@click.argument("name")
@common_options
def fill(name: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Take the offline store's events into the windowed group NAME, where it lacks them."""
    with open_any(home, connect) as store:
        events = _filled(store, name)
    emit({"group": name, "events": events}, as_json=as_json, text=f"{name}: {events:,} events")


@window.command()
@click.argument("name")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@click.option("--at", help="As of this time, ISO-8601 with a zone; default: now.")
@common_options
def get(
    name: str,
    keys: tuple[str, ...],
    at: str | None,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Show the features of the windowed group NAME for each KEY."""
    with open_any(home, connect) as store:
        found = store.get_windows(name, keys, at=_moment(at))
    if as_json:
        emit(found, as_json=True, text="")
        return
    names = list(dict.fromkeys(name for record in found for name in record))
    emit_table(found, names, as_json=False, empty="")


def _filled(store: FeatureStore, name: str) -> int:
    if isinstance(store, EmbeddedStore):
        with progress(f"fill {name}", None, "events") as tick:
            return store.fill_windowed_group(name, on_progress=tick)
    return store.fill_windowed_group(name)


def _moment(text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidRequest(
            f"--at: expected a time in ISO-8601 with a zone, such as 2024-05-01T12:00:00Z, "
            f"got {text!r}"
        )
    return moment


def _row(entry: WindowedDescription) -> dict[str, Any]:
    row = entry.to_json()
    return {**row, "Features": len(entry.group.features), "Status": row["WindowedGroupStatus"]}


def _one_line(entry: WindowedDescription) -> str:
    group = entry.group
    return (
        f"{group.name}: {len(group.features)} windowed features of {group.source} by {group.by}"
        f"{'' if entry.is_filled else ', being filled'}"
    )
