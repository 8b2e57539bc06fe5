import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import networkx
import pyarrow as pa
import pytest

import lineage
from lineage import (
    Graph,
    LineageResult,
    MemoryStore,
    action,
    artifact,
    context,
    derived_uid,
    trial_component,
)

EVIL = "</script><img src=x onerror=alert(1)>\"'`&#;|]})\\N{{x}}"


@pytest.fixture
def graph() -> Graph:
    graph = Graph(MemoryStore())
    data = artifact("DataSet", "s3://b/flights.parquet", content_hash="1")
    job = trial_component("TrainingJob", "flights-1", state="Completed")
    model = artifact("Model", "s3://b/model.tar.gz", content_hash="9")
    image = artifact("Image", "xgboost:3.2")
    retry = trial_component("TrainingJob", "flights-2", state="Failed")
    graph.record(
        [data, job, model, image, retry],
        [
            (data, job, "ContributedTo"),
            (image, job, "ContributedTo"),
            (job, model, "Produced"),
            (data, model, "DerivedFrom"),
            (data, retry, "ContributedTo"),
            (image, retry, "ContributedTo"),
        ],
        kind="T",
    )
    return graph


@pytest.fixture
def model(graph: Graph) -> LineageResult:
    return graph.query(graph.find(type="Model")[0], "ascendants")


@pytest.fixture
def evil() -> LineageResult:
    graph = Graph(MemoryStore())
    a, b = artifact(EVIL[:200], f"s3://{EVIL}", name=EVIL), action("Job", EVIL, state=EVIL[:60])
    graph.record([a, b], [(a, b, "ContributedTo")], kind="T")
    return graph.query(b)


class TestTree:
    def test_ascendants(self, model: LineageResult) -> None:
        assert model.to_tree() == (
            "Model model.tar.gz v1\n"
            "├─◀ DerivedFrom DataSet flights.parquet v1\n"
            "└─◀ Produced TrainingJob flights-1 [Completed]\n"
            "   ├─◀ ContributedTo DataSet flights.parquet v1 (above)\n"
            "   └─◀ ContributedTo Image xgboost:3.2 v1\n"
        )

    def test_descendants(self, graph: Graph) -> None:
        image = graph.find(type="Image")[0]
        assert graph.query(image, "descendants").to_tree() == (
            "Image xgboost:3.2 v1\n"
            "├─▶ ContributedTo TrainingJob flights-1 [Completed]\n"
            "│  └─▶ Produced Model model.tar.gz v1\n"
            "└─▶ ContributedTo TrainingJob flights-2 [Failed]\n"
        )

    def test_both_draws_each_association_once(self, graph: Graph) -> None:
        result = graph.query(graph.find(type="Image")[0], "both")
        lines = result.to_tree().splitlines()
        assert len(lines) == 1 + len(result.associations)
        whole = [line for line in lines if "(above)" not in line]
        assert len(whole) == len(result)

    def test_several_types_between_the_same_share_a_line(self, graph: Graph) -> None:
        a, b = artifact("D", "a"), artifact("D", "b")
        graph.record([a, b], [(a, b, "SameAs"), (a, b, "DerivedFrom")], kind="T")
        assert graph.query(b).to_tree() == "D b v1\n└─◀ DerivedFrom, SameAs D a v1\n"

    def test_a_cycle_ends(self, graph: Graph) -> None:
        a, b = artifact("D", "a"), artifact("D", "b")
        graph.record(
            [a, b], [(a, b, "DerivedFrom"), (b, a, "DerivedFrom")], kind="T", cycles="allow"
        )
        assert graph.query(a).to_tree() == (
            "D a v1\n└─◀ DerivedFrom D b v1\n   └─◀ DerivedFrom D a v1 (above)\n"
        )

    def test_deep_lineage_does_not_exhaust_the_stack(self, graph: Graph) -> None:
        nodes = [artifact("D", f"n/{n}") for n in range(1_500)]
        graph.record(nodes, [(a, b, "DerivedFrom") for a, b in pairwise(nodes)], kind="T")
        assert graph.query(nodes[-1]).to_tree().count("\n") == 1_500

    def test_without_edges_all_stand_alone(self, graph: Graph) -> None:
        result = graph.query(graph.find(type="Model")[0], include_edges=False)
        assert result.to_tree().splitlines()[0] == "Model model.tar.gz v1"
        assert len(result.to_tree().splitlines()) == 4

    def test_long_names_are_cut_in_the_middle(self, graph: Graph) -> None:
        graph.record([context("C", "a" * 500 + "z")], kind="T")
        tree = graph.query(context("C", "a" * 500 + "z")).to_tree()
        assert re.fullmatch(r"C a{30}…a{28}z\n", tree)


