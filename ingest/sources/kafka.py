"""Kafka topics as a source: the group assigns partitions, the store says where to read on."""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast, final

import lineage
from featurestore import PartitionPosition
from featurestore.errors import nearest
from ingest.errors import PositionLost, SourceNotFound
from ingest.source import Batch, Message, Source, StoredPositions
from ingest.sources.kafka_link import FaultKind, KafkaFault, KafkaLink, LinkSettings, Topic
from ingest.sources.kafka_probe import probe
from ingest.sources.kafka_python import KafkaPythonLink
from ingest.sources.kafka_refusal import lost, refused, unavailable
from ingest.sources.kafka_security import KafkaSecurity

__all__ = ["CLIENTS", "Client", "KafkaSource", "kafka_source"]

_log = logging.getLogger(__name__)

Client: TypeAlias = Literal["kafka-python", "confluent", "auto"]
CLIENTS: Final = ("kafka-python", "confluent", "auto")

_CONNECT_TIMEOUT_S: Final = 10.0
_CLOSE_TIMEOUT_S: Final = 3.0
# A poll that only waits for the group to assign something.
_JOIN_POLL_S: Final = 0.1
_PAUSE_S: Final = 0.2
# How often the topic is looked at: whether it is still there, and has as many partitions. More
# often while it is silent, which may also mean that the brokers are away.
_LOOK_S: Final = 30.0
_SILENT_LOOK_S: Final = 5.0
_LOOK_TIMEOUT_S: Final = 5.0
# A broker whose metadata is old may not know a topic for a moment.
_LOOK_AGAIN_S: Final = 1.0
# A new leader may be behind the old one for a moment.
_BEHIND_S: Final = 3.0
_MIN_BUFFER_BYTES: Final = 1 << 16


