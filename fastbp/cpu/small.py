"""Small calls: compiled functions that check what they are given, and compute if it is plain.

Where arrays are contiguous, of the shapes expected, the same memory or apart, and not worth sharing
among threads, nothing stands between the caller and the kernel. To find that out takes Python
longer than a small kernel runs; compiled code does it in some nanoseconds, and says no if there is
more to do. As the kernel is given by the address of its code, each function here is compiled but
once for arrays of one dtype and number of axes.
"""

from typing import Any

import numpy as np

from .elementwise import PARALLEL_FROM
from .row_losses import BLOCK
from .vectors import call_kernel

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


def same_or_apart(x: Array, y: Array) -> bool:
    """Whether two contiguous arrays begin at one place, or have none in common."""
    # Addresses are unsigned, and so would be their difference.
    distance = np.intp(x.ctypes.data) - np.intp(y.ctypes.data)
    return bool(distance == 0 or abs(distance) >= max(x.size * x.itemsize, y.size * y.itemsize))


def map_if_small(kernel: int, n: int, x: Array, out: Array) -> bool:
    """Runs a kernel of one input, for n rows or elements, unless something stands in its way.

    Says whether it did.
    """
    if x.size >= PARALLEL_FROM or x.shape != out.shape:
        return False
    if not (contiguous(x) and contiguous(out) and same_or_apart(x, out)):
        return False
    call_kernel(kernel, 0, n, (x, out))
    return True


def map_two_if_small(kernel: int, n: int, only_first: bool, x: Array, y: Array, out: Array) -> bool:
    """The same of two inputs; out may be either, or the first only."""
    if x.size >= PARALLEL_FROM or x.shape != out.shape or y.shape != x.shape:
        return False
    if not (contiguous(x) and contiguous(y) and contiguous(out)):
        return False
    if not (same_or_apart(x, out) and same_or_apart(y, out)):
        return False
    if only_first and y.ctypes.data == out.ctypes.data:
        return False
    call_kernel(kernel, 0, n, (x, y, out))
    return True


def reduce_if_small(kernel: int, n: int, x: Array, out: Array) -> bool:
    """The same for a kernel that makes a number of each row, out being new."""
    if x.size >= PARALLEL_FROM or not contiguous(x):
        return False
    call_kernel(kernel, 0, n, (x, out))
    return True


def can_hold_gradient(dx: Array, x: Array, targets: Array) -> bool:
    """Whether the gradient by x may go to dx: it is x, or apart, and touches no target."""
    if x.shape != dx.shape or not (contiguous(dx) and contiguous(targets)):
        return False
    if not (same_or_apart(x, dx) and same_or_apart(targets, dx)):
        return False
    return bool(targets.ctypes.data != dx.ctypes.data)


def label_loss_if_small(
    kernel: int, x: Array, labels: Array, nothing: Array, dx: Any
) -> tuple[bool, float]:
    """(whether it was computed, the mean loss) of softmax_cross_entropy with labels and no options.

    The gradient goes to dx, if that is not None. `nothing` stands for weights.
    """
    n_rows, n = x.shape
    if x.size >= ONE_BLOCK or x.size == 0 or labels.shape[0] != n_rows or not contiguous(x):
        return False, 0.0
    if dx is not None and not can_hold_gradient(dx, x, labels):
        return False, 0.0
    for i in range(n_rows):
        k: Any = np.int64(labels[i])
        if k < 0 or k >= n:
            return False, 0.0
    sums = np.empty((1, 2))
    denominator = float(n_rows)
    given = (x, labels, nothing, 0, False, True, None)
    common = (nothing, denominator, np.ones(1), nothing, sums, dx, n_rows, None, None, None)
    call_kernel(kernel, 0, 1, given + common)
    return True, _mean(sums, denominator)


def target_loss_if_small(
    kernel: int, x: Array, targets: Array, smoothing: Array, nothing: Array, dx: Any
) -> tuple[bool, float]:
    """The same with probabilities."""
    n_rows = x.shape[0]
    if x.size >= ONE_BLOCK or x.size == 0 or x.shape != targets.shape:
        return False, 0.0
    if not (contiguous(x) and contiguous(targets)):
        return False, 0.0
    if dx is not None and not can_hold_gradient(dx, x, targets):
        return False, 0.0
    sums = np.empty((1, 2))
    denominator = float(n_rows)
    given = (x, targets, None, smoothing)
    common = (nothing, denominator, np.ones(1), nothing, sums, dx, n_rows, None, None, None)
    call_kernel(kernel, 0, 1, given + common)
    return True, _mean(sums, denominator)


def _mean(sums: Array, denominator: float) -> float:
    """What `reduced` makes of the sums of a single block."""
    total = sums[0, 0]
    if np.isfinite(total):
        total += sums[0, 1]
    return float(total / denominator)