class TestMermaid:
    def test_a_flowchart(self, model: LineageResult) -> None:
        text = model.to_mermaid()
        assert text.startswith("flowchart LR\n")
        assert '    n0["Model<br/>model.tar.gz v1"]:::Artifact\n' in text
        assert "([" in text
        assert len(re.findall(r"^    n\d+ -->\|\w+\| n\d+$", text, re.M)) == 4

    def test_any_name_is_harmless(self, evil: LineageResult) -> None:
        """Nothing in quotes but letters, entity codes, line breaks and plain marks."""
        lines = evil.to_mermaid().splitlines()
        nodes = [line for line in lines if ":::" in line]
        assert len(nodes) == 2
        for line in nodes:
            shape = re.fullmatch(r'    n\d+[\[({]+"(.*)"[\])}]+:::\w+', line)
            assert shape is not None
            assert re.fullmatch(r"(?:[\w .\-/…]|#\d+;|<br/>)*", shape[1])
        assert "onerror#61;alert" in lines[1]


class TestDot:
    def test_a_digraph(self, model: LineageResult) -> None:
        text = model.to_dot()
        assert text.startswith("digraph lineage {\n    rankdir=LR;\n")
        assert 'n0 [label="Model\\nmodel.tar.gz v1", shape=box' in text
        assert text.count(" -> ") == 4
        assert text.endswith("}\n")

    def test_any_name_is_harmless(self, evil: LineageResult) -> None:
        string = r'"(?:[^"\\]|\\.)*"'
        for line in evil.to_dot().splitlines():
            assert '"' not in re.sub(string, "", line), line
        assert r"\\N{{x}}" in evil.to_dot()


class TestOtherForms:
    def test_networkx(self, model: LineageResult) -> None:
        graph = model.to_networkx()
        assert isinstance(graph, networkx.MultiDiGraph)
        assert set(graph) == {entity.uid for entity in model.entities}
        assert graph.number_of_edges() == 4
        job = graph.nodes["urn:fs:trial-component:TrainingJob:flights-1"]
        assert (job["name"], job["state"], job["depth"]) == ("flights-1", "Completed", 1)
        ends = (derived_uid(artifact("D", "s3://b/flights.parquet", content_hash="1")), model.start)
        assert graph.edges[(*ends, "DerivedFrom")]["type"] == "DerivedFrom"
        assert networkx.is_directed_acyclic_graph(graph)

    def test_parallel_associations_stay_apart(self, graph: Graph) -> None:
        a, b = artifact("D", "a"), artifact("D", "b")
        graph.record([a, b], [(a, b, "SameAs"), (a, b, "DerivedFrom")], kind="T")
        assert graph.query(b).to_networkx().number_of_edges() == 2

    def test_arrow(self, model: LineageResult) -> None:
        table = model.to_arrow()
        assert table.column_names == [
            "uid", "kind", "type", "name", "source_uri", "content_hash", "version", "state",
            "properties", "created", "modified", "depth",
        ]  # fmt: skip
        assert table["name"].to_pylist()[0] == "model.tar.gz"
        assert table["depth"].to_pylist() == [0, 1, 1, 2]
        assert table.schema.field("created").type == pa.timestamp("us", tz="UTC")
        assert table["created"].to_pylist()[0] == model.entities[0].created
        assert table["properties"].to_pylist() == ["{}"] * 4
        edges = model.associations_to_arrow()
        assert edges.num_rows == 4
        assert set(edges["type"].to_pylist()) == {"ContributedTo", "DerivedFrom", "Produced"}

    def test_of_nothing(self, graph: Graph) -> None:
        nothing = graph.query(graph.find(type="Model")[0], types=["Nothing"])
        assert nothing.to_arrow().num_rows == nothing.associations_to_arrow().num_rows == 0
        assert len(nothing.to_networkx()) == 0
        assert nothing.to_tree() == "\n"
        assert "0 entities" in nothing.to_html()
        assert nothing.to_mermaid() == "flowchart LR\n"

    def test_importing_the_package_does_not_load_what_only_some_results_need(self) -> None:
        script = "import sys, lineage; print({'networkx', 'pyarrow'} & set(sys.modules))"
        out = subprocess.run(
            [sys.executable, "-c", script],
            cwd=Path(lineage.__file__).parents[1],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        assert out.strip() == "set()"
