"""A dataset in the making: a spine joined with features as they were known, and its manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import pyarrow as pa

from featurestore import eventtime, numpyview, pointintime
from featurestore.dataset import Dataset, Resolved, fingerprint_of
from featurestore.digest import TableDigest
from featurestore.errors import InternalError, InvalidRequest
from featurestore.window import WINDOW_RULE_VERSION, Windows
from featurestore.window.history import window_join
from featurestore.workers import Workers

__all__ = ["Proof", "build", "describe_build", "join", "output_names"]

Proof = dict[str, int | None]


def build(
    spine: pa.Table,
    resolved: Sequence[Resolved],
    *,
    time: str,
    as_of_us: int | None = None,
    threads: int | None = None,
) -> Dataset:
    """Join a spine with feature groups as they were known at each row's time.

    Args:
        spine: n rows with the time column and one key column per selection.
        resolved: the selections; their order is the order of the columns.
        time: the spine's time column.
        as_of_us: only records written offline at or before it count; None: all.
        threads: how many the joins share; None: one for each processor. The result does not depend
            on it.

    Raises:
        InvalidSpine: a column is missing, has the wrong type, or a time is null.
        FeatureNotFound: a selection names no feature of its group.
        StoreUnavailable, StoreCorrupt: a file of a group's table is gone or cannot be read.

    """
    names = output_names(spine.schema.names, resolved)
    digest = TableDigest(len(spine))
    with ThreadPoolExecutor(1, "digest") as beside, Workers(threads) as workers:
        # Hashing takes a processor while the join is on one thread: it does not wait for the end.
        hashed = beside.submit(digest.add_columns, spine)
        table, proof = join(spine, resolved, names, time=time, as_of_us=as_of_us, workers=workers)
        hashed.result()
    spine_digest = digest.hexdigest()
    digest.add_columns(table.drop_columns(spine.schema.names))
    manifest = describe_build(
        spine.schema.names,
        resolved,
        names,
        time=time,
        as_of_us=as_of_us,
        rows=len(table),
        spine_digest=spine_digest,
        rows_digest=digest.hexdigest(),
        proof=proof,
    )
    return Dataset(table, manifest)


def join(
    spine: pa.Table,
    resolved: Sequence[Resolved],
    names: Sequence[Mapping[str, str]],
    *,
    time: str,
    as_of_us: int | None,
    workers: Workers | None = None,
    connection: Any | None = None,
    held_bytes: int | None = None,
) -> tuple[pa.Table, list[Proof]]:
    """Join rows of a spine with each selection; see `build`.

    Args:
        spine: n rows.
        resolved: the selections.
        names: of each selection, feature → column.
        time: the spine's time column.
        as_of_us: only records written offline at or before it count; None: all.
        workers: the selections' joins share them; None: all is done in the calling thread.
        connection: from `pointintime.connect`, where memory is short: then it joins the selections,
            one after another.
        held_bytes: see `window_join`.

    Returns:
        n rows, and of each selection how many of them saw a record and how old the youngest was.
    """
    times = pointintime.spine_times(spine, time)
    asked = [
        pa.table({"key": pointintime.spine_keys(spine, _key(entry), entry.group), "time": times})
        for entry in resolved
    ]
    joined: dict[int, pa.Table] = {}

    def narrow(number: int) -> None:
        entry = resolved[number]
        with _named(entry.group.name):
            joined[number] = pointintime.as_of_join(
                asked[number],
                entry.snapshot,
                entry.group,
                list(names[number]),
                lookback_us=entry.selection.lookback_us,
                as_of_us=as_of_us,
                connection=connection,
                workers=workers,
            )

    def windowed(number: int, connection: Any) -> None:
        entry = resolved[number]
        assert entry.windows is not None
        with _named(entry.group.name):
            joined[number] = window_join(
                asked[number],
                entry.snapshot,
                entry.windows,
                list(names[number]),
                as_of_us=as_of_us,
                connection=connection,
                held_bytes=held_bytes,
            )

    jobs = [partial(narrow, n) for n, entry in enumerate(resolved) if entry.windows is None]
    if workers is None or connection is not None:
        for job in jobs:
            job()
    else:
        workers.together(jobs)
    # DuckDB shares the processors among the parts of one query, so these come one by one.
    windows = [n for n, entry in enumerate(resolved) if entry.windows is not None]
    if windows:
        with (
            nullcontext(connection)
            if connection is not None
            else pointintime.connect(threads=None if workers is None else workers.threads) as opened
        ):
            for number in windows:
                windowed(number, opened)
    columns: dict[str, Any] = dict(zip(spine.schema.names, spine.columns, strict=True))
    proof = []
    for number, (entry, chosen) in enumerate(zip(resolved, names, strict=True)):
        proof.append(_prove(entry.group.name, times, joined[number]["_event_time"]))
        for feature, output in chosen.items():
            columns[output] = joined[number][feature]
    return pa.table(columns), proof


def _key(entry: Resolved) -> str:
    return entry.selection.key or entry.group.record_identifier


@contextmanager
def _named(group: str) -> Iterator[None]:
    """Say of an error which group's join it ended, where its message does not."""
    try:
        yield
    except Exception as error:
        if group not in str(error):
            error.add_note(f"while the feature group {group!r} was joined")
        raise


