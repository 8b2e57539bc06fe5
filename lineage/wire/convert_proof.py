"""Checkpoints and proofs as protobuf messages."""

from __future__ import annotations

from lineage.entity import from_us, to_us
from lineage.log import Event
from lineage.proofs.checkpoint import Checkpoint
from lineage.proofs.proof import GrowthProof, Proof
from lineage.v1 import lineage_pb2 as pb
from lineage.wire.convert import moment_of, timestamp


def checkpoint_to_message(made: Checkpoint) -> pb.Checkpoint:
    """A checkpoint as a message; what it is continued from stays with the store."""
    return pb.Checkpoint(
        sequence=made.sequence,
        root=made.root,
        head=made.head,
        time=timestamp(from_us(made.time_us)),
        public_key=made.public_key,
        signature=made.signature,
    )


def checkpoint_from_message(message: pb.Checkpoint) -> Checkpoint:
    """A checkpoint."""
    return Checkpoint(
        message.sequence,
        message.root,
        message.head,
        to_us(moment_of(message.time)),
        public_key=message.public_key,
        signature=message.signature,
    )


def proof_to_message(proof: Proof) -> pb.ProveEntityResponse:
    """A proof as a message."""
    event = proof.event
    return pb.ProveEntityResponse(
        entity=proof.entity,
        event=pb.LogEvent(
            sequence=event.sequence,
            time_us=event.time_us,
            actor=event.actor,
            kind=event.kind,
            event_uid=event.event_uid,
            body=event.body,
            previous=event.previous,
            hash=event.hash,
        ),
        checkpoint=checkpoint_to_message(proof.checkpoint),
        path=proof.path,
    )


def proof_from_message(message: pb.ProveEntityResponse) -> Proof:
    """A proof, not checked."""
    said = message.event
    event = Event(
        said.sequence,
        said.time_us,
        said.actor,
        said.kind,
        said.event_uid,
        said.body,
        said.previous,
        said.hash,
    )
    checkpoint = checkpoint_from_message(message.checkpoint)
    return Proof(message.entity, event, checkpoint, tuple(message.path))


def growth_to_message(proof: GrowthProof) -> pb.ProveGrowthResponse:
    """A proof of growth as a message."""
    return pb.ProveGrowthResponse(
        earlier=checkpoint_to_message(proof.earlier),
        later=checkpoint_to_message(proof.later),
        path=proof.path,
    )


def growth_from_message(message: pb.ProveGrowthResponse) -> GrowthProof:
    """A proof of growth, not checked."""
    return GrowthProof(
        checkpoint_from_message(message.earlier),
        checkpoint_from_message(message.later),
        tuple(message.path),
    )
