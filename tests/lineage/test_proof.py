"""Checkpoints and proofs: what was altered is found, by those who kept a root."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lineage
from lineage import (
    Checkpoint,
    Graph,
    GrowthProof,
    InvalidProof,
    Proof,
    action,
    artifact,
    read_checkpoints,
)
from lineage.change import Change
from lineage.log import Event, Head, append_event
from tests.lineage.test_grpc import Server

SCRIPT = Path(__file__).parents[2] / "examples" / "check_lineage_proof.py"
EVENTS = 21


@pytest.fixture(autouse=True)
def every_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints at every fourth event, so that few events have several."""
    for module in ("store.ledger", "store.memory", "proofs.witness"):
        monkeypatch.setattr(f"lineage.{module}.EVERY", 4)


def write(graph: Graph, count: int = EVENTS) -> None:
    for number in range(count):
        graph.record([data(number)], kind="Loaded", actor="ann")


def data(number: int) -> lineage.Entity:
    return artifact("DataSet", f"s3://b/{number}", content_hash="51b2")


def graph_draft(number: int) -> lineage.Draft:
    return lineage.as_draft([data(number)], kind="Loaded", actor="ann")


def altered(path: Path, *statements: str, values: Sequence[Any] = ()) -> None:
    connection = sqlite3.connect(path)
    with connection:
        for name in ("log_is_never_updated", "log_is_never_deleted"):
            connection.execute(f"DROP TRIGGER IF EXISTS {name}")
        for statement in statements:
            connection.execute(statement, values)
    connection.close()


def forge(path: Path, sequence: int) -> None:
    """Alter an event, and rewrite every later one, the head and the checkpoints with it."""
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT seq, time_us, actor, kind, event_uid, body, prev, hash FROM log ORDER BY seq"
    ).fetchall()
    head, events = Head(), []
    for row in (Event(*values) for values in rows):
        actor = "eve" if row.sequence == sequence else row.actor
        event, head = append_event(
            head,
            now_us=row.time_us,
            actor=actor,
            kind=row.kind,
            event_uid=row.event_uid,
            body=row.body,
        )
        events.append(event)
    connection.close()
    path.unlink()
    with lineage.open(path) as graph:
        graph.store.adopt(events)
        assert graph.verify(projections=True).intact


class TestCheckpoints:
    def test_a_store_makes_them_itself(self, graph: Graph) -> None:
        write(graph)
        made = graph.checkpoints()
        assert [one.sequence for one in made] == [4, 8, 12, 16, 20]
        assert graph.verify() == lineage.LogReport(True, EVENTS, checkpoints=5)
        last = graph.checkpoint()
        assert (last.sequence, graph.checkpoint()) == (EVENTS, last)
        assert graph.checkpoints()[-1] == last

    def test_a_copy_makes_the_same(self, graph: Graph) -> None:
        write(graph)
        with Graph(lineage.MemoryStore()) as copy:
            lineage.copy_log(graph.store, copy.store)
            assert [one.root for one in copy.checkpoints()] == [
                one.root for one in graph.checkpoints()
            ]
            assert copy.verify(against=graph.checkpoints()).intact

    def test_none_of_an_empty_log(self, graph: Graph) -> None:
        with pytest.raises(InvalidProof, match="empty"):
            graph.checkpoint()

    def test_signed_by_a_key(self, graph: Graph, tmp_path: Path) -> None:
        keys = pytest.importorskip("featurestore.erasure.signing")
        home = tmp_path / "home"
        home.mkdir()
        keys.SigningKey(home)
        write(graph, 2)
        made = graph.checkpoint().signed(home / "erasure.key")
        graph.store.add_checkpoint(made)
        [kept] = graph.checkpoints()
        assert kept == made
        again = Checkpoint.from_json(json.loads(json.dumps(kept.to_json())))
        again.check_signature(home / "erasure.pub")
        forged = Checkpoint(**{**vars_of(again), "root": bytes(32)})
        with pytest.raises(InvalidProof, match="altered"):
            forged.check_signature()
        with pytest.raises(InvalidProof, match="not signed"):
            Checkpoint(1, bytes(32), bytes(32), 0).check_signature()
        with pytest.raises(InvalidProof, match="openssl"):
            made.signed(tmp_path / "none.key")
        with pytest.raises(InvalidProof, match="expected a private Ed25519 key"):
            made.signed(home / "erasure.pub")
        other = tmp_path / "other"
        other.mkdir()
        keys.SigningKey(other)
        with pytest.raises(InvalidProof, match="another key"):
            again.check_signature(other / "erasure.pub")

    def test_a_file_of_them(self, tmp_path: Path) -> None:
        file = tmp_path / "kept.json"
        with pytest.raises(InvalidProof, match=r"kept\.json"):
            read_checkpoints(file)
        for text in ("{", "{}", "[1]", '{"form": "featureline-lineage-checkpoint-1"}'):
            file.write_text(text)
            with pytest.raises(InvalidProof, match=r"kept\.json"):
                read_checkpoints(file)


