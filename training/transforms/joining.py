"""Filters what is asked, and puts inputs beside their answers, record by record."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, Final, final

from training.errors import InvalidData
from training.formats.text import to_json
from training.transforms.job import DataProcessing
from training.transforms.pointing import Pointer

__all__ = ["Joiner"]

_INPUT: Final = "SageMakerInput"
_OUTPUT: Final = "SageMakerOutput"
_CSV: Final = "text/csv"
_LINES: Final = "application/jsonlines"
_DOCUMENT: Final = "application/json"


@final
class Joiner:
    """The filters and the join of one job.

    Args:
        processing: what is asked for.
        request: content type of the records, without parameters.
        reply: of the answers.
        ends_lines: whether each answer ends with a line end, where its type does not ask for it.
        joins: whether records are put beside their answers, also where `processing` does not.
    """

    def __init__(
        self,
        processing: DataProcessing,
        request: str,
        reply: str,
        *,
        ends_lines: bool = False,
        joins: bool = False,
    ) -> None:
        self._asked = Pointer.parse(processing.input_filter)
        self._kept = Pointer.parse(processing.output_filter, field="OutputFilter")
        self._joins = joins or processing.join_source == "Input"
        self._is_plain = processing.is_plain
        self._request, self._reply = request, reply
        self._ends = b"\n" if ends_lines or reply in (_CSV, _LINES) else b""

    def ask(self, record: bytes) -> bytes:
        """Return what of a record is sent to the model.

        Raises:
            InvalidData: the record cannot be read, or the filter finds nothing.
        """
        if self._asked.is_whole:
            return record
        return _written(self._asked.pick(_parsed(record, self._request)), self._request)

    def answers(self, records: Sequence[bytes], reply: bytes) -> list[Any]:
        """Return what is kept of each record and its answer, as JSON values; of CSV as fields.

        Raises:
            InvalidData: there are more or fewer answers than records, one cannot be read, or the
                filter finds nothing.
        """
        parts = _parts(reply, self._reply, len(records))
        if len(parts) != len(records):
            raise InvalidData(
                f"expected an answer for each of {len(records)} records, got {len(parts)}"
            )
        return [
            self._kept.pick(self._joined(record, part) if self._joins else part)
            for record, part in zip(records, parts, strict=True)
        ]

    def output(self, records: Sequence[bytes], reply: bytes) -> bytes:
        """Return what is written of some records' answers."""
        if self._is_plain:
            # Answers of lines end in one already, but for some scripts'.
            return reply if not reply or reply.endswith(self._ends) else reply + self._ends
        kept = self.answers(records, reply)
        return b"".join(_written(value, self._reply) + self._ends for value in kept)

    def _joined(self, record: bytes, part: Any) -> Any:
        value = _parsed(record, self._request)
        if self._reply == _CSV:
            return [*value, *part]
        if isinstance(value, dict):
            return {**value, _OUTPUT: part}
        return {_INPUT: value, _OUTPUT: part}


def _parsed(record: bytes, kind: str) -> Any:
    """Read one record: a row of CSV as a list of its fields, anything else as JSON."""
    try:
        if kind == _CSV:
            return next(csv.reader([record.decode("utf-8")]), [])
        return json.loads(record)
    except (ValueError, csv.Error) as error:
        raise InvalidData(f"expected {kind}: {error}") from error


def _parts(reply: bytes, kind: str, count: int) -> list[Any]:
    """Take a reply apart into its answers."""
    if kind != _DOCUMENT:
        return [_parsed(line, kind) for line in reply.splitlines() if line.strip()]
    document = _parsed(reply, kind)
    if count == 1:
        return [document]
    lists = [value for value in _values(document) if isinstance(value, list)]
    return lists[0] if len(lists) == 1 else [document]


def _values(document: Any) -> list[Any]:
    return list(document.values()) if isinstance(document, dict) else [document]


def _written(value: Any, kind: str) -> bytes:
    if kind != _CSV:
        return to_json(value)
    out = io.StringIO()
    fields = value if isinstance(value, list) else [value]
    csv.writer(out, lineterminator="").writerow(fields)
    return out.getvalue().encode()