@final
class KafkaSource(Source):
    """Reads one topic, each partition from the position that the store has for it.

    Offsets that the consumer group has committed are never read: they are written after the
    store's own commit so that lag tools show something. Messages of aborted transactions are left
    out. The client library makes no difference to what is read or where: a pipeline may go on
    with another one.

    Caught up means: at the end that each partition had when this process first read from it.

    A partition that is added to the topic while it is read is read from its beginning.

    Args:
        bootstrap: `HOST:PORT`, several separated by commas.
        topic: the topic's name.
        consumer_group: the Kafka consumer group, and part of the source's name: another group
            reads the topic from its beginning. Give each feature group one of its own, since
            members of one group share the partitions out among themselves.
        client: the library: `"kafka-python"`, `"confluent"` (extra `featureline[confluent]`), or
            `"auto"`: confluent where it is installed.
        assignment: `"group"`: the consumer group shares the partitions out among its members, and
            again when one comes or goes. `"all"`: this process reads all partitions of the topic,
            at once and without joining the group; two such processes are safe but do the same
            work twice.
        max_poll_interval_s: how long storing one batch may take before the group gives this
            member's partitions to another. Waiting for a store that has too much to do, or is
            away, does not count.
        session_timeout_s: how long the group waits for a member that fell silent.
        heartbeat_interval_s: at most a third of the session timeout.
        unavailable_timeout_s: how long the broker may be away before `poll` gives up.
        on_gap: what to do when the topic's retention has removed messages before they were
            stored: `"fail"` with PositionLost, or `"skip"` to the first that is left, with a
            warning in the log.
        max_buffer_bytes: how much the client may hold that was fetched and not yet polled, as it
            comes over the wire and for each broker; at least 64 KiB. A single message may be
            larger.
        security: TLS and SASL.
        client_settings: settings of the client library under its own names (of
            `kafka.KafkaConsumer`, or of librdkafka), for what has no argument here.

    Raises:
        ValueError: an argument is empty or not one of the choices.
        ImportError: the client's library is not installed.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        *,
        consumer_group: str,
        client: Client = "kafka-python",
        assignment: Literal["group", "all"] = "group",
        max_poll_interval_s: float = 300.0,
        session_timeout_s: float = 45.0,
        heartbeat_interval_s: float = 3.0,
        unavailable_timeout_s: float = 60.0,
        on_gap: Literal["fail", "skip"] = "fail",
        max_buffer_bytes: int = 50 << 20,
        security: KafkaSecurity | None = None,
        client_settings: Mapping[str, object] | None = None,
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
        if max_buffer_bytes < _MIN_BUFFER_BYTES:
            raise ValueError(
                f"max_buffer_bytes: expected at least {_MIN_BUFFER_BYTES}, got {max_buffer_bytes}"
            )
        self.bootstrap = bootstrap
        self.topic = topic
        self.consumer_group = consumer_group
        self.assignment = assignment
        self.on_gap = on_gap
        self.client, self._link_class = _link_class(client)
        self._unavailable_timeout_s = unavailable_timeout_s
        self._settings = LinkSettings(
            servers=[address.strip() for address in bootstrap.split(",")],
            topic=topic,
            group=consumer_group,
            is_member=assignment == "group",
            max_poll_interval_s=max_poll_interval_s,
            session_timeout_s=session_timeout_s,
            heartbeat_interval_s=heartbeat_interval_s,
            metadata_age_s=_LOOK_S,
            max_buffer_bytes=max_buffer_bytes,
            security=security or KafkaSecurity(),
            client_settings=dict(client_settings or {}),
        )
        self._link: KafkaLink | None = None
        self._cluster = ""
        self._stored: StoredPositions = dict
        # Where the next batch of each assigned partition starts; absent: its beginning, as yet
        # unknown.
        self._next: dict[int, int] = {}
        self._end: dict[int, int] = {}
        # Set by the client's own thread as well, when the group assigns or revokes. Whatever was
        # polled before partitions are placed is dropped: it started elsewhere.
        self._has_assignment = False
        self._is_placed = False
        self._is_idle = False
        self._late_fault: KafkaFault | None = None
        self._topic_id = ""
        self._misses = 0
        self._heard_at = 0.0
        self._looked_at = 0.0
        self._behind_since: float | None = None

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
            SourceDenied: TLS, login or rights; the message says which.
        """
        self._stored = stored
        if self._link is None:
            self._connect()
        elif self._has_assignment:
            self._place(self._link)

    def poll(self, max_records: int, timeout_s: float) -> Batch:
        """Return the next messages of all assigned partitions together.

        Raises:
            PositionLost: the topic's retention has removed what follows the stored position, or
                the topic was made anew.
            SourceNotFound: the topic was deleted.
            SourceUnavailable: the broker has been away for `unavailable_timeout_s`.
            SourceDenied, IngestError: the broker refuses the read.
        """
        link = self._opened()
        polled: Mapping[int, list[Message]] = {}
        try:
            if self._late_fault is not None:
                fault, self._late_fault = self._late_fault, None
                raise fault
            self._end_idling(link)
            self._look(link)
            if self._has_assignment and not self._is_placed:
                self._place(link)
            wait_s = timeout_s if self._is_placed else min(timeout_s, _JOIN_POLL_S)
            polled = link.poll(max_records, wait_s)
        except KafkaFault as fault:
            self._recover(link, fault, timeout_s)
        if not polled:
            return Batch(is_caught_up=self._is_caught_up(link))
        self._heard_at = time.monotonic()
        if not self._is_placed or not self._follows(polled):
            self._is_placed = False
            return Batch()
        return self._batch(link, polled)

    def commit(self, position: Sequence[PartitionPosition]) -> None:
        """Tell the consumer group how far the store is, without waiting for the answer."""
        if self.assignment != "group":
            return
        offsets = {int(part.partition): part.next for part in position}
        try:
            self._opened().commit(offsets)
        except KafkaFault as fault:
            _log.info("offsets for lag tools were not written, the store's are: %s", fault)

    def idle(self) -> None:
        """Stay a member of the group while the store takes nothing.

        The partitions are paused, so that nothing is fetched or handed out; partitions that the
        group takes away meanwhile are gone afterwards, as after any poll. Never raises for the
        broker: the next poll will.
        """
        if self._link is None or self.assignment != "group":
            return
        try:
            if not self._is_idle:
                self._link.pause()
                self._is_idle = True
            if self._link.poll(1, 0.0):
                self._is_placed = False  # came in between; it is read again
        except KafkaFault as fault:
            if fault.kind is not FaultKind.AWAY:
                self._late_fault = fault

    def ends(self) -> Mapping[str, int | None]:
        """Return the ends of the assigned partitions, as the last answer to a read named them."""
        link = self._link
        if link is None or not self._has_assignment:
            return {}
        return {str(partition): link.end(partition) for partition in link.assigned()}

    def close(self) -> None:
        """Leave the group, so that others take the partitions over at once, and disconnect."""
        link, self._link = self._link, None
        if link is not None:
            link.close(_CLOSE_TIMEOUT_S)

    def _connect(self) -> None:
        link = self._link_class(self._settings)
        try:
            if not self._settings.client_settings.keys() & {"proxy_url", "socks5_proxy"}:
                probe(self._settings.servers, self._settings.security, _CONNECT_TIMEOUT_S)
            self._cluster = link.open(_CONNECT_TIMEOUT_S)
            topic = self._described(link)
            self._topic_id = topic.id
            if self.assignment == "group":
                link.join(self._on_change)
            else:
                link.assign(topic.partitions)
                self._has_assignment = True
            self._link = link
        except KafkaFault as fault:
            if fault.kind is FaultKind.AWAY:
                raise unavailable(
                    self._settings, f"within {_CONNECT_TIMEOUT_S:g} s ({fault.text})"
                ) from fault
            raise refused(self._settings, fault) from fault
        finally:
            if self._link is None:
                link.close(_CLOSE_TIMEOUT_S)
        if self._has_assignment:
            self._place(link)
        self._heard_at = self._looked_at = time.monotonic()

    def _described(self, link: KafkaLink) -> Topic:
        """Describe the topic, or say that it is not there."""
        try:
            return link.describe(_LOOK_TIMEOUT_S)
        except KafkaFault as fault:
            if fault.kind is not FaultKind.NO_TOPIC:
                raise
        raise SourceNotFound(
            f"topic {self.topic!r} does not exist at {self.bootstrap}"
            f"{nearest(self.topic, link.topics(_LOOK_TIMEOUT_S))}; create it, or check the name "
            f"and the right to describe it"
        )

    def _opened(self) -> KafkaLink:
        assert self._link is not None, "seek comes first"
        return self._link

    def _on_change(self, has_assignment: bool) -> None:
        # What was handed out before is stored by now, or its position will be refused. The store
        # is not asked here: it may be slow, and the client's heartbeats would wait for it.
        self._is_placed = False
        self._has_assignment = has_assignment

    def _place(self, link: KafkaLink) -> None:
        """Set all assigned partitions to the store's positions."""
        stored = self._stored()
        self._is_placed = True  # before the question: a change that comes now places again
        assigned = link.assigned()
        self._next = {n: stored[str(n)] for n in assigned if str(n) in stored}
        self._end.clear()
        _log.info("%s: partitions %s from %s", self.topic, sorted(assigned), self._next)
        try:
            link.seek({number: self._next.get(number) for number in assigned})
        except KafkaFault as fault:
            self._is_placed = False
            raise refused(self._settings, fault) from fault

    def _end_idling(self, link: KafkaLink) -> None:
        if self._is_idle:
            self._is_idle = False
            if self._is_placed:
                link.resume()

    def _recover(self, link: KafkaLink, fault: KafkaFault, timeout_s: float) -> None:
        """Do what a fault of a poll asks for, or raise what it means."""
        if fault.kind is FaultKind.GAP:
            try:
                self._close_gap(link, fault)
            except KafkaFault as second:
                raise refused(self._settings, second) from second
        elif fault.kind in (FaultKind.AWAY, FaultKind.NO_TOPIC):
            _log.info("Kafka at %s: %s; polling again", self.bootstrap, fault)
            if fault.kind is FaultKind.NO_TOPIC and not self._misses:
                self._looked_at = 0.0
            time.sleep(min(timeout_s, _PAUSE_S))
        else:
            raise refused(self._settings, fault) from fault

    def _follows(self, polled: Mapping[int, list[Message]]) -> bool:
        """Whether everything lies behind what was handed out; else it is asked for anew."""
        for partition, messages in polled.items():
            start = self._next.get(partition, 0)
            if messages[0].offset < start:
                _log.warning(
                    "%s partition %d: the client gave offset %d where %d was to come",
                    self.topic,
                    partition,
                    messages[0].offset,
                    start,
                )
                return False
        return True

    def _batch(self, link: KafkaLink, polled: Mapping[int, list[Message]]) -> Batch:
        messages: list[Message] = []
        position = []
        size = 0
        for partition, of_part in polled.items():
            # Compaction and transactions leave offsets out, so the stretch starts where the last
            # one ended, not at the first message.
            start = self._next.get(partition, of_part[0].offset)
            after = of_part[-1].offset + 1
            self._next[partition] = after
            position.append(PartitionPosition(str(partition), start, after))
            size += sum(len(one.value or b"") + len(one.key or b"") for one in of_part)
            messages += of_part
        return Batch(messages, tuple(position), size, self._is_caught_up(link))

    def _is_caught_up(self, link: KafkaLink) -> bool:
        """Whether every assigned partition is at the end it had when it was first read from.

        A broker's answer to a read names the partition's end. Its answer to a question for the end
        offset is not used: not every broker counts the last batch in.
        """
        if not self._is_placed:
            return False
        is_caught_up = True
        for partition in link.assigned():
            if partition not in self._end:
                end = link.end(partition)
                if end is None:
                    is_caught_up = False
                    continue
                self._end[partition] = end
            end = self._end[partition]
            if self._next.get(partition, 0) > end:
                # At the end, or behind it where the broker has lost some: as it is now.
                now = link.end(partition)
                is_caught_up &= now is not None and now >= self._next[partition]
            elif self._next.get(partition, 0) < end:
                # The last offsets may be marks of transactions, which are never handed out.
                position = link.position(partition)
                is_caught_up &= position is not None and position >= end
        return is_caught_up

    def _look(self, link: KafkaLink) -> None:
        """Look at the topic now and then: the client says nothing when it is gone, or grows."""
        now = time.monotonic()
        silent_s = now - self._heard_at
        every_s = _SILENT_LOOK_S if silent_s > _SILENT_LOOK_S else _LOOK_S
        behind = self._behind(link)
        if behind is None:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = now
            self._looked_at = 0.0  # it may have been deleted
        elif now - self._behind_since > _BEHIND_S and not self._misses:
            raise lost(self._settings, *behind)
        if now - self._looked_at < (_LOOK_AGAIN_S if self._misses else every_s):
            return
        self._looked_at = now
        try:
            topic = link.describe(_LOOK_TIMEOUT_S)
            if self.assignment == "all" and topic.partitions - link.assigned():
                _log.info("%s has %d partitions now", self.topic, len(topic.partitions))
                link.assign(topic.partitions)
                self._is_placed = False
        except KafkaFault as fault:
            self._note_missed(fault, silent_s)
            return
        self._misses = 0
        self._heard_at = time.monotonic()
        if self._topic_id and topic.id and topic.id != self._topic_id:
            self._topic_id = topic.id
            self._check_anew()

    def _behind(self, link: KafkaLink) -> tuple[int, int, int] | None:
        """Find a partition that ends before the place to read on: number, place and end.

        Not every broker answers a read behind the end with an error.
        """
        if self._is_placed:
            for partition, position in self._next.items():
                end = link.end(partition)
                if end is not None and end < position:
                    return partition, position, end
        return None

    def _note_missed(self, fault: KafkaFault, silent_s: float) -> None:
        if fault.kind is FaultKind.NO_TOPIC:
            self._misses += 1
            if self._misses > 1:
                raise SourceNotFound(
                    f"topic {self.topic!r} at {self.bootstrap} was deleted while it was read; "
                    f"what was stored stays stored. A topic of the same name that is made anew "
                    f"needs another consumer group"
                ) from fault
        elif fault.kind is FaultKind.AWAY:
            _log.warning(
                "Kafka at %s has been silent for %.0f s: %s", self.bootstrap, silent_s, fault
            )
            if silent_s > self._unavailable_timeout_s:
                raise unavailable(self._settings, f"for {silent_s:.0f} s") from fault
        else:
            raise refused(self._settings, fault) from fault

    def _check_anew(self) -> None:
        """Go on in a topic that was deleted and made anew, if nothing of the old one was read."""
        if self._next:
            partition, position = min(self._next.items())
            raise PositionLost(
                f"{self.topic} was deleted and made anew while it was read: the store stands at "
                f"{position} in partition {partition} of the old one; read the new one under "
                f"another consumer group",
                partition=str(partition),
                position=position,
            )
        self._is_placed = False

    def _close_gap(self, link: KafkaLink, fault: KafkaFault) -> None:
        """Skip what was removed, where that is wanted, or say what is lost."""
        for partition, position in list(self._next.items()):
            if fault.partition not in (None, partition):
                continue
            first, last = link.bounds(partition, _LOOK_TIMEOUT_S)
            what = (
                f"{self.topic} partition {partition}: the store stands at {position}, but the "
                f"broker has {first} to {last}"
            )
            if position < first:
                what += f": {first - position} messages were removed before they were stored"
                if self.on_gap == "fail":
                    raise PositionLost(
                        f"{what}; lengthen the topic's retention, and read on with "
                        f"on_gap='skip' once they can be done without",
                        partition=str(partition),
                        position=position,
                    ) from fault
                # The next stretch still starts at the stored position, and so closes the gap.
                _log.warning("%s; going on from %d", what, first)
                link.seek(self._next | {partition: first})
            elif position > last:
                raise lost(self._settings, partition, position, last) from fault


