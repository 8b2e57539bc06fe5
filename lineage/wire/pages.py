"""Pages of an answer: each of the same state of the graph, without walking anew for each."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias, final

from lineage.association import Association
from lineage.entity import Entity
from lineage.errors import InvalidQuery
from lineage.result import LineageResult
from lineage.v1 import lineage_pb2 as pb
from lineage.wire import convert

Ask: TypeAlias = Callable[[int | datetime | None], LineageResult]

# Between two pages an answer is kept; one that was let go is asked for again.
_MOST_KEPT = 8
_MOST_ENTITIES = 400_000


@final
@dataclass(frozen=True)
class _Whole:
    """All of an answer, in the order of its pages.

    Args:
        start: uid of where the walk began.
        entities: nearest first.
        depths: of each.
        matches: whether each matches.
        associations: in the order of the later of their ends.
        places: the place of that end, for each.
        count: how many match.
        truncated: whether a limit left any out.
    """

    start: str
    entities: Sequence[Entity]
    depths: Sequence[int]
    matches: Sequence[bool]
    associations: Sequence[Association]
    places: Sequence[int]
    count: int
    truncated: bool

    def page(self, first: int, end: int, token: str) -> pb.QueryLineageResponse:
        """The page from one place to before another."""
        begin, stop = bisect_left(self.places, first), bisect_left(self.places, end)
        return pb.QueryLineageResponse(
            entities=map(convert.entity_to_message, self.entities[first:end]),
            associations=map(convert.association_to_message, self.associations[begin:stop]),
            next_token=token,
            depths=self.depths[first:end],
            matches=self.matches[first:end],
            count=self.count,
            truncated=self.truncated,
            start=self.start,
        )


@final
class Pages:
    """Answers requests page by page; may be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int], _Whole] = OrderedDict()

    def answer(
        self, request: pb.QueryLineageRequest, ask: Ask, sequence: Callable[[datetime | None], int]
    ) -> pb.QueryLineageResponse:
        """The page that a request asks for.

        Args:
            request: of it.
            ask: gives the answer at a point in the history of the graph.
            sequence: of the last event at a time, or of all.

        Raises:
            InvalidQuery: the token is not of a page of this request.
        """
        as_of = convert.as_of_from_message(request.as_of)
        if not request.max_results and not request.next_token:
            whole = _whole(ask(as_of))
            return whole.page(0, len(whole.entities), "")
        digest = _digest(request)
        if request.next_token:
            moment, first = _read(request.next_token, digest)
        else:
            moment, first = as_of if isinstance(as_of, int) else sequence(as_of), 0
        key = (digest, moment)
        with self._lock:
            kept = self._kept.pop(key, None)
        whole = kept or _whole(ask(moment))
        if first > len(whole.entities):
            raise _strange()
        end = min(first + (request.max_results or len(whole.entities)), len(whole.entities))
        token = ""
        if end < len(whole.entities):
            token = _token(digest, moment, end)
            self._keep(key, whole)
        return whole.page(first, end, token)

    def _keep(self, key: tuple[str, int], whole: _Whole) -> None:
        with self._lock:
            self._kept[key] = whole
            while len(self._kept) > _MOST_KEPT or (
                len(self._kept) > 1
                and sum(len(kept.entities) for kept in self._kept.values()) > _MOST_ENTITIES
            ):
                self._kept.popitem(last=False)


def _whole(result: LineageResult) -> _Whole:
    depths = result.depths
    found = [(entity, True) for entity in result.entities]
    found += [(entity, False) for entity in result.path_entities]
    found.sort(key=lambda one: depths[one[0].uid])
    place = {entity.uid: number for number, (entity, _) in enumerate(found)}
    later = sorted(
        (max(place[one.source], place[one.destination]), number)
        for number, one in enumerate(result.associations)
    )
    return _Whole(
        result.start,
        [entity for entity, _ in found],
        [depths[entity.uid] for entity, _ in found],
        [matches for _, matches in found],
        [result.associations[number] for _, number in later],
        [end for end, _ in later],
        len(result),
        result.truncated,
    )


def _digest(request: pb.QueryLineageRequest) -> str:
    """What the pages of one answer have in common."""
    same = pb.QueryLineageRequest()
    same.CopyFrom(request)
    same.ClearField("next_token")
    same.ClearField("max_results")
    return hashlib.sha256(same.SerializeToString(deterministic=True)).hexdigest()[:16]


def _token(digest: str, moment: int, first: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([digest, moment, first]).encode()).decode()


def _read(token: str, digest: str) -> tuple[int, int]:
    """The sequence that the pages are as of, and the place of the first entity."""
    try:
        of, moment, first = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError, RecursionError) as error:
        raise _strange() from error
    for number in (moment, first):
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise _strange()
    if of != digest:
        raise _strange()
    return moment, first


def _strange() -> InvalidQuery:
    return InvalidQuery(
        "next_token: expected the token of the page before, with the rest of the request "
        "unchanged; start again without one"
    )
