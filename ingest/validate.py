"""The check of a batch, before anything is written: which messages are records of the group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from featurestore import FeatureGroup, InvalidRecord, Value, WriteError
from featurestore.convert import checked_size, encode_record
from featurestore.record import MAX_RECORD_BYTES
from ingest.decode import Decoder
from ingest.errors import Undecodable
from ingest.source import Message

__all__ = ["Checked", "Refusal", "check"]

# A record of n features is stored in at most its texts and 100 bytes for each feature: its name
# (64), its number (8) and the framing.
_FEATURE_BYTES: Final = 100


@final
@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that is no record of the group.

    Args:
        message: as it came.
        error: name of the error's class.
        reason: what was expected and what came.
    """

    message: Message
    error: str
    reason: str


@final
@dataclass(frozen=True, slots=True)
class Checked:
    """A batch's messages, told apart.

    Args:
        records: what is to be put, in the order of the messages.
        refused: the other messages.
    """

    records: Sequence[Mapping[str, Value]]
    refused: Sequence[Refusal]

    def without(self, errors: Sequence[WriteError], messages: Sequence[Message]) -> Checked:
        """Return the same messages told apart anew, after the store refused some records.

        Args:
            errors: the store's refusals, by index of `records`.
            messages: what was checked.
        """
        known = {(refusal.message.partition, refusal.message.offset) for refusal in self.refused}
        accepted = [
            message for message in messages if (message.partition, message.offset) not in known
        ]
        refused = {error.index: error for error in errors}
        return Checked(
            [record for index, record in enumerate(self.records) if index not in refused],
            [
                *self.refused,
                *(
                    Refusal(accepted[index], error.code, error.message)
                    for index, error in refused.items()
                ),
            ],
        )


def check(messages: Iterable[Message], decoder: Decoder, group: FeatureGroup) -> Checked:
    """Decode messages and check each against the group, as the store will.

    After this the store has no reason left to refuse one of the records, unless the group or the
    clock changes meanwhile, so that refusals are known before the transaction.
    """
    records: list[Mapping[str, Value]] = []
    refused: list[Refusal] = []
    decode, validate = decoder.decode, group.validate
    for message in messages:
        try:
            if message.fault is not None:
                raise message.fault
            record = validate(decode(message))
            if _may_be_oversized(record):
                checked_size(group, encode_record(record))
        except (Undecodable, InvalidRecord) as error:
            refused.append(Refusal(message, type(error).__name__, str(error)))
        else:
            records.append(record)
    return Checked(records, refused)


def _may_be_oversized(record: dict[str, Value]) -> bool:
    size = len(record) * _FEATURE_BYTES
    for value in record.values():
        if isinstance(value, str):
            size += 4 * len(value)  # UTF-8 takes up to four bytes for a character
    return size > MAX_RECORD_BYTES
