"""The erasure: step by step through every store of a home, in an order that survives a kill.

    journal   what is asked for is written down; from here on it is finished by whoever comes next
    begin     recorded in lineage; where it cannot be, nothing is erased and the journal is removed
    look      which identifiers the online store has
    online    tombstones with a hash: what is covered comes in no more, online or offline
    flush     what waits in the outbox goes to the offline table, exactly once, to be erased there
    scrub     what the removal left in the online store's free space is overwritten
    offline   rows, files of all versions, log and cache of the offline table
    holders   whatever else has records: dead letters, …
    exposure  saved datasets, and what lineage leads to
    report    signed and kept; recorded in lineage, too; then the journal is removed

A step may be done twice. What it finds is in the journal before it is removed, so that the report
of an erasure that was cut is whole.
"""

from __future__ import annotations

import fcntl
import getpass
import logging
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

import lineage
from featurestore import eventtime
from featurestore.erasure.exposure import descendants, saved_with
from featurestore.erasure.holder import Holder
from featurestore.erasure.journal import Erasure, Journal
from featurestore.erasure.report import FORM, ErasureReport, identifier_hash, signed
from featurestore.erasure.signing import SigningKey
from featurestore.errors import FeatureStoreError, InvalidRequest
from featurestore.offline import DeltaOfflineTable, Flusher
from featurestore.offline import erase as offline
from featurestore.online import OnlineStore
from featurestore.provenance import group_entity
from featurestore.record import identifier_text
from featurestore.registry import Registered, Registry
from featurestore.saved import SavedDatasets

__all__ = ["STEPS", "Eraser"]

STEPS: Final = ("look", "online", "flush", "scrub", "offline", "holders", "exposure", "report")
MAX_IDENTIFIERS: Final = 1_000
_log = logging.getLogger(__name__)
_DATASETS: Final = ("keep", "delete")
_ALWAYS: Final = (
    "backups: an erased record comes back with the restore of an older one; erase it again then",
    "copies: replicas, Kafka topics and files that were ingested, versions that an object store "
    "keeps, exported files, folders of training jobs, logs of servers",
)


