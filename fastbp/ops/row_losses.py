"""The arguments of losses of rows: targets, weights, reductions, checked and laid out as rows.

Labels are looked through once before anything is written: for bad ones, and for the denominator of
the mean. Kernels look again, so that labels changed meanwhile cannot make them read out of bounds.
"""

import math
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Array, rows_of
from ..checks import (
    as_array,
    as_axis,
    as_ignored,
    as_values,
    bad_label,
    check_scales,
    computed_in,
    is_float,
    like_first,
    native,
    of_dtype,
    one_of,
    out_or_new,
    same_shape,
)
from ..cpu.row_losses import count_rows
from ..cpu.run import serial

REDUCTIONS = ("mean", "sum", "none")
EMPTIES = ("nan", "zero")
BAD_LABELS = ("raise", "nan", "ignore")
NAN = float("nan")

NOTHING = {np.dtype(t): np.empty(0, t) for t in (np.float32, np.float64)}


class Targets(NamedTuple):
    """Probabilities of all classes, or else of a few named by their indices; or labels."""

    probabilities: Array | None  # shaped as the logits
    indices: Array | None  # (n_rows, k); of labels k is 1
    given: Array | None  # (n_rows, k), the probability of each index; of labels None


class RowLoss(NamedTuple):
    """Checked arguments, as rows but for logits and probabilities."""

    logits: Array
    axes: tuple[int, ...]
    n_rows: int
    n_classes: int
    targets: Targets
    class_weight: Array  # (n_classes,) or (0,)
    sample_weight: Array  # (n_rows,) or (0,)
    ignore: int
    has_ignore: bool
    bad_is_nan: bool
    smoothing: float
    z_loss: float
    softcap: float | None
    temperature: float
    reduction: str
    empty: str
    denominator: float
    loss_shape: tuple[int, ...]


class RowOptions(NamedTuple):
    """Checked options, which need no look at an array."""

    ignore_index: int | None
    smoothing: float
    z_loss: float
    softcap: float | None
    temperature: float
    reduction: str
    empty: str
    on_bad_label: str


def row_options(
    ignore_index: int | None,
    label_smoothing: float,
    z_loss: float,
    softcap: float | None,
    temperature: float,
    reduction: str,
    empty: str,
    on_bad_label: str,
) -> RowOptions:
    """Check the options of a loss of rows."""
    one_of(reduction, "reduction", REDUCTIONS)
    one_of(empty, "empty", EMPTIES)
    one_of(on_bad_label, "on_bad_label", BAD_LABELS)
    smoothing = _number(label_smoothing, "label_smoothing")
    if not 0.0 <= smoothing <= 1.0:
        raise ValueError(f"label_smoothing is {smoothing}; expected 0 to 1")
    z_loss = _number(z_loss, "z_loss")
    if not 0.0 <= z_loss < math.inf:
        raise ValueError(f"z_loss is {z_loss}; expected 0 or more")
    softcap = softcap if softcap is None else _positive(softcap, "softcap")
    temperature = _positive(temperature, "temperature")
    return RowOptions(
        ignore_index, smoothing, z_loss, softcap, temperature, reduction, empty, on_bad_label
    )


def row_loss(
    logits: ArrayLike,
    targets: ArrayLike,
    axis: int,
    class_weight: ArrayLike | None,
    sample_weight: ArrayLike | None,
    *options: Any,
) -> RowLoss:
    """Check all arguments of a loss of rows; nothing is written before they have passed.

    The last are those of `row_options`.
    """
    o = row_options(*options)
    logits = as_values(logits, "logits")
    dtype = computed_in(logits.dtype)
    check_scales(o.softcap, o.temperature, dtype.name)
    axes = (as_axis(axis, logits.ndim, "logits"),)
    n_classes = logits.shape[axes[0]]
    rows_shape = logits.shape[: axes[0]] + logits.shape[axes[0] + 1 :]
    n_rows = math.prod(rows_shape)
    if n_rows and not n_classes:
        raise ValueError(f"logits has shape {logits.shape}; expected at least one class")

    weight, sample = NOTHING[dtype], NOTHING[dtype]
    if class_weight is not None:
        weight = of_dtype(as_values(class_weight, "class_weight"), dtype)
        same_shape(weight, "class_weight", (n_classes,), "one row of logits")
        weight = np.ascontiguousarray(weight)
    if sample_weight is not None:
        sample = of_dtype(as_values(sample_weight, "sample_weight"), dtype)
        same_shape(sample, "sample_weight", rows_shape, "logits without axis")
        sample = sample.reshape(-1)

    rows = targets_of(targets, logits, rows_shape)
    ignore, has_ignore, denominator = 0, False, float(n_rows)
    if rows.indices is None or rows.given is not None:
        if o.ignore_index is not None:
            raise ValueError("ignore_index is given; expected None with probabilities as targets")
    else:
        ignore, has_ignore = as_ignored(o.ignore_index, rows.indices.dtype)
    if rows.indices is not None:
        counted = weight if rows.given is None else NOTHING[dtype]
        bad, denominator = serial(
            count_rows, (dtype.char, rows.indices.dtype.char), n_rows, n_classes, rows.indices,
            counted, sample, ignore, has_ignore,
        )  # fmt: skip
        if bad >= 0 and o.on_bad_label == "raise":
            raise IndexError(bad_label(rows.indices[bad], bad, rows_shape, n_classes))
    elif sample.size:
        weights = sample.tolist()
        denominator = math.fsum(weights) if math.isfinite(sum(weights)) else NAN
    return RowLoss(
        logits, axes, n_rows, n_classes, rows, weight, sample, ignore, has_ignore,
        o.on_bad_label != "ignore", o.smoothing, o.z_loss, o.softcap, o.temperature, o.reduction,
        o.empty,
        denominator if o.reduction == "mean" else 1.0,
        rows_shape if o.reduction == "none" else (),
    )  # fmt: skip


