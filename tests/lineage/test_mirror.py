"""The mirror: the same answers as the store's, in every state of the graph."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

import lineage
from lineage import AssociationType, Graph, MemoryStore, StoreUnavailable, action, artifact
from lineage.mirror import Mirror, _read, _read_in_bulk, hash_at

LINKS = [link.value for link in AssociationType]
ROOT = Path(lineage.__file__).parents[1]


def node(number: int) -> lineage.Entity:
    return action("Step", f"{number}") if number % 2 else artifact("DataSet", f"d/{number}")


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Associations recorded and retracted, and questions between them."""
    ends = st.integers(0, 8)
    edge = st.tuples(ends, ends, st.sampled_from(LINKS)).filter(lambda one: one[0] != one[1])
    question = st.fixed_dictionaries(
        {
            "start": ends,
            "direction": st.sampled_from(["ascendants", "descendants", "both", "either"]),
            "depth": st.sampled_from([None, 0, 1, 2]),
            "limit": st.sampled_from([None, 1, 3]),
            "max_walked": st.sampled_from([None, None, 2, 4]),
            "types": st.sampled_from([None, ["Step"]]),
            "through": st.sampled_from([None, None, ["Produced", "SameAs"]]),
            "include_edges": st.booleans(),
        }
    )
    return draw(
        st.lists(
            st.one_of(
                st.tuples(st.just("record"), st.lists(edge, max_size=6)),
                st.tuples(st.just("retract"), st.integers(0, 20)),
                st.tuples(st.just("ask"), question),
                st.tuples(st.just("fold"), st.none()),
            ),
            max_size=14,
        )
    )


