"""Plain calls: compiled functions that check what they are given, and compute if it is plain.

Where arrays are contiguous, of the shapes expected, the same memory or apart, and for losses small,
nothing stands between the caller and the kernel. To find that out takes Python
longer than a small kernel runs; compiled code does it in some nanoseconds, and says no if there is
more to do. As the kernel is given by the address of its code, each function here is compiled but
once for arrays of one dtype and number of axes.
"""

from typing import Any

import numpy as np

from ..elementary import two_sum
from .elementwise import GRAIN, PARALLEL_FROM
from .elementwise_losses import BLOCK as ELEMENTS
from .row_losses import BLOCK, count_rows
from .vectors import call_kernel, one_row, place, share
from .wide_rows import WIDE

Array = np.ndarray[Any, Any]

# Fewer logits are one block, see `blocks_of_rows`.
ONE_BLOCK = 2 * BLOCK


def apart(a: int, a_bytes: int, b: int, b_bytes: int) -> bool:
    """Whether places from a on have none in common with those from b on."""
    return a + a_bytes <= b or b + b_bytes <= a


def can_hold_gradient(dx: int, dx_bytes: int, x: int, x_bytes: int) -> bool:
    """Whether the gradient by x, which is as large, may go to dx: it is x, or apart."""
    return dx_bytes == x_bytes and (dx == x or apart(dx, dx_bytes, x, x_bytes))


def is_untouched(other: int, other_bytes: int, dx: int, dx_bytes: int) -> bool:
    """Whether what is written to dx changes no other input, which may be empty."""
    return other_bytes == 0 or (other_bytes > 0 and apart(other, other_bytes, dx, dx_bytes))


