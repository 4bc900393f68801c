"""Plain calls: compiled functions that check what they are given, and compute if it is plain.

Where arrays are contiguous, of the shapes expected, and the same memory or apart (and small, where
a function's name says so), nothing stands between the caller and the kernel. To find that out takes
Python longer than a small kernel runs; compiled code does it in some nanoseconds, and says no if
there is more to do. As the kernel is given by the address of its code, each function here is
compiled but once for arrays of one dtype and number of axes.
"""

from typing import Any

import numpy as np

from ..elementary import two_sum
from .elementwise import GRAIN, PARALLEL_FROM, TEAM
from .elementwise_losses import BLOCK as ELEMENTS
from .row_losses import BLOCK, blocks_of_rows, count_rows
from .vectors import as_float64, call_kernel, one_row, place, share
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


def grain_of(by_rows: bool) -> int:
    """What ranges are multiples of."""
    return 1 if by_rows else GRAIN


def chunks_of(by_rows: bool, team: int, x: Array) -> int:
    """How many threads are to take the rows or elements of x.

    0 if that is unknown (see `run.team`), or if rows are so wide that threads may share them.
    """
    if x.size < PARALLEL_FROM:
        return 1
    n = x.shape[0] if by_rows else x.size
    if by_rows and x.size >= WIDE * n:
        return 0
    return min(team % TEAM, (n + grain_of(by_rows) - 1) // grain_of(by_rows))


def map_if_plain(kernel: int, by_rows: bool, team: int, x: Array, out: Array) -> bool:
    """Runs a kernel of one input for all rows or elements, unless something stands in its way.

    Says whether it did.
    """
    x_at, x_bytes = place(x)
    out_at, out_bytes = place(out)
    if x.shape != out.shape or x_bytes < 0:
        return False
    if not can_hold_gradient(out_at, out_bytes, x_at, x_bytes):
        return False
    chunks = chunks_of(by_rows, team, x)
    if chunks > 0:
        n, grain = x.shape[0] if by_rows else x.size, grain_of(by_rows)
        share(team // TEAM, kernel, n, chunks, grain, (x, out))
    return chunks > 0


def map_two_if_plain(kernel: int, by_rows: bool, team: int, x: Array, y: Array, out: Array) -> bool:
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
    chunks = chunks_of(by_rows, team, x)
    if chunks > 0:
        n, grain = x.shape[0] if by_rows else x.size, grain_of(by_rows)
        share(team // TEAM, kernel, n, chunks, grain, (x, y, out))
    return chunks > 0


def reduce_if_plain(kernel: int, by_rows: bool, team: int, x: Array, out: Array) -> bool:
    """The same for a kernel that makes a number of each row; out touches no input."""
    x_at, x_bytes = place(x)
    out_at, out_bytes = place(out)
    if out.size != x.shape[0] or min(x_bytes, out_bytes) < 0:
        return False
    if not is_untouched(x_at, x_bytes, out_at, out_bytes):
        return False
    chunks = chunks_of(by_rows, team, x)
    if chunks > 0:
        n, grain = x.shape[0] if by_rows else x.size, grain_of(by_rows)
        share(team // TEAM, kernel, n, chunks, grain, (x, out))
    return chunks > 0


# losses of rows -----------------------------------------------------------------------------------

# What is asked of a loss: (to divide by the denominator, 0 for a mean of nothing, the losses of all
# rows or elements, the gradient, the loss at all).
Asked = tuple[bool, bool, bool, bool, bool]


def label_loss_if_plain(
    kernel: int, x: Array, labels: Array, class_weight: Array, sample_weight: Array,
    smoothing: Any, dloss: float, options: tuple[Any, ...], losses: Array, dx: Array, team: int,
) -> bool:  # fmt: skip
    """The loss of rows with a label each, and its gradient, unless something stands in the way.

    Says whether it was computed. Weights that are not given are empty. `losses` takes the loss, or
    those of all rows; dx the gradient, if that is asked for. The kernel is `label_blocks`, or where
    the option `indexed` says so `index_blocks`. What `losses` takes of several blocks, `tell` says;
    the team is `run.team`'s.
    """
    ignore, has_ignore, raises, bad_is_nan, indexed, asked, transform = options
    n_rows, n = x.shape
    block, n_blocks = blocks_of_rows(n_rows, x.size) if x.size >= ONE_BLOCK else (n_rows, 1)
    chunks = min(n_blocks, chunks_of(True, team, x))
    if place(x)[1] <= 0 or labels.size != n_rows or chunks == 0:
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
    dlosses, (softcap, heat, z, temperature) = np.empty(1), transform
    dlosses[0] = dloss
    each = losses if asked[2] else losses[:0]
    sums = np.empty((n_blocks, 2))
    before = (sample_weight, denominator * temperature, dlosses, each, sums)
    behind = (block, softcap, heat, z)
    loop = team // TEAM
    if indexed:
        few = (x, indices, None, class_weight, smoothing, ignore, has_ignore, bad_is_nan, *before)
        if asked[3]:
            share(loop, kernel, n_blocks, chunks, 1, (*few, dx, *behind))
        else:
            share(loop, kernel, n_blocks, chunks, 1, (*few, None, *behind))
    else:
        all_ = (x, labels, class_weight, ignore, has_ignore, bad_is_nan, smoothing, *before)
        if asked[3]:
            share(loop, kernel, n_blocks, chunks, 1, (*all_, dx, *behind))
        else:
            share(loop, kernel, n_blocks, chunks, 1, (*all_, None, *behind))
    return tell(losses, sums, denominator, asked)


def target_loss_if_plain(
    kernel: int, x: Array, targets: Array, class_weight: Any, sample_weight: Array,
    smoothing: Array, dloss: float, options: tuple[Any, ...], losses: Array, dx: Array, team: int,
) -> bool:  # fmt: skip
    """The same with probabilities; here class_weight may be None."""
    asked, transform = options
    n_rows, n = x.shape
    block, n_blocks = blocks_of_rows(n_rows, x.size) if x.size >= ONE_BLOCK else (n_rows, 1)
    chunks = min(n_blocks, chunks_of(True, team, x))
    if chunks == 0 or place(x)[1] <= 0 or x.shape != targets.shape or place(targets)[1] < 0:
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
    dlosses, (softcap, heat, z, temperature) = np.empty(1), transform
    dlosses[0] = dloss
    each = losses if asked[2] else losses[:0]
    sums = np.empty((n_blocks, 2))
    before = (sample_weight, denominator * temperature, dlosses, each, sums)
    behind = (block, softcap, heat, z)
    loop = team // TEAM
    given = (x, targets, class_weight, smoothing, *before)
    if asked[3]:
        share(loop, kernel, n_blocks, chunks, 1, (*given, dx, *behind))
    else:
        share(loop, kernel, n_blocks, chunks, 1, (*given, None, *behind))
    return tell(losses, sums, denominator, asked)


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


def tell(losses: Array, sums: Array, denominator: float, asked: Asked) -> bool:
    """Write the loss of one block; of several the denominator and behind it all sums, in float64.

    Unless the losses of all rows are asked for, which the kernel has written.
    """
    if not asked[2] and losses.size == 1:
        losses[0] = loss_of_sums(sums, denominator, asked)
    elif not asked[2]:
        told = as_float64(losses)
        told[0] = denominator
        for b in range(len(sums)):
            told[2 * b + 2], told[2 * b + 3] = sums[b, 0], sums[b, 1]
    return True


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
