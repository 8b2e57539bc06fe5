"""A layered left-to-right layout of a directed graph.

After Sugiyama, Tagawa and Toda (1981): break cycles, put each node on a layer, order the
layers to avoid crossings, then choose heights. A long edge passes the layers between on
points of its own, which edges from the same source share.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias, final

Point: TypeAlias = tuple[float, float]

_ORDER_SWEEPS = 24
_HEIGHT_SWEEPS = 16
# A passing line resists being moved more than a node does, and so stays straight.
_LINE_WEIGHT = 6.0
_MOST_COLUMNS = 4


@final
@dataclass(frozen=True)
class Sizes:
    """Measures of a layout, in pixels.

    Args:
        width: of a node.
        height: of a node.
        layer_gap: between two layers.
        column_gap: between two columns of one layer.
        node_gap: between two nodes of a column.
        line_gap: room beside a line that passes a layer.
        most_rows: a layer with more nodes than this takes several columns.
    """

    width: float
    height: float
    layer_gap: float
    column_gap: float
    node_gap: float
    line_gap: float
    most_rows: int


@final
@dataclass(frozen=True)
class Layout:
    """Where everything goes.

    Args:
        places: upper left corner of each node.
        routes: for each edge the points it passes, from the edge of its source to that of
            its destination; it runs level at every point.
        width: of the whole.
        height: of the whole.
    """

    places: list[Point]
    routes: list[list[Point]]
    width: float
    height: float


def layered(count: int, edges: Sequence[tuple[int, int]], sizes: Sizes) -> Layout:
    """Lay out nodes 0 to `count` - 1 and the edges between them; cycles are fine.

    Parts that nothing connects stand below each other, the largest first, and single
    nodes in rows under them.

    Args:
        count: number of nodes.
        edges: (source, destination); no node is connected with itself.
        sizes: the measures.

    Cost: some 20 ms for a hundred nodes, a few seconds for some thousands.
    """
    places: list[Point] = [(0.0, 0.0)] * count
    routes: list[list[Point]] = [[] for _ in edges]
    parts, single = _parts(count, edges)
    top = 0.0
    for nodes, inside in parts:
        number = {node: place for place, node in enumerate(nodes)}
        part = _lay_out_part(
            len(nodes), [(number[edges[e][0]], number[edges[e][1]]) for e in inside], sizes
        )
        for node, (x, y) in zip(nodes, part.places, strict=True):
            places[node] = (x, y + top)
        for edge, route in zip(inside, part.routes, strict=True):
            routes[edge] = [(x, y + top) for x, y in route]
        top += part.height + 3 * sizes.node_gap
    widest = max((x + sizes.width for x, _ in places), default=0.0)
    columns = max(4, int(widest // (sizes.width + sizes.node_gap)))
    for place, node in enumerate(single):
        row, column = divmod(place, columns)
        places[node] = (
            column * (sizes.width + sizes.node_gap),
            top + row * (sizes.height + sizes.node_gap),
        )
    width = max((x + sizes.width for x, _ in places), default=0.0)
    height = max((y + sizes.height for _, y in places), default=0.0)
    return Layout(places, routes, width, height)


def _parts(
    count: int, edges: Sequence[tuple[int, int]]
) -> tuple[list[tuple[list[int], list[int]]], list[int]]:
    """The connected parts as (nodes, edges), largest first, and the nodes without edges."""
    touching: list[list[int]] = [[] for _ in range(count)]
    for edge, ends in enumerate(edges):
        for node in ends:
            touching[node].append(edge)
    seen: set[int] = set()
    parts = []
    for first in range(count):
        if first in seen or not touching[first]:
            continue
        seen.add(first)
        nodes, inside = [first], set()
        for node in nodes:  # grows while it is walked
            for edge in touching[node]:
                inside.add(edge)
                for end in edges[edge]:
                    if end not in seen:
                        seen.add(end)
                        nodes.append(end)
        parts.append((sorted(nodes), sorted(inside)))
    parts.sort(key=lambda part: -len(part[0]))
    return parts, [node for node in range(count) if not touching[node]]


def _lay_out_part(count: int, edges: Sequence[tuple[int, int]], sizes: Sizes) -> Layout:
    forward = _without_cycles(count, edges)
    layer_of = _layers(count, forward)
    graph = _Layered(count, layer_of)
    chains = [graph.connect(source, destination) for source, destination in forward]
    graph.order()
    heights = graph.heights(sizes)
    places: list[Point] = [(0.0, 0.0)] * count
    spans: list[Point] = []
    left = 0.0
    for layer in graph.layers:
        nodes = [point for point in layer if point < count]
        columns = _columns(len(nodes), sizes)
        for place, node in enumerate(nodes):
            x = left + place % columns * (sizes.width + sizes.column_gap)
            places[node] = (x, heights[node] - sizes.height / 2)
        right = left + columns * sizes.width + (columns - 1) * sizes.column_gap
        spans.append((left, right))
        left = right + sizes.layer_gap
    top = min(heights) - sizes.height / 2
    routes = []
    for edge, ahead, chain in zip(edges, forward, chains, strict=True):
        source, destination = ahead
        route = [(places[source][0] + sizes.width, heights[source] - top)]
        for point in chain:
            route += [(x, heights[point] - top) for x in spans[graph.layer_of[point]]]
        route.append((places[destination][0], heights[destination] - top))
        routes.append(route if edge == ahead else route[::-1])
    return Layout(
        [(x, y - top) for x, y in places],
        routes,
        left - sizes.layer_gap,
        max(heights) + sizes.height / 2 - top,
    )


def _without_cycles(count: int, edges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The edges, with those turned round that lead back on a depth-first walk."""
    leaving: list[list[int]] = [[] for _ in range(count)]
    entered = [0] * count
    for edge, (source, destination) in enumerate(edges):
        leaving[source].append(edge)
        entered[destination] += 1
    forward = list(edges)
    new, open_, done = 0, 1, 2
    state = [new] * count
    # Sources first, so that only true cycles are turned round.
    for first in sorted(range(count), key=lambda node: entered[node] > 0):
        if state[first] != new:
            continue
        state[first] = open_
        stack = [(first, iter(leaving[first]))]
        while stack:
            node, rest = stack[-1]
            for edge in rest:
                destination = edges[edge][1]
                if state[destination] == open_:
                    forward[edge] = (destination, node)
                elif state[destination] == new:
                    state[destination] = open_
                    stack.append((destination, iter(leaving[destination])))
                    break
            else:
                state[node] = done
                stack.pop()
    return forward


