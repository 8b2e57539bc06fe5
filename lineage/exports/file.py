"""Writing a part of the graph to a file: the formats there are, and how a file comes about."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Final, NamedTuple, TextIO

from lineage.errors import InvalidQuery
from lineage.exports.gexf import write_gexf
from lineage.exports.graphml import write_graphml
from lineage.exports.ndjson import write_ndjson
from lineage.exports.parquet import write_parquet
from lineage.exports.part import Part
from lineage.exports.plain import write_json
from lineage.exports.prov_json import write_prov_json
from lineage.exports.prov_n import write_prov_n
from lineage.render import to_dot, to_html, to_mermaid, to_tree


class Format(NamedTuple):
    """How a part is written.

    Args:
        write: to text, piece by piece.
        endings: of file names, by which the format is guessed.
    """

    write: Callable[[Part, TextIO], None]
    endings: tuple[str, ...]


def _drawn(draw: Callable[..., str]) -> Callable[[Part, TextIO], None]:
    def write(part: Part, out: TextIO) -> None:
        out.write(draw(part.drawing()))

    return write


FORMATS: Final[Mapping[str, Format]] = {
    "html": Format(_drawn(to_html), (".html", ".htm")),
    "tree": Format(_drawn(to_tree), (".txt",)),
    "mermaid": Format(_drawn(to_mermaid), (".mmd", ".md")),
    "dot": Format(_drawn(to_dot), (".dot", ".gv")),
    "prov-json": Format(write_prov_json, (".prov.json", ".provjson")),
    "prov-n": Format(write_prov_n, (".provn",)),
    "graphml": Format(write_graphml, (".graphml",)),
    "gexf": Format(write_gexf, (".gexf",)),
    "ndjson": Format(write_ndjson, (".ndjson", ".jsonl")),
    "json": Format(write_json, (".json",)),
}
"""The formats of one text file; `parquet`, which is a folder of files, comes beside them."""


def as_format(name: str | None, path: Path | None = None) -> str:
    """The format with this name, or the one that the ending of a path names.

    Raises:
        InvalidQuery: there is no such format, or the ending names none.
    """
    names = [*FORMATS, "parquet"]
    if name is not None:
        if name in names:
            return name
        near = get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InvalidQuery(f"format: expected one of {', '.join(names)}; got {name!r}{hint}")
    ending = "" if path is None else path.name.lower()
    if ending.endswith(".parquet"):
        return "parquet"
    fitting = [
        (len(one), form)
        for form, (_, endings) in FORMATS.items()
        for one in endings
        if ending.endswith(one)
    ]
    if not fitting:
        raise InvalidQuery(
            f"format: {str(path)!r} has none of the known endings; give one of {', '.join(names)}"
        )
    return max(fitting)[1]


def export_text(part: Part, format: str) -> str:
    """The part as one string.

    Raises:
        InvalidQuery: there is no such format, or it is no text (`parquet`).
    """
    form = as_format(format)
    if form == "parquet":
        raise InvalidQuery("format: parquet is a folder of files; give a path to write it to")
    out = io.StringIO()
    FORMATS[form].write(part, out)
    return out.getvalue()


def export_part(part: Part, path: Path, format: str | None = None) -> str:
    """Write the part to a file, or for `parquet` to a folder; returns the format.

    The file appears when it is whole: what stood there before stays until then.

    Raises:
        InvalidQuery: there is no such format.
        OSError: the file cannot be written.
    """
    form = as_format(format, path)
    if form == "parquet":
        write_parquet(part, path)
        return form
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("w", encoding="utf-8", newline="") as out:
            FORMATS[form].write(part, out)
        partial.replace(path)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()
    return form
