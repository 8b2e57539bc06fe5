"""Proofs that can be checked far from the graph: an event is in the log, and the log only grew."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, final

from lineage.change import Change
from lineage.entity import from_us, to_us
from lineage.errors import InvalidProof
from lineage.log import Event, chain_hash, now_us
from lineage.proofs.checkpoint import Checkpoint, make_checkpoint
from lineage.proofs.merkle import (
    Subtrees,
    consistency_ranges,
    inclusion_ranges,
    is_consistent,
    leaf_hash,
    root_from_inclusion,
)
from lineage.query import located
from lineage.store import LineageStore

_FORM: Final = "featureline-lineage-proof-1"
_TRIES: Final = 20
_GROWTH_FORM: Final = "featureline-lineage-growth-1"


@final
@dataclass(frozen=True)
class Proof:
    """That an event is in the log of a checkpoint.

    `examples/check_lineage_proof.py` checks it with the standard library alone.

    Args:
        entity: uid of what it is about; "" for a proof of an event.
        event: the event, whole.
        checkpoint: of the log that has it.
        path: hashes of the subtrees beside the way from the event to the root, from below.

    >>> from lineage import Graph, MemoryStore, artifact
    >>> graph = Graph(MemoryStore())
    >>> data = artifact("DataSet", "s3://b/flights", content_hash="51b2")
    >>> recorded = graph.record([data], kind="Loaded", actor="ann")
    >>> proof = graph.prove(data)
    >>> proof.check()
    >>> proof.event.actor
    'ann'
    """

    entity: str
    event: Event
    checkpoint: Checkpoint
    path: tuple[bytes, ...]

    @property
    def recorded(self) -> datetime:
        """When the event was recorded."""
        return from_us(self.event.time_us)

    def check(self, root: bytes | None = None) -> None:
        """Check the proof, as anybody can.

        Args:
            root: that was kept elsewhere; None: the one that the proof names, which shows only
                that it fits together.

        Raises:
            InvalidProof: it does not hold; the text says where.
        """
        event, checkpoint = self.event, self.checkpoint
        recomputed = chain_hash(
            event.previous,
            event.sequence,
            event.time_us,
            event.actor,
            event.kind,
            event.event_uid,
            event.body,
        )
        if recomputed != event.hash:
            raise InvalidProof(f"event {event.sequence} was altered: its hash does not match")
        if self.entity and self.entity not in _entities(event):
            raise InvalidProof(f"event {event.sequence} says nothing of {self.entity!r}")
        reached = root_from_inclusion(
            event.sequence - 1, checkpoint.sequence, leaf_hash(event.hash), self.path
        )
        if reached != checkpoint.root:
            raise InvalidProof(
                f"event {event.sequence} does not belong to the root {checkpoint.root.hex()}"
            )
        if root is not None and root != checkpoint.root:
            raise InvalidProof(
                f"the proof is for the root {checkpoint.root.hex()}, and not for {root.hex()}"
            )

    def to_json(self) -> dict[str, Any]:
        """Write it as JSON values: bytes in hex, the body in base64."""
        event = self.event
        return {
            "form": _FORM,
            "entity": self.entity,
            "event": {
                "sequence": event.sequence,
                "time_us": event.time_us,
                "actor": event.actor,
                "kind": event.kind,
                "event_uid": event.event_uid,
                "body": base64.b64encode(event.body).decode(),
                "previous": event.previous.hex(),
                "hash": event.hash.hex(),
            },
            "path": [part.hex() for part in self.path],
            "checkpoint": self.checkpoint.to_json(),
        }

    @classmethod
    def from_json(cls, document: object) -> Proof:
        """Read what `to_json` wrote.

        Raises:
            InvalidProof: it is something else.
        """
        try:
            if not isinstance(document, Mapping) or document["form"] != _FORM:
                raise ValueError("another form")
            said = document["event"]
            event = Event(
                int(said["sequence"]),
                int(said["time_us"]),
                str(said["actor"]),
                str(said["kind"]),
                str(said["event_uid"]),
                base64.b64decode(said["body"], validate=True),
                bytes.fromhex(said["previous"]),
                bytes.fromhex(said["hash"]),
            )
            return cls(
                str(document["entity"]),
                event,
                Checkpoint.from_json(document["checkpoint"]),
                tuple(map(bytes.fromhex, document["path"])),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise InvalidProof(
                f"expected a proof of the form {_FORM!r}, got something else ({error})"
            ) from error


@final
@dataclass(frozen=True)
class GrowthProof:
    """That the log of an earlier checkpoint is the beginning of that of a later one.

    Args:
        earlier: the one checkpoint.
        later: the other.
        path: hashes of the subtrees that lead to both roots, from below.
    """

    earlier: Checkpoint
    later: Checkpoint
    path: tuple[bytes, ...]

    def check(self) -> None:
        """Check the proof, as anybody can.

        Raises:
            InvalidProof: it does not hold.
        """
        before, after = self.earlier, self.later
        if not is_consistent(before.sequence, before.root, after.sequence, after.root, self.path):
            raise InvalidProof(
                f"the log of checkpoint {after.sequence} does not begin with that of checkpoint "
                f"{before.sequence}: something up to event {before.sequence} was altered"
            )

    def to_json(self) -> dict[str, Any]:
        """Write it as JSON values."""
        return {
            "form": _GROWTH_FORM,
            "earlier": self.earlier.to_json(),
            "later": self.later.to_json(),
            "path": [part.hex() for part in self.path],
        }

    @classmethod
    def from_json(cls, document: object) -> GrowthProof:
        """Read what `to_json` wrote.

        Raises:
            InvalidProof: it is something else.
        """
        try:
            if not isinstance(document, Mapping) or document["form"] != _GROWTH_FORM:
                raise ValueError("another form")
            return cls(
                Checkpoint.from_json(document["earlier"]),
                Checkpoint.from_json(document["later"]),
                tuple(map(bytes.fromhex, document["path"])),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise InvalidProof(
                f"expected a proof of the form {_GROWTH_FORM!r}, got something else ({error})"
            ) from error


def checkpoint_now(store: LineageStore) -> Checkpoint:
    """Make a checkpoint at the end of a store's log, and keep it; one that is there is taken.

    Raises:
        InvalidProof: nothing was recorded yet.
    """
    head = store.head()
    if not head.sequence:
        raise InvalidProof("there is no checkpoint of an empty log: record something first")
    before = None
    for known in store.checkpoints():
        if known.sequence <= head.sequence:
            before = known
    if before is not None and before.sequence == head.sequence:
        return before
    made = make_checkpoint(before, head.sequence, now_us(), store.hashes)
    # The next event tells of a checkpoint at the end of the log, which may have moved meanwhile.
    for _ in range(_TRIES):
        end = store.head().sequence
        if end == made.sequence:
            break
        made = make_checkpoint(made, end, now_us(), store.hashes)
    store.add_checkpoint(made)
    return made


def prove(store: LineageStore, what: str | int, checkpoint: Checkpoint) -> Proof:
    """See `Graph.prove`."""
    uid, sequence = ("", what) if isinstance(what, int) else _recorded(store, what)
    if not 1 <= sequence <= checkpoint.sequence:
        raise InvalidProof(
            f"event {sequence} is not in the log of checkpoint {checkpoint.sequence}, which has "
            f"events 1 to {checkpoint.sequence}; prove it against a later checkpoint"
        )
    event = _event(store, sequence)
    subtrees = _subtrees(store, checkpoint)
    ranges = inclusion_ranges(sequence - 1, checkpoint.sequence)
    made = Proof(uid, event, checkpoint, tuple(subtrees.hash(*one) for one in ranges))
    made.check()  # so that what was altered is noticed here, and not by who gets the proof
    return made


def prove_growth(store: LineageStore, earlier: Checkpoint, later: Checkpoint) -> GrowthProof:
    """See `Graph.prove_growth`."""
    if earlier.sequence > later.sequence:
        raise InvalidProof(
            f"checkpoint {earlier.sequence} is later than checkpoint {later.sequence}: the log "
            f"ends too early for it, or name them the other way round"
        )
    subtrees = _subtrees(store, later)
    ranges = consistency_ranges(earlier.sequence, later.sequence)
    made = GrowthProof(earlier, later, tuple(subtrees.hash(*one) for one in ranges))
    made.check()
    return made


def _subtrees(store: LineageStore, checkpoint: Checkpoint) -> Subtrees:
    if checkpoint.sequence > store.head().sequence:
        raise InvalidProof(
            f"checkpoint {checkpoint.sequence} is later than the end of the log, event "
            f"{store.head().sequence}: events are missing, or it is of another log"
        )
    saved = [(known.sequence, known.frontier) for known in store.checkpoints()]
    return Subtrees(store.hashes, saved)


def _recorded(store: LineageStore, name: str) -> tuple[str, int]:
    """The uid of an entity, and the sequence of the event that recorded it first."""
    with store.view() as view:
        uid, _ = located(view, name)
        created = view.by_uid([uid])[uid].created
        if created is None:
            raise AssertionError("a recorded entity has its times")
        # Several events may be of the same microsecond.
        before = view.sequence_at(to_us(created) - 1)
    with store.log(before) as (events, _):
        for event in events:
            if uid in _entities(event):
                return uid, event.sequence
    raise InvalidProof(
        f"no event of the log records {uid!r}: the graph is not what the log says; see verify"
    )


def _event(store: LineageStore, sequence: int) -> Event:
    with store.log(sequence - 1) as (events, _):
        event = next(events, None)
    if event is None or event.sequence != sequence:
        raise InvalidProof(f"event {sequence} is missing from the log; see verify")
    return event


def _entities(event: Event) -> Sequence[str]:
    try:
        return [entity.uid for entity in Change.decode(event.body).entities]
    except (ValueError, KeyError, TypeError):
        return []


def read_proof(text: str) -> Proof:
    """Read a proof from the text of its file.

    Raises:
        InvalidProof: it is something else.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InvalidProof(f"expected a proof as JSON ({error})") from error
    return Proof.from_json(document)
