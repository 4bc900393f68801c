"""softmax_cross_entropy: softmax and cross-entropy fused, with labels or probabilities.

With m = max x, e_j = exp(x_j - m) and Σ e = 1 + s as in `softmax`, the loss of a row with label k
is log(1 + s) + (m - x_k), and its gradient e_j / (1 + s), at the label less 1, which is minus the
sum of the other e / (1 + s). Neither cancels: a row that is sure of its label still has a loss and
a gradient, where -log(softmax) and p - 1 are 0.

a. Labels alone have a kernel of their own. Probabilities, and labels under smoothing, give every
   class a weight u_c and take the general one.
b. Class and sample weights of a label multiply the row; so the row's last factor holds them, the
   incoming gradient, the denominator of the mean, and the total.
c. Rows go in blocks, each of which adds up its own losses: how many depends on the shape alone, so
   a sum is the same for any number of threads.

Source: Bishop, "Pattern Recognition and Machine Learning" (2006), equations 4.108 and 4.109;
smoothing and the weighted mean as in PyTorch's cross_entropy.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Array, put_back, rows_to_write
from ..checks import as_values, like_first, same_shape
from ..cpu.rows import (
    Smoothing,
    exp_total,
    fill,
    row_max,
    scale_by_any,
    target_sums,
    target_to_gradient,
)
from ..cpu.run import launch
from ..cpu.vectors import (
    Number,
    Pointer,
    lane_numbers,
    load_lanes,
    longest_short_row,
    pick,
    put,
    read_tile,
    row,
    rows_in_tile,
    store_lanes,
    tile_if,
    write_tile,
)
from ..elementary import narrowed, times
from ..formulas.cross_entropy import (
    accumulate_target_loss,
    biased_total,
    gradient_factor,
    label_gradient,
    label_loss,
    others_of_total,
    target_difference,
    target_loss,
    times_weight,
    unbiased_exp_minus,
    weighted,
)
from ..formulas.softmax import (
    add_pairs,
    equal,
    log_of_total,
    reciprocal_of_total,
    scaled,
    unbiased,
)
from .row_losses import (
    BAD,
    NAN,
    RowLoss,
    as_smoothing,
    gradient_like,
    label_to_use,
    reduced,
    row_loss,
    row_weight,
)

BLOCK, MOST_BLOCKS = 8192, 256  # about so many logits in a block of rows, and no more blocks

_ONE = np.ones(1)


def softmax_cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    axis: int = -1,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    empty: str = "nan",
    on_bad_label: str = "raise",
) -> Any:
    """Cross-entropy of softmax(logits) to targets: -Σ t log softmax(logits).

    Parameters
    ----------
    logits : array_like
        Scores of the classes along `axis`; float32 or float64, integers become float64.
    targets : array_like
        Integers of any width, shaped as logits without `axis`: labels. Floats shaped as logits:
        probabilities, which need not sum to 1.
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
        Of the logits' dtype; with ``reduction="none"`` shaped as logits without `axis`.

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
    A row's loss is within 2 ULP, the mean of many rows within 1 ULP. Confident rows keep their
    precision: [20, 0, 0] with label 0 costs 4.122307e-09. A NaN or +inf makes the row's loss NaN;
    -inf at the label +inf; a probability 0 on a -inf logit contributes 0.

    Examples
    --------
    >>> fastbp.softmax_cross_entropy([[20.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [0, 1], reduction="none")
    array([4.12230724e-09, 1.09861229e+00])
    """
    problem = row_loss(
        logits, targets, axis, class_weight, sample_weight, ignore_index, label_smoothing,
        reduction, empty, on_bad_label,
    )  # fmt: skip
    return _solve(problem, _ONE, dx=None)


def softmax_cross_entropy_with_grad(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    axis: int = -1,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    empty: str = "nan",
    on_bad_label: str = "raise",
    out: Array | None = None,
) -> tuple[Any, Array]:
    """Cross-entropy of softmax(logits) and its gradient, in one pass.

    Parameters
    ----------
    logits, targets, axis, class_weight, sample_weight, ignore_index, label_smoothing, reduction, \
empty, on_bad_label
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
    within 3 ULP (3.5) of the larger of p Σu and u, whose difference it is.
    Ignored rows, and all rows where the mean's denominator is 0, have gradient 0.

    Examples
    --------
    >>> loss, dlogits = fastbp.softmax_cross_entropy_with_grad([[20.0, 0.0, 0.0]], [0])
    >>> dlogits
    array([[-4.12230723e-09,  2.06115361e-09,  2.06115361e-09]])
    """
    problem = row_loss(
        logits, targets, axis, class_weight, sample_weight, ignore_index, label_smoothing,
        reduction, empty, on_bad_label,
    )  # fmt: skip
    dlogits = gradient_like(problem, out)
    dx = rows_to_write(dlogits, problem.axes)
    loss = _solve(problem, _ONE, dx)
    return loss, put_back(dx, dlogits, problem.axes)


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
    logits, targets, axis, class_weight, sample_weight, ignore_index, label_smoothing, reduction, \
empty, on_bad_label
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
    problem = row_loss(
        logits, targets, axis, class_weight, sample_weight, ignore_index, label_smoothing,
        reduction, empty, on_bad_label,
    )  # fmt: skip
    if problem.reduction == "none":
        given = like_first(dloss, "dloss", problem.logits)
    else:
        given = as_values(dloss, "dloss").astype(np.float64, copy=False)
    same_shape(given, "dloss", problem.loss_shape, "the loss")
    dlogits = gradient_like(problem, out, given)
    dx = rows_to_write(dlogits, problem.axes)
    _solve(problem, given.reshape(-1), dx)
    return put_back(dx, dlogits, problem.axes)


def _solve(problem: RowLoss, dloss: Array, dx: Array | None) -> Any:
    """The reduced loss; the gradient goes to dx, if that is given."""
    p = problem
    n_rows, n_classes = p.x.shape
    n_blocks = max(1, min(MOST_BLOCKS, p.x.size // BLOCK))
    block = -(-n_rows // n_blocks) or 1
    n_blocks = -(-n_rows // block)
    losses = np.empty(n_rows if p.reduction == "none" else 0, p.logits.dtype)
    sums = np.zeros((n_blocks, 2))
    common = (p.sample_weight, p.denominator, dloss, losses, sums, dx, block)
    skipped = (p.ignore, p.has_ignore, p.bad_is_nan)
    key: Any = (p.logits.dtype.char, dloss.dtype.char, dx is None)
    if p.labels is not None and p.smoothing == 0.0:
        key += (p.labels.dtype.char,)
        given = (p.x, p.labels, p.class_weight, *skipped)
        launch(label_blocks, key, n_blocks, p.x.size, 1, *given, *common)
    else:
        smoothing = as_smoothing(p.smoothing, max(n_classes, 1))
        weight = p.class_weight if p.class_weight.size else None
        labels = p.labels.dtype.char if p.labels is not None else None
        key += (labels, weight is None)
        targets = (p.x, p.probabilities, p.labels, weight, *smoothing, *skipped)
        launch(target_blocks, key, n_blocks, p.x.size, 1, *targets, *common)
    if p.reduction == "none":
        return losses.reshape(p.loss_shape)[()]  # of a single row, a number
    return reduced(sums, p)


# kernels ------------------------------------------------------------------------------------------


def label_row(
    x: Pointer, dx: Pointer, n: int, k: Number, weight: Number, dloss: Number, denominator: float
) -> Number:
    """Loss of one row, or of a tile of them; the gradient goes to dx, if that is not None."""
    # What the row does not decide comes first, and the logarithm last: scaling waits for the rest.
    g, g_lo = gradient_factor(weight, dloss, denominator)
    m = row_max(x, n)
    x_k = pick(x, k)
    s, s_lo = exp_total(x, dx, n, m)
    if dx is not None:
        r, r_lo = reciprocal_of_total(m, s, s_lo)
        r, r_lo = times(r, r_lo, g, g_lo)
        scale_by_any(dx, dx, n, r, r_lo)
        e = unbiased_exp_minus(x_k, m)
        put(dx, k, narrowed(label_gradient(equal(x_k, m), e, s, s_lo, r, r_lo), m))
    t, t_lo = log_of_total(m, s, s_lo)
    return weighted(label_loss(x_k, m, t, t_lo), weight)


def label_blocks(
    first: int, last: int, x: Array, labels: Array, class_weight: Array, ignore: int,
    has_ignore: bool, bad_is_nan: bool, sample_weight: Array, denominator: float, dloss: Array,
    losses: Array, sums: Array, dx: Array, block: int,
) -> None:  # fmt: skip
    """Blocks of rows with a label each."""
    n_rows, n = x.shape
    step = 1
    if n <= longest_short_row(x):
        step = rows_in_tile(x)
    used, weights, dlosses = lane_numbers(x), lane_numbers(x), lane_numbers(x)
    for b in range(first, last):
        total, total_lo = 0.0, 0.0
        end = min(n_rows, (b + 1) * block)
        for i in range(b * block, end, step):
            rows = min(step, end - i)
            for j in range(step):
                used[j], weights[j], dlosses[j] = 0.0, 0.0, 0.0
                if j < rows:
                    k = label_to_use(labels[i + j], n, ignore, has_ignore, bad_is_nan)
                    if k >= 0:
                        used[j] = k
                        weights[j] = row_weight(class_weight, k, sample_weight, i + j)
                        dlosses[j] = dloss[min(i + j, dloss.size - 1)]
            if step > 1:
                tile = read_tile(x, i, rows, n)
                loss = label_row(
                    tile, tile_if(tile, dx), n, load_lanes(tile, used),
                    load_lanes(tile, weights), load_lanes(tile, dlosses), denominator,
                )  # fmt: skip
                store_lanes(tile, weights, loss)
                if dx is not None:
                    write_tile(tile, dx, i, rows, n)
            elif label_to_use(labels[i], n, ignore, has_ignore, bad_is_nan) >= 0:
                weights[0] = label_row(
                    row(x, i), row(dx, i), n, int(used[0]), weights[0], dlosses[0], denominator
                )
            for j in range(rows):
                loss = weights[j]
                k = label_to_use(labels[i + j], n, ignore, has_ignore, bad_is_nan)
                if k < 0:
                    loss = NAN if k == BAD else 0.0
                    if dx is not None:
                        fill(row(dx, i + j), n, loss)
                if losses.size:
                    losses[i + j] = loss
                total, total_lo = add_pairs(total, total_lo, loss, 0.0, loss)
        sums[b, 0], sums[b, 1] = total, total_lo


def target_blocks(
    first: int, last: int, x: Array, probabilities: Array, labels: Array, class_weight: Array,
    keep: float, keep_lo: float, share: float, share_lo: float, ignore: int, has_ignore: bool,
    bad_is_nan: bool, sample_weight: Array, denominator: float, dloss: Array, losses: Array,
    sums: Array, dx: Array, block: int,
) -> None:  # fmt: skip
    """Blocks of rows whose class c has the weight u_c = w_c·(keep·t_c + share)."""
    n_rows, n = x.shape
    smoothing = keep, keep_lo, share, share_lo
    for b in range(first, last):
        total, total_lo = 0.0, 0.0
        for i in range(b * block, min(n_rows, (b + 1) * block)):
            k = 0
            if labels is not None:
                k = label_to_use(labels[i], n, ignore, has_ignore, bad_is_nan)
            if k < 0:
                loss = NAN if k == BAD else 0.0
                if dx is not None:
                    fill(row(dx, i), n, loss)
            else:
                loss = target_row(
                    row(x, i), row(dx, i), n, row(probabilities, i), row(class_weight, 0), k,
                    labels, smoothing, float(sample_weight[i]) if sample_weight.size else 1.0,
                    dloss[min(i, dloss.size - 1)], denominator,
                )  # fmt: skip
            if losses.size:
                losses[i] = loss
            total, total_lo = add_pairs(total, total_lo, loss, 0.0, loss)
        sums[b, 0], sums[b, 1] = total, total_lo


def target_row(
    x: Pointer, dx: Pointer, n: int, targets: Pointer, weights: Pointer, k: int, labels: Array,
    smoothing: Smoothing, weight: float, dloss: float, denominator: float,
) -> Number:  # fmt: skip
    """Loss of one row; the gradient goes to dx, if that is not None.

    With labels, `targets` is None: all classes get what smoothing gives them, and k the rest.
    """
    keep, keep_lo, share, share_lo = smoothing
    m = row_max(x, n)
    x_k = x[k]
    u, u_lo, d, d_lo = target_sums(x, targets, weights, n, m, smoothing)
    s, s_lo = exp_total(x, dx, n, m)
    others, others_lo = u, u_lo  # of the label
    peak, peak_lo, u_k, u_k_lo = keep, keep_lo, share, share_lo
    if labels is not None:
        if weights is not None:
            peak, peak_lo = times_weight(peak, peak_lo, weights[k])
            u_k, u_k_lo = times_weight(u_k, u_k_lo, weights[k])
        u, u_lo = add_pairs(u, u_lo, peak, peak_lo, m)
        d, d_lo = accumulate_target_loss(d, d_lo, peak, peak_lo, m, x_k)
    t, t_lo = log_of_total(m, s, s_lo)
    if dx is not None:
        r, r_lo = reciprocal_of_total(m, s, s_lo)
        r, r_lo = times(r, r_lo, *gradient_factor(weight, dloss, denominator))
        factors = (*biased_total(s, s_lo, m), u, u_lo, *unbiased(r, r_lo, m))
        target_to_gradient(dx, targets, weights, n, smoothing, factors)
        if labels is not None:
            e = unbiased_exp_minus(x_k, m)
            rest, rest_lo = others_of_total(x_k == m, e, s, s_lo)
            others, others_lo = add_pairs(others, others_lo, -u_k, -u_k_lo, m)
            u_k, u_k_lo = add_pairs(u_k, u_k_lo, peak, peak_lo, m)
            difference = target_difference(e, u_k, u_k_lo, rest, rest_lo, others, others_lo, m)
            dx[k] = narrowed(scaled(difference, r, r_lo), m)
    return weighted(target_loss(u, u_lo, t, t_lo, d, d_lo), weight)
