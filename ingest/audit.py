"""The audit: what a source has, read once more, beside what is stored."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from featurestore import FeatureGroup, FeatureStore, InvalidRequest, StoreUnavailable, pointintime
from featurestore import record as record_rules
from featurestore.arrowcode import Encoded
from featurestore.convert import arrow_type, encode_record, records_to_columns
from featurestore.embedded import EmbeddedStore
from featurestore.pointintime import quoted
from featurestore.record import FUTURE_TOLERANCE_US, now_us
from featurestore.spill import spill_folder
from ingest.decode import Decoder, JsonDecoder, RowDecoder
from ingest.letters.letter import DeadLetterSink
from ingest.pipeline import group_id, position_name
from ingest.source import Message, Source
from ingest.transform import Transform
from ingest.validate import Checked, check

__all__ = ["AuditDifference", "AuditReport", "audit"]

_MEMORY: Final = "128MB"
_VERIFY_MEMORY: Final = "64MB"
_BATCH: Final = 2000
_POLL_S: Final = 0.5
_ROW_GROUP: Final = 10_000
# So many rows are compared at a time: DuckDB's aggregation does not always spill in time.
_PART_ROWS: Final = 250_000
_LIMIT: Final = 100
_SLICE: Final = 1000
_TIME: Final = pa.timestamp("us", "UTC")
_PLACE: Final = (("_partition", pa.string()), ("_offset", pa.int64()))
_INTERNAL: Final = (("_event_time", _TIME), ("is_deleted", pa.bool_()))


@final
@dataclass(frozen=True, slots=True)
class AuditDifference:
    """One difference.

    Args:
        identifier: of the record, as text; "" when none is known.
        event_time: of the record, UTC.
        partition: of a message that has it; "" when no message has.
        offset: of that message; -1 when no message has.
        produced: messages that have this very record.
        stored: rows of the offline table that have it.
        reason: the difference in words.
    """

    identifier: str
    event_time: dt.datetime | None
    partition: str
    offset: int
    produced: int
    stored: int
    reason: str


@final
@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit found.

    The lists name the first differences of each kind; `counts` has all of them.

    Args:
        equal: there is no difference.
        messages: read from the source, up to the position that is stored.
        stored: messages whose records must be in the offline table, deletions too.
        refused: messages that are in the dead letters, or would be refused.
        skipped: messages that say nothing that concerns records.
        erased: messages whose records are gone by an erasure of their identifiers.
        positions: partition → the first offset read and the one after the last.
        surplus_judged: whether rows that are more than what was produced count: not for a part of
            the source, nor while it is being ingested.
        missing: a record that was produced is not, or not often enough, in the offline table.
        extra: a record is there more often than it was produced, or though it never was.
        different: in place of a record there is another of the same identifier and event time.
        not_in_dead_letters: a refused message has no dead letter.
        online: identifiers whose online record is not the newest one of the offline table.
        counts: differences by kind.
    """

    equal: bool
    messages: int
    stored: int
    refused: int
    skipped: int
    erased: int
    positions: Mapping[str, tuple[int, int]]
    surplus_judged: bool
    missing: Sequence[AuditDifference] = ()
    extra: Sequence[AuditDifference] = ()
    different: Sequence[AuditDifference] = ()
    not_in_dead_letters: Sequence[AuditDifference] = ()
    online: Sequence[AuditDifference] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


