"""Random cut trees as flat arrays: grown level by level, asked for many points at once.

Nodes of all trees lie in one row of arrays, those of a tree side by side, its root first. The two
children of a node are neighbours, so that one number names both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, final, get_args

import numpy as np
import numpy.typing as npt

__all__ = ["NODE", "Score", "Trees", "grow", "joined"]

Score = Literal["expected", "displacement", "codisp"]
Floats = npt.NDArray[Any]
Places = npt.NDArray[np.intp]

NODE: Final = np.dtype(
    [("dimension", "<i4"), ("cut", "<f4"), ("child", "<i4"), ("point", "<i4"), ("mass", "<i4")]
)
"""A node as it is kept: an inner one has a cut and its left child, a leaf has a point."""

# How many numbers of points lie in one piece of work: growing may fill memory, asking the cache.
_GROW_NUMBERS: Final = 1 << 21
_ASK_NUMBERS: Final = 1 << 17


@final
@dataclass(frozen=True)
class _Step:
    """One level on the way from the leaves to the roots, for the pairs that still change.

    Attributes:
        pairs: the numbers of the pairs of tree and point.
        nodes: where each is.
        excess: (pairs, d) how far the point lies above the node's box; negative: below it.
        distance: the sum of its sizes, > 0.
        chance: that a random cut of the box, stretched to the point, parts the point from it.
    """

    pairs: Places
    nodes: Places
    excess: Floats
    distance: Floats
    chance: Floats


@final
class Trees:
    """Random cut trees over points (Guha, Mishra, Roy and Schrijvers 2016, section 2).

    Args:
        points: (m, d) float32; no two leaves of a tree have equal ones.
        nodes: of all trees, as `NODE`; a node's children lie behind it.
        roots: where each tree begins.
    """

    def __init__(self, points: Floats, nodes: npt.NDArray[Any], roots: npt.NDArray[Any]) -> None:
        self.points = points
        self.nodes = nodes
        self.roots: Places = roots.astype(np.intp)
        leaf = nodes["point"] >= 0
        leaves = np.flatnonzero(leaf)
        self._dimension = np.where(leaf, 0, nodes["dimension"]).astype(np.intp)
        # A leaf sends every point on to itself, so that all can take the same number of steps.
        self._cut = np.where(leaf, np.float32(np.inf), nodes["cut"])
        self._child = np.where(leaf, np.arange(len(nodes)), nodes["child"]).astype(np.intp)
        self._mass = nodes["mass"].astype(np.float64)
        self._parent = np.full(len(nodes), -1, np.intp)
        self._levels = self._walk(leaf)
        self._depth = np.zeros(len(nodes))
        self._lower = np.empty((len(nodes), points.shape[1]), np.float32)
        self._upper = np.empty_like(self._lower)
        self._lower[leaves] = self._upper[leaves] = points[nodes["point"][leaves]]
        for depth, level in reversed(list(enumerate(self._levels))):
            self._depth[level] = depth
            inner = level[~leaf[level]]
            left = self._child[inner]
            self._lower[inner] = np.minimum(self._lower[left], self._lower[left + 1])
            self._upper[inner] = np.maximum(self._upper[left], self._upper[left + 1])
        self._extent = (self._upper - self._lower).sum(axis=1, dtype=np.float64)

    def __len__(self) -> int:
        return len(self.roots)

    @property
    def masses(self) -> npt.NDArray[np.int32]:
        """How many points each tree holds, copies counted."""
        masses: npt.NDArray[np.int32] = self.nodes["mass"][self.roots]
        return masses

    def tree(self, number: int) -> npt.NDArray[Any]:
        """Return the nodes of one tree, its children counted from its root."""
        ends = [*self.roots[1:], len(self.nodes)]
        nodes = self.nodes[self.roots[number] : ends[number]].copy()
        nodes["child"][nodes["point"] < 0] -= self.roots[number]
        return nodes

    def scores(self, points: Floats, score: Score = "expected") -> npt.NDArray[np.float64]:
        """Return a score of n points, the mean over the trees; higher is more unusual.

        Each is what is expected when the point is inserted into a tree at random: it is parted
        from a node's box with the chance that a random cut of the stretched box lies between.

        - `expected`: 1 ÷ depth, damped where the point equals a leaf's, times the logarithm of the
          tree's size: ordinary points score around 1 or below.
        - `displacement`: the share of the tree that its insertion pushes down a level.
        - `codisp`: the largest ratio of what is beside to what is below, over the nodes from the
          point up (section 3): an outlier is not hidden by another beside it.

        Args:
            points: (n, d) float32.
            score: which.
        """
        out = np.zeros(len(points))
        unseen, seen, factor = self._values(score)
        for rows, trees in self._pieces(points):
            asked = points[rows]
            leaves = self._descend(asked, trees)
            value = seen[leaves]
            for step in self._climb(asked, leaves):
                old = value[step.pairs]
                value[step.pairs] = old + step.chance * (unseen[step.nodes] - old)
            out[rows] += np.einsum("t,tn->n", factor[trees], value.reshape(-1, len(asked)))
        return out / len(self)

    def attribution(self, points: Floats) -> tuple[Floats, Floats]:
        """Take the expected score of n points apart, by dimension and side.

        What a point scores that equals a leaf's is spread evenly.

        Returns:
            (n, d) for lying below the others and (n, d) for lying above; together the score.
        """
        width = points.shape[1]
        out = np.zeros((2, *points.shape))
        unseen, seen, factor = self._values("expected")
        for rows, trees in self._pieces(points):
            asked = points[rows]
            leaves = self._descend(asked, trees)
            parts = np.repeat(seen[leaves] / (2 * width), 2 * width).reshape(-1, 2, width)
            for step in self._climb(asked, leaves):
                share = step.chance * unseen[step.nodes] / step.distance
                sides = np.stack([np.maximum(-step.excess, 0), np.maximum(step.excess, 0)], axis=1)
                parts[step.pairs] *= (1 - step.chance)[:, None, None]
                parts[step.pairs] += sides * share[:, None, None]
            shaped = parts.reshape(-1, len(asked), 2, width)
            out[:, rows] += np.einsum("t,tnsd->snd", factor[trees], shaped)
        below, above = out / len(self)
        return below, above

    def _values(self, score: Score) -> tuple[Floats, Floats, Floats]:
        """Return what a score consists of.

        That is its value at each node for a point parted there, at each leaf for a point equal to
        the leaf's, and what each tree's value is multiplied with.
        """
        if score not in get_args(Score):
            expected = ", ".join(get_args(Score))
            raise ValueError(f"score: expected one of {expected}, got {score!r}")
        whole = self._mass[self.roots]
        if score == "displacement":
            return self._mass, 1 / (1 + self._mass), 1 / (1 + whole)
        if score == "codisp":
            beside = self._beside()
            return np.maximum(self._mass, beside), beside, np.ones(len(self))
        sizes = np.diff([*self.roots, len(self.nodes)])
        damp = 1 - self._mass / (2 * np.repeat(whole, sizes))
        # Only a tree of one node has a leaf at depth 0, and its mass is at least 1.
        seen = damp / (self._depth + np.log2(1 + self._mass))
        return 1 / (self._depth + 1), seen, np.log2(1 + whole)

    def _beside(self) -> Floats:
        """Return the largest ratio of sibling to subtree from a node up, with one point more in."""
        beside = np.zeros(len(self.nodes))
        for level in self._levels[:-1]:
            inner = level[self._child[level] != level]
            left = self._child[inner]
            for child, sibling in ((left, left + 1), (left + 1, left)):
                ratio = self._mass[sibling] / (self._mass[child] + 1)
                beside[child] = np.maximum(beside[inner], ratio)
        return beside

    def _pieces(self, points: Floats) -> Iterator[tuple[slice, slice]]:
        """Cut the work to fit the cache: many points and one tree, or few points and many."""
        pairs = max(1, _ASK_NUMBERS // points.shape[1])
        for start in range(0, len(points), pairs):
            rows = slice(start, min(start + pairs, len(points)))
            step = max(1, pairs // (rows.stop - start))
            for first in range(0, len(self), step):
                yield rows, slice(first, min(first + step, len(self)))

    def _descend(self, points: Floats, trees: slice) -> Places:
        """Return the leaf that each point falls into, point by point within tree by tree."""
        n, width = points.shape
        roots = self.roots[trees]
        flat = points.ravel()
        nodes = np.repeat(roots, n)
        places = np.tile(np.arange(n) * width, len(roots))
        pairs: Places | None = None
        active, left = nodes, self._child.take(nodes)
        leaves = nodes
        while True:
            numbers = flat.take(places + self._dimension.take(active))
            active = left + (numbers > self._cut.take(active))
            left = self._child.take(active)
            going = np.flatnonzero(left != active)
            if pairs is None:
                leaves = active
            else:
                leaves[pairs] = active
            if not len(going):
                return leaves
            if len(going) < 0.7 * len(active):
                pairs = going if pairs is None else pairs[going]
                active, left, places = active[going], left[going], places[going]

    def _climb(self, points: Floats, leaves: Places) -> Iterator[_Step]:
        """Go from the leaves up to where the points lie within the boxes.

        A box holds those below it: once a point is inside, no node above can part it.
        """
        pairs, nodes = np.arange(len(leaves)), leaves
        rows = np.tile(np.arange(len(points)), len(leaves) // len(points))
        while len(pairs):
            excess = points.take(rows, axis=0)
            inside = self._lower.take(nodes, axis=0)
            np.clip(excess, inside, self._upper.take(nodes, axis=0), out=inside)
            np.subtract(excess, inside, out=excess)
            # Not a product with ones: BLAS reads past short rows and may flag what lies there.
            distance = np.einsum("ij->i", np.abs(excess, out=inside)).astype(np.float64)
            out = np.flatnonzero(distance)
            if len(out) < len(pairs):
                pairs, nodes, rows = pairs[out], nodes[out], rows[out]
                distance, excess = distance[out], excess[out]
            chance = distance / (self._extent.take(nodes) + distance)
            yield _Step(pairs, nodes, excess, distance, chance)
            nodes = self._parent.take(nodes)
            up = np.flatnonzero(nodes >= 0)
            if len(up) < len(pairs):
                pairs, nodes, rows = pairs[up], nodes[up], rows[up]

    def _walk(self, leaf: npt.NDArray[np.bool_]) -> list[Places]:
        """Set the parents and return the nodes level by level."""
        levels = [self.roots]
        while len(inner := levels[-1][~leaf[levels[-1]]]):
            left = self._child[inner]
            self._parent[left] = self._parent[left + 1] = inner
            levels.append(np.concatenate([left, left + 1]))
        return levels


def grow(
    points: Floats,
    samples: npt.NDArray[Any],
    random: np.random.Generator,
    *,
    between: Callable[[int], None] = lambda done: None,
) -> list[npt.NDArray[Any]]:
    """Grow a tree over each sample.

    A node is cut in a dimension with a chance in proportion to its box's side there, uniformly
    along the side, until only equal points are left.

    Args:
        points: (m, d) float32, at most 1e30 in size.
        samples: (trees, size) rows of `points`; -1 where a sample is smaller, but none is empty.
        random: where the cuts come from.
        between: called often with how many trees are done; it may raise.

    Returns:
        the nodes of each tree, children counted from its root; see `joined`.
    """
    group = max(1, _GROW_NUMBERS // (samples.shape[1] * points.shape[1]))
    parts: list[npt.NDArray[Any]] = []
    for start in range(0, len(samples), group):
        parts += _grow(points, samples[start : start + group], random, partial(between, start))
    between(len(parts))
    return parts


def joined(points: Floats, parts: list[npt.NDArray[Any]]) -> Trees:
    """Put trees side by side, each with its children counted from its root."""
    roots = np.concatenate([[0], np.cumsum([len(part) for part in parts])])[:-1]
    nodes = np.concatenate(parts)
    offsets = np.repeat(roots, [len(part) for part in parts])
    nodes["child"] += np.where(nodes["point"] < 0, offsets, 0).astype(np.int32)
    return Trees(points, nodes, roots)


def _grow(
    points: Floats,
    samples: npt.NDArray[Any],
    random: np.random.Generator,
    between: Callable[[], None],
) -> list[npt.NDArray[Any]]:
    count = len(samples)
    levels: list[npt.NDArray[Any]] = []
    owners: list[Places] = []
    order = samples[samples >= 0]
    counts: npt.NDArray[Any] = (samples >= 0).sum(axis=1)
    owner: Places = np.arange(count)
    made = 0
    while len(counts):
        between()
        starts = np.cumsum(counts) - counts
        numbers = points.take(order, axis=0)
        lower = np.minimum.reduceat(numbers, starts, axis=0)
        upper = np.maximum.reduceat(numbers, starts, axis=0)
        inner = (lower < upper).any(axis=1)
        level = np.zeros(len(counts), NODE)
        level["mass"] = counts
        level["point"] = np.where(inner, -1, order[starts])
        cuts = np.flatnonzero(inner)
        made += len(level)
        dimension, cut = _cuts(lower[cuts], upper[cuts], random)
        level["dimension"][cuts] = dimension
        level["cut"][cuts] = cut
        level["child"][cuts] = made + 2 * np.arange(len(cuts))
        levels.append(level)
        owners.append(owner)
        # The points of leaves drop out; the others go left or right within their node.
        node_of = np.repeat(np.where(inner, np.cumsum(inner) - 1, -1), counts)
        going = np.flatnonzero(node_of >= 0)
        node_of = node_of[going]
        value = numbers[going, dimension[node_of]]
        side = 2 * node_of + (value > cut[node_of])
        order = order[going][np.argsort(side, kind="stable")]
        counts = np.bincount(side, minlength=2 * len(cuts))
        owner = np.repeat(owner[cuts], 2)
    return _by_tree(np.concatenate(levels), np.concatenate(owners), count)


def _cuts(
    lower: Floats, upper: Floats, random: np.random.Generator
) -> tuple[npt.NDArray[np.intp], Floats]:
    """Draw a cut for each box: its dimension, and the largest value that goes left."""
    sides = upper - lower
    ends = np.cumsum(sides, axis=1, dtype=np.float64)
    chosen = random.random((len(sides), 2))
    along = chosen[:, 0] * ends[:, -1]
    dimension = np.minimum((ends <= along[:, None]).sum(axis=1), sides.shape[1] - 1)
    rows = np.arange(len(sides))
    # Rounding can put the draw behind the last side that is not empty.
    empty = lower[rows, dimension] == upper[rows, dimension]
    dimension[empty] = sides[empty].argmax(axis=1)
    low, high = lower[rows, dimension], upper[rows, dimension]
    cut = (low + chosen[:, 1] * sides[rows, dimension].astype(np.float64)).astype(np.float32)
    # Nor may it reach the upper end, where nothing would go right.
    return dimension, np.minimum(cut, np.nextafter(high, np.float32(-np.inf)))


def _by_tree(nodes: npt.NDArray[Any], owner: Places, count: int) -> list[npt.NDArray[Any]]:
    """Sort the nodes of some trees tree by tree, and count children from their root."""
    order = np.argsort(owner, kind="stable")
    sizes = np.bincount(owner, minlength=count)
    starts = np.cumsum(sizes) - sizes
    place = np.empty(len(nodes), np.int32)
    place[order] = np.arange(len(nodes)) - np.repeat(starts, sizes)
    inner = nodes["point"] < 0
    nodes["child"][inner] = place[nodes["child"][inner]]
    return np.split(nodes[order], starts[1:])
