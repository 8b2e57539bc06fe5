"""A small problem without labels: three round heaps of rows, some of them named."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import scipy.sparse

from training.inputs import SIZE_KEY

__all__ = ["CENTRES", "make_blobs", "sparse_vectors", "vectors"]

CENTRES = np.array([[0.0, 0.0, 5.0], [8.0, 1.0, -5.0], [-2.0, 9.0, 0.0]])


def make_blobs(rows: int, *, seed: int) -> pa.Table:
    """Rows around three centres, a column per dimension, and which heap each comes from."""
    random = np.random.default_rng(seed)
    heap = random.integers(0, 3, rows)
    points = CENTRES[heap] + random.normal(0, 1, (rows, 3))
    names = np.array(["west", "east", "north"])
    return pa.table(
        {
            "length": pa.array(points[:, 0]),
            "width": pa.array(points[:, 1].astype(np.float32)),
            "weight": pa.array(points[:, 2]),
            "side": pa.array(names[heap]),
        }
    )


def vectors(points: np.ndarray, **more: pa.Array) -> pa.Table:
    """Rows as one column of vectors, `features`, and further columns before it."""
    flat = pa.array(np.ascontiguousarray(points, dtype=np.float32).ravel())
    return pa.table({**more, "features": pa.FixedSizeListArray.from_arrays(flat, points.shape[1])})


def sparse_vectors(points: np.ndarray, **more: pa.Array) -> pa.Table:
    """The same rows as one column of sparse vectors, `features`."""
    rows = scipy.sparse.csr_matrix(points.astype(np.float32))
    offsets = pa.array(rows.indptr, pa.int32())
    column = pa.StructArray.from_arrays(
        [
            pa.ListArray.from_arrays(offsets, pa.array(rows.indices)),
            pa.ListArray.from_arrays(offsets, pa.array(rows.data)),
        ],
        ["indices", "values"],
    )
    size = {SIZE_KEY: str(points.shape[1]).encode()}
    fields = [pa.field(name, array.type) for name, array in more.items()]
    fields.append(pa.field("features", column.type, metadata=size))
    return pa.table([*more.values(), column], schema=pa.schema(fields))
