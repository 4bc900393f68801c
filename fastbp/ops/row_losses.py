"""The arguments of losses of rows: targets, weights, reductions, checked and laid out as rows.

Labels are looked through once before anything is written: for bad ones, and for the denominator of
the mean. Kernels look again, so that labels changed meanwhile cannot make them read out of bounds.
"""

import math
import operator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Array, rows_of
from ..checks import as_array, as_axis, as_out, as_values, like_first, one_of, same_shape
from ..cpu.rows import Smoothing
from ..cpu.run import serial
from ..formulas.softmax import (
    add_pairs,
)

REDUCTIONS = ("mean", "sum", "none")
EMPTIES = ("nan", "zero")
BAD_LABELS = ("raise", "nan", "ignore")
NAN = float("nan")
# What `label_to_use` says of a row without a label.
IGNORED, BAD = -1, -2

_NOTHING = {np.dtype(t): np.empty(0, t) for t in (np.float32, np.float64)}


class RowLoss(NamedTuple):
    """Checked arguments, as rows."""

    logits: Array
    axes: tuple[int, ...]
    x: Array  # (n_rows, n_classes)
    labels: Array | None  # (n_rows,)
    probabilities: Array | None  # (n_rows, n_classes)
    class_weight: Array  # (n_classes,) or (0,)
    sample_weight: Array  # (n_rows,) or (0,)
    ignore: int
    has_ignore: bool
    bad_is_nan: bool
    smoothing: float
    reduction: str
    empty: str
    denominator: float
    loss_shape: tuple[int, ...]


def row_loss(
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
) -> RowLoss:
    """Check all arguments of a loss of rows; nothing is written before they have passed."""
    one_of(reduction, "reduction", REDUCTIONS)
    one_of(empty, "empty", EMPTIES)
    one_of(on_bad_label, "on_bad_label", BAD_LABELS)
    smoothing = _smoothing(label_smoothing)
    logits = as_values(logits, "logits")
    axes = (as_axis(axis, logits.ndim, "logits"),)
    x = rows_of(logits, axes)
    n_rows, n_classes = x.shape
    if n_rows and not n_classes:
        raise ValueError(f"logits has shape {logits.shape}; expected at least one class")
    rows_shape = logits.shape[: axes[0]] + logits.shape[axes[0] + 1 :]

    weight, sample = _NOTHING[logits.dtype], _NOTHING[logits.dtype]
    if class_weight is not None:
        weight = like_first(class_weight, "class_weight", logits)
        same_shape(weight, "class_weight", (n_classes,), "one row of logits")
        weight = np.ascontiguousarray(weight)
    if sample_weight is not None:
        sample = like_first(sample_weight, "sample_weight", logits)
        same_shape(sample, "sample_weight", rows_shape, "logits without axis")
        sample = sample.reshape(-1)

    labels, probabilities = _targets(targets, logits, rows_shape)
    ignore, has_ignore, denominator = 0, False, float(n_rows)
    if labels is not None:
        ignore, has_ignore = _ignored(ignore_index, labels)
        labels = labels.reshape(-1)
        key = (logits.dtype.char, labels.dtype.char)
        bad, denominator = serial(
            count_labels, key, n_rows, n_classes, labels, weight, sample, ignore, has_ignore
        )
        if bad >= 0 and on_bad_label == "raise":
            raise IndexError(_bad_label(labels, bad, rows_shape, n_classes))
    elif probabilities is not None:
        if ignore_index is not None:
            raise ValueError("ignore_index is given; expected None with probabilities as targets")
        probabilities = rows_of(probabilities, axes)
        if sample.size:
            denominator = math.fsum(sample.tolist()) if np.isfinite(sample).all() else NAN
    return RowLoss(
        logits, axes, x, labels, probabilities, weight, sample, ignore, has_ignore,
        on_bad_label != "ignore", smoothing, reduction, empty,
        denominator if reduction == "mean" else 1.0,
        rows_shape if reduction == "none" else (),
    )  # fmt: skip


def _smoothing(value: Any) -> float:
    try:
        smoothing = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"label_smoothing is {value!r}; expected a number") from None
    if not 0.0 <= smoothing <= 1.0:
        raise ValueError(f"label_smoothing is {smoothing}; expected 0 to 1")
    return smoothing


def _targets(
    targets: Any, logits: Array, rows_shape: tuple[int, ...]
) -> tuple[Array | None, Array | None]:
    """(labels, None) or (None, probabilities)."""
    array = as_array(targets, "targets")
    if array.dtype.kind in "iu":
        if array.shape != rows_shape:
            raise ValueError(
                f"targets are integers of shape {array.shape}; expected labels of shape "
                f"{rows_shape}, or float probabilities of shape {logits.shape}"
            )
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("=")), None
    if array.dtype.kind != "f":
        raise TypeError(
            f"targets have dtype {array.dtype}; expected integer labels or float probabilities"
        )
    if array.shape != logits.shape:
        raise ValueError(
            f"targets are floats of shape {array.shape}; expected probabilities of shape "
            f"{logits.shape}, or integer labels of shape {rows_shape}"
        )
    return None, like_first(array, "targets", logits)


