"""Kernels of a few huge rows, whose columns are shared among threads in blocks.

A range is of blocks: those of row 0 first, then those of row 1, and so on. An operation is several
kernels, one after another: each writes what it finds of its blocks to `numbers`, a line of float64
for each block, and the next begins with what all blocks of a row come to. The functions of one row
go from block to block, too, and add their sums in the same order: so a row has the same bits.
"""

from collections.abc import Callable
from typing import Any

from ..elementary import larger
from ..formulas.softmax import add_pairs
from .rows import BLOCK, INF, row_max
from .vectors import Number, Pointer, at, number, put, row, sum_zero

Function = Callable[..., Any]
Kernel = Callable[..., None]

# Of fewer columns, what sharing gains would be lost to several kernels taking turns.
WIDE = 8 * BLOCK

# A line of `numbers` is one of the cache, so that no two threads write to the same. What stands in
# it of exponentials:
LINE = 8
MAXIMUM, SUM, SUM_LO, COUNT = range(4)


def blocks_in(n: int) -> int:
    """How many blocks n columns are."""
    return (n + BLOCK - 1) // BLOCK


def are_better_shared(n_rows: int, threads: int) -> bool:
    """Whether threads that took whole rows would have nothing to do for a quarter of the time."""
    rounds = -(-n_rows // threads)
    return 0 < 4 * n_rows <= 3 * rounds * threads


def maxima_of_blocks(first: int, last: int, x: Any, _y: Any, numbers: Any) -> None:
    """Kernel of the maximum of each block."""
    n = x.shape[1]
    blocks = blocks_in(n)
    for b in range(first, last):
        j = b % blocks * BLOCK
        numbers[b, MAXIMUM] = row_max(at(row(x, b // blocks), j), min(n - j, BLOCK))


def max_of_row(x: Pointer, lines: Pointer, blocks: int) -> Number:
    """What `row_max` gives, from the maxima of the row's blocks."""
    m = number(x, -INF)
    for b in range(blocks):
        m = larger(number(x, lines[b * LINE + MAXIMUM]), m)
    return m


def sums_of_blocks(exp_sums: Function) -> Kernel:
    """Kernel of exp_sums(x, y, n, m, ahead) of each block, m being the row's maximum."""

    def kernel(first: int, last: int, x: Any, y: Any, numbers: Any) -> None:
        n = x.shape[1]
        blocks = blocks_in(n)
        for i in range(first // blocks, (last + blocks - 1) // blocks):
            m = max_of_row(row(x, i), row(numbers, i * blocks), blocks)
            for b in range(max(first, i * blocks), min(last, (i + 1) * blocks)):
                j = (b - i * blocks) * BLOCK
                p, q = at(row(x, i), j), at(row(y, i), j)
                s, s_lo, maxima = exp_sums(p, q, min(n - j, BLOCK), m, BLOCK)
                numbers[b, SUM], numbers[b, SUM_LO], numbers[b, COUNT] = s, s_lo, maxima

    return kernel


def total_of_row(
    x: Pointer, lines: Pointer, blocks: int, of_sums: Function
) -> tuple[Number, Number, Number]:
    """(m, s, s_lo) of a row; of_sums(x, *sums, m) makes the last two."""
    m = max_of_row(x, lines, blocks)
    s = s_lo = sum_zero(x)
    maxima = 0
    for b in range(blocks):
        s, s_lo = add_pairs(s, s_lo, lines[b * LINE + SUM], lines[b * LINE + SUM_LO], m)
        maxima += int(lines[b * LINE + COUNT])
    return m, *of_sums(x, s, s_lo, maxima, m)


def apply_to_blocks(of_sums: Function, finish: Function, apply: Function) -> Kernel:
    """Kernel of apply(x, y, n, finish(m, s, s_lo)) for each block; see `total_of_row`."""

    def kernel(first: int, last: int, x: Any, y: Any, numbers: Any) -> None:
        n = x.shape[1]
        blocks = blocks_in(n)
        for i in range(first // blocks, (last + blocks - 1) // blocks):
            lines = row(numbers, i * blocks)
            of_row = finish(*total_of_row(row(x, i), lines, blocks, of_sums))
            for b in range(max(first, i * blocks), min(last, (i + 1) * blocks)):
                j = (b - i * blocks) * BLOCK
                apply(at(row(x, i), j), at(row(y, i), j), min(n - j, BLOCK), of_row)

    return kernel


def in_place(apply: Function) -> Function:
    """apply(y, y, n, numbers), y being a row's exponentials already."""

    def applied(_x: Pointer, y: Pointer, n: int, numbers: tuple[Number, ...]) -> None:
        apply(y, y, n, numbers)

    return applied


def total_to_number(of_sums: Function, finish: Function) -> Kernel:
    """Kernel of y[i] = finish(m, s, s_lo) for each row i; y is contiguous. A range is of rows."""

    def kernel(first: int, last: int, x: Any, y: Any, numbers: Any) -> None:
        blocks = blocks_in(x.shape[1])
        for i in range(first, last):
            lines = row(numbers, i * blocks)
            put(row(y, 0), i, finish(*total_of_row(row(x, i), lines, blocks, of_sums)))

    return kernel
