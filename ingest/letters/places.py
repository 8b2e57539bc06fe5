"""The place of dead letters by plain values, as a command line or a settings file has them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from featurestore import InvalidRequest
from ingest.letters.folder import DeadLetters, SeveralSinks
from ingest.letters.letter import DeadLetterSink
from ingest.letters.topic import DeadLetterTopic
from ingest.sources.kafka_security import KafkaSecurity

__all__ = ["dead_letter_sink"]


def dead_letter_sink(
    folder: str | Path,
    *,
    format: Literal["jsonl", "parquet"] = "jsonl",
    topic: str | None = None,
    bootstrap: str | None = None,
    security: KafkaSecurity | None = None,
) -> DeadLetterSink:
    """Make the place where refused messages go: a folder, and a topic beside it where one is named.

    Args:
        folder: see DeadLetters.
        format: of the files in it.
        topic: see DeadLetterTopic; None: the folder alone.
        bootstrap: the topic's brokers.
        security: TLS and SASL towards them.

    Raises:
        InvalidRequest: a topic without brokers, or an unknown format.
    """
    try:
        letters = DeadLetters(folder, format=format)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error
    if topic is None:
        return letters
    if not bootstrap:
        raise InvalidRequest(f"dead letters in topic {topic!r}: expected its brokers, got none")
    return SeveralSinks(letters, DeadLetterTopic(bootstrap, topic, security=security))