def _ignored(ignore_index: Any, labels: Array) -> tuple[int, bool]:
    """The label to ignore, as kernels compare it, and whether any label can be it."""
    if ignore_index is None:
        return 0, False
    try:
        index = operator.index(ignore_index)
    except TypeError:
        raise TypeError(f"ignore_index is {ignore_index!r}; expected an int or None") from None
    info = np.iinfo(labels.dtype)
    if not info.min <= index <= info.max:
        return 0, False
    return int(np.array(index, labels.dtype).astype(np.int64)), True


def _bad_label(labels: Array, bad: int, rows_shape: tuple[int, ...], n_classes: int) -> str:
    where = [int(i) for i in np.unravel_index(bad, rows_shape)] if rows_shape else []
    place = f" at row {where[0] if len(where) == 1 else tuple(where)}" if where else ""
    return f"targets has label {labels[bad]}{place}; expected 0 to {n_classes - 1}"


def gradient_like(problem: RowLoss, out: Array | None, dloss: Array | None = None) -> Array:
    """`out`, checked, or a new array for the gradient by the logits."""
    logits = problem.logits
    if out is None:
        return np.empty(logits.shape, logits.dtype)
    inputs = {
        "logits": logits,
        "class_weight": problem.class_weight,
        "sample_weight": problem.sample_weight,
    }
    if dloss is not None:
        inputs["dloss"] = dloss
    if problem.labels is not None:
        inputs["targets"] = problem.labels
    if problem.probabilities is not None:
        inputs["targets"] = problem.probabilities
    return as_out(out, logits.shape, inputs, replaceable=1)


def reduced(sums: Array, problem: RowLoss) -> Any:
    """The sum of all blocks' sums, exactly rounded, or the mean."""
    terms = sums.ravel().tolist()
    total = sum(terms[::2])
    if math.isfinite(total):
        total = math.fsum(terms)
    if problem.reduction == "mean":
        if problem.denominator != 0.0:
            total /= problem.denominator
        elif not math.isnan(total):
            total = 0.0 if problem.empty == "zero" else NAN
    dtype = problem.logits.dtype
    if abs(total) <= np.finfo(dtype).max:
        return dtype.type(total)
    with np.errstate(over="ignore"):
        return dtype.type(total)


def as_smoothing(epsilon: float, n_classes: int) -> Smoothing:
    """1 - ε and ε / n_classes, each with its rounding error."""
    keep, share = 1.0 - epsilon, epsilon / n_classes
    keep_lo = float(1 - Fraction(epsilon) - Fraction(keep))
    share_lo = float(Fraction(epsilon) / n_classes - Fraction(share))
    return keep, keep_lo, share, share_lo


# kernels ------------------------------------------------------------------------------------------


def count_labels(
    first: int, last: int, n_classes: int, labels: Array, class_weight: Array,
    sample_weight: Array, ignore: int, has_ignore: bool,
) -> tuple[int, float]:  # fmt: skip
    """(row of the first bad label or -1, Σ weights of the good ones that are not ignored)."""
    bad, good, s, s_lo = -1, 0, 0.0, 0.0
    for i in range(first, last):
        k: Any = np.int64(labels[i])
        if has_ignore and k == ignore:
            continue
        if k < 0 or k >= n_classes:
            bad = i if bad < 0 else bad
            continue
        good += 1
        if class_weight.size or sample_weight.size:
            w = row_weight(class_weight, k, sample_weight, i)
            s, s_lo = add_pairs(s, s_lo, w, 0.0, w)
    if class_weight.size or sample_weight.size:
        return bad, s + s_lo
    return bad, float(good)


def row_weight(class_weight: Array, k: int, sample_weight: Array, i: int) -> float:
    """class_weight[k]·sample_weight[i], each 1 where it is not given."""
    w = 1.0
    if class_weight.size:
        w = float(class_weight[k])
    if sample_weight.size:
        w *= float(sample_weight[i])
    return w


def label_to_use(
    label: int, n_classes: int, ignore: int, has_ignore: bool, bad_is_nan: bool
) -> Any:
    """The label; or IGNORED, or BAD, which are negative."""
    k: Any = np.int64(label)
    if has_ignore and k == ignore:
        return IGNORED
    if k < 0 or k >= n_classes:
        return BAD if bad_is_nan else IGNORED
    return k
