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
from .vectors import (
    Number,
    Pointer,
    Vector,
    borrow,
    first_lanes,
    give_back,
    lanes,
    load,
    load_some,
    number,
    pick,
    row,
    splat,
    splat64,
    store,
    store_some,
    sum_across,
)

Kernel = Callable[..., None]
Formula = Callable[..., Any]

# So many elements have their weights spread at a time: they stay in the first-level cache.
CHUNK = 2048


@cache
def loss_blocks(loss: Formula, gradient: Formula) -> Kernel:
    """Kernel of loss(x, t, *weights) and gradient(x, t, g, g_lo, *weights), weights being a, b.

    What is None is not asked for (losses, sums, dx) or not given (a and b, dloss): g is dloss, or
    `factor` where there is none, over `denominator`.
    """
    step = _step(loss, gradient)

    def kernel(
        first: int, last: int, x: Any, t: Any, a: Any, a_run: int, a_period: int, b: Any,
        b_run: int, b_period: int, dloss: Any, factor: float, denominator: float, losses: Any,
        sums: Any, dx: Any, block: int,
    ) -> None:  # fmt: skip
        size = x.shape[1]
        p = row(x, 0)
        arrays = p, row(t, 0), row(dloss, 0), row(losses, 0), row(dx, 0)
        width = lanes(p)
        like = number(p, 0)
        g = split(*gradient_factor(1.0, factor, denominator), like)
        room_a, room_b = borrow(x, None, a, CHUNK), borrow(x, None, b, CHUNK)
        for i in range(first, last):
            total = total_lo = splat64(p, 0)
            end = min(size, (i + 1) * block)
            for start in range(i * block, end, CHUNK):
                stop = min(end, start + CHUNK)
                weights = (
                    weights_at(a, a_run, a_period, room_a, start, stop),
                    weights_at(b, b_run, b_period, room_b, start, stop),
                )
                j = start
                while j + width <= stop:
                    y = step(arrays, weights, g, j, j - start, None)
                    if sums is not None:
                        total, total_lo = accumulate(total, total_lo, y)
                    j += width
                if j < stop:
                    y = step(arrays, weights, g, j, j - start, stop - j)
                    if sums is not None:
                        y = first_lanes(p, y, stop - j)
                        total, total_lo = accumulate(total, total_lo, y)
            if sums is not None:
                sums[i, 0], sums[i, 1] = sum_across(p, total, total_lo, like)
        give_back(room_a)
        give_back(room_b)

    return kernel


def _step(loss: Formula, gradient: Formula) -> Callable[..., Vector]:
    """The losses of one vector of elements, or of the first n; the gradient is written."""

    def step(
        arrays: tuple[Pointer, ...], weights: Any, g: tuple[Number, Number], j: int, k: int,
        n: int | None,
    ) -> Vector:  # fmt: skip
        p, q, dloss, losses, dx = arrays
        x, t = read(p, j, n), read(q, j, n)
        w = weights_of(weights, k, n)
        y = loss(x, t, *w)
        if losses is not None:
            write(losses, j, n, y)
        if dx is not None:
            if dloss is None:
                write(dx, j, n, gradient(x, t, g[0], g[1], *w))
            else:
                write(dx, j, n, gradient(x, t, read(dloss, j, n), splat(p, 0), *w))
        return y

    return step


def read(p: Pointer, j: int, n: int | None) -> Vector:
    """The vector at j, or its first n lanes."""
    if n is None:
        return load(p, j)
    return load_some(p, j, n, 0)


def write(p: Pointer, j: int, n: int | None, v: Vector) -> None:
    """The inverse of `read`."""
    if n is None:
        store(p, j, v)
    else:
        store_some(p, j, n, v)


def weights_of(weights: Any, k: int, n: int | None) -> tuple[Vector, ...]:
    """The weights of element k of a chunk and those behind it; nothing if there are none."""
    (a, at_a), (b, at_b) = weights
    if a is None:
        return ()
    return read(a, at_a + k, n), read(b, at_b + k, n)


def weights_at(
    w: Any, run: int, period: int, room: Pointer, start: int, stop: int
) -> tuple[Pointer, int]:
    """Where the weights of the elements from start to stop stand: w[j // run % period] for each j.

    Of runs of length 1, w holds so many more than a period that they stand in w; others are put
    into the room.
    """
    if w is None:
        return None, 0
    p = row(w, 0)
    if run == 1:
        return p, start % period
    width = lanes(p)
    j = start
    while j < stop:
        i = j // run
        end = min(stop, (i + 1) * run)
        v = splat(p, pick(p, i % period))
        for k in range(j, end, width):
            store_some(room, k - start, min(width, end - k), v)
        j = end
    return room, 0
