"""IP addresses as numbers, and the networks that each lies in."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from training.hashing import mixed

__all__ = ["PAD", "Addresses"]

PAD: Final = 0
"""The bucket of a network that an address has not."""

_OCTET: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4: Final = r"^(?P<a>O)\.(?P<b>O)\.(?P<c>O)\.(?P<d>O)$".replace("O", _OCTET)
_STEP: Final = 4
_LENGTHS: Final = {4: range(8, 33, _STEP), 6: range(8, 129, _STEP)}
_BITS: Final = 64


@final
@dataclass(frozen=True, eq=False)
class Addresses:
    """n addresses.

    Attributes:
        version: (n,) of 4, 6, or 0 for what is no address.
        high: (n,), the upper 64 bits of IPv6; else 0.
        low: (n,), the lower 64 bits of IPv6, or the 32 bits of IPv4.
    """

    version: npt.NDArray[np.uint8]
    high: npt.NDArray[np.uint64]
    low: npt.NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.version)

    @classmethod
    def parse(cls, words: pa.Array | pa.ChunkedArray) -> Addresses:
        """Read words; an IPv6 address that holds an IPv4 one (`::ffff:10.0.0.1`) is that one.

        >>> found = Addresses.parse(pa.array(["10.0.0.1", "::1", "10.0.0.256", None]))
        >>> found.version.tolist(), found.low.tolist()
        ([4, 6, 0, 0], [167772161, 1, 0, 0])
        """
        if isinstance(words, pa.ChunkedArray):
            words = words.combine_chunks()
        coded = words.cast(pa.string()).dictionary_encode()
        known = _parsed(coded.dictionary)
        codes = pc.fill_null(coded.indices, len(known)).to_numpy()
        return cls(*(np.append(part, part.dtype.type(0))[codes] for part in known.parts()))

    @classmethod
    def random(cls, version: npt.NDArray[np.uint8], order: np.random.Generator) -> Addresses:
        """Draw addresses of these versions, every one as likely as another."""
        top = np.iinfo(np.uint64).max
        high = order.integers(0, top, len(version), np.uint64, endpoint=True)
        low = order.integers(0, top, len(version), np.uint64, endpoint=True)
        is_short = version == 4
        low[is_short] >>= np.uint64(32)
        high[is_short] = 0
        return cls(version, high, low)

    def parts(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        """Return version, high and low."""
        return self.version, self.high, self.low

    def take(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Addresses:
        """Return the addresses of these numbers, or those where it is true."""
        return Addresses(self.version[rows], self.high[rows], self.low[rows])

    def networks(self) -> npt.NDArray[np.uint64]:
        """Return a hash (n, networks) of each network /8, /12 … that an address lies in.

        IPv4 has 7, the last of which is the address itself, IPv6 has 31; there is a column for each
        that the longest of them has, and 0 for a network that an address has not.
        """
        is_long = self.version == 6
        width = len(_LENGTHS[6]) if is_long.any() else len(_LENGTHS[4])
        out = np.zeros((len(self), width), np.uint64)
        is_short = self.version == 4
        for place, length in enumerate(_LENGTHS[4]):
            out[is_short, place] = _hashed(4, length, self.low[is_short] >> np.uint64(32 - length))
        if is_long.any():
            high, low = self.high[is_long], self.low[is_long]
            for place, length in enumerate(_LENGTHS[6]):
                upper = high >> np.uint64(max(_BITS - length, 0))
                hashed = _hashed(6, length, upper)
                if length > _BITS:
                    hashed = mixed(hashed + (low >> np.uint64(2 * _BITS - length)))
                out[is_long, place] = hashed
        return out

    def buckets(self, count: int) -> npt.NDArray[np.int32]:
        """Return the bucket, 1 to `count`, of each network; `PAD` for one that is not there."""
        networks = self.networks()
        found = (networks % np.uint64(count)).astype(np.int32) + 1
        found[networks == 0] = PAD
        return found


def _parsed(words: pa.StringArray) -> Addresses:
    """Read words of which none is null."""
    trimmed = pc.utf8_trim_whitespace(words)
    found = pc.extract_regex(trimmed, _IPV4)
    is_short = found.is_valid().to_numpy(zero_copy_only=False)
    version = np.where(is_short, 4, 0).astype(np.uint8)
    high, low = np.zeros(len(words), np.uint64), np.zeros(len(words), np.uint64)
    for octet in ("a", "b", "c", "d"):
        digits = pc.cast(pc.struct_field(found, octet).filter(found.is_valid()), pa.uint64())
        low[is_short] = low[is_short] * np.uint64(256) + digits.to_numpy()
    # What is left is IPv6, which is rarer and has many forms, or nothing at all.
    rest = np.flatnonzero(~is_short)
    for row, word in zip(rest, trimmed.take(pa.array(rest)).to_pylist(), strict=True):
        try:
            address = ipaddress.IPv6Address(word)
        except ValueError:
            continue
        inner = address.ipv4_mapped
        version[row] = 6 if inner is None else 4
        number = int(address if inner is None else inner)
        high[row], low[row] = number >> _BITS, number & (2**_BITS - 1)
    return Addresses(version, high, low)


def _hashed(version: int, length: int, bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    # Which network it is goes in first, so that equal bits of other lengths are other networks.
    kind = mixed(np.array([version * 256 + length], np.uint64))
    return mixed(bits + kind)
