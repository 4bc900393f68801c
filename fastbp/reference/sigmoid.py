"""sigmoid and log_sigmoid."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float, check_shape, quiet, result


def sigmoid_of(x: Array) -> Array:
    """1 / (1 + exp(-x)), written so that the exponential is at most 1 and small results stay."""
    z = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, z, 1) / (1 + z))


def slope_of(x: Array) -> Array:
    """The derivative of sigmoid, z / (1 + z)^2 with z = exp(-|x|): exact in both tails."""
    z = np.exp(-np.abs(x))
    return np.asarray(z / (1 + z) ** 2)


def softplus_of(x: Array) -> Array:
    """log(1 + exp(x)) = -log sigmoid(-x), as two terms of one sign."""
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


@quiet
def sigmoid(x: ArrayLike, *, out: Array | None = None) -> Array:
    """1 / (1 + exp(-x)); for x < 0 as z / (1 + z) with z = exp(x)."""
    return result(sigmoid_of(as_float(x, "x")), out)


@quiet
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
    dy = as_float(dy, "dy")
    if y is not None and x is None:
        saved = as_float(y, "y", dy.dtype)
        slope = saved * (1 - saved)
    elif x is not None and y is None:
        saved = as_float(x, "x", dy.dtype)
        slope = slope_of(saved)
    else:
        raise TypeError("sigmoid_backward takes exactly one of y and x")
    check_shape(saved, dy.shape, "y" if x is None else "x")
    return result(dy * slope, out)


@quiet
def log_sigmoid(x: ArrayLike, *, out: Array | None = None) -> Array:
    """log sigmoid(x) = -(max(-x, 0) + log1p(exp(-|x|))): two terms of one sign; -0.0 at +inf."""
    return result(-softplus_of(-as_float(x, "x")), out)


@quiet
def log_sigmoid_backward(dy: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Array:
    """dx = dy * sigmoid(-x)."""
    dy = as_float(dy, "dy")
    x = as_float(x, "x", dy.dtype)
    check_shape(x, dy.shape, "x")
    return result(dy * sigmoid_of(-x), out)
