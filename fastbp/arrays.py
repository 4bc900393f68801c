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
    rows = rows_in(x, axes)
    if rows is not None:
        return rows
    others = tuple(a for a in range(x.ndim) if a not in axes)
    rows = np.array(x.transpose(others + axes), order="C")
    return rows.reshape(_shape_of_rows(x, axes))


def rows_in(x: Array, axes: Axes) -> Array | None:
    """The same as a view of x; None if its strides allow none."""
    first = x.ndim - len(axes)
    flags = x.flags
    if flags.c_contiguous and flags.aligned and (not axes or axes[0] == first):
        if first == 1 and x.ndim == 2:
            return x
        return x.reshape(math.prod(x.shape[:first]), math.prod(x.shape[first:]))
    rows = _grouped(x, tuple(a for a in range(x.ndim) if a not in axes), axes)
    if rows is None or (rows.shape[1] > 1 and rows.strides[1] != rows.itemsize):
        return None
    return rows


def panels_in(x: Array, axes: Axes) -> Array | None:
    """x as a view (outer, n, inner), row o·inner + c being x[o, :, c]; None if there is none."""
    if not axes:
        return None
    before = tuple(range(axes[0]))
    after = tuple(a for a in range(axes[0], x.ndim) if a not in axes)
    return _grouped(x, before, axes, after)


def _shape_of_rows(x: Array, axes: Axes) -> tuple[int, int]:
    n_columns = math.prod(x.shape[a] for a in axes)
    return math.prod(n for a, n in enumerate(x.shape) if a not in axes), n_columns


def _grouped(x: Array, *groups: Axes) -> Array | None:
    """A view of x that has an axis for each group of axes; None if there is none."""
    if not (x.size and x.flags.aligned):
        return None
    for group in groups:
        step = None
        for a in reversed(group):
            if x.shape[a] > 1:
                if step is not None and x.strides[a] != step:
                    return None
                step = x.strides[a] * x.shape[a]
    shape = [math.prod(x.shape[a] for a in group) for group in groups]
    return x.transpose([a for group in groups for a in group]).reshape(shape)


def views_of(arrays: list[Array], axes: Axes) -> list[Array] | None:
    """All of them as rows, if all are rows already; else as panels; None if that is not possible.

    Rows of the same number in all of them belong together.
    """
    for view in (rows_in, panels_in):
        views = [view(array, axes) for array in arrays]
        if all(v is not None for v in views):
            return views  # type: ignore[return-value]
    return None


def rows_to_write(out: Array, axes: Axes) -> Array:
    """Rows into which a kernel may write the result; `put_back` then brings them to `out`."""
    rows = rows_in(out, axes)
    return np.empty(_shape_of_rows(out, axes), out.dtype) if rows is None else rows


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
