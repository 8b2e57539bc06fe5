"""The lineage graph of a store, put together from its parts."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self, final

from lineage.graph.asking import Asking
from lineage.graph.exporting import Exporting
from lineage.graph.proving import Proving
from lineage.graph.recording import Recording
from lineage.graph.walking import Walking
from lineage.mirror import Mirroring
from lineage.questions import DataChanges
from lineage.spool import Spool
from lineage.store import LineageStore
from lineage.store.postgres import PostgresStore
from lineage.store.sqlite import SQLiteStore


def open(  # noqa: A001 - `lineage.open` is the front door
    path: str | Path, *, changes: DataChanges | None = None
) -> Graph:
    """Open the lineage graph in the file at `path`, made when absent.

    Any number of threads and processes may have it open. The file has to lie on
    a local disk. A `postgresql://` URL opens a graph that many machines share instead; see
    `PostgresStore.open`.

    Args:
        path: of the file.
        changes: as for `Graph`.

    Raises:
        NotALineageFile: the path holds something else; it is not touched.
        StoreUnavailable: the path cannot be read or written.
        StoreCorrupt: the file is damaged.
    """
    if isinstance(path, str) and path.startswith(("postgresql://", "postgres://")):
        return Graph(PostgresStore.open(path), changes=changes)
    return Graph(SQLiteStore.open(path), changes=changes)


@final
class Graph(Recording, Walking, Asking, Proving, Exporting):
    """Entities and the associations between them, recorded event by event.

    May be used from any thread. As a context manager it closes at the end.

    Args:
        store: where the graph is kept.
        changes: says what changed between two versions of data, for `diff`.
        spool: where events wait while the store is away; None: they are refused then.

    >>> from lineage import MemoryStore, artifact, trial_component
    >>> graph = Graph(MemoryStore())
    >>> data = artifact("DataSet", "s3://bucket/flights.parquet", content_hash="51b2")
    >>> job = trial_component("TrainingJob", "flights-1", state="Completed")
    >>> model = artifact("Model", "s3://bucket/model.tar.gz", content_hash="9f2c")
    >>> recorded = graph.record(
    ...     [data, job, model],
    ...     [(data, job, "ContributedTo"), (job, model, "Produced")],
    ...     kind="JobCompleted",
    ... )
    >>> [entity.name for entity in graph.query(recorded.entities[2], "ascendants")]
    ['model.tar.gz', 'flights-1', 'flights.parquet']
    """

    def __init__(
        self,
        store: LineageStore,
        *,
        changes: DataChanges | None = None,
        spool: Spool | None = None,
    ) -> None:
        self._store = store
        self._changes = changes
        self._spool = spool
        self._away_until = 0.0
        self._mirroring = Mirroring(store)

    @property
    def store(self) -> LineageStore:
        """Where the graph is kept, for those who follow its log."""
        return self._store

    @property
    def mirroring(self) -> Mirroring:
        """The associations in memory, when that is worth it."""
        return self._mirroring

    @property
    def spool(self) -> Spool | None:
        """Where events wait while the store is away."""
        return self._spool

    def close(self) -> None:
        """Close the store; idempotent. What was recorded is durable already."""
        self._mirroring.close()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
