"""Operations on a few huge rows, whose columns are shared among threads; see `cpu.wide_rows`.

Their results are those of the kernels of rows, bit for bit. They are launched instead of these
where threads would be idle, and compiled when that is first met.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays import Array
from ..checks import computed_in
from ..cpu.label_losses import label_blocks
from ..cpu.quick_rows import quick_sums_but_maxima, quick_sums_of_all, scale_quickly
from ..cpu.rows import (
    map_row,
    not_kept,
    scale_row,
    sums_but_maxima,
    sums_of_all,
    total_but_one,
    total_of_all,
)
from ..cpu.run import Kernel, launch
from ..cpu.wide_backward import (
    apply_to_two,
    dot_of_row,
    dots_of_blocks,
    likely_of_blocks,
    shifted_dots_of_blocks,
    sums_of_row,
)
from ..cpu.wide_labels import (
    OF_ROW,
    gradients_of_blocks,
    labels_of_rows,
    losses_of_rows,
    maxima_and_sums_of_blocks,
)
from ..cpu.wide_rows import (
    LINE,
    apply_to_blocks,
    blocks_in,
    in_place,
    maxima_of_blocks,
    sums_of_blocks,
    total_to_number,
)
from ..formulas.softmax import (
    log_beside_maximum,
    log_softmax as log_softmax_formula,
    log_softmax_backward as log_softmax_backward_formula,
    log_softmax_quickly,
    log_total,
    logsumexp_of_row,
    reciprocal,
    reciprocal_of_row,
    softmax_backward as softmax_backward_formula,
    softmax_quickly,
)
from .softmax import (
    log_softmax_backward_rows,
    log_softmax_rows,
    log_softmax_rows_of_16_bits,
    logsumexp_rows,
    softmax_backward_rows,
    softmax_rows,
    softmax_rows_of_16_bits,
)

Plan = Callable[..., None]

# So many float32 the system gives out afresh, page by page, each time they are asked for.
MOST_KEPT = 1 << 22


def in_turns(*kernels: Kernel) -> Plan:
    """A plan of kernels that each go through all blocks, one after another."""

    def plan(x: Array, *arrays: Array) -> None:
        take_turns(x, *arrays, kernels=kernels)

    return plan


def take_turns(x: Array, *arrays: Array, kernels: tuple[Kernel, ...]) -> Array:
    """Launch them; the lines in which they have told each other of the blocks."""
    lines = lines_of(x)
    key = tuple(a.dtype.char for a in (x, *arrays))
    for kernel in kernels:
        launch(kernel, key, len(lines), x.size, 1, x, *arrays, lines)
    return lines


def lines_of(x: Array) -> Array:
    """A line for each block."""
    return np.empty((x.shape[0] * blocks_in(x.shape[1]), LINE))


_exps, _sums = sums_of_blocks(sums_but_maxima), sums_of_blocks(not_kept(sums_but_maxima))
_totals = maxima_of_blocks, _sums
_quick_totals = maxima_of_blocks, sums_of_blocks(not_kept(quick_sums_but_maxima))
_logsumexps = total_to_number(total_but_one, logsumexp_of_row)


def logsumexp_plan(x: Array, y: Array) -> None:
    """A number for each row."""
    lines = take_turns(x, x, kernels=_totals)
    launch(_logsumexps, x.dtype.char, x.shape[0], 0, 1, x, y, lines)


_softmax_again = in_turns(
    maxima_of_blocks,
    sums_of_blocks(not_kept(quick_sums_of_all)),
    apply_to_blocks(total_of_all, reciprocal_of_row, map_row(softmax_quickly)),
)
_quick_exps = sums_of_blocks(quick_sums_of_all)
_scale_quickly = apply_to_blocks(total_of_all, reciprocal, scale_quickly)


def softmax_of_16_bits_plan(x: Array, y: Array) -> None:
    """Exponentials are kept in float32, or computed again where new memory would take longer."""
    if x.size >= MOST_KEPT:
        _softmax_again(x, y)
        return
    lines, e = lines_of(x), np.empty(x.shape, np.float32)
    for kernel, *arrays in (maxima_of_blocks, x, x), (_quick_exps, x, e), (_scale_quickly, e, y):
        key = tuple(a.dtype.char for a in arrays)
        launch(kernel, key, len(lines), x.size, 1, *arrays, lines)


def label_loss_plan(
    x: Array, labels: Array, class_weight: Array, ignore: int, has_ignore: bool, bad_is_nan: bool,
    smoothing: Array | None, sample_weight: Array, denominator: float, dloss: Array, losses: Array,
    sums: Array, dx: Array | None, block: int, _softcap: None, _temperature: None, z: float | None,
) -> None:  # fmt: skip
    """What `label_blocks` computes of logits that nothing changes."""
    char = x.dtype.char
    of_rows, lines = np.empty((x.shape[0], OF_ROW)), lines_of(x)

    def turn(kernel: Kernel, key: Any, *arguments: Any) -> None:
        launch(kernel, (char, *key), len(lines), x.size, 1, *arguments, lines)

    given = labels, class_weight, ignore, has_ignore, bad_is_nan, sample_weight, dloss
    key = char, labels.dtype.char, dloss.dtype.char
    launch(labels_of_rows, key, x.shape[0], 0, 1, x, *given, of_rows)
    turn(maxima_of_blocks if smoothing is None else maxima_and_sums_of_blocks, char, x, x)
    e = x
    if dx is not None:
        e = dx if dx.itemsize > 2 else np.empty(x.shape, computed_in(x.dtype))
    turn(_sums if dx is None else _exps, e.dtype.char, x, e)
    options = smoothing is None, z is None
    rest = smoothing, losses, sums, block, z, of_rows, lines
    launch(losses_of_rows, (char, *options), len(sums), 0, 1, x, *rest)
    if dx is not None:
        turn(gradients_of_blocks, options, e, dx, smoothing, denominator, z, of_rows)


PLANS: dict[Kernel, Plan] = {
    softmax_rows: in_turns(
        maxima_of_blocks,
        sums_of_blocks(sums_of_all),
        apply_to_blocks(total_of_all, reciprocal, in_place(scale_row)),
    ),
    softmax_rows_of_16_bits: softmax_of_16_bits_plan,
    log_softmax_rows: in_turns(
        *_totals, apply_to_blocks(total_but_one, log_total, map_row(log_softmax_formula))
    ),
    log_softmax_rows_of_16_bits: in_turns(
        *_quick_totals,
        apply_to_blocks(total_but_one, log_beside_maximum, map_row(log_softmax_quickly)),
    ),
    logsumexp_rows: logsumexp_plan,
    softmax_backward_rows: in_turns(
        dots_of_blocks, shifted_dots_of_blocks, apply_to_two(dot_of_row, softmax_backward_formula)
    ),
    label_blocks: label_loss_plan,
    log_softmax_backward_rows: in_turns(
        likely_of_blocks, apply_to_two(sums_of_row, log_softmax_backward_formula)
    ),
}
