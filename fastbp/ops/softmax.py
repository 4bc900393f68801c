"""softmax, log_softmax, logsumexp and their backward passes.

Each is computed along `axis`: the values along it, a row, are reduced to a few numbers, from which
and from the row the result is mapped. With m = max x and e_j = exp(x_j - m), a row's total is
Σ e = 1 + s, where s leaves one maximum out.

Source: shifted by the maximum as in Blanchard, Higham and Higham, "Accurately computing the
log-sum-exp and softmax functions", IMA J. Numer. Anal. 41 (2021), equations 3.8 and 4.2; that x - m
is not rounded, and that s is kept apart from the 1, is fastbp's.
"""

from typing import Any

from numpy.typing import ArrayLike

from ..arrays import Array, put_back, rows_of, rows_to_write, views_of
from ..checks import as_axes, as_values, like_first, out_or_new, same_shape
from ..cpu.backward_rows import (
    dot_by_maximum,
    shifted_dot,
    sums_of_log_softmax,
    sums_of_long_log_softmax,
    value_at_max,
)
from ..cpu.origins import when_huge, when_long
from ..cpu.panels import spread_panels
from ..cpu.quick_rows import quick_exp_sum, quick_exp_total, scale_quickly
from ..cpu.row_kernels import (
    each_row_in_groups,
    each_row_to_number,
    each_row_to_number_where,
    each_row_where,
    each_row_with_two_numbers,
    each_two_rows,
)
from ..cpu.rows import (
    exp_sum,
    exp_total,
    exp_total_only,
    map_row,
    not_kept,
    of_exponentials,
    of_row,
    row_max,
    scale_row,
    total_of_row,
    totals_of_row,
)
from ..cpu.vectors import Number, Pointer
from ..cuda.arrays import is_on_device
from ..elementary import INFINITY, split
from ..formulas.softmax import (
    log_beside_maximum,
    log_softmax as log_softmax_formula,
    log_softmax_backward as log_softmax_backward_formula,
    log_softmax_quickly,
    log_total,
    logsumexp as logsumexp_formula,
    logsumexp_backward as logsumexp_backward_formula,
    logsumexp_of_row,
    reciprocal,
    reciprocal_of_one_more,
    reciprocal_of_row,
    softmax as softmax_formula,
    softmax_backward as softmax_backward_formula,
    sums_of_dy,
)
from .calls import (
    Axis,
    launch_rows,
    map_one,
    map_rows_where,
    map_two,
    on_gpu,
    reduce_rows_of_one,
    reduce_rows_where,
)


def softmax(
    x: ArrayLike, axis: Axis = -1, *, where: ArrayLike | None = None, out: Array | None = None
) -> Array:
    """Softmax along an axis: y_j = exp(x_j) / Σ exp(x).

    Parameters
    ----------
    x : array_like
        Values of any shape; float32, float64, float16 or bfloat16, integers and bools become
        float64.
    axis : int, tuple of ints or None
        The axes over which a row's sum runs; None is the whole array.
    where : array_like of bool, optional
        Broadcasts to x. Where it is false, x is not seen and the result is 0.
    out : ndarray, optional
        Where to write the result, of x's shape and dtype; it may be x.

    Returns
    -------
    ndarray
        Shaped as x, of its dtype; every row sums to 1.

    Raises
    ------
    TypeError
        If x is complex, an object, a string or of another float type, or out has another dtype.
    ValueError
        If axis or out's shape does not fit, or out overlaps x partly.

    Notes
    -----
    Within 2 ULP of the exact value, subnormal results included, whatever the offset of x; of 16
    bits, which are computed in float32, within 0.501 ULP. A row with a NaN or a +inf, or of -inf
    alone, is NaN; -inf among numbers gives exactly 0.

    Examples
    --------
    >>> fastbp.softmax([1.0, 2.0, 3.0]).round(4)
    array([0.09  , 0.2447, 0.6652])
    """
    if where is None:
        y: Array = map_one(softmax_rows, x, out, softmax_rows_of_16_bits, axis, True)
        return y
    return map_rows_where(softmax_rows_where, x, where, axis, out)


