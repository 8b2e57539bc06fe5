"""Kafka topics as a source: the group assigns partitions, the store says where to read on."""

from __future__ import annotations

import difflib
import logging
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, final

from kafka import KafkaAdminClient, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.errors import (
    AuthorizationError,
    KafkaError,
    KafkaTimeoutError,
    OffsetOutOfRangeError,
    RetriableError,
    UnsupportedCodecError,
)

import lineage
from featurestore import PartitionPosition
from ingest.errors import IngestError, PositionLost, SourceNotFound, SourceUnavailable
from ingest.source import Batch, Message, Source, StoredPositions

__all__ = ["KafkaSource"]

_log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_MS: Final = 10_000
_CONNECT_PAUSE_S: Final = 0.2
# How long a broker may stay silent before it is asked whether it is there at all.
_PROBE_AFTER_S: Final = 5.0
_PROBE_TIMEOUT_MS: Final = 5_000
_CLOSE_TIMEOUT_MS: Final = 3_000


@final
class KafkaSource(Source):
    """Reads one topic, each partition from the position that the store has for it.

    Offsets that the consumer group has committed are never read: they are written after the
    store's own commit so that lag tools show something. Messages of aborted transactions are left
    out.

    Caught up means: at the end that each partition had when this process first read from it.

    Args:
        bootstrap: `HOST:PORT`, several separated by commas.
        topic: the topic's name.
        consumer_group: the Kafka consumer group, and part of the source's name: another group
            reads the topic from its beginning. Give each feature group one of its own, since
            members of one group share the partitions out among themselves.
        assignment: `"group"`: the consumer group shares the partitions out among its members, and
            again when one comes or goes. `"all"`: this process reads all partitions that the topic
            has now, at once and without joining the group; two such processes are safe but do the
            same work twice.
        max_poll_interval_s: how long storing one batch may take before the group gives this
            member's partitions to another.
        session_timeout_s: how long the group waits for a member that fell silent.
        heartbeat_interval_s: at most a third of the session timeout.
        unavailable_timeout_s: how long the broker may be away before `poll` gives up.
        on_gap: what to do when the topic's retention has removed messages before they were
            stored: `"fail"` with PositionLost, or `"skip"` to the first that is left, with a
            warning in the log.
        security: settings of `kafka.KafkaConsumer` for TLS and SASL (`security_protocol`,
            `ssl_…`, `sasl_…`).

    Raises:
        ValueError: an argument is empty or not one of the choices.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        *,
        consumer_group: str,
        assignment: Literal["group", "all"] = "group",
        max_poll_interval_s: float = 300.0,
        session_timeout_s: float = 45.0,
        heartbeat_interval_s: float = 3.0,
        unavailable_timeout_s: float = 60.0,
        on_gap: Literal["fail", "skip"] = "fail",
        security: Mapping[str, object] | None = None,
    ) -> None:
        for what, value in (
            ("bootstrap", bootstrap),
            ("topic", topic),
            ("consumer_group", consumer_group),
        ):
            if not value:
                raise ValueError(f"{what}: expected a name, got {value!r}")
        if assignment not in ("group", "all"):
            raise ValueError(f"assignment: expected 'group' or 'all', got {assignment!r}")
        if on_gap not in ("fail", "skip"):
            raise ValueError(f"on_gap: expected 'fail' or 'skip', got {on_gap!r}")
        self.bootstrap = bootstrap
        self.topic = topic
        self.consumer_group = consumer_group
        self.assignment = assignment
        self.on_gap = on_gap
        self._unavailable_timeout_s = unavailable_timeout_s
        self._security = dict(security or {})
        self._timing = {
            "max_poll_interval_ms": int(max_poll_interval_s * 1000),
            "session_timeout_ms": int(session_timeout_s * 1000),
            "heartbeat_interval_ms": int(heartbeat_interval_s * 1000),
        }
        self._consumer: Any = None
        self._cluster = ""
        self._stored: StoredPositions = dict
        # Where the next batch of each assigned partition starts; absent: its beginning, as yet
        # unknown. Changed by the consumer's own thread too, when partitions are assigned, but only
        # while this source waits in poll.
        self._next: dict[TopicPartition, int] = {}
        self._end: dict[TopicPartition, int] = {}
        self._has_assignment = False
        self._heard_at = 0.0

    @property
    def name(self) -> str:
        """`kafka://CLUSTER/TOPIC?group=GROUP`, with the cluster's own id where it has one."""
        return f"kafka://{self._cluster or self.bootstrap}/{self.topic}?group={self.consumer_group}"

    def inputs(self) -> Sequence[lineage.Entity]:
        """Name the topic."""
        return (lineage.artifact("Topic", f"kafka://{self.bootstrap}/{self.topic}"),)

    def seek(self, stored: StoredPositions) -> None:
        """Go on where the store stands; the first call connects and asks for partitions.

        Raises:
            SourceNotFound: the broker has no such topic.
            SourceUnavailable: no broker answers.
        """
        self._stored = stored
        if self._consumer is None:
            self._connect()
        else:
            self._place()

    def poll(self, max_records: int, timeout_s: float) -> Batch:
        """Return the next messages of all assigned partitions together.

        Raises:
            PositionLost: the topic's retention has removed what follows the stored position, or
                the topic was made anew.
            SourceUnavailable: the broker has been away for `unavailable_timeout_s`.
            IngestError: the broker refuses the read.
        """
        try:
            polled = self._consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=max_records)
        except OffsetOutOfRangeError as error:
            try:
                self._close_gap(error)
            except KafkaError as second:
                raise self._refused(second) from second
            return Batch()
        except RetriableError as error:
            _log.info("Kafka at %s: %s; polling again", self.bootstrap, error)
            time.sleep(min(timeout_s, _CONNECT_PAUSE_S))
            polled = {}
        except KafkaError as error:
            if error.__cause__ is not None and not isinstance(error.__cause__, KafkaError):
                # The store's own error, from reading its positions when partitions were assigned.
                raise error.__cause__ from None
            raise self._refused(error) from error
        if polled:
            self._heard_at = time.monotonic()
        else:
            self._probe()
        messages: list[Message] = []
        position = []
        size = 0
        for partition, records in polled.items():
            label = str(partition.partition)
            # Compaction and transactions leave offsets out, so the stretch starts where the last
            # one ended, not at the first message.
            start = self._next.get(partition, records[0].offset)
            after = records[-1].offset + 1
            self._next[partition] = after
            position.append(PartitionPosition(label, start, after))
            for record in records:
                value, milliseconds = record.value, record.timestamp
                size += len(value or b"") + len(record.key or b"")
                # Very old producers send no time, or -1.
                time_us = None if milliseconds is None or milliseconds < 0 else milliseconds * 1000
                headers = record.headers
                messages.append(Message(label, record.offset, value, record.key, time_us, headers))
        return Batch(messages, tuple(position), size, self._is_caught_up())

    def commit(self, position: Sequence[PartitionPosition]) -> None:
        """Tell the consumer group how far the store is, without waiting for the answer."""
        if self.assignment != "group":
            return
        offsets = {
            TopicPartition(self.topic, int(part.partition)): OffsetAndMetadata(part.next)
            for part in position
        }
        self._consumer.commit_async(offsets, callback=_note_failed_commit)

    def close(self) -> None:
        """Leave the group, so that others take the partitions over at once, and disconnect."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            consumer.close(autocommit=False, timeout_ms=_CLOSE_TIMEOUT_MS)

    def _connect(self) -> None:
        servers = [address.strip() for address in self.bootstrap.split(",")]
        if not self._security.keys() & {"proxy_url", "socks5_proxy"}:
            self._wait_for_any(servers)
        settings = {
            "bootstrap_servers": servers,
            "bootstrap_timeout_ms": _CONNECT_TIMEOUT_MS,
            **self._security,
        }
        try:
            admin = KafkaAdminClient(**settings)
            try:
                # The cluster's own id outlives a change of addresses.
                self._cluster = admin.describe_cluster()["cluster_id"] or ""
                topics = admin.list_topics()
            finally:
                admin.close()
            if self.topic not in topics:
                raise SourceNotFound(
                    f"topic {self.topic!r} does not exist at {self.bootstrap}"
                    f"{_nearest(self.topic, topics)}; create it, or check the name and the "
                    f"right to describe it"
                )
            self._consumer = KafkaConsumer(
                **settings,
                **self._timing,
                group_id=self.consumer_group if self.assignment == "group" else None,
                enable_auto_commit=False,
                auto_offset_reset="none",
                allow_auto_create_topics=False,
                isolation_level="read_committed",
            )
            if self.assignment == "group":
                self._consumer.subscribe([self.topic], listener=_Placing(self))
            else:
                self._consumer.assign(self._partitions())
                self._place()
                self._has_assignment = True
        except (KafkaTimeoutError, RetriableError) as error:
            self.close()
            raise self._unavailable(f"within {_CONNECT_TIMEOUT_MS / 1000:g} s") from error
        except KafkaError as error:
            self.close()
            raise self._refused(error) from error
        self._heard_at = time.monotonic()

    def _wait_for_any(self, servers: Sequence[str]) -> None:
        """Wait until one of the addresses accepts a connection.

        The client would wait as well, but does not say why it waits in vain, and leaves a thread
        and a socket behind when it gives up.
        """
        deadline = time.monotonic() + _CONNECT_TIMEOUT_MS / 1000
        while True:
            refusals = []
            for server in servers:
                host, _, port = server.rpartition(":") if ":" in server else (server, "", "9092")
                try:
                    socket.create_connection((host.strip("[]"), int(port)), timeout=2.0).close()
                except (OSError, ValueError) as error:
                    refusals.append(f"{server}: {error}")
                else:
                    return
            if time.monotonic() > deadline:
                raise self._unavailable(
                    f"within {_CONNECT_TIMEOUT_MS / 1000:g} s ({'; '.join(refusals)})"
                )
            time.sleep(_CONNECT_PAUSE_S)

    def _partitions(self) -> list[TopicPartition]:
        numbers = self._consumer.partitions_for_topic(self.topic)
        return [TopicPartition(self.topic, number) for number in sorted(numbers)]

    def _place(self) -> None:
        """Set all assigned partitions to the store's positions."""
        stored = self._stored()
        self._next.clear()
        self._end.clear()
        for partition in self._consumer.assignment():
            position = stored.get(str(partition.partition))
            if position is None:
                self._consumer.seek_to_beginning(partition)
            else:
                self._consumer.seek(partition, position)
                self._next[partition] = position

    def _is_caught_up(self) -> bool:
        """Whether every assigned partition is at the end it had when it was first read from.

        A broker's answer to a read names the partition's end. Its answer to a question for the end
        offset is not used: not every broker counts the last batch in.
        """
        if not self._has_assignment:
            return False
        is_caught_up = True
        for partition in self._consumer.assignment():
            if partition not in self._end:
                end = self._consumer.highwater(partition)
                if end is None:
                    is_caught_up = False
                    continue
                self._end[partition] = end
            if self._next.get(partition, 0) < self._end[partition]:
                # The last offsets may be marks of transactions, which are never handed out.
                position = self._consumer.position(partition, timeout_ms=0)
                is_caught_up &= position is not None and position >= self._end[partition]
        return is_caught_up

    def _probe(self) -> None:
        """Make sure now and then that silence means "no messages": the client retries for ever."""
        silent_s = time.monotonic() - self._heard_at
        if silent_s < _PROBE_AFTER_S:
            return
        try:
            self._consumer.beginning_offsets(
                [TopicPartition(self.topic, 0)], timeout_ms=_PROBE_TIMEOUT_MS
            )
        except RetriableError as error:
            _log.warning(
                "Kafka at %s has been silent for %.0f s: %s", self.bootstrap, silent_s, error
            )
            if silent_s > self._unavailable_timeout_s:
                raise self._unavailable(f"for {silent_s:.0f} s") from error
        except KafkaError as error:
            raise self._refused(error) from error
        else:
            self._heard_at = time.monotonic()

    def _unavailable(self, how_long: str) -> SourceUnavailable:
        return SourceUnavailable(
            f"no Kafka broker answers at {self.bootstrap} {how_long}; check the address, that the "
            f"broker runs and advertises an address that can be reached from here, and that topic "
            f"{self.topic!r} is still there"
        )

    def _close_gap(self, error: OffsetOutOfRangeError) -> None:
        for partition, position in self._next.items():
            first = self._consumer.beginning_offsets([partition])[partition]
            last = self._consumer.end_offsets([partition])[partition]
            if position < first:
                what = (
                    f"{self.topic} partition {partition.partition}: the store stands at "
                    f"{position}, but the broker has {first} to {last}: {first - position} "
                    f"messages were removed before they were stored"
                )
                if self.on_gap == "fail":
                    raise PositionLost(
                        f"{what}; lengthen the topic's retention, and read on with "
                        f"on_gap='skip' once they can be done without",
                        partition=str(partition.partition),
                        position=position,
                    ) from error
                # The next stretch still starts at the stored position, and so closes the gap.
                _log.warning("%s; going on from %d", what, first)
                self._consumer.seek(partition, first)
            elif position > last:
                raise PositionLost(
                    f"{self.topic} partition {partition.partition}: the store stands at "
                    f"{position}, but the broker has {first} to {last}: the topic was made anew; "
                    f"read it under another consumer group",
                    partition=str(partition.partition),
                    position=position,
                ) from error

    def _refused(self, error: KafkaError) -> IngestError:
        advice = ""
        if isinstance(error, AuthorizationError):
            advice = (
                f"; allow this client to read and describe topic {self.topic!r} and to read "
                f"group {self.consumer_group!r}"
            )
        elif isinstance(error, UnsupportedCodecError):
            advice = "; install the library of the compression that the producer uses"
        return IngestError(
            f"Kafka at {self.bootstrap}, topic {self.topic!r}: "
            f"{str(error) or type(error).__name__}{advice}"
        )


@final
class _Placing(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python ships no types
    """Sets partitions to the store's positions whenever the group assigns them."""

    def __init__(self, source: KafkaSource) -> None:
        self._source = source

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        # What was handed out before is stored by now, or its position will be refused.
        self._source._has_assignment = False

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._source._place()
        self._source._has_assignment = True


def _note_failed_commit(offsets: object, response: object) -> None:
    if isinstance(response, Exception):
        _log.info("offsets for lag tools were not written, the store's are: %s", response)


def _nearest(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""
