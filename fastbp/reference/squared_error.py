"""Squared error."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float, check_reduction, check_shape, quiet, reduced, result


def _squared_error(
    dloss: ArrayLike | None, pred: ArrayLike, target: ArrayLike, half: bool, reduction: str
) -> tuple[Array, Array]:
    """The loss, and the gradient of dloss * loss (None: of the loss), of the functions below."""
    check_reduction(reduction)
    pred = as_float(pred, "pred")
    target = as_float(target, "target", pred.dtype)
    check_shape(target, pred.shape, "target")
    difference = pred - target
    factor = 0.5 if half else 1.0
    losses = factor * difference * difference  # in this order, a half keeps d * d from overflow
    gradient = 2 * factor * difference
    loss, gradient = reduced(losses, gradient, np.ones_like(pred), reduction)
    if dloss is not None:
        dloss = as_float(dloss, "dloss", pred.dtype)
        check_shape(dloss, loss.shape, "dloss")
        gradient = dloss * gradient
    return result(loss), np.asarray(gradient)


@quiet
def squared_error(
    pred: ArrayLike, target: ArrayLike, *, half: bool = False, reduction: str = "mean"
) -> Array:
    """(pred - target)^2 of each element, or half of it.

    Parameters
    ----------
    pred, target : floats of one shape
    half : whether the loss has a factor of 1/2, so that its gradient is pred - target
    reduction : "none" (shaped as pred), "sum", or "mean" over the elements
    """
    return _squared_error(None, pred, target, half, reduction)[0]


@quiet
def squared_error_with_grad(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    half: bool = False,
    reduction: str = "mean",
    out: Array | None = None,
) -> tuple[Array, Array]:
    """(loss, dpred): `squared_error` and its gradient 2 (pred - target), or half of it."""
    loss, dpred = _squared_error(None, pred, target, half, reduction)
    return loss, result(dpred, out)


@quiet
def squared_error_backward(
    dloss: ArrayLike,
    pred: ArrayLike,
    target: ArrayLike,
    *,
    half: bool = False,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """dpred of dloss * `squared_error`; dloss is shaped as that loss."""
    return result(_squared_error(dloss, pred, target, half, reduction)[1], out)
