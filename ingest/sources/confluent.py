"""The Kafka link over confluent-kafka, whose work is done in C."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, final

from ingest.source import Message
from ingest.sources.kafka_link import FaultKind, KafkaFault, KafkaLink, LinkSettings, Topic
from ingest.sources.kafka_security import KafkaSecurity

try:
    import confluent_kafka as library
except ImportError as missing:
    raise ImportError(
        "the Kafka client 'confluent' is not installed: pip install 'featureline[confluent]'"
    ) from missing

__all__ = ["ConfluentLink"]

_log = logging.getLogger(__name__)
# Where the library's own log lines go; it would write them to standard error.
_library_log = logging.getLogger("confluent_kafka")

_PARTITION_BYTES: Final = 1 << 20
_MESSAGE_BYTES: Final = 1_000_000
_MAX_BATCH: Final = 1_000_000
_TOKEN_LIFE_S: Final = 300.0
_MAX_RECONNECT_MS: Final = 2_000
_SERVE_S: Final = 0.05

_Code = library.KafkaError
_KINDS: Final = {
    _Code.OFFSET_OUT_OF_RANGE: FaultKind.GAP,
    _Code._AUTO_OFFSET_RESET: FaultKind.GAP,
    _Code.UNKNOWN_TOPIC_OR_PART: FaultKind.NO_TOPIC,
    _Code._UNKNOWN_TOPIC: FaultKind.NO_TOPIC,
    _Code._UNKNOWN_PARTITION: FaultKind.NO_TOPIC,
    _Code.TOPIC_AUTHORIZATION_FAILED: FaultKind.TOPIC_RIGHT,
    _Code.GROUP_AUTHORIZATION_FAILED: FaultKind.GROUP_RIGHT,
    _Code.CLUSTER_AUTHORIZATION_FAILED: FaultKind.CLUSTER_RIGHT,
    _Code._AUTHENTICATION: FaultKind.LOGIN,
    _Code.SASL_AUTHENTICATION_FAILED: FaultKind.LOGIN,
    _Code.UNSUPPORTED_SASL_MECHANISM: FaultKind.MECHANISM,
    _Code._SSL: FaultKind.TLS,
    _Code._INVALID_ARG: FaultKind.SETTING,
    _Code._NOT_IMPLEMENTED: FaultKind.CODEC,
    _Code._TRANSPORT: FaultKind.AWAY,
    _Code._TIMED_OUT: FaultKind.AWAY,
    _Code._TIMED_OUT_QUEUE: FaultKind.AWAY,
    _Code._ALL_BROKERS_DOWN: FaultKind.AWAY,
    _Code._RESOLVE: FaultKind.AWAY,
    _Code._WAIT_COORD: FaultKind.AWAY,
    _Code._MAX_POLL_EXCEEDED: FaultKind.AWAY,
}
# Said of the whole client rather than as an answer, and not mended by trying again.
_LASTING: Final = frozenset({FaultKind.LOGIN, FaultKind.MECHANISM, FaultKind.TLS})


@final
class ConfluentLink(KafkaLink):
    """One `confluent_kafka.Consumer`.

    It fetches ahead in threads of its own, up to `max_buffer_bytes`, and one message where that
    is larger.
    """

    def __init__(self, settings: LinkSettings) -> None:
        self._settings = settings
        self._consumer: Any = None
        self._on_change: Callable[[bool], None] | None = None
        # Partition → its end, where the library said that it was reached.
        self._reached: dict[int, int] = {}
        self._lasting: KafkaFault | None = None
        self._later: KafkaFault | None = None

    def open(self, timeout_s: float) -> str:
        """Make the consumer, and ask who the cluster is."""
        settings = self._settings
        try:
            with self._told_apart("Describe"):
                self._consumer = library.Consumer(
                    {
                        "bootstrap.servers": ",".join(settings.servers),
                        "group.id": settings.group,
                        "enable.auto.commit": False,
                        "auto.offset.reset": "error",
                        "allow.auto.create.topics": False,
                        "isolation.level": "read_committed",
                        "enable.partition.eof": True,
                        "partition.assignment.strategy": "range,roundrobin",
                        "max.poll.interval.ms": int(
                            max(settings.max_poll_interval_s, settings.session_timeout_s) * 1000
                        ),
                        "session.timeout.ms": int(settings.session_timeout_s * 1000),
                        "heartbeat.interval.ms": int(settings.heartbeat_interval_s * 1000),
                        "topic.metadata.refresh.interval.ms": int(settings.metadata_age_s * 1000),
                        "queued.max.messages.kbytes": max(1, settings.max_buffer_bytes >> 10),
                        "fetch.max.bytes": settings.max_buffer_bytes,
                        "max.partition.fetch.bytes": min(
                            _PARTITION_BYTES, settings.max_buffer_bytes
                        ),
                        "message.max.bytes": min(_MESSAGE_BYTES, settings.max_buffer_bytes),
                        "reconnect.backoff.max.ms": _MAX_RECONNECT_MS,
                        "error_cb": self._note_error,
                        "logger": _library_log,
                        **_security(settings.security),
                        **settings.client_settings,
                    }
                )
                self._consumer.poll(0)  # a token is asked for here
                found = self._consumer.list_topics(settings.topic, timeout=timeout_s)
        except KafkaFault:
            self.close(0.0)
            raise
        return str(found.cluster_id or "")

    def describe(self, timeout_s: float) -> Topic:
        """Ask for the topic; the library does not say its id."""
        topic = self._settings.topic
        with self._told_apart("Describe"):
            found = self._consumer.list_topics(topic, timeout=timeout_s).topics[topic]
            if found.error is not None:
                raise library.KafkaException(found.error)
        return Topic("", frozenset(found.partitions))

    def topics(self, timeout_s: float) -> Collection[str]:
        """Ask for all topics."""
        with self._told_apart("Describe"):
            return list(self._consumer.list_topics(timeout=timeout_s).topics)

    def join(self, on_change: Callable[[bool], None]) -> None:
        """Subscribe; what is assigned is paused at once."""
        self._on_change = on_change
        with self._told_apart("Read"):
            self._consumer.subscribe(
                [self._settings.topic],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_revoke,
            )

    def assign(self, partitions: Collection[int]) -> None:
        """Take the partitions, silent until they are placed."""
        self._take(dict.fromkeys(partitions, 0))
        self.pause()

    def assigned(self) -> frozenset[int]:
        """Return what the consumer has."""
        return frozenset(named.partition for named in self._consumer.assignment())

    def seek(self, positions: Mapping[int, int | None]) -> None:
        """Assign the same partitions anew: a seek needs each to be read already."""
        self._take(positions)
        self.resume()

    def poll(self, max_records: int, timeout_s: float) -> Mapping[int, list[Message]]:
        """Consume a batch; an error that comes between messages is raised by the next call."""
        fault, self._later = self._later, None
        if fault is not None:
            raise fault
        with self._told_apart("Read"):
            # A batch is waited for until it is full or the time is over, so the wait is for one.
            first = self._consumer.poll(timeout_s)
            polled = [] if first is None else [first]
            if first is not None and max_records > 1:
                polled += self._consumer.consume(min(max_records - 1, _MAX_BATCH), 0)
        found: dict[int, list[Message]] = {}
        labels: dict[int, str] = {}
        for message in polled:
            error = message.error()
            number = message.partition()
            if error is not None:
                self._note_fault(error, number, message.offset())
                continue
            if number not in found:
                found[number], labels[number] = [], str(number)
            kind, milliseconds = message.timestamp()
            time_us = milliseconds * 1000 if kind and milliseconds >= 0 else None
            found[number].append(
                Message(
                    labels[number],
                    message.offset(),
                    message.value(),
                    message.key(),
                    time_us,
                    message.headers() or (),
                )
            )
        if not found:
            fault, self._later = self._later or self._lasting, None
            if fault is not None:
                raise fault
        else:
            self._lasting = None
        return found

    def pause(self) -> None:
        """Pause all."""
        with self._told_apart("Read"):
            self._consumer.pause(self._consumer.assignment())

    def resume(self) -> None:
        """Resume all."""
        with self._told_apart("Read"):
            self._consumer.resume(self._consumer.assignment())

    def end(self, partition: int) -> int | None:
        """Return the high-water mark of the last answer."""
        try:
            marks = self._consumer.get_watermark_offsets(self._named(partition), cached=True)
        except library.KafkaException:
            return None  # not assigned, or not read yet
        return None if marks is None or marks[1] < 0 else int(marks[1])

    def position(self, partition: int) -> int | None:
        """Return the consumer's position, or the end where it was reached."""
        try:
            (named,) = self._consumer.position([self._named(partition)])
        except library.KafkaException:
            return None
        known = [place for place in (named.offset, self._reached.get(partition, -1)) if place >= 0]
        return max(known, default=None)

    def bounds(self, partition: int, timeout_s: float) -> tuple[int, int]:
        """Ask for the first and the last offset."""
        with self._told_apart("Describe"):
            first, last = self._consumer.get_watermark_offsets(
                self._named(partition), timeout=timeout_s
            )
        return int(first), int(last)

    def commit(self, positions: Mapping[int, int]) -> None:
        """Commit without waiting."""
        with self._told_apart("Read"):
            self._consumer.commit(
                offsets=[self._named(number, place) for number, place in positions.items()],
                asynchronous=True,
            )

    def close(self, timeout_s: float) -> None:
        """Close the consumer; it takes its own time."""
        del timeout_s
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    def _take(self, positions: Mapping[int, int | None]) -> None:
        self._reached.clear()
        self._later = None
        with self._told_apart("Read"):
            self._consumer.assign(
                [
                    self._named(number, library.OFFSET_BEGINNING if place is None else place)
                    for number, place in positions.items()
                ]
            )

    def _on_assign(self, consumer: object, partitions: Collection[Any]) -> None:
        self.assign([named.partition for named in partitions])
        assert self._on_change is not None
        self._on_change(True)

    def _on_revoke(self, consumer: object, partitions: object) -> None:
        assert self._on_change is not None
        self._on_change(False)

    def _note_fault(self, error: Any, partition: int, offset: int | None) -> None:
        if error.code() == _Code._PARTITION_EOF:
            if offset is not None:
                self._reached[partition] = offset
            return
        self._later = _fault(error, "Read", partition)

    def _note_error(self, error: Any) -> None:
        """Keep what the library says of the whole client; it goes on trying by itself."""
        fault = _fault(error, "Read")
        _log.info("Kafka: %s", fault.text)
        if fault.kind in _LASTING:
            self._lasting = fault

    def _named(self, number: int, offset: int | None = None) -> Any:
        if offset is None:
            return library.TopicPartition(self._settings.topic, number)
        return library.TopicPartition(self._settings.topic, number, offset)

    @contextmanager
    def _told_apart(self, operation: str) -> Iterator[None]:
        """Turn the library's errors into KafkaFault."""
        try:
            yield
        except library.KafkaException as error:
            fault = _fault(error.args[0], operation)
            if fault.kind is FaultKind.AWAY and self._consumer is not None:
                self._consumer.poll(_SERVE_S)  # the reason comes as an event
                fault = self._lasting or fault
            raise fault from error


