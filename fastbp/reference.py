"""Every operation of fastbp in plain NumPy: the specification that all kernels are tested against.

Names, arguments and defaults are those of ``fastbp``. This module imports nothing of it.

- Everything is computed and returned in float64, whatever the input's dtype. Only a first argument
  of ``numpy.longdouble`` is computed and returned in long double, which on x86-64 gives tests of
  float64 kernels an oracle of 80 bits.
- Speed and memory do not matter here, cancellation does: no formula subtracts two nearly equal
  numbers that were themselves rounded, so confident rows keep their relative precision.
- Row functions see their input as ``(n_rows, n_columns)``, the columns being the elements along
  ``axis``. Within a row, m is the maximum, d_j = x_j - m, e_j = exp(d_j), and S = 1 + s the sum of
  all e, where s leaves out *one* maximum, whose e is 1. So log S = log1p(s), precise for small s
  too (Blanchard, Higham and Higham, "Accurately computing the log-sum-exp and softmax functions",
  IMA J. Numer. Anal. 41, 2021).
- A row with a NaN, with +inf or with nothing but -inf has no softmax: its m is not finite and its
  results are NaN. Only logsumexp has a limit at the infinities: +inf and -inf.
- ``out`` receives the result, converted to its dtype, and is returned. It may be an input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "linear", "linear_backward", "log_sigmoid", "log_sigmoid_backward", "log_softmax",
    "log_softmax_backward", "logsumexp", "logsumexp_backward", "sigmoid", "sigmoid_backward",
    "softmax", "softmax_backward", "softmax_cross_entropy", "softmax_cross_entropy_backward",
    "softmax_cross_entropy_with_grad",
]  # fmt: skip

Array = NDArray[Any]
Axis = int | Sequence[int] | None

# Every public function runs under this: infinities and NaNs are results here, not accidents.
_quiet = np.errstate(all="ignore")


# --- arrays -----------------------------------------------------------------------------------


def _as_float(a: ArrayLike, name: str, dtype: Any = None) -> Array:
    """`a` in the computing precision: `dtype` if given, else longdouble or float64."""
    array = np.asarray(a)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    if dtype is None:
        dtype = np.longdouble if array.dtype == np.longdouble else np.float64
    return array.astype(dtype)


def _result(result: Array, out: Array | None) -> Array:
    """Hand `result` back, in `out` if there is one; 0-d results are scalars, as NumPy's own are."""
    if out is None:
        return np.asarray(result)[()]
    if out.shape != result.shape:
        raise ValueError(f"out must have shape {result.shape}, got {out.shape}")
    out[...] = result
    return out


def _check_shape(a: Array, shape: tuple[int, ...], name: str) -> None:
    if a.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {a.shape}")


def _check_choice(value: str, choices: tuple[str, ...], name: str) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}")


def _columns_last(x: Array, axis: Axis) -> tuple[Array, tuple[int, ...], int]:
    """x with the axes of its rows moved to the end; these axes; the number of the others."""
    if axis is None:
        axes = tuple(range(x.ndim))
    else:
        axes = tuple(axis) if isinstance(axis, Sequence) else (axis,)
    return np.moveaxis(x, axes, tuple(range(-len(axes), 0))), axes, x.ndim - len(axes)


def _rows(x: Array, axis: Axis) -> Array:
    """x as (n_rows, n_columns)."""
    moved, _, n = _columns_last(x, axis)
    return moved.reshape(math.prod(moved.shape[:n]), math.prod(moved.shape[n:]))


def _unrows(rows: Array, like: Array, axis: Axis) -> Array:
    """The inverse of `_rows`: (n_rows, n_columns) in the shape of `like`."""
    moved, axes, _ = _columns_last(like, axis)
    return np.moveaxis(rows.reshape(moved.shape), tuple(range(-len(axes), 0)), axes)


def _shape_of_row_values(x: Array, axis: Axis, keepdims: bool = False) -> tuple[int, ...]:
    """The shape of an array that holds one value for each row of x."""
    moved, axes, n = _columns_last(x, axis)
    kept = moved.shape[:n]
    return np.expand_dims(np.empty(kept), axes).shape if keepdims else kept


# --- rows (n_rows, n_columns): the pieces of softmax ------------------------------------------


def _first_largest(a: Array) -> Array:
    """Mask of one largest entry in each row (the first; the first NaN where there is one)."""
    mask = np.zeros(a.shape, bool)
    if a.size:
        mask[np.arange(a.shape[0]), np.argmax(a, axis=1)] = True
    return mask