def answer(graph: Graph, asked: dict[str, Any]) -> Any:
    options = dict(asked)
    result = graph.query(node(options.pop("start")), **options)
    return (
        result.uids,
        [entity.uid for entity in result.path_entities],
        set(result.associations),
        len(result.associations),
        dict(result.depths),
        result.truncated,
        len(result),
    )


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(said=steps(), wide=st.sampled_from([1, 2, 64]))
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_the_mirror_answers_as_the_store_does(
    kind: str,
    said: list[tuple[str, Any]],
    wide: int,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lineage.mirror._WIDE_STEP", wide)
    path = tmp_path_factory.mktemp("mirror") / "lineage.db"
    plain = Graph(MemoryStore()) if kind == "memory" else lineage.open(path)
    mirrored = Graph(plain.store)
    plain.record([node(number) for number in range(9)], kind="T")
    mirrored.mirroring.load()
    present: dict[tuple[int, int, str], None] = {}
    for what, value in said:
        if what == "record":
            links = [(node(a), node(b), link) for a, b, link in value]
            plain.record([], links, kind="T", cycles="allow")
            present.update(dict.fromkeys(value))
        elif what == "retract" and present:
            a, b, link = list(present)[value % len(present)]
            del present[a, b, link]
            plain.record([], retract=[(node(a), node(b), link)], kind="T")
        elif what == "fold":
            mirror = mirrored.mirroring.mirror
            assert mirror is not None
            with plain.store.view() as view:
                mirror.refresh(view)
            mirror._fold()
        elif what == "ask":
            assert answer(mirrored, value) == answer(plain, value)
    for start in range(9):
        for direction in ("both", "either"):
            asked = {"start": start, "direction": direction}
            assert answer(mirrored, asked) == answer(plain, asked)
    plain.close()


def test_what_is_read_in_bulk_is_what_is_read_row_by_row(
    open_graph: Callable[[], Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lineage.mirror._NODES_AT_ONCE", 3)
    graph = open_graph()
    links = [
        (node(a), node(b), link) for a in range(7) for b in range(a) for link in AssociationType
    ]
    graph.record([node(number) for number in range(9)], links, kind="T", cycles="allow")
    graph.record([], retract=links[::4], kind="T")
    graph.record([], links[:8:4], kind="T", cycles="allow")  # begun again
    with graph.store.view() as view:
        rows = _read(view.edges(0), bool)
        bulk = view.reaching
        assert rows is not None
        found = sorted(zip(*(column.tolist() for column in rows), strict=True))
        assert len(found) == len(links) - len(links[::4]) + 2
        if bulk is not None:  # the store in memory has its rows at hand
            columns = _read_in_bulk(bulk, bool)
            assert columns is not None
            assert [column.dtype for column in columns] == [column.dtype for column in rows]
            assert sorted(zip(*(column.tolist() for column in columns), strict=True)) == found
            assert _read_in_bulk(bulk, lambda: True) is None


def test_it_is_read_by_itself_when_a_graph_is_asked_often(
    open_graph: Callable[[], Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lineage.mirror._OFTEN", 3)
    graph = open_graph()
    data = artifact("DataSet", "d")
    graph.record([], [(data, action("Step", "s"), "ContributedTo")], kind="T")
    for _ in range(3):
        assert graph.mirroring.mirror is None
        assert len(graph.query(data, "descendants")) == 2
    assert graph.mirroring.load() is graph.mirroring.mirror is not None
    graph.record([], [(data, action("Step", "t"), "ContributedTo")], kind="T")
    assert len(graph.query(data, "descendants")) == 3
    with graph.store.view() as view:
        assert graph.mirroring.mirror.sequence == view.sequence()


def test_a_query_sees_what_another_process_has_committed(tmp_path: Path) -> None:
    path = tmp_path / "lineage.db"
    hub = action("Hub", "hub")
    with lineage.open(path) as graph:
        graph.record([hub], kind="T")
        graph.mirroring.load()
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        for count, line in enumerate(writer.stdout, start=1):
            assert line.strip() == str(count)
            assert len(graph.query(hub, "descendants")) >= count + 1
        writer.communicate(timeout=60)
        assert writer.returncode == 0
        assert len(graph.query(hub, "descendants")) == 31


WRITER = """
import sys
import lineage
graph = lineage.open(sys.argv[1])
for n in range(1, 31):
    made = lineage.artifact("D", f"d/{n}")
    graph.record([made], [(lineage.action("Hub", "hub"), made, "Produced")], kind="T")
    print(n, flush=True)
"""


class TestSnapshot:
    @pytest.fixture
    def kept(self, tmp_path: Path) -> Path:
        """A lineage file with a snapshot beside it."""
        path = tmp_path / "lineage.db"
        with lineage.open(path) as graph:
            step = action("Step", "s")
            for n in range(5):
                graph.record([step], [(step, artifact("D", f"d/{n}"), "Produced")], kind="T")
            graph.mirroring.load()
        assert (tmp_path / "lineage.db.mirror").exists()
        return path

    def load(self, path: Path) -> Mirror | None:
        with lineage.open(path) as graph:
            return Mirror.load(path.with_name("lineage.db.mirror"), hash_at(graph.store))

    def test_the_next_process_begins_with_it(self, kept: Path) -> None:
        mirror = self.load(kept)
        assert mirror is not None
        assert mirror.sequence == 5
        with lineage.open(kept) as graph:
            graph.record([], [(action("Step", "s"), artifact("D", "new"), "Produced")], kind="T")
            graph.mirroring.load()
            result = graph.query(action("Step", "s"), "descendants")
            assert [len(result), len(result.associations)] == [7, 6]

    @pytest.mark.parametrize(
        "damage",
        [
            lambda data: data[: len(data) // 2],
            lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
            lambda data: b"another file",
            lambda data: b"",
            lambda data: data.replace(b'"sequence": 5', b'"sequence": 4'),
            lambda data: data.replace(b"Produced", b"Invented"),
        ],
    )
    def test_a_damaged_or_foreign_one_is_left_out(
        self, kept: Path, damage: Callable[[bytes], bytes]
    ) -> None:
        snapshot = kept.with_name("lineage.db.mirror")
        snapshot.write_bytes(damage(snapshot.read_bytes()))
        assert self.load(kept) is None
        with lineage.open(kept) as graph:
            graph.mirroring.load()
            assert len(graph.query(action("Step", "s"), "descendants")) == 6

    def test_one_of_another_log_is_left_out(self, kept: Path, tmp_path: Path) -> None:
        other = tmp_path / "other" / "lineage.db"
        with lineage.open(other) as graph:
            for n in range(9):
                graph.record([action("Step", str(n))], kind="T")
        kept.with_name("lineage.db.mirror").rename(other.with_name("lineage.db.mirror"))
        assert self.load(other) is None

    def test_a_place_that_cannot_be_written_costs_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Mirror, "save", full)
        with lineage.open(tmp_path / "lineage.db") as graph:
            graph.record([action("Step", "s")], kind="T")
            assert graph.mirroring.load() is not None


def test_a_store_that_fails_while_it_is_read_answers_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("away")

    graph = Graph(MemoryStore())
    graph.record([action("Step", "s")], kind="T")
    monkeypatch.setattr("lineage.mirror._OFTEN", 1)
    monkeypatch.setattr(Mirror, "of", away)
    graph.query(action("Step", "s"))
    graph.close()


class TestForms:
    def test_uids_pages_and_tables_without_building_entities(
        self, open_graph: Callable[[], Graph]
    ) -> None:
        graph = open_graph()
        hub = action("Hub", "hub", state="Done", properties={"n": 1})
        made = [artifact("D", f"d/{n}", content_hash=str(n)) for n in range(7)]
        graph.record([hub], [(hub, one, "Produced") for one in made], kind="T")
        result = graph.query(hub, "descendants")
        pages = list(result.pages(3))
        assert [len(page) for page in pages] == [3, 3, 2]
        assert tuple(one for page in pages for one in page) == result.entities
        assert result.uids == tuple(one.uid for one in result.entities)
        table = result.to_arrow()
        assert table["uid"].to_pylist() == list(result.uids)
        assert table["properties"].to_pylist()[0] == '{"n":1}'
        assert table["created"].to_pylist() == [one.created for one in result.entities]
        assert table["depth"].to_pylist() == [0, *[1] * 7]
        frame = result.to_pandas()
        assert list(frame["name"]) == [one.name for one in result.entities]
        assert result.associations_to_arrow().num_rows == 7
        with pytest.raises(lineage.InvalidQuery, match="size: expected an int of at least 1"):
            list(result.pages(0))
