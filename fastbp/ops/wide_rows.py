"""Operations on a few huge rows, whose columns are shared among threads; see `cpu.wide_rows`.

Their results are those of the kernels of rows, bit for bit. They are launched instead of these
where threads would be idle, and compiled when that is first met.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays import Array
from ..cpu.quick_rows import quick_exp_sums, quick_reciprocal
from ..cpu.rows import exp_sums, map_row
from ..cpu.run import Kernel, launch
from ..cpu.vectors import Number
from ..cpu.wide_backward import (
    apply_to_two,
    dot_of_row,
    dots_of_blocks,
    likely_of_blocks,
    shifted_dots_of_blocks,
    sums_of_row,
)
from ..cpu.wide_rows import (
    LINE,
    apply_to_blocks,
    blocks_in,
    maxima_of_blocks,
    scale_in_place,
    sums_of_blocks,
    total_to_number,
    without_exps,
)
from ..formulas.softmax import (
    log_softmax as log_softmax_formula,
    log_softmax_backward as log_softmax_backward_formula,
    log_softmax_quickly,
    softmax_backward as softmax_backward_formula,
    softmax_quickly,
)
from .softmax import (
    log_of_row,
    log_softmax_backward_rows,
    log_softmax_rows,
    log_softmax_rows_of_16_bits,
    logsumexp_of_total,
    logsumexp_rows,
    reciprocal_of_row,
    softmax_backward_rows,
    softmax_rows,
    softmax_rows_of_16_bits,
)

Plan = Callable[..., None]


def in_turns(*kernels: Kernel) -> Plan:
    """A plan of kernels that each go through all blocks, one after another."""

    def plan(x: Array, *arrays: Array) -> None:
        take_turns(x, *arrays, kernels=kernels)

    return plan


def take_turns(x: Array, *arrays: Array, kernels: tuple[Kernel, ...]) -> Array:
    """Launch them; the lines in which they have told each other of the blocks."""
    n_blocks = x.shape[0] * blocks_in(x.shape[1])
    lines = np.empty((n_blocks, LINE))
    for kernel in kernels:
        launch(kernel, x.dtype.char, n_blocks, x.size, 1, x, *arrays, lines)
    return lines


def with_maximum(finish: Callable[..., Any]) -> Callable[..., tuple[Number, ...]]:
    """(m, *finish(m, s, s_lo))."""

    def numbers(m: Number, s: Number, s_lo: Number) -> tuple[Number, ...]:
        return m, *finish(m, s, s_lo)

    return numbers


_totals = maxima_of_blocks, sums_of_blocks(without_exps(exp_sums))
_quick_totals = maxima_of_blocks, sums_of_blocks(without_exps(quick_exp_sums))
_logsumexps = total_to_number(logsumexp_of_total)


def logsumexp_plan(x: Array, y: Array) -> None:
    """A number for each row."""
    lines = take_turns(x, x, kernels=_totals)
    launch(_logsumexps, x.dtype.char, x.shape[0], 0, 1, x, y, lines)


PLANS: dict[Kernel, Plan] = {
    softmax_rows: in_turns(
        maxima_of_blocks,
        sums_of_blocks(exp_sums),
        apply_to_blocks(reciprocal_of_row, scale_in_place),
    ),
    # (To compute exponentials again takes less than to keep them in float32.)
    softmax_rows_of_16_bits: in_turns(
        *_quick_totals,
        apply_to_blocks(with_maximum(quick_reciprocal), map_row(softmax_quickly)),
    ),
    log_softmax_rows: in_turns(
        *_totals, apply_to_blocks(with_maximum(log_of_row), map_row(log_softmax_formula))
    ),
    log_softmax_rows_of_16_bits: in_turns(
        *_quick_totals, apply_to_blocks(with_maximum(log_of_row), map_row(log_softmax_quickly))
    ),
    logsumexp_rows: logsumexp_plan,
    softmax_backward_rows: in_turns(
        dots_of_blocks, shifted_dots_of_blocks, apply_to_two(dot_of_row, softmax_backward_formula)
    ),
    log_softmax_backward_rows: in_turns(
        likely_of_blocks, apply_to_two(sums_of_row, log_softmax_backward_formula)
    ),
}
