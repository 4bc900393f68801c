"""Small calls: compiled functions that check what they are given, and compute if it is plain.

Where arrays are contiguous, of the shapes expected, the same memory or apart, and not worth sharing
among threads, nothing stands between the caller and the kernel. To find that out takes Python
longer than a small kernel runs; compiled code does it in some nanoseconds, and says no if there is
more to do. As the kernel is given by the address of its code, each function here is compiled but
once for arrays of one dtype and number of axes.
"""

from typing import Any

import numpy as np

from ..elementary import two_sum
from .elementwise import PARALLEL_FROM
from .elementwise_losses import BLOCK as ELEMENTS
from .row_losses import BLOCK, count_rows
from .vectors import call_kernel, one_row

Array = np.ndarray[Any, Any]

# Fewer logits are one block, see `blocks_of_rows`.
ONE_BLOCK = 2 * BLOCK


def contiguous(x: Array) -> bool:
    """Whether the elements of x follow one another."""
    step = x.itemsize
    for d in range(x.ndim - 1, -1, -1):
        if x.strides[d] != step:
            return False
        step *= x.shape[d]
    return True


def apart(x: Array, y: Array) -> bool:
    """Whether two contiguous arrays have no place in common; may say no if one is empty."""
    # Addresses are unsigned, and so would be their difference.
    distance = np.intp(x.ctypes.data) - np.intp(y.ctypes.data)
    return bool(abs(distance) >= max(x.size * x.itemsize, y.size * y.itemsize))


def same_or_apart(x: Array, y: Array) -> bool:
    """Whether two contiguous arrays begin at one place, or have none in common."""
    return x.ctypes.data == y.ctypes.data or apart(x, y)


def map_if_small(kernel: int, by_rows: bool, x: Array, out: Array) -> bool:
    """Runs a kernel of one input, for all rows or elements, unless something stands in its way.

    Says whether it did.
    """
    if x.size >= PARALLEL_FROM or x.shape != out.shape:
        return False
    if not (contiguous(x) and contiguous(out) and same_or_apart(x, out)):
        return False
    call_kernel(kernel, 0, x.shape[0] if by_rows else x.size, (x, out))
    return True


def map_two_if_small(kernel: int, by_rows: bool, x: Array, y: Array, out: Array) -> bool:
    """The same of two inputs; out may be either, of rows the first only."""
    if x.size >= PARALLEL_FROM or x.shape != out.shape or y.shape != x.shape:
        return False
    if not (contiguous(x) and contiguous(y) and contiguous(out)):
        return False
    if not (same_or_apart(x, out) and same_or_apart(y, out)):
        return False
    if by_rows and y.ctypes.data == out.ctypes.data:
        return False
    call_kernel(kernel, 0, x.shape[0] if by_rows else x.size, (x, y, out))
    return True


def reduce_if_small(kernel: int, _by_rows: bool, x: Array, out: Array) -> bool:
    """The same for a kernel that makes a number of each row; out touches no input."""
    if x.size >= PARALLEL_FROM or out.size != x.shape[0] or not contiguous(x):
        return False
    if not (contiguous(out) and (x.size == 0 or apart(x, out))):
        return False
    call_kernel(kernel, 0, x.shape[0], (x, out))
    return True


# losses of rows -----------------------------------------------------------------------------------


def label_loss_if_small(
    kernel: int, x: Array, labels: Array, class_weight: Array, sample_weight: Array,
    smoothing: Any, dloss: float, options: tuple[Any, ...], losses: Array, dx: Any,
) -> bool:  # fmt: skip
    """The loss of rows with a label each, and its gradient, unless something stands in the way.

    Says whether it was computed. Weights that are not given are empty. `losses` takes the loss, or
    those of all rows; dx the gradient, if it is not None. The kernel is `label_blocks`, or where
    the option `indexed` says so `index_blocks`.
    """
    ignore, has_ignore, raises, bad_is_nan, indexed, to_loss, transform = options
    n_rows, n = x.shape
    if not are_rows(x, labels, sample_weight):
        return False
    if class_weight.size and not (class_weight.size == n and contiguous(class_weight)):
        return False
    if dx is not None and not (
        can_hold_gradient(dx, x)
        and is_untouched(labels, dx)
        and is_untouched(class_weight, dx)
        and is_untouched(sample_weight, dx)
    ):
        return False
    indices = labels[:, None]
    bad, denominator = count_rows(
        0, n_rows, n, indices, class_weight, sample_weight, ignore, has_ignore
    )
    if bad >= 0 and raises:
        return False
    sums = np.empty((1, 2))
    common = last_arguments(
        n_rows, sample_weight, denominator, dloss, losses, sums, dx, to_loss, transform
    )
    if indexed:
        few = (x, indices, None, class_weight, smoothing, ignore, has_ignore, bad_is_nan)
        call_kernel(kernel, 0, 1, few + common)
    else:
        given = (x, labels, class_weight, ignore, has_ignore, bad_is_nan, smoothing)
        call_kernel(kernel, 0, 1, given + common)
    reduce_sums(sums, denominator, losses, to_loss)
    return True