def vars_of(made: Checkpoint) -> dict[str, Any]:
    names = ("sequence", "root", "head", "time_us", "frontier", "public_key", "signature")
    return dict(zip(names, astuple(made), strict=True))


class TestAlterations:
    def test_who_rewrites_everything_is_caught_by_a_kept_checkpoint(self, path: Path) -> None:
        with lineage.open(path) as graph:
            write(graph)
            kept = graph.checkpoints()
        forge(path, 6)
        with lineage.open(path) as graph:
            assert graph.verify().intact
            report = graph.verify(against=kept)
            assert (report.intact, report.first_altered) == (False, 5)
            assert "one of 5 to 8" in (report.reason or "")
            with pytest.raises(InvalidProof, match="does not begin"):
                graph.prove_growth(kept[2])
            graph.prove_growth(kept[0]).check()
            with pytest.raises(InvalidProof, match="does not belong"):
                graph.prove(3, kept[-1])

    @pytest.mark.parametrize("frontier", ["", "zz", "00" * 32])
    def test_an_altered_checkpoint_is_not_gone_on_from(self, path: Path, frontier: str) -> None:
        with lineage.open(path) as graph:
            write(graph, 7)
        altered(path, f"UPDATE checkpoint SET frontier = '{frontier}' WHERE seq = 4")
        with lineage.open(path) as graph:
            write(graph, 3)
            report = graph.verify()
            assert (report.intact, report.first_altered) == (False, 4)
            assert "checkpoint 4" in (report.reason or "")
            assert graph.prove(2).checkpoint.sequence == 10

    @pytest.mark.parametrize("gone", ["seq >= 4", "seq = 8", "seq = 4"])
    def test_a_checkpoint_of_the_stores_own_that_was_removed_is_missed(
        self, path: Path, gone: str
    ) -> None:
        with lineage.open(path) as graph:
            write(graph, 9)
        altered(path, f"DELETE FROM checkpoint WHERE {gone}")
        with lineage.open(path) as graph:
            report = graph.verify()
            named = int(gone[-1])
            assert (report.intact, report.first_altered) == (False, named)
            assert f"checkpoint {named} is missing from the store" in (report.reason or "")
            write(graph, 1)  # makes none anew
            assert graph.verify().first_altered == named

    def test_a_checkpoint_that_was_asked_for_is_told_of_by_the_next_event(self, path: Path) -> None:
        with lineage.open(path) as graph:
            write(graph, 6)
            kept = graph.checkpoint()
            with pytest.raises(lineage.EntityNotFound):
                graph.record([], [("nothing", "something", "SameAs")], kind="T")
            refused_then = graph.record_all([graph_draft(9), graph_draft(10)])
            assert len(refused_then) == 2
            assert graph.verify().intact
            with graph.store.log(6) as (events, _):
                told = [Change.decode(event.body).checkpoint for event in events]
            assert told == [(6, kept.root.hex()), None]
            last = graph.checkpoint()
            # A copy of the log has them too, since the log tells of them.
            copy = path.with_name("copy.db")
            with lineage.open(copy) as other:
                lineage.copy_log(graph.store, other.store)
                assert [one.sequence for one in other.checkpoints()] == [4, 6, 8]
                assert other.checkpoints()[1].root == kept.root
                assert other.verify().intact
        assert last.sequence == 8
        altered(path, "DELETE FROM checkpoint WHERE seq = 6")
        with lineage.open(path) as graph:
            report = graph.verify()
            assert (report.intact, report.first_altered) == (False, 6)
            assert "event 7 tells of it" in (report.reason or "")

    def test_in_memory_too(self) -> None:
        with Graph(lineage.MemoryStore()) as graph, Graph(lineage.MemoryStore()) as copy:
            write(graph, 6)
            graph.checkpoint()
            write(graph, 1)
            lineage.copy_log(graph.store, copy.store)
            assert [one.sequence for one in copy.checkpoints()] == [4, 6]
            assert copy.verify().intact

    def test_a_log_that_was_cut_is_caught_too(self, path: Path) -> None:
        with lineage.open(path) as graph:
            write(graph, 9)
            kept = graph.checkpoint()
        with Graph(lineage.MemoryStore()) as cut, lineage.open(path) as graph:
            with graph.store.log() as (events, _):
                cut.store.adopt(list(events)[:6])
            report = cut.verify(against=[kept])
            assert (report.intact, report.first_altered) == (False, 7)
            with pytest.raises(InvalidProof, match="events are missing"):
                cut.prove(1, kept)

    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(st.data())
    def test_any_single_alteration_is_found_and_named(
        self, tmp_path: Path, data: st.DataObject
    ) -> None:
        origin, path = tmp_path / "origin.db", tmp_path / "altered.db"
        if not origin.exists():
            with lineage.open(origin) as graph:
                write(graph)
        path.write_bytes(origin.read_bytes())
        sequence = data.draw(st.integers(1, EVENTS), "sequence")
        point = sequence // 4 * 4 or 4
        how = data.draw(
            st.sampled_from(["byte", "removed", "swapped", "checkpoint", "no checkpoint"]), "how"
        )
        named = sequence
        if how == "byte":
            column = data.draw(
                st.sampled_from(["actor", "kind", "event_uid", "body", "prev", "hash"]), "column"
            )
            connection = sqlite3.connect(path)
            select = f"SELECT {column} FROM log WHERE seq = ?"
            [value] = connection.execute(select, (sequence,)).fetchone()
            connection.close()
            is_text = isinstance(value, str)
            held = bytearray(value.encode() if is_text else value)
            place = data.draw(st.integers(0, len(held) - 1), "place")
            held[place] ^= data.draw(st.integers(1, 15), "bits")
            new = held.decode("latin-1") if is_text else bytes(held)
            altered(path, f"UPDATE log SET {column} = ? WHERE seq = {sequence}", values=[new])
        elif how == "removed":
            altered(path, f"DELETE FROM log WHERE seq = {sequence}")
        elif how == "swapped":
            other = data.draw(st.integers(1, EVENTS).filter(lambda o: o != sequence), "other")
            named = min(sequence, other)
            altered(
                path,
                f"UPDATE log SET seq = -1 WHERE seq = {sequence}",
                f"UPDATE log SET seq = {sequence} WHERE seq = {other}",
                f"UPDATE log SET seq = {other} WHERE seq = -1",
            )
        elif how == "checkpoint":
            named = point
            column = data.draw(st.sampled_from(["root", "head", "frontier"]), "column")
            altered(
                path,
                f"UPDATE checkpoint SET {column} = 'f' || substr({column}, 2) || '00' "
                f"WHERE seq = {point}",
            )
        else:
            named = point
            altered(path, f"DELETE FROM checkpoint WHERE seq = {named}")
        with lineage.open(path) as graph:
            report = graph.verify()
        assert not report.intact
        assert report.first_altered == named
        assert str(named) in (report.reason or "")


