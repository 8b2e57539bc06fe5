"""Feature groups: made, changed, described, found and ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, final

import lineage
from featurestore import eventtime
from featurestore.embedded.tables import Tables
from featurestore.metadata import FeatureMetadata, MetadataChange
from featurestore.offline import Flusher
from featurestore.online import OnlineStore
from featurestore.provenance import record_feature_group, recorded_work
from featurestore.registry import Registered, Registry
from featurestore.schema import FeatureGroup, check_place
from featurestore.sealing import Sealing
from featurestore.search import Expression, Filter, Resource, matches, sort_key
from featurestore.store import Description, expression_of, resource_of

__all__ = ["Groups"]


@final
class Groups:
    """The feature groups of one home.

    Args:
        registry: of the home.
        online: the online store.
        sealing: of the home.
        flusher: of the home.
        tables: of the home.
        graph: opens the lineage graph of the home.
        now: the clock, µs since the epoch.
    """

    def __init__(
        self,
        registry: Registry,
        online: OnlineStore,
        sealing: Sealing,
        *,
        flusher: Flusher,
        tables: Tables,
        graph: Callable[[], lineage.Graph],
        now: Callable[[], int],
    ) -> None:
        self._registry = registry
        self._online = online
        self._sealing = sealing
        self._flusher = flusher
        self._tables = tables
        self._graph = graph
        self._now = now

    def create(self, group: FeatureGroup) -> Description:
        """See FeatureStore.create_feature_group.

        A group that names no place for its offline table gets the one that `$FEATURELINE_OFFLINE`
        names at this moment (`s3://BUCKET/PREFIX`), for good; without it, the home.
        """
        default = os.environ.get("FEATURELINE_OFFLINE", "")
        if group.offline and not group.offline_place and default:
            group = group.with_offline_place(check_place(default, "$FEATURELINE_OFFLINE"))
        return self.described(self._registry.create(group, now=self._now(), also=self._begin))

    def all(self) -> list[Description]:
        """Describe every feature group, in the order of their names."""
        return [self.described(entry) for entry in self._registry.list()]

    def change(self, name: str, change: Callable[[FeatureGroup], FeatureGroup]) -> Description:
        """Store a group as a function makes it of its present state."""
        return self.described(
            self._registry.update(name, change, now=self._now(), also=self._record)
        )

    def described(self, entry: Registered) -> Description:
        """Describe a registered group."""
        return Description(
            entry.group,
            entry.version,
            eventtime.to_datetime(entry.created_us),
            eventtime.to_datetime(entry.modified_us),
            self._tables.uri(entry) if entry.group.offline else "",
        )

    def metadata(self, group: str, feature: str) -> FeatureMetadata:
        """See FeatureStore.feature_metadata."""
        self._registry.get(group).group.feature_type(feature)
        return next(f for f in self._registry.metadata([group]) if f.feature.name == feature)

    def change_metadata(self, group: str, feature: str, change: MetadataChange) -> FeatureMetadata:
        """See FeatureStore.update_feature_metadata."""
        self._registry.change_metadata(group, feature, change, now=self._now())
        return self.metadata(group, feature)

    def search(
        self,
        resource: Resource | str,
        expression: Expression | Filter | None = None,
        *,
        sort_by: str = "LastModifiedTime",
        descending: bool = True,
    ) -> list[Any]:
        """See FeatureStore.search."""
        chosen = resource_of(resource)
        fulfils = matches(chosen, expression_of(expression))
        key = sort_key(chosen, sort_by)
        entries: Iterable[Any] = self.all()
        if chosen is Resource.FEATURE_METADATA:
            entries = self._registry.metadata([entry.group.name for entry in entries])
        found = [(entry.to_json(), entry) for entry in entries]
        hits = [(document, entry) for document, entry in found if fulfils(document)]
        hits.sort(key=lambda hit: key(hit[0]), reverse=descending)
        return [entry for _, entry in hits]

    def delete(self, name: str) -> None:
        """See FeatureStore.delete_feature_group."""
        entry = self._registry.get(name)
        with recorded_work(self._graph(), "GroupDeletion", name, changes=False):
            self._tables.flush(entry)  # acknowledged records reach the offline table, which stays
            self.end(self._registry.delete(name, now=self._now()))

    def end(self, entry: Registered) -> None:
        """Take away what a deleted group had; may be repeated after a kill."""
        # Records acknowledged until the delete reach the table, before the drop takes the outbox.
        self._flusher.flush(lambda: entry, self._tables.open(entry))
        self._sealing.destroy(entry)
        self._online.drop(entry.number)

    def _begin(self, entry: Registered) -> None:
        self._sealing.create(entry)  # first: without a key nothing is told of the group
        self._record(entry)

    def _record(self, entry: Registered) -> None:
        record_feature_group(self._graph(), entry, self._tables.uri(entry))