def audit(
    source: Source,
    store: FeatureStore,
    group: str,
    *,
    decoder: Decoder | None = None,
    mapping: Mapping[str, str] | None = None,
    transforms: Sequence[Transform] = (),
    dead_letters: DeadLetterSink | None = None,
    start: int | dt.datetime | None = None,
    end: int | dt.datetime | None = None,
    exclusive: bool = False,
    limit: int = _LIMIT,
    on_progress: Callable[[int], None] | None = None,
) -> AuditReport:
    """Read a source again up to the stored position, and compare it with what is stored.

    The messages go through the pipeline's own steps, and what comes out is compared with the rows
    of the offline table by all their values, each as often as it occurs. A message that is in the
    dead letters and was not replayed must not be stored; one that would be refused must be there.
    The online store is compared with the offline table as `verify` does it, so that each
    identifier's online record is its newest.

    What has changed since the ingestion shows: give the decoder, mapping and transforms of then.

    Args:
        source: as the pipeline has it, with the same name; every partition must come to this
            process (for Kafka: `assignment="all"`). It is closed.
        store: the pipeline's.
        group: the feature group; it needs an offline store.
        decoder: as the pipeline's; default: rows for a source with columns, else JSON.
        mapping: for the default decoder.
        transforms: as the pipeline's.
        dead_letters: where refused messages went; None: nowhere, then none may be refused.
        start: the first offset of each partition, or the first message time.
        end: the offset after the last, or the time after it.
        exclusive: nobody else writes to the group: a row that no message has is a difference. It
            always is one when a record is there more often than it was produced.
        limit: name so many differences of a kind.
        on_progress: called with the number of messages read so far.

    Raises:
        InvalidRequest: the group has no offline store, or nothing of the source was ingested.
        FeatureGroupNotFound: no such group.
        SourceNotFound, SourceUnavailable: the source cannot be read.
        IngestError: the dead letters cannot be read.
        StoreUnavailable: the offline table cannot be read.

    Cost: one more read of the source and of the table; DuckDB takes 128 MB and the rest goes to a
    folder that is removed at the end.
    """
    if decoder is not None and mapping:
        raise ValueError("mapping: expected it in the decoder that is given")
    description = store.describe(group)
    if not description.group.offline:
        raise InvalidRequest(f"{group}: an audit compares with the offline table; it has none")
    with ExitStack() as stack:
        if isinstance(store, EmbeddedStore):
            folder = stack.enter_context(spill_folder(store.home, "audit"))
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="audit-")))
        stack.callback(source.close)
        stack.enter_context(_opened(transforms, store, description.group))
        produced = _Produced(folder, description.group, start, end)
        source.seek(dict)
        name = position_name(group_id(description), source.name)
        upto = store.source_position(name)
        if decoder is None:
            kind = JsonDecoder if source.columns is None else RowDecoder
            decoder = kind(dict(mapping or {}))
        produced.read(source, decoder, transforms, upto, on_progress)
        if not produced.messages and start is None and end is None:
            raise InvalidRequest(
                f"{group}: nothing of {source.name} was ingested into it; give the source, the "
                f"consumer group and the feature group that the ingestion had"
            )
        letters = _write_letters(folder, dead_letters, group, name)
        store.flush(group)
        files, columns = _stored_files(folder, store, group, description.group)
        is_still = store.source_position(name) == upto
        judged = is_still and start is None and end is None and produced.is_whole
        comparison = _Comparison(
            folder, description.group, produced, letters, files, columns, judged=judged
        )
        with comparison:
            report = comparison.report(store, exclusive=exclusive, limit=limit)
        return _with_online(report, store, description.group, limit)


@contextmanager
def _opened(
    transforms: Sequence[Transform], store: FeatureStore, group: FeatureGroup
) -> Iterator[None]:
    try:
        for transform in transforms:
            transform.open(store, group)
        yield
    finally:
        for transform in transforms:
            transform.close()