@final
@dataclass
class Eraser:
    """Erases identifiers from the stores of one home.

    Args:
        home: the home folder.
        registry: of its groups.
        online: the online store.
        flusher: holds the locks of the offline tables.
        flush: flushes one group.
        table: returns a group's offline table.
        saved: the saved datasets.
        graph: returns the lineage graph.
        now: the clock, µs since the epoch.
        holders: what else holds records; each erasure asks for it anew.
        on_step: called with the name of each step before it is taken; for tests of kills.
    """

    home: Path
    registry: Registry
    online: OnlineStore
    flusher: Flusher
    flush: Callable[[Registered], Any]
    table: Callable[[Registered], DeltaOfflineTable]
    saved: SavedDatasets
    graph: Callable[[], Any]
    now: Callable[[], int]
    holders: list[Holder] = field(default_factory=list)
    on_step: Callable[[str], None] = lambda step: None

    def erase(
        self,
        group: str,
        identifiers: object,
        *,
        reason: str = "",
        datasets: str = "keep",
        by: str = "",
    ) -> ErasureReport:
        """See FeatureStore.erase. Erasures that were cut before are finished first.

        Raises:
            lineage.RecordingFailed: its begin cannot be recorded, and nothing was erased.
        """
        entry = self.registry.get(group)
        texts = _texts(entry, identifiers)
        if datasets not in _DATASETS:
            raise InvalidRequest(f"datasets: expected keep or delete, got {datasets!r}")
        for text in texts:
            if re.search(rf"(?<!\w){re.escape(text)}(?!\w)", reason):
                raise InvalidRequest(
                    "reason: it names an identifier that is to be erased, and the report keeps it; "
                    "say it without"
                )
        key = SigningKey(self.home)  # first: without it nothing is begun
        with self._alone():
            self._resume(key)
            begun = Erasure(
                uuid.uuid4().hex,
                entry.group.name,
                entry.number,
                texts,
                reason,
                by or _user(),
                datasets,
                self.now(),
            )
            self.on_step("journal")
            self._journal.write(begun)
            try:
                return self._finish(begun, key)
            except lineage.RecordingFailed:
                if not begun.done:
                    self._journal.forget(begun.erasure)
                raise

    def resume(self) -> list[ErasureReport]:
        """Finish the erasures that were cut, as far as they can be now.

        Nothing while another process erases. What cannot be finished yet is logged.

        Raises:
            StoreCorrupt: a journal was altered, or the signing key.
        """
        if not self._journal.folder.is_dir():
            return []
        with suppress(BlockingIOError), self._alone(wait=False):
            if self._journal.unfinished():
                return self._resume(SigningKey(self.home))
        return []

    def _resume(self, key: SigningKey) -> list[ErasureReport]:
        """Finish what can be finished now; one whose table is away holds no other up."""
        finished = []
        for erasure in self._journal.unfinished():
            try:
                finished.append(self._finish(erasure, key))
            except (FeatureStoreError, lineage.LineageError) as error:
                _log.warning("erasure %s cannot be finished yet: %s", erasure.erasure, error)
        return finished

    @property
    def _journal(self) -> Journal:
        return Journal(self.home)

    @contextmanager
    def _alone(self, *, wait: bool = True) -> Iterator[None]:
        """Be the only one of the home that erases."""
        folder = self.home / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "erase.lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            yield
        finally:
            os.close(lock)

    def _finish(self, erasure: Erasure, key: SigningKey) -> ErasureReport:
        entry = self._entry(erasure)
        steps: dict[str, Callable[[Erasure, Registered], None]] = {
            "look": self._look,
            "online": self._online,
            "flush": self._flush,
            "scrub": self._scrub,
            "offline": self._offline,
            "holders": self._holders,
            "exposure": self._exposure,
        }
        if not erasure.done:
            self.on_step("begin")
            self._begin(erasure, key)
        for name, step in steps.items():
            if name not in erasure.done:
                self.on_step(name)
                step(erasure, entry)
                erasure.done.append(name)
                self._journal.write(erasure)
        self.on_step("report")
        return self._report(erasure, entry, key)

    def _entry(self, erasure: Erasure) -> Registered:
        """Return the group of an erasure, also when it was deleted since: its table stays."""
        for entry in (*self.registry.list(), *self.registry.deleted(before=self.now() + 1)):
            if entry.number == erasure.number:
                return entry
        return self.registry.get(erasure.group)

    def _begin(self, erasure: Erasure, key: SigningKey) -> None:
        """Record that an erasure begins: what is erased can be told of only where this is."""
        begun = self._action(
            erasure.erasure,
            "InProgress",
            group=erasure.group,
            identifiers=[identifier_hash(key, erasure.group, text) for text in erasure.identifiers],
        )
        try:
            self.graph().record(
                [begun],
                [(group_entity(erasure.group), begun, "ContributedTo")],
                kind="ErasureStarted",
                event_uid=f"erasure-{erasure.erasure}-begun",
            )
        except lineage.LineageError as error:
            raise lineage.RecordingFailed(
                f"Erasure of {len(erasure.identifiers):,} identifiers of {erasure.group}: its "
                f"start could not be recorded, so nothing is erased: {error}"
            ) from error

    # -- steps --------------------------------------------------------------------------------

    def _look(self, erasure: Erasure, entry: Registered) -> None:
        values = self.online.get(entry.number, [text.encode() for text in erasure.identifiers])
        erasure.facts["online"] = [value is not None for value in values]

    def _online(self, erasure: Erasure, entry: Registered) -> None:
        # In an offline-only group, too: the tombstone keeps late records out of its table.
        erasure.facts["through_us"] = [
            self.online.erase(
                entry.number, text.encode(), through_us=erasure.requested_us
            ).through_us
            for text in erasure.identifiers
        ]

    def _flush(self, erasure: Erasure, entry: Registered) -> None:
        current = self.registry.current().get(entry.group.name)
        # The delete of a group flushes it, and drops what is online.
        if entry.group.offline and current is not None and current.number == entry.number:
            self.flush(entry)

    def _scrub(self, erasure: Erasure, entry: Registered) -> None:
        erasure.facts["left"] = self.online.scrub(
            entry.number, [text.encode() for text in erasure.identifiers]
        )

    def _offline(self, erasure: Erasure, entry: Registered) -> None:
        if not entry.group.offline:
            erasure.facts["offline"] = None
            return
        group = entry.group
        target = offline.Target(
            group.record_identifier,
            group.types[group.record_identifier],
            tuple(erasure.identifiers),
            tuple(erasure.facts["through_us"]),
        )
        table = self.table(entry)
        with self._table_held(entry):
            plan = offline.look(table, target).merged(_plan(erasure.facts.get("offline")))
            facts = erasure.facts["offline"] = {
                "uri": table.uri,
                "rows": list(plan.rows),
                "files": list(plan.files),
                "held": [list(stretch) for stretch in plan.held],
                "unreadable": plan.unreadable,
            }
            self._journal.write(erasure)
            self.on_step("offline rows")
            facts["version"] = offline.delete_rows(table, target, erasure=erasure.erasure)
            self.on_step("offline files")
            offline.delete_files(table, plan.files)
            self.on_step("offline log")
            offline.clean_log(table)

    @contextmanager
    def _table_held(self, entry: Registered) -> Iterator[None]:
        with self.flusher.maintaining(entry.number), self.flusher.paused(entry.number):
            yield

    def _holders(self, erasure: Erasure, entry: Registered) -> None:
        found: dict[str, Any] = erasure.facts.setdefault("holders", {})
        for holder in self.holders:
            if holder.name not in found:
                self.on_step(f"holder {holder.name}")
                found[holder.name] = dict(
                    holder.erase(entry, erasure.identifiers, erasure.facts["through_us"])
                )
                self._journal.write(erasure)

    def _exposure(self, erasure: Erasure, entry: Registered) -> None:
        with_rows = saved_with(self.saved, entry, erasure.identifiers)
        known: dict[str, Any] = erasure.facts.setdefault("saved", {})
        for dataset, rows in with_rows:
            known.setdefault(dataset.fingerprint, {"rows": rows, "deleted": False})
        self._journal.write(erasure)
        if erasure.datasets == "delete":
            for dataset, _ in with_rows:
                self.on_step("dataset")
                self.saved.remove(dataset.fingerprint)
            for one in known.values():
                one["deleted"] = True
        facts = erasure.facts["offline"]
        erasure.facts["descendants"] = (
            [[], []]
            if facts is None
            else list(descendants(self.graph(), facts["uri"], facts["held"]))
        )

    # -- report -------------------------------------------------------------------------------

    def _report(self, erasure: Erasure, entry: Registered, key: SigningKey) -> ErasureReport:
        kept = self._journal.report(erasure.erasure)
        report = signed(self._body(erasure, key), key) if kept is None else ErasureReport(kept)
        if kept is None:
            self._journal.keep_report(erasure.erasure, report.to_json())
        self.on_step("lineage")
        self._record(report, entry)
        self.on_step("end")
        self._journal.forget(erasure.erasure)
        return report

    def _body(self, erasure: Erasure, key: SigningKey) -> dict[str, Any]:
        facts = erasure.facts
        table = facts["offline"]
        rows = [0] * len(erasure.identifiers) if table is None else table["rows"]
        holders: dict[str, Any] = facts["holders"]
        elsewhere = [
            sum(int(holder.get("found", rows)[place]) for holder in holders.values())
            for place in range(len(rows))
        ]
        identifiers = [
            {
                "hash": identifier_hash(key, erasure.group, text),
                "found": online or bool(offline_rows) or bool(others),
                "online": online,
                "offline_rows": offline_rows,
                "elsewhere": others,
                "erased_through": eventtime.format_iso(through),
            }
            for text, online, offline_rows, others, through in zip(
                erasure.identifiers,
                facts["online"],
                rows,
                elsewhere,
                facts["through_us"],
                strict=True,
            )
        ]
        files = [] if table is None else table["files"]
        held = [] if table is None else table["held"]
        datasets, models = facts["descendants"]
        return {
            "form": FORM,
            "erasure": erasure.erasure,
            "group": erasure.group,
            "found": bool(any(one["found"] for one in identifiers) or files or facts["saved"]),
            "requested": eventtime.format_iso(erasure.requested_us),
            "finished": eventtime.format_iso(self.now()),
            "by": erasure.by,
            "reason": erasure.reason,
            "store": self.online.store_id,
            "identifier_hash": "HMAC-SHA-256, keyed by erasure.key of the home",
            "identifiers": identifiers,
            "online": {
                "removed": sum(facts["online"]),
                "tombstones": len(identifiers),
                "left_in_file": facts["left"],
            },
            "offline": {
                "uri": "" if table is None else table["uri"],
                "rows": sum(rows),
                "files_deleted": files,
                "versions_lost": held,
                "version": None if table is None else table["version"],
            },
            "elsewhere": {
                name: {part: value for part, value in holder.items() if part != "not_reached"}
                for name, holder in holders.items()
            },
            "datasets": _datasets(datasets, facts["saved"]),
            "models": models,
            "not_reached": _not_reached(self.home, erasure, holders),
        }

    def _record(self, report: ErasureReport, entry: Registered) -> None:
        document = report.document
        done = self._action(
            report.erasure,
            "Completed",
            group=entry.group.name,
            identifiers=[one["hash"] for one in document["identifiers"]],
            rows=report.rows,
            report_digest=document["digest"],
        )
        # What held the record, or may have: found from the erasure, and the erasure from each.
        exposed = [one["uid"] for one in (*report.datasets, *report.models) if one["uid"]]
        links: list[tuple[lineage.Entity | str, lineage.Entity, str]] = [
            (group_entity(entry.group.name), done, "ContributedTo"),
            *((uid, done, "AssociatedWith") for uid in exposed),
        ]
        self.graph().record(
            [done],
            links,
            kind="Erasure",
            event_uid=f"erasure-{report.erasure}",
        )

    def _action(self, erasure: str, state: str, **properties: Any) -> lineage.Entity:
        return lineage.action(
            "Erasure",
            f"erasure-{erasure[:12]}",
            state=state,
            properties={"erasure": erasure, **properties},
        )


