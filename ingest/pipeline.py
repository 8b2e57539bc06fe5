"""The pipeline: a source's messages into a feature group, each exactly once.

    poll → decode and check → dead letters → [records + position] → tell the source

The bracket is one transaction of the store. A kill before it leaves the position where it was and
the batch is read again; a kill after it leaves nothing to do. The dead letters of a batch are
durable before its transaction and are replaced when the batch is read again.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, final

import lineage
from featurestore import (
    CheckedBatch,
    Description,
    FeatureGroup,
    FeatureStore,
    Overloaded,
    PositionConflict,
    SourcePosition,
    StoreUnavailable,
    Throttled,
    WriteError,
)
from featurestore.errors import nearest
from ingest.columns import feature_origins
from ingest.decode import Decoder, JsonDecoder, RowDecoder
from ingest.errors import IngestError, MessageRefused
from ingest.letters.letter import DeadLetter, DeadLetterSink, announce
from ingest.source import Batch, Source
from ingest.stoprule import RefusalWatch, StopRule
from ingest.trail import Trail
from ingest.transform import FieldOrigin, Transform
from ingest.validate import Checked, Refusal, check

__all__ = ["Look", "Pipeline", "Report", "group_id", "position_name"]

_log = logging.getLogger(__name__)

_POLL_S: Final = 0.5
_MAX_NAME_BYTES: Final = 400
_FIRST_RETRY_S: Final = 0.1
_LAST_RETRY_S: Final = 5.0
# How often a pipeline that has nothing to do looks whether its position was moved back.
_LOOK_S: Final = 5.0
_SHOW_S: Final = 1.0
_STOP_RULE: Final = StopRule()


@final
@dataclass(frozen=True, slots=True)
class Report:
    """What a run has done so far.

    Args:
        read: messages whose fate is stored: `written + refused + skipped`.
        written: records put or deleted.
        refused: messages in the dead letters.
        skipped: messages that say nothing that concerns records, or that a transform left out.
        bytes: size of the messages read, where they are bytes.
        seconds: since the run began.
        positions: partition → the next offset to read, of the partitions this run moved.
        conflicts: batches that another process had stored first; they are in no other figure.
        times: partition → when the source got the last message that was stored, µs UTC, where the
            source says so.
    """

    read: int = 0
    written: int = 0
    refused: int = 0
    bytes: int = 0
    seconds: float = 0.0
    positions: dict[str, int] = field(default_factory=dict)
    conflicts: int = 0
    skipped: int = 0
    times: dict[str, int] = field(default_factory=dict)


class Look(NamedTuple):
    """A look at a run that goes on, also while it has nothing to do.

    Args:
        report: what it has done.
        position_name: under which the store keeps its source's positions.
        positions: partition → where the store stood when it was last asked or written to.
        ends: partition → its end, None as long as it is not known, of those that this run reads;
            empty where the source cannot say.
    """

    report: Report
    position_name: str
    positions: Mapping[str, int]
    ends: Mapping[str, int | None]


@final
class Pipeline:
    """Puts the messages of one source into one feature group.

    Any number of pipelines, in any number of processes, may work on the same source and group:
    the store takes each stretch of a partition once.

    Args:
        source: what to read. Closed at the end of `run`.
        store: an embedded store or one on a server.
        group: the feature group.
        decoder: default: rows for a source with columns, else JSON.
        mapping: feature name → field or column name, for the default decoder.
        transforms: what becomes of decoded records before they are checked, in order.
        dead_letters: where refused messages go; None: the first one ends the run.
        stop_rule: how many refusals end the run, before the batch that is too much is stored; by
            default 900 of the last 1,000 messages. None: any number goes to the dead letters.
        batch_size: messages per transaction, at most. More is faster up to a few thousand, and
            takes more memory.
        retry_s: how long to try again while the store is unavailable. A store that refuses for
            having too much to do (`Overloaded`, `Throttled`) is waited for until it takes the
            batch, or stop: no record is put aside for that. A member of a consumer group keeps
            its partitions while it waits.
        lineage_s: how often the run's lineage action says how far it is; also at once after the
            first batch, and at the end.
        label: a name for the pipeline, in its lineage.

    Raises:
        ValueError: `batch_size` is below 1, or there is a mapping beside a decoder.
    """

    def __init__(
        self,
        source: Source,
        store: FeatureStore,
        group: str,
        *,
        decoder: Decoder | None = None,
        mapping: Mapping[str, str] | None = None,
        transforms: Sequence[Transform] = (),
        dead_letters: DeadLetterSink | None = None,
        stop_rule: StopRule | None = _STOP_RULE,
        batch_size: int = 2000,
        retry_s: float = 60.0,
        lineage_s: float = 60.0,
        label: str = "",
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        if decoder is not None and mapping:
            raise ValueError("mapping: expected it in the decoder that is given")
        self._source = source
        self._store = store
        self._group_name = group
        self._chosen_decoder = decoder
        self._mapping = dict(mapping or {})
        self._transforms = tuple(transforms)
        self._dead_letters = dead_letters
        self._stop_rule = stop_rule
        self._batch_size = batch_size
        self._group_id = group
        self._retry_s = retry_s
        self._lineage_s = lineage_s
        self._label = label
        # Where the store stood when it was last asked or written to.
        self._known: dict[str, int] = {}
        self._origins: Mapping[str, Sequence[FieldOrigin]] = {}

    def run(
        self,
        *,
        until_caught_up: bool = False,
        stop: threading.Event | None = None,
        on_progress: Callable[[Report], None] | None = None,
        on_look: Callable[[Look], None] | None = None,
    ) -> Report:
        """Ingest until told to stop, or until the source has no more.

        One lineage action: from the source's artifacts to the feature group.

        Args:
            until_caught_up: return when everything is stored that was there at the beginning.
            stop: ends the run after the batch in hand, within about a second.
            on_progress: called after every stored batch.
            on_look: called about once a second, also while there is nothing to do.

        Raises:
            FeatureGroupNotFound, FeatureNotFound: the group, or a feature that the mapping or a
                file's column names, does not exist.
            SourceNotFound, SourceUnavailable, PositionLost, SourceChanged: see
                `ingest.errors`; what was stored stays stored and a later run goes on from there.
            MessageRefused: a message was refused and there are no dead letters.
            TooManyRefusals: the stop rule; the next run reads the batch again.
            StoreUnavailable, StoreFull: the store's own; the same holds.
            lineage.RecordingFailed: the action cannot be recorded; nothing was read.
        """
        description = self._store.describe(self._group_name)
        self._group_id = group_id(description)
        run = _Run(description.group, self._stop_rule)
        stop = stop or threading.Event()
        name = (
            f"ingest-{self._group_name}-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}"
            f"-{uuid.uuid4().hex[:8]}"
        )
        try:
            with lineage.Recorder(
                self._store.graph, "Ingest", name, kind=lineage.Kind.ACTION
            ) as job:
                trail = None
                try:
                    if self._dead_letters is not None:
                        announce(self._dead_letters, self._store.graph, run.group.name)
                    for transform in self._transforms:
                        transform.open(self._store, run.group)
                    self._source.seek(self._stored_positions)
                    self._check_names(run.group)
                    self._origins = feature_origins(
                        self._decoder.mapping, self._transforms, run.group.feature_names
                    )
                    job.property("mapping_digest", self._mapping_digest())
                    trail = self._trail(job)
                    self._loop(run, trail, stop, until_caught_up, on_progress, on_look)
                finally:
                    if on_look is not None:
                        on_look(self._look(run))
                    for transform in self._transforms:
                        transform.close()
                    (trail or self._trail(job)).describe(self._figures(run))
        finally:
            self._source.close()
        return run.report()

    def _loop(
        self,
        run: _Run,
        trail: Trail,
        stop: threading.Event,
        until_caught_up: bool,
        on_progress: Callable[[Report], None] | None,
        on_look: Callable[[Look], None] | None,
    ) -> None:
        looked = shown = time.monotonic()
        while not stop.is_set():
            batch = self._source.poll(self._batch_size, _POLL_S)
            if batch.messages:
                if not self._ingest(run, batch, stop):
                    continue
                self._known.update((part.partition, part.next) for part in batch.position)
                trail.add(batch.position)
                if on_progress is not None:
                    on_progress(run.report())
            elif time.monotonic() - looked >= _LOOK_S:
                looked = time.monotonic()
                self._look_back()
            trail.tell(lambda: self._figures(run))
            if on_look is not None and time.monotonic() - shown >= _SHOW_S:
                shown = time.monotonic()
                on_look(self._look(run))
            if batch.is_last or (until_caught_up and batch.is_caught_up):
                return

    def _ingest(self, run: _Run, batch: Batch, stop: threading.Event) -> bool:
        """Store one batch; False when another process stored it first, or on stop."""
        checked = self._checked(run, batch)
        position = SourcePosition(self._position_name, batch.position)
        letters = self._put_aside(checked.refused, position)
        if run.watch is not None:
            run.watch.see(batch.messages, checked.refused)
        try:
            errors = self._write(checked.batch, position, stop)
        except PositionConflict as conflict:
            # Another process has the partition, or stored this very batch before its answer was
            # lost. Either way the store knows how far it is.
            _log.info("%s", conflict)
            run.conflicts += 1
            self._source.seek(self._stored_positions)
            return False
        if errors is None:
            return False
        if errors:
            # Only what changed since the check can be the reason: the group, or the clock of a
            # server that is behind this one's.
            checked = checked.without(errors)
            letters = self._put_aside(checked.refused, position)
        if self._dead_letters is not None:
            self._dead_letters.settle(position, group=run.group.name, written=letters)
        run.add(batch, checked)
        self._source.commit(batch.position)
        return True

    def _checked(self, run: _Run, batch: Batch) -> Checked:
        checked = check(batch.messages, self._decoder, run.group, self._transforms)
        if checked.refused:
            # Features may have been added to the group since; then the refusal was rash.
            newest = self._store.describe_feature_group(run.group.name)
            if newest != run.group:
                run.group = newest
                checked = check(batch.messages, self._decoder, newest, self._transforms)
        return checked

    def _put_aside(self, refused: Sequence[Refusal], position: SourcePosition) -> list[Path]:
        if not refused:
            return []
        if self._dead_letters is None:
            first = refused[0]
            raise MessageRefused(
                first.reason,
                source=position.source,
                partition=first.message.partition,
                offset=first.message.offset,
            )
        now = dt.datetime.now(dt.UTC)
        letters = [
            DeadLetter.of(
                refusal.message,
                group=self._group_name,
                source=position.source,
                error=refusal.error,
                reason=refusal.reason,
                schema=self._decoder.schema_of(refusal.message),
                time=now,
            )
            for refusal in refused
        ]
        return self._dead_letters.write(letters, position, group=self._group_name)

    def _write(
        self, batch: CheckedBatch, position: SourcePosition, stop: threading.Event
    ) -> list[WriteError] | None:
        """Store records and position, trying again while the store is away; None on stop.

        Trying again is safe: had an earlier try been stored, the position would refuse this one.
        A store that says it has too much to do is waited for without end: the source keeps what
        comes meanwhile, and to give up would lose nothing but the wait.
        """
        deadline = time.monotonic() + self._retry_s
        pause_s = _FIRST_RETRY_S
        while True:
            try:
                return self._store.put_checked(batch, position=position)
            except StoreUnavailable as error:
                if time.monotonic() + pause_s > deadline:
                    raise
                _log.warning("the store is unavailable, trying again: %s", error)
            except (Overloaded, Throttled) as error:
                after_s = error.facts.get("retry_after_s")
                if isinstance(after_s, int | float):
                    pause_s = max(pause_s, float(after_s))
                deadline = time.monotonic() + pause_s + self._retry_s  # it is not away
                _log.warning("the store takes no more for now, waiting: %s", error)
            if self._idled(pause_s, stop):
                return None
            pause_s = min(2 * pause_s, _LAST_RETRY_S)

    def _look(self, run: _Run) -> Look:
        return Look(run.report(), self._position_name, dict(self._known), self._source.ends())

    def _look_back(self) -> None:
        """Go back with the stored position: without messages no batch is refused for it."""
        try:
            stored = self._store.source_position(self._position_name)
        except (StoreUnavailable, Overloaded, Throttled) as error:
            _log.info("the stored position is looked at later: %s", error)
            return
        if any(stored.get(partition, 0) < at for partition, at in self._known.items()):
            _log.info("the position of %s was moved back", self._position_name)
            self._source.seek(self._stored_positions)

    def _idled(self, seconds: float, stop: threading.Event) -> bool:
        """Wait while the source stays alive; True on stop."""
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0:
            if stop.wait(min(left_s, _POLL_S)):
                return True
            self._source.idle()
        return stop.is_set()

    @property
    def _position_name(self) -> str:
        return position_name(self._group_id, self._source.name)

    @property
    def _decoder(self) -> Decoder:
        if self._chosen_decoder is None:
            kind = JsonDecoder if self._source.columns is None else RowDecoder
            self._chosen_decoder = kind(self._mapping)
        return self._chosen_decoder

    def _stored_positions(self) -> dict[str, int]:
        self._known = self._store.source_position(self._position_name)
        return dict(self._known)

    def _check_names(self, group: FeatureGroup) -> None:
        """Refuse names at once that would refuse every message."""
        mapping = self._decoder.mapping
        columns = self._source.columns
        # With transforms the names that the group knows come later.
        for feature in () if self._transforms else mapping or columns or ():
            group.feature_type(feature)
        if mapping and columns:
            for feature, column in mapping.items():
                if column not in columns:
                    raise IngestError(
                        f"mapping of {feature!r}: the source has no column {column!r}"
                        f"{nearest(column, columns)}"
                    )

    def _trail(self, job: lineage.Recorder) -> Trail:
        if self._label:
            job.property("pipeline", self._label)
        return Trail(
            job,
            self._source,
            self._store.graph,
            group=self._group_name,
            position_name=self._position_name,
            every_s=self._lineage_s,
            origins=self._origins,
        )

    def _figures(self, run: _Run) -> dict[str, object]:
        report = run.report()
        return {
            "read": report.read,
            "written": report.written,
            "refused": report.refused,
            "skipped": report.skipped,
        }

    def _mapping_digest(self) -> str:
        """A digest of what makes records of messages: equal digests make equal records."""
        made = {
            "decoder": type(self._decoder).__name__,
            "mapping": self._decoder.mapping,
            "transforms": [dict(transform.describe()) for transform in self._transforms],
        }
        body = json.dumps(made, sort_keys=True, default=str)
        return f"sha256:{hashlib.sha256(body.encode()).hexdigest()}"


def group_id(description: Description) -> str:
    """Return what names a feature group among all that ever had its name.

    A group that was deleted and made anew has none of the records of the old one.
    """
    return f"{description.group.name}@{description.created:%Y%m%dT%H%M%S.%f}"


def position_name(group: str, source: str) -> str:
    """Return the name under which the store keeps a source's positions for a group.

    Args:
        group: the group's `group_id`.
        source: the source's name, known once it is connected.
    """
    name = f"ingest/{group}/{source}"
    if len(name.encode()) <= _MAX_NAME_BYTES:
        return name
    return f"ingest/{group}/sha256:{hashlib.sha256(name.encode()).hexdigest()}"


@final
class _Run:
    """The figures of one run as it goes on."""

    def __init__(self, group: FeatureGroup, stop_rule: StopRule | None) -> None:
        self.group = group
        self.watch: RefusalWatch | None = None if stop_rule is None else stop_rule.watch()
        self.conflicts = 0
        self._read = self._written = self._refused = self._skipped = self._bytes = 0
        self._positions: dict[str, int] = {}
        self._times: dict[str, int] = {}
        self._began = time.monotonic()

    def add(self, batch: Batch, checked: Checked) -> None:
        self._read += len(batch.messages)
        self._written += checked.written
        self._skipped += checked.skipped
        self._refused += len(checked.refused)
        self._bytes += batch.size_bytes
        self._positions.update((part.partition, part.next) for part in batch.position)
        # The last message of each partition, found from behind: there are few partitions.
        left = {part.partition for part in batch.position}
        for message in reversed(batch.messages):
            if not left:
                break
            if message.partition in left:
                left.discard(message.partition)
                if message.timestamp_us is not None:
                    self._times[message.partition] = message.timestamp_us

    def report(self) -> Report:
        return Report(
            read=self._read,
            written=self._written,
            refused=self._refused,
            bytes=self._bytes,
            seconds=time.monotonic() - self._began,
            positions=dict(self._positions),
            conflicts=self.conflicts,
            skipped=self._skipped,
            times=dict(self._times),
        )
