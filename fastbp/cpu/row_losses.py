"""What the kernels of softmax cross-entropy share: which rows count, and what changes the logits.

There are three of them: `label_losses`, for a label in each row; `target_losses`, for probabilities
of all classes; `index_losses`, for those of a few, and for smoothed labels of weighted classes.

What changes the logits first, temperature and soft cap, is a pass of its own, from the row to room
that is borrowed for it; then the room takes the row's place, and after a soft cap a last pass
brings the gradient back through it. Options that are not given are None, which is known while
compiling, and leave no trace in a kernel.

Kernels hand pointers to their functions, not arrays: Numba counts references to arrays, with an
atomic instruction that takes as long as a row of ten numbers.
"""

from typing import Any

import numpy as np

from ..elementary import split, widen
from ..formulas.logits import capped, capped_backward, capped_pair, over, ratio, tempered
from ..formulas.softmax import add_pairs
from .rows import (
    map_row,
    map_two_rows,
    row_max,
)
from .vectors import Number, Pointer, number, row

Array = np.ndarray[Any, Any]

NAN = float("nan")
# What `label_to_use` says of a row without a label.
IGNORED, BAD = -1, -2


# About so many logits are in a block of rows, and there are no more blocks.
BLOCK, MOST_BLOCKS = 8192, 256


def blocks_of_rows(n_rows: int, size: int) -> tuple[int, int]:
    """Rows in a block, and blocks; by the shape alone, for a loss is the sum of its blocks'."""
    n_blocks = max(1, min(MOST_BLOCKS, size // BLOCK))
    block = -(-n_rows // n_blocks) or 1
    return block, -(-n_rows // block)


# which rows count ---------------------------------------------------------------------------------


def count_rows(
    first: int, last: int, n_classes: int, indices: Array, class_weight: Array,
    sample_weight: Array, ignore: int, has_ignore: bool,
) -> tuple[int, float]:  # fmt: skip
    """(first row with a bad index or -1, Σ weights of the good ones that are not ignored)."""
    bad, good, s, s_lo = -1, 0, 0.0, 0.0
    count = indices.shape[1]
    for i in range(first, last):
        k = index_to_use(row(indices, i), count, n_classes, ignore, has_ignore, True)
        if k == IGNORED:
            continue
        if k == BAD:
            bad = i if bad < 0 else bad
            continue
        good += 1
        if class_weight.size or sample_weight.size:
            w = class_weight[k] if class_weight.size else 1.0
            if sample_weight.size:
                w *= sample_weight[i]
            s, s_lo = add_pairs(s, s_lo, w, 0.0, w)
    if class_weight.size or sample_weight.size:
        return bad, s + s_lo
    return bad, float(good)


def index_to_use(
    indices: Pointer, count: int, n_classes: int, ignore: int, has_ignore: int, bad_is_nan: int
) -> Any:
    """The first of a row's indices, or 0 if it has none; or what is wrong with one of them."""
    found = 0
    for j in range(count):
        k = label_to_use(indices[j], n_classes, ignore, has_ignore, bad_is_nan)
        if k < 0:
            return k
        if j == 0:
            found = k
    return found


def label_to_use(label: int, n_classes: int, ignore: int, has_ignore: int, bad_is_nan: int) -> Any:
    """The label; or IGNORED, or BAD, which are negative."""
    k: Any = np.int64(label)
    if has_ignore and k == ignore:
        return IGNORED
    if k < 0 or k >= n_classes:
        return BAD if bad_is_nan else IGNORED
    return k


# temperature and soft cap -------------------------------------------------------------------------


def alone(x: Any) -> Any:
    """(x,), or None if x is: a GPU has pairs where a CPU has one number, a float64."""
    if x is None:
        return None
    return (x,)


_temper = map_row(tempered)
_cap = map_row(capped)
_cap_backward = map_two_rows(capped_backward)


def transform(
    x: Pointer, z: Pointer, n: int, softcap: Any, temperature: tuple[Number, ...]
) -> tuple[Number, Number]:
    """z_j = softcap·tanh(x_j / softcap) / temperature, or x_j / temperature without a cap.

    All less what the row's maximum becomes, which is returned, as a float64 pair.
    """
    like = number(x, 0)
    m = row_max(x, n)
    if softcap is None:
        r, r_lo = split(*over(1.0, *temperature), like)
        _temper(x, z, n, (m, r, r_lo))
        return over(widen(m), *temperature)
    r, r_lo = split(*over(2.0, *softcap), like)
    cap, cap_lo = split(*ratio(*softcap, *temperature), like)
    m, m_lo = capped_pair(m, r, r_lo, cap, cap_lo)
    _cap(x, z, n, (m, m_lo, r, r_lo, cap, cap_lo))
    return add_pairs(widen(m), widen(m_lo), 0.0, 0.0, widen(m))


def transform_backward(
    dz: Pointer, x: Pointer, dx: Pointer, n: int, softcap: tuple[Number, ...]
) -> None:
    """dx_j = dz_j·(1 - tanh²(x_j / softcap)); the temperature is in dz already."""
    _cap_backward(dz, x, dx, n, split(*over(2.0, *softcap), number(x, 0)))
