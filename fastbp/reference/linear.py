"""The linear layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float, check_choice, check_shape, quiet, result


def _weight_in_out(weight: ArrayLike, weight_layout: str, dtype: Any) -> Array:
    """The weight as (n_in, n_out), whichever way it is stored."""
    check_choice(weight_layout, ("in_out", "out_in"), "weight_layout")
    w = as_float(weight, "weight", dtype)
    if w.ndim != 2:
        raise ValueError(f"weight must have 2 dimensions, got shape {w.shape}")
    return w if weight_layout == "in_out" else w.T


@quiet
def linear(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, *, weight_layout: str = "in_out"
) -> Array:
    """y = x W + b: x (..., n_in), W (n_in, n_out), b (n_out,), y (..., n_out).

    With ``weight_layout="out_in"`` the weight is stored as (n_out, n_in) and y = x W^T + b.
    """
    x = as_float(x, "x")
    w = _weight_in_out(weight, weight_layout, x.dtype)
    check_shape(x, (*x.shape[:-1], w.shape[0]), "x")
    y = x @ w
    if bias is not None:
        b = as_float(bias, "bias", x.dtype)
        check_shape(b, (w.shape[1],), "bias")
        y = y + b
    return result(np.asarray(y))


@quiet
def linear_backward(
    dy: ArrayLike, x: ArrayLike, weight: ArrayLike, *, weight_layout: str = "in_out"
) -> tuple[Array, Array, Array]:
    """(dx, dweight, dbias) = (dy W^T, x^T dy, sum of dy's rows); dweight is stored as weight is."""
    dy = as_float(dy, "dy")
    x = as_float(x, "x", dy.dtype)
    w = _weight_in_out(weight, weight_layout, dy.dtype)
    check_shape(x, (*x.shape[:-1], w.shape[0]), "x")
    check_shape(dy, (*x.shape[:-1], w.shape[1]), "dy")
    n_rows = math.prod(x.shape[:-1])
    x_rows, dy_rows = x.reshape(n_rows, w.shape[0]), dy.reshape(n_rows, w.shape[1])
    dweight = x_rows.T @ dy_rows
    if weight_layout == "out_in":
        dweight = dweight.T
    return dy @ w.T, dweight, np.asarray(np.sum(dy_rows, axis=0))