def _sum(a: Array) -> Array:
    """Row sums, as a column."""
    return np.asarray(np.sum(a, axis=1, keepdims=True))


def _others(a: Array) -> Array:
    """Sum of the *other* columns' entries, for every column.

    total - a_j is harmless (at least half the total, if all have one sign) except for the largest
    entry; there, the others are added up by themselves.
    """
    largest = _first_largest(np.abs(a))
    rest = _sum(np.where(largest, 0, a))
    total = rest + _sum(np.where(largest, a, 0))
    return np.where(largest, rest, total - a)


def _shift(x: Array) -> tuple[Array, Array, Array, Array]:
    """m (n_rows, 1), d = x - m, e = exp(d), and s (n_rows, 1) = sum of e but for one maximum."""
    m = np.max(x, axis=1, keepdims=True, initial=-np.inf)
    d = np.where(np.isfinite(m), x - m, np.nan)
    e = np.exp(d)
    s = _sum(np.where(_first_largest(x), 0, e))
    return m, d, e, s


# --- softmax and its relatives ----------------------------------------------------------------


@_quiet
def softmax(x: ArrayLike, axis: Axis = -1, *, out: Array | None = None) -> Array:
    """softmax(x)_j = e_j / S, shaped as x."""
    x = _as_float(x, "x")
    _, _, e, s = _shift(_rows(x, axis))
    return _result(_unrows(e / (1 + s), x, axis), out)


@_quiet
def softmax_backward(
    dy: ArrayLike, y: ArrayLike, axis: Axis = -1, *, out: Array | None = None
) -> Array:
    """dx = y * (dy - sum(dy * y)), with y the result of softmax.

    Because y sums to 1, a constant c taken from every dy_j of a row changes nothing. With c = dy at
    the row's largest y, nothing is lost where that y is close to 1 and dx close to 0.
    """
    dy = _as_float(dy, "dy")
    y = _as_float(y, "y", dy.dtype)
    _check_shape(y, dy.shape, "y")
    dy_rows, y_rows = _rows(dy, axis), _rows(y, axis)
    c = _sum(np.where(_first_largest(y_rows), dy_rows, 0))
    shifted = dy_rows - c
    return _result(_unrows(y_rows * (shifted - _sum(y_rows * shifted)), dy, axis), out)


@_quiet
def log_softmax(x: ArrayLike, axis: Axis = -1, *, out: Array | None = None) -> Array:
    """log softmax(x)_j = d_j - log1p(s), shaped as x: both terms are <= 0 and cannot cancel."""
    x = _as_float(x, "x")
    _, d, _, s = _shift(_rows(x, axis))
    return _result(_unrows(d - np.log1p(s), x, axis), out)


@_quiet
def log_softmax_backward(
    dy: ArrayLike, y: ArrayLike, axis: Axis = -1, *, out: Array | None = None
) -> Array:
    """dx_j = dy_j - exp(y_j) * sum_i dy_i, with y the result of log_softmax.

    In the column with probability exp(y_j) > 1/2, if there is one, dy_j cancels against its own
    share of the sum; there dx_j = dy_j * (1 - exp(y_j)) - exp(y_j) * sum_{i != j} dy_i.
    """
    dy = _as_float(dy, "dy")
    y = _as_float(y, "y", dy.dtype)
    _check_shape(y, dy.shape, "y")
    dy_rows, y_rows = _rows(dy, axis), _rows(y, axis)
    p = np.exp(y_rows)
    likeliest = _first_largest(y_rows)
    others = _sum(np.where(likeliest, 0, dy_rows))
    dx = np.where(
        likeliest & (p > 0.5),
        dy_rows * -np.expm1(y_rows) - p * others,
        dy_rows - p * _sum(dy_rows),
    )
    return _result(_unrows(dx, dy, axis), out)


@_quiet
def logsumexp(
    x: ArrayLike, axis: Axis = -1, *, keepdims: bool = False, out: Array | None = None
) -> Array:
    """log sum_j exp(x_j) = m + log1p(s), one value per row; an infinite m is the limit itself."""
    x = _as_float(x, "x")
    m, _, _, s = _shift(_rows(x, axis))
    lse = np.where(np.isinf(m), m, m + np.log1p(s))
    return _result(lse.reshape(_shape_of_row_values(x, axis, keepdims)), out)


