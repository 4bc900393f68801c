"""Cross-entropy of probabilities, which are taken as they are: nothing is clamped."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .arrays import (
    Array,
    as_float,
    check_reduction,
    check_shape,
    from_rows,
    is_float,
    quiet,
    reduced,
    result,
    row_sum,
    shape_of_row_values,
    to_rows,
)
from .sigmoid_cross_entropy import product
from .targets import read_targets


def _scaled(dloss: ArrayLike | None, loss: Array, gradient: Array, shape: tuple[int, ...]) -> Array:
    """dloss * gradient; shape is that in which a dloss of single losses meets the gradient."""
    if dloss is None:
        return gradient
    dloss = as_float(dloss, "dloss", gradient.dtype)
    check_shape(dloss, loss.shape, "dloss")
    return np.asarray(dloss.reshape(shape if dloss.ndim else ()) * gradient)


# --- of two classes ---------------------------------------------------------------------------


def _binary(
    dloss: ArrayLike | None, probs: ArrayLike, targets: ArrayLike, reduction: str
) -> tuple[Array, Array]:
    """The loss, and the gradient of dloss * loss (None: of the loss), of the functions below."""
    check_reduction(reduction)
    p = as_float(probs, "probs") + 0.0  # -0.0 is 0
    t = as_float(targets, "targets", p.dtype)
    check_shape(t, p.shape, "targets")
    losses = 0.0 - (product(t, np.log(p)) + product(1 - t, np.log1p(-p)))
    # (1 - t) / (1 - p) - t / p as one fraction, so that it does not cancel where p is close to t.
    gradient = (p - t) / (p * (1 - p))
    gradient = np.where(t == 0, 1 / (1 - p), np.where(t == 1, -1 / p, gradient))
    loss, gradient = reduced(losses, gradient, np.ones_like(p), reduction)
    return result(loss), _scaled(dloss, loss, gradient, p.shape)


@quiet
def binary_cross_entropy(probs: ArrayLike, targets: ArrayLike, *, reduction: str = "mean") -> Array:
    """-(t log p + (1 - t) log(1 - p)) of each element, where 0 * log 0 = 0.

    Parameters
    ----------
    probs : floats p of any shape
    targets : shaped as probs: floats, integers or bools, taken as numbers t
    reduction : "none" (shaped as probs), "sum", or "mean" over the elements
    """
    return _binary(None, probs, targets, reduction)[0]


@quiet
def binary_cross_entropy_backward(
    dloss: ArrayLike,
    probs: ArrayLike,
    targets: ArrayLike,
    *,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """dprobs = dloss * ((1 - t) / (1 - p) - t / p), where 0 / 0 = 0; dloss as the loss."""
    return result(_binary(dloss, probs, targets, reduction)[1], out)


# --- of many classes --------------------------------------------------------------------------


def _many(
    dloss: ArrayLike | None, probs: ArrayLike, targets: ArrayLike, axis: int, reduction: str
) -> tuple[Array, Array]:
    """The loss, and the gradient of dloss * loss (None: of the loss), of the functions below.

    With a label, only the probability of its class is read.
    """
    check_reduction(reduction)
    probs = as_float(probs, "probs")
    shape = shape_of_row_values(probs, axis)  # of the labels
    p = to_rows(probs, axis) + 0.0  # -0.0 is 0
    n_rows, n_columns = p.shape
    if n_rows and not n_columns:
        raise ValueError(f"probs of shape {probs.shape} have no classes along axis {axis}")
    values = np.asarray(targets)
    if values.dtype.kind not in "iu" and not is_float(values.dtype):
        raise TypeError(
            f"targets must be labels (integers) or probabilities (floats), got dtype {values.dtype}"
        )
    t, labels, _, _ = read_targets(values, probs, axis, shape, None, "raise")
    nothing = (t == 0) & (p == 0) if labels is None else t == 0
    losses = 0.0 - row_sum(np.where(nothing, 0, t * np.log(p)))
    gradient = np.where(t == 0, 0, -t / p)
    loss, gradient = reduced(losses.reshape(shape), gradient, np.ones(n_rows), reduction)
    gradient = _scaled(dloss, loss, gradient, (n_rows, 1))
    return result(loss), from_rows(gradient, probs, axis)


@quiet
def cross_entropy(
    probs: ArrayLike, targets: ArrayLike, *, axis: int = -1, reduction: str = "mean"
) -> Array:
    """Cross-entropy of probabilities: -log p[label], or -sum_c t_c log p_c, where 0 * log 0 = 0.

    Parameters
    ----------
    probs : floats; the C classes lie along `axis`
    targets : integers shaped as probs without `axis` (labels), or floats shaped as probs
        (probabilities, which need not sum to 1). A label outside [0, C) is an IndexError
    reduction : "none" (shaped as the labels), "sum", or "mean" over the rows
    """
    return _many(None, probs, targets, axis, reduction)[0]


@quiet
def cross_entropy_backward(
    dloss: ArrayLike,
    probs: ArrayLike,
    targets: ArrayLike,
    *,
    axis: int = -1,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """dprobs = -dloss * t / p, and 0 where t is 0, whatever p; dloss is shaped as the loss."""
    return result(_many(dloss, probs, targets, axis, reduction)[1], out)
