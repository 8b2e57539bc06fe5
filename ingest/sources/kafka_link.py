"""The seam between the Kafka source and the client library that talks to the brokers."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, final

from ingest.source import Message
from ingest.sources.kafka_security import KafkaSecurity

__all__ = ["FaultKind", "KafkaFault", "KafkaLink", "LinkSettings", "Topic"]


class FaultKind(enum.Enum):
    """What went wrong between this process and the brokers, in words that both clients share."""

    AWAY = "no answer"
    GAP = "the position is outside of what the broker has"
    NO_TOPIC = "unknown topic"
    TLS = "TLS refused"
    NO_LOGIN = "login required"
    MECHANISM = "SASL mechanism not offered"
    LOGIN = "authentication failed"
    TOPIC_RIGHT = "not authorised for the topic"
    GROUP_RIGHT = "not authorised for the consumer group"
    CLUSTER_RIGHT = "not authorised for the cluster"
    CODEC = "unknown compression"
    SETTING = "wrong setting"
    OTHER = "refused"


@final
class KafkaFault(Exception):
    """A client library's error, told apart by kind.

    Never leaves the source: it becomes one of `ingest.errors` there.

    Args:
        kind: what it is.
        text: the library's or the broker's own words.
        partition: where, for a gap.
        operation: what was being done, in Kafka's word for the right (`Read`, `Describe`).
    """

    def __init__(
        self, kind: FaultKind, text: str, *, partition: int | None = None, operation: str = "Read"
    ) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.partition = partition
        self.operation = operation


class Topic(NamedTuple):
    """A topic as the brokers describe it now."""

    id: str  # another one when the topic was made anew; "" where the brokers do not say
    partitions: frozenset[int]


@final
@dataclass(frozen=True, slots=True)
class LinkSettings:
    """What a link needs to know, the same for every client library.

    Args:
        servers: addresses, `HOST:PORT`.
        topic: the topic.
        group: the consumer group.
        is_member: whether the group assigns the partitions.
        max_poll_interval_s: how long a member may go without a poll.
        session_timeout_s: how long the group waits for a silent member.
        heartbeat_interval_s: how often a member shows that it lives.
        metadata_age_s: how often the client asks for the topic's partitions.
        max_buffer_bytes: how much the client may hold that was not polled yet.
        security: TLS and SASL.
        client_settings: the library's own names, which win.
    """

    servers: Sequence[str]
    topic: str
    group: str
    is_member: bool
    max_poll_interval_s: float
    session_timeout_s: float
    heartbeat_interval_s: float
    metadata_age_s: float
    max_buffer_bytes: int
    security: KafkaSecurity
    client_settings: Mapping[str, object] = field(default_factory=dict, repr=False)


class KafkaLink(ABC):
    """One consumer of one topic, through one client library.

    Used by one thread. All verbs raise KafkaFault and nothing else of the library's. A partition
    that the group assigns stays silent until `seek` has placed it.
    """

    @abstractmethod
    def open(self, timeout_s: float) -> str:
        """Connect, and return the cluster's id, or "" where it has none."""

    @abstractmethod
    def describe(self, timeout_s: float) -> Topic:
        """Ask the brokers for the topic as it is now; NO_TOPIC when there is none."""

    @abstractmethod
    def topics(self, timeout_s: float) -> Collection[str]:
        """Ask for the names of all topics that this client may see."""

    @abstractmethod
    def join(self, on_change: Callable[[bool], None]) -> None:
        """Let the group assign partitions.

        Args:
            on_change: told True when partitions were assigned, False when they were revoked; in
                any thread, and must return at once.
        """

    @abstractmethod
    def assign(self, partitions: Collection[int]) -> None:
        """Read these partitions without the group. `seek` places them."""

    @abstractmethod
    def assigned(self) -> frozenset[int]:
        """Return the partitions that this consumer has now."""

    @abstractmethod
    def seek(self, positions: Mapping[int, int | None]) -> None:
        """Read each assigned partition from its position, None: its beginning.

        Drops what was fetched, and resumes what was paused.
        """

    @abstractmethod
    def poll(self, max_records: int, timeout_s: float) -> Mapping[int, list[Message]]:
        """Return the next messages by partition, and keep the membership of the group alive."""

    @abstractmethod
    def pause(self) -> None:
        """Let no assigned partition give messages; `resume` and `seek` end that."""

    @abstractmethod
    def resume(self) -> None:
        """Let all assigned partitions give messages again, from where they stood."""

    @abstractmethod
    def end(self, partition: int) -> int | None:
        """Return the partition's end as its last read told it; None before. Never raises."""

    @abstractmethod
    def position(self, partition: int) -> int | None:
        """Return the next offset to be read, marks of transactions counted in. Never raises."""

    @abstractmethod
    def bounds(self, partition: int, timeout_s: float) -> tuple[int, int]:
        """Ask for the first offset that is left, and the one after the last."""

    @abstractmethod
    def commit(self, positions: Mapping[int, int]) -> None:
        """Write offsets for lag tools, without waiting for the answer."""

    @abstractmethod
    def close(self, timeout_s: float) -> None:
        """Leave the group and disconnect. May be called twice, and before `open`."""
