"""Indices that k-NN searches: every vector, or the lists near to a query; as faiss writes them.

An index without lists is searched by faiss where that is installed, else by one product of matrices
and a partial sort, which torch does on a CUDA device. Both read the same file.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from training.algorithms.distance import torch_library
from training.device import CPU, Device
from training.errors import LibraryMissing, ModelAltered

__all__ = ["FlatIndex", "Index", "ListIndex", "faiss_library", "has_faiss", "read_index", "threads"]

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]

L2: Final = "L2"
INNER: Final = "INNER_PRODUCT"

# How faiss begins the file of an index without lists: by its metric.
_FLAT: Final = {b"IxF2": L2, b"IxFI": INNER}
_HEADER: Final = struct.Struct("<4sIqqqBiQ")
_UNUSED: Final = 1 << 20
_METRIC: Final = {L2: 1, INNER: 0}
_POINTS: Final = 1 << 14
_CELLS: Final = 1 << 22


class Index(ABC):
    """Vectors that can be searched.

    Attributes:
        metric: `L2` or `INNER_PRODUCT`.
        width: numbers of a vector.
        count: how many vectors there are.
    """

    metric: str
    width: int
    count: int

    @abstractmethod
    def search(self, queries: Floats, k: int) -> tuple[Floats, Numbers]:
        """Return the distances (n, k) of each query's nearest vectors, from the nearest on, and
        their numbers.

        A distance is the squared Euclidean one, or minus the inner product.

        Args:
            queries: n vectors, row-major.
            k: how many to find, at most `count`.
        """

    @abstractmethod
    def vectors(self) -> Floats | None:
        """Return the vectors in their order; None where only codes are kept."""

    @abstractmethod
    def to_bytes(self) -> bytes:
        """Return the index as faiss writes it."""


@final
class FlatIndex(Index):
    """Every vector, compared with every query: exact.

    Args:
        vectors: n vectors, row-major.
        metric: `L2` or `INNER_PRODUCT`.
        device: where to search; on the CPU by faiss where it is installed.
        with_faiss: whether faiss may search.
    """

    def __init__(
        self, vectors: Floats, metric: str, *, device: Device = CPU, with_faiss: bool = True
    ) -> None:
        self.metric = metric
        self.count, self.width = vectors.shape
        self._vectors = vectors
        self._device = device
        # Seen from their mean distances stay, and numbers far from zero do not cancel out.
        self._middle = np.zeros(self.width, np.float32)
        if metric == L2:
            self._middle = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        moved = np.ascontiguousarray(vectors - self._middle) if self._middle.any() else vectors
        self._moved: Floats = moved
        self._faiss: Any = None
        if with_faiss and device.kind == "cpu" and has_faiss():
            faiss = faiss_library()
            kind = faiss.METRIC_L2 if metric == L2 else faiss.METRIC_INNER_PRODUCT
            self._faiss = faiss.IndexFlat(self.width, kind)
            self._faiss.add(moved)
            # faiss keeps a copy of its own.
            self._moved = vectors

    def search(self, queries: Floats, k: int) -> tuple[Floats, Numbers]:
        """Find the nearest vectors."""
        if self._middle.any():
            queries = queries - self._middle
        if self._faiss is not None:
            distances, numbers = self._faiss.search(queries, k)
            return (distances if self.metric == L2 else -distances), numbers
        if self._device.kind == "cuda":
            return searched_by_torch(self._moved, queries, k, self.metric, str(self._device))
        return searched(self._moved, queries, k, self.metric)

    def vectors(self) -> Floats:
        """Return the vectors."""
        return self._vectors

    def to_bytes(self) -> bytes:
        """Return the index as faiss writes it, also without faiss."""
        fourcc = b"IxF2" if self.metric == L2 else b"IxFI"
        head = _HEADER.pack(
            fourcc,
            self.width,
            self.count,
            _UNUSED,
            _UNUSED,
            1,
            _METRIC[self.metric],
            self._vectors.size,
        )
        return head + np.ascontiguousarray(self._vectors, "<f4").tobytes()


@final
class ListIndex(Index):
    """Vectors in lists by their nearest centre; a query looks into the nearest lists. By faiss.

    Args:
        index: faiss' `IndexIVFFlat` or `IndexIVFPQ`.
    """

    def __init__(self, index: Any) -> None:
        faiss = faiss_library()
        self.index = index
        self.metric = L2 if index.metric_type == faiss.METRIC_L2 else INNER
        self.width, self.count = int(index.d), int(index.ntotal)

    def search(self, queries: Floats, k: int) -> tuple[Floats, Numbers]:
        """Find the nearest vectors of the nearest lists; of all, where those have too few."""
        distances, numbers = self.index.search(queries, k)
        few = np.flatnonzero((numbers < 0).any(axis=1))
        if len(few):
            every = faiss_library().SearchParametersIVF(nprobe=self.index.nlist)
            found = self.index.search(np.ascontiguousarray(queries[few]), k, params=every)
            distances[few], numbers[few] = found
        return (distances if self.metric == L2 else -distances), numbers

    def vectors(self) -> Floats | None:
        """Return the vectors; None where product quantisation keeps only codes."""
        if hasattr(self.index, "pq"):
            return None
        faiss = faiss_library()
        self.index.make_direct_map()
        found: Floats = self.index.reconstruct_n(0, self.count)
        self.index.set_direct_map_type(faiss.DirectMap.NoMap)
        return found

    def to_bytes(self) -> bytes:
        """Return the index as faiss writes it."""
        return bytes(faiss_library().serialize_index(self.index).tobytes())


def read_index(data: bytes, *, path: str, device: Device = CPU) -> Index:
    """Read what `to_bytes` of an index returned.

    Raises:
        ModelAltered: it is no such file.
        LibraryMissing: it has lists, and faiss is not installed.
    """
    if data[:4] not in _FLAT:
        faiss = faiss_library()
        try:
            return ListIndex(faiss.deserialize_index(np.frombuffer(data, np.uint8)))
        except RuntimeError as error:
            raise ModelAltered(
                f"{path}: faiss cannot read this index: {error}", path=path
            ) from None
    try:
        fourcc, width, count, *_, size = _HEADER.unpack_from(data)
        if size != width * count or len(data) != _HEADER.size + 4 * size:
            raise ValueError(f"{count} vectors of {width} numbers in {len(data)} bytes")
    except (struct.error, ValueError) as error:
        raise ModelAltered(f"{path}: expected an index of faiss: {error}", path=path) from None
    vectors = np.frombuffer(data, "<f4", offset=_HEADER.size).reshape(count, width)
    return FlatIndex(vectors, _FLAT[fourcc], device=device)


def searched(points: Floats, queries: Floats, k: int, metric: str) -> tuple[Floats, Numbers]:
    """Return distances and numbers of the k nearest points, with NumPy alone; ties by number."""
    n = len(queries)
    distances, numbers = np.empty((n, k), np.float32), np.empty((n, k), np.int64)
    step = max(16, _CELLS // min(_POINTS, len(points)))
    for start in range(0, n, step):
        part = queries[start : start + step]
        best = np.empty((len(part), 0), np.float32)
        best_at = np.empty((len(part), 0), np.int64)
        for first in range(0, len(points), _POINTS):
            block = points[first : first + _POINTS]
            scores = part @ block.T
            if metric == L2:
                scores *= -2
                scores += np.einsum("ij,ij->i", block, block)
            else:
                np.negative(scores, out=scores)
            at = np.broadcast_to(np.arange(first, first + len(block)), scores.shape)
            scores = np.concatenate([best, scores], axis=1)
            at = np.concatenate([best_at, at], axis=1)
            if scores.shape[1] > k:
                kept = np.argpartition(scores, k - 1, axis=1)[:, :k]
                scores = np.take_along_axis(scores, kept, axis=1)
                at = np.take_along_axis(at, kept, axis=1)
            best, best_at = scores, at
        if metric == L2:
            away = points[best_at] - part[:, None]
            best = np.einsum("ijk,ijk->ij", away, away)
        order = np.lexsort((best_at, best), axis=1)
        distances[start : start + step] = np.take_along_axis(best, order, axis=1)
        numbers[start : start + step] = np.take_along_axis(best_at, order, axis=1)
    return distances, numbers


def searched_by_torch(
    points: Floats, queries: Floats, k: int, metric: str, device: str
) -> tuple[Floats, Numbers]:
    """Return distances and numbers of the k nearest points, computed by torch on a device."""
    torch = torch_library()
    there = torch.tensor(points, device=device)
    norms = (there * there).sum(dim=1)
    found = []
    step = max(1, (1 << 27) // len(points))
    for start in range(0, len(queries), step):
        part = torch.tensor(queries[start : start + step], device=device)
        scores = part @ there.T
        scores = norms - 2 * scores if metric == L2 else -scores
        best, at = scores.topk(k, dim=1, largest=False, sorted=True)
        if metric == L2:
            away = there[at] - part[:, None]
            best, order = (away * away).sum(dim=2).sort(dim=1, stable=True)
            at = at.gather(1, order)
        found.append((best.cpu().numpy(), at.cpu().numpy()))
    if not found:
        return np.empty((0, k), np.float32), np.empty((0, k), np.int64)
    return np.concatenate([best for best, _ in found]), np.concatenate([at for _, at in found])


def has_faiss() -> bool:
    """Whether faiss can be imported."""
    try:
        faiss_library()
    except LibraryMissing:
        return False
    return True


def faiss_library() -> Any:
    """Import faiss, late: exact search does without it.

    Raises:
        LibraryMissing: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise LibraryMissing(
            "k-NN with index_type=faiss.IVFFlat or faiss.IVFPQ needs faiss: pip install "
            "'featureline[training]'",
            library="faiss",
            extra="training",
        ) from error
    return faiss


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let faiss use so many threads, and leave its setting as it was."""
    if not has_faiss():
        yield
        return
    faiss = faiss_library()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
