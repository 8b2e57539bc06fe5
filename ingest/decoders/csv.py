"""CSV messages: one row each."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, final

from featurestore.record import shown
from ingest.decode import Decoder
from ingest.decoders.plain import bytes_of
from ingest.errors import Undecodable
from ingest.source import Message

__all__ = ["CsvDecoder"]

_NO_MAPPING: Final[Mapping[str, str]] = MappingProxyType({})
_EXPECTED: Final = "a row of CSV"
_MAX_FIELD: Final = 16 << 20


@final
class CsvDecoder(Decoder):
    r"""Reads a message as one row of CSV (RFC 4180) in UTF-8; every field is text or null.

    A line break at the end is no part of the row. A field that reads exactly as `null_text`,
    quoted or not, is null. What the group declares as a number is read from its text.

    Args:
        mapping: feature name → column.
        header: the columns' names, in order.
        delimiter: between fields, one character.
        quote: around fields with special characters, doubled within them; None: no field is
            quoted.
        null_text: what stands for null.

    Raises:
        ValueError: the header is empty or names a column twice, or a character is none.

    >>> decoder = CsvDecoder(header=["station", "note", "temp"], delimiter=";")
    >>> decoder.decode(Message("0", 0, b'JFK;"windy; cold";\r\n'))
    {'station': 'JFK', 'note': 'windy; cold', 'temp': None}
    """

    def __init__(
        self,
        mapping: Mapping[str, str] = _NO_MAPPING,
        *,
        header: Sequence[str],
        delimiter: str = ",",
        quote: str | None = '"',
        null_text: str = "",
    ) -> None:
        super().__init__(mapping)
        self.header = tuple(header)
        if isinstance(header, str) or not self.header or not all(self.header):
            raise ValueError(f"csv header: expected the columns' names, got {header!r}")
        twice = [name for name in self.header if self.header.count(name) > 1]
        if twice:
            raise ValueError(f"csv header: expected each column once, got {twice[0]!r} twice")
        for feature, column in self.mapping.items():
            if column not in self.header:
                raise ValueError(
                    f"mapping of {feature!r}: expected a column of the header, got {column!r}"
                )
        characters = [delimiter] if quote is None else [delimiter, quote]
        for character in characters:
            if len(character) != 1 or character in "\r\n\0":
                raise ValueError(
                    f"csv: expected one character as delimiter and as quote, got {character!r}"
                )
        if delimiter == quote:
            raise ValueError(f"csv: expected delimiter and quote to differ, got {delimiter!r}")
        # Of the whole process; messages are bounded already.
        csv.field_size_limit(max(csv.field_size_limit(), _MAX_FIELD))
        self._null_text = null_text
        self._options = {
            "delimiter": delimiter,
            "quotechar": quote,
            "quoting": csv.QUOTE_NONE if quote is None else csv.QUOTE_MINIMAL,
            "strict": True,
        }

    def decode(self, message: Message) -> Mapping[str, object]:
        """Return the row's fields by column.

        Raises:
            Undecodable: the bytes are not one row, or one of another number of fields.
        """
        value = bytes_of(message, _EXPECTED)
        try:
            text = value.decode()
        except UnicodeDecodeError as error:
            raise Undecodable(
                f"byte {error.start}", expected="UTF-8", got=f"0x{value[error.start]:02x}"
            ) from None
        try:
            # One "line" for the reader, whatever line breaks are in quotes; it refuses others.
            (row,) = csv.reader((text,), **self._options)  # type: ignore[arg-type]
        except csv.Error as error:
            raise Undecodable(
                "row", expected="one row of CSV", got=f"{shown(text)}: {error}"
            ) from None
        if len(row) != len(self.header):
            raise Undecodable("row", expected=f"{len(self.header)} fields", got=f"{len(row)}")
        null = self._null_text
        return self._mapped(
            {
                name: None if field == null else field
                for name, field in zip(self.header, row, strict=True)
            }
        )
