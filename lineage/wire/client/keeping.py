"""Checking the log of a server, proofs of it, and keeping its graph and home."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta

from lineage.collection import KINDS
from lineage.collection import Collection as Collected
from lineage.entity import Entity
from lineage.log import LogReport
from lineage.proofs.checkpoint import Checkpoint
from lineage.proofs.proof import GrowthProof, Proof
from lineage.questions.ask import uid_of
from lineage.v1 import lineage_pb2 as pb
from lineage.wire import convert_collect, convert_proof
from lineage.wire.client.called import Called


class Keeping(Called):
    """The part of a client that checks what a server keeps, mends it and clears it up."""

    def verify(self, *, projections: bool = False, against: Sequence[Checkpoint] = ()) -> LogReport:
        """Check the log of the server; see `Graph.verify`."""
        kept = map(convert_proof.checkpoint_to_message, against)
        reply: pb.VerifyLogResponse = self._call(
            self._stub.VerifyLog,
            pb.VerifyLogRequest(against=kept, projections=projections),
            is_long=projections,
        )
        return LogReport(
            reply.intact,
            reply.events,
            reply.first_altered or None,
            reply.reason or None,
            reply.checkpoints,
        )

    def rebuild(self) -> int:
        """Project the server's graph anew from its log; see `Graph.rebuild`.

        It takes as long as it takes: `timeout_s` does not count.
        """
        reply: pb.RebuildGraphResponse = self._call(
            self._stub.RebuildGraph, pb.RebuildGraphRequest(), is_long=True
        )
        return reply.events

    def checkpoint(self) -> Checkpoint:
        """Make a checkpoint of the log as it is now; see `Graph.checkpoint`."""
        reply: pb.MakeCheckpointResponse = self._call(
            self._stub.MakeCheckpoint, pb.MakeCheckpointRequest()
        )
        return convert_proof.checkpoint_from_message(reply.checkpoint)

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints that the store keeps, in sequence."""
        reply: pb.ListCheckpointsResponse = self._call(
            self._stub.ListCheckpoints, pb.ListCheckpointsRequest()
        )
        return [convert_proof.checkpoint_from_message(one) for one in reply.checkpoints]

    def prove(self, what: str | Entity | int, checkpoint: Checkpoint | None = None) -> Proof:
        """Prove that an entity, or an event, is in the log; see `Graph.prove`.

        What the server answered is checked.
        """
        kept = None if checkpoint is None else convert_proof.checkpoint_to_message(checkpoint)
        request = (
            pb.ProveEntityRequest(sequence=what, checkpoint=kept)
            if isinstance(what, int)
            else pb.ProveEntityRequest(entity=uid_of(what), checkpoint=kept)
        )
        reply: pb.ProveEntityResponse = self._call(self._stub.ProveEntity, request)
        proof = convert_proof.proof_from_message(reply)
        proof.check(None if checkpoint is None else checkpoint.root)
        return proof

    def prove_growth(self, earlier: Checkpoint, later: Checkpoint | None = None) -> GrowthProof:
        """Prove that the log only grew; see `Graph.prove_growth`.

        What the server answered is checked, with the checkpoints given here.
        """
        kept = None if later is None else convert_proof.checkpoint_to_message(later)
        request = pb.ProveGrowthRequest(
            earlier=convert_proof.checkpoint_to_message(earlier), later=kept
        )
        reply: pb.ProveGrowthResponse = self._call(self._stub.ProveGrowth, request)
        answer = convert_proof.growth_from_message(reply)
        proof = replace(answer, earlier=earlier, later=later or answer.later)
        proof.check()
        return proof

    def collect(
        self,
        *,
        apply: bool = False,
        keep: Collection[str] = (),
        older_than: timedelta = timedelta(days=30),
        kinds: Collection[str] = KINDS,
    ) -> Collected:
        """Say what of the server's home no replay of anything in use needs, or delete it.

        It takes as long as it takes: `timeout_s` does not count.

        Args:
            apply: delete it, and record that.
            keep: uids of what is in use, too.
            older_than: younger things stay; >= 0.
            kinds: of `lineage.collection.KINDS`: what may go at all.

        Raises:
            InvalidQuery: an unknown kind or a negative age, or a server without a home.
            EntityNotFound: what is to be kept does not exist.
        """
        request = convert_collect.request_to_message(
            apply=apply, keep=keep, older_than=older_than, kinds=kinds
        )
        reply = self._call(self._stub.CollectGarbage, request, is_long=True)
        return convert_collect.collection_from_message(reply)