class TestProofs:
    def test_of_every_event_against_every_checkpoint(self, graph: Graph) -> None:
        write(graph)
        graph.checkpoint()
        for checkpoint in graph.checkpoints():
            for sequence in range(1, checkpoint.sequence + 1):
                proof = graph.prove(sequence, checkpoint)
                again = Proof.from_json(json.loads(json.dumps(proof.to_json())))
                again.check(checkpoint.root)
            grown = graph.prove_growth(checkpoint)
            GrowthProof.from_json(json.loads(json.dumps(grown.to_json()))).check()
        with pytest.raises(InvalidProof, match="later checkpoint"):
            graph.prove(5, graph.checkpoints()[0])

    def test_the_event_that_recorded_an_entity_first(self, graph: Graph) -> None:
        write(graph, 5)
        graph.record([data(2)], kind="SeenAgain", aliases=[("two", data(2))])
        for name in ("two", data(2)):
            proof = graph.prove(name)
            assert (proof.event.sequence, proof.event.kind) == (3, "Loaded")
        with pytest.raises(lineage.EntityNotFound):
            graph.prove("nothing")

    def test_an_altered_proof_fails(self, graph: Graph) -> None:
        write(graph, 7)
        good = graph.prove(data(3)).to_json()
        Proof.from_json(good).check()
        for change in (
            {"entity": data(2).uid or "other"},
            {"path": good["path"][1:]},
            {"path": [*good["path"][:-1], "00" * 32]},
            {"event": {**good["event"], "actor": "eve"}},
            {"event": {**good["event"], "sequence": 3}},
            {"checkpoint": {**good["checkpoint"], "root": "00" * 32}},
        ):
            with pytest.raises(InvalidProof):
                Proof.from_json({**good, **change}).check()
        with pytest.raises(InvalidProof, match="and not for"):
            Proof.from_json(good).check(bytes(32))
        with pytest.raises(InvalidProof, match="another form"):
            Proof.from_json({"form": "x"})


