"""The kernels of cross-entropy on probabilities, by rows: with a label or a target for each column.

A row's loss, or those of a tile of short rows, is added to the sum of its block.
"""

from typing import Any

import numpy as np

from ..elementary import split
from ..formulas.cross_entropy import gradient_factor
from ..formulas.elementwise_losses import (
    minus_log,
    probability_gradient,
    probability_loss,
    whole,
)
from ..formulas.softmax import accumulate
from .elementwise_losses import CHUNK
from .row_losses import label_to_use
from .rows import (
    fill,
    map_two_rows,
)
from .vectors import (
    Number,
    Pointer,
    borrow,
    first_lanes,
    give_back,
    lane_numbers,
    lanes,
    load_some,
    longest_short_row,
    number,
    pick,
    put,
    read_tile,
    row,
    rows_in_tile,
    splat64,
    store_lanes,
    store_some,
    sum_across,
)

Array = np.ndarray[Any, Any]

NAN = float("nan")


def label_log_blocks(
    first: int, last: int, p: Array, labels: Array, losses: Any, sums: Array, block: int
) -> None:
    """-log p of each row's label; those of a chunk of rows are gathered, and computed at once."""
    n_rows, n = p.shape
    room = borrow(p, None, True, CHUNK)
    width = lanes(room)
    y = row(losses, 0)
    for b in range(first, last):
        total = total_lo = splat64(room, 0)
        end = min(n_rows, (b + 1) * block)
        for start in range(b * block, end, CHUNK):
            stop = min(end, start + CHUNK)
            for i in range(start, stop):
                k = label_to_use(labels[i], n, 0, False, True)
                if k >= 0:
                    put(room, i - start, pick(row(p, i), k))
                else:  # it has changed since it was checked
                    put(room, i - start, number(room, NAN))
            for i in range(start, stop, width):
                m = min(width, stop - i)
                v = load_some(room, i - start, m, 1)
                v = minus_log(v, v)
                if losses is not None:
                    store_some(y, i, m, v)
                total, total_lo = accumulate(total, total_lo, first_lanes(room, v, m))
        sums[b, 0], sums[b, 1] = sum_across(room, total, total_lo, number(room, 0))
    give_back(room)


def target_log_blocks(
    first: int, last: int, p: Array, targets: Array, losses: Any, sums: Array, block: int
) -> None:
    """-Σ t·log p of each row."""
    n_rows, n = p.shape
    step = 1
    if n <= longest_short_row(p):
        step = rows_in_tile(p)
    row_losses = lane_numbers(p)
    for b in range(first, last):
        total, total_lo = 0.0, 0.0
        end = min(n_rows, (b + 1) * block)
        for i in range(b * block, end, step):
            rows = min(step, end - i)
            if step > 1:
                tile = read_tile(p, i, rows, n)
                loss = target_log_row(tile, read_tile(targets, i, rows, n), n)
                store_lanes(tile, row_losses, loss)
            else:
                row_losses[0] = target_log_row(row(p, i), row(targets, i), n)
            for j in range(rows):
                if losses is not None:
                    losses[i + j] = row_losses[j]
                total, total_lo = accumulate(total, total_lo, row_losses[j])
        sums[b, 0], sums[b, 1] = total, total_lo


def target_log_row(p: Pointer, targets: Pointer, n: int) -> Number:
    """-Σ t·log p of a row, or of each row of a tile."""
    width = lanes(p)
    total = total_lo = splat64(p, 0)
    for j in range(0, n, width):
        k = min(width, n - j)
        y = probability_loss(load_some(p, j, k, 0), load_some(targets, j, k, 0))
        total, total_lo = accumulate(total, total_lo, first_lanes(p, y, k))
    return whole(*sum_across(p, total, total_lo, number(p, 0)))


def label_gradients(
    first: int, last: int, p: Array, labels: Array, dloss: Array, denominator: float, dp: Array
) -> None:
    """-1 / p at each row's label and 0 elsewhere, times dloss / denominator."""
    n = p.shape[1]
    for i in range(first, last):
        one = number(row(p, i), 1)
        k = label_to_use(labels[i], n, 0, False, True)
        g, g_lo = gradient_factor(1.0, dloss[min(i, dloss.size - 1)], denominator)
        v, d = pick(row(p, i), max(k, 0)), row(dp, i)
        fill(d, n, 0 if k >= 0 else NAN)
        if k >= 0:
            g, g_lo = split(g, g_lo, v)
            put(d, k, probability_gradient(v, one, g, g_lo))


_target_gradient = map_two_rows(probability_gradient)


def target_gradients(
    first: int, last: int, p: Array, targets: Array, dloss: Array, denominator: float, dp: Array
) -> None:
    """-t / p, times dloss / denominator."""
    n = p.shape[1]
    for i in range(first, last):
        g, g_lo = gradient_factor(1.0, dloss[min(i, dloss.size - 1)], denominator)
        like = number(row(p, i), 0)
        _target_gradient(row(p, i), row(targets, i), row(dp, i), n, split(g, g_lo, like))