def kafka_source(
    topic: str,
    *,
    consumer_group: str,
    bootstrap: str | None = None,
    security_file: str | Path | None = None,
    client: Client | None = None,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> KafkaSource:
    """Make a Kafka source from arguments and, where they are absent, from the environment.

    Args:
        topic: the topic.
        consumer_group: the consumer group.
        bootstrap: default: `FEATURELINE_KAFKA_BOOTSTRAP`.
        security_file: TOML file of `KafkaSecurity.from_file`; default: what
            `KafkaSecurity.from_environment` finds.
        client: default: `FEATURELINE_KAFKA_CLIENT`, else `"kafka-python"`.
        environment: default: this process's.
        options: further arguments of KafkaSource.

    Raises:
        InvalidRequest: the security's settings are wrong.
        ValueError, ImportError: see KafkaSource.
    """
    environment = os.environ if environment is None else environment
    security = KafkaSecurity.found(security_file, environment=environment)
    chosen = client or environment.get("FEATURELINE_KAFKA_CLIENT") or "kafka-python"
    return KafkaSource(
        bootstrap or environment.get("FEATURELINE_KAFKA_BOOTSTRAP", ""),
        topic,
        consumer_group=consumer_group,
        client=cast(Client, chosen),
        security=security,
        **options,
    )


def _link_class(client: str) -> tuple[str, Callable[[LinkSettings], KafkaLink]]:
    """Choose the library, and load the optional one only when it is asked for."""
    if client not in CLIENTS:
        raise ValueError(f"client: expected one of {', '.join(CLIENTS)}, got {client!r}")
    if client == "auto":
        found = importlib.util.find_spec("confluent_kafka")
        client = "kafka-python" if found is None else "confluent"
    if client == "kafka-python":
        return client, KafkaPythonLink
    from ingest.sources.confluent import ConfluentLink

    return client, ConfluentLink
