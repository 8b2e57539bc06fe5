"""The check of a batch, before anything is written: which messages are records of the group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from featurestore import CheckedBatch, Delete, FeatureGroup, WriteError, check_batch
from ingest.decode import Decoded, Decoder, Deleted
from ingest.errors import Undecodable
from ingest.source import Message
from ingest.transform import Transform

__all__ = ["Checked", "Refusal", "check"]


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
        messages: all of them; everything else goes by their places.
        batch: what is to be put and deleted.
        refused: the messages that are refused, in order.
        skipped: how many say nothing that concerns records.
    """

    messages: Sequence[Message]
    batch: CheckedBatch
    refused: Sequence[Refusal]
    skipped: int

    def without(self, errors: Sequence[WriteError]) -> Checked:
        """Return the same messages told apart anew, after the store refused some records.

        Args:
            errors: the store's refusals, by the places of the messages.
        """
        refused = [
            *self.refused,
            *(Refusal(self.messages[error.index], error.code, error.message) for error in errors),
        ]
        return Checked(self.messages, self.batch, refused, self.skipped)

    @property
    def written(self) -> int:
        """How many records were put or deleted."""
        return len(self.messages) - len(self.refused) - self.skipped


def check(
    messages: Sequence[Message],
    decoder: Decoder,
    group: FeatureGroup,
    transforms: Sequence[Transform] = (),
) -> Checked:
    """Decode messages, transform what they say, and check it against the group as the store will.

    After this the store has no reason left to refuse one of the records, unless the group or the
    clock changes meanwhile, so that refusals are known before the transaction.

    Raises:
        SourceUnavailable: what decoding or a transform needs does not answer.
    """
    refusals: dict[int, Exception] = {}
    places: list[int] = []
    decoded: list[Decoded] = []
    decode = decoder.decode
    for place, message in enumerate(messages):
        try:
            if message.fault is not None:
                raise message.fault
            said = decode(message)
        except Undecodable as error:
            refusals[place] = error
        else:
            if said is not None:
                places.append(place)
                decoded.append(said)
    for transform in transforms:
        if not decoded:
            break
        places, decoded = _transformed(transform, messages, places, decoded, refusals)
    entries: list[Mapping[str, object] | Delete] = []
    kept: list[int] = []
    for place, said in zip(places, decoded, strict=True):
        if isinstance(said, Deleted):
            try:
                entries.append(_delete(group, said))
            except Undecodable as error:
                refusals[place] = error
                continue
        else:
            entries.append(said)  # type: ignore[arg-type]  # None was left out
        kept.append(place)
    batch = check_batch(group, entries)
    refusals.update((kept[number], error) for number, error in batch.refused)
    if len(kept) != len(messages):
        batch = batch.renumbered(kept)
    refused = [
        Refusal(messages[place], type(error).__name__, str(error))
        for place, error in sorted(refusals.items())
    ]
    return Checked(messages, batch, refused, len(messages) - len(batch) - len(refused))


def _transformed(
    transform: Transform,
    messages: Sequence[Message],
    places: list[int],
    decoded: list[Decoded],
    refusals: dict[int, Exception],
) -> tuple[list[int], list[Decoded]]:
    changed = transform.apply(decoded, [messages[place] for place in places])
    left: list[int] = []
    records: list[Decoded] = []
    for place, record in zip(places, changed, strict=True):
        if isinstance(record, Undecodable):
            refusals[place] = record
        elif record is not None:
            left.append(place)
            records.append(record)
    return left, records


def _delete(group: FeatureGroup, said: Deleted) -> Delete:
    fields = said.fields
    name = group.record_identifier
    if name not in fields:
        raise Undecodable(
            "deletion", expected=f"the record identifier {name!r}", got=f"{list(fields)}"
        )
    moment = fields.get(group.event_time) if said.event_time is None else said.event_time
    return Delete(group.name, fields[name], moment)
