"""Euclidean distances between many rows and some centres, a block of rows at a time.

Rows are an array (n, d) or a CSR matrix, which is never made dense. A block's distances come from
one product of matrices, |x - c|² = |x|² - 2x·c + |c|²; on a CUDA device torch computes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from training.device import CPU, Device
from training.errors import LibraryMissing
from training.matrix import scipy_sparse

__all__ = [
    "as_array",
    "blocks",
    "is_csr",
    "nearest",
    "nearest_by_torch",
    "product",
    "product_by_torch",
    "squared",
    "sums",
    "torch_library",
]

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.intp]

_BLOCK_CELLS: Final = 1 << 19
_TIE: Final = 1e-12


def is_csr(rows: Any) -> bool:
    """Whether rows are a sparse matrix and not an array."""
    return not isinstance(rows, np.ndarray)


def as_array(rows: Any) -> npt.NDArray[Any]:
    """Return a few rows as an array, also those of a sparse matrix."""
    found: npt.NDArray[Any] = rows.toarray() if is_csr(rows) else rows
    return found


def blocks(
    count: int, width: int, *, cells: int = _BLOCK_CELLS, least: int = 256
) -> Iterator[slice]:
    """Cut `count` rows into slices of about `cells` numbers, `width` a row, that fit into a cache.

    Args:
        count: rows.
        width: numbers of each row that are worked on at once.
        cells: numbers of a slice.
        least: rows of a slice, however wide they are.
    """
    step = max(least, cells // max(width, 1))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def nearest(rows: Any, centres: Floats, *, exact: bool = False, device: Device = CPU) -> Labels:
    """Return the number of the nearest centre of each row.

    Args:
        rows: n rows of d numbers, as an array or CSR matrix.
        centres: k rows of d numbers, k >= 1.
        exact: compute in double precision, and give ties to the lowest number; else in single
            precision, where centres that are nearly as near may change places.
        device: where to compute with dense rows in single precision.

    Cost: O(n·k·d) time, memory of one block.
    """
    labels: Labels = np.empty(rows.shape[0], np.intp)
    if is_csr(rows):
        norms = np.einsum("ij,ij->i", centres, centres)
        turned = np.ascontiguousarray(centres.T * -2)
        for block in blocks(rows.shape[0], len(centres)):
            part = rows[block].astype(np.float64)
            labels[block] = _lowest(part @ turned + norms, norms + _norms(part)[:, None])
        return labels
    if not exact and device.kind == "cuda":
        return nearest_by_torch(rows, centres, str(device))
    # Seen from the middle of the centres: numbers far from zero would cancel each other out.
    middle = centres.mean(axis=0)
    kind = np.float64 if exact else np.float32
    near = (centres - middle).astype(kind)
    norms = np.einsum("ij,ij->i", near, near)
    turned = np.ascontiguousarray(near.T * -2)
    for block in blocks(len(rows), len(centres)):
        part = rows[block] - middle.astype(kind)
        scores = part @ turned
        scores += norms
        if exact:
            labels[block] = _lowest(scores, norms + np.einsum("ij,ij->i", part, part)[:, None])
        else:
            labels[block] = scores.argmin(axis=1)
    return labels


def nearest_by_torch(rows: npt.NDArray[Any], centres: Floats, device: str) -> Labels:
    """Return the number of the nearest centre of each row, computed by torch on a device."""
    torch = torch_library()
    middle = centres.mean(axis=0)
    near = torch.from_numpy((centres - middle).astype(np.float32)).to(device)
    offset = torch.from_numpy(middle.astype(np.float32)).to(device)
    norms, turned = (near * near).sum(dim=1), near.T.contiguous()
    labels: Labels = np.empty(len(rows), np.intp)
    # A device's memory holds far larger blocks than a core's cache, and likes them.
    step = max(1, (1 << 27) // len(centres))
    for start in range(0, len(rows), step):
        part = torch.tensor(rows[start : start + step], device=device) - offset
        scores = torch.addmm(norms, part, turned, alpha=-2)
        labels[start : start + step] = scores.argmin(dim=1).cpu().numpy()
    return labels


def product(left: Any, right: Any, device: Device = CPU) -> Floats:
    """Return left @ right in double precision as an array; either may be sparse.

    On a CUDA device torch multiplies two arrays; with a sparse matrix the CPU does.
    """
    if device.kind == "cuda" and not (is_csr(left) or is_csr(right)):
        return product_by_torch(left, right, str(device))
    return as_array(left @ right)


def product_by_torch(left: Floats, right: Floats, device: str) -> Floats:
    """Return left @ right of two arrays, computed by torch on a device."""
    torch = torch_library()
    # A copy, also of what is turned or must not be written to.
    sides = [torch.tensor(np.ascontiguousarray(side), device=device) for side in (left, right)]
    found: Floats = (sides[0] @ sides[1]).cpu().numpy()
    return found


def squared(rows: Any, centres: Floats, labels: Labels) -> Floats:
    """Return the squared distance of each row to the centre of its label, in double precision."""
    out: Floats = np.empty(rows.shape[0])
    if is_csr(rows):
        norms = np.einsum("ij,ij->i", centres, centres)
        for block in blocks(rows.shape[0], rows.shape[1]):
            part, own = rows[block].astype(np.float64), labels[block]
            at = np.repeat(own, np.diff(part.indptr))
            # Only where the row has a number does x differ from 0: (x - c)² - c² there, + |c|².
            change = part.data * (part.data - 2 * centres[at, part.indices])
            added = np.bincount(_row_numbers(part), change, minlength=len(own))
            out[block] = np.maximum(added + norms[own], 0)
        return out
    for block in blocks(len(rows), rows.shape[1]):
        away = rows[block] - centres[labels[block]]
        out[block] = np.einsum("ij,ij->i", away, away)
    return out


def sums(rows: Any, labels: Labels, count: int) -> Floats:
    """Return the sum of the rows of each of `count` labels, (count, d), in double precision."""
    n = rows.shape[0]
    library = scipy_sparse()
    # One row of ones and zeros per label; the products add up in the rows' order.
    chosen = library.csr_matrix((np.ones(n), labels, np.arange(n + 1)), shape=(n, count)).T
    return as_array(chosen @ rows)


def torch_library() -> Any:
    """Import torch, late: the CPU does without it.

    Raises:
        LibraryMissing: it is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise LibraryMissing(
            "a CUDA device needs torch: pip install 'featureline[training]'",
            library="torch",
            extra="training",
        ) from error
    return torch


def _lowest(scores: Floats, size: Floats) -> Labels:
    """Return where each row is smallest, the first of those that differ by rounding alone."""
    best = scores.min(axis=1, keepdims=True)
    found: Labels = (scores <= best + _TIE * size).argmax(axis=1)
    return found


def _norms(rows: Any) -> Floats:
    norms = np.bincount(_row_numbers(rows), rows.data**2, minlength=rows.shape[0])
    return norms.astype(np.float64)


def _row_numbers(rows: Any) -> npt.NDArray[np.intp]:
    """Return the row of each stored number of a CSR matrix."""
    return np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
