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
        for i in range(
            block() * per_block + thread(), min(n, (block() + 1) * per_block), threads()
        ):
            y = step(x, t, a, i // a_run % a_period, b, i // b_run % b_period, dloss, g, g_lo,
                     losses, dx, i)  # fmt: skip
            s, s_lo = add_pairs(s, s_lo, y, zero, y)
        if sums is not None:
            sum_of_block(sums, s, s_lo)

    return kernel


def _neither(_a: Pointer, _i: int, _b: Pointer, _j: int) -> tuple[Number, ...]:
    return ()


def _both(a: Pointer, i: int, b: Pointer, j: int) -> tuple[Number, ...]:
    return pick(a, i), pick(b, j)


def _step(loss: Formula, gradient: Formula, weights: Callable[..., Any]) -> Callable[..., Number]:
    """The loss of an element; what is asked for is written."""

    def step(
        x: Pointer, t: Pointer, a: Pointer, at_a: int, b: Pointer, at_b: int, dloss: Pointer,
        g: Number, g_lo: Number, losses: Pointer, dx: Pointer, i: int,
    ) -> Number:  # fmt: skip
        v, target = pick(x, i), pick(t, i)
        of_both = weights(a, at_a, b, at_b)
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
