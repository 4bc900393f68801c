"""softmax, log_softmax, logsumexp."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .arrays import (
    Array,
    Axis,
    as_float,
    broadcast,
    check_shape,
    from_rows,
    quiet,
    result,
    row_sum,
    shape_of_row_values,
    to_rows,
)

# --- rows (n_rows, n_columns): the pieces of softmax ------------------------------------------


def first_largest(a: Array) -> Array:
    """Mask of one largest entry in each row (the first; the first NaN where there is one)."""
    mask = np.zeros(a.shape, bool)
    if a.size:
        mask[np.arange(a.shape[0]), np.argmax(a, axis=1)] = True
    return mask


def others(a: Array) -> Array:
    """Sum of the *other* columns' entries, for every column.

    total - a_j is harmless (at least half the total, if all have one sign) except for the largest
    entry; there, the others are added up by themselves.
    """
    largest = first_largest(np.abs(a))
    rest = row_sum(np.where(largest, 0, a))
    total = rest + row_sum(np.where(largest, a, 0))
    return np.where(largest, rest, total - a)


def shifted(x: Array) -> tuple[Array, Array]:
    """m (n_rows, 1) and d = x - m; d is NaN in rows that have no softmax."""
    m = np.max(x, axis=1, keepdims=True, initial=-np.inf)
    return m, np.where(np.isfinite(m), x - m, np.nan)


def exp_and_rest(d: Array) -> tuple[Array, Array]:
    """e = exp(d), and s (n_rows, 1) = sum of e but for one maximum, whose e is 1."""
    e = np.exp(d)
    return e, row_sum(np.where(first_largest(d), 0, e))


def _unmasked(x: Array, where: ArrayLike | None) -> tuple[Array, Array]:
    """x with -inf for what is masked, which adds nothing to a row; and where that is, as a mask."""
    if where is None:
        return x, np.zeros(x.shape, bool)
    mask = np.asarray(where)
    if mask.dtype != np.bool_:
        raise TypeError(f"where must be of bools, got dtype {mask.dtype}")
    masked = ~broadcast(mask, x.shape, "where")
    return np.where(masked, -np.inf, x), masked


# --- softmax and its relatives ----------------------------------------------------------------


@quiet
def softmax(
    x: ArrayLike, axis: Axis = -1, *, where: ArrayLike | None = None, out: Array | None = None
) -> Array:
    """softmax(x)_j = e_j / S, shaped as x.

    where : bools that broadcast to x. Entries where it is false are not read: the others have the
    results of a row without these, and they themselves 0, in rows that are NaN too.
    """
    x, masked = _unmasked(as_float(x, "x"), where)
    _, d = shifted(to_rows(x, axis))
    e, s = exp_and_rest(d)
    return result(np.where(masked, 0, from_rows(e / (1 + s), x, axis)), out)


@quiet
def softmax_backward(
    dy: ArrayLike, y: ArrayLike, axis: Axis = -1, *, out: Array | None = None
) -> Array:
    """dx = y * (dy - sum(dy * y)), with y the result of softmax.

    Because y sums to 1, a constant c taken from every dy_j of a row changes nothing. With c = dy at
    the row's largest y, nothing is lost where that y is close to 1 and dx close to 0.
    """
    dy = as_float(dy, "dy")
    y = as_float(y, "y", dy.dtype)
    check_shape(y, dy.shape, "y")
    dy_rows, y_rows = to_rows(dy, axis), to_rows(y, axis)
    c = row_sum(np.where(first_largest(y_rows), dy_rows, 0))
    difference = dy_rows - c
    dx = y_rows * (difference - row_sum(y_rows * difference))
    return result(from_rows(dx, dy, axis), out)


@quiet
def log_softmax(
    x: ArrayLike, axis: Axis = -1, *, where: ArrayLike | None = None, out: Array | None = None
) -> Array:
    """log softmax(x)_j = d_j - log1p(s), shaped as x: both terms are <= 0 and cannot cancel.

    where : as in `softmax`; the results of entries where it is false are -inf.
    """
    x, masked = _unmasked(as_float(x, "x"), where)
    _, d = shifted(to_rows(x, axis))
    _, s = exp_and_rest(d)
    return result(np.where(masked, -np.inf, from_rows(d - np.log1p(s), x, axis)), out)


@quiet
def log_softmax_backward(
    dy: ArrayLike, y: ArrayLike, axis: Axis = -1, *, out: Array | None = None
) -> Array:
    """dx_j = dy_j - exp(y_j) * sum_i dy_i, with y the result of log_softmax.

    In the column with probability exp(y_j) > 1/2, if there is one, dy_j cancels against its own
    share of the sum; there dx_j = dy_j * (1 - exp(y_j)) - exp(y_j) * sum_{i != j} dy_i.
    """
    dy = as_float(dy, "dy")
    y = as_float(y, "y", dy.dtype)
    check_shape(y, dy.shape, "y")
    dy_rows, y_rows = to_rows(dy, axis), to_rows(y, axis)
    p = np.exp(y_rows)
    likeliest = first_largest(y_rows)
    rest = row_sum(np.where(likeliest, 0, dy_rows))
    dx = np.where(
        likeliest & (p > 0.5),
        dy_rows * -np.expm1(y_rows) - p * rest,
        dy_rows - p * row_sum(dy_rows),
    )
    return result(from_rows(dx, dy, axis), out)


@quiet
def logsumexp(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    where: ArrayLike | None = None,
    keepdims: bool = False,
    out: Array | None = None,
) -> Array:
    """log sum_j exp(x_j) = m + log1p(s), one value per row; an infinite m is the limit itself.

    where : bools that broadcast to x; what is false is left out of the sum and not read.
    """
    x, _ = _unmasked(as_float(x, "x"), where)
    m, d = shifted(to_rows(x, axis))
    _, s = exp_and_rest(d)
    lse = np.where(np.isinf(m), m, m + np.log1p(s))
    return result(lse.reshape(shape_of_row_values(x, axis, keepdims)), out)


@quiet
def logsumexp_backward(
    dy: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    axis: Axis = -1,
    *,
    keepdims: bool = False,
    out: Array | None = None,
) -> Array:
    """dx = dy * exp(x - y), shaped as x; dy and y are shaped as logsumexp's result."""
    dy = as_float(dy, "dy")
    x, y = as_float(x, "x", dy.dtype), as_float(y, "y", dy.dtype)
    shape = shape_of_row_values(x, axis, keepdims)
    check_shape(dy, shape, "dy")
    check_shape(y, shape, "y")
    dx = dy.reshape(-1, 1) * np.exp(to_rows(x, axis) - y.reshape(-1, 1))
    return result(from_rows(dx, x, axis), out)
