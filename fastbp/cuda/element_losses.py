"""The kernels of losses of elements on a GPU: loss, its sum and its gradient in one pass.

Elements go in blocks, how many depends on their number alone, each of which leaves the sum of its
losses.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from ..cpu.vectors import Number, Pointer, number, pick, store
from ..formulas.cross_entropy import gradient_factor
from ..formulas.softmax import add_pairs
from .label_losses import incoming
from .reductions import as_denominator, sum_of_block
from .words import block, thread, threads

Formula = Callable[..., Any]
Kernel = Callable[..., None]


@cache
def loss_elements(loss: Formula, gradient: Formula, weighted: bool = False) -> Kernel:
    """Kernel of loss(x, t) and gradient(x, t, g, g_lo), as of `loss_blocks` on CPUs.

    What is None is not asked for (losses, sums, dx) or not given: `dloss`, for each element, or
    `number`, for their sum, times the factor over the denominator. Element i weighs
    a[i // a_run % a_period].
    """
    step = _step(loss, gradient, _both if weighted else _neither)

    def kernel(
        n: int, per_block: int, x: Pointer, t: Pointer, a: Pointer, a_run: int, a_period: int,
        b: Pointer, b_run: int, b_period: int, dloss: Pointer, scalar: Pointer,
        factor: tuple[Number, ...], denominator: Pointer, known: tuple[Number, ...],
        losses: Pointer, sums: Pointer, dx: Pointer,
    ) -> None:  # fmt: skip
        s = s_lo = zero = number(x, 0)
        g, g_lo = incoming(scalar, 0, factor, number(x, 1))
        d, d_lo = as_denominator(denominator, known)
        g, g_lo = gradient_factor(number(x, 1), g, d, d_lo, g_lo)
        of_a, of_b, every = (a, a_run, a_period), (b, b_run, b_period), threads()
        i, stop = block() * per_block + thread(), min(n, (block() + 1) * per_block)
        while i + 3 * every < stop:
            # What is read together is waited for together; dx may be x, so none is read later.
            v1, v2, v3, v4 = four(x, i, every)
            t1, t2, t3, t4 = four(t, i, every)
            y1 = step(v1, t1, of_a, of_b, dloss, g, g_lo, losses, dx, i)
            y2 = step(v2, t2, of_a, of_b, dloss, g, g_lo, losses, dx, i + every)
            y3 = step(v3, t3, of_a, of_b, dloss, g, g_lo, losses, dx, i + 2 * every)
            y4 = step(v4, t4, of_a, of_b, dloss, g, g_lo, losses, dx, i + 3 * every)
            s, s_lo = add_pairs(s, s_lo, y1, zero, y1)
            s, s_lo = add_pairs(s, s_lo, y2, zero, y2)
            s, s_lo = add_pairs(s, s_lo, y3, zero, y3)
            s, s_lo = add_pairs(s, s_lo, y4, zero, y4)
            i += 4 * every
        while i < stop:
            y = step(pick(x, i), pick(t, i), of_a, of_b, dloss, g, g_lo, losses, dx, i)
            s, s_lo = add_pairs(s, s_lo, y, zero, y)
            i += every
        if sums is not None:
            sum_of_block(sums, s, s_lo)

    return kernel


def four(p: Pointer, i: int, every: int) -> tuple[Number, Number, Number, Number]:
    """The numbers of a thread in four rounds."""
    return pick(p, i), pick(p, i + every), pick(p, i + 2 * every), pick(p, i + 3 * every)


def _neither(_a: tuple[Any, ...], _b: tuple[Any, ...], _i: int) -> tuple[Number, ...]:
    return ()


def _both(of_a: tuple[Any, ...], of_b: tuple[Any, ...], i: int) -> tuple[Number, ...]:
    (a, a_run, a_period), (b, b_run, b_period) = of_a, of_b
    return pick(a, i // a_run % a_period), pick(b, i // b_run % b_period)


def _step(loss: Formula, gradient: Formula, weights: Callable[..., Any]) -> Callable[..., Number]:
    """The loss of an element; what is asked for is written."""

    def step(
        v: Number, target: Number, of_a: tuple[Any, ...], of_b: tuple[Any, ...], dloss: Pointer,
        g: Number, g_lo: Number, losses: Pointer, dx: Pointer, i: int,
    ) -> Number:  # fmt: skip
        of_both = weights(of_a, of_b, i)
        y = loss(v, target, *of_both)
        if losses is not None:
            store(losses, i, y)
        if dx is not None:
            store(dx, i, gradient(v, target, *upstream(dloss, i, g, g_lo), *of_both))
        return y

    return step


def upstream(dloss: Pointer, i: int, g: Number, g_lo: Number) -> tuple[Number, Number]:
    """The gradient by the loss of an element, over the denominator, as a pair."""
    if dloss is None:
        return g, g_lo
    return pick(dloss, i), number(dloss, 0)