def softmax_row(x: Pointer, e: Pointer, y: Pointer, n: int) -> None:
    """y_j = e_j / Σ e."""
    m = row_max(x, n)
    _scale(x, e, y, n, reciprocal(m, *exp_sum(x, e, n, m, n)))


_scale = of_exponentials(scale_row)
softmax_rows = each_row_in_groups(exp_sum, reciprocal, _scale)
softmax_rows_of_16_bits = each_row_in_groups(
    quick_exp_sum, reciprocal, of_exponentials(scale_quickly)
)
# Of a row too long for a GPU's chip, exponentials are computed twice rather than kept.
_softmax_again = not_kept(exp_sum), reciprocal_of_row, of_row(map_row(softmax_formula))
_of_ranges = total_of_row, reciprocal_of_one_more, map_row(softmax_formula), 3
for _kernel in (softmax_rows, softmax_rows_of_16_bits):
    when_long(_kernel, "each_row_in_groups", *_softmax_again)
    when_huge(_kernel, "totals", *_of_ranges)
softmax_rows_where = each_row_where(softmax_row, 0.0)


def softmax_backward(
    dy: ArrayLike, y: ArrayLike, axis: Axis = -1, *, out: Array | None = None
) -> Array:
    """Gradient of softmax from its output: dx = y ∘ (dy - Σ dy∘y).

    Parameters
    ----------
    dy : array_like
        Gradient by y; decides the dtype.
    y : array_like
        What `softmax` returned, shaped as dy.
    axis : int, tuple of ints or None
        As it was given to `softmax`.
    out : ndarray, optional
        Where to write the result, of dy's shape and dtype; it may be dy.

    Returns
    -------
    ndarray
        dx, shaped as dy.

    Raises
    ------
    TypeError, ValueError
        As `softmax`; and if y is not shaped as dy.

    Notes
    -----
    Within 5 eps of the row's largest entry, of 16 bits within 0.501. As Σ y = 1, dy may be shifted,
    and is by its value where y is largest, so that confident rows lose nothing: y (1 - y) is 0
    where y rounds to 1. Where several y are the largest, the shift may be that of any, and the
    error is that of Σ y = 1: within 6 eps, of 16 bits within 1.

    Examples
    --------
    >>> fastbp.softmax_backward([1.0, 0.0], [0.5, 0.5])
    array([ 0.25, -0.25])
    """
    dx: Array = map_two(softmax_backward_rows, dy, y, "dy y", out, axis, True)
    return dx


# From so many columns on, the second traversal that is saved outweighs the longer end of the first.
LONG = 256


def sums_of_short(dy: Pointer, y: Pointer, n: int) -> tuple[Number, Number, Number]:
    """(c, Σ y (dy - c) as a pair), c being dy at the largest y."""
    shift = value_at_max(y, dy, n)
    dot, dot_lo = shifted_dot(dy, y, n, shift)
    return shift, *split(dot, dot_lo, shift)


def sums_of_long(dy: Pointer, y: Pointer, n: int) -> tuple[Number, Number, Number]:
    """The same of rows that are in no tile."""
    if n < LONG:
        return sums_of_short(dy, y, n)
    shift, dot, dot_lo = dot_by_maximum(dy, y, n)
    return shift, *split(dot, dot_lo, shift)


softmax_backward_rows = each_two_rows(sums_of_short, sums_of_long, softmax_backward_formula)
when_huge(softmax_backward_rows, "dots", softmax_backward_formula)


