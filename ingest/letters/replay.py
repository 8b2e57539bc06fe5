"""Dead letters once more through decoder, mapping and check, and into the group, exactly once.

    letters → decode and check → [records + marks] → the letters' new states

The bracket is one transaction of the store. The mark of a letter is a source position of its own,
under the name of its place in the source: wherever the letter lies, and however often
it is there, its record is stored once. A kill behind the transaction leaves a letter that still
says it waits; the next replay finds the mark and only writes that down.
"""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Final, final

import lineage
from featurestore import (
    FeatureGroup,
    FeatureStore,
    PartitionPosition,
    PositionConflict,
    SourcePosition,
    group_entity,
)
from ingest.decode import Decoder, JsonDecoder, RowDecoder
from ingest.letters.letter import DeadLetter, DeadLetterSink, LetterFilter, partition_digest
from ingest.transform import Transform
from ingest.validate import check

__all__ = ["ReplayReport", "replay"]

# Marks of so many offsets of a partition are kept together: few enough to be read and written with
# every batch, enough for a batch of letters that lie far apart.
_OFFSETS: Final = 10_000
_BATCH: Final = 1000


@final
@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What became of the letters of a replay, or in a dry run would.

    Args:
        letters: that were asked for and had not been replayed.
        stored: records put or deleted.
        skipped: letters that now say nothing that concerns records; they count as replayed.
        known: letters that an earlier replay had stored, before it was cut.
        refused: letters that were refused again, and stay.
        waiting: letters whose batch the pipeline has not stored; it reads their messages again.
        reasons: refusals by class and reason, without the values.
        is_dry_run: nothing was changed.
    """

    letters: int = 0
    stored: int = 0
    skipped: int = 0
    known: int = 0
    refused: int = 0
    waiting: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    is_dry_run: bool = False


def replay(
    letters: DeadLetterSink,
    store: FeatureStore,
    group: str,
    *,
    decoder: Decoder | None = None,
    mapping: Mapping[str, str] | None = None,
    transforms: Sequence[Transform] = (),
    where: LetterFilter | None = None,
    dry_run: bool = False,
    stop: threading.Event | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> ReplayReport:
    """Put a group's dead letters through the pipeline's steps again, after the reason is mended.

    A letter whose record is stored is marked as replayed; one that is refused again stays, with the
    new reason and one attempt more. The rules of event time hold as for any record that comes
    late: one that is older than what is online goes to the offline store only.

    Args:
        letters: where they are.
        store: an embedded store or one on a server; the one that the pipeline stores in, since it
            knows which batches were stored.
        group: the feature group.
        decoder: as the pipeline has it; default: rows by `RowDecoder`, bytes by `JsonDecoder`.
        mapping: for the default decoders.
        transforms: as the pipeline has them.
        where: which letters; default: all of the group that have not been replayed.
        dry_run: only say what would happen.
        stop: ends it after the batch in hand.
        on_progress: called with the number of letters seen so far.

    Raises:
        FeatureGroupNotFound: no such group.
        ValueError: there is a mapping beside a decoder.
        IngestError: the letters cannot be read or changed.
        StoreUnavailable: what was stored stays stored; a later replay goes on.

    Cost: one transaction per thousand letters of a partition, and per ten thousand of its offsets.
    """
    if decoder is not None and mapping:
        raise ValueError("mapping: expected it in the decoder that is given")
    work = _Replay(
        letters,
        store,
        store.describe_feature_group(group),
        decoder,
        dict(mapping or {}),
        transforms,
        dry_run=dry_run,
    )
    wanted = replace(where or LetterFilter(), group=group, replayed=False)
    stop = stop or threading.Event()
    try:
        for transform in transforms:
            transform.open(store, work.group)
        if dry_run:
            work.run(wanted, stop, on_progress)
        else:
            name = f"replay-{group}-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
            with lineage.Recorder(store.graph, "Replay", name, kind=lineage.Kind.ACTION) as job:
                try:
                    work.run(wanted, stop, on_progress)
                finally:
                    for entity in letters.artifacts(group):
                        job.input(entity)
                    job.output(group_entity(group))
                    for what, count in sorted(work.counts.items()):
                        job.property(what, count)
    finally:
        for transform in transforms:
            transform.close()
    return work.report()


@final
class _Replay:
    """One replay as it goes on."""

    def __init__(
        self,
        letters: DeadLetterSink,
        store: FeatureStore,
        group: FeatureGroup,
        decoder: Decoder | None,
        mapping: Mapping[str, str],
        transforms: Sequence[Transform],
        *,
        dry_run: bool,
    ) -> None:
        self.group = group
        self.counts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._letters = letters
        self._store = store
        self._for_bytes = decoder or JsonDecoder(mapping)
        self._for_rows = decoder or RowDecoder(mapping)
        self._transforms = transforms
        self._dry_run = dry_run
        self._positions: dict[str, dict[str, int]] = {}

    def run(
        self,
        wanted: LetterFilter,
        stop: threading.Event,
        on_progress: Callable[[int], None] | None,
    ) -> None:
        seen = 0
        for batch in _batches(one for one in self._letters.read(self.group.name) if wanted(one)):
            if stop.is_set():
                return
            self._replay(batch)
            seen += len(batch)
            if on_progress is not None:
                on_progress(seen)

    def report(self) -> ReplayReport:
        return ReplayReport(**self.counts, reasons=dict(self._reasons), is_dry_run=self._dry_run)

    def _replay(self, batch: Sequence[DeadLetter]) -> None:
        """Replay letters whose marks are kept together, and that are decoded alike."""
        self.counts["letters"] += len(batch)
        first = batch[0]
        # The message of a letter whose batch was not stored is read again, and may be taken then.
        stored = self._stored(first.source).get(first.partition, 0)
        ready = [letter for letter in batch if letter.offset < stored]
        self.counts["waiting"] += len(batch) - len(ready)
        name = _marks_of(first)
        while ready:
            try:
                self._store_batch(name, ready)
            except PositionConflict:
                continue  # another replay has stored some of them; the marks say which
            return

    def _store_batch(self, name: str, letters: Sequence[DeadLetter]) -> None:
        marks = self._store.source_position(name)
        known = [letter for letter in letters if _is_stored(letter, marks)]
        todo = [letter for letter in letters if not _is_stored(letter, marks)]
        messages = [letter.message() for letter in todo]
        is_row = bool(todo) and isinstance(todo[0].payload, Mapping)
        decoder = self._for_rows if is_row else self._for_bytes
        checked = check(messages, decoder, self.group, self._transforms)
        refused = {one.message.offset: (one.error, one.reason) for one in checked.refused}
        accepted = [letter for letter in todo if letter.offset not in refused]
        if accepted and not self._dry_run:
            position = _marked(name, accepted, marks)
            if errors := self._store.put_checked(checked.batch, position=position):
                # The group or the store's clock has changed since the check.
                rejected = [todo[error.index] for error in errors]
                self._store.batch_write([], position=_marked(name, rejected, marks, by=1))
                refused.update(
                    (todo[error.index].offset, (error.code, error.message)) for error in errors
                )
        done = [letter for letter in accepted if letter.offset not in refused]
        self.counts["known"] += len(known)
        self.counts["stored"] += len(done) - checked.skipped
        self.counts["skipped"] += checked.skipped
        self.counts["refused"] += len(refused)
        for error, reason in refused.values():
            self._reasons[f"{error}: {reason.partition(', got ')[0]}"] += 1
        if self._dry_run:
            return
        now = dt.datetime.now(dt.UTC)
        again = []
        for letter in todo:
            if letter.offset in refused:
                error, reason = refused[letter.offset]
                again.append(
                    replace(letter, error=error, reason=reason, attempt=letter.attempt + 1)
                )
        self._letters.amend([*(replace(one, replayed=now) for one in [*known, *done]), *again])

    def _stored(self, source: str) -> Mapping[str, int]:
        if source not in self._positions:
            self._positions[source] = dict(self._store.source_position(source))
        return self._positions[source]


def _batches(letters: Iterator[DeadLetter]) -> Iterator[list[DeadLetter]]:
    for _, alike in groupby(letters, key=lambda one: (_marks_of(one), _is_row(one))):
        batch: list[DeadLetter] = []
        for letter in alike:
            batch.append(letter)
            if len(batch) == _BATCH:
                yield batch
                batch = []
        if batch:
            yield batch


def _marks_of(letter: DeadLetter) -> str:
    """Name the source position under which the mark of a letter is kept, with its neighbours'."""
    digest = partition_digest(letter.source, letter.partition)
    return f"replay/{letter.group}/{digest}/{letter.offset // _OFFSETS}"


def _is_stored(letter: DeadLetter, marks: Mapping[str, int]) -> bool:
    return marks.get(str(letter.offset), 0) % 2 == 1


def _marked(
    name: str, letters: Sequence[DeadLetter], marks: Mapping[str, int], *, by: int = 0
) -> SourcePosition:
    """Move marks on: an odd one says that the record is stored, an even one that it is not."""
    at = {letter: marks.get(letter, 0) + by for letter in (str(one.offset) for one in letters)}
    return SourcePosition(
        name, tuple(PartitionPosition(mark, start, start + 1) for mark, start in at.items())
    )


def _is_row(letter: DeadLetter) -> bool:
    return isinstance(letter.payload, Mapping)
