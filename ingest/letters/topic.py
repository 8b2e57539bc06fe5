"""Dead letters in a Kafka topic, for programs that listen."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, final

from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import KafkaError, MessageSizeTooLargeError

import lineage
from featurestore import SourcePosition
from featurestore.errors import nearest
from ingest.errors import IngestError, SourceNotFound
from ingest.letters.letter import DeadLetter, DeadLetterSink, json_text, rank
from ingest.source import Message
from ingest.sources.kafka import KafkaSource
from ingest.sources.kafka_python import security_settings
from ingest.sources.kafka_security import KafkaSecurity

__all__ = ["DeadLetterTopic"]

_PREFIX: Final = "featureline."
_TIMEOUT_S: Final = 30.0
_CLOSE_S: Final = 3.0
_GIVEN_UP_S: Final = 10.0
_CONNECT_TIMEOUT_MS: Final = 10_000
_POLL: Final = 1000
_POLL_S: Final = 0.5
# The broker decides what is too large, not this client.
_MAX_REQUEST_BYTES: Final = 1 << 30


@final
class DeadLetterTopic(DeadLetterSink):
    """A topic of dead letters: payload, key and headers as they came, the rest in more headers.

    The added headers come last, all of them in every letter, as UTF-8: `featureline.group`,
    `.source`, `.partition`, `.offset`, `.error`, `.reason`, `.time`, `.timestamp_us`, `.schema`,
    `.attempt`, `.replayed` and `.payload`, which is `row` where the payload is a row that was
    written as JSON, `bytes`, or `none`.

    The broker has all letters of a batch, on all replicas that are in sync, before the batch's
    position is stored. A batch that is read again is produced again, and a letter's later states
    (refused once more, replayed) are messages of their own: **whoever reads the topic has to
    de-duplicate by source, partition and offset**, as `read` does, which takes the latest. When a
    batch was cut short and its message accepted the second time, because the group had changed, its
    letter stays.

    Args:
        bootstrap: `HOST:PORT`, several separated by commas.
        topic: the topic's name; it must exist.
        security: TLS and SASL; None: in the clear.
        timeout_s: how long the broker may take for the letters of one batch.

    Raises:
        ValueError: an argument is empty.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        *,
        security: KafkaSecurity | None = None,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        for what, value in (("bootstrap", bootstrap), ("topic", topic)):
            if not value:
                raise ValueError(f"{what}: expected a name, got {value!r}")
        self.bootstrap = bootstrap
        self.topic = topic
        self._security = security or KafkaSecurity()
        self._timeout_s = timeout_s
        self._producer: Any = None

    def open(self) -> None:
        """See DeadLetterSink.open: the broker answers and has the topic."""
        if self._producer is not None:
            return
        settings = {
            "bootstrap_servers": [one.strip() for one in self.bootstrap.split(",")],
            "bootstrap_timeout_ms": _CONNECT_TIMEOUT_MS,
            **security_settings(self._security),
        }
        try:
            admin = KafkaAdminClient(**settings)
            try:
                topics = admin.list_topics()
            finally:
                admin.close()
            if self.topic not in topics:
                raise SourceNotFound(
                    f"topic {self.topic!r} for dead letters does not exist at {self.bootstrap}"
                    f"{nearest(self.topic, topics)}; create it, or check the name and the right "
                    f"to describe it"
                )
            milliseconds = int(self._timeout_s * 1000)
            self._producer = KafkaProducer(
                **settings,
                acks="all",
                # A letter that comes twice does no harm; without a producer's id the client also
                # gives up in time when the broker goes away before it has handed one out.
                enable_idempotence=False,
                max_block_ms=milliseconds,
                delivery_timeout_ms=milliseconds,
                request_timeout_ms=milliseconds // 2,
                max_request_size=_MAX_REQUEST_BYTES,
            )
        except KafkaError as error:
            raise self._failed(error) from error

    def write(
        self, letters: Sequence[DeadLetter], position: SourcePosition, *, group: str
    ) -> list[Path]:
        """See DeadLetterSink.write."""
        self._produce(letters)
        return []

    def settle(self, position: SourcePosition, *, group: str, written: Sequence[Path] = ()) -> None:
        """Do nothing: what is in a topic stays there."""

    def read(self, group: str | None = None) -> Iterator[DeadLetter]:
        """Give each letter once, in its latest state, up to the topic's end when reading began.

        The topic is read twice: to see which message is a letter's latest, then for these.

        Args:
            group: only this feature group's.

        Raises:
            SourceNotFound: there is no such topic.
            SourceUnavailable: no broker answers.
            IngestError: a message of the topic is no dead letter.

        Cost: about 300 bytes of memory per letter.
        """
        latest: dict[tuple[str, str, int], tuple[Any, str, int]] = {}
        for message in self._messages():
            letter = _letter(message)
            known = latest.get(letter.place)
            if known is None or rank(letter) >= known[0]:
                latest[letter.place] = (rank(letter), message.partition, message.offset)
        chosen = {(partition, offset) for _, partition, offset in latest.values()}
        del latest
        for message in self._messages():
            if (message.partition, message.offset) in chosen:
                letter = _letter(message)
                if group in (None, letter.group):
                    yield letter

    def amend(self, letters: Sequence[DeadLetter]) -> None:
        """See DeadLetterSink.amend: the newer states are produced."""
        self._produce(letters)

    def artifacts(self, group: str) -> Sequence[lineage.Entity]:
        """See DeadLetterSink.artifacts."""
        uri = f"kafka://{self.bootstrap}/{self.topic}?dead-letters-of={group}"
        return (
            lineage.artifact(
                "DeadLetterTopic",
                uri,
                name=f"{self.topic} (dead letters of {group})",
                properties={"group": group, "topic": self.topic, "bootstrap": self.bootstrap},
            ),
        )

    def close(self) -> None:
        """Disconnect."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            producer.close(timeout=_CLOSE_S)

    def _produce(self, letters: Sequence[DeadLetter]) -> None:
        if not letters:
            return
        try:
            self.open()
            sent = [
                self._producer.send(
                    self.topic, _value(letter), key=letter.key, headers=_headers(letter)
                )
                for letter in letters
            ]
            # The producer gives up by itself first, and can then be closed.
            self._producer.flush(timeout=self._timeout_s + _GIVEN_UP_S)
            for future in sent:
                future.get(timeout=_GIVEN_UP_S)
        except KafkaError as error:
            self.close()
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> IngestError:
        hint = "check that the topic exists, that the broker runs, and the right to write to it"
        if isinstance(error, MessageSizeTooLargeError):
            hint = (
                "a letter is larger than the topic takes: raise max.message.bytes of the topic, or "
                "put letters into a folder"
            )
        return IngestError(
            f"dead letters cannot be produced to topic {self.topic!r} at {self.bootstrap}: "
            f"{type(error).__name__}: {error}; nothing of the batch was stored, so it is read "
            f"again; {hint}"
        )

    def _messages(self) -> Iterator[Message]:
        source = KafkaSource(
            self.bootstrap,
            self.topic,
            consumer_group="dead-letters",
            assignment="all",
            security=self._security,
        )
        try:
            source.seek(dict)
            while True:
                batch = source.poll(_POLL, _POLL_S)
                yield from batch.messages
                if batch.is_caught_up:
                    return
        finally:
            source.close()


def _value(letter: DeadLetter) -> bytes | None:
    if isinstance(letter.payload, Mapping):
        return json_text(letter.payload).encode()
    # A message needs a key or a value.
    return b"" if letter.payload is None and letter.key is None else letter.payload


def _headers(letter: DeadLetter) -> list[tuple[str, bytes]]:
    kind = "none" if letter.payload is None else "row"
    if isinstance(letter.payload, bytes):
        kind = "bytes"
    facts = {
        "group": letter.group,
        "source": letter.source,
        "partition": letter.partition,
        "offset": letter.offset,
        "error": letter.error,
        "reason": letter.reason,
        "time": letter.time.astimezone(dt.UTC).isoformat(timespec="microseconds"),
        "timestamp_us": "" if letter.timestamp_us is None else letter.timestamp_us,
        "schema": letter.schema,
        "attempt": letter.attempt,
        "replayed": "" if letter.replayed is None else letter.replayed.isoformat(),
        "payload": kind,
    }
    return [
        *letter.headers,
        *((_PREFIX + name, str(value).encode(errors="replace")) for name, value in facts.items()),
    ]


_FACTS: Final = 12


def _letter(message: Message) -> DeadLetter:
    # Ours are the last ones: the message may have come from another topic of dead letters.
    own = message.headers[:-_FACTS]
    facts = {
        name.removeprefix(_PREFIX): value.decode() for name, value in message.headers[-_FACTS:]
    }
    try:
        kind, at, replayed = facts["payload"], facts["timestamp_us"], facts["replayed"]
        payload: Any = message.value
        if kind == "row":
            payload = json.loads(payload)
        elif kind == "bytes":
            payload = payload or b""
        else:
            payload = None
        return DeadLetter(
            group=facts["group"],
            source=facts["source"],
            partition=facts["partition"],
            offset=int(facts["offset"]),
            payload=payload,
            key=message.key,
            error=facts["error"],
            reason=facts["reason"],
            time=dt.datetime.fromisoformat(facts["time"]),
            headers=tuple((name, bytes(value or b"")) for name, value in own),
            timestamp_us=int(at) if at else None,
            schema=facts["schema"],
            attempt=int(facts["attempt"]),
            replayed=dt.datetime.fromisoformat(replayed) if replayed else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise IngestError(
            f"partition {message.partition} offset {message.offset}: expected a dead letter with "
            f"the headers {_PREFIX}group and so on, got another message ({error}); is this the "
            f"topic of dead letters?"
        ) from error