@final
class _Produced:
    """What the source has, written to files: records with their messages' places, and refusals."""

    def __init__(
        self,
        folder: Path,
        group: FeatureGroup,
        start: int | dt.datetime | None,
        end: int | dt.datetime | None,
    ) -> None:
        self.records = folder / "produced.parquet"
        self.refusals = folder / "refused.parquet"
        self.messages = self.skipped = 0
        self.positions: dict[str, tuple[int, int]] = {}
        self._group = group
        self._start, self._end = start, end
        self._schema = pa.schema(
            [*_PLACE, *((f.name, arrow_type(f)) for f in group.features), *_INTERNAL]
        )

    @property
    def is_whole(self) -> bool:
        """Whether the source still has its first messages."""
        return all(first == 0 for first, _ in self.positions.values())

    def read(
        self,
        source: Source,
        decoder: Decoder,
        transforms: Sequence[Transform],
        upto: Mapping[str, int],
        on_progress: Callable[[int], None] | None,
    ) -> None:
        refusal_schema = pa.schema([*_PLACE, ("reason", pa.string())])
        at: dict[str, int] = {}
        rows: list[pa.Table] = []
        with (
            pq.ParquetWriter(self.records, self._schema) as records,
            pq.ParquetWriter(self.refusals, refusal_schema) as refusals,
        ):
            while True:
                batch = source.poll(_BATCH, _POLL_S)
                at.update((part.partition, part.next) for part in batch.position)
                messages = [m for m in batch.messages if self._is_meant(m, upto)]
                if messages:
                    checked = check(messages, decoder, self._group, transforms)
                    rows.append(self._table(checked))
                    if sum(map(len, rows)) >= _ROW_GROUP:
                        records.write_table(pa.concat_tables(rows))
                        rows.clear()
                    refused = [
                        {
                            "_partition": one.message.partition,
                            "_offset": one.message.offset,
                            "reason": f"{one.error}: {one.reason}".encode(
                                errors="replace"
                            ).decode(),
                        }
                        for one in checked.refused
                    ]
                    if refused:
                        refusals.write_table(pa.Table.from_pylist(refused, refusal_schema))
                    self._count(messages, checked)
                    if on_progress is not None:
                        on_progress(self.messages)
                done = all(at.get(partition, 0) >= after for partition, after in upto.items())
                if done or batch.is_last or batch.is_caught_up:
                    break
            if rows:
                records.write_table(pa.concat_tables(rows))
        pa.default_memory_pool().release_unused()

    def _is_meant(self, message: Message, upto: Mapping[str, int]) -> bool:
        if message.offset >= upto.get(message.partition, 0):
            return False
        for bound, sign in ((self._start, 1), (self._end, -1)):
            if isinstance(bound, int):
                value, limit = message.offset, bound
            elif bound is not None and message.timestamp_us is not None:
                value, limit = message.timestamp_us, int(bound.timestamp() * 1_000_000)
            else:
                continue
            if (value < limit) if sign > 0 else (value >= limit):
                return False
        return True

    def _count(self, messages: Sequence[Message], checked: Checked) -> None:
        self.messages += len(messages)
        self.skipped += checked.skipped
        for message in messages:
            first, after = self.positions.get(message.partition, (message.offset, 0))
            self.positions[message.partition] = (
                min(first, message.offset),
                max(after, message.offset + 1),
            )

    def _table(self, checked: Checked) -> pa.Table:
        """Return the accepted records as rows of the offline table, with their messages' places."""
        encoded: Encoded = checked.batch.encoded
        places = encoded.rows.tolist()
        records = list(encoded.records)
        times = encoded.event_times_us.tolist()
        for place, delete in checked.batch.deletes:
            marker = record_rules.check(
                self._group,
                {
                    self._group.record_identifier: delete.identifier,
                    self._group.event_time: delete.event_time,
                },
                now=now_us(),
                tolerance_us=FUTURE_TOLERANCE_US,
            )
            places.append(place)
            records.append(encode_record(marker.values, self._group.collections))
            times.append(marker.event_time_us)
        deleted = len(checked.batch.deletes)
        columns = records_to_columns(self._group, records)
        arrays = [
            pa.array([checked.messages[place].partition for place in places], pa.string()),
            pa.array([checked.messages[place].offset for place in places], pa.int64()),
            *(columns[name] for name in self._group.feature_names),
            pa.array(times, pa.int64()).cast(_TIME),
            pa.array([False] * (len(places) - deleted) + [True] * deleted),
        ]
        return pa.Table.from_arrays(arrays, schema=self._schema)


