"""`text/libsvm`: a label, and the values of a sparse row by their indices, counted from 0.

label[:weight] [qid:number] index:value index:value …
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from training.errors import InvalidData
from training.formats.column import role_field, sparse_column
from training.formats.packed import Source, read_bytes

__all__ = ["decode", "read"]

_COLON: Final = ord(":")
_NEWLINE: Final = ord("\n")
_SEPARATORS: Final = b" \t\r\n:"
_MOST: Final = 2**31 - 1


def read(source: Source, parameters: Mapping[str, str]) -> pa.Table:
    """Read a libsvm file, plain or compressed with gzip; see `decode`."""
    return decode(read_bytes(source), parameters)


def decode(data: bytes, parameters: Mapping[str, str]) -> pa.Table:
    r"""Read libsvm text as columns `label`, `features`, and `weight` and `qid` where there are any.

    Blank lines and what follows a `#` are passed over. A file does not say how many dimensions it
    has, so the column does not either. Either all rows have a weight or none; likewise a qid.

    Raises:
        InvalidData: a line is of another form; the message has the line and what was expected.

    >>> decode(b"1 0:0.5 7:2\n0 3:1\n", {})["features"].to_pylist()
    [{'indices': [0, 7], 'values': [0.5, 2.0]}, {'indices': [3], 'values': [1.0]}]
    """
    if b"#" in data:
        data = re.sub(rb"#[^\n]*", b"", data)
    words = _Words.of(data)
    if not len(words.starts):
        raise InvalidData("expected rows of 'label index:value …', got none")
    return _table(words)


@final
@dataclass(frozen=True)
class _Words:
    """The n words of a text, without what separates them.

    Attributes:
        data: the text.
        texts: the words.
        starts: where each word begins.
        lines: the line each word is in, from 0.
        paired: whether a colon stands before it.
    """

    data: bytes
    texts: pa.Array
    starts: npt.NDArray[np.int64]
    lines: npt.NDArray[np.int64]
    paired: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, data: bytes) -> _Words:
        text = np.frombuffer(data, np.uint8)
        separates = np.zeros(256, np.bool_)
        separates[list(_SEPARATORS)] = True
        apart = separates[text]
        begins = ~apart
        begins[1:] &= apart[:-1]
        starts = np.flatnonzero(begins)
        lines = np.searchsorted(np.flatnonzero(text == _NEWLINE), starts)
        paired = text[np.maximum(starts - 1, 0)] == _COLON
        words = cls(data, _cut(data, starts), starts, lines, paired)
        colons = np.flatnonzero(text == _COLON)
        # Each colon has a word on both sides, and a word a colon on one side at most.
        if (
            len(colons) != int(paired.sum())
            or (paired[1:] & paired[:-1]).any()
            or (len(colons) and (colons[0] == 0 or apart[colons - 1].any()))
        ):
            raise words.broken()
        return words

    def numbers(self, chosen: npt.NDArray[np.bool_], expected: str) -> npt.NDArray[np.float64]:
        """Return some of the words as numbers."""
        texts = self.texts.filter(pa.array(chosen))
        try:
            numbers: npt.NDArray[np.float64] = texts.cast(pa.float64()).to_numpy()
        except pa.ArrowInvalid as error:
            for place, word in zip(np.flatnonzero(chosen), texts, strict=True):
                try:
                    word.cast(pa.float64())
                except pa.ArrowInvalid:
                    raise self.refused(int(place), expected, _shown(word)) from error
            raise
        return numbers

    def refused(self, word: int, expected: str, got: str) -> InvalidData:
        line = int(self.lines[word]) + 1
        return InvalidData(f"line {line}: expected {expected}, got {got}", line=line)

    def broken(self) -> InvalidData:
        """Return the error of the first line whose colons are not between two words."""
        for number, line in enumerate(self.data.split(b"\n"), 1):
            for pair in line.split():
                if pair.count(b":") > 1 or pair.startswith(b":") or pair.endswith(b":"):
                    return InvalidData(
                        f"line {number}: expected index:value, got "
                        f"{pair.decode(errors='replace')!r}",
                        line=number,
                    )
        return InvalidData("expected index:value, got a colon without them")


def _cut(data: bytes, starts: npt.NDArray[np.int64]) -> pa.Array:
    """Cut a text at the words' beginnings, and drop what separates them."""
    offsets = np.append(starts, len(data))
    words = pa.LargeStringArray.from_buffers(len(starts), pa.py_buffer(offsets), pa.py_buffer(data))
    return pc.ascii_trim(words, _SEPARATORS.decode())


def _table(words: _Words) -> pa.Table:
    count = len(words.starts)
    first = np.ones(count, np.bool_)
    first[1:] = words.lines[1:] != words.lines[:-1]
    if words.paired[first].any():
        raise words.refused(int((first & words.paired).argmax()), "a label", "a colon")
    heads = np.flatnonzero(first)
    is_weight = np.zeros(count, np.bool_)
    is_weight[1:] = words.paired[1:] & first[:-1]
    is_qid = _are_qid(words)
    qid = np.zeros(count, np.bool_)
    qid[1:] = words.paired[1:] & is_qid[:-1]
    value = words.paired & ~is_weight & ~qid
    index = np.zeros(count, np.bool_)
    index[:-1] = value[1:]
    known = first | is_weight | is_qid | qid | value | index
    if not known.all():
        word = int((~known).argmax())
        raise words.refused(word, "index:value", _shown(words.texts[word]))
    indices = words.numbers(index, "an index")
    wrong = (indices < 0) | (indices > _MOST) | (indices != np.floor(indices))
    if wrong.any():
        word = int(np.flatnonzero(index)[wrong.argmax()])
        raise words.refused(word, "an index from 0 on", _shown(words.texts[word]))
    values = words.numbers(value, "a value")
    rows = np.cumsum(first) - 1
    counts = np.bincount(rows[value], minlength=len(heads))
    features = sparse_column(indices.astype(np.int32), values.astype(np.float32), counts)
    fields = [pa.field("label", pa.float64()), pa.field("features", features.type)]
    columns = [pa.array(words.numbers(first, "a label")), features]
    for name, chosen, kind in (("weight", is_weight, pa.float64()), ("qid", qid, pa.int64())):
        if chosen.any():
            if int(chosen.sum()) != len(heads):
                has = np.zeros(len(heads), np.bool_)
                has[rows[chosen]] = True
                word = int(heads[(has != has[0]).argmax()])
                expected = f"a {name}" if has[0] else f"no {name}"
                raise words.refused(word, f"{expected} as in the first row", "the other")
            fields.append(role_field(name, kind))
            numbers = words.numbers(chosen, f"a {name}")
            uneven = numbers != np.floor(numbers)
            if name == "qid" and uneven.any():
                word = int(np.flatnonzero(chosen)[uneven.argmax()])
                raise words.refused(word, "a whole qid", _shown(words.texts[word]))
            columns.append(pa.array(numbers).cast(kind))
    return pa.table(columns, schema=pa.schema(fields))


def _shown(word: Any) -> str:
    return repr(word.cast(pa.large_binary()).as_py().decode("utf-8", "replace"))


def _are_qid(words: _Words) -> npt.NDArray[np.bool_]:
    """Say which words are `qid`, followed by a colon."""
    found = np.zeros(len(words.starts), np.bool_)
    if b"qid:" in words.data:
        places = np.array([match.start() for match in re.finditer(rb"\bqid:", words.data)])
        found = np.isin(words.starts, places)
    return found
