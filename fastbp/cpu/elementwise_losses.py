"""The traversal of losses of elements: loss, its sum and its gradient in one pass over flat arrays.

Elements go in blocks, whose sums are added in turn, and blocks in chunks. What weighs them may be
smaller than they are: a number, or one number for each column or row. It is never spread over the
whole array: `weights_at` says where the weights of one chunk stand.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from ..elementary import split
from ..formulas.cross_entropy import gradient_factor
from ..formulas.softmax import accumulate
from .origins import recorded
from .vectors import (
    Number,
    Pointer,
    Vector,
    borrow,
    first_lanes,
    give_back,
    lanes,
    load_some,
    load_wide,
    number,
    pick,
    row,
    splat,
    splat64,
    store,
    store_some,
    sum_across,
    wide,
)

Kernel = Callable[..., None]
Formula = Callable[..., Any]

# So many elements have their weights spread at a time: they stay in the first-level cache.
CHUNK = 2048
# About so many elements are in a block, which are whole chunks, and there are no more blocks.
BLOCK, MOST_BLOCKS = 2 * CHUNK, 256


def blocks_of_elements(size: int) -> tuple[int, int]:
    """Elements in a block, and blocks: by their number alone, as `blocks_of_rows`."""
    block = BLOCK * max(1, -(-size // (BLOCK * MOST_BLOCKS)))
    return block, -(-size // block)


@cache
@recorded
def loss_blocks(loss: Formula, gradient: Formula, weighted: bool = False) -> Kernel:
    """Kernel of loss(x, t) and gradient(x, t, g, g_lo); with weights a and b behind, if weighted.

    What is None is not asked for (losses, sums, dx) or not given (a and b, dloss): g is dloss, or
    `factor` where there is none, over `denominator`.
    """
    of_wide = _step(loss, gradient, weighted, read_wide, write_wide)
    of_some = _step(loss, gradient, weighted, read_some, store_some)

    def kernel(
        first: int, last: int, x: Any, t: Any, a: Any, a_run: int, a_period: int, b: Any,
        b_run: int, b_period: int, dloss: Any, factor: float, denominator: float, losses: Any,
        sums: Any, dx: Any, block: int,
    ) -> None:  # fmt: skip
        size = x.shape[1]
        p, q, dy, y_out, dx_out = row(x, 0), row(t, 0), row(dloss, 0), row(losses, 0), row(dx, 0)
        width, several = lanes(p), wide(p)
        like = number(p, 0)
        g, g_lo = gradient_factor(1.0, factor, denominator)
        g, g_lo = split(g, g_lo, like)
        wa, wb, at_a, at_b = row(a, 0), row(b, 0), 0, 0
        room_a, room_b = borrow(x, None, a, CHUNK), borrow(x, None, b, CHUNK)
        for i in range(first, last):
            total = total_lo = splat64(p, 0)
            end = min(size, (i + 1) * block)
            for start in range(i * block, end, CHUNK):
                stop = min(end, start + CHUNK)
                if weighted:
                    wa, at_a = weights_at(a, a_run, a_period, room_a, start, stop)
                    wb, at_b = weights_at(b, b_run, b_period, room_b, start, stop)
                j = start
                while j + several <= stop:
                    y = of_wide(p, q, wa, at_a, wb, at_b, dy, g, g_lo, y_out, dx_out, j, several)
                    if sums is not None:
                        total, total_lo = accumulate(total, total_lo, y)
                    j += several
                while j < stop:
                    n = min(width, stop - j)
                    z = of_some(p, q, wa, at_a, wb, at_b, dy, g, g_lo, y_out, dx_out, j, n)
                    if sums is not None:
                        total, total_lo = accumulate(total, total_lo, first_lanes(p, z, n))
                    j += width
            if sums is not None:
                sums[i, 0], sums[i, 1] = sum_across(p, total, total_lo, like)
        give_back(room_a)
        give_back(room_b)

    return kernel


def _step(
    loss: Formula, gradient: Formula, weighted: bool, read: Callable[..., Vector],
    write: Callable[..., None],
) -> Callable[..., Vector]:  # fmt: skip
    """The losses of n elements from j on; what is asked for is written."""

    def step(
        x: Pointer, t: Pointer, a: Pointer, at_a: int, b: Pointer, at_b: int, dloss: Pointer,
        g: Number, g_lo: Number, losses: Pointer, dx: Pointer, j: int, n: int,
    ) -> Vector:  # fmt: skip
        v, target = read(x, j, n), read(t, j, n)
        weights = (read(a, at_a + j, n), read(b, at_b + j, n)) if weighted else ()
        y = loss(v, target, *weights)
        if losses is not None:
            write(losses, j, n, y)
        if dx is not None:
            if dloss is None:
                write(dx, j, n, gradient(v, target, g, g_lo, *weights))
            else:
                upstream = read(dloss, j, n)
                write(dx, j, n, gradient(v, target, upstream, splat(x, 0), *weights))
        return y

    return step


def read_wide(p: Pointer, j: int, _n: int) -> Vector:
    """The wide vector at j."""
    return load_wide(p, j)


def read_some(p: Pointer, j: int, n: int) -> Vector:
    """n numbers, and 0 in the other lanes."""
    return load_some(p, j, n, 0)


def write_wide(p: Pointer, j: int, _n: int, v: Vector) -> None:
    """Write v at j."""
    store(p, j, v)


def weights_at(
    w: Any, run: int, period: int, room: Pointer, start: int, stop: int
) -> tuple[Pointer, int]:
    """(p, at): the elements j from start to stop weigh p[at + j], which is w[j // run % period].

    Of runs of length 1, w holds so many more than a period that p is w; others are put into the
    room.
    """
    p = row(w, 0)
    if run == 1:
        return p, start % period - start
    width = lanes(p)
    j = start
    while j < stop:
        i = j // run
        end = min(stop, (i + 1) * run)
        v = splat(p, pick(p, i % period))
        while j + width <= end:
            store(room, j - start, v)
            j += width
        if j < end:
            store_some(room, j - start, end - j, v)
        j = end
    return room, -start
