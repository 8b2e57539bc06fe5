"""Indices of lists for k-NN: how many, how wide their codes are, into how many a query looks.

Sources: Jégou, Douze and Schmid, "Product quantization for nearest neighbor search", PAMI 2011, for
lists with codes; Johnson, Douze and Jégou, "Billion-scale similarity search with GPUs", 2017, for
faiss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from training.algorithms.tabular.knn_index import L2, FlatIndex, ListIndex, faiss_library
from training.errors import InvalidData, InvalidHyperparameter, TrainingStopped
from training.run import Run

__all__ = ["PROBED_ROWS", "Lists", "check", "sampled"]

PROBED_ROWS: Final = 256

# How wide the numbers of a code may be, and how many points each of their values should have in
# training: faiss asks for that, and with fewer takes minutes over it.
_BITS: Final = (8, 6, 4)
_POINTS: Final = 39
_COVERED: Final = 0.98

Floats = npt.NDArray[np.float32]


@final
@dataclass(frozen=True, kw_only=True)
class Lists:
    """How an index of lists is built.

    Attributes:
        lists: how many; None: the root of the vectors.
        code: into how many numbers a vector is coded; None: it is kept.
        probes: into how many lists a query looks; None: as many as hold nearly all neighbours.
        neighbours: how many a query asks for.
        batch: how many vectors are added at once.
    """

    lists: int | None
    code: int | None
    probes: int | None
    neighbours: int
    batch: int

    def built(self, vectors: Floats, metric: str, run: Run) -> ListIndex:
        """Return the index of n vectors.

        Raises:
            LibraryMissing: faiss is not installed.
            InvalidHyperparameter: there are more lists than vectors, or more probes than lists.
            InvalidData: there are too few vectors for codes.
            TrainingStopped: the run asked to stop.
        """
        faiss = faiss_library()
        n, width = vectors.shape
        lists = self.lists or max(1, round(float(np.sqrt(n))))
        if lists > n:
            raise _refused(
                f"faiss_index_ivf_nlists: {lists} lists need as many rows, and {n} are kept"
            )
        kind = faiss.METRIC_L2 if metric == L2 else faiss.METRIC_INNER_PRODUCT
        coarse = faiss.IndexFlat(width, kind)
        if self.code is None:
            index = faiss.IndexIVFFlat(coarse, width, lists, kind)
        else:
            index = faiss.IndexIVFPQ(coarse, width, lists, self.code, _bits(n, run), kind)
            index.pq.cp.min_points_per_centroid = 1
            index.pq.cp.seed = 1 + run.seed % (1 << 30)
        # What faiss would warn of on standard error is in the log.
        index.cp.min_points_per_centroid = 1
        index.cp.seed = 1 + run.seed % (1 << 30)
        index.train(vectors)
        for start in range(0, n, self.batch):
            check(run, f"vector {start} of {n} was added")
            index.add(vectors[start : start + self.batch])
        index.nprobe = self._probed(index, vectors, metric, run)
        run.sink.log(f"{lists} lists, of which a query looks into {index.nprobe}")
        run.sink.property("lists", lists)
        run.sink.property("nprobe", int(index.nprobe))
        return ListIndex(index)

    def _probed(self, index: Any, vectors: Floats, metric: str, run: Run) -> int:
        """Choose how many lists hold nearly all neighbours of some of the vectors."""
        lists = int(index.nlist)
        if self.probes is not None:
            if self.probes > lists:
                raise _refused(f"nprobe: expected at most the {lists} lists, got {self.probes}")
            return self.probes
        asked = sampled(len(vectors), PROBED_ROWS, np.random.default_rng([run.seed, 2]))
        k = min(self.neighbours + 1, len(vectors))
        _, numbers = FlatIndex(vectors, metric).search(vectors[asked], k)
        own = index.quantizer.search(vectors, 1)[1][:, 0]
        _, near = index.quantizer.search(vectors[asked], lists)
        rank = np.empty_like(near)
        np.put_along_axis(rank, near, np.broadcast_to(np.arange(lists), near.shape), axis=1)
        # The row itself is not a neighbour that a query could miss.
        others = numbers != asked[:, None]
        ranks = np.take_along_axis(rank, own[numbers], axis=1)[others]
        return 1 + int(np.quantile(ranks, _COVERED, method="higher")) if len(ranks) else 1


def sampled(count: int, size: int, random: np.random.Generator) -> npt.NDArray[np.intp]:
    """Return the numbers of `size` of `count` rows in order, each sample as likely as any other.

    Each row draws a number, and the smallest are kept: a reservoir that several workers fill for
    themselves and merge by keeping the smallest again (Efraimidis and Spirakis 2006).

    >>> sampled(5, 9, np.random.default_rng(0)).tolist()
    [0, 1, 2, 3, 4]
    """
    if size >= count:
        return np.arange(count)
    return np.sort(np.argpartition(random.random(count), size)[:size])


def check(run: Run, what: str) -> None:
    """Stop when the run asks to.

    Args:
        run: the fit's run.
        what: what had been done, for the message.

    Raises:
        TrainingStopped: it does.
    """
    if run.should_stop():
        raise TrainingStopped(f"stopped when {what}")


def _bits(n: int, run: Run) -> int:
    """Choose how many bits each number of a code has: as many as the rows can train."""
    bits = next((b for b in _BITS if n >= _POINTS << b), _BITS[-1])
    if n < 1 << bits:
        raise InvalidData(
            f"train: knn: index_type=faiss.IVFPQ needs {1 << bits} rows to train its codes, and "
            f"there are {n}; use faiss.Flat",
            channel="train",
        )
    if bits != _BITS[0]:
        run.sink.log(
            f"codes of {bits} bits a number instead of {_BITS[0]}: {n} rows are fewer than the "
            f"{_POINTS << _BITS[0]} that would train those"
        )
    run.sink.property("pq_bits", bits)
    return bits


def _refused(message: str) -> InvalidHyperparameter:
    name = message.partition(":")[0]
    return InvalidHyperparameter(f"knn: {message}", algorithm="knn", names=[name])