def log_softmax(
    x: ArrayLike, axis: Axis = -1, *, where: ArrayLike | None = None, out: Array | None = None
) -> Array:
    """Logarithm of softmax along an axis: y_j = x_j - log Σ exp(x).

    Parameters
    ----------
    x : array_like
        Values of any shape; float32, float64, float16 or bfloat16, integers and bools become
        float64.
    axis : int, tuple of ints or None
        The axes over which a row's sum runs; None is the whole array.
    where : array_like of bool, optional
        Broadcasts to x. Where it is false, x is not seen and the result is -inf.
    out : ndarray, optional
        Where to write the result, of x's shape and dtype; it may be x.

    Returns
    -------
    ndarray
        Shaped as x, of its dtype.

    Raises
    ------
    TypeError, ValueError
        As `softmax`.

    Notes
    -----
    Within 2 ULP, of 16 bits within 0.501, the tiny logarithm of a probability near 1 included.
    Special values as `softmax`; -inf among numbers gives -inf.

    Examples
    --------
    >>> fastbp.log_softmax([0.0, 40.0])
    array([-4.00000000e+01, -4.24835426e-18])
    """
    if where is None:
        y: Array = map_one(log_softmax_rows, x, out, log_softmax_rows_of_16_bits, axis, True)
        return y
    return map_rows_where(log_softmax_rows_where, x, where, axis, out)


def log_softmax_row(x: Pointer, e: Pointer, y: Pointer, n: int) -> None:
    """y_j = x_j - (m + log(1 + s))."""
    m = row_max(x, n)
    _log_softmax(x, e, y, n, log_total(m, *exp_total(x, None, n, m, n)))


_log_softmax = of_row(map_row(log_softmax_formula))
log_softmax_rows = each_row_in_groups(exp_total_only, log_total, _log_softmax)
log_softmax_rows_of_16_bits = each_row_in_groups(
    not_kept(quick_exp_total), log_beside_maximum, of_row(map_row(log_softmax_quickly))
)
when_huge(log_softmax_rows, "totals", total_of_row, log_total, map_row(log_softmax_formula), 2)
when_huge(
    log_softmax_rows_of_16_bits, "totals", totals_of_row(quick_exp_total), log_beside_maximum,
    map_row(log_softmax_quickly), 2,
)  # fmt: skip
log_softmax_rows_where = each_row_where(log_softmax_row, -INFINITY)


def log_softmax_backward(
    dy: ArrayLike, y: ArrayLike, axis: Axis = -1, *, out: Array | None = None
) -> Array:
    """Gradient of log_softmax from its output: dx = dy - exp(y) Σ dy.

    Parameters
    ----------
    dy : array_like
        Gradient by y; decides the dtype.
    y : array_like
        What `log_softmax` returned, shaped as dy.
    axis : int, tuple of ints or None
        As it was given to `log_softmax`.
    out : ndarray, optional
        Where to write the result, of dy's shape and dtype; it may be dy.

    Returns
    -------
    ndarray
        dx, shaped as dy.

    Raises
    ------
    TypeError, ValueError
        As `softmax`; and if y is not shaped as dy.

    Notes
    -----
    Within 5 eps of the row's largest entry, of 16 bits within 0.501; a column whose probability
    exceeds 1/2 is computed from 1 - exp(y), without cancellation.

    Examples
    --------
    >>> fastbp.log_softmax_backward([1.0, 0.0], fastbp.log_softmax([0.0, 0.0]))
    array([ 0.5, -0.5])
    """
    dx: Array = map_two(log_softmax_backward_rows, dy, y, "dy y", out, axis, True)
    return dx


log_softmax_backward_rows = each_two_rows(
    sums_of_log_softmax, sums_of_long_log_softmax, log_softmax_backward_formula
)
when_huge(log_softmax_backward_rows, "likely_sums", sums_of_dy, log_softmax_backward_formula)


