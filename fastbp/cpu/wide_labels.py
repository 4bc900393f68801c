"""Kernels of softmax cross-entropy of a few huge rows with a label each, as those of `wide_rows`.

What a row's label says is found first, as the exponentials may take the logits' place.
"""

from typing import Any

from ..formulas.cross_entropy import gradient_smoothed
from ..formulas.softmax import accumulate, add_pairs
from .label_losses import label_factors, label_losses, max_and_sum_of_block
from .row_losses import BAD, NAN, Array, alone, label_to_use
from .rows import BLOCK, fill, map_row, scale_in_two_steps, total_but_one
from .vectors import Pointer, at, number, pick, put, row, sum_zero
from .wide_rows import COUNT, LINE, blocks_in, total_of_row

# What stands in a line of `numbers` besides: Σx.
ALL, ALL_LO = COUNT + 1, COUNT + 2

# What stands in a line of `of_rows`: the label or what is wrong with it, the row's weight, the
# gradient by its loss, and the label's logit.
OF_ROW = 4
LABEL, WEIGHT, DLOSS, LOGIT = range(OF_ROW)


def labels_of_rows(
    first: int, last: int, x: Array, labels: Array, class_weight: Array, ignore: int,
    has_ignore: bool, bad_is_nan: bool, sample_weight: Array, dloss: Array, of_rows: Array,
) -> None:  # fmt: skip
    """Kernel of what is known before a row is read; a range is of rows."""
    for i in range(first, last):
        k = label_to_use(labels[i], x.shape[1], ignore, has_ignore, bad_is_nan)
        of_rows[i, LABEL] = k
        if k >= 0:
            weight = float(class_weight[k]) if class_weight.size else 1.0
            if sample_weight.size:
                weight *= float(sample_weight[i])
            of_rows[i, WEIGHT], of_rows[i, DLOSS] = weight, dloss[min(i, dloss.size - 1)]
            of_rows[i, LOGIT] = pick(row(x, i), k)


def maxima_and_sums_of_blocks(first: int, last: int, x: Array, _y: Array, numbers: Array) -> None:
    """As `maxima_of_blocks`, and the sum of each block."""
    n = x.shape[1]
    blocks = blocks_in(n)
    for b in range(first, last):
        j = b % blocks * BLOCK
        numbers[b, 0], numbers[b, ALL], numbers[b, ALL_LO] = max_and_sum_of_block(
            at(row(x, b // blocks), j), min(n - j, BLOCK)
        )


def numbers_of_row(
    x: Pointer, known: Pointer, lines: Pointer, blocks: int, smoothing: Pointer
) -> Any:
    """What `label_reduce` gives."""
    m, s, s_lo = total_of_row(x, lines, blocks, total_but_one)
    total = total_lo = sum_zero(x)
    if smoothing is not None:
        for b in range(blocks):
            more, more_lo = lines[b * LINE + ALL], lines[b * LINE + ALL_LO]
            total, total_lo = add_pairs(total, total_lo, more, more_lo, m)
    return m, s, s_lo, number(x, known[LOGIT]), sum_zero(x), sum_zero(x), total, total_lo


def losses_of_rows(
    first: int, last: int, x: Array, smoothing: Array, losses: Array, sums: Array, block: int,
    z: Any, of_rows: Array, numbers: Array,
) -> None:  # fmt: skip
    """Kernel of the losses, as `label_blocks` adds them up; a range is of its blocks of rows."""
    n_rows, n = x.shape
    blocks = blocks_in(n)
    smooth, z = row(smoothing, 0), alone(z)
    for b in range(first, last):
        total, total_lo = 0.0, 0.0
        for i in range(b * block, min(n_rows, (b + 1) * block)):
            known = row(of_rows, i)
            loss = NAN if known[LABEL] == BAD else 0.0
            if known[LABEL] >= 0.0:
                of_row = numbers_of_row(row(x, i), known, row(numbers, i * blocks), blocks, smooth)
                loss = label_losses(known[WEIGHT], z, n, smooth, *of_row)
            if losses.size:
                losses[i] = loss
            total, total_lo = accumulate(total, total_lo, loss)
        sums[b, 0], sums[b, 1] = total, total_lo


_smooth_scale = map_row(gradient_smoothed)


def gradients_of_blocks(
    first: int, last: int, e: Array, dx: Array, smoothing: Array, denominator: float, z: Any,
    of_rows: Array, numbers: Array,
) -> None:  # fmt: skip
    """Kernel of the gradients, from the exponentials in e, which may be dx."""
    n = e.shape[1]
    blocks = blocks_in(n)
    smooth, z = row(smoothing, 0), alone(z)
    for i in range(first // blocks, (last + blocks - 1) // blocks):
        known = row(of_rows, i)
        begin, end = max(first, i * blocks) - i * blocks, min(last, (i + 1) * blocks) - i * blocks
        if known[LABEL] < 0.0:
            j = begin * BLOCK
            blank = NAN if known[LABEL] == BAD else 0.0
            fill(at(row(dx, i), j), min(n, end * BLOCK) - j, blank)
        else:
            of_row = numbers_of_row(row(e, i), known, row(numbers, i * blocks), blocks, smooth)
            factors, d_k = label_factors(
                known[WEIGHT], (known[DLOSS], denominator), z, n, smooth, *of_row
            )
            k = int(known[LABEL])
            for b in range(begin, end):
                j = b * BLOCK
                p, q = at(row(e, i), j), at(row(dx, i), j)
                if smoothing is None:
                    scale_in_two_steps(p, q, min(n - j, BLOCK), factors)
                else:
                    _smooth_scale(p, q, min(n - j, BLOCK), factors)
                if k // BLOCK == b:
                    put(q, k - j, d_k)