def _layers(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """A layer for each node: as far left as its sources allow, then near to what needs it."""
    after: list[list[int]] = [[] for _ in range(count)]
    before = [0] * count
    for source, destination in edges:
        after[source].append(destination)
        before[destination] += 1
    waiting = list(before)
    ready = deque(node for node in range(count) if not waiting[node])
    order, layer = [], [0] * count
    while ready:
        node = ready.popleft()
        order.append(node)
        for destination in after[node]:
            layer[destination] = max(layer[destination], layer[node] + 1)
            waiting[destination] -= 1
            if not waiting[destination]:
                ready.append(destination)
    for node in reversed(order):
        if len(after[node]) > before[node]:
            layer[node] = min(layer[destination] for destination in after[node]) - 1
    return layer


def _columns(nodes: int, sizes: Sizes) -> int:
    return max(1, min(_MOST_COLUMNS, -(-nodes // sizes.most_rows)))


@final
class _Layered:
    """Nodes and the points of long edges, on layers; only neighbouring layers are joined."""

    def __init__(self, count: int, layer_of: Sequence[int]) -> None:
        self.count = count
        self.layer_of = list(layer_of)
        self.layers: list[list[int]] = [[] for _ in range(max(layer_of) + 1)]
        self._left: list[dict[int, None]] = [{} for _ in range(count)]
        self._right: list[dict[int, None]] = [{} for _ in range(count)]
        self._points: dict[tuple[int, int], int] = {}
        for node, layer in enumerate(layer_of):
            self.layers[layer].append(node)

    def connect(self, source: int, destination: int) -> list[int]:
        """Join two nodes; returns the points on the layers between, shared by source."""
        chain = []
        last = source
        for layer in range(self.layer_of[source] + 1, self.layer_of[destination]):
            point = self._points.get((source, layer))
            if point is None:
                point = self._points[source, layer] = len(self.layer_of)
                self.layer_of.append(layer)
                self.layers[layer].append(point)
                self._left.append({})
                self._right.append({})
            self._join(last, point)
            chain.append(point)
            last = point
        self._join(last, destination)
        return chain

    def _join(self, left: int, right: int) -> None:
        self._right[left][right] = None
        self._left[right][left] = None

    def order(self) -> None:
        """Order each layer by the mean place of its neighbours, for few crossings.

        The barycenter heuristic, there and back, then swaps of neighbours while any helps.
        """
        self._order_by_walk()
        best, fewest = [list(layer) for layer in self.layers], self._crossings()
        for sweep in range(_ORDER_SWEEPS):
            if not fewest:
                break
            rightwards = sweep % 2 == 0
            others = self._left if rightwards else self._right
            for layer in self.layers if rightwards else reversed(self.layers):
                self._sort(layer, others)
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = [list(layer) for layer in self.layers], crossings
        self.layers = best
        if fewest and len(self.layer_of) <= 600:
            self._swap_neighbours()

    def _order_by_walk(self) -> None:
        """Start with what belongs together side by side: the order of a depth-first walk."""
        seen: set[int] = set()
        layers: list[list[int]] = [[] for _ in self.layers]
        for first in (point for layer in self.layers for point in layer):
            stack = [first]
            while stack:
                point = stack.pop()
                if point in seen:
                    continue
                seen.add(point)
                layers[self.layer_of[point]].append(point)
                stack += [*reversed(self._right[point]), *self._left[point]]
        self.layers = layers

    def _sort(self, layer: list[int], others: Sequence[dict[int, None]]) -> None:
        places = self._places()
        means = {
            point: sum(places[other] for other in others[point]) / len(others[point])
            for point in layer
            if others[point]
        }
        # What has no neighbour there keeps its place.
        layer.sort(key=lambda point: means.get(point, places[point]))

    def _places(self) -> dict[int, int]:
        return {point: place for layer in self.layers for place, point in enumerate(layer)}

    def _crossings(self) -> int:
        places = self._places()
        total = 0
        for layer, following in pairwise(self.layers):
            ends = [end for point in layer for end in sorted(places[o] for o in self._right[point])]
            total += _inversions(ends, len(following))
        return total

    def _swap_neighbours(self) -> None:
        places = self._places()
        for _ in range(10):
            improved = False
            for layer in self.layers:
                for place in range(len(layer) - 1):
                    upper, lower = layer[place], layer[place + 1]
                    gain = sum(
                        self._crossed(places, others[upper], others[lower])
                        - self._crossed(places, others[lower], others[upper])
                        for others in (self._left, self._right)
                    )
                    if gain > 0:
                        layer[place], layer[place + 1] = lower, upper
                        places[upper], places[lower] = place + 1, place
                        improved = True
            if not improved:
                return

    @staticmethod
    def _crossed(places: dict[int, int], upper: dict[int, None], lower: dict[int, None]) -> int:
        return sum(places[u] > places[w] for u in upper for w in lower)

    def heights(self, sizes: Sizes) -> list[float]:
        """The height of the middle of each point: near its neighbours, in order, apart."""
        height = [0.0] * len(self.layer_of)
        gaps = [self._gaps(layer, sizes) for layer in self.layers]
        for layer, apart in zip(self.layers, gaps, strict=True):
            y = -sum(apart) / 2
            for point, gap in zip(layer, [*apart, 0.0], strict=True):
                height[point] = y
                y += gap

        def settle(number: int, wish: Callable[[int], float | None]) -> None:
            points = self.layers[number]
            wishes = [height[p] if (w := wish(p)) is None else w for p in points]
            weights = [_LINE_WEIGHT if point >= self.count else 1.0 for point in points]
            for point, y in zip(points, _apart(wishes, gaps[number], weights), strict=True):
                height[point] = y

        def mean(*sides: Sequence[dict[int, None]]) -> Callable[[int], float | None]:
            def wish(point: int) -> float | None:
                near = [height[other] for side in sides for other in side[point]]
                return sum(near) / len(near) if near else None

            return wish

        across = range(len(self.layers))
        for _ in range(_HEIGHT_SWEEPS):
            for number in across:
                settle(number, mean(self._left))
            for number in reversed(across):
                settle(number, mean(self._right))
        # Last rightwards, so that a chain runs level behind what it starts from.
        for number in across:
            settle(number, mean(self._left))
        return height

    def _gaps(self, layer: list[int], sizes: Sizes) -> list[float]:
        """How far apart the middles of neighbours in a layer are at least."""
        columns = _columns(sum(point < self.count for point in layer), sizes)
        gaps = []
        for upper, lower in pairwise(layer):
            lines = (upper >= self.count) + (lower >= self.count)
            if lines == 0:
                # In several columns the nodes stand like bricks: lines pass in the joints.
                gaps.append((sizes.height + sizes.node_gap) / columns)
            elif lines == 1:
                gaps.append(sizes.height / 2 + sizes.line_gap)
            else:
                gaps.append(sizes.line_gap)
        return gaps


def _inversions(values: Sequence[int], size: int) -> int:
    """How many pairs are out of order, with a Fenwick tree."""
    tree = [0] * (size + 1)
    total = 0
    for seen, value in enumerate(values):
        place, not_above = value + 1, 0
        while place:
            not_above += tree[place]
            place &= place - 1
        total += seen - not_above
        place = value + 1
        while place <= size:
            tree[place] += 1
            place += place & -place
    return total


def _apart(wishes: Sequence[float], gaps: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The heights nearest to the wishes, by least squares, that keep order and gaps.

    With the gaps taken out this is isotonic regression, solved by pooling adjacent violators.
    """
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    pools: list[list[float]] = []  # weighted sum, weight, members
    for wish, offset, weight in zip(wishes, offsets, weights, strict=True):
        pools.append([(wish - offset) * weight, weight, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            total, heavy, members = pools.pop()
            pools[-1][0] += total
            pools[-1][1] += heavy
            pools[-1][2] += members
    level = [total / weight for total, weight, members in pools for _ in range(int(members))]
    return [base + offset for base, offset in zip(level, offsets, strict=True)]