def logsumexp(
    x: ArrayLike,
    axis: Axis = -1,
    *,
    where: ArrayLike | None = None,
    keepdims: bool = False,
    out: Array | None = None,
) -> Any:
    """Logarithm of a sum of exponentials along an axis: log Σ exp(x).

    Parameters
    ----------
    x : array_like
        Values of any shape; float32, float64, float16 or bfloat16, integers and bools become
        float64.
    axis : int, tuple of ints or None
        The axes that are summed over; None is the whole array.
    where : array_like of bool, optional
        Broadcasts to x. Where it is false, x is not seen.
    keepdims : bool
        Keep the axes summed over, with length 1.
    out : ndarray, optional
        Where to write the result, of its shape and x's dtype.

    Returns
    -------
    ndarray or number
        Shaped as x without `axis`, of x's dtype.

    Raises
    ------
    TypeError, ValueError
        As `softmax`; also if out overlaps x.

    Notes
    -----
    Within 2 ULP of max(|m|, log Σ exp(x - m)), m = max x; of 16 bits within 0.501 ULP of that or of
    the result, whichever is larger. A row with a NaN is NaN, else one with a +inf is +inf; a row of
    -inf alone, or of nothing, is -inf.

    Examples
    --------
    >>> fastbp.logsumexp([[1000.0, 1000.0], [0.0, -1000.0]])
    array([1000.69314718,    0.        ])
    """
    if where is None:
        return reduce_rows_of_one(logsumexp_rows, x, axis, keepdims, out)
    return reduce_rows_where(logsumexp_rows_where, x, where, axis, keepdims, out)


def logsumexp_row(x: Pointer, n: int) -> Number:
    """y = m + log(1 + s)."""
    m = row_max(x, n)
    return logsumexp_of_row(m, *exp_total(x, None, n, m, n))


logsumexp_rows = each_row_to_number(not_kept(exp_total), logsumexp_of_row)
when_huge(logsumexp_rows, "number_of_totals", total_of_row, logsumexp_formula)
logsumexp_rows_where = each_row_to_number_where(logsumexp_row)


def logsumexp_backward(
    dy: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    axis: Axis = -1,
    *,
    keepdims: bool = False,
    out: Array | None = None,
) -> Array:
    """Gradient of logsumexp: dx = dy · exp(x - y), that is dy · softmax(x).

    Parameters
    ----------
    dy : array_like
        Gradient by y, shaped as y; decides the dtype.
    x : array_like
        What `logsumexp` was given.
    y : array_like
        What it returned.
    axis, keepdims
        As they were given to `logsumexp`.
    out : ndarray, optional
        Where to write the result, of x's shape and dy's dtype.

    Returns
    -------
    ndarray
        dx, shaped as x.

    Raises
    ------
    TypeError, ValueError
        As `softmax`; and if dy or y is not shaped as logsumexp's result.

    Notes
    -----
    Within 2 ULP for the y given, of 16 bits within 0.501; that y is rounded changes all of a row by
    up to |y| eps / 2.

    Examples
    --------
    >>> fastbp.logsumexp_backward(1.0, [0.0, 0.0], np.log(2.0))
    array([0.5, 0.5])
    """
    if is_on_device(dy):
        arrays = {"dy": dy, "x": x, "y": y}
        compute = on_gpu().rows_with_two_numbers
        dx: Array = compute(logsumexp_backward_rows, arrays, axis, keepdims, out)
        return dx
    dy = as_values(dy, "dy")
    x = like_first(x, "x", dy)
    y = like_first(y, "y", dy)
    axes = as_axes(axis, x.ndim, "x")
    kept = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    shape = kept if keepdims else tuple(n for a, n in enumerate(x.shape) if a not in axes)
    same_shape(dy, "dy", shape, "logsumexp's result")
    same_shape(y, "y", shape, "logsumexp's result")
    result = out_or_new(out, {"x": x, "dy": dy, "y": y})
    rows, dx = views_of([x, result], axes) or (rows_of(x, axes), rows_to_write(result, axes))
    per_row = y.reshape(-1, 1), dy.reshape(-1, 1)
    launch_rows(logsumexp_backward_rows, spread_panels, rows, *per_row, rows, dx)
    return put_back(dx, result, axes)


logsumexp_backward_rows = each_row_with_two_numbers(map_row(logsumexp_backward_formula))
