"""Gradients and diagonals of Hessians for boosted trees, row by row: nothing is reduced."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float, broadcast, check_choice, check_shape, is_float, quiet, result
from .sigmoid import sigmoid_of, slope_of
from .softmax import exp_and_rest, others, shifted
from .softmax_cross_entropy import rows_of_loss
from .targets import first_bad


def _classes(labels: Array, n_columns: int) -> Array:
    """Labels as a column of integers; both libraries hand them over as floats."""
    if labels.dtype.kind not in "iu" and not is_float(labels.dtype):
        raise TypeError(f"labels must be integers or integral floats, got dtype {labels.dtype}")
    bad = ~((labels >= 0) & (labels < n_columns) & (labels == np.floor(labels)))
    if np.any(bad):
        place, value = first_bad(labels, bad)
        if np.isinf(value) or value != np.floor(value):
            raise ValueError(f"labels[{place}] is {value}: labels must be integral")
        raise IndexError(f"labels[{place}] is {value}: labels must lie in [0, {n_columns})")
    return labels.astype(np.intp).reshape(-1, 1)


@quiet
def softmax_cross_entropy_grad_hess(
    margins: ArrayLike,
    labels: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    hessian: str = "exact",
    layout: str = "rows",
) -> tuple[Array, Array]:
    """(grad, hess) of each row's weighted softmax cross-entropy, both laid out as margins.

    With p = softmax(margins) and w = sample_weight, grad = (p - onehot) w. Of the Hessian, hess is
    the diagonal h = p (1 - p) w ("exact"), max(2 h, 1e-16) ("xgboost") or K / (K - 1) h
    ("lightgbm"; for one class, h). 1 - p is taken as the sum of the other classes.

    Parameters
    ----------
    margins : (n, K); or with layout "classes" flat, (K n), class c of row i at c n + i
    labels : (n,) integers or integral floats in [0, K)
    sample_weight : (n,)
    """
    check_choice(hessian, ("exact", "xgboost", "lightgbm"), "hessian")
    check_choice(layout, ("rows", "classes"), "layout")
    x = as_float(margins, "margins")
    given = np.asarray(labels)
    if given.ndim != 1:
        raise ValueError(f"labels must have 1 dimension, got shape {given.shape}")
    n = len(given)
    flat = layout == "classes" and x.ndim == 1
    if flat:
        if x.size % n if n else x.size:
            raise ValueError(f"margins must have K values for each of {n} rows, got {x.size}")
        x = x.reshape(x.size // max(n, 1), n).T
    elif x.ndim != 2 or len(x) != n:
        raise ValueError(f"margins must have shape ({n}, K), got {x.shape}")
    n_columns = x.shape[1]
    if n and not n_columns:
        raise ValueError(f"margins of shape {x.shape} have no classes")
    w = as_float(np.ones(n) if sample_weight is None else sample_weight, "sample_weight", x.dtype)
    check_shape(w, (n,), "sample_weight")
    w = w.reshape(n, 1)

    _, grad = rows_of_loss(x, w * (_classes(given, n_columns) == np.arange(n_columns)))
    e, s = exp_and_rest(shifted(x)[1])
    hess = (e / (1 + s)) * (others(e) / (1 + s)) * w
    if hessian == "xgboost":
        hess = np.maximum(2 * hess, 1e-16)
    elif hessian == "lightgbm":
        hess = n_columns / x.dtype.type(max(n_columns - 1, 1)) * hess
    if flat:
        grad, hess = grad.T.reshape(-1), hess.T.reshape(-1)
    return grad, hess


@quiet
def sigmoid_cross_entropy_grad_hess(
    margins: ArrayLike, labels: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> tuple[Array, Array]:
    """(grad, hess) of each element's weighted sigmoid cross-entropy, both shaped as margins.

    With y = labels and w = sample_weight, grad = (sigmoid(x) - y) w, written as
    ((1 - y) sigmoid(x) - y sigmoid(-x)) w, and hess = sigmoid(x) sigmoid(-x) w.

    Parameters
    ----------
    margins : (n,), or of any shape
    labels : shaped as margins: 0, 1, or anything between
    sample_weight : broadcasts to margins
    """
    x = as_float(margins, "margins")
    y = as_float(labels, "labels", x.dtype)
    check_shape(y, x.shape, "labels")
    outside = ~((y >= 0) & (y <= 1))
    if np.any(outside):
        place, value = first_bad(y, outside)
        raise ValueError(f"labels[{place}] is {value}: labels must lie in [0, 1]")
    w = as_float(1 if sample_weight is None else sample_weight, "sample_weight", x.dtype)
    w = broadcast(w, x.shape, "sample_weight")
    grad = ((1 - y) * sigmoid_of(x) - y * sigmoid_of(-x)) * w
    return result(grad), result(slope_of(x) * w)
