"""Requests and replies: plain functions that both clients and the server share.

Nothing here sends anything; `client`, `aio` and `server` only differ in how they do.

- `channel`: channels; `error`: errors in trailers.
- `value`, `record`, `batch`: records on the wire, single and in batches.
- `offline`: flushes, selections and tables.
- `asof`, `control`, `dataset`, `impact`, `transfer`, `window`: the calls of these subjects.
"""

from featurestore.wire.batch import THROTTLED_WAIT_S, RowBatch, Unprocessed, WriteBatch, records_of
from featurestore.wire.channel import CHANNEL_OPTIONS, MAX_MESSAGE_BYTES, login, open_channel
from featurestore.wire.error import error_metadata, raise_from_rpc
from featurestore.wire.offline import (
    CHUNK_BYTES,
    as_of_from,
    flushed_from,
    manifest_message,
    selection_message,
    selections_from,
    set_moment,
    table_chunks,
    table_from,
    verify_from,
)
from featurestore.wire.record import (
    batch_get_message,
    found_from,
    position_from,
    position_message,
    put_message,
    read_throttled,
    records_from,
    stores_from,
    ttl_from,
    update_features,
    update_message,
)
from featurestore.wire.value import event_time_text, text

__all__ = [
    "CHANNEL_OPTIONS",
    "CHUNK_BYTES",
    "MAX_MESSAGE_BYTES",
    "THROTTLED_WAIT_S",
    "RowBatch",
    "Unprocessed",
    "WriteBatch",
    "as_of_from",
    "batch_get_message",
    "error_metadata",
    "event_time_text",
    "flushed_from",
    "found_from",
    "login",
    "manifest_message",
    "open_channel",
    "position_from",
    "position_message",
    "put_message",
    "raise_from_rpc",
    "read_throttled",
    "records_from",
    "records_of",
    "selection_message",
    "selections_from",
    "set_moment",
    "stores_from",
    "table_chunks",
    "table_from",
    "text",
    "ttl_from",
    "update_features",
    "update_message",
    "verify_from",
]
