"""Questions with filters: their words, the same for a graph here and for one of a server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from lineage.association import AssociationType
from lineage.entity import JSON, Entity, Kind
from lineage.filter import Filter, as_filter
from lineage.query import Direction, Query, as_query
from lineage.questions import CommonEntities
from lineage.result import LineageResult


class Filtered(ABC):
    """The questions that take filters, in words; a graph and the client of a server answer them."""

    def query(
        self,
        start: str | Entity,
        direction: Direction | str = Direction.ASCENDANTS,
        *,
        depth: int | None = None,
        types: Collection[str] | None = None,
        kinds: Collection[Kind | str] | None = None,
        states: Collection[str] | None = None,
        uris: Collection[str] | None = None,
        properties: Mapping[str, JSON] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        modified_after: datetime | None = None,
        modified_before: datetime | None = None,
        through: Collection[AssociationType | str] | None = None,
        include_edges: bool = True,
        limit: int | None = None,
        max_walked: int | None = None,
        as_of: int | datetime | None = None,
    ) -> LineageResult:
        """Walk from one entity, over one state of the graph.

        Filters restrict what is returned, not what is walked: the values of one filter
        are alternatives, and all filters have to match. The start is in the answer when
        it matches. Cycles end the walk where they meet it.

        Args:
            start: the entity, its uid or an alias.
            direction: ascendants, descendants, both or either; `both` walks both ways from
                every visited entity, `either` joins ascendants and descendants.
            depth: most associations from the start; None for no limit.
            types: entity types to return; None for all.
            kinds: kinds to return; None for all.
            states: states to return; None for all.
            uris: beginnings of source uris to return, such as `s3://lake/`; None for all.
            properties: pairs of which any has to be there; dots in a name look into nested
                values, and facets count too.
            created_after: created at or after this time.
            created_before: created before or at this time.
            modified_after: last modified at or after this time.
            modified_before: last modified before or at this time.
            through: association types to walk along; None for all.
            include_edges: whether to return the associations too; with filters those on
                the paths to what matches, and the entities there.
            limit: most entities to return, nearest first; None for all.
            max_walked: most entities to visit, nearest first; None for all.
            as_of: the graph exactly as it was after the event of this sequence, or at this
                time; None for the present.

        Raises:
            EntityNotFound: the start does not exist.
            InvalidQuery: an unknown direction or a depth, limit or time out of range.
            InvalidEntity: an unknown kind.
            InvalidAssociation: an unknown association type.

        Cost: grows with what is walked, not with the graph.
        """
        return self._queried(
            as_query(
                start,
                direction,
                depth=depth,
                wanted=as_filter(
                    kinds=kinds,
                    types=types,
                    states=states,
                    uris=uris,
                    properties=properties,
                    created_after=created_after,
                    created_before=created_before,
                    modified_after=modified_after,
                    modified_before=modified_before,
                ),
                include_edges=include_edges,
                limit=limit,
                through=through,
                max_walked=max_walked,
                as_of=as_of,
            )
        )

    def search(
        self,
        *,
        name: str | None = None,
        types: Collection[str] | None = None,
        kinds: Collection[Kind | str] | None = None,
        states: Collection[str] | None = None,
        uris: Collection[str] | None = None,
        properties: Mapping[str, JSON] | None = None,
        tags: Mapping[str, str | None] | None = None,
        source_uri: str | None = None,
        content_hash: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        modified_after: datetime | None = None,
        modified_before: datetime | None = None,
        limit: int | None = None,
        as_of: int | datetime | None = None,
    ) -> list[Entity]:
        """The entities that fit in every way asked for, newest first.

        Args:
            name: exactly this.
            types: any of these, as the filters that follow are for `query`.
            kinds: any of these.
            states: any of these.
            uris: begins like any of these.
            properties: any of these pairs.
            tags: all of these, of any value where it is None.
            source_uri: exactly this.
            content_hash: of artifacts, begins like this.
            created_after: created at or after this time.
            created_before: created before or at this time.
            modified_after: last modified at or after this time.
            modified_before: last modified before or at this time.
            limit: most to return.
            as_of: as for `query`.

        Raises:
            InvalidEntity: an unknown kind.
            InvalidQuery: a limit or point in time that is none.

        Cost: by name, uri, types or tags an index is used; the content hash alone is looked for
        in all artifacts, and by anything else alone the whole graph is read.
        """
        return self._searched(
            as_filter(
                kinds=kinds,
                types=types,
                states=states,
                uris=uris,
                properties=properties,
                created_after=created_after,
                created_before=created_before,
                modified_after=modified_after,
                modified_before=modified_before,
            ),
            name=name,
            source_uri=source_uri,
            content_hash=content_hash,
            tags=tags or {},
            limit=limit,
            as_of=as_of,
        )

    def common_ancestors(
        self,
        *entities: str | Entity,
        depth: int | None = None,
        types: Collection[str] | None = None,
        kinds: Collection[Kind | str] | None = None,
        states: Collection[str] | None = None,
        uris: Collection[str] | None = None,
        properties: Mapping[str, JSON] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        modified_after: datetime | None = None,
        modified_before: datetime | None = None,
        through: Collection[AssociationType | str] | None = None,
        limit: int | None = None,
        as_of: int | datetime | None = None,
    ) -> CommonEntities:
        """What all of some entities come from, nearest first; `.closest` are the lowest ones.

        Each of the entities counts as its own ancestor. The other arguments are those of
        `query`; filters restrict what is returned, and not which ones are the closest.

        Raises:
            EntityNotFound: one does not exist.
            InvalidQuery: less than two entities, or a number or point in time out of range.

        Cost: one walk from each of them.
        """
        return self._in_common(
            entities,
            as_filter(
                kinds=kinds,
                types=types,
                states=states,
                uris=uris,
                properties=properties,
                created_after=created_after,
                created_before=created_before,
                modified_after=modified_after,
                modified_before=modified_before,
            ),
            upstream=True,
            depth=depth,
            through=through,
            limit=limit,
            as_of=as_of,
        )

    def common_descendants(
        self,
        *entities: str | Entity,
        depth: int | None = None,
        types: Collection[str] | None = None,
        kinds: Collection[Kind | str] | None = None,
        states: Collection[str] | None = None,
        uris: Collection[str] | None = None,
        properties: Mapping[str, JSON] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        modified_after: datetime | None = None,
        modified_before: datetime | None = None,
        through: Collection[AssociationType | str] | None = None,
        limit: int | None = None,
        as_of: int | datetime | None = None,
    ) -> CommonEntities:
        """What comes from all of some entities, nearest first; see `common_ancestors`."""
        return self._in_common(
            entities,
            as_filter(
                kinds=kinds,
                types=types,
                states=states,
                uris=uris,
                properties=properties,
                created_after=created_after,
                created_before=created_before,
                modified_after=modified_after,
                modified_before=modified_before,
            ),
            upstream=False,
            depth=depth,
            through=through,
            limit=limit,
            as_of=as_of,
        )

    @abstractmethod
    def _queried(self, query: Query) -> LineageResult:
        """Walk."""

    @abstractmethod
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
        """Find the entities that fit, newest first."""

    @abstractmethod
    def _in_common(
        self,
        entities: Sequence[str | Entity],
        wanted: Filter,
        *,
        upstream: bool,
        depth: int | None,
        through: Collection[AssociationType | str] | None,
        limit: int | None,
        as_of: int | datetime | None,
    ) -> CommonEntities:
        """Find what is upstream, or downstream, of all."""
