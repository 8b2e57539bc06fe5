"""What a server takes before it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from featurestore.wire import MAX_MESSAGE_BYTES

__all__ = ["DEFAULT_LIMITS", "Limits"]


@final
@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that keep memory and waiting bounded, whatever clients do.

    Args:
        waiting: writes that may wait for a transaction.
        waiting_bytes: what the requests of these may weigh together.
        batch: calls in one transaction.
        batch_bytes: what the requests of these may weigh together; one larger call goes alone.
        stream_bytes: what a stream of records may be ahead of its acknowledgements.
        message_bytes: of one request or reply.
        unread_bytes: of large replies that clients have asked for and not read yet, together.
        metadata_bytes: of a call's metadata.
        calls_per_connection: under way at once; a client with more waits.
        keepalive_s: after so long without a word a connection is asked whether its client lives.
        keepalive_timeout_s: how long it has to answer before it is closed.
    """

    waiting: int = 20_000
    waiting_bytes: int = 64 << 20
    batch: int = 4096
    batch_bytes: int = 16 << 20
    stream_bytes: int = 4 << 20
    message_bytes: int = MAX_MESSAGE_BYTES
    unread_bytes: int = 256 << 20
    metadata_bytes: int = 16 << 10
    calls_per_connection: int = 512
    keepalive_s: float = 60.0
    keepalive_timeout_s: float = 20.0

    def channel_options(self) -> list[tuple[str, int]]:
        """Return these limits as the options of a `grpc.aio` server that faces clients."""
        return [
            *self.message_options(),
            # Both: between the two C-core refuses calls at random.
            ("grpc.max_metadata_size", self.metadata_bytes),
            ("grpc.absolute_max_metadata_size", self.metadata_bytes),
            ("grpc.max_concurrent_streams", self.calls_per_connection),
            ("grpc.keepalive_time_ms", round(self.keepalive_s * 1000)),
            ("grpc.keepalive_timeout_ms", round(self.keepalive_timeout_s * 1000)),
            ("grpc.http2.ping_timeout_ms", round(self.keepalive_timeout_s * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", _MIN_CLIENT_PING_MS),
        ]

    def message_options(self) -> list[tuple[str, int]]:
        """Return only the sizes of messages: for a server behind the native front."""
        return [
            ("grpc.max_receive_message_length", self.message_bytes),
            ("grpc.max_send_message_length", self.message_bytes),
        ]


# Clients that ask for keepalive of their own should not be taken for an attack.
_MIN_CLIENT_PING_MS: Final = 10_000
DEFAULT_LIMITS: Final = Limits()