@_quiet
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
    dy = _as_float(dy, "dy")
    x, y = _as_float(x, "x", dy.dtype), _as_float(y, "y", dy.dtype)
    shape = _shape_of_row_values(x, axis, keepdims)
    _check_shape(dy, shape, "dy")
    _check_shape(y, shape, "y")
    dx = dy.reshape(-1, 1) * np.exp(_rows(x, axis) - y.reshape(-1, 1))
    return _result(_unrows(dx, x, axis), out)


# --- sigmoid ----------------------------------------------------------------------------------


def _sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), written so that the exponential is at most 1 and small results stay."""
    z = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, z, 1) / (1 + z))


@_quiet
def sigmoid(x: ArrayLike, *, out: Array | None = None) -> Array:
    """1 / (1 + exp(-x)); for x < 0 as z / (1 + z) with z = exp(x)."""
    return _result(_sigmoid(_as_float(x, "x")), out)


@_quiet
def sigmoid_backward(
    dy: ArrayLike,
    y: ArrayLike | None = None,
    *,
    x: ArrayLike | None = None,
    out: Array | None = None,
) -> Array:
    """dx = dy * y * (1 - y) from y; dy * z / (1 + z)^2, z = exp(-|x|), exact in both tails, from x.

    Exactly one of y = sigmoid(x) and x is given.
    """
    dy = _as_float(dy, "dy")
    if y is not None and x is None:
        saved = _as_float(y, "y", dy.dtype)
        slope = saved * (1 - saved)
    elif x is not None and y is None:
        saved = _as_float(x, "x", dy.dtype)
        z = np.exp(-np.abs(saved))
        slope = z / (1 + z) ** 2
    else:
        raise TypeError("sigmoid_backward takes exactly one of y and x")
    _check_shape(saved, dy.shape, "y" if x is None else "x")
    return _result(dy * slope, out)


@_quiet
def log_sigmoid(x: ArrayLike, *, out: Array | None = None) -> Array:
    """log sigmoid(x) = -(max(-x, 0) + log1p(exp(-|x|))): two terms of one sign; -0.0 at +inf."""
    x = _as_float(x, "x")
    return _result(-(np.maximum(-x, 0) + np.log1p(np.exp(-np.abs(x)))), out)


@_quiet
def log_sigmoid_backward(dy: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Array:
    """dx = dy * sigmoid(-x)."""
    dy = _as_float(dy, "dy")
    x = _as_float(x, "x", dy.dtype)
    _check_shape(x, dy.shape, "x")
    return _result(dy * _sigmoid(-x), out)


# --- linear -----------------------------------------------------------------------------------


def _weight_in_out(weight: ArrayLike, weight_layout: str, dtype: Any) -> Array:
    """The weight as (n_in, n_out), whichever way it is stored."""
    _check_choice(weight_layout, ("in_out", "out_in"), "weight_layout")
    w = _as_float(weight, "weight", dtype)
    if w.ndim != 2:
        raise ValueError(f"weight must have 2 dimensions, got shape {w.shape}")
    return w if weight_layout == "in_out" else w.T


@_quiet
def linear(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, *, weight_layout: str = "in_out"
) -> Array:
    """y = x W + b: x (..., n_in), W (n_in, n_out), b (n_out,), y (..., n_out).

    With ``weight_layout="out_in"`` the weight is stored as (n_out, n_in) and y = x W^T + b.
    """
    x = _as_float(x, "x")
    w = _weight_in_out(weight, weight_layout, x.dtype)
    _check_shape(x, (*x.shape[:-1], w.shape[0]), "x")
    y = x @ w
    if bias is not None:
        b = _as_float(bias, "bias", x.dtype)
        _check_shape(b, (w.shape[1],), "bias")
        y = y + b
    return _result(np.asarray(y), None)


@_quiet
def linear_backward(
    dy: ArrayLike, x: ArrayLike, weight: ArrayLike, *, weight_layout: str = "in_out"
) -> tuple[Array, Array, Array]:
    """(dx, dweight, dbias) = (dy W^T, x^T dy, sum of dy's rows); dweight is stored as weight is."""
    dy = _as_float(dy, "dy")
    x = _as_float(x, "x", dy.dtype)
    w = _weight_in_out(weight, weight_layout, dy.dtype)
    _check_shape(x, (*x.shape[:-1], w.shape[0]), "x")
    _check_shape(dy, (*x.shape[:-1], w.shape[1]), "dy")
    n_rows = math.prod(x.shape[:-1])
    x_rows, dy_rows = x.reshape(n_rows, w.shape[0]), dy.reshape(n_rows, w.shape[1])
    dweight = x_rows.T @ dy_rows
    if weight_layout == "out_in":
        dweight = dweight.T
    return dy @ w.T, dweight, np.asarray(np.sum(dy_rows, axis=0))


# --- softmax cross-entropy --------------------------------------------------------------------


def _rows_of_loss(x: Array, u: Array) -> tuple[Array, Array]:
    """Loss (n_rows, 1) and gradient (n_rows, n_columns) of sum_c u_c * (lse(x) - x_c).

    With U = sum_c u_c, loss = U log1p(s) + sum_c u_c (m - x_c), where 0 * inf = 0, and
    gradient_j = p_j U - u_j = (e_j (U - u_j) - u_j (S - e_j)) / S, both brackets being sums over
    the other columns. For a label k of weight 1 that is p_j for j != k, and -(sum of the other e)/S
    at k: not p_k - 1, which is 0 once p_k rounds to 1.
    """
    m, _, e, s = _shift(x)
    # Where m - x_c overflows, its half does not, and u_c may bring the product back into range.
    gap = np.where(np.isinf(m - x), 2 * (u * (m / 2 - x / 2)), u * (m - x))
    loss = _sum(u) * np.log1p(s) + _sum(np.where(u == 0, 0, gap))
    gradient = (e * _others(u) - u * _others(e)) / (1 + s)
    # A row that has no softmax has no loss, even if every target in it is 0.
    exists = np.isfinite(m)
    return np.where(exists, loss, np.nan), np.where(exists, gradient, np.nan)


def _check_labels(
    labels: Array, n_columns: int, ignore_index: int | None, on_bad_label: str
) -> tuple[Array, Array]:
    """Masks of the ignored and of the bad rows; raises for a bad label if so asked.

    A label equal to `ignore_index` is ignored even where it would be a class.
    """
    ignored = np.zeros(labels.shape, bool) if ignore_index is None else labels == ignore_index
    bad = ~ignored & ((labels < 0) | (labels >= n_columns))
    if on_bad_label == "ignore":
        return ignored | bad, np.zeros_like(bad)
    if on_bad_label == "raise" and np.any(bad):
        row = np.unravel_index(int(np.argmax(bad)), labels.shape)
        raise IndexError(
            f"targets[{', '.join(str(i) for i in row)}] is {labels[row]}: "
            f"labels must lie in [0, {n_columns}) or equal ignore_index ({ignore_index})"
        )
    return ignored, bad


def _cross_entropy(
    dloss: ArrayLike | None,
    logits: ArrayLike,
    targets: ArrayLike,
    axis: int,
    class_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    ignore_index: int | None,
    label_smoothing: float,
    reduction: str,
    empty: str,
    on_bad_label: str,
) -> tuple[Array, Array]:
    """The loss, and the gradient of dloss * loss (None: of the loss), of the functions below."""
    _check_choice(reduction, ("none", "sum", "mean"), "reduction")
    _check_choice(empty, ("nan", "zero"), "empty")
    _check_choice(on_bad_label, ("raise", "nan", "ignore"), "on_bad_label")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must lie in [0, 1], got {label_smoothing}")
    logits = _as_float(logits, "logits")
    dtype = logits.dtype
    shape = _shape_of_row_values(logits, axis)  # of the labels
    x = _rows(logits, axis)
    n_rows, n_columns = x.shape
    if n_rows and not n_columns:
        raise ValueError(f"logits of shape {logits.shape} have no classes along axis {axis}")

    def weights(a: ArrayLike | None, name: str, shape: tuple[int, ...]) -> Array:
        weight = _as_float(np.ones(shape) if a is None else a, name, dtype)
        _check_shape(weight, shape, name)
        return weight

    of_class = weights(class_weight, "class_weight", (n_columns,))
    of_row = weights(sample_weight, "sample_weight", shape).reshape(n_rows, 1)

    # Targets t (n_rows, n_columns), and what each row adds to the denominator of the mean.
    targets = np.asarray(targets)
    ignored = bad = np.zeros((n_rows, 1), bool)
    if targets.dtype.kind in "iu":
        _check_shape(targets, shape, "targets (integers, so labels)")
        masks = _check_labels(targets, n_columns, ignore_index, on_bad_label)
        ignored, bad = (mask.reshape(n_rows, 1) for mask in masks)
        t = (targets.reshape(n_rows, 1) == np.arange(n_columns)).astype(dtype)
        share = np.where(ignored | bad, 0, of_row * _sum(t * of_class))
    elif targets.dtype.kind == "f":
        _check_shape(targets, logits.shape, "targets (floats, so probabilities)")
        t = _rows(targets.astype(dtype), axis)
        share = of_row
    else:
        raise TypeError(
            "targets must be labels (integers) or probabilities (floats), "
            f"got dtype {targets.dtype}"
        )

    # Smoothing over all C classes and before class weights: torch.nn.functional.cross_entropy.
    eps = dtype.type(label_smoothing)
    u = of_row * of_class * ((1 - eps) * t + eps / max(n_columns, 1))
    u = np.where(bad, np.nan, np.where(ignored, 0, u))
    x = np.where(bad | ignored, 0, x)  # the logits of these rows are not read
    loss, gradient = _rows_of_loss(x, u)

    loss = loss.reshape(shape)[()] if reduction == "none" else np.sum(loss)
    if reduction == "mean":
        denominator = np.sum(share)
        if denominator != 0:
            loss, gradient = loss / denominator, gradient / denominator
        else:  # `empty` stands for 0/0; rows that are NaN stay NaN
            loss = loss * np.nan if empty == "nan" or np.isnan(loss) else dtype.type(0)
            gradient = np.where(np.isnan(gradient), np.nan, 0)

    if dloss is not None:
        dloss = _as_float(dloss, "dloss", dtype)
        _check_shape(dloss, loss.shape, "dloss")
        dloss = dloss.reshape(-1, 1)  # a column or, of a reduced loss, (1, 1)
        gradient = np.where(ignored, 0, dloss * gradient)
    return loss, _unrows(gradient, logits, axis)


@_quiet
def softmax_cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    axis: int = -1,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    empty: str = "nan",
    on_bad_label: str = "raise",
) -> Array:
    """Cross-entropy of softmax(logits) with labels or probabilities.

    A row's loss is sum_c u_c * (logsumexp(x) - x_c), where q = (1 - eps) * t + eps / C are its
    smoothed targets, t being one-hot for a label, and u_c = sample_weight * class_weight_c * q_c.

    Parameters
    ----------
    logits : floats; the C classes lie along `axis`
    targets : integers shaped as logits without `axis` (labels), or floats shaped as logits
        (probabilities, which need not sum to 1)
    class_weight : (C,)
    sample_weight : shaped as the labels
    ignore_index : rows with this label are not read; their loss and gradient are 0
    label_smoothing : eps, in [0, 1]
    reduction : "none" (shaped as the labels), "sum", or "mean": the sum divided by the sum, with
        labels, of class_weight[label] * sample_weight over the rows that are not ignored, and with
        probabilities, of sample_weight over all rows
    empty : the mean where that denominator is 0: NaN ("nan") or 0 ("zero"). Its gradient is 0
    on_bad_label : what a label outside [0, C) does: an IndexError ("raise"); that row's loss and
        gradient are NaN, and it does not enter the denominator ("nan"); the row is ignored
        ("ignore")
    """
    return _cross_entropy(
        None, logits, targets, axis, class_weight, sample_weight, ignore_index,
        label_smoothing, reduction, empty, on_bad_label,
    )[0]  # fmt: skip


