"""Kernels of backward passes of a few huge rows, as those of `wide_rows`."""

from collections.abc import Callable
from typing import Any

from ..elementary import split
from ..formulas.softmax import add_pairs, is_precise, larger_with, shifted, sums_of_dy
from .backward_rows import dot_sums, likely_and_others, shifted_dot
from .rows import BLOCK, INF, is_streamed, map_two_rows, stream_two_rows
from .vectors import Number, Pointer, at, drain, number, row, sum_zero
from .wide_rows import LINE, Function, Kernel, blocks_in

# What stands in a line: of softmax, and of log_softmax.
LARGEST, AT_LARGEST, DOT, DOT_LO, TOTAL, TOTAL_LO, AGAIN, AGAIN_LO = range(LINE)
LIKELY, OTHERS, OTHERS_LO = range(3)


def dots_of_blocks(first: int, last: int, dy: Any, y: Any, _dx: Any, numbers: Any) -> None:
    """Kernel of `dot_sums`."""
    n = y.shape[1]
    blocks = blocks_in(n)
    for b in range(first, last):
        i, j = b // blocks, b % blocks * BLOCK
        (
            numbers[b, LARGEST], numbers[b, AT_LARGEST], numbers[b, DOT], numbers[b, DOT_LO],
            numbers[b, TOTAL], numbers[b, TOTAL_LO],
        ) = dot_sums(at(row(dy, i), j), at(row(y, i), j), min(n - j, BLOCK))  # fmt: skip


def dot_at_once(y: Pointer, lines: Pointer, blocks: int) -> tuple[Number, float, float]:
    """(c, Σ y (dy - c) as a pair) from one traversal, as in `dot_by_maximum`."""
    largest, c = number(y, -INF), number(y, 0)
    s = s_lo = u = u_lo = sum_zero(y)
    for b in range(blocks):
        at_b = b * LINE
        found, of_found = number(y, lines[at_b + LARGEST]), number(y, lines[at_b + AT_LARGEST])
        largest, c = larger_with(found, largest, of_found, c)
        s, s_lo = add_pairs(s, s_lo, lines[at_b + DOT], lines[at_b + DOT_LO], c)
        u, u_lo = add_pairs(u, u_lo, lines[at_b + TOTAL], lines[at_b + TOTAL_LO], c)
    return c, *shifted(s, s_lo, u, u_lo, c)


def shifted_dots_of_blocks(first: int, last: int, dy: Any, y: Any, _dx: Any, numbers: Any) -> None:
    """Kernel of the second traversal, for those rows that need one."""
    n = y.shape[1]
    blocks = blocks_in(n)
    for i in range(first // blocks, (last + blocks - 1) // blocks):
        c, dot, _ = dot_at_once(row(y, i), row(numbers, i * blocks), blocks)
        if not is_precise(dot, c):
            for b in range(max(first, i * blocks), min(last, (i + 1) * blocks)):
                j = (b - i * blocks) * BLOCK
                numbers[b, AGAIN], numbers[b, AGAIN_LO] = shifted_dot(
                    at(row(dy, i), j), at(row(y, i), j), min(n - j, BLOCK), c
                )


def dot_of_row(y: Pointer, lines: Pointer, blocks: int) -> tuple[Number, Number, Number]:
    """What `dot_by_maximum` gives, the pair being one of the row's own precision."""
    c, dot, dot_lo = dot_at_once(y, lines, blocks)
    if not is_precise(dot, c):
        dot = dot_lo = sum_zero(y)
        for b in range(blocks):
            more, more_lo = lines[b * LINE + AGAIN], lines[b * LINE + AGAIN_LO]
            dot, dot_lo = add_pairs(dot, dot_lo, more, more_lo, c)
    return c, *split(dot, dot_lo, c)


def likely_of_blocks(first: int, last: int, dy: Any, y: Any, _dx: Any, numbers: Any) -> None:
    """Kernel of `likely_and_others`."""
    n = y.shape[1]
    blocks = blocks_in(n)
    for b in range(first, last):
        i, j = b // blocks, b % blocks * BLOCK
        numbers[b, LIKELY], numbers[b, OTHERS], numbers[b, OTHERS_LO] = likely_and_others(
            at(row(dy, i), j), at(row(y, i), j), min(n - j, BLOCK)
        )


def sums_of_row(y: Pointer, lines: Pointer, blocks: int) -> tuple[Number, Number]:
    """What `sums_of_long_log_softmax` gives."""
    likely = others = others_lo = sum_zero(y)
    for b in range(blocks):
        likely += lines[b * LINE + LIKELY]
        more, more_lo = lines[b * LINE + OTHERS], lines[b * LINE + OTHERS_LO]
        others, others_lo = add_pairs(others, others_lo, more, more_lo, number(y, 0))
    return sums_of_dy(likely, others, others_lo, number(y, 0))


def apply_to_two(of_row: Function, formula: Callable[..., Any]) -> Kernel:
    """Kernel of dx_j = formula(dy_j, y_j, *numbers), which of_row makes of the row's lines."""
    apply, stream_apply = map_two_rows(formula), stream_two_rows(formula)

    def kernel(first: int, last: int, dy: Any, y: Any, dx: Any, numbers: Any) -> None:
        n = y.shape[1]
        blocks = blocks_in(n)
        streamed = is_streamed(dy, y, dx)
        for i in range(first // blocks, (last + blocks - 1) // blocks):
            found = of_row(row(y, i), row(numbers, i * blocks), blocks)
            for b in range(max(first, i * blocks), min(last, (i + 1) * blocks)):
                j = (b - i * blocks) * BLOCK
                p, q, r = at(row(dy, i), j), at(row(y, i), j), at(row(dx, i), j)
                if streamed:
                    stream_apply(p, q, r, min(n - j, BLOCK), found)
                else:
                    apply(p, q, r, min(n - j, BLOCK), found)
        if streamed:
            drain()

    return kernel
