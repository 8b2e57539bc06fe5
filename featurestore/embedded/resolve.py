"""From the selections of a dataset to schemas and table versions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, final

from featurestore.dataset import FeatureSelection, Resolved
from featurestore.embedded.tables import Tables
from featurestore.engine import Engine
from featurestore.errors import InvalidRequest
from featurestore.registry import Registry, named
from featurestore.window import WindowedGroup, Windows

__all__ = ["Resolver"]


@final
class Resolver:
    """Finds what datasets refer to.

    Args:
        registry: of the home.
        tables: of the home.
    """

    def __init__(self, registry: Registry, tables: Tables) -> None:
        self._registry = registry
        self._tables = tables

    def selections(
        self, asked: Sequence[FeatureSelection], engine: Engine = "duckdb"
    ) -> list[Resolved]:
        """Find what selections refer to; those of one group share one table version."""
        resolved: list[Resolved] = []
        first: dict[str, Resolved] = {}
        for selection in asked:
            found = first.get(selection.group)
            if found is None:
                found = first[selection.group] = self._one(selection, engine)
            elif found.selection.version != selection.version:
                raise InvalidRequest(
                    f"{selection.group}: expected one table version in a dataset, got "
                    f"{found.selection.version} and {selection.version} (None: the newest)"
                )
            if found.windows is not None and selection.lookback is not None:
                raise InvalidRequest(
                    f"{selection.group}: expected no lookback for a windowed group, got "
                    f"{selection.lookback}; its windows say how far back each feature sees"
                )
            resolved.append(replace(found, selection=selection))
        return resolved

    def plain(self, name: str) -> Resolved:
        """Find a feature group for a join of all its rows."""
        self._registry.get(name)  # a windowed group has no rows of its own to join
        return self._one(FeatureSelection(name))

    def manifest(self, manifest: Mapping[str, Any], *, engine: Engine = "duckdb") -> list[Resolved]:
        """Return what a dataset's manifest refers to, at the table versions it names.

        Args:
            manifest: see `Dataset`.
            engine: that will read the files.

        Raises:
            FeatureGroupNotFound, InvalidRequest: a group or its table is not there any more.
        """
        resolved = []
        for body in manifest["selections"]:
            definition = body.get("windows")
            windowed = None if definition is None else WindowedGroup.from_json(definition)
            entry = self._registry.get(body["group"] if windowed is None else windowed.source)
            version = manifest["versions"][body["group"]]
            snapshot = None
            if version is not None:
                snapshot = self._tables.open(entry, engine=engine).scan(version=version)
            table = manifest["tables"].get(body["group"])
            if snapshot is not None and snapshot.content_hash != table["content_hash"]:
                raise InvalidRequest(
                    f"{body['group']}: version {version} of {snapshot.uri} is not the table the "
                    f"dataset was built from ({table['uri']}); was the group created anew?"
                )
            lookback_us = body["lookback_us"]
            selection = FeatureSelection(
                body["group"],
                tuple(body["features"]),
                key=body["key"],
                prefix=body["prefix"],
                lookback=None if lookback_us is None else dt.timedelta(microseconds=lookback_us),
                version=version,
            )
            if windowed is not None:
                windows = Windows(windowed, entry.group)
                resolved.append(Resolved(selection, windows.schema, snapshot, windows))
                continue
            group = entry.group
            if not selection.features:  # it had none, so that features added since are not it
                bare = (group.record_identifier, group.event_time)
                group = replace(group, features=tuple(f for f in group.features if f.name in bare))
            resolved.append(Resolved(selection, group, snapshot))
        return resolved

    def _one(self, selection: FeatureSelection, engine: Engine = "duckdb") -> Resolved:
        groups = self._registry.current()
        name = selection.group
        windowed = None if name in groups else self._registry.windows().get(name)
        entry = named(groups, name) if windowed is None else windowed.source
        if not entry.group.offline:
            raise InvalidRequest(f"{name}: the group has no offline store to join with")
        if selection.version is None:
            snapshot = self._tables.flushed(entry, engine)
        else:
            snapshot = self._tables.open(entry, engine=engine).scan(version=selection.version)
        if windowed is None:
            return Resolved(selection, entry.group, snapshot)
        return Resolved(selection, windowed.windows.schema, snapshot, windowed.windows)
