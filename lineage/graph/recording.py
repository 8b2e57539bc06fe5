"""Recording in a graph: events one by one or several at once, tags, and those that waited."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from lineage.change import Draft, Recorded
from lineage.column import ColumnLineage
from lineage.entity import End, Entity, amended, derived_uid
from lineage.errors import LineageError, StoreUnavailable
from lineage.graph.draft import as_draft
from lineage.graph.looking import Looking
from lineage.questions import ask
from lineage.run import Run
from lineage.spool import Replayed

_LOOK_AGAIN_S = 5.0


class Recording(Looking):
    """The part of a graph that records."""

    def record(
        self,
        entities: Sequence[Entity] = (),
        associations: Sequence[tuple[End, End, str]] = (),
        *,
        kind: str,
        event_uid: str | None = None,
        actor: str | None = None,
        columns: Sequence[ColumnLineage] = (),
        runs: Sequence[Run] = (),
        tags: Sequence[tuple[End, str, str | None]] = (),
        aliases: Sequence[tuple[str, End]] = (),
        retract: Sequence[tuple[End, End, str]] = (),
        cycles: Literal["refuse", "allow"] = "refuse",
    ) -> Recorded:
        """Append one event: all of it or nothing, durable on return.

        Entities are merged into what is there: a later state replaces, later properties
        are added to the earlier ones or replace them by name, of each facet the one of the
        greater rank stays, and kind, type and name stay. New content at a known source uri
        becomes the next version, with a DerivedFrom association from the version before; a new
        artifact with bytes that are known at another place is SameAs the oldest of its type with
        them (content hashes that are a SHA-256; of 64 bytes or more where `bytes` says how many;
        places are paths and `scheme://` uris). An association that is there already stays one.

        Args:
            entities: to add or to merge.
            associations: (source, destination, type), the source upstream. An end is
                an entity, a uid or an alias; an entity that only stands here is recorded when
                it is new, and left as it is when known.
            kind: what happened, such as `JobCompleted`; 1 to 256 characters.
            event_uid: names the event. The same one again changes nothing and returns
                what the first returned, so a retry is safe. By default a new one.
            actor: who records; by default the user of the process.
            columns: which columns went into which.
            runs: executions of jobs.
            tags: (what is tagged, key, value); None takes the tag off.
            aliases: (another name, what it stands for); entities are found under it too.
            retract: associations that are valid no more from now on.
            cycles: whether an association may make something its own origin. A job that runs
                several times may have to: its second run reads what the first one wrote.

        Returns:
            The place in the log, and the entities as stored, with uid and version, in
            the order given. While the store is away and there is a spool: place 0, and the
            entities with the uid they will have.

        Raises:
            InvalidEntity: `kind`, `actor` or `event_uid` is no short text, or the event is
                too large.
            InvalidAssociation: an unknown type, equal ends, two experiment entities, a circle
                of causes, or an association to retract that is not there.
            EntityNotFound: an end is a uid that does not exist.
            EntityConflict: a uid or alias stands for something else.
            StoreUnavailable: nothing was written.
        """
        return self._append(
            as_draft(
                entities,
                associations,
                kind=kind,
                event_uid=event_uid,
                actor=actor,
                columns=columns,
                runs=runs,
                tags=tags,
                aliases=aliases,
                retract=retract,
                cycles=cycles,
            )
        )

    def record_all(self, drafts: Sequence[Draft]) -> list[Recorded | LineageError]:
        """Append several events in one transaction, in order; durable on return.

        Args:
            drafts: made by `lineage.as_draft`.

        Returns:
            for each its answer, or the error for which that one was refused; the others
            are in.

        Raises:
            StoreUnavailable: nothing was written.
        """
        return self._store.append_all(drafts)

    def replay_spool(self) -> Replayed:
        """Record the events that waited while the store was away.

        Raises:
            StoreUnavailable: it still is.
        """
        return Replayed(0, 0) if self._spool is None else self._spool.replay(self._store)

    def add_tags(
        self, entity: str | Entity, tags: Mapping[str, str], *, actor: str | None = None
    ) -> Recorded:
        """Put tags on an entity; one of the same key is replaced.

        Raises:
            EntityNotFound: the entity does not exist.
            InvalidEntity: a key or value is no short text.
            StoreUnavailable: nothing was written.
        """
        known = self.entity(ask.uid_of(entity))
        pairs = [(known.uid, key, value) for key, value in tags.items()]
        return self.record(tags=pairs, kind="TagsAdded", actor=actor)

    def delete_tags(
        self, entity: str | Entity, keys: Collection[str], *, actor: str | None = None
    ) -> Recorded:
        """Take tags off an entity; the log keeps that they were there.

        Raises:
            EntityNotFound: the entity does not exist.
            InvalidEntity: a key is no short text.
            StoreUnavailable: nothing was written.
        """
        known = self.entity(ask.uid_of(entity))
        gone = [(known.uid, key, None) for key in ((keys,) if isinstance(keys, str) else keys)]
        return self.record(tags=gone, kind="TagsDeleted", actor=actor)

    def _append(self, draft: Draft) -> Recorded:
        """Append an event behind those that wait, or let it wait with them."""
        if self._spool is None:
            return self._store.append(draft)
        try:
            # A store that was away a moment ago is not waited for with every event.
            if time.monotonic() < self._away_until:
                raise StoreUnavailable("the store was away a moment ago")
            if self._spool:
                self._spool.replay(self._store)
            return self._store.append(draft)
        except StoreUnavailable:
            self._away_until = time.monotonic() + _LOOK_AGAIN_S
            self._spool.put(draft)
        entities = (
            amended(entity, uid=entity.uid or derived_uid(entity)) for entity in draft.entities
        )
        return Recorded(0, tuple(entities))
