"""Arrays as columns of a table of embeddings, and back."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def binary(digests: np.ndarray) -> pa.Array:
    """(N,) S32 as an Arrow array of 32 bytes each: numpy itself would drop zeros at the end."""
    content = pa.py_buffer(np.ascontiguousarray(digests, dtype="S32").tobytes())
    return pa.Array.from_buffers(pa.binary(32), len(digests), [None, content])


def lists(matrix: np.ndarray, kind: pa.DataType) -> pa.Array:
    """(N, D) float32 as an Arrow array of lists of D."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(matrix).reshape(-1)), type=kind)


def matrix(lists: pa.ChunkedArray) -> np.ndarray:
    """The same, back: (N, D) float32."""
    flat = lists.combine_chunks()
    return flat.flatten().to_numpy(zero_copy_only=False).reshape(len(flat), lists.type.list_size)