def describe_build(
    spine_names: Sequence[str],
    resolved: Sequence[Resolved],
    names: Sequence[Mapping[str, str]],
    *,
    time: str,
    as_of_us: int | None,
    rows: int,
    spine_digest: str,
    rows_digest: str,
    proof: Sequence[Proof],
) -> dict[str, Any]:
    """Make the manifest of a dataset; see `Dataset` for what is in it."""
    body: dict[str, Any] = {
        "rule_version": pointintime.RULE_VERSION,
        "spine_digest": spine_digest,
        "rows_digest": rows_digest,
        "time": time,
        "as_of": None if as_of_us is None else eventtime.format_iso(as_of_us),
        "selections": [
            {
                "group": entry.group.name,
                "features": dict(chosen),
                "key": entry.selection.key or entry.group.record_identifier,
                "prefix": entry.selection.prefix,
                "lookback_us": entry.selection.lookback_us,
                **_windows_body(entry.windows),
            }
            for entry, chosen in zip(resolved, names, strict=True)
        ],
    }
    # Version numbers and uris are named beside the fingerprint, not in it: a table that came to
    # the same content by other commits gives the same dataset.
    fingerprint = fingerprint_of(body)
    origins = dict.fromkeys(spine_names, "spine")
    proofs: dict[str, list[Proof]] = {}
    for entry, chosen, seen in zip(resolved, names, proof, strict=True):
        proofs.setdefault(entry.group.name, []).append(seen)
        for feature, output in chosen.items():
            origins[output] = f"{entry.group.name}.{feature}"
    return {
        "fingerprint": fingerprint,
        **body,
        "rows": rows,
        "versions": {
            entry.group.name: entry.snapshot.version if entry.snapshot else None
            for entry in resolved
        },
        "tables": {
            entry.group.name: {
                "uri": entry.snapshot.uri,
                "version": entry.snapshot.version,
                "content_hash": entry.snapshot.content_hash,
            }
            for entry in resolved
            if entry.snapshot is not None
        },
        "keys": sorted({e.selection.key or e.group.record_identifier for e in resolved}),
        "columns": origins,
        "proof": proofs,
    }


def output_names(spine_names: Sequence[str], resolved: Sequence[Resolved]) -> list[dict[str, str]]:
    """Choose each selected feature's column: its own name, or `group__feature` on a clash.

    Returns:
        For each selection, feature → column.

    Raises:
        InvalidRequest: no selection, a feature twice, or two columns of one name.
        FeatureNotFound: a selection names no feature of its group.
    """
    if not resolved:
        raise InvalidRequest("expected at least one selection of features, got none")
    wanted: list[list[str]] = []
    for entry in resolved:
        group = entry.group
        features = list(entry.selection.features) or [
            name
            for name in group.feature_names
            if name not in (group.record_identifier, group.event_time)
        ]
        for name in features:
            group.feature_type(name)
        if len(set(features)) != len(features):
            raise InvalidRequest(f"{group.name}: a feature is selected twice in {features}")
        wanted.append(features)
    plain = [
        name
        for entry, features in zip(resolved, wanted, strict=True)
        if entry.selection.prefix is None
        for name in features
    ]
    clashing = {name for name in plain if plain.count(name) > 1 or name in spine_names}
    taken = set(spine_names)
    names: list[dict[str, str]] = []
    for entry, features in zip(resolved, wanted, strict=True):
        prefix = entry.selection.prefix
        chosen = {}
        for name in features:
            output = name
            if prefix is not None:
                output = prefix + name
            elif name in clashing:
                output = f"{entry.group.name}__{name}"
            if output in taken:
                raise InvalidRequest(
                    f"two columns of the dataset would be called {output!r}; give the selection "
                    f"of {entry.group.name!r} a prefix"
                )
            taken.add(output)
            chosen[name] = output
        names.append(chosen)
    return names


def _prove(group: str, times: pa.Array, event_times: pa.ChunkedArray) -> Proof:
    """Check on the result that no value is newer than its row."""
    # One chunk: the join has put them together.
    known = event_times.combine_chunks()
    matched = numpyview.booleans(known.is_valid())
    # Without the nulls, which would make doubles of the times and round them.
    seen = numpyview.int64(known.drop_null().cast(pa.int64()))
    ages = numpyview.int64(times.cast(pa.int64()))[matched] - seen
    if len(ages) and ages.min() < 0:
        raise InternalError(f"{group}: the join saw a value newer than its row; please report it")
    return {
        "matched": int(matched.sum()),
        "youngest_us": int(ages.min()) if len(ages) else None,
    }


def _windows_body(windows: Windows | None) -> dict[str, Any]:
    if windows is None:
        return {}
    return {"windows": windows.group.to_json(), "window_rule_version": WINDOW_RULE_VERSION}
