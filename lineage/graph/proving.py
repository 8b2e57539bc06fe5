"""Whether a graph is what was recorded: verification, checkpoints, proofs, rebuilding."""

from __future__ import annotations

from collections.abc import Sequence

from lineage.entity import Entity, derived_uid
from lineage.graph.kept import Kept
from lineage.log import LogReport, verify_chain
from lineage.proofs.checkpoint import Checkpoint
from lineage.proofs.proof import GrowthProof, Proof, checkpoint_now, prove, prove_growth
from lineage.proofs.witness import Watch


class Proving(Kept):
    """The part of a graph that checks its log, and proves what is in it."""

    def verify(self, *, projections: bool = False, against: Sequence[Checkpoint] = ()) -> LogReport:
        """Check the hash chain and the checkpoints of the whole log; name the first altered event.

        Args:
            against: checkpoints that were kept elsewhere: they also witness against somebody
                who rewrote the log with everything that the store keeps beside it.
            projections: also project the log anew and compare the entities and associations
                with it; `rebuild` mends what differs.

        Cost: reads the log once; with `projections` about as long as recording it took,
        without the waits for the disk.
        """
        kept = self._store.checkpoints()
        with self._store.log() as (events, head):
            watch = Watch(kept, against)
            report = watch.report(verify_chain(watch.over(events), head), head)
        if projections and report.intact and (stale := self._store.stale()):
            return LogReport(False, report.events, *stale)
        return report

    def rebuild(self) -> int:
        """Project entities and associations anew from the log alone.

        Returns:
            The number of events read.
        """
        return self._store.rebuild()

    def checkpoint(self) -> Checkpoint:
        """Make a checkpoint of the log as it is now, and keep it in the store.

        Keep a copy where nobody who can write the store can write too, and give it to
        `verify(against=...)` and to those who check proofs.

        Raises:
            InvalidProof: nothing was recorded yet.

        Cost: two hashes for each event since the last checkpoint.
        """
        return checkpoint_now(self._store)

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints that the store keeps, in sequence; one at every 4,096 events."""
        return self._store.checkpoints()

    def prove(self, what: str | Entity | int, checkpoint: Checkpoint | None = None) -> Proof:
        """Prove that an entity, or an event, is in the log that a checkpoint stands for.

        The proof holds the event and the few hashes that lead from it to the root. It is
        checked without this package and without the graph: see `Proof`.

        Args:
            what: an entity, its uid or an alias, for the event that recorded it first; or the
                sequence of an event.
            checkpoint: to prove it against; None: one that is made now.

        Raises:
            EntityNotFound: the entity does not exist.
            InvalidProof: the event is later than the checkpoint, or the log is not the one that
                the checkpoint was made of.

        Cost: reads at most some ten thousand hashes, however long the log is.
        """
        uid = (what.uid or derived_uid(what)) if isinstance(what, Entity) else what
        return prove(self._store, uid, checkpoint or self.checkpoint())

    def prove_growth(self, earlier: Checkpoint, later: Checkpoint | None = None) -> GrowthProof:
        """Prove that the log of an earlier checkpoint is the beginning of that of a later one.

        Args:
            earlier: such as one that an auditor kept.
            later: None: one that is made now.

        Raises:
            InvalidProof: it is not: something up to the earlier checkpoint was altered.
        """
        return prove_growth(self._store, earlier, later or self.checkpoint())