class TestTheScript:
    def test_it_checks_with_the_standard_library_alone(self, tmp_path: Path) -> None:
        assert len(SCRIPT.read_text().splitlines()) <= 50
        with Graph(lineage.MemoryStore()) as graph:
            write(graph, 11)
            job = action("Train", "j-ü", properties={"seed": 7})
            graph.record([job], kind="Trained", actor="ann")
            proof = graph.prove(job)
        file, kept = tmp_path / "proof.json", tmp_path / "kept.json"
        file.write_text(json.dumps(proof.to_json()))
        kept.write_text(json.dumps(proof.checkpoint.to_json()))
        run = self.run(file, kept)
        assert run.returncode == 0, run.stderr
        assert "urn:fs:action:Train:j-%C3%BC" in run.stdout
        assert "by ann: Trained, event 12" in run.stdout
        assert f"belongs to the root {proof.checkpoint.root.hex()}\n" in run.stdout
        document = proof.to_json()
        document["event"]["actor"] = "eve"
        file.write_text(json.dumps(document))
        run = self.run(file, kept)
        assert run.returncode == 1
        assert run.stderr.startswith("FALSE")
        run = self.run(tmp_path / "none.json")
        assert run.returncode == 1
        assert run.stderr.startswith("FALSE: no proof to check")

    def run(self, *arguments: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-I", "-X", "utf8", str(SCRIPT), *map(str, arguments)],
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )


def test_over_the_network_it_is_the_same_and_checked(path: Path) -> None:
    with lineage.open(path) as graph:
        write(graph)
        server = Server(graph)
        try:
            with lineage.connect(server.target) as remote:
                made = remote.checkpoint()
                assert made.root == graph.checkpoint().root
                assert [one.sequence for one in remote.checkpoints()] == [4, 8, 12, 16, 20, 21]
                report = remote.verify(against=[made])
                assert (report.intact, report.checkpoints) == (True, 7)
                forged = replace(made, root=bytes(32))
                assert remote.verify(against=[forged]).first_altered == 21
                assert remote.prove(data(5), made) == graph.prove(data(5), made)
                assert remote.prove(3).event.sequence == 3
                first = remote.checkpoints()[0]
                assert remote.prove_growth(first).later.sequence == EVENTS
                with pytest.raises(InvalidProof, match="does not begin"):
                    remote.prove_growth(replace(first, root=bytes(32)))
                with pytest.raises(lineage.EntityNotFound):
                    remote.prove("nothing")
        finally:
            server.stop()