def _write_letters(folder: Path, sink: DeadLetterSink | None, group: str, source: str) -> Path:
    """Write the places of the source's dead letters to a file."""
    path = folder / "letters.parquet"
    schema = pa.schema([*_PLACE, ("replayed", pa.bool_())])
    rows: list[tuple[str, int, bool]] = []
    with pq.ParquetWriter(path, schema) as writer:

        def write() -> None:
            columns = list(zip(*rows, strict=True)) or [(), (), ()]
            writer.write_table(
                pa.table([pa.array(c) for c in columns], names=schema.names).cast(schema)
            )
            rows.clear()

        for letter in () if sink is None else sink.read(group):
            if letter.source == source:
                rows.append((letter.partition, letter.offset, letter.replayed is not None))
                if len(rows) == _ROW_GROUP:
                    write()
        if rows:
            write()
    return path


def _stored_files(
    folder: Path, store: FeatureStore, name: str, group: FeatureGroup
) -> tuple[Sequence[str], Sequence[str]]:
    """Return the files of the offline table and their columns; a server's rows are fetched."""
    if isinstance(store, EmbeddedStore):
        snapshot = store.offline_table(store.registry.get(name)).scan()
        return ((), ()) if snapshot is None else (snapshot.files, snapshot.columns)
    path = folder / "stored.parquet"
    reader = store.history(name)
    with pq.ParquetWriter(path, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
    return (str(path),), reader.schema.names


@final
class _Comparison:
    """The comparison of the files, in DuckDB."""

    def __init__(
        self,
        folder: Path,
        group: FeatureGroup,
        produced: _Produced,
        letters: Path,
        files: Sequence[str],
        columns: Sequence[str],
        *,
        judged: bool,
    ) -> None:
        self._group = group
        self._produced = produced
        self._files = files
        self._columns = columns
        self._judged = judged
        self._connection = pointintime.connect(memory_limit=_MEMORY, spill=folder / "duckdb")
        self._parameters = {
            "produced": str(produced.records),
            "refused": str(produced.refusals),
            "letters": str(letters),
        }

    def __enter__(self) -> None:
        self._connection.execute("SET preserve_insertion_order = false")
        # Each thread takes its share of the memory, and Parquet's buffers outside of it.
        self._connection.execute("SET threads = 2")

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def report(self, store: FeatureStore, *, exclusive: bool, limit: int) -> AuditReport:
        """Compare, and name the differences.

        Raises:
            StoreUnavailable: a file cannot be read.
        """
        try:
            return self._report(store, exclusive=exclusive, limit=limit)
        except (duckdb.Error, OSError) as error:
            raise StoreUnavailable(
                f"{self._group.name}: the audit cannot read its rows: {error}; try again"
            ) from error

    def _report(self, store: FeatureStore, *, exclusive: bool, limit: int) -> AuditReport:
        refused_known, must, lost = self._refusals(limit)
        self._compare()
        erased = self._leave_out_erased(store)
        missing_total = self._count("produced > stored AND NOT replaced")
        found: dict[str, list[AuditDifference]] = {
            "missing": self._named(
                "produced > stored AND NOT replaced",
                "missing from the offline table",
                limit,
            ),
            "different": self._named(
                "produced > stored AND replaced",
                "in its place the offline table has other values",
                limit,
            ),
            "extra": [],
            "not_in_dead_letters": lost[1],
        }
        counts = {
            "missing": missing_total,
            "different": self._count("produced > stored AND replaced"),
            "extra": 0,
            "not_in_dead_letters": lost[0],
        }
        if self._judged:
            surplus = "stored > produced" + ("" if exclusive else " AND produced > 0")
            # The other values in a record's place are told with that record.
            surplus += " AND NOT (produced = 0 AND replacing)"
            found["extra"] = self._named(surplus, "more often stored than produced", limit)
            counts["extra"] = self._count(surplus)
        return AuditReport(
            equal=not any(counts.values()),
            messages=self._produced.messages,
            stored=must - erased,
            refused=refused_known,
            skipped=self._produced.skipped,
            erased=erased,
            positions=dict(self._produced.positions),
            surplus_judged=self._judged,
            counts={kind: count for kind, count in counts.items() if count},
            **{kind: tuple(ones) for kind, ones in found.items()},
        )

    def _refusals(self, limit: int) -> tuple[int, int, tuple[int, list[AuditDifference]]]:
        """Return how many are refused and must be stored, and refusals without a letter."""
        c = self._connection
        c.execute(
            "CREATE TEMP TABLE letter AS SELECT DISTINCT _partition, _offset, replayed "
            "FROM read_parquet($letters)",
            {"letters": self._parameters["letters"]},
        )
        waiting = "SELECT _partition, _offset FROM letter WHERE NOT replayed"
        c.execute(
            f"CREATE TEMP VIEW must AS SELECT p.* FROM "
            f"read_parquet({_literal(self._parameters['produced'])}) p "
            f"ANTI JOIN ({waiting}) l USING (_partition, _offset)"
        )
        accepted = _one(
            c, f"SELECT count(*) FROM read_parquet({_literal(self._parameters['produced'])})"
        )
        must = _one(c, "SELECT count(*) FROM must")
        refused = f"read_parquet({_literal(self._parameters['refused'])})"
        # What was replayed with another mapping than is given now is stored, and not judged.
        total = _one(c, f"SELECT count(*) FROM {refused}")
        without = f"FROM {refused} r ANTI JOIN letter l USING (_partition, _offset)"
        lost = _one(c, f"SELECT count(*) {without}")
        rows = c.execute(
            f"SELECT _partition, _offset, reason {without} ORDER BY ALL LIMIT {int(limit)}"
        ).fetchall()
        named = [
            AuditDifference("", None, partition, offset, 1, 0, f"not in the dead letters: {reason}")
            for partition, offset, reason in rows
        ]
        return total + accepted - must, must, (lost, named)

    def _compare(self) -> None:
        """Make the table of records whose numbers differ.

        Markers of deletions are compared by identifier and event time.
        """
        c = self._connection
        names = list(self._group.feature_names)
        known = set(self._columns)
        stored = ", ".join(
            f"{quoted(name)}"
            if name in known
            else f"CAST(NULL AS {self._duck_type(name)}) AS {quoted(name)}"
            for name in names
        )
        identifier = quoted(self._group.record_identifier)
        files = ", ".join(map(_literal, self._files))
        table = f"read_parquet([{files}], union_by_name = true, hive_partitioning = false)"
        total = _one(c, "SELECT count(*) FROM must")
        total += _one(c, f"SELECT count(*) FROM {table}") if files else 0
        parts = -(-total // _PART_ROWS)
        values = ", ".join(quoted(name) for name in names if name != self._group.record_identifier)
        # Values are compared by a hash of 64 bits, beside identifier and event time in full.
        digest = f"CASE WHEN is_deleted THEN 0 ELSE hash({values}) END AS digest"
        c.execute(
            "CREATE TEMP TABLE difference (_identifier VARCHAR, _event_time TIMESTAMPTZ, "
            "is_deleted BOOLEAN, produced BIGINT, stored BIGINT, _partition VARCHAR, "
            "_offset BIGINT)"
        )
        for part in range(parts):
            chosen = f"WHERE hash({identifier}) % {parts} = {part}"
            rows = (
                f"SELECT {identifier}, _event_time, is_deleted, {digest}, _partition, _offset, "
                f"1 AS p FROM must {chosen}"
            )
            if files:
                rows += (
                    f" UNION ALL SELECT {identifier}, _event_time, is_deleted, {digest}, NULL, "
                    f"NULL, 0 FROM (SELECT {stored}, _event_time, is_deleted FROM {table}) {chosen}"
                )
            c.execute(
                f"INSERT INTO difference SELECT {identifier}::VARCHAR, _event_time, is_deleted, "
                f"sum(p) AS produced, sum(1 - p) AS stored, min(_partition), min(_offset) "
                f"FROM ({rows}) GROUP BY {identifier}, _event_time, is_deleted, digest "
                f"HAVING produced <> stored"
            )
        for column, condition in (
            ("replaced", "d.produced > d.stored AND e.produced = 0"),
            ("replacing", "d.produced = 0 AND e.produced > e.stored"),
        ):
            c.execute(f"ALTER TABLE difference ADD COLUMN {column} BOOLEAN DEFAULT false")
            c.execute(
                f"UPDATE difference AS d SET {column} = true FROM difference AS e WHERE "
                f"d._identifier = e._identifier AND d._event_time = e._event_time AND "
                f"d.is_deleted = e.is_deleted AND {condition}"
            )

    def _duck_type(self, name: str) -> str:
        rows = self._connection.execute(
            f"SELECT typeof({quoted(name)}) FROM "
            f"(SELECT {quoted(name)} FROM must LIMIT 1) RIGHT JOIN (SELECT 1) ON true"
        ).fetchall()
        return str(rows[0][0])

    def _leave_out_erased(self, store: FeatureStore) -> int:
        """Take missing records out of the table that an erasure of their identifier covers."""
        if not isinstance(store, EmbeddedStore):
            return 0
        number = store.registry.get(self._group.name).number
        c = self._connection
        c.execute("CREATE TEMP TABLE erased (_identifier VARCHAR, through TIMESTAMPTZ)")
        after = ""
        while True:
            texts = [
                str(row[0])
                for row in c.execute(
                    "SELECT DISTINCT _identifier AS text FROM difference WHERE "
                    f"produced > stored AND text > $after ORDER BY text LIMIT {_SLICE}",
                    {"after": after},
                ).fetchall()
            ]
            if not texts:
                break
            through = store.online.erased_through(number, [text.encode() for text in texts])
            rows = [(text, us) for text, us in zip(texts, through, strict=True) if us is not None]
            if rows:
                c.executemany("INSERT INTO erased VALUES (?, make_timestamptz(?::BIGINT))", rows)
            after = texts[-1]
        condition = (
            "produced > stored AND EXISTS (SELECT 1 FROM erased e WHERE "
            "e._identifier = difference._identifier AND _event_time <= e.through)"
        )
        gone = _one(
            c,
            f"SELECT coalesce(sum(produced - stored), 0)::BIGINT FROM difference WHERE {condition}",
        )
        c.execute(f"DELETE FROM difference WHERE {condition}")
        return gone

    def _count(self, condition: str) -> int:
        return _one(self._connection, f"SELECT count(*) FROM difference WHERE {condition}")

    def _named(self, condition: str, reason: str, limit: int) -> list[AuditDifference]:
        rows = self._connection.execute(
            f"SELECT _identifier, _event_time, _partition, _offset, produced, stored, "
            f"is_deleted FROM difference WHERE {condition} "
            f"ORDER BY _partition NULLS LAST, _offset, _identifier, _event_time "
            f"LIMIT {int(limit)}"
        ).fetchall()
        return [
            AuditDifference(
                str(identifier),
                event_time,
                partition or "",
                -1 if offset is None else offset,
                produced,
                stored,
                f"{'deletion ' if deleted else ''}{reason}",
            )
            for identifier, event_time, partition, offset, produced, stored, deleted in rows
        ]


def _with_online(
    report: AuditReport, store: FeatureStore, group: FeatureGroup, limit: int
) -> AuditReport:
    """Add what the online store has else than the offline table, which memory is free for now."""
    if not group.online:
        return report
    if isinstance(store, EmbeddedStore):
        try:
            verified = store.verify(group.name, memory_limit=_VERIFY_MEMORY)
        except InvalidRequest:
            # A very large table is sorted in as much as `verify` takes by itself.
            verified = store.verify(group.name)
    else:
        verified = store.verify(group.name)
    if verified.equal:
        return report
    differences = tuple(
        AuditDifference(one.identifier, None, "", -1, 0, 0, one.reason)
        for one in verified.differences
    )
    counts = {**report.counts, "online": len(differences)}
    return replace(report, equal=False, online=differences[:limit], counts=counts)


def _one(connection: Any, query: str) -> int:
    return int(connection.execute(query).fetchall()[0][0])


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
