"""Circles of causes: what would make something its own origin."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence

from lineage.association import AssociationType
from lineage.change import Link
from lineage.errors import InvalidAssociation
from lineage.store import View

_CAUSES = frozenset(
    {
        AssociationType.CONTRIBUTED_TO.value,
        AssociationType.PRODUCED.value,
        AssociationType.DERIVED_FROM.value,
    }
)


def refuse_circles(links: Sequence[Link], before: Container[str], view: View) -> None:
    """Refuse associations by which something would come from itself.

    ContributedTo, Produced and DerivedFrom say what caused what; AssociatedWith and
    SameAs do not, and may run in circles.

    Args:
        links: to be added.
        before: the uids that are there already.
        view: the graph without them.

    Raises:
        InvalidAssociation: one of them closes a circle; the text names it.

    Cost: where what is there comes to stand behind something else that is there, a walk
    from both, which ends with the smaller side; else none.
    """
    causes = [link for link in links if link[2] in _CAUSES]
    follows: dict[str, set[str]] = {}
    for source, destination, _ in causes:
        follows.setdefault(source, set()).add(destination)
    # A circle has two ends at least, each of them both a source and a destination.
    destinations = {link[1] for link in causes}
    if len(destinations & follows.keys()) < 2 and not any(uid in before for uid in destinations):
        return
    # What leads from a link into the graph, and through the graph back to a link.
    exits = {source for source in follows if source in before}
    for entry in filter(before.__contains__, destinations) if exits else ():
        others = exits - {entry}
        if others and _reaches(view, entry, others):
            found = {other for other in others if _reaches(view, entry, {other})}
            follows.setdefault(entry, set()).update(found)
    rest = _on_circles(follows)
    for source, destination, link in causes:
        if source in rest and destination in rest:
            raise InvalidAssociation(
                f"association {source!r} {link} {destination!r}: closes a circle, since "
                f"{source!r} comes from {destination!r} already; nothing is its own origin "
                f"(a new version of something has a content_hash of its own)"
            )


def _reaches(view: View, start: str, ends: Collection[str]) -> bool:
    """Whether causes in the graph lead from one to any of the others."""
    seen = {False: _nodes(view, [start]), True: _nodes(view, ends)}
    frontier = {False: set(seen[False]), True: set(seen[True])}
    while frontier[False] and frontier[True] and not seen[False] & seen[True]:
        upstream = len(frontier[True]) < len(frontier[False])
        reached = {
            edge[0] if upstream else edge[1]
            for edge in view.neighbours(sorted(frontier[upstream]), upstream=upstream)
            if edge[2] in _CAUSES
        }
        frontier[upstream] = reached - seen[upstream]
        seen[upstream] |= reached
    return bool(seen[False] & seen[True])


def _nodes(view: View, uids: Collection[str]) -> set[int]:
    return {node for uid in uids if (node := view.node(uid)) is not None}


def _on_circles(follows: Mapping[str, Collection[str]]) -> set[str]:
    """What is left when everything that nothing leads to is taken away, again and again."""
    arriving = dict.fromkeys(follows, 0)
    for targets in follows.values():
        for target in targets:
            arriving[target] = arriving.get(target, 0) + 1
    free = [node for node, count in arriving.items() if not count]
    left = set(arriving)
    while free:
        node = free.pop()
        left.discard(node)
        for target in follows.get(node, ()):
            arriving[target] -= 1
            if not arriving[target]:
                free.append(target)
    return left
