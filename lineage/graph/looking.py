"""Looking up what a graph has: entities, their runs and tags, events, numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from lineage.entity import Entity, Kind, as_kind, derived_uid, to_us
from lineage.filter import Filter
from lineage.graph.filtered import Filtered
from lineage.graph.kept import Kept
from lineage.query import check_as_of, located, viewed
from lineage.questions import EventSummary, ask
from lineage.run import Run


class Looking(Kept, Filtered):
    """The part of a graph that looks up, and walks nowhere."""

    def entity(self, uid: str, *, as_of: int | datetime | None = None) -> Entity:
        """The entity with this uid or alias.

        Args:
            uid: of the entity, or another name of it.
            as_of: as for `query`.

        Raises:
            EntityNotFound: there is none; the error names the nearest.
            InvalidQuery: `as_of` is no point in time.
        """
        with viewed(self._store, as_of) as view:
            known, _ = located(view, uid)
            return view.by_uid([known])[known]

    def get(self, uid: str, *, as_of: int | datetime | None = None) -> Entity | None:
        """The entity with this uid, or None; no other name counts, and none is suggested.

        Raises:
            InvalidQuery: `as_of` is no point in time.
        """
        with viewed(self._store, as_of) as view:
            return view.by_uid([uid]).get(uid)

    def find(
        self,
        kind: Kind | str | None = None,
        type: str | None = None,
        name: str | None = None,
        source_uri: str | None = None,
        *,
        as_of: int | datetime | None = None,
    ) -> list[Entity]:
        """The entities equal in every field given, oldest first.

        Raises:
            InvalidEntity: there is no such kind.
            InvalidQuery: `as_of` is no point in time.
        """
        wanted = None if kind is None else as_kind(kind)
        with viewed(self._store, as_of) as view:
            return view.find(kind=wanted, type=type, name=name, source_uri=source_uri)

    def _searched(
        self,
        wanted: Filter,
        *,
        name: str | None,
        source_uri: str | None,
        content_hash: str | None,
        tags: Mapping[str, str | None],
        limit: int | None,
        as_of: int | datetime | None,
    ) -> list[Entity]:
        return ask.search(
            self._store,
            wanted=wanted,
            name=name,
            source_uri=source_uri,
            content_hash=content_hash,
            tags=tags,
            limit=limit,
            as_of=as_of,
        )

    def runs(self, job: str | Entity, *, as_of: int | datetime | None = None) -> list[Run]:
        """The executions of a job, in order of their start.

        Raises:
            EntityNotFound: the job does not exist.
        """
        uid = (job.uid or derived_uid(job)) if isinstance(job, Entity) else job
        with viewed(self._store, as_of) as view:
            return view.runs(located(view, uid)[1])

    def tags(self, entity: str | Entity, *, as_of: int | datetime | None = None) -> dict[str, str]:
        """The tags of an entity.

        Raises:
            EntityNotFound: it does not exist.
        """
        uid = (entity.uid or derived_uid(entity)) if isinstance(entity, Entity) else entity
        with viewed(self._store, as_of) as view:
            _, node = located(view, uid)
            return view.tags([node]).get(node, {})

    def tagged(
        self, key: str, value: str | None = None, *, as_of: int | datetime | None = None
    ) -> list[Entity]:
        """The entities with a tag, of any value when none is given, oldest first."""
        with viewed(self._store, as_of) as view:
            return list(view.entities(view.tagged(key, value)))

    def events(
        self,
        entity: str | Entity | None = None,
        *,
        kinds: Collection[str] | None = None,
        actors: Collection[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[EventSummary]:
        """The newest events of the log that fit in every way, newest first.

        Args:
            entity: only events that recorded it.
            kinds: any of these kinds of event.
            actors: recorded by any of these.
            since: at or after this time.
            until: before or at this time.
            before: only events before this sequence, to go on where the last answer ended.
            limit: most to return.

        Raises:
            EntityNotFound: the entity does not exist.
            InvalidQuery: a number or time that is none.

        Cost: reads the log from its end until enough are found.
        """
        return ask.events(
            self._store,
            entity,
            kinds=kinds,
            actors=actors,
            since=since,
            until=until,
            before=before,
            limit=limit,
        )

    def sequence_at(self, time: datetime) -> int:
        """The sequence of the last event recorded at or before a time; 0 before the first.

        Raises:
            InvalidQuery: the time has no zone.
        """
        check_as_of(time)
        with self._store.view() as view:
            return view.sequence_at(to_us(time))

    def last_sequence(self) -> int:
        """The sequence of the last event; 0 when there is none. Cheap."""
        return self._store.head().sequence

    def stats(self) -> dict[str, int]:
        """How many `events`, `entities` and `associations` there are."""
        with self._store.view() as view:
            return view.counts()