def run_all(
    kernel: int, by_rows: bool, loop: int, threads: int, x: Array, arguments: tuple[Any, ...]
) -> bool:
    """Runs a kernel for all rows or elements of x, by that loop and so many threads if it is large.

    Not if nobody can say how many (0), or if rows are so wide that threads may share them.
    """
    n = x.shape[0] if by_rows else x.size
    grain = 1 if by_rows else GRAIN
    if x.size < PARALLEL_FROM:
        call_kernel(kernel, 0, n, arguments)
    elif threads == 0 or (by_rows and x.size >= WIDE * n):
        return False
    elif threads == 1 or n <= grain:
        call_kernel(kernel, 0, n, arguments)
    else:
        share(loop, kernel, n, min(threads, (n + grain - 1) // grain), grain, arguments)
    return True


def map_if_plain(kernel: int, by_rows: bool, loop: int, threads: int, x: Array, out: Array) -> bool:
    """Runs a kernel of one input, as `run_all` does, unless something stands in its way.

    Says whether it did.
    """
    x_at, x_bytes = place(x)
    out_at, out_bytes = place(out)
    if x.shape != out.shape or x_bytes < 0:
        return False
    if not can_hold_gradient(out_at, out_bytes, x_at, x_bytes):
        return False
    return run_all(kernel, by_rows, loop, threads, x, (x, out))


def map_two_if_plain(
    kernel: int, by_rows: bool, loop: int, threads: int, x: Array, y: Array, out: Array
) -> bool:
    """The same of two inputs; out may be either, of rows the first only."""
    x_at, x_bytes = place(x)
    y_at, y_bytes = place(y)
    out_at, out_bytes = place(out)
    if x.shape != out.shape or y.shape != x.shape or x_bytes < 0:
        return False
    if not (
        can_hold_gradient(out_at, out_bytes, x_at, x_bytes)
        and can_hold_gradient(out_at, out_bytes, y_at, y_bytes)
    ):
        return False
    if by_rows and y_at == out_at:
        return False
    return run_all(kernel, by_rows, loop, threads, x, (x, y, out))


def reduce_if_plain(
    kernel: int, by_rows: bool, loop: int, threads: int, x: Array, out: Array
) -> bool:
    """The same for a kernel that makes a number of each row; out touches no input."""
    x_at, x_bytes = place(x)
    out_at, out_bytes = place(out)
    if out.size != x.shape[0] or min(x_bytes, out_bytes) < 0:
        return False
    if not is_untouched(x_at, x_bytes, out_at, out_bytes):
        return False
    return run_all(kernel, by_rows, loop, threads, x, (x, out))


# losses of rows -----------------------------------------------------------------------------------

# What is asked of a loss: (to divide by the denominator, 0 for a mean of nothing, the losses of all
# rows or elements, the gradient, the loss at all).
Asked = tuple[bool, bool, bool, bool, bool]


def label_loss_if_small(
    kernel: int, x: Array, labels: Array, class_weight: Array, sample_weight: Array,
    smoothing: Any, dloss: float, options: tuple[Any, ...], losses: Array, dx: Array,
) -> bool:  # fmt: skip
    """The loss of rows with a label each, and its gradient, unless something stands in the way.

    Says whether it was computed. Weights that are not given are empty. `losses` takes the loss, or
    those of all rows; dx the gradient, if that is asked for. The kernel is `label_blocks`, or where
    the option `indexed` says so `index_blocks`.
    """
    ignore, has_ignore, raises, bad_is_nan, indexed, asked, transform = options
    n_rows, n = x.shape
    if place(x)[1] <= 0 or x.size >= ONE_BLOCK or labels.size != n_rows:
        return False
    if not (are_weights(class_weight, n) and are_weights(sample_weight, n_rows)):
        return False
    if asked[3] and not may_be_written(dx, x, labels, class_weight, sample_weight):
        return False
    indices = labels[:, None]
    bad, denominator = count_rows(
        0, n_rows, n, indices, class_weight, sample_weight, ignore, has_ignore
    )
    if bad >= 0 and raises:
        return False
    if not asked[0]:
        denominator = 1.0
    sums, dlosses, (softcap, heat, z, temperature) = np.empty((1, 2)), np.empty(1), transform
    dlosses[0] = dloss
    each = losses if asked[2] else losses[:0]
    before = (sample_weight, denominator * temperature, dlosses, each, sums)
    behind = (n_rows, softcap, heat, z)
    if indexed:
        few = (x, indices, None, class_weight, smoothing, ignore, has_ignore, bad_is_nan, *before)
        if asked[3]:
            call_kernel(kernel, 0, 1, (*few, dx, *behind))
        else:
            call_kernel(kernel, 0, 1, (*few, None, *behind))
    else:
        all_ = (x, labels, class_weight, ignore, has_ignore, bad_is_nan, smoothing, *before)
        if asked[3]:
            call_kernel(kernel, 0, 1, (*all_, dx, *behind))
        else:
            call_kernel(kernel, 0, 1, (*all_, None, *behind))
    if not asked[2]:
        losses[0] = loss_of_sums(sums, denominator, asked)
    return True


def target_loss_if_small(
    kernel: int, x: Array, targets: Array, class_weight: Any, sample_weight: Array,
    smoothing: Array, dloss: float, options: tuple[Any, ...], losses: Array, dx: Array,
) -> bool:  # fmt: skip
    """The same with probabilities; here class_weight may be None."""
    asked, transform = options
    n_rows, n = x.shape
    if place(x)[1] <= 0 or x.size >= ONE_BLOCK or x.shape != targets.shape or place(targets)[1] < 0:
        return False
    if class_weight is not None and not are_weights(class_weight, n):
        return False
    if not are_weights(sample_weight, n_rows):
        return False
    if asked[3] and not may_be_written(dx, x, targets, class_weight, sample_weight):
        return False
    denominator, is_exact = float(n_rows), True
    if sample_weight.size:
        denominator, is_exact = exact_sum(sample_weight)
    if not is_exact:
        return False
    if not asked[0]:
        denominator = 1.0
    sums, dlosses, (softcap, heat, z, temperature) = np.empty((1, 2)), np.empty(1), transform
    dlosses[0] = dloss
    each = losses if asked[2] else losses[:0]
    before = (sample_weight, denominator * temperature, dlosses, each, sums)
    behind = (n_rows, softcap, heat, z)
    given = (x, targets, class_weight, smoothing, *before)
    if asked[3]:
        call_kernel(kernel, 0, 1, (*given, dx, *behind))
    else:
        call_kernel(kernel, 0, 1, (*given, None, *behind))
    if not asked[2]:
        losses[0] = loss_of_sums(sums, denominator, asked)
    return True


def may_be_written(dx: Array, x: Array, targets: Array, a: Any, b: Any) -> bool:
    """Whether the gradient by x may go to dx, which touches no target and none of the weights."""
    dx_at, dx_bytes = place(dx)
    x_at, x_bytes = place(x)
    targets_at, targets_bytes = place(targets)
    a_at, a_bytes = place(a)
    b_at, b_bytes = place(b)
    return (
        x.shape == dx.shape
        and can_hold_gradient(dx_at, dx_bytes, x_at, x_bytes)
        and is_untouched(targets_at, targets_bytes, dx_at, dx_bytes)
        and is_untouched(a_at, a_bytes, dx_at, dx_bytes)
        and is_untouched(b_at, b_bytes, dx_at, dx_bytes)
    )


def are_weights(w: Array, n: int) -> bool:
    """Whether there are none, or n that follow one another."""
    return w.size == 0 or (w.size == n and place(w)[1] > 0)


def exact_sum(w: Array) -> tuple[float, bool]:
    """The sum, rounded once, and whether it is known to be that and finite."""
    s = s_lo = lost = 0.0
    for i in range(w.size):
        s, more = two_sum(s, np.float64(w[i]))
        s_lo, error = two_sum(s_lo, more)
        lost = max(lost, abs(error))
    return s + s_lo, bool(lost == 0.0 and np.isfinite(s))


def loss_of_sums(sums: Array, denominator: float, asked: Asked) -> float:
    """What `total_of` makes of the sums of a single block."""
    total = 0.0 + sums[0, 0]
    if np.isfinite(total):
        total += sums[0, 1]
    if denominator != 0.0:
        return float(total / denominator)
    if np.isnan(total):
        return float(total)
    return 0.0 if asked[1] else np.nan


# other losses -------------------------------------------------------------------------------------


def probability_loss_if_small(
    kernel: int, p: Array, targets: Array, with_labels: Any, asked: Asked, losses: Array
) -> bool:
    """The same for `label_log_blocks`, or where with_labels is None for `target_log_blocks`."""
    n_rows, n = p.shape
    p_bytes, targets_bytes = place(p)[1], place(targets)[1]
    if p_bytes <= 0 or p.size >= ONE_BLOCK or targets.shape[0] != n_rows:
        return False
    if with_labels is None:
        if p.shape != targets.shape or targets_bytes < 0:
            return False
    else:
        for i in range(n_rows):
            k: Any = np.int64(targets[i])
            if k < 0 or k >= n:
                return False
    sums = np.empty((1, 2))
    if asked[2]:
        call_kernel(kernel, 0, 1, (p, targets, losses, sums, n_rows))
    else:
        call_kernel(kernel, 0, 1, (p, targets, None, sums, n_rows))
        losses[0] = loss_of_sums(sums, float(n_rows) if asked[0] else 1.0, asked)
    return True


def element_loss_if_small(
    kernel: int, x: Array, targets: Array, dloss: float, asked: Asked, losses: Array, dx: Array
) -> bool:
    """The same for a kernel of `loss_blocks` without weights."""
    is_mean, _, each, with_grad, with_loss = asked
    if x.size > ELEMENTS or place(x)[1] <= 0 or x.shape != targets.shape or place(targets)[1] < 0:
        return False
    if with_grad and not may_be_written(dx, x, targets, None, None):
        return False
    sums = np.empty((1, 2))
    denominator = float(x.size) if is_mean else 1.0
    given = (one_row(x), one_row(targets), None, 1, 1, None, 1, 1, None, dloss, denominator)
    y, dy = one_row(losses), one_row(dx)
    if not with_loss:
        call_kernel(kernel, 0, 1, (*given, None, None, dy, ELEMENTS))
    elif each:
        if with_grad:
            call_kernel(kernel, 0, 1, (*given, y, None, dy, ELEMENTS))
        else:
            call_kernel(kernel, 0, 1, (*given, y, None, None, ELEMENTS))
    else:
        if with_grad:
            call_kernel(kernel, 0, 1, (*given, None, sums, dy, ELEMENTS))
        else:
            call_kernel(kernel, 0, 1, (*given, None, sums, None, ELEMENTS))
        losses[0] = loss_of_sums(sums, denominator, asked)
    return True