@_quiet
def softmax_cross_entropy_with_grad(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    axis: int = -1,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    empty: str = "nan",
    on_bad_label: str = "raise",
    out: Array | None = None,
) -> tuple[Array, Array]:
    """(loss, dlogits): `softmax_cross_entropy` and its gradient, which is shaped as logits.

    Row by row, dlogits_j = p_j * sum_c u_c - u_j, divided by the denominator of the mean. With
    reduction "none" each row has the gradient of its own loss.
    """
    loss, dlogits = _cross_entropy(
        None, logits, targets, axis, class_weight, sample_weight, ignore_index,
        label_smoothing, reduction, empty, on_bad_label,
    )  # fmt: skip
    return loss, _result(dlogits, out)


@_quiet
def softmax_cross_entropy_backward(
    dloss: ArrayLike,
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    axis: int = -1,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    empty: str = "nan",
    on_bad_label: str = "raise",
    out: Array | None = None,
) -> Array:
    """dlogits of dloss * `softmax_cross_entropy`; dloss is shaped as that loss."""
    _, dlogits = _cross_entropy(
        dloss, logits, targets, axis, class_weight, sample_weight, ignore_index,
        label_smoothing, reduction, empty, on_bad_label,
    )  # fmt: skip
    return _result(dlogits, out)
