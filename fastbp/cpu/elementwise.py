"""The traversal of elementwise operations: kernels over flat arrays, 1-D and contiguous."""

from collections.abc import Callable
from functools import cache
from typing import Any

from .origins import recorded
from .vectors import lanes, load, load_some, row, store, store_some

# Sharing work costs 2 to 3 µs: about as much as 10⁴ exponentials take.
PARALLEL_FROM = 32768

Kernel = Callable[..., None]
Formula = Callable[..., Any]


@cache
@recorded
def map_one(formula: Formula) -> Kernel:
    """Kernel of out = formula(x). Four vectors at a time share the formula's constants."""

    def kernel(first: int, last: int, x: Any, out: Any) -> None:
        p, q = row(x, 0), row(out, 0)
        width = lanes(p)
        j = first
        while j + 4 * width <= last:
            a = formula(load(p, j))
            b = formula(load(p, j + width))
            c = formula(load(p, j + 2 * width))
            d = formula(load(p, j + 3 * width))
            store(q, j, a)
            store(q, j + width, b)
            store(q, j + 2 * width, c)
            store(q, j + 3 * width, d)
            j += 4 * width
        while j < last:
            n = min(width, last - j)
            store_some(q, j, n, formula(load_some(p, j, n, 0)))
            j += width

    return kernel


@cache
@recorded
def map_two(formula: Formula) -> Kernel:
    """Kernel of out = formula(a, b)."""

    def kernel(first: int, last: int, a: Any, b: Any, out: Any) -> None:
        p, q, r = row(a, 0), row(b, 0), row(out, 0)
        width = lanes(p)
        end = last - width
        j = first
        while j + width <= end:
            y = formula(load(p, j), load(q, j))
            z = formula(load(p, j + width), load(q, j + width))
            store(r, j, y)
            store(r, j + width, z)
            j += 2 * width
        while j < last:
            n = min(width, last - j)
            store_some(r, j, n, formula(load_some(p, j, n, 0), load_some(q, j, n, 0)))
            j += width

    return kernel
