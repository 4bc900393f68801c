"""The kernels of softmax cross-entropy with labels, of huge rows that blocks share; see `ranges`.

Behind `ranges.each_range`, `label_totals` computes losses and what gradients are made of, a block
for each row, and `label_ranges` the gradients, a block for each range. Logits are read twice.
"""

from typing import Any

from ..cpu.label_losses import label_factors, label_losses
from ..cpu.row_losses import BAD, NAN
from ..cpu.rows import fill
from ..cpu.vectors import Number, Pointer, at, number, pick, put, sum_zero
from .label_losses import exp_scaled_row, incoming, label_of_row, weight_of
from .ranges import OF_TOTAL, join_totals, leave_2, leave_3, ranges
from .reductions import as_denominator
from .words import (
    Matrix,
    block,
    blocks,
    columns,
    of_block,
    put_number,
    read_part,
    result_part,
    row_at,
    rows,
    write_part,
)

# The numbers of a row that its gradient is made of: m, three factors, the gradient at the label.
OF_GRADIENT = 5


def label_totals(
    x: Matrix, width: int, left: Pointer, labels: Pointer, class_weight: Pointer, ignore: int,
    has_ignore: int, bad_is_nan: int, sample_weight: Pointer, dloss: Pointer, dloss_step: int,
    factor: tuple[Number, ...], denominator: Pointer, known: tuple[Number, ...], losses: Pointer,
    of_gradients: Pointer, z: Any,
) -> None:  # fmt: skip
    """Losses of all rows and, if of_gradients is not None, OF_GRADIENT numbers of each.

    The arguments are those of `label_rows`.
    """
    n, per_row = columns(x), ranges(columns(x), width)
    for i in range(block(), rows(x), blocks()):
        p = row_at(x, i)
        k = label_of_row(x, labels, i, n, ignore, has_ignore, bad_is_nan)
        loss = number(p, 0)
        if k >= 0:
            weight, sample = weight_of(p, class_weight, k), weight_of(p, sample_weight, i)
            m, s, s_lo = join_totals(of_block(at(left, i * per_row * OF_TOTAL)), per_row)
            zero, x_k = sum_zero(p), pick(p, k)
            loss = label_losses(
                weight * sample, z, n, None, m, s, s_lo, x_k, zero, zero, zero, zero
            )
            if of_gradients is not None:
                g, g_lo = incoming(dloss, i * dloss_step, factor, sample)
                upstream = (g, *as_denominator(denominator, known), g_lo)
                factors, d_k = label_factors(
                    weight, upstream, z, n, None, m, s, s_lo, x_k, zero, zero, zero, zero
                )
                of_row = at(of_gradients, i * OF_GRADIENT)
                leave_3(of_row, 1, *factors)
                leave_2(at(of_row, 3), 1, m, d_k)
        if k == BAD:
            loss = number(p, NAN)
        put_number(x, losses, i, loss)


def label_ranges(
    x: Matrix, width: int, of_gradients: Pointer, labels: Pointer, ignore: int, has_ignore: int,
    bad_is_nan: int, dx: Matrix,
) -> None:  # fmt: skip
    """Gradients of all rows."""
    n, per_row = columns(x), ranges(columns(x), width)
    for b in range(block(), rows(x) * per_row, blocks()):
        i, start = b // per_row, b % per_row * width
        size = min(width, n - start)
        k = label_of_row(x, labels, i, n, ignore, has_ignore, bad_is_nan)
        p = read_part(x, i, start, size, 0)
        q = result_part(p, dx, i, start)
        if k >= 0:
            of_row = at(of_gradients, i * OF_GRADIENT)
            before, r, r_lo = pick(of_row, 0), pick(of_row, 1), pick(of_row, 2)
            exp_scaled_row(p, q, size, (pick(of_row, 3), before, r, r_lo))
            if start <= k < start + size:
                put(q, k - start, pick(of_row, 4))
        else:
            fill(q, size, number(p, NAN) if k == BAD else number(p, 0))
        write_part(q, dx, i, start, size)
