"""Many rows into an offline table at once: sorted files, one commit, under a name of its own.

The files are written before the commit and belong to no version until it is there. A kill leaves
files that a later vacuum takes away. The commit carries an application transaction, so that who
tries again can ask the table whether it is in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import pyarrow as pa
from deltalake import CommitProperties, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, create_table_with_add_actions

from featurestore import eventtime
from featurestore.errors import StoreFull, StoreUnavailable
from featurestore.offline.delta import TABLE_PROPERTIES, DeltaOfflineTable
from featurestore.offline.files import PARTITION, FilesOfCommit

__all__ = ["append_sorted"]

_DAY_US: Final = 86_400_000_000
_TRIES: Final = 5


def append_sorted(
    table: DeltaOfflineTable,
    rows: pa.RecordBatchReader,
    *,
    identifier: str,
    application: str,
    transaction: int,
    metadata: Mapping[str, str],
    on_rows: Callable[[int], None] = lambda rows: None,
    on_files: Callable[[], None] = lambda: None,
) -> int:
    """Append rows as one commit; return the table's version.

    Holds a row group of one event date at a time. The caller is the only one that appends to the
    table, and has looked whether the transaction is in.

    Args:
        table: the group's table; made when absent.
        rows: with the columns of the table, sorted by `_event_date`, identifier and version.
        identifier: the column of the record identifier.
        application: names the transaction.
        transaction: its number, > 0.
        metadata: kept in the commit.
        on_rows: called with the number of rows written so far.
        on_files: called when all files are written and nothing is committed.

    Raises:
        StoreUnavailable, StoreFull: nothing was committed.
    """
    columns = rows.schema.remove(rows.schema.get_field_index(PARTITION))
    writer = FilesOfCommit(table, columns, identifier=identifier, kind="load", changes_data=True)
    try:
        try:
            written = 0
            for batch in rows:
                _add(writer, batch, columns)
                written += len(batch)
                on_rows(written)
            writer.close()
            on_files()
            return _commit(
                table, rows.schema, writer.actions, metadata, Transaction(application, transaction)
            )
        except BaseException:
            # A commit may be in although its answer was lost: then the files belong to the table.
            if not _is_in(table, application, transaction):
                writer.remove()
            raise
    except (DeltaError, OSError) as error:
        kind = StoreFull if isinstance(table.failure(error), StoreFull) else StoreUnavailable
        raise kind(
            f"the offline table {table.uri}: {error}; load again with the same key: what is stored "
            f"already is not stored twice"
        ) from error


def _add(writer: FilesOfCommit, batch: pa.RecordBatch, columns: pa.Schema) -> None:
    days = batch.column(PARTITION).cast(pa.int32()).to_numpy()
    (ends,) = np.nonzero(np.diff(days))
    data = batch.select(columns.names)
    start = 0
    for end in [*(ends + 1).tolist(), len(batch)]:
        if end > start:
            date = eventtime.format_iso(int(days[start]) * _DAY_US)[:10]
            writer.add(date, data.slice(start, end - start))
        start = end


def _commit(
    table: DeltaOfflineTable,
    schema: pa.Schema,
    actions: list[AddAction],
    metadata: Mapping[str, str],
    transaction: Transaction,
) -> int:
    commit = CommitProperties(custom_metadata=dict(metadata), app_transactions=[transaction])
    attempt = 0
    while True:
        try:
            return _commit_once(table, schema, actions, commit)
        except CommitFailedError:
            # Another writer changed what no append can pass, such as the properties.
            attempt += 1
            if _is_in(table, transaction.app_id, transaction.version):
                return int(table.version() or 0)
            if attempt == _TRIES:
                raise
            time.sleep(0.05 * 2**attempt)


def _commit_once(
    table: DeltaOfflineTable, schema: pa.Schema, actions: list[AddAction], commit: CommitProperties
) -> int:
    opened = table.open()
    if opened is None:
        # The folder's first commit carries files and transaction together.
        create_table_with_add_actions(
            table.uri,
            Schema.from_arrow(schema),
            actions,
            mode="error",
            partition_by=[PARTITION],
            configuration=dict[str, str | None](TABLE_PROPERTIES),
            storage_options=table.storage_options,
            commit_properties=commit,
        )
        return int(table.version() or 0)
    has = {field.name for field in opened.schema().fields}
    added = [field for field in Schema.from_arrow(schema).fields if field.name not in has]
    if added:
        opened.alter.add_columns(added)
        opened = table.open()
        assert opened is not None
    opened.create_write_transaction(
        list(actions),
        mode="append",
        schema=opened.schema(),
        partition_by=[PARTITION],
        commit_properties=commit,
    )
    return int(table.version() or 0)


def _is_in(table: DeltaOfflineTable, application: str, transaction: int) -> bool:
    try:
        opened = table.open()
        return opened is not None and opened.transaction_version(application) == transaction
    except (DeltaError, OSError):
        return True  # not known