def transform(p: RowLoss) -> tuple[float | None, ...]:
    """Soft cap, temperature and z-loss; None are those that change nothing.

    Kernels are compiled for those that are given. A soft cap takes the temperature with it.
    """
    temperature = None if p.softcap is None and p.temperature == 1.0 else p.temperature
    return p.softcap, temperature, p.z_loss or None


def _number(value: Any, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {value!r}; expected a number") from None


def _positive(value: Any, name: str) -> float:
    number = _number(value, name)
    if not 0.0 < number < math.inf:
        raise ValueError(f"{name} is {number}; expected a positive number")
    return number


def targets_of(targets: Any, logits: Array, rows_shape: tuple[int, ...]) -> Targets:
    """Labels or pairs of indices and probabilities, as rows; or probabilities, as they are."""
    if isinstance(targets, tuple) and len(targets) == 2:
        indices, given = (as_array(t, "targets") for t in targets)
        if indices.dtype.kind in "iu" and is_float(given.dtype):
            return _sparse(indices, given, logits, rows_shape)
    array = as_array(targets, "targets")
    if array.dtype.kind in "iu":
        if array.shape != rows_shape:
            raise ValueError(
                f"targets are integers of shape {array.shape}; expected labels of shape "
                f"{rows_shape}, or float probabilities of shape {logits.shape}"
            )
        return Targets(None, native(array).reshape(-1, 1), None)
    if not is_float(array.dtype):
        raise TypeError(
            f"targets have dtype {array.dtype}; expected integer labels or float probabilities"
        )
    if array.shape != logits.shape:
        raise ValueError(
            f"targets are floats of shape {array.shape}; expected probabilities of shape "
            f"{logits.shape}, or integer labels of shape {rows_shape}"
        )
    return Targets(like_first(array, "targets", logits), None, None)


def _sparse(indices: Array, given: Array, logits: Array, rows_shape: tuple[int, ...]) -> Targets:
    if indices.ndim != len(rows_shape) + 1 or indices.shape[:-1] != rows_shape:
        raise ValueError(
            f"targets has indices of shape {indices.shape}; expected {(*rows_shape, 'k')}, "
            "a few for each row"
        )
    same_shape(given, "targets' weights", indices.shape, "its indices")
    given = of_dtype(as_values(given, "targets"), computed_in(logits.dtype))
    last = (len(rows_shape),)
    return Targets(None, rows_of(native(indices), last), rows_of(given, last))


def gradient_like(problem: RowLoss, out: Array | None, dloss: Array | None = None) -> Array:
    """`out`, checked, or a new array for the gradient by the logits."""
    p = problem
    if out is None:
        return np.empty(p.logits.shape, p.logits.dtype)
    inputs = {
        "logits": p.logits, "class_weight": p.class_weight, "sample_weight": p.sample_weight,
        "dloss": dloss, "targets": p.targets.probabilities, "targets' indices": p.targets.indices,
        "targets' weights": p.targets.given,
    }  # fmt: skip
    given = {name: array for name, array in inputs.items() if array is not None and array.size}
    return out_or_new(out, {"logits": p.logits} | given)


def reduced(sums: Array, problem: RowLoss) -> Any:
    """The sum of all blocks' sums, exactly rounded, or the mean."""
    p = problem
    return total_of(sums, p.reduction, p.denominator, p.empty, p.logits.dtype)


def total_of(
    sums: Array, reduction: str, denominator: float, empty: str, dtype: np.dtype[Any]
) -> Any:
    """The same for a loss of any kind, its input being of that dtype."""
    terms = sums.ravel().tolist()
    total = sum(terms[::2])
    if math.isfinite(total):
        total = math.fsum(terms)
    if reduction == "mean":
        if denominator != 0.0:
            total /= denominator
        elif not math.isnan(total):
            total = 0.0 if empty == "zero" else NAN
    return as_number(total, computed_in(dtype))


_LARGEST = {np.dtype(t): float(np.finfo(t).max) for t in (np.float32, np.float64)}


def as_number(value: float, dtype: np.dtype[Any]) -> Any:
    """A number of that dtype, infinite without a warning if it is too large."""
    if abs(value) <= _LARGEST[dtype]:
        return dtype.type(value)
    with np.errstate(over="ignore"):
        return dtype.type(value)


@lru_cache
def as_smoothing(epsilon: float, n_classes: int) -> tuple[float, float, float, float]:
    """1 - ε and ε / n_classes, each with its rounding error."""
    keep, share = 1.0 - epsilon, epsilon / n_classes
    keep_lo = float(1 - Fraction(epsilon) - Fraction(keep))
    share_lo = float(Fraction(epsilon) / n_classes - Fraction(share))
    return keep, keep_lo, share, share_lo
