"""Sums of many numbers on a GPU, as pairs, in an order that depends on how many there are alone.

Blocks sum so many each, and one block sums their sums; of few numbers it sums them itself.
"""

from collections.abc import Callable
from typing import Any

from ..cpu.vectors import Number, Pointer, number, pick, store, sum_across
from ..elementary import times
from ..formulas.cross_entropy import mean_of_losses, normalized
from ..formulas.softmax import add_pairs
from .words import block, of_block, thread, threads

# Numbers that a block sums; launches have to give each block so many threads.
PER_BLOCK, THREADS = 8192, 256


def sum_of_block(sums: Pointer, s: Number, s_lo: Number) -> None:
    """sums[2b] + sums[2b + 1] is the sum over the threads of this block, b."""
    s, s_lo = normalized(*sum_across(of_block(sums), s, s_lo, s))
    if thread() == 0:
        store(sums, 2 * block(), s)
        store(sums, 2 * block() + 1, s_lo)


def sum_blocks(numbers: Pointer, n: int, per_block: int, sums: Pointer) -> None:
    """The sums of blocks of numbers."""
    s = s_lo = zero = number(sums, 0)
    for i in range(block() * per_block + thread(), min(n, (block() + 1) * per_block), threads()):
        v = pick(numbers, i)
        s, s_lo = add_pairs(s, s_lo, v, zero, v)
    sum_of_block(sums, s, s_lo)


def sum_pairs(pairs: Pointer, n: int, sums: Pointer) -> None:
    """The sum of n pairs, by one block."""
    s = s_lo = number(sums, 0)
    for i in range(thread(), n, threads()):
        a, a_lo = one_pair(pairs, i)
        s, s_lo = add_pairs(s, s_lo, a, a_lo, a)
    sum_of_block(sums, s, s_lo)


def one_number(numbers: Pointer, i: int) -> tuple[Number, Number]:
    """The i-th number, as a pair."""
    return pick(numbers, i), number(numbers, 0)


def one_pair(pairs: Pointer, i: int) -> tuple[Number, Number]:
    """The i-th pair."""
    return pick(pairs, 2 * i), pick(pairs, 2 * i + 1)


def as_denominator(denominator: Pointer, known: tuple[Number, ...]) -> Any:
    """The pair at that place times the one that is known, or that alone."""
    if denominator is None:
        return known
    return times(pick(denominator, 0), pick(denominator, 1), *known)


def reduced_by(term: Callable[..., Any]) -> Callable[..., None]:
    """Kernel of result[0] = the sum of n losses, or of the sums of n blocks, by one block.

    It is divided by the denominator, if there is one, and by what is known besides, both of them
    pairs; `of_nothing` where that is 0.
    """

    def kernel(
        losses: Pointer, n: int, denominator: Pointer, known: tuple[Number, ...],
        of_nothing: Number, result: Pointer,
    ) -> None:  # fmt: skip
        s = s_lo = number(result, 0)
        for i in range(thread(), n, threads()):
            a, a_lo = term(losses, i)
            s, s_lo = add_pairs(s, s_lo, a, a_lo, a)
        s, s_lo = sum_across(of_block(result), s, s_lo, s)
        if thread() == 0:
            d, d_lo = as_denominator(denominator, known)
            store(result, 0, mean_of_losses(s, s_lo, d, d_lo, of_nothing))

    return kernel


reduce_losses = reduced_by(one_number)
reduce_sums = reduced_by(one_pair)
