"""softmax_cross_entropy: softmax and cross-entropy fused, with labels or probabilities.

With m = max x, e_j = exp(x_j - m) and Σ e = 1 + s as in `softmax`, the loss of a row with label k
is log(1 + s) + (m - x_k), and its gradient e_j / (1 + s), at the label less 1, which is minus the
sum of the other e / (1 + s). Neither cancels: a row that is sure of its label still has a loss and
a gradient, where -log(softmax) and p - 1 are 0.

a. Labels have a kernel of their own, as under smoothing all classes but the label's have the same
   weight. Probabilities, and smoothed labels of weighted classes, give every class a weight u_c.
b. Class and sample weights of a label multiply the row; so the row's last factor holds them, the
   incoming gradient, the denominator of the mean, and the total.
c. Rows go in blocks, each of which adds up its own losses: how many depends on the shape alone, so
   a sum is the same for any number of threads.
d. Temperature and soft cap change the logits in a pass before, and the z-loss adds to a row's loss
   and to its last factor: kernels are compiled for the options given, and know of no others.

The kernels are in `fastbp.cpu`: `label_losses`, `target_losses` and `index_losses`.

Source: Bishop, "Pattern Recognition and Machine Learning" (2006), equations 4.108 and 4.109;
smoothing and the weighted mean as in PyTorch's cross_entropy; z-loss as in Chowdhery et al.,
"PaLM" (2022), section 5; soft cap as in Gemma Team, "Gemma 2" (2024), section 2.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Array, put_back, rows_of, rows_to_write, views_of
from ..checks import as_values, computed_in, of_dtype, same_shape
from ..cpu.index_losses import index_blocks
from ..cpu.label_losses import label_blocks
from ..cpu.panel_losses import index_panels, label_panels, target_panels
from ..cpu.row_losses import blocks_of_rows
from ..cpu.run import Kernel, launch
from ..cpu.target_losses import target_blocks
from ..cuda.arrays import is_on_device
from .calls import launch_panels, plan_of_wide_rows
from .plain_calls import BOTH, LOSS, doors, remember_rows, smoothing_array
from .row_losses import (
    RowLoss,
    RowOptions,
    gradient_like,
    reduced,
    row_loss,
    row_options,
    transform,
)

_ONE = np.ones(1)
_IN_PANELS: dict[Kernel, Kernel] = {
    label_blocks: label_panels,
    target_blocks: target_panels,
    index_blocks: index_panels,
}


def softmax_cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    axis: int = -1,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    reduction: str = "mean",
    empty: str = "nan",
    on_bad_label: str = "raise",
) -> Any:
    """Cross-entropy of softmax(logits) to targets: -Σ t log softmax(logits).

    Parameters
    ----------
    logits : array_like
        Scores of the classes along `axis`; float32, float64, float16 or bfloat16, integers become
        float64.
    targets : array_like, or tuple of two
        Integers of any width, shaped as logits without `axis`: labels. Floats shaped as logits:
        probabilities, which need not sum to 1. (indices, weights), integers and floats with a last
        axis of k more than labels: probabilities of k classes, those of an index met twice added.
    axis : int
        The axis of the classes.
    class_weight : array_like, (n_classes,), optional
        Multiplies the class's part of the loss.
    sample_weight : array_like, shaped as logits without `axis`, optional
        Multiplies the row's loss.
    ignore_index : int, optional
        Rows with this label count for nothing and are never read.
    label_smoothing : float, 0 to 1
        ε: the targets become (1 - ε) t + ε / n_classes.
    z_loss : float, 0 or more
        Adds z_loss · logsumexp(logits)² to a row's loss, before its weight multiplies it.
    softcap : float, optional
        The logits become softcap · tanh(logits / softcap) first. It and the temperature may be
        1e-18 to 1e18, for float64 1e-150 to 1e150.
    temperature : float
        Then they are divided by it.
    reduction : {"mean", "sum", "none"}
        "mean" divides by Σ class_weight[label]·sample_weight over rows not ignored; with
        probabilities by Σ sample_weight.
    empty : {"nan", "zero"}
        The mean where that denominator is 0.
    on_bad_label : {"raise", "nan", "ignore"}
        What a label outside 0 … n_classes - 1 does: an IndexError; a loss of NaN, not counted in
        the denominator; or as if it were ignored.

    Returns
    -------
    number or ndarray
        Of the logits' dtype, float32 for those of 16 bits; with ``reduction="none"`` shaped as
        logits without `axis`.

    Raises
    ------
    TypeError
        If an argument is of a wrong kind.
    ValueError
        If a shape or an option does not fit, or there are rows but no classes.
    IndexError
        For a bad label, naming the first such row.

    Notes
    -----
    A row's loss is within 2 ULP (2.5 with a soft cap), the mean of many rows within 1 ULP.
    Confident rows keep their precision: [20, 0, 0] with label 0 costs 4.122307e-09. (Capped or
    divided logits are rounded once: where the others are c below the label's, a loss is within c
    times as many ULP.) A NaN or +inf makes the row's loss NaN; -inf at the label +inf; a
    probability 0 on a -inf logit contributes 0. A soft cap makes ±inf finite. Logits of 16 bits are
    computed in float32, probabilities and weights likewise.

    Examples
    --------
    >>> fastbp.softmax_cross_entropy([[20.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [0, 1], reduction="none")
    array([4.12230724e-09, 1.09861229e+00])
    """
    loss = doors[LOSS](
        logits, targets, 1.0, None, axis, class_weight, sample_weight, ignore_index,
        label_smoothing, z_loss, softcap, temperature, reduction, empty, on_bad_label,
    )  # fmt: skip
    if loss is not None:
        return loss
    options = (
        axis, class_weight, sample_weight, ignore_index, label_smoothing, z_loss, softcap,
        temperature, reduction, empty, on_bad_label,
    )  # fmt: skip
    if is_on_device(logits):
        return _on_gpu().softmax_cross_entropy(*_for_gpu(logits, targets, *options))
    problem = row_loss(logits, targets, *options)
    return _solve(problem, _ONE, None, options)


def softmax_cross_entropy_with_grad(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    axis: int = -1,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    reduction: str = "mean",
    empty: str = "nan",
    on_bad_label: str = "raise",
    out: Array | None = None,
) -> tuple[Any, Array]:
    """Cross-entropy of softmax(logits) and its gradient, in one pass.

    Parameters
    ----------
    logits, targets, axis, class_weight, sample_weight, ignore_index, label_smoothing, z_loss, \
softcap, temperature, reduction, empty, on_bad_label
        As in `softmax_cross_entropy`.
    out : ndarray, optional
        Where to write the gradient, of the logits' shape and dtype; it may be logits.

    Returns
    -------
    loss : number or ndarray
        As `softmax_cross_entropy`.
    dlogits : ndarray
        Gradient of the loss, shaped as logits; with ``reduction="none"`` each row's own.

    Raises
    ------
    TypeError, ValueError, IndexError
        As `softmax_cross_entropy`; also if out does not fit.

    Notes
    -----
    dlogits = (p Σu - u) · weight, p = softmax(logits), u the weighted targets. With labels every
    column is within 2 ULP, within 3.5 where weights multiply it; with probabilities or smoothing
    within 3 ULP (3.5) of the larger of p Σu and u, whose difference it is. A z-loss adds a third
    term. Capped or divided logits are rounded once, so that entries of the gradient whose logit is
    c below the row's largest one are within 3.5 c ULP, and 6 c with a soft cap, for c > 1.
    Gradients of 16 bits are rounded to those once more. Ignored rows, and all rows where the mean's
    denominator is 0, have gradient 0.

    Examples
    --------
    >>> loss, dlogits = fastbp.softmax_cross_entropy_with_grad([[20.0, 0.0, 0.0]], [0])
    >>> dlogits
    array([[-4.12230723e-09,  2.06115361e-09,  2.06115361e-09]])
    """
    both: tuple[Any, Array] | None = doors[BOTH](
        logits, targets, 1.0, out, axis, class_weight, sample_weight, ignore_index,
        label_smoothing, z_loss, softcap, temperature, reduction, empty, on_bad_label,
    )  # fmt: skip
    if both is not None:
        return both
    options = (
        axis, class_weight, sample_weight, ignore_index, label_smoothing, z_loss, softcap,
        temperature, reduction, empty, on_bad_label,
    )  # fmt: skip
    if is_on_device(logits):
        given = _for_gpu(logits, targets, *options)
        return _on_gpu().softmax_cross_entropy_with_grad(*given, out)  # type: ignore[no-any-return]
    problem = row_loss(logits, targets, *options)
    dlogits = gradient_like(problem, out)
    return _solve(problem, _ONE, dlogits, options), dlogits


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
    z_loss: float = 0.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    reduction: str = "mean",
    empty: str = "nan",
    on_bad_label: str = "raise",
    out: Array | None = None,
) -> Array:
    """Gradient of softmax_cross_entropy, given the gradient by its loss.

    Parameters
    ----------
    dloss : array_like
        Gradient by the loss, shaped as the loss.
    logits, targets, axis, class_weight, sample_weight, ignore_index, label_smoothing, z_loss, \
softcap, temperature, reduction, empty, on_bad_label
        As they were given to `softmax_cross_entropy`.
    out : ndarray, optional
        Where to write the gradient, of the logits' shape and dtype; it may be logits.

    Returns
    -------
    ndarray
        dlogits, shaped as logits.

    Raises
    ------
    TypeError, ValueError, IndexError
        As `softmax_cross_entropy`; also if dloss or out does not fit.

    Notes
    -----
    As `softmax_cross_entropy_with_grad`, times dloss; with labels, every column is within 2 ULP,
    and within 3.5 where weights multiply it.

    Examples
    --------
    >>> fastbp.softmax_cross_entropy_backward(2.0, [[0.0, 0.0]], [0])
    array([[-1.,  1.]])
    """
    if type(reduction) is str and reduction != "none":
        both: tuple[Any, Array] | None = doors[BOTH](
            logits, targets, dloss, out, axis, class_weight, sample_weight, ignore_index,
            label_smoothing, z_loss, softcap, temperature, reduction, empty, on_bad_label,
        )  # fmt: skip
        if both is not None:
            return both[1]
    options = (
        axis, class_weight, sample_weight, ignore_index, label_smoothing, z_loss, softcap,
        temperature, reduction, empty, on_bad_label,
    )  # fmt: skip
    if is_on_device(logits):
        given_on_gpu = _for_gpu(logits, targets, *options)
        return _on_gpu().softmax_cross_entropy_backward(dloss, *given_on_gpu, out)  # type: ignore[no-any-return]
    problem = row_loss(logits, targets, *options)
    rows_have_each = problem.reduction == "none"
    dtype = computed_in(problem.logits.dtype) if rows_have_each else np.dtype(np.float64)
    given = of_dtype(as_values(dloss, "dloss"), dtype)
    same_shape(given, "dloss", problem.loss_shape, "the loss")
    dlogits = gradient_like(problem, out, given)
    _solve(problem, given.reshape(-1), dlogits, options)
    return dlogits


def _on_gpu() -> Any:
    """The module that does the same on a GPU."""
    from ..cuda import losses

    return losses


def _for_gpu(
    logits: Any, targets: Any, axis: Any, class_weight: Any, sample_weight: Any, *options: Any
) -> tuple[dict[str, Any], Any, RowOptions]:
    """The arrays, the axis, and the options, checked, as `_on_gpu` takes them."""
    arrays = {
        "logits": logits, "targets": targets, "class_weight": class_weight,
        "sample_weight": sample_weight,
    }  # fmt: skip
    return arrays, axis, row_options(*options)


def _kernel(
    p: RowLoss, dloss: Array, x: Array, probabilities: Array | None, dx: Array | None
) -> tuple[Kernel, Any, tuple[Any, ...]]:
    """The kernel for a problem, the key that tells its types apart, and its first arguments."""
    _, indices, given = p.targets
    weight = p.class_weight if p.class_weight.size else None
    smoothing = None
    if p.smoothing or probabilities is not None:
        smoothing = smoothing_array(p.smoothing, p.n_classes)
    skipped = (p.ignore, p.has_ignore, p.bad_is_nan)
    key = (p.logits.dtype.char, dloss.dtype.char, dx is None, *[o is None for o in transform(p)])
    if probabilities is not None:
        return target_blocks, (*key, weight is None), (x, probabilities, weight, smoothing)
    # (A share so small that it is 0 would make NaN of -inf.)
    shared = smoothing is None or (weight is None and smoothing[2] > 0.0)
    if indices is not None and given is None and shared:
        labels = indices[:, 0]
        arguments = x, labels, p.class_weight, *skipped, smoothing
        return label_blocks, (*key, labels.dtype.char, smoothing is None), arguments
    options = indices, given, weight, smoothing
    key = (*key, *(None if o is None else o.dtype.char for o in options))
    return index_blocks, key, (x, *options, *skipped)


def _solve(
    p: RowLoss, dloss: Array, dlogits: Array | None, options: tuple[Any, ...] | None = None
) -> Any:
    """The reduced loss; the gradient goes to dlogits, if that is given.

    The options are those of the call, if calls such as this are to be remembered.
    """
    block, n_blocks = blocks_of_rows(p.n_rows, p.logits.size)
    losses = np.empty(p.n_rows if p.reduction == "none" else 0, computed_in(p.logits.dtype))
    sums = np.zeros((n_blocks, 2))
    # The gradient by the logits has the temperature in its denominator, too.
    denominator = p.denominator * p.temperature
    x, probabilities, dx = _laid_out(p, dlogits)
    kernel, key, arguments = _kernel(p, dloss, x, probabilities, dx)
    softcap, temperature, z = transform(p)
    common = (
        p.sample_weight, denominator, dloss, losses, sums, dx, block, softcap, temperature, z
    )  # fmt: skip
    if x.ndim == 2:
        plan = plan_of_wide_rows(kernel, x) if temperature is None else None
        if plan is not None:
            plan(*arguments, *common)
        else:
            launch(kernel, key, n_blocks, x.size, 1, *arguments, *common)
    else:
        launch_panels(kernel, _IN_PANELS[kernel], key, n_blocks, losses, *arguments, *common)
    if dlogits is not None and dx is not None:
        put_back(dx, dlogits, p.axes)
    # (With dloss of another type it is another kernel, of the rows' own dloss.)
    if options is not None and dloss.dtype == _ONE.dtype:
        remember_rows(p, options, kernel, key, dx)
    if p.reduction == "none":
        return losses.reshape(p.loss_shape)[()]  # of a single row, a number
    return reduced(sums, p)


def _laid_out(p: RowLoss, dlogits: Array | None) -> tuple[Array, Array | None, Array | None]:
    """Logits, probabilities and gradient as rows, or all three as panels."""
    probabilities = p.targets.probabilities
    given = [array for array in (p.logits, probabilities, dlogits) if array is not None]
    views = views_of(given, p.axes)
    if views is None:
        views = [rows_of(array, p.axes) for array in given]
        if dlogits is not None:
            views[-1] = rows_to_write(dlogits, p.axes)
    x, *others = views
    return (
        x,
        None if probabilities is None else others[0],
        None if dlogits is None else others[-1],
    )
