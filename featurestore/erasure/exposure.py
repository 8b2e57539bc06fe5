"""Who has seen a record: saved datasets with its rows, and what the lineage graph leads to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import lineage
from featurestore.record import identifier_text
from featurestore.registry import Registered
from featurestore.saved import SavedDataset, SavedDatasets
from featurestore.window import WindowedGroup

__all__ = ["descendants", "saved_with"]

_DESCENDANTS: Final = ("DataSet", "Model")


def saved_with(
    saved: SavedDatasets, entry: Registered, identifiers: Sequence[str]
) -> list[tuple[SavedDataset, int]]:
    """Return the saved datasets with rows of any of the identifiers, and how many rows.

    Cost: reads the key column of each saved dataset that has features of the group.
    """
    found = []
    for dataset in saved.list():
        keys = {
            str(selection["key"] or entry.group.record_identifier)
            for selection in dataset.manifest["selections"]
            if _is_of(selection, entry)
        }
        rows = max((_rows(dataset, entry, key, identifiers) for key in keys), default=0)
        if rows:
            found.append((dataset, rows))
    return found


def descendants(
    graph: Any, uri: str, held: Sequence[tuple[int, int]]
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the datasets and the models that come from table versions which held a record.

    A dataset of such a version need not have the record's identifier in its spine: it *may* have
    seen it. What was never recorded, as a table that was read past the store, is not here.

    Args:
        graph: a lineage graph.
        uri: of the offline table.
        held: stretches of its versions.

    Returns:
        Name and uid of each, by uid.
    """
    if not held:
        return [], []
    found: dict[str, lineage.Entity] = {}
    for version in graph.find(type="FeatureGroupVersion", source_uri=uri):
        number = version.properties.get("table_version")
        if isinstance(number, int) and any(first <= number <= last for first, last in held):
            result = graph.query(version, "descendants", types=_DESCENDANTS, include_edges=False)
            found.update((entity.uid, entity) for entity in result)
    named: dict[str, list[dict[str, str]]] = {kind: [] for kind in _DESCENDANTS}
    for uid, entity in sorted(found.items()):
        named[entity.type].append({"name": entity.name, "uid": uid, "uri": entity.source_uri})
    return named["DataSet"], named["Model"]


def _is_of(selection: Mapping[str, Any], entry: Registered) -> bool:
    """Whether a dataset's selection is of a group by its identifiers, or of windows over it."""
    definition = selection.get("windows")
    if definition is None:
        return bool(selection["group"] == entry.group.name)
    windowed = WindowedGroup.from_json(definition)
    return windowed.source == entry.group.name and windowed.by == entry.group.record_identifier


def _rows(dataset: SavedDataset, entry: Registered, key: str, identifiers: Sequence[str]) -> int:
    column = pq.read_table(dataset.path, columns=[key])[key]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not pa.types.is_string(column.type):
        # A spine may have the identifiers in another type than the group: compare their texts.
        wanted = set(identifiers)
        counts = pc.value_counts(column.drop_null().combine_chunks())
        return sum(
            int(count.as_py())
            for value, count in zip(counts.field("values"), counts.field("counts"), strict=True)
            if identifier_text(entry.group, value.as_py()) in wanted
        )
    return int(pc.sum(pc.is_in(column, pa.array(identifiers, pa.string()))).as_py() or 0)
