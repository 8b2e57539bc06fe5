"""A graph as a file or text of another tool's form."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from lineage.exports import Part, as_format, export_part, export_text
from lineage.graph.kept import Kept
from lineage.query import viewed
from lineage.result import LineageResult


class Exporting(Kept):
    """The part of a graph that exports."""

    def export(
        self,
        path: str | Path,
        format: str | None = None,
        *,
        of: LineageResult | None = None,
        as_of: int | datetime | None = None,
    ) -> str:
        """Write the graph, or what a query found, as a file of another tool's form.

        Args:
            path: of the file, or of the folder for `parquet`; replaced when it is whole.
            format: `html`, `tree`, `mermaid`, `dot`, `prov-json`, `prov-n`, `graphml`, `gexf`,
                `ndjson`, `json` or `parquet`; by default the ending of the path decides.
            of: the answer to a query on this graph; None for all of it.
            as_of: as for `query`; of columns, runs and tags too.

        Returns:
            The format.

        Raises:
            InvalidQuery: no such format, or more than a page or picture can show.
            OSError: the path cannot be written.

        Cost: reads the graph in pieces; all but pictures need no more memory for more.
        """
        form = as_format(format, Path(path))
        failed = None
        with self._part(of, as_of) as part:
            try:
                export_part(part, Path(path), form)
            except OSError as error:
                # Of the file written: a store would take it for its own.
                failed = error
        if failed is not None:
            raise failed
        return form

    def export_text(
        self,
        format: str,
        *,
        of: LineageResult | None = None,
        as_of: int | datetime | None = None,
    ) -> str:
        """The graph, or what a query found, as one text: see `export`.

        Raises:
            InvalidQuery: no such format, or one that is no text (`parquet`).
        """
        with self._part(of, as_of) as part:
            return export_text(part, format)

    @contextmanager
    def _part(self, of: LineageResult | None, as_of: int | datetime | None) -> Iterator[Part]:
        with viewed(self._store, as_of) as view:
            sequence = view.counts()["events"]
            yield Part(of, view=view, log=self._store.log, sequence=sequence)
