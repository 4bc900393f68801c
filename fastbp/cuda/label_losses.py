"""The kernels of softmax cross-entropy with a label for each row, on a GPU.

A row on the chip is replaced by its exponentials, as CPUs do it in the gradient. Of a row that is
too long for the chip, they are computed again where they would have to be kept.
"""

from typing import Any

from ..cpu.label_losses import label_apply, label_factors, label_losses, label_reduce
from ..cpu.row_losses import BAD, IGNORED, NAN, label_to_use
from ..cpu.rows import fill, map_row
from ..cpu.vectors import Number, Pointer, either, if_given, number, pick, put, store
from ..elementary import times
from ..formulas.cross_entropy import times_number
from ..formulas.softmax import add_pairs, exp_scaled
from .reductions import as_denominator, sum_of_block
from .words import (
    Matrix,
    block,
    columns,
    first_row,
    if_staged,
    least_across,
    of_block,
    own_row,
    put_number,
    read_row,
    result_if_given,
    row_step,
    rows,
    spare_row,
    thread,
    threads,
    write_row,
)

exp_scaled_row = map_row(exp_scaled)

NO_ROW = 2**62  # behind all rows


def label_rows(
    x: Matrix, labels: Pointer, class_weight: Pointer, ignore: int, has_ignore: int,
    bad_is_nan: int, sample_weight: Pointer, dloss: Pointer, dloss_step: int,
    factor: tuple[Number, ...], denominator: Pointer, known: tuple[Number, ...], losses: Pointer,
    dx: Matrix, room: Matrix, softcap: Any, temperature: Any, z: Any,
) -> None:  # fmt: skip
    """Losses of all rows and, if dx is not None, their gradients.

    The incoming gradient is dloss[i·dloss_step], or 1 without dloss, times the factor, over the
    denominator, if there is one, and over what is known besides; these are pairs. `room` is for
    rows too long for the chip whose logits soft cap or temperature change: it has a row for each
    block.
    """
    n = columns(x)
    for i in range(first_row(x), rows(x), row_step(x)):
        p = read_row(x, i, n, 0)
        q = result_if_given(p, dx, i)
        spare = room_for_logits(x, room, p, n, softcap, temperature, 1)
        j = own_row(x, i)
        k = label_of_row(x, labels, j, n, ignore, has_ignore, bad_is_nan)
        loss = number(p, 0)
        if k >= 0:
            weight, sample = weight_of(p, class_weight, k), weight_of(p, sample_weight, j)
            g, g_lo = incoming(dloss, j * dloss_step, factor, sample)
            kept = if_given(q, either(spare, if_staged(x, q)))
            loss = label_row(
                p, spare, kept, q, n, k, weight, weight * sample,
                (g, *as_denominator(denominator, known), g_lo), softcap, temperature, z,
            )  # fmt: skip
        finish_row(x, i, n, k, p, q, dx, losses, loss)


def finish_row(
    x: Matrix, i: int, n: int, k: int, p: Pointer, q: Pointer, dx: Matrix, losses: Pointer,
    loss: Number,
) -> None:  # fmt: skip
    """Write a row's loss and gradient; NaN and 0 instead, if k says BAD or IGNORED."""
    if k == BAD:
        loss = number(p, NAN)
    if dx is not None:
        if k < 0:
            fill(q, n, loss)
        write_row(q, dx, i, n)
    put_number(x, losses, i, loss)


def room_for_logits(
    x: Matrix, room: Matrix, p: Pointer, n: int, softcap: Any, temperature: Any, slot: int
) -> Pointer:
    """Room for changed logits, None if nothing changes them: a soft cap needs the others, too."""
    beside = spare_row(x, room, softcap, n, slot)
    instead = either(if_staged(x, p), spare_row(x, room, temperature, n, slot))
    return either(beside, if_given(instead, temperature))


def label_of_row(
    x: Matrix, labels: Pointer, j: int, n: int, ignore: int, has_ignore: int, bad_is_nan: int
) -> Any:
    """The label of row j; or what is wrong with it, or that there is no such row."""
    if j >= rows(x):
        return IGNORED
    return label_to_use(pick(labels, j), n, ignore, has_ignore, bad_is_nan)


def weight_of(p: Pointer, weights: Pointer, k: int) -> Number:
    """The weight with that number, 1 without weights."""
    if weights is None:
        return number(p, 1)
    return pick(weights, k)


def incoming(
    dloss: Pointer, k: int, factor: tuple[Number, ...], weight: Number
) -> tuple[Number, Number]:
    """dloss[k] times the factor and a weight."""
    g, g_lo = factor
    g, g_lo = times_number(g, g_lo, weight)
    if dloss is None:
        return g, g_lo
    return times_number(g, g_lo, pick(dloss, k))


def label_row(
    x: Pointer, room: Pointer, kept: Pointer, dx: Pointer, n: int, k: int, class_weight: Number,
    weight: Number, upstream: tuple[Number, ...], softcap: Any, temperature: Any, z: Any,
) -> Number:  # fmt: skip
    """The loss of a row; its gradient goes to dx, if that is given.

    The exponentials are where `kept` is, unless that is None.
    """
    of_row = label_reduce(x, room, kept, n, k, None, softcap, temperature)
    if dx is not None:
        factors, d_k = label_factors(class_weight, upstream, z, n, None, *of_row)
        apply(x, room, kept, dx, n, k, of_row[0], factors, d_k, softcap)
    return label_losses(weight, z, n, None, *of_row)


def apply(
    x: Pointer, room: Pointer, kept: Pointer, dx: Pointer, n: int, k: int, m: Number,
    factors: tuple[Number, ...], d_k: Number, softcap: Any,
) -> None:  # fmt: skip
    """The gradient of a row."""
    if kept is None:
        exp_scaled_row(x, dx, n, (m, *factors))
        put(dx, k, d_k)
    else:
        label_apply(x, room, dx, n, k, factors, d_k, None, softcap)


# which rows count ---------------------------------------------------------------------------------


def count_labels(
    labels: Pointer, n_rows: int, per_block: int, n_classes: int, class_weight: Pointer,
    sample_weight: Pointer, ignore: int, has_ignore: int, sums: Pointer, bad: Pointer,
) -> None:  # fmt: skip
    """For each block's rows the sum of their weights, a pair, and the first with a bad label.

    Bad and ignored rows weigh nothing. If no label is bad, NO_ROW takes the bad row's place.
    """
    s = s_lo = number(sums, 0)
    found = NO_ROW
    for i in range(
        block() * per_block + thread(), min(n_rows, (block() + 1) * per_block), threads()
    ):
        k = label_to_use(pick(labels, i), n_classes, ignore, has_ignore, 1)
        if k >= 0:
            w, w_lo = times(
                weight_of(sums, class_weight, k), number(sums, 0),
                weight_of(sums, sample_weight, i), number(sums, 0),
            )  # fmt: skip
            s, s_lo = add_pairs(s, s_lo, w, w_lo, w)
        elif k == BAD:
            found = min(found, i)
    sum_of_block(sums, s, s_lo)
    store_least(bad, block(), found)


def store_least(of_rows: Pointer, k: int, found: int) -> None:
    """of_rows[k] is the first of the rows that the block's threads found."""
    found = least_across(of_block(of_rows), found)
    if thread() == 0:
        store(of_rows, k, found)


def first_bad(bad: Pointer, n_blocks: int, of_all: Pointer) -> None:
    """The first of the rows that blocks found; by one block."""
    found = NO_ROW
    for i in range(thread(), n_blocks, threads()):
        found = min(found, pick(bad, i))
    store_least(of_all, 0, found)
