"""The traversal of elementwise operations: kernels over flat arrays, 1-D and contiguous."""

from collections.abc import Callable
from functools import cache
from typing import Any

from .origins import recorded
from .rows import is_streamed, map_two_rows, stream_two_rows
from .vectors import at, drain, lanes, load_some, load_wide, row, store, store_some, wide

# Sharing work costs 2 to 3 µs: about as much as 10⁴ exponentials take.
PARALLEL_FROM = 32768

Kernel = Callable[..., None]
Formula = Callable[..., Any]


@cache
@recorded
def map_one(formula: Formula) -> Kernel:
    """Kernel of out = formula(x)."""

    def kernel(first: int, last: int, x: Any, out: Any) -> None:
        p, q = row(x, 0), row(out, 0)
        width, step = lanes(p), wide(p)
        j = first
        while j + step <= last:
            store(q, j, formula(load_wide(p, j)))
            j += step
        while j < last:
            n = min(width, last - j)
            store_some(q, j, n, formula(load_some(p, j, n, 0)))
            j += width

    return kernel


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