def target_loss_if_small(
    kernel: int, x: Array, targets: Array, class_weight: Any, sample_weight: Array,
    smoothing: Array, dloss: float, options: tuple[Any, ...], losses: Array, dx: Any,
) -> bool:  # fmt: skip
    """The same with probabilities; here class_weight may be None."""
    to_loss, transform = options
    n_rows, n = x.shape
    if not (are_rows(x, targets, sample_weight) and x.shape == targets.shape):
        return False
    if not contiguous(targets) or (
        dx is not None
        and not (
            can_hold_gradient(dx, x)
            and is_untouched(targets, dx)
            and is_untouched(sample_weight, dx)
        )
    ):
        return False
    if class_weight is not None and not (
        class_weight.size == n
        and contiguous(class_weight)
        and (dx is None or is_untouched(class_weight, dx))
    ):
        return False
    denominator = float(n_rows)
    if sample_weight.size:
        denominator, is_exact = exact_sum(sample_weight)
        if not is_exact:
            return False
    sums = np.empty((1, 2))
    common = last_arguments(
        n_rows, sample_weight, denominator, dloss, losses, sums, dx, to_loss, transform
    )
    given = (x, targets, class_weight, smoothing)
    call_kernel(kernel, 0, 1, given + common)
    reduce_sums(sums, denominator, losses, to_loss)
    return True


def are_rows(x: Array, targets: Array, sample_weight: Array) -> bool:
    """Whether x is a block of rows, which have a target each, and a weight if there are any."""
    n_rows = x.shape[0]
    if x.size >= ONE_BLOCK or x.size == 0 or targets.shape[0] != n_rows or not contiguous(x):
        return False
    return bool(
        sample_weight.size == 0 or (sample_weight.size == n_rows and contiguous(sample_weight))
    )


def can_hold_gradient(dx: Array, x: Array) -> bool:
    """Whether the gradient by x may go to dx: it is x, or apart."""
    return bool(x.shape == dx.shape and contiguous(dx) and same_or_apart(x, dx))


def is_untouched(other: Array, dx: Array) -> bool:
    """Whether what is written to dx changes no other input."""
    return bool(other.size == 0 or (contiguous(other) and apart(other, dx)))


def exact_sum(w: Array) -> tuple[float, bool]:
    """The sum, rounded once, and whether it is known to be that and finite."""
    s = s_lo = lost = 0.0
    for i in range(w.size):
        s, more = two_sum(s, np.float64(w[i]))
        s_lo, error = two_sum(s_lo, more)
        lost = max(lost, abs(error))
    return s + s_lo, bool(lost == 0.0 and np.isfinite(s))


def last_arguments(
    n_rows: int, sample_weight: Array, denominator: float, dloss: float, losses: Array, sums: Array,
    dx: Any, to_loss: tuple[bool, ...], transform: tuple[Any, ...],
) -> Any:  # fmt: skip
    """What the kernels of rows take behind the targets, for rows that are a single block."""
    is_mean, _, has_losses = to_loss
    softcap, given_temperature, z, temperature = transform
    over = (denominator if is_mean else 1.0) * temperature
    each = losses if has_losses else losses[:0]
    return (
        sample_weight, over, np.full(1, dloss), each, sums, dx, n_rows, softcap, given_temperature,
        z,
    )  # fmt: skip


def reduce_sums(sums: Array, denominator: float, losses: Array, to_loss: tuple[bool, ...]) -> None:
    """What `total_of` makes of the sums of a single block, unless losses are wanted one by one."""
    is_mean, empty_is_zero, has_losses = to_loss
    if has_losses:
        return
    total = 0.0 + sums[0, 0]
    if np.isfinite(total):
        total += sums[0, 1]
    if is_mean:
        if denominator != 0.0:
            total /= denominator
        elif not np.isnan(total):
            total = 0.0 if empty_is_zero else np.nan
    losses[0] = total


# other losses -------------------------------------------------------------------------------------


def probability_loss_if_small(
    kernel: int, p: Array, targets: Array, with_labels: Any, to_loss: tuple[bool, ...],
    losses: Array,
) -> bool:  # fmt: skip
    """The same for `label_log_blocks`, or where with_labels is None for `target_log_blocks`."""
    n_rows, n = p.shape
    if p.size >= ONE_BLOCK or p.size == 0 or targets.shape[0] != n_rows or not contiguous(p):
        return False
    if with_labels is None:
        if p.shape != targets.shape or not contiguous(targets):
            return False
    else:
        for i in range(n_rows):
            k: Any = np.int64(targets[i])
            if k < 0 or k >= n:
                return False
    sums = np.empty((1, 2))
    if to_loss[2]:
        call_kernel(kernel, 0, 1, (p, targets, losses, sums, n_rows))
    else:
        call_kernel(kernel, 0, 1, (p, targets, None, sums, n_rows))
    reduce_sums(sums, float(n_rows), losses, to_loss)
    return True


def element_loss_if_small(
    kernel: int, x: Array, targets: Array, dloss: float, to_loss: tuple[bool, ...], losses: Any,
    dx: Any,
) -> bool:  # fmt: skip
    """The same for a kernel of `loss_blocks` without weights, of which losses or dx may be None."""
    if x.size > ELEMENTS or x.size == 0 or x.shape != targets.shape:
        return False
    if not (contiguous(x) and contiguous(targets)):
        return False
    if dx is not None and not (can_hold_gradient(dx, x) and is_untouched(targets, dx)):
        return False
    is_mean, _, has_losses = to_loss
    denominator = float(x.size) if is_mean else 1.0
    given = (one_row(x), one_row(targets), None, 1, 1, None, 1, 1, None, dloss, denominator)
    if losses is None:
        last = (None, None, one_row(dx), ELEMENTS)
        call_kernel(kernel, 0, 1, given + last)
    elif has_losses:
        with_losses = (one_row(losses), None, one_row(dx), ELEMENTS)
        call_kernel(kernel, 0, 1, given + with_losses)
    else:
        sums = np.empty((1, 2))
        with_sums = (None, sums, one_row(dx), ELEMENTS)
        call_kernel(kernel, 0, 1, given + with_sums)
        reduce_sums(sums, denominator, losses, to_loss)
    return True