def _texts(entry: Registered, identifiers: object) -> list[str]:
    """Return identifiers as texts, each once."""
    if isinstance(identifiers, str | bytes) or not isinstance(identifiers, Iterable):
        identifiers = [identifiers]
    texts = list(dict.fromkeys(identifier_text(entry.group, one) for one in identifiers))
    if not 1 <= len(texts) <= MAX_IDENTIFIERS:
        raise InvalidRequest(
            f"{entry.group.name}: expected 1 to {MAX_IDENTIFIERS:,} identifiers in an erasure, "
            f"got {len(texts):,}"
        )
    return texts


def _plan(facts: dict[str, Any] | None) -> offline.OfflinePlan:
    """Read what an earlier look, before a kill, has found."""
    if facts is None:
        return offline.OfflinePlan()
    return offline.OfflinePlan(
        tuple(facts["rows"]),
        tuple(facts["files"]),
        tuple((first, last) for first, last in facts["held"]),
        facts["unreadable"],
    )


def _datasets(
    recorded: Sequence[dict[str, str]], saved: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """Put the datasets of lineage and the saved ones together, by fingerprint."""
    found: dict[str, dict[str, Any]] = {}
    for fingerprint, facts in saved.items():
        found[fingerprint] = {
            "fingerprint": fingerprint,
            "name": f"dataset {fingerprint[:12]}",
            "uid": "",
            "holds": "yes",
            **facts,
        }
    for entity in recorded:
        fingerprint = entity["uri"].removeprefix("dataset:")
        known = found.setdefault(
            fingerprint, {"fingerprint": fingerprint, "holds": "maybe", "rows": None}
        )
        known |= {"name": entity["name"], "uid": entity["uid"]}
    return [found[fingerprint] for fingerprint in sorted(found)]


def _not_reached(home: Path, erasure: Erasure, holders: dict[str, Any]) -> list[str]:
    found = [text for holder in holders.values() for text in holder.get("not_reached", ())]
    if "dead letters" not in holders and (home / "deadletters" / erasure.group).is_dir():
        found.append(
            "dead letters: this program cannot read them; `featureline erase` of the same "
            "identifiers does"
        )
    left = erasure.facts["left"]
    if left is None:
        found.append(
            "online: whether freed space (LMDB's free pages, Redis's append-only file and "
            "snapshots) still has the record is not known; it goes when that is written anew"
        )
    elif left:
        found.append(
            f"online: {left} places of LMDB's file may still have an identifier, in pages that are "
            f"free, or as what another record says; a later erasure, or use of the pages, "
            f"overwrites them"
        )
    table = erasure.facts["offline"]
    if table is not None and table["unreadable"]:
        found.append(
            f"offline: {table['unreadable']} parts of files that killed writers left could not be "
            f"looked into; maintenance deletes them"
        )
    kept = sum(not one["deleted"] for one in erasure.facts["saved"].values())
    if kept:
        found.append(
            f"saved datasets: {kept} with rows of the identifiers are kept (`--datasets delete`)"
        )
    return [*found, *_ALWAYS]


def _user() -> str:
    try:
        return f"user {getpass.getuser()}"
    except (KeyError, OSError):  # a user id without a name, as in containers
        return f"user {os.getuid()}"
