"""The traversal of elementwise operations: kernels over flat arrays, 1-D and contiguous."""

from collections.abc import Callable
from functools import cache
from typing import Any

from ..formulas.sigmoid import PARTS
from .origins import recorded
from .rows import is_streamed, map_two_rows, stream_two_rows
from .vectors import Pointer, at, drain, lanes, load_some, load_wide, row, store, store_some, wide

# Sharing work costs 2 to 3 µs: about as much as 10⁴ exponentials take.
PARALLEL_FROM = 32768

# Ranges begin at multiples of this, so that they do not share cache lines.
GRAIN = 1024

# A team of threads in one number: the address of their loop times this, plus how many they are.
TEAM = 1 << 14

Kernel = Callable[..., None]
Formula = Callable[..., Any]


@cache
@recorded
def map_one(formula: Formula) -> Kernel:
    """Kernel of out = formula(x)."""
    map_wide = in_turns(*PARTS[formula]) if formula in PARTS else at_once(formula)

    def kernel(first: int, last: int, x: Any, out: Any) -> None:
        p, q = row(x, 0), row(out, 0)
        width, step = lanes(p), wide(p)
        j = last - (last - first) % step
        if first < j:
            map_wide(p, q, first, j, step)
        while j < last:
            n = min(width, last - j)
            store_some(q, j, n, formula(load_some(p, j, n, 0)))
            j += width

    return kernel


def at_once(formula: Formula) -> Callable[..., None]:
    """The function of (x, y, first, last, step) for y = formula(x), of whole wide vectors."""

    def mapped(x: Pointer, y: Pointer, first: int, last: int, step: int) -> None:
        for j in range(first, last, step):
            store(y, j, formula(load_wide(x, j)))

    return mapped


def in_turns(begin: Formula, go_on: Formula, end: Formula) -> Callable[..., None]:
    """The same for end(*go_on(*begin(x))), each part of another vector at the same time.

    Of the last vector some parts are computed again, for nothing; of no vector that is written.
    """

    def mapped(x: Pointer, y: Pointer, first: int, last: int, step: int) -> None:
        half_way = go_on(*begin(load_wide(x, first)))
        begun = begin(load_wide(x, min(first + step, last - step)))
        for j in range(first, last, step):
            v = load_wide(x, min(j + 2 * step, last - step))
            store(y, j, end(*half_way))
            half_way = go_on(*begun)
            begun = begin(v)

    return mapped


@cache
@recorded
def map_two(formula: Formula) -> Kernel:
    """Kernel of out = formula(a, b)."""
    apply, stream_apply = map_two_rows(formula), stream_two_rows(formula)

    def kernel(first: int, last: int, a: Any, b: Any, out: Any) -> None:
        p, q, r = at(row(a, 0), first), at(row(b, 0), first), at(row(out, 0), first)
        if is_streamed(a, b, out):
            stream_apply(p, q, r, last - first, ())
            drain()
        else:
            apply(p, q, r, last - first, ())

    return kernel