def _fault(error: Any, operation: str, partition: int | None = None) -> KafkaFault:
    kind = _KINDS.get(error.code())
    if kind is None:
        kind = FaultKind.AWAY if error.retriable() else FaultKind.OTHER
    return KafkaFault(kind, error.str(), partition=partition, operation=operation)


def _security(security: KafkaSecurity) -> dict[str, object]:
    found: dict[str, object] = {"security.protocol": security.protocol}
    if security.is_tls:
        security.context()  # says what is wrong with the files
        found["ssl.endpoint.identification.algorithm"] = (
            "https" if security.check_hostname else "none"
        )
        for name, value in (
            ("ssl.ca.location", security.ca),
            ("ssl.certificate.location", security.certificate),
            ("ssl.key.location", security.key or security.certificate),
            ("ssl.key.password", security.key_password),
        ):
            if value is not None:
                found[name] = str(value)
    if security.is_sasl:
        found["sasl.mechanism"] = security.mechanism
        if security.token_file is not None:
            found["oauth_cb"] = lambda settings: _token(security)
        else:
            found["sasl.username"] = security.username
            found["sasl.password"] = security.password
    return found


def _token(security: KafkaSecurity) -> tuple[str, float]:
    """Return the token of the file, and when it has to be read again."""
    token = security.token()
    until = time.time() + _TOKEN_LIFE_S
    parts = token.split(".")
    if len(parts) == 3:
        try:
            body = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
            until = float(body["exp"])
        except (ValueError, KeyError, TypeError):
            _log.debug("the token names no end; it is read again in %g s", _TOKEN_LIFE_S)
    return token, until
