"""What a graph promises, on every store."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from lineage import (
    EntityConflict,
    EntityNotFound,
    Graph,
    InvalidAssociation,
    InvalidEntity,
    Kind,
    StoreClosed,
    action,
    artifact,
    context,
    derived_uid,
    experiment,
    trial,
    trial_component,
)
from lineage.entity import Entity


def edges_of(graph: Graph, uid: str) -> set[tuple[str, str, str]]:
    found = graph.query(uid, "both").associations
    return {(edge.source, edge.destination, edge.type.value) for edge in found}


class TestRecord:
    def test_what_is_recorded_is_there(self, graph: Graph) -> None:
        data = artifact("DataSet", "s3://b/d", content_hash="1", properties={"rows": 7})
        job = trial_component("TrainingJob", "j", state="InProgress")
        recorded = graph.record([data, job], [(data, job, "ContributedTo")], kind="Test")
        assert recorded.sequence == 1
        stored_data, stored_job = recorded.entities
        assert graph.entity(stored_data.uid) == stored_data
        assert graph.entity(stored_job.uid) == stored_job
        assert stored_data.properties == {"rows": 7}
        assert stored_job.state == "InProgress"
        assert edges_of(graph, stored_job.uid) == {
            (stored_data.uid, stored_job.uid, "ContributedTo")
        }
        assert graph.stats() == {"events": 1, "entities": 2, "associations": 1}

    def test_the_store_gives_uid_and_times(self, graph: Graph) -> None:
        before = datetime.now(UTC) - timedelta(seconds=1)
        entity = context("FeatureGroup", "flights")
        stored = graph.record([entity], kind="Test").entities[0]
        assert stored.uid == derived_uid(entity)
        assert stored.created == stored.modified
        assert stored.created is not None
        assert before < stored.created < datetime.now(UTC) + timedelta(seconds=1)

    def test_events_are_numbered_without_gaps(self, graph: Graph) -> None:
        sequences = [graph.record([action("Put", str(n))], kind="Test").sequence for n in range(5)]
        assert sequences == [1, 2, 3, 4, 5]

    def test_later_properties_merge_and_the_state_is_replaced(self, graph: Graph) -> None:
        first = graph.record(
            [action("Put", "p", state="InProgress", properties={"a": 1, "b": {"x": 1}})],
            kind="Test",
        ).entities[0]
        graph.record([action("Put", "p", properties={"b": {"y": 2}, "c": None})], kind="Test")
        last = graph.record([action("Put", "p", state="Completed")], kind="Test").entities[0]
        assert last.uid == first.uid
        assert last.properties == {"a": 1, "b": {"y": 2}, "c": None}
        assert last.state == "Completed"
        assert last.created == first.created
        untold = graph.record([action("Put", "p")], kind="Test").entities[0]
        assert untold.state == "Completed"
        last = untold
        assert last == graph.entity(first.uid)

    def test_the_same_entity_twice_in_one_event_merges_in_order(self, graph: Graph) -> None:
        recorded = graph.record(
            [
                context("Endpoint", "e", state="Creating", properties={"a": 1}),
                context("Endpoint", "e", state="InService", properties={"b": 2}),
            ],
            kind="Test",
        )
        assert recorded.entities[0] == recorded.entities[1]
        assert recorded.entities[0].state == "InService"
        assert recorded.entities[0].properties == {"a": 1, "b": 2}

    def test_an_association_that_is_there_stays_one(self, graph: Graph) -> None:
        data, job = artifact("DataSet", "d"), action("Build", "b")
        for _ in range(2):
            graph.record(
                [data, job],
                [(data, job, "ContributedTo"), (data, job, "ContributedTo")],
                kind="Test",
            )
        graph.record([], [(data, job, "AssociatedWith")], kind="Test")
        assert graph.stats()["associations"] == 2

    def test_an_end_may_be_a_uid(self, graph: Graph) -> None:
        data = graph.record([artifact("DataSet", "d")], kind="Test").entities[0]
        job = action("Build", "b")
        graph.record([job], [(data.uid, derived_uid(job), "ContributedTo")], kind="Test")
        assert edges_of(graph, data.uid) == {(data.uid, derived_uid(job), "ContributedTo")}

    def test_an_end_that_is_new_is_recorded(self, graph: Graph) -> None:
        data, job = artifact("DataSet", "d"), action("Build", "b")
        recorded = graph.record([], [(data, job, "ContributedTo")], kind="Test")
        assert recorded.entities == ()
        assert graph.stats()["entities"] == 2

    def test_an_end_that_is_known_stays_as_it_is(self, graph: Graph) -> None:
        old = graph.record([action("Build", "b", state="InProgress")], kind="Test").entities[0]
        now = graph.record([action("Build", "b", state="Completed")], kind="Test").entities[0]
        graph.record([], [(artifact("DataSet", "d"), old, "ContributedTo")], kind="Test")
        assert graph.entity(old.uid) == now

    def test_it_is_all_or_nothing(self, graph: Graph) -> None:
        before = graph.record([action("Put", "before")], kind="Test")
        with pytest.raises(EntityNotFound):
            graph.record(
                [context("FeatureGroup", "half"), artifact("DataSet", "d")],
                [(artifact("DataSet", "d"), "urn:fs:nowhere", "ContributedTo")],
                kind="Test",
            )
        assert graph.stats() == {"events": 1, "entities": 1, "associations": 0}
        after = graph.record([action("Put", "after")], kind="Test")
        assert after.sequence == before.sequence + 1

    def test_a_circle_of_causes_is_refused(self, graph: Graph) -> None:
        a, b, c = (artifact("DataSet", name) for name in "abc")
        with pytest.raises(InvalidAssociation, match="closes a circle"):
            graph.record([a, b], [(a, b, "DerivedFrom"), (b, a, "DerivedFrom")], kind="Test")
        graph.record([a, b, c], [(a, b, "DerivedFrom"), (b, c, "ContributedTo")], kind="Test")
        with pytest.raises(InvalidAssociation, match=r"closes a circle.*comes from"):
            graph.record([], [(c, a, "Produced")], kind="Test")
        d = artifact("DataSet", "d")
        with pytest.raises(InvalidAssociation, match="closes a circle"):
            graph.record([d], [(c, d, "Produced"), (d, a, "Produced")], kind="Test")
        assert graph.stats() == {"events": 1, "entities": 3, "associations": 2}

    @pytest.mark.parametrize("link", ["SameAs", "AssociatedWith"])
    def test_what_says_no_cause_may_run_in_circles(self, graph: Graph, link: str) -> None:
        a, b = artifact("DataSet", "a"), artifact("DataSet", "b")
        graph.record([a, b], [(a, b, link), (b, a, link)], kind="Test")
        graph.record([], [(b, a, "DerivedFrom")], kind="Test")

    def test_a_circle_of_causes_is_possible_where_asked_for(self, graph: Graph) -> None:
        a, b = artifact("DataSet", "a"), artifact("DataSet", "b")
        graph.record(
            [a, b], [(a, b, "DerivedFrom"), (b, a, "DerivedFrom")], kind="Test", cycles="allow"
        )
        assert len(graph.query(a, "ascendants")) == 2

    @pytest.mark.parametrize("field", ["kind", "actor", "event_uid"])
    @pytest.mark.parametrize("value", ["", " ", "a\nb", "x" * 257, 5])
    def test_an_event_field_that_is_no_short_text_is_refused(
        self, graph: Graph, field: str, value: str
    ) -> None:
        with pytest.raises(InvalidEntity, match=field):
            graph.record([action("Put", "p")], **({"kind": "Test"} | {field: value}))  # type: ignore[arg-type]

    def test_a_body_beyond_all_measure_is_refused(self, graph: Graph) -> None:
        with pytest.raises(InvalidEntity, match="16777216 bytes"):
            graph.record([action("Put", "p", properties={"text": "x" * 17_000_000})], kind="Test")
        assert graph.stats()["events"] == 0


class TestIdempotence:
    def test_the_same_event_uid_is_recorded_once(self, graph: Graph) -> None:
        entity = action("Put", "p", properties={"n": 1})
        first = graph.record([entity], kind="Test", event_uid="e-1")
        again = graph.record([entity], kind="Test", event_uid="e-1")
        assert again == first
        assert graph.stats()["events"] == 1

    def test_what_the_second_says_does_not_count(self, graph: Graph) -> None:
        first = graph.record([action("Put", "p", state="Completed")], kind="T", event_uid="e")
        again = graph.record([action("Put", "p", state="Failed")], kind="T", event_uid="e")
        assert again == first
        assert graph.entity(first.entities[0].uid).state == "Completed"

    def test_the_answer_keeps_the_order_of_the_request(self, graph: Graph) -> None:
        entities = [action("Put", name) for name in ("b", "a", "b")]
        extra = (artifact("DataSet", "d"), entities[0], "ContributedTo")
        first = graph.record(entities, [extra], kind="Test", event_uid="e")
        again = graph.record(entities, [extra], kind="Test", event_uid="e")
        assert [entity.name for entity in again.entities] == ["b", "a", "b"]
        assert again == first


class TestArtifacts:
    def test_the_same_bytes_at_the_same_uri_are_one(self, graph: Graph) -> None:
        one = graph.record([artifact("Model", "m", content_hash="1")], kind="T").entities[0]
        two = graph.record(
            [artifact("ModelData", "m", content_hash="1", name="x", properties={"p": 1})], kind="T"
        ).entities[0]
        assert two.uid == one.uid
        assert two.version == 1
        assert (two.type, two.name) == ("Model", "m"), "type and name stay as first recorded"
        assert two.properties == {"p": 1}

    def test_new_bytes_at_a_known_uri_are_the_next_version(self, graph: Graph) -> None:
        versions = [
            graph.record([artifact("Model", "m", content_hash=h)], kind="T").entities[0]
            for h in ("1", "2", "3", "1", "2")
        ]
        assert [entity.version for entity in versions] == [1, 2, 3, 1, 2]
        first, second, third = versions[:3]
        assert edges_of(graph, first.uid) == {
            (first.uid, second.uid, "DerivedFrom"),
            (second.uid, third.uid, "DerivedFrom"),
        }

    def test_several_versions_in_one_event(self, graph: Graph) -> None:
        recorded = graph.record(
            [artifact("Model", "m", content_hash=h) for h in "abca"], kind="T"
        ).entities
        assert [entity.version for entity in recorded] == [1, 2, 3, 1]
        assert graph.stats()["associations"] == 2

    def test_a_uri_alone_is_an_identity_too(self, graph: Graph) -> None:
        for _ in range(2):
            graph.record([artifact("KafkaTopic", "kafka://b/t")], kind="T")
        assert graph.stats()["entities"] == 1

    def test_a_given_version_is_kept_and_found_its_neighbours(self, graph: Graph) -> None:
        """Table versions may be met in any order; an old one never descends from a newer."""
        uids = {}
        for version in (12, 5, 20, 7):
            entity = artifact("TableVersion", "t", content_hash=f"h{version}", version=version)
            stored = graph.record([entity], kind="T").entities[0]
            assert stored.version == version
            uids[version] = stored.uid
        assert edges_of(graph, uids[12]) == {
            (uids[5], uids[12], "DerivedFrom"),
            (uids[12], uids[20], "DerivedFrom"),
            (uids[5], uids[7], "DerivedFrom"),
            (uids[7], uids[12], "DerivedFrom"),
        }
        names = graph.query(uids[5], "ascendants").entities
        assert [entity.version for entity in names] == [5]

    def test_a_given_version_that_is_taken_gives_way(self, graph: Graph) -> None:
        graph.record([artifact("T", "t", content_hash="a", version=5)], kind="T")
        second = graph.record([artifact("T", "t", content_hash="b", version=5)], kind="T")
        third = graph.record([artifact("T", "t", content_hash="c")], kind="T")
        assert second.entities[0].version == 6
        assert third.entities[0].version == 7

    def test_given_versions_in_one_event(self, graph: Graph) -> None:
        recorded = graph.record(
            [artifact("T", "t", content_hash=str(v), version=v) for v in (9, 3, 6, 6)], kind="T"
        ).entities
        assert [entity.version for entity in recorded] == [9, 3, 6, 6]
        by_version = {entity.version: entity.uid for entity in recorded}
        assert edges_of(graph, by_version[6]) == {
            (by_version[3], by_version[9], "DerivedFrom"),
            (by_version[3], by_version[6], "DerivedFrom"),
            (by_version[6], by_version[9], "DerivedFrom"),
        }

    def test_an_explicit_uid_is_kept_and_found_by_identity(self, graph: Graph) -> None:
        mine = Entity(Kind.ARTIFACT, "Model", "m", uid="my:model", source_uri="m", content_hash="1")
        graph.record([mine], kind="T")
        same = artifact("Model", "m", content_hash="1")
        job = action("Deploy", "d")
        recorded = graph.record([same, job], [(same, job, "ContributedTo")], kind="T")
        assert recorded.entities[0].uid == "my:model"
        assert edges_of(graph, "my:model") == {("my:model", derived_uid(job), "ContributedTo")}


class TestConflicts:
    def test_a_uid_keeps_its_kind(self, graph: Graph) -> None:
        graph.record([Entity(Kind.ACTION, "A", "a", uid="u")], kind="T")
        with pytest.raises(EntityConflict, match="kind Action, not Context"):
            graph.record([Entity(Kind.CONTEXT, "A", "a", uid="u")], kind="T")

    def test_a_uid_keeps_its_type_and_name(self, graph: Graph) -> None:
        graph.record([Entity(Kind.ACTION, "A", "a", uid="u")], kind="T")
        with pytest.raises(EntityConflict, match="is A 'a', not A 'b'"):
            graph.record([Entity(Kind.ACTION, "A", "b", uid="u")], kind="T")

    def test_an_artifacts_uid_keeps_its_content(self, graph: Graph) -> None:
        stored = graph.record([artifact("M", "m", content_hash="1")], kind="T").entities[0]
        with pytest.raises(EntityConflict, match="leave the uid empty"):
            graph.record([replace(stored, content_hash="2")], kind="T")
        assert graph.stats()["events"] == 1

    def test_one_identity_has_one_uid(self, graph: Graph) -> None:
        stored = graph.record([artifact("M", "m", content_hash="1")], kind="T").entities[0]
        with pytest.raises(EntityConflict, match=f"exists as '{stored.uid}'"):
            graph.record([replace(stored, uid="other")], kind="T")

    def test_a_conflict_inside_one_event(self, graph: Graph) -> None:
        one = Entity(Kind.ACTION, "A", "a", uid="u")
        with pytest.raises(EntityConflict):
            graph.record([one, replace(one, kind=Kind.CONTEXT)], kind="T")
        assert graph.stats()["events"] == 0


class TestRefusals:
    @pytest.mark.parametrize("source", [experiment("E", "e"), trial("T", "t")])
    @pytest.mark.parametrize(
        "destination", [trial("T", "u"), trial_component("J", "j"), experiment("E", "f")]
    )
    def test_two_experiment_entities(
        self, graph: Graph, source: Entity, destination: Entity
    ) -> None:
        with pytest.raises(InvalidAssociation, match="never associated"):
            graph.record([source, destination], [(source, destination, "AssociatedWith")], kind="T")
        assert graph.stats()["events"] == 0

    def test_an_experiment_entity_with_any_other(self, graph: Graph) -> None:
        t, c = trial("T", "t"), context("C", "c")
        graph.record([t, c], [(t, c, "AssociatedWith"), (c, t, "ContributedTo")], kind="T")
        assert graph.stats()["associations"] == 2

    def test_a_loop(self, graph: Graph) -> None:
        a = artifact("D", "d")
        with pytest.raises(InvalidAssociation, match="itself"):
            graph.record([a], [(a, derived_uid(a), "SameAs")], kind="T")

    def test_an_unknown_type(self, graph: Graph) -> None:
        a, b = artifact("D", "a"), artifact("D", "b")
        with pytest.raises(InvalidAssociation, match="'Made'"):
            graph.record([a, b], [(a, b, "Made")], kind="T")

    def test_an_unknown_uid_names_the_nearest(self, graph: Graph) -> None:
        graph.record([context("FeatureGroup", "flights"), context("FeatureGroup", "x")], kind="T")
        with pytest.raises(EntityNotFound) as caught:
            graph.entity("urn:fs:context:FeatureGroup:flihgts")
        assert caught.value.nearest == "urn:fs:context:FeatureGroup:flights"
        assert isinstance(caught.value, LookupError)
        with pytest.raises(EntityNotFound, match="did you mean 'urn:fs:context:FeatureGroup:x'"):
            graph.query("x")

    def test_nothing_is_near_to_nothing(self, graph: Graph) -> None:
        with pytest.raises(EntityNotFound) as caught:
            graph.entity("anything")
        assert caught.value.nearest is None


class TestFind:
    @pytest.fixture
    def filled(self, graph: Graph) -> Graph:
        for content in "12":
            graph.record([artifact("Model", "s3://m", content_hash=content, name="m")], kind="T")
        graph.record([action("Deploy", "m", source_uri="s3://m"), context("C", "c")], kind="T")
        return graph

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            ({}, ["Model 1", "Model 2", "Deploy 1", "C 1"]),
            ({"kind": "Artifact"}, ["Model 1", "Model 2"]),
            ({"kind": Kind.ACTION}, ["Deploy 1"]),
            ({"type": "Model"}, ["Model 1", "Model 2"]),
            ({"name": "m"}, ["Model 1", "Model 2", "Deploy 1"]),
            ({"source_uri": "s3://m"}, ["Model 1", "Model 2", "Deploy 1"]),
            ({"source_uri": "s3://m", "kind": "Action"}, ["Deploy 1"]),
            ({"type": "Model", "name": "c"}, []),
            ({"name": "m", "type": "Deploy"}, ["Deploy 1"]),
            ({"source_uri": ""}, ["C 1"]),
        ],
    )
    def test_every_field_given_is_equal(
        self, filled: Graph, wanted: dict[str, str], found: list[str]
    ) -> None:
        entities = filled.find(**wanted)
        assert [f"{entity.type} {entity.version}" for entity in entities] == found

    def test_an_unknown_kind_is_refused(self, graph: Graph) -> None:
        with pytest.raises(InvalidEntity, match="expected one of"):
            graph.find(kind="Thing")


class TestLife:
    def test_a_closed_graph_says_so(self, open_graph: Callable[[], Graph]) -> None:
        with open_graph() as graph:
            graph.record([action("Put", "p")], kind="T")
        graph.close()
        for use in (
            lambda: graph.record([action("Put", "q")], kind="T"),
            lambda: graph.entity("x"),
            lambda: graph.query("x"),
            graph.verify,
            graph.stats,
            graph.rebuild,
        ):
            with pytest.raises(StoreClosed, match=r"lineage\.open"):
                use()

    def test_a_fresh_graph_is_intact_and_empty(self, graph: Graph) -> None:
        report = graph.verify(projections=True)
        assert (report.intact, report.events, report.first_altered) == (True, 0, None)
        assert graph.stats() == {"events": 0, "entities": 0, "associations": 0}
        assert graph.find() == []
