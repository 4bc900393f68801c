"""The kernel of softmax cross-entropy with probabilities of a few classes, on a GPU.

Labels under smoothing are such, too: one index of weight 1 in each row.
"""

from typing import Any

from ..cpu.index_losses import index_loss
from ..cpu.row_losses import BAD, IGNORED, index_to_use
from ..cpu.vectors import Number, Pointer, at, either, if_given, number
from ..formulas.softmax import add_pairs
from .label_losses import NO_ROW, finish_row, incoming, room_for_logits, store_least, weight_of
from .reductions import as_denominator, sum_of_block
from .row_kernels import existing_row
from .words import (
    Matrix,
    block,
    columns,
    first_row,
    own_row,
    read_row,
    result_if_given,
    row_at,
    row_step,
    rows,
    spare_row,
    thread,
    threads,
)


def index_rows(
    x: Matrix, indices: Pointer, given: Pointer, count: int, picked: Matrix, class_weight: Pointer,
    smoothing: Any, ignore: int, has_ignore: int, bad_is_nan: int, sample_weight: Pointer,
    dloss: Pointer, dloss_step: int, factor: tuple[Number, ...], denominator: Pointer,
    known: tuple[Number, ...], losses: Pointer, dx: Matrix, room: Matrix, softcap: Any,
    temperature: Any, z: Any,
) -> None:  # fmt: skip
    """As `label_rows`; each row has `count` indices, and room in `picked` for their logits.

    Long rows need `room` for numbers of 16 bits, too.
    """
    n = columns(x)
    for i in range(first_row(x), rows(x), row_step(x)):
        p = read_row(x, i, n, 0)
        q = result_if_given(p, dx, i)
        spare = room_for_logits(x, room, p, n, softcap, temperature, 1)
        j = existing_row(x, i)
        k = index_of_row(x, at(indices, j * count), i, count, n, ignore, has_ignore, bad_is_nan)
        loss = number(p, 0)
        if k >= 0:
            sample = weight_of(p, sample_weight, j)
            g, g_lo = incoming(dloss, j * dloss_step, factor, number(p, 1))
            loss = index_loss(
                p, either(spare, if_given(spare_row(x, room, room, n, 1), q)), q, n,
                at(indices, j * count), at(given, j * count), count, row_at(picked, j),
                class_weight, smoothing, sample, (g, *as_denominator(denominator, known), g_lo),
                softcap, temperature, z,
            )  # fmt: skip
        finish_row(x, i, n, k, p, q, dx, losses, loss)


def index_of_row(
    x: Matrix, indices: Pointer, i: int, count: int, n: int, ignore: int, has_ignore: int,
    bad_is_nan: int,
) -> Any:  # fmt: skip
    """What `index_to_use` says of this thread's row, if it has one."""
    if own_row(x, i) >= rows(x):
        return IGNORED
    return index_to_use(indices, count, n, ignore, has_ignore, bad_is_nan)


def count_indices(
    indices: Pointer, count: int, n_rows: int, per_block: int, n_classes: int,
    sample_weight: Pointer, sums: Pointer, bad: Pointer,
) -> None:  # fmt: skip
    """As `count_labels`, for rows of `count` indices each."""
    s = s_lo = zero = number(sums, 0)
    found = NO_ROW
    for i in range(
        block() * per_block + thread(), min(n_rows, (block() + 1) * per_block), threads()
    ):
        if index_to_use(at(indices, i * count), count, n_classes, 0, 0, 1) == BAD:
            found = min(found, i)
        else:
            w = weight_of(sums, sample_weight, i)
            s, s_lo = add_pairs(s, s_lo, w, zero, w)
    sum_of_block(sums, s, s_lo)
    store_least(bad, block(), found)
