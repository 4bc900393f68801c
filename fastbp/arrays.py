"""Arrays as kernels want them: rows that are contiguous, and results of the right layout."""

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Axes = tuple[int, ...]


def rows_of(x: Array, axes: Axes) -> Array:
    """x (…) as (n_rows, n_columns), each row the values along `axes`, contiguous.

    A view of x wherever its strides allow one, else a copy.
    """
    first = x.ndim - len(axes)
    flags = x.flags
    if flags.c_contiguous and flags.aligned and (not axes or axes[0] == first):
        if first == 1 and x.ndim == 2:
            return x
        return x.reshape(math.prod(x.shape[:first]), math.prod(x.shape[first:]))
    moved = np.moveaxis(x, axes, range(-len(axes), 0)) if axes else x
    n_columns = math.prod(x.shape[a] for a in axes)
    n_rows = math.prod(n for a, n in enumerate(x.shape) if a not in axes)
    rows = moved.reshape(n_rows, n_columns)
    contiguous = rows.strides[1] == rows.itemsize or n_columns <= 1
    return rows if contiguous and rows.flags.aligned else np.array(rows, order="C")


def rows_to_write(out: Array, axes: Axes) -> Array:
    """Rows into which a kernel may write the result; `put_back` then brings them to `out`."""
    rows = rows_of(out, axes)
    if rows is out or np.may_share_memory(rows, out):
        return rows
    return np.empty(rows.shape, rows.dtype)


def put_back(rows: Array, out: Array, axes: Axes) -> Array:
    """Return `out` with the rows in it, copying them if `rows` was no view of it."""
    if rows is not out and not np.may_share_memory(rows, out):
        moved = np.moveaxis(out, axes, range(-len(axes), 0)) if axes else out
        moved[...] = rows.reshape(moved.shape)
    return out


def in_one_order(arrays: list[Array]) -> bool:
    """Whether all of them lie in memory without gaps and in the same order of elements."""
    flags = [a.flags for a in arrays]
    if not all(f.aligned for f in flags):
        return False
    return all(f.c_contiguous for f in flags) or all(f.f_contiguous for f in flags)
