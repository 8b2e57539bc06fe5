from itertools import combinations, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from lineage.layout import Layout, Sizes, layered

SIZES = Sizes(
    width=100, height=20, layer_gap=50, column_gap=10, node_gap=6, line_gap=4, most_rows=5
)


def check(count: int, edges: list[tuple[int, int]], layout: Layout) -> None:
    """What holds of every layout."""
    for (x, y), (u, v) in combinations(layout.places, 2):
        apart = abs(x - u) >= SIZES.width - 0.01 or abs(y - v) >= SIZES.height - 0.01
        assert apart, "no two nodes overlap"
    for x, y in layout.places:
        assert -0.01 <= x <= layout.width - SIZES.width + 0.01
        assert -0.01 <= y <= layout.height - SIZES.height + 0.01
    for (source, destination), route in zip(edges, layout.routes, strict=True):
        for node, (x, y) in ((source, route[0]), (destination, route[-1])):
            left, top = layout.places[node]
            assert abs(y - top - SIZES.height / 2) < 0.01
            assert min(abs(x - left), abs(x - left - SIZES.width)) < 0.01
        ways = {b[0] > a[0] for a, b in pairwise(route)}
        assert len(ways) == 1, "a route never turns back"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_graph(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 14))
    ends = st.integers(0, max(count - 1, 0))
    pairs = data.draw(st.lists(st.tuples(ends, ends), max_size=30 if count else 0))
    edges = [(a, b) for a, b in pairs if a != b]
    check(count, edges, layered(count, edges, SIZES))


def test_arrows_of_an_acyclic_graph_run_right() -> None:
    edges = [(0, 1), (1, 2), (0, 2), (3, 2), (2, 4), (0, 4)]
    layout = layered(5, edges, SIZES)
    for source, destination in edges:
        assert layout.places[source][0] + SIZES.width < layout.places[destination][0]


def test_a_chain_is_a_straight_line() -> None:
    layout = layered(6, [(n, n + 1) for n in range(5)], SIZES)
    assert {y for _, y in layout.places} == {0.0}
    assert [x for x, _ in layout.places] == [150.0 * n for n in range(6)]


def test_a_chain_runs_level_behind_a_fan() -> None:
    layout = layered(7, [(0, 2), (1, 2), (2, 3), (2, 4), (3, 5), (5, 6)], SIZES)
    heights = [y for _, y in layout.places]
    assert heights[3] == heights[5] == heights[6]


def test_what_can_be_drawn_without_crossings_is() -> None:
    """Two separate fans, given in an order that crosses them."""
    edges = [(0, 2), (0, 4), (0, 6), (1, 3), (1, 5), (1, 7), (2, 8), (3, 8)]
    layout = layered(9, edges, SIZES)
    heights = {node: y for node, (_, y) in enumerate(layout.places)}
    upper = [heights[node] for node in (2, 4, 6)]
    lower = [heights[node] for node in (3, 5, 7)]
    assert max(upper) < min(lower) or max(lower) < min(upper)


def test_a_source_stands_beside_what_needs_it() -> None:
    layout = layered(5, [(0, 1), (1, 2), (2, 3), (4, 3)], SIZES)
    assert layout.places[4][0] == layout.places[2][0]


def test_a_tall_layer_takes_several_columns() -> None:
    edges = [(0, n) for n in range(1, 16)]
    layout = layered(16, edges, SIZES)
    check(16, edges, layout)
    assert len({x for x, _ in layout.places[1:]}) == 3


def test_a_cycle_is_drawn() -> None:
    edges = [(0, 1), (1, 2), (2, 0)]
    layout = layered(3, edges, SIZES)
    check(3, edges, layout)
    assert len({x for x, _ in layout.places}) == 3


def test_separate_parts_do_not_mix() -> None:
    edges = [(0, 1), (2, 3)]
    layout = layered(6, edges, SIZES)
    check(6, edges, layout)
