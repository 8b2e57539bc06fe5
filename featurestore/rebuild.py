"""A dataset built again from its manifest: the same rows, or what keeps it from that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from featurestore import eventtime, pointintime
from featurestore.dataset import Dataset, Resolved
from featurestore.engine import Engine, build
from featurestore.errors import (
    DatasetChanged,
    FeatureGroupNotFound,
    FeatureNotFound,
    InvalidRequest,
)

__all__ = ["rebuild"]


def rebuild(
    manifest: Mapping[str, Any],
    spine: pa.Table,
    resolve: Callable[[Mapping[str, Any]], list[Resolved]],
    *,
    threads: int | None = None,
    engine: Engine = "duckdb",
    session: Any | None = None,
) -> tuple[Dataset, list[Resolved]]:
    """Build a dataset again from its spine and the table versions it names.

    Args:
        manifest: of the dataset.
        spine: the rows that it was asked for.
        resolve: finds the groups and table versions that a manifest names.
        threads: how many the joins share; the result does not depend on it.
        engine: that joins; the result does not depend on it.
        session: of Spark; None: see `featurestore.spark.session`.

    Returns:
        The dataset, with the fingerprint of the manifest, and what it was built from.

    Raises:
        DatasetChanged: an input is gone or not what it was, or the rule is another one.
    """

    def changed(what: str, why: str) -> DatasetChanged:
        fingerprint = str(manifest["fingerprint"])
        return DatasetChanged(
            f"dataset {fingerprint[:12]} cannot be built again: {why}",
            fingerprint=fingerprint,
            input=what,
        )

    if manifest["rule_version"] != pointintime.RULE_VERSION:
        raise changed(
            "rule",
            f"it was built by version {manifest['rule_version']} of the rule, this is version "
            f"{pointintime.RULE_VERSION}",
        )
    try:
        resolved = resolve(manifest)
    except FeatureGroupNotFound as error:
        raise changed(str(error.group), error.message) from error
    except InvalidRequest as error:
        raise changed("table version", error.message) from error
    as_of = manifest["as_of"]
    try:
        dataset = build(
            spine,
            resolved,
            engine=engine,
            time=manifest["time"],
            as_of_us=None if as_of is None else eventtime.parse_iso(as_of),
            threads=threads,
            session=session,
        )
    except FeatureNotFound as error:
        raise changed(str(error.group), error.message) from error
    if dataset.fingerprint != manifest["fingerprint"]:
        names = ("selections", "rows_digest")
        differing = [name for name in names if dataset.manifest[name] != manifest[name]]
        raise changed(
            ", ".join(differing),
            f"it came out as {dataset.fingerprint[:12]}, with other {' and '.join(differing)}; "
            f"was a file of a table version altered?",
        )
    return dataset, resolved
