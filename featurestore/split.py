"""Parts of a dataset for training, validation and test, between which nothing leaks.

A part is chosen by content: by times, or by a hash of values and a seed. The order of rows plays
no part, and a row that is added later changes no other row's group.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featurestore import eventtime, pointintime
from featurestore.digest import table_digest
from featurestore.errors import InvalidRequest, nearest

if TYPE_CHECKING:
    from featurestore.dataset import Dataset

__all__ = [
    "PARTS",
    "Fold",
    "folds_by_group",
    "folds_by_time",
    "split_by_group",
    "split_by_time",
    "split_stratified",
]

PARTS: Final[Mapping[str, float]] = {"train": 0.8, "test": 0.2}
_MOST: Final = 2**64


class Fold(NamedTuple):
    """One fold: what to train on, and what to measure on."""

    train: Dataset
    test: Dataset


def split_by_time(
    dataset: Dataset,
    parts: Mapping[str, float],
    *,
    cuts: Sequence[dt.datetime],
    gap: dt.timedelta,
) -> dict[str, Dataset]:
    """See Dataset.split_by_time."""
    times = _times(dataset)
    gap_us = _gap_us(gap)
    if cuts:
        names = _names(parts)
        edges = [eventtime.to_us(cut) for cut in cuts]
        if len(edges) != len(names) - 1 or sorted(set(edges)) != edges:
            raise InvalidRequest(
                f"split by time: expected {len(names) - 1} rising cuts between {', '.join(names)}, "
                f"got {[str(cut) for cut in cuts]}"
            )
    else:
        names = list(_fractions(parts))
        edges = _edges(times, list(_fractions(parts).values()))
    how = {"kind": "time", "cuts": [eventtime.format_iso(us) for us in edges], "gap_us": gap_us}
    found = {}
    for number, name in enumerate(names):
        mask = np.ones(len(times), np.bool_)
        if number:
            mask &= times >= edges[number - 1] + gap_us
        if number < len(edges):
            mask &= times < edges[number]
        found[name] = _part(dataset, mask, name, how)
    return found


def split_by_group(
    dataset: Dataset, column: str, parts: Mapping[str, float], *, seed: int
) -> dict[str, Dataset]:
    """See Dataset.split_by_group."""
    fractions = _fractions(parts)
    places, codes = _hashed(dataset, [column], seed)
    borders = np.cumsum(list(fractions.values()))[:-1]
    chosen = np.searchsorted(borders, places, side="right")[codes]
    how = {"kind": "group", "column": column, "parts": fractions, "seed": seed}
    return {
        name: _part(dataset, chosen == number, name, how) for number, name in enumerate(fractions)
    }


def split_stratified(
    dataset: Dataset,
    column: str,
    parts: Mapping[str, float],
    *,
    group: str | None,
    seed: int,
) -> dict[str, Dataset]:
    """See Dataset.split_stratified."""
    fractions = _fractions(parts)
    manifest = dataset.manifest
    unit = [group] if group is not None else [*manifest["keys"], manifest["time"]]
    places, codes = _hashed(dataset, unit, seed)
    strata = _strata(_column(dataset, column), codes, len(places))
    sizes = np.bincount(codes, minlength=len(places))
    borders = np.cumsum(list(fractions.values()))[:-1]
    chosen = np.zeros(len(places), np.int64)
    for stratum in np.unique(strata):
        units = np.flatnonzero(strata == stratum)
        units = units[np.argsort(places[units], kind="stable")]
        # A unit is where the middle of its rows falls among all rows of the stratum.
        middle = (np.cumsum(sizes[units]) - sizes[units] / 2) / sizes[units].sum()
        chosen[units] = np.searchsorted(borders, middle, side="right")
    how = {
        "kind": "stratified",
        "column": column,
        "group": group,
        "parts": fractions,
        "seed": seed,
    }
    return {
        name: _part(dataset, chosen[codes] == number, name, how)
        for number, name in enumerate(fractions)
    }


def folds_by_time(dataset: Dataset, folds: int, *, gap: dt.timedelta) -> list[Fold]:
    """See Dataset.folds_by_time."""
    _check_folds(folds)
    times = _times(dataset)
    gap_us = _gap_us(gap)
    edges = _edges(times, [1 / (folds + 1)] * (folds + 1))
    found = []
    for number, edge in enumerate(edges):
        how = {"kind": "time folds", "folds": folds, "fold": number, "gap_us": gap_us}
        test = times >= edge
        if number + 1 < len(edges):
            test &= times < edges[number + 1]
        found.append(
            Fold(
                _part(dataset, times < edge - gap_us, "train", how),
                _part(dataset, test, "test", how),
            )
        )
    return found


def folds_by_group(dataset: Dataset, column: str, folds: int, *, seed: int) -> list[Fold]:
    """See Dataset.folds_by_group."""
    _check_folds(folds)
    places, codes = _hashed(dataset, [column], seed)
    chosen = np.minimum((places * folds).astype(np.int64), folds - 1)[codes]
    found = []
    for number in range(folds):
        how = {
            "kind": "group folds",
            "column": column,
            "folds": folds,
            "fold": number,
            "seed": seed,
        }
        test = chosen == number
        found.append(Fold(_part(dataset, ~test, "train", how), _part(dataset, test, "test", how)))
    return found


def _part(
    dataset: Dataset, mask: npt.NDArray[np.bool_], name: str, how: Mapping[str, Any]
) -> Dataset:
    table = dataset.table.filter(pa.array(mask))
    body = {
        "parent": dataset.fingerprint,
        "name": name,
        "split": dict(how),
        "rows": len(table),
        "rows_digest": table_digest(table),
    }
    fingerprint = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    part = {"fingerprint": fingerprint, **body}
    return replace(dataset, table=table, manifest={**dataset.manifest, "part": part})


def _times(dataset: Dataset) -> npt.NDArray[np.int64]:
    times = pointintime.spine_times(dataset.table, dataset.manifest["time"])
    found: npt.NDArray[np.int64] = times.cast(pa.int64()).to_numpy()
    return found


def _edges(times: npt.NDArray[np.int64], fractions: Sequence[float]) -> list[int]:
    """Return the times at which the later parts begin, so that about so many rows are before."""
    if not len(times):
        return [0] * (len(fractions) - 1)
    ordered = np.sort(times)
    places = (np.cumsum(fractions)[:-1] * len(ordered)).round().astype(np.int64)
    return [int(ordered[min(place, len(ordered) - 1)]) for place in places]


def _hashed(
    dataset: Dataset, columns: Sequence[str], seed: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return of each distinct value a number in [0, 1), and of each row which value it has."""
    codes = np.zeros(len(dataset), np.int64)
    words: list[str] = [""]
    for column in columns:
        texts, which = _words(_column(dataset, column))
        both = codes * len(texts) + which
        seen, codes = np.unique(both, return_inverse=True)
        words = [f"{words[n // len(texts)]}\0{texts[n % len(texts)]}" for n in seen.tolist()]
    places = [
        int.from_bytes(hashlib.blake2b(f"{seed}{word}".encode(), digest_size=8).digest(), "big")
        for word in words
    ]
    # Divided in double, the largest would come out as 1.
    found = np.minimum(np.array(places, np.float64) / _MOST, np.nextafter(1.0, 0.0))
    return found, codes.astype(np.int64)


