"""Exports: each form holds the graph, can be read back, and survives any text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import jsonschema
import networkx
import pytest

from lineage import (
    ColumnEdge,
    ColumnLineage,
    Entity,
    Graph,
    InvalidQuery,
    Kind,
    MemoryStore,
    Run,
    action,
    artifact,
    context,
    derived_uid,
    trial_component,
)
from lineage.exports import FORMATS, as_format, ndjson_schema
from lineage.exports.prov import identifier

EVIL = "</script>]]><!--\"'`&\\%% \t[prov:x='y'] @@DATA@@ é天\ufffe"
PRINTABLE = EVIL.replace("\t", " ")


@pytest.fixture
def full(open_graph: Callable[[], Graph]) -> Graph:
    """One of everything, with names that mean something to every format."""
    graph = open_graph()
    data = artifact(
        "DataSet",
        f"s3://{PRINTABLE}",
        content_hash="1",
        name=PRINTABLE,
        properties={EVIL: [1, None, {"a": EVIL}], "rows": 3},
    )
    newer = artifact("DataSet", f"s3://{PRINTABLE}", content_hash="2", name="newer")
    job = trial_component("TrainingJob", "job", state="Completed")
    model = artifact("Model", "s3://b/model", content_hash="9")
    copy = artifact("Model", "s3://c/model", content_hash="9")
    group = context("ModelGroup", "group")
    approval = action("Approval", "approval")
    endpoint = context("Endpoint", "endpoint")
    custom = Entity(Kind.CONTEXT, "Thing", "custom", uid="x:y%.")
    graph.record(
        [data, newer, job, model, copy, group, approval, endpoint, custom],
        [
            (data, job, "ContributedTo"),
            (newer, job, "ContributedTo"),
            (job, model, "Produced"),
            (newer, model, "DerivedFrom"),
            (model, copy, "SameAs"),
            (model, group, "AssociatedWith"),
            (job, group, "AssociatedWith"),
            (job, approval, "ContributedTo"),
            (group, approval, "ContributedTo"),
            (approval, endpoint, "Produced"),
            (copy, custom, "ContributedTo"),
        ],
        kind="T",
        actor="first@example.org",
        columns=[
            ColumnLineage(
                model,
                derived_uid(job),
                (
                    ColumnEdge(
                        newer, EVIL, "wind", "DIRECT", "IDENTITY", "f(x)", True, {"importance": 0.3}
                    ),
                    ColumnEdge(data, "key", "", "INDIRECT", "JOIN"),
                ),
                7,
            )
        ],
        runs=[Run("run-1", job, "Completed", 1, 2, {"seed": 1})],
        tags=[(model, "stage", "live")],
        aliases=[("arn:model/9", model)],
    )
    graph.record([trial_component("TrainingJob", "late")], kind="T", actor="second")
    return graph


def export(graph: Graph, path: Path, **options: Any) -> str:
    graph.export(path, **options)
    return path.read_text(encoding="utf-8")


class TestProv:
    """Every reference resolves to what the relation needs, in both notations alike."""

    def test_json(self, full: Graph, tmp_path: Path) -> None:
        document = json.loads(export(full, tmp_path / "graph.prov.json"))
        check_prov(document)
        assert len(document["entity"]) == 7 + 3  # and the columns
        assert len(document["activity"]) == 3
        relations = {
            name: len(found)
            for name, found in document.items()
            if name not in ("prefix", "entity", "activity", "agent")
        }
        assert relations == {
            "used": 3,
            "wasGeneratedBy": 2,
            "wasDerivedFrom": 2 + 2,
            "alternateOf": 1,
            "hadMember": 1,
            "wasInformedBy": 1,
            "wasInfluencedBy": 2,
            "specializationOf": 3,
            "wasAttributedTo": 7,
            "wasAssociatedWith": 3,
        }
        data = next(e for e in document["entity"].values() if e.get("fl:content_hash") == "1")
        assert data["prov:label"] == PRINTABLE
        assert json.loads(data["fl:properties"])[EVIL] == [1, None, {"a": EVIL}]
        assert {agent["prov:label"] for agent in document["agent"].values()} == {
            "first@example.org",
            "second",
        }

    def test_direction_of_relations(self, full: Graph, tmp_path: Path) -> None:
        document = json.loads(export(full, tmp_path / "graph.prov.json"))
        job = identifier(derived_uid(trial_component("TrainingJob", "job")))
        model = identifier(derived_uid(artifact("M", "s3://b/model", content_hash="9")))
        assert {
            "prov:entity": model,
            "prov:activity": job,
            "prov:type": {"$": "fl:Produced", "type": "prov:QUALIFIED_NAME"},
        } in document["wasGeneratedBy"].values()
        assert model in [d["prov:generatedEntity"] for d in document["wasDerivedFrom"].values()]
        assert [m["prov:entity"] for m in document["hadMember"].values()] == [model]

    def test_n_says_the_same(self, full: Graph, tmp_path: Path) -> None:
        document = json.loads(export(full, tmp_path / "graph.prov.json"))
        lines = export(full, tmp_path / "graph.provn").splitlines()
        assert (lines[0], lines[-1]) == ("document", "endDocument")
        counted: dict[str, int] = {}
        for line in lines[1:-1]:
            if line.startswith("  prefix "):
                assert re.fullmatch(r"  prefix \w+ <urn:[\w:]+>", line)
                continue
            name = line.strip().partition("(")[0]
            counted[name] = counted.get(name, 0) + 1
            # Without its strings a statement has no mark but those of the grammar.
            bare = re.sub(r'"(?:[^"\\]|\\["\\nrtbf])*"', '""', line)
            assert re.fullmatch(
                r"  \w+\([\w:%/.~-]+(, (-|[\dT:.+-]+|[\w:%/.~-]+))*"
                r"(, \[\w+:\w+=(\"\"( %% xsd:\w+)?|'[\w:]+')"
                r"(, \w+:\w+=(\"\"( %% xsd:\w+)?|'[\w:]+'))*\])?\)",
                bare,
            ), line
        found = {name: len(one) for name, one in document.items() if name != "prefix"}
        assert counted == found

    def test_of_a_result(self, full: Graph) -> None:
        result = full.query(full.find(type="Endpoint")[0], "ascendants")
        document = json.loads(result.to_prov_json())
        check_prov(document)
        assert len(document["entity"]) + len(document["activity"]) == len(result)
        assert result.to_prov_n().count("\n  used(") == 3

    def test_identifiers_are_apart_and_plain(self) -> None:
        uids = ["a:b", "a%3Ab", "urn:fs:a:b", "-a", "a.", "a/b", "é", "a b", "urn:fs:a%3Ab"]
        names = [identifier(uid) for uid in uids]
        assert len(set(names)) == len(uids)
        for name in names:
            assert re.fullmatch(r"\w+:(?:[A-Za-z0-9_~]|%[0-9A-F]{2}|[.-](?!$))+", name)


def check_prov(document: Any) -> None:
    """What PROV demands of a document: names have prefixes, and ends exist and are of a kind."""
    entities, activities = set(document["entity"]), set(document["activity"])
    agents = set(document.get("agent", ()))
    assert not entities & activities
    kinds = {
        "prov:entity": entities,
        "prov:activity": activities,
        "prov:generatedEntity": entities,
        "prov:usedEntity": entities,
        "prov:informed": activities,
        "prov:informant": activities,
        "prov:collection": entities,
        "prov:alternate1": entities,
        "prov:alternate2": entities,
        "prov:specificEntity": entities,
        "prov:generalEntity": entities,
        "prov:agent": agents,
        "prov:influencee": entities | activities,
        "prov:influencer": entities | activities,
    }
    for section, members in document.items():
        if section in ("prefix", "entity", "activity", "agent"):
            continue
        for one in members.values():
            ends = {key: value for key, value in one.items() if key != "prov:type" and key in kinds}
            assert len(ends) == 2, section
            for key, value in ends.items():
                assert value in kinds[key], (section, one)
    for name in entities | activities | agents:
        assert name.partition(":")[0] in document["prefix"]
    for collection in {one["prov:collection"] for one in document.get("hadMember", {}).values()}:
        types = document["entity"][collection]["prov:type"]
        assert {"$": "prov:Collection", "type": "prov:QUALIFIED_NAME"} in types


class TestXml:
    @pytest.mark.parametrize("form", ["graphml", "gexf"])
    def test_networkx_reads_it(self, full: Graph, tmp_path: Path, form: str) -> None:
        path = tmp_path / f"graph.{form}"
        full.export(path)
        read = networkx.read_graphml(path) if form == "graphml" else networkx.read_gexf(path)
        found = full.find()
        assert set(read) == {entity.uid for entity in found}
        # An association each, with the version's own, and two column edges.
        assert read.number_of_edges() == 12 + 2
        data = read.nodes[next(e.uid for e in found if e.content_hash == "1")]
        label = data["name" if form == "graphml" else "label"]
        assert label == PRINTABLE.replace("\ufffe", "\ufffd")
        assert json.loads(data["properties"])["rows"] == 3
        assert data["version"] == 1
        types = sorted(values["type"] for _, _, values in read.edges(data=True))
        assert types.count("Column") == 2
        assert types.count("ContributedTo") == 5
        wind = next(v for _, _, v in read.edges(data=True) if v.get("column") == "wind")
        assert wind["transformation"] == "DIRECT IDENTITY"
        assert wind["source_column"] == EVIL.replace("\ufffe", "\ufffd")

    def test_gexf_has_times(self, full: Graph, tmp_path: Path) -> None:
        path = tmp_path / "graph.gexf"
        full.export(path)
        read = networkx.read_gexf(path)
        for entity in full.find():
            assert entity.created is not None
            assert read.nodes[entity.uid]["start"] == entity.created.isoformat(
                timespec="microseconds"
            )
        for source, destination, values in read.edges(data=True):
            if values["type"] != "Column":
                ends = (read.nodes[source]["start"], read.nodes[destination]["start"])
                assert values["start"] == max(ends)

    def test_of_a_result(self, full: Graph) -> None:
        result = full.query(full.find(name="model")[0], "ascendants")
        for text in (result.to_graphml(), result.to_gexf()):
            assert text.count("<node ") == len(result)
            assert text.count("<edge ") == len(result.associations)


class TestNdjson:
    def test_every_line_fits_the_schema(self, full: Graph, tmp_path: Path) -> None:
        validator = jsonschema.Draft202012Validator(json.loads(ndjson_schema()))
        lines = [json.loads(line) for line in export(full, tmp_path / "g.ndjson").splitlines()]
        for line in lines:
            validator.validate(line)
        kinds = [line["is"] for line in lines]
        assert {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)} == {
            "header": 1,
            "entity": 10,
            "association": 12,
            "columns": 1,
            "run": 1,
            "tag": 1,
            "alias": 1,
        }
        assert not validator.is_valid({"is": "entity", "uid": "u"})

    def test_of_a_result_keeps_to_it(self, full: Graph, tmp_path: Path) -> None:
        data = full.find(name="newer")[0]
        result = full.query(data, "descendants", depth=1)
        text = export(full, tmp_path / "part.ndjson", of=result)
        lines = [json.loads(line) for line in text.splitlines()]
        uids = {line["uid"] for line in lines if line["is"] == "entity"}
        assert uids == {entity.uid for entity in result}
        for line in lines:
            if line["is"] == "columns":
                assert {edge["source"] for edge in line["edges"]} <= uids


class TestParquet:
    def test_duckdb_asks_it(self, full: Graph, tmp_path: Path) -> None:
        assert full.export(tmp_path / "graph", "parquet") == "parquet"
        place = tmp_path / "graph"
        query = f"""
            SELECT e.name, count(*) AS inputs FROM '{place}/associations.parquet' AS a
            JOIN '{place}/entities.parquet' AS e ON e.uid = a.destination
            WHERE a.type = 'ContributedTo' GROUP BY ALL ORDER BY ALL
        """
        assert duckdb.sql(query).fetchall() == [("approval", 2), ("custom", 1), ("job", 2)]
        columns = duckdb.sql(
            f"SELECT * FROM '{place}/columns.parquet' ORDER BY \"column\""
        ).fetchall()
        assert [row[3] for row in columns] == ["", "wind"]


class TestOthers:
    def test_json(self, full: Graph, tmp_path: Path) -> None:
        document = json.loads(export(full, tmp_path / "graph.json"))
        assert [len(document[name]) for name in ("entities", "associations", "columns")] == [
            10,
            12,
            2,
        ]
        assert "depth" not in document["entities"][0]
        part = json.loads(
            full.export_text("json", of=full.query(full.find(type="Endpoint")[0], depth=1))
        )
        assert [(e["name"], e["depth"]) for e in part["entities"]] == [
            ("endpoint", 0),
            ("approval", 1),
        ]

    @pytest.mark.parametrize("form", ["html", "tree", "mermaid", "dot"])
    def test_pictures_of_the_whole(self, full: Graph, form: str) -> None:
        text = full.export_text(form)
        for name in ("approval", "endpoint", "late"):
            assert name in text

    def test_as_of_an_earlier_moment(self, full: Graph, tmp_path: Path) -> None:
        assert len(export(full, tmp_path / "then.ndjson", as_of=1).splitlines()) == 26
        assert "late" not in export(full, tmp_path / "then.graphml", as_of=1)
        created = full.find(name="late")[0].created
        assert created is not None
        before = export(full, tmp_path / "b.json", as_of=created - timedelta(microseconds=1))
        assert len(json.loads(before)["entities"]) in (0, 9)

    @pytest.mark.parametrize("form", sorted(FORMATS))
    def test_of_an_empty_graph(self, open_graph: Callable[[], Graph], form: str) -> None:
        text = open_graph().export_text(form)
        if form in ("json", "prov-json"):
            json.loads(text)

    def test_more_than_one_chunk(self, open_graph: Callable[[], Graph], tmp_path: Path) -> None:
        graph = open_graph()
        nodes = [artifact("D", f"s3://b/{n}") for n in range(1_001)]
        graph.record(nodes, [(a, b, "DerivedFrom") for a, b in pairwise(nodes)], kind="T")
        read = json.loads(export(graph, tmp_path / "g.json"))
        assert [entity["name"] for entity in read["entities"]] == [str(n) for n in range(1_001)]
        assert len(read["associations"]) == 1_000

    def test_retracted_associations_are_gone(self, open_graph: Callable[[], Graph]) -> None:
        graph = open_graph()
        a, b = artifact("D", "a"), artifact("D", "b")
        graph.record([a, b], [(a, b, "DerivedFrom")], kind="T")
        graph.record([], retract=[(a, b, "DerivedFrom")], kind="T")
        assert json.loads(graph.export_text("json"))["associations"] == []


class TestFiles:
    def test_the_ending_names_the_format(self) -> None:
        for form, (_, endings) in FORMATS.items():
            for ending in endings:
                assert as_format(None, Path(f"a/b.c{ending}")) == form
        assert as_format(None, Path("a.parquet")) == "parquet"

    def test_refusals_say_what_there_is(self, full: Graph, tmp_path: Path) -> None:
        with pytest.raises(InvalidQuery, match=r"expected one of html.*did you mean 'graphml'"):
            full.export(tmp_path / "x", "graphlm")
        with pytest.raises(InvalidQuery, match=r"x\.xyz' has none of the known endings"):
            full.export(tmp_path / "x.xyz")
        with pytest.raises(InvalidQuery, match="give a path"):
            full.export_text("parquet")
        assert not [one for one in tmp_path.iterdir() if one.name.startswith("x")]

    def test_a_path_that_cannot_be_written_is_named(self, full: Graph, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        for form in ("graphml", "parquet"):
            with pytest.raises(OSError, match="file"):
                full.export(tmp_path / "file" / "x", form)

    def test_what_was_there_stays_when_writing_fails(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "page.html"
        graph = Graph(MemoryStore())
        graph.record([artifact("D", "a")], kind="T")
        graph.export(path)
        before = path.read_bytes()
        graph.close()
        with pytest.raises(Exception, match="closed"):
            graph.export(path)
        assert path.read_bytes() == before
        assert [one.name for one in path.parent.iterdir()] == ["page.html"]
