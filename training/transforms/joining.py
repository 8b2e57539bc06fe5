"""Filters what is asked, and puts inputs beside their answers, record by record."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from typing import Any, Final, final

from training.errors import InvalidData
from training.formats.text import rows_to_csv, to_json
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
        _check_count(len(records), len(parts))
        if not self._joins:
            return parts if self._kept.is_whole else list(map(self._kept.pick, parts))
        values = _parsed_all(records, self._request)
        joined = map(self._joined, values, parts)
        return list(joined if self._kept.is_whole else map(self._kept.pick, joined))

    def output(self, records: Sequence[bytes], reply: bytes) -> bytes:
        """Return what is written of some records' answers."""
        if self._is_plain:
            # Answers of lines end in one already, but for some scripts'.
            return reply if not reply or reply.endswith(self._ends) else reply + self._ends
        if self._reply == self._request == _CSV and self._joins and self._kept.is_whole:
            # The fields stay as they are, so none is read.
            lines = [line for line in reply.splitlines() if line.strip()]
            _check_count(len(records), len(lines))
            pairs = zip(records, lines, strict=True)
            return b"".join(b"%b,%b\n" % pair for pair in pairs)
        kept = self.answers(records, reply)
        if self._reply == _CSV:
            return rows_to_csv(value if isinstance(value, list) else [value] for value in kept)
        return b"".join(to_json(value) + self._ends for value in kept)

    def _joined(self, value: Any, part: Any) -> Any:
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


def _parsed_all(records: Sequence[bytes], kind: str) -> list[Any]:
    """Read many records; see `_parsed`."""
    if kind == _CSV:
        try:
            rows = list(csv.reader([record.decode("utf-8") for record in records]))
        except (ValueError, csv.Error) as error:
            raise InvalidData(f"expected {kind}: {error}") from error
        if len(rows) == len(records):
            return rows
        # A quote that is never closed took the next line in.
    return [_parsed(record, kind) for record in records]


def _parts(reply: bytes, kind: str, count: int) -> list[Any]:
    """Take a reply apart into its answers."""
    if kind != _DOCUMENT:
        return _parsed_all([line for line in reply.splitlines() if line.strip()], kind)
    document = _parsed(reply, kind)
    if count == 1:
        return [document]
    lists = [value for value in _values(document) if isinstance(value, list)]
    return lists[0] if len(lists) == 1 else [document]


def _check_count(records: int, answers: int) -> None:
    if answers != records:
        raise InvalidData(f"expected an answer for each of {records} records, got {answers}")


def _values(document: Any) -> list[Any]:
    return list(document.values()) if isinstance(document, dict) else [document]


def _written(value: Any, kind: str) -> bytes:
    if kind != _CSV:
        return to_json(value)
    return rows_to_csv([value if isinstance(value, list) else [value]]).rstrip(b"\n")