def _words(column: pa.ChunkedArray) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return the distinct values as texts, whatever width their type has, and each row's."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.int64())
    elif pa.types.is_nested(kind):
        raise InvalidRequest(f"split: expected a column of single values, got one of {kind}")
    elif pa.types.is_floating(kind):
        column = pc.add(column, pa.scalar(0.0, kind))  # -0.0 and 0.0 are one value
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    if isinstance(encoded, pa.ChunkedArray):  # no chunk at all
        encoded = pa.array([], column.type).dictionary_encode()
    texts = [_text(value) for value in encoded.dictionary.to_pylist()]
    which: npt.NDArray[np.int64] = encoded.indices.cast(pa.int64()).to_numpy()
    return texts or [""], which


def _text(value: Any) -> str:
    return f"{type(value).__name__}:{value!r}"


def _strata(
    column: pa.ChunkedArray, codes: npt.NDArray[np.int64], units: int
) -> npt.NDArray[np.int64]:
    """Return each unit's stratum: its most frequent value, of equally frequent ones the least."""
    texts, which = _words(column)
    rank = np.argsort(np.argsort(np.array(texts)))
    pairs, counts = np.unique(codes * len(texts) + rank[which], return_counts=True)
    found = np.zeros(units, np.int64)
    # The last one written stays: the most frequent, then the least value.
    order = np.lexsort((-(pairs % len(texts)), counts))
    found[pairs[order] // len(texts)] = pairs[order] % len(texts)
    return found


def _column(dataset: Dataset, name: str) -> pa.ChunkedArray:
    names = dataset.table.schema.names
    if name not in names:
        raise InvalidRequest(
            f"split: the dataset has no column {name!r}; it has {', '.join(map(repr, names))}"
            f"{nearest(name, names)}"
        )
    return dataset.table[name]


def _names(parts: Mapping[str, float]) -> list[str]:
    if len(parts) < 2:
        raise InvalidRequest(f"split: expected two or more parts, got {dict(parts)}")
    return list(parts)


def _fractions(parts: Mapping[str, float]) -> dict[str, float]:
    _names(parts)
    shares = {name: float(share) for name, share in parts.items()}
    if any(not share > 0 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-9:
        raise InvalidRequest(f"split: expected shares above 0 that add up to 1, got {shares}")
    return shares


def _gap_us(gap: dt.timedelta) -> int:
    if gap < dt.timedelta(0):
        raise InvalidRequest(f"split by time: expected a gap >= 0, got {gap}")
    return gap // dt.timedelta(microseconds=1)


def _check_folds(folds: int) -> None:
    if folds < 2:
        raise InvalidRequest(f"split: expected 2 or more folds, got {folds}")
