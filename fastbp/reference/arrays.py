"""What all functions do with their arguments: conversion, checks, rows, reductions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
Axis = int | Sequence[int] | None
Function = TypeVar("Function", bound=Callable[..., Any])


def quiet(function: Function) -> Function:
    """`function` without warnings: infinities and NaNs are results here, not accidents."""
    return np.errstate(all="ignore")(function)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether the dtype is of floats; NumPy knows nothing of bfloat16 but its name."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def as_float(a: ArrayLike, name: str, dtype: Any = None) -> Array:
    """`a` in the computing precision: `dtype` if given, else longdouble or float64."""
    array = np.asarray(a)
    if array.dtype.kind not in "iub" and not is_float(array.dtype):
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    if dtype is None:
        dtype = np.longdouble if array.dtype == np.longdouble else np.float64
    return array.astype(dtype)


def result(values: Array, out: Array | None = None) -> Array:
    """Hand `values` back, in `out` if there is one; 0-d results are scalars, as NumPy's own are."""
    if out is None:
        return np.asarray(values)[()]
    if out.shape != values.shape:
        raise ValueError(f"out must have shape {values.shape}, got {out.shape}")
    out[...] = values
    return out


# --- checks -----------------------------------------------------------------------------------


def check_shape(a: Array, shape: tuple[int, ...], name: str) -> None:
    """ValueError unless `a` has this shape."""
    if a.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {a.shape}")


def check_choice(value: str, choices: tuple[str, ...], name: str) -> None:
    """ValueError unless `value` is one of these."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}")


def broadcast(a: ArrayLike, shape: tuple[int, ...], name: str) -> Array:
    """`a` in this shape, or ValueError."""
    try:
        return np.broadcast_to(np.asarray(a), shape)
    except ValueError:
        raise ValueError(f"{name} must broadcast to shape {shape}, got {np.shape(a)}") from None


# --- rows -------------------------------------------------------------------------------------


def _columns_last(x: Array, axis: Axis) -> tuple[Array, tuple[int, ...], int]:
    """x with the axes of its rows moved to the end; these axes; the number of the others."""
    if axis is None:
        axes = tuple(range(x.ndim))
    else:
        axes = tuple(axis) if isinstance(axis, Sequence) else (axis,)
    return np.moveaxis(x, axes, tuple(range(-len(axes), 0))), axes, x.ndim - len(axes)


def to_rows(x: Array, axis: Axis) -> Array:
    """x as (n_rows, n_columns)."""
    moved, _, n = _columns_last(x, axis)
    return moved.reshape(math.prod(moved.shape[:n]), math.prod(moved.shape[n:]))


def from_rows(rows: Array, like: Array, axis: Axis) -> Array:
    """The inverse of `to_rows`: (n_rows, n_columns) in the shape of `like`."""
    moved, axes, _ = _columns_last(like, axis)
    return np.moveaxis(rows.reshape(moved.shape), tuple(range(-len(axes), 0)), axes)


def shape_of_row_values(x: Array, axis: Axis, keepdims: bool = False) -> tuple[int, ...]:
    """The shape of an array that holds one value for each row of x."""
    moved, axes, n = _columns_last(x, axis)
    kept = moved.shape[:n]
    return np.expand_dims(np.empty(kept), axes).shape if keepdims else kept


def row_sum(a: Array) -> Array:
    """Row sums of (n_rows, n_columns), as a column."""
    return np.asarray(np.sum(a, axis=1, keepdims=True))


# --- reductions of losses ---------------------------------------------------------------------


def check_reduction(reduction: str, empty: str = "nan") -> None:
    """ValueError unless these are options that there are."""
    check_choice(reduction, ("none", "sum", "mean"), "reduction")
    check_choice(empty, ("nan", "zero"), "empty")


def reduced(
    losses: Array, gradient: Array, share: Array, reduction: str, empty: str = "nan"
) -> tuple[Array, Array]:
    """The loss, and its gradient from the gradients of single losses.

    share is what each loss adds to the denominator of the mean. Where that is 0, `empty` stands for
    0/0, and the gradient is 0; but losses and gradients that are NaN stay NaN.
    """
    if reduction == "none":
        return losses, gradient
    loss = np.asarray(np.sum(losses))
    if reduction == "sum":
        return loss, gradient
    denominator = np.sum(share)
    if denominator != 0:
        return loss / denominator, gradient / denominator
    mean = np.nan if empty == "nan" or np.isnan(loss) else 0.0
    return loss.dtype.type(mean), np.where(np.isnan(gradient), gradient, 0)
