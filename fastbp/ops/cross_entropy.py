"""cross_entropy: of probabilities along an axis and targets, labels or probabilities too.

Probabilities are taken as they are: nothing is clamped, so certainty that is wrong costs +inf.
Whoever has the logits should use `softmax_cross_entropy`, as rounding them to probabilities loses
what is close to 1.

Source: Bishop, "Pattern Recognition and Machine Learning" (2006), equation 4.108.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Array, put_back, rows_of, rows_to_write
from ..checks import (
    as_array,
    as_axis,
    as_values,
    bad_label,
    computed_in,
    of_dtype,
    one_of,
    out_or_new,
    same_shape,
)
from ..cpu.probability_losses import (
    label_gradients,
    label_log_blocks,
    target_gradients,
    target_log_blocks,
)
from ..cpu.row_losses import blocks_of_rows, count_rows
from ..cpu.run import launch, serial
from ..cuda.arrays import is_on_device
from .element_losses import as_factor
from .plain_calls import doors, remember_probabilities
from .row_losses import REDUCTIONS, targets_of, total_of


class Problem(NamedTuple):
    """Checked arguments, and as rows."""

    probs: Array
    axes: tuple[int, ...]
    p: Array  # (n_rows, n_classes)
    targets: Array  # labels (n_rows,) or probabilities (n_rows, n_classes)
    with_labels: bool
    denominator: float
    loss_shape: tuple[int, ...]


def cross_entropy(
    probs: ArrayLike, targets: ArrayLike, *, axis: int = -1, reduction: str = "mean"
) -> Any:
    """Cross-entropy of probabilities to targets: -Σ t log p, or -log p of the label.

    Parameters
    ----------
    probs : array_like
        Probabilities of the classes along `axis`; float32, float64, float16 or bfloat16, integers
        become float64.
    targets : array_like
        Integers of any width, shaped as probs without `axis`: labels. Floats shaped as probs:
        probabilities, which need not sum to 1.
    axis : int
        The axis of the classes.
    reduction : {"mean", "sum", "none"}
        "mean" is that of all rows, NaN if there are none.

    Returns
    -------
    number or ndarray
        Of probs' dtype, float32 for those of 16 bits; with ``reduction="none"`` shaped as probs
        without `axis`.

    Raises
    ------
    TypeError
        If an argument is of a wrong kind.
    ValueError
        If a shape or an option does not fit, or there are rows but no classes.
    IndexError
        For a label outside 0 … n_classes - 1, naming the first such row.

    Notes
    -----
    A row's loss is within 1 ULP with a label (measured: 0.83), within 1.75 ULP with probabilities;
    the mean of many within 1.75 ULP. 0·log 0 is 0, and p = 0 with t > 0 costs +inf; p < 0 and NaN
    give NaN. Of a row with a label, only that probability is read.

    Examples
    --------
    >>> fastbp.cross_entropy([[0.25, 0.75], [1.0, 0.0]], [0, 1], reduction="none")
    array([1.38629436,        inf])
    """
    loss = doors["cross_entropy"](probs, targets, axis, reduction)
    if loss is not None:
        return loss
    if is_on_device(probs):
        one_of(reduction, "reduction", REDUCTIONS)
        return _on_gpu().cross_entropy({"probs": probs, "targets": targets}, axis, reduction)
    p = _problem(probs, targets, axis, reduction)
    losses = None
    n_rows = p.p.shape[0]
    if reduction == "none":
        losses = np.empty(n_rows, computed_in(p.probs.dtype))
    block, n_blocks = blocks_of_rows(n_rows, p.p.size)
    sums = np.zeros((n_blocks, 2))
    key = (p.p.dtype.char, p.targets.dtype.char, losses is None)
    kernel, work = (label_log_blocks, n_rows) if p.with_labels else (target_log_blocks, p.p.size)
    launch(kernel, key, n_blocks, work, 1, p.p, p.targets, losses, sums, block)
    remember_probabilities(p.probs, p.targets, axis, reduction, kernel, key)
    if losses is not None:
        return losses.reshape(p.loss_shape)[()]  # of a single row, a number
    return total_of(sums, reduction, p.denominator, "nan", p.probs.dtype)


def cross_entropy_backward(
    dloss: ArrayLike,
    probs: ArrayLike,
    targets: ArrayLike,
    *,
    axis: int = -1,
    reduction: str = "mean",
    out: Array | None = None,
) -> Array:
    """Gradient of cross_entropy, given the gradient by its loss: -t / p.

    Parameters
    ----------
    dloss : array_like
        Gradient by the loss, shaped as the loss.
    probs, targets, axis, reduction
        As they were given to `cross_entropy`.
    out : ndarray, optional
        Where to write the gradient, of probs' shape and dtype; it may be probs.

    Returns
    -------
    ndarray
        dprobs, shaped as probs.

    Raises
    ------
    TypeError, ValueError, IndexError
        As `cross_entropy`; also if dloss or out does not fit.

    Notes
    -----
    dprobs = -dloss t / p, over the number of rows if reduction is "mean"; within 1.5 ULP, of 16
    bits within 0.501. Where t is 0 it is 0, even at p = 0.

    Examples
    --------
    >>> fastbp.cross_entropy_backward(1.0, [[0.25, 0.75], [0.5, 0.5]], [0, 1])
    array([[-2.,  0.],
           [ 0., -1.]])
    """
    if is_on_device(probs):
        one_of(reduction, "reduction", REDUCTIONS)
        arrays = {"probs": probs, "targets": targets}
        return _on_gpu().cross_entropy_backward(dloss, arrays, axis, reduction, out)  # type: ignore[no-any-return]
    p = _problem(probs, targets, axis, reduction)
    inputs = {"probs": p.probs, "targets": as_array(targets, "targets")}
    if reduction == "none":
        upstream = of_dtype(as_values(dloss, "dloss"), computed_in(p.probs.dtype))
        same_shape(upstream, "dloss", p.loss_shape, "the loss")
        inputs["dloss"] = upstream
        upstream = upstream.reshape(-1)
    else:
        upstream = np.array([as_factor(dloss)])
    dprobs = out_or_new(out, inputs)
    dp = rows_to_write(dprobs, p.axes)
    n_rows = p.p.shape[0]
    key = (p.p.dtype.char, p.targets.dtype.char, upstream.dtype.char)
    kernel = label_gradients if p.with_labels else target_gradients
    launch(kernel, key, n_rows, p.p.size, 1, p.p, p.targets, upstream, p.denominator, dp)
    return put_back(dp, dprobs, p.axes)


def _on_gpu() -> Any:
    """The module that does the same on a GPU."""
    from ..cuda import probability_calls

    return probability_calls


def _problem(probs: ArrayLike, targets: ArrayLike, axis: int, reduction: str) -> Problem:
    """Check all arguments; nothing is written before they have passed."""
    one_of(reduction, "reduction", REDUCTIONS)
    probs = as_values(probs, "probs")
    axes = (as_axis(axis, probs.ndim, "probs"),)
    p = rows_of(probs, axes)
    n_rows, n_classes = p.shape
    if n_rows and not n_classes:
        raise ValueError(f"probs has shape {probs.shape}; expected at least one class")
    shape = probs.shape[: axes[0]] + probs.shape[axes[0] + 1 :]
    rows = targets_of(targets, probs, shape)
    denominator = float(n_rows) if reduction == "mean" else 1.0
    loss_shape = shape if reduction == "none" else ()
    if rows.probabilities is not None:
        given = rows_of(rows.probabilities, axes)
        return Problem(probs, axes, p, given, False, denominator, loss_shape)
    labels = rows.indices
    if labels is None or rows.given is not None:
        raise TypeError("targets are a pair; expected integer labels or float probabilities")
    nothing = np.empty(0, computed_in(probs.dtype))
    bad, _ = serial(
        count_rows, (nothing.dtype.char, labels.dtype.char), n_rows, n_classes, labels, nothing,
        nothing, 0, False,
    )  # fmt: skip
    if bad >= 0:
        raise IndexError(bad_label(labels[bad], bad, shape, n_classes))
    return Problem(probs, axes, p, labels.reshape(-1), True, denominator, loss_shape)
