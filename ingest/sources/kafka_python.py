"""The Kafka link over kafka-python, which needs nothing but Python."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, final

import kafka.errors as errors
from kafka import KafkaAdminClient, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.net.sasl.oauth import AbstractTokenProvider
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslBytesRequest

from ingest.source import Message
from ingest.sources.kafka_link import FaultKind, KafkaFault, KafkaLink, LinkSettings, Topic
from ingest.sources.kafka_security import KafkaSecurity

__all__ = ["KafkaPythonLink", "sasl_settings", "security_settings"]

_log = logging.getLogger(__name__)

_PARTITION_BYTES: Final = 1 << 20
_LOOK_TIMEOUT_MS: Final = 5_000
_MAX_RECONNECT_MS: Final = 2_000
_LOGIN_KEY: Final = (36).to_bytes(2, "big")  # SaslAuthenticate
# The order matters: the first class that fits names the kind.
_KINDS: Final = (
    (errors.OffsetOutOfRangeError, FaultKind.GAP),
    (errors.TopicAuthorizationFailedError, FaultKind.TOPIC_RIGHT),
    (errors.GroupAuthorizationFailedError, FaultKind.GROUP_RIGHT),
    (errors.ClusterAuthorizationFailedError, FaultKind.CLUSTER_RIGHT),
    (errors.UnsupportedSaslMechanismError, FaultKind.MECHANISM),
    (errors.SaslAuthenticationFailedError, FaultKind.LOGIN),
    (errors.UnsupportedCodecError, FaultKind.CODEC),
    (errors.KafkaConfigurationError, FaultKind.SETTING),
    (errors.UnknownTopicOrPartitionError, FaultKind.NO_TOPIC),
    (errors.KafkaTimeoutError, FaultKind.AWAY),
    (errors.RetriableError, FaultKind.AWAY),
)


@final
class KafkaPythonLink(KafkaLink):
    """One `kafka.KafkaConsumer`, and one `KafkaAdminClient` that looks at the topic.

    Between polls the consumer holds at most one answer per broker, of `max_buffer_bytes`, or of
    one message where that is larger.
    """

    def __init__(self, settings: LinkSettings) -> None:
        self._settings = settings
        self._consumer: Any = None
        self._admin: Any = None

    def open(self, timeout_s: float) -> str:
        """Connect both."""
        for name in ("kafka.admin.client", "kafka.net.connection", "kafka.protocol.parser"):
            logging.getLogger(name).addFilter(_DISCREET)
        settings = self._settings
        shared = {
            "bootstrap_servers": list(settings.servers),
            "bootstrap_timeout_ms": int(timeout_s * 1000),
            "reconnect_backoff_max_ms": _MAX_RECONNECT_MS,
            **security_settings(settings.security),
            **settings.client_settings,
        }
        try:
            with _told_apart("Describe"):
                known = {
                    name: value
                    for name, value in shared.items()
                    if name in KafkaAdminClient.DEFAULT_CONFIG
                }
                self._admin = KafkaAdminClient(**{"request_timeout_ms": _LOOK_TIMEOUT_MS, **known})
                cluster = self._admin.describe_cluster()["cluster_id"] or ""
                self._consumer = KafkaConsumer(
                    **{
                        "group_id": settings.group if settings.is_member else None,
                        "enable_auto_commit": False,
                        "auto_offset_reset": "none",
                        "allow_auto_create_topics": False,
                        "isolation_level": "read_committed",
                        "max_poll_interval_ms": int(settings.max_poll_interval_s * 1000),
                        "session_timeout_ms": int(settings.session_timeout_s * 1000),
                        "heartbeat_interval_ms": int(settings.heartbeat_interval_s * 1000),
                        "metadata_max_age_ms": int(settings.metadata_age_s * 1000),
                        "fetch_max_bytes": settings.max_buffer_bytes,
                        "max_partition_fetch_bytes": min(
                            _PARTITION_BYTES, settings.max_buffer_bytes
                        ),
                        **shared,
                    }
                )
                # Its own setting does not reach the part that asks for metadata: without this it
                # makes a topic anew that was deleted while it is read.
                self._consumer._cluster.config["allow_auto_create_topics"] = False
        except KafkaFault:
            self.close(0.0)
            raise
        return str(cluster)

    def describe(self, timeout_s: float) -> Topic:
        """Ask through the admin client, whose answer is never an old one."""
        del timeout_s  # it has its own, short one
        with _told_apart("Describe"):
            (found,) = self._admin.describe_topics([self._settings.topic])
            code = found["error_code"]
            if code:
                raise errors.for_code(code)(self._settings.topic)
        partitions = frozenset(part["partition_index"] for part in found["partitions"])
        return Topic(str(found.get("topic_id") or ""), partitions)

    def topics(self, timeout_s: float) -> Collection[str]:
        """Ask through the admin client."""
        del timeout_s
        with _told_apart("Describe"):
            return list(self._admin.list_topics())

    def join(self, on_change: Callable[[bool], None]) -> None:
        """Subscribe; what is assigned is paused at once."""
        with _told_apart("Read"):
            self._consumer.subscribe(
                [self._settings.topic], listener=_Listening(self._consumer, on_change)
            )

    def assign(self, partitions: Collection[int]) -> None:
        """Take the partitions."""
        with _told_apart("Read"):
            self._consumer.assign([self._named(number) for number in sorted(partitions)])

    def assigned(self) -> frozenset[int]:
        """Return what the consumer has."""
        return frozenset(partition.partition for partition in self._consumer.assignment())

    def seek(self, positions: Mapping[int, int | None]) -> None:
        """Seek one by one; the fetched and not yet polled is dropped by the library."""
        with _told_apart("Read"):
            for number, position in positions.items():
                partition = self._named(number)
                try:
                    if position is None:
                        self._consumer.seek_to_beginning(partition)
                    else:
                        self._consumer.seek(partition, position)
                    self._consumer.resume(partition)
                except (ValueError, KeyError):
                    # Revoked meanwhile, in the library's own thread.
                    _log.debug("partition %d is no longer assigned", number)

    def poll(self, max_records: int, timeout_s: float) -> Mapping[int, list[Message]]:
        """Poll, and copy what Message holds."""
        with _told_apart("Read"):
            polled = self._consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=max_records)
        found: dict[int, list[Message]] = {}
        for partition, records in polled.items():
            label = str(partition.partition)
            messages = found[partition.partition] = []
            for record in records:
                milliseconds = record.timestamp
                # Very old producers send no time, or -1.
                time_us = None if milliseconds is None or milliseconds < 0 else milliseconds * 1000
                messages.append(
                    Message(label, record.offset, record.value, record.key, time_us, record.headers)
                )
        return found

    def pause(self) -> None:
        """Pause all."""
        self._consumer.pause(*self._consumer.assignment())

    def resume(self) -> None:
        """Resume all."""
        self._consumer.resume(*self._consumer.assignment())

    def end(self, partition: int) -> int | None:
        """Return the high-water mark of the last answer."""
        try:
            end = self._consumer.highwater(self._named(partition))
        except errors.IllegalStateError:
            return None
        return None if end is None else int(end)

    def position(self, partition: int) -> int | None:
        """Return the consumer's position, without asking anybody."""
        try:
            position = self._consumer.position(self._named(partition), timeout_ms=0)
        except errors.KafkaError:
            return None  # the next poll will say why
        return None if position is None else int(position)

    def bounds(self, partition: int, timeout_s: float) -> tuple[int, int]:
        """Ask for the first and the last offset."""
        named, timeout_ms = self._named(partition), int(timeout_s * 1000)
        with _told_apart("Describe"):
            first = self._consumer.beginning_offsets([named], timeout_ms=timeout_ms)[named]
            last = self._consumer.end_offsets([named], timeout_ms=timeout_ms)[named]
        return int(first), int(last)

    def commit(self, positions: Mapping[int, int]) -> None:
        """Commit without waiting."""
        offsets = {
            self._named(number): OffsetAndMetadata(position)
            for number, position in positions.items()
        }
        self._consumer.commit_async(offsets, callback=_note_failed_commit)

    def close(self, timeout_s: float) -> None:
        """Close both."""
        consumer, self._consumer = self._consumer, None
        admin, self._admin = self._admin, None
        if consumer is not None:
            consumer.close(autocommit=False, timeout_ms=int(timeout_s * 1000))
        if admin is not None:
            admin.close()

    def _named(self, number: int) -> TopicPartition:
        return TopicPartition(self._settings.topic, number)


@final
class _Listening(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python ships no types
    """Keeps assigned partitions silent until they are placed, and says that they are there.

    Called in the library's own thread, which also sends the heartbeats: nothing here may wait.
    """

    def __init__(self, consumer: Any, on_change: Callable[[bool], None]) -> None:
        self._consumer = consumer
        self._on_change = on_change

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._on_change(False)

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        for partition in assigned:
            self._consumer.pause(partition)
            # Without a position the library would ask the group for its offsets.
            self._consumer.seek(partition, 0)
        self._on_change(True)


@final
class _Discreet(logging.Filter):
    """Keeps secrets out of the library's debug lines, which show settings and what is sent."""

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.args or ()
        if isinstance(said, Mapping):
            return "sasl_plain_password" not in said
        return not any(map(_is_secret, said))


_DISCREET: Final = _Discreet()


def _is_secret(said: object) -> bool:
    """Whether it is a login, as a request or as the frame that is sent."""
    if isinstance(said, bytes | bytearray | memoryview):
        return bytes(said[4:6]) == _LOGIN_KEY
    return isinstance(said, (SaslAuthenticateRequest, SaslBytesRequest))


@contextmanager
def _told_apart(operation: str) -> Iterator[None]:
    """Turn the library's errors into KafkaFault."""
    try:
        yield
    except errors.KafkaError as error:
        kind = next((kind for cls, kind in _KINDS if isinstance(error, cls)), FaultKind.OTHER)
        partition = None
        if kind is FaultKind.GAP and error.args and isinstance(error.args[0], dict):
            partition = next((named.partition for named in error.args[0]), None)
        text = str(error) or type(error).__name__
        raise KafkaFault(kind, text, partition=partition, operation=operation) from error


@final
class _Tokens(AbstractTokenProvider):  # type: ignore[misc]  # kafka-python ships no types
    """Gives the token of the file, read anew for every login."""

    def __init__(self, security: KafkaSecurity) -> None:
        super().__init__()
        self._security = security

    def token(self) -> str:
        return self._security.token()


def sasl_settings(security: KafkaSecurity) -> dict[str, object]:
    """Give what kafka-python needs to log in."""
    found: dict[str, object] = {"sasl_mechanism": security.mechanism}
    if security.token_file is not None:
        found["sasl_oauth_token_provider"] = _Tokens(security)
    else:
        found["sasl_plain_username"] = security.username
        found["sasl_plain_password"] = security.password
    return found


def security_settings(security: KafkaSecurity) -> dict[str, object]:
    """Return the settings of any client of kafka-python for TLS and SASL."""
    found: dict[str, object] = {"security_protocol": security.protocol}
    if security.is_tls:
        found["ssl_context"] = security.context()
    if security.is_sasl:
        found |= sasl_settings(security)
    return found


def _note_failed_commit(offsets: object, response: object) -> None:
    if isinstance(response, Exception):
        _log.info("offsets for lag tools were not written, the store's are: %s", response)
