"""Traversals of rows whose results are rounded to 16 bits, in fewer operations."""

from ..elementary import biased_exp_quickly, narrowed
from ..formulas.softmax import (
    accumulate,
    add_pairs,
    equal,
    reciprocal_of_total,
    rest,
    scaled_quickly,
    unbiased,
)
from .rows import BLOCK, INF, PREFETCH, map_row, row_max, total_of_sums
from .vectors import (
    Number,
    Pointer,
    at,
    count,
    count_zero,
    lanes,
    load,
    load_some,
    prefetch,
    splat64,
    store,
    store_some,
    sum_across,
    sum_zero,
)


def quick_exp_total(x: Pointer, e: Pointer, n: int, m: float) -> tuple[float, float]:
    """As `exp_total`, within 8 ULP of float32."""
    s = s_lo = sum_zero(x)
    maxima = count_zero(x)
    for j in range(0, n, BLOCK):
        more, more_lo, found = quick_exp_sums(at(x, j), at(e, j), min(n - j, BLOCK), m)
        s, s_lo = add_pairs(s, s_lo, more, more_lo, m)
        maxima += found
    return total_of_sums(x, s, s_lo, maxima, m)


def quick_exp_sums(x: Pointer, e: Pointer, n: int, m: float) -> tuple[float, float, Number]:
    """As `exp_sums`, of a block of columns, four vectors entering the float64 sum at once."""
    width = lanes(x)
    maxima = count_zero(x)
    ahead = min(n, PREFETCH)
    total = total_lo = splat64(x, 0)
    j = 0
    while j + 4 * width <= n:
        prefetch(x, j + ahead)
        prefetch(x, j + 2 * width + ahead)
        xa, xb = load(x, j), load(x, j + width)
        xc, xd = load(x, j + 2 * width), load(x, j + 3 * width)
        a, b = biased_exp_quickly(xa, m), biased_exp_quickly(xb, m)
        c, d = biased_exp_quickly(xc, m), biased_exp_quickly(xd, m)
        if e is not None:
            store(e, j, a)
            store(e, j + width, b)
            store(e, j + 2 * width, c)
            store(e, j + 3 * width, d)
        ma, mb, mc, md = equal(xa, m), equal(xb, m), equal(xc, m), equal(xd, m)
        maxima += (count(x, ma) + count(x, mb)) + (count(x, mc) + count(x, md))
        four = (rest(ma, a) + rest(mb, b)) + (rest(mc, c) + rest(md, d))
        total, total_lo = accumulate(total, total_lo, four)
        j += 4 * width
    while j < n:
        k = min(width, n - j)
        xa = load_some(x, j, k, -INF)
        a = biased_exp_quickly(xa, m)
        if e is not None:
            store_some(e, j, k, a)
        ma = equal(xa, m)
        maxima += count(x, ma)
        total, total_lo = accumulate(total, total_lo, rest(ma, a))
        j += width
    return *sum_across(x, total, total_lo, m), maxima


_scale_quickly = map_row(scaled_quickly)


def quick_softmax_row(x: Pointer, e: Pointer, y: Pointer, n: int) -> None:
    """y_j = e_j / (1 + s)."""
    m = row_max(x, n)
    s, s_lo = quick_exp_total(x, e, n, m)
    _scale_quickly(e, y, n, quick_reciprocal(m, s, s_lo))


def quick_reciprocal(m: Number, s: Number, s_lo: Number) -> tuple[Number]:
    """1 / (1 + s), to multiply biased exponentials."""
    r, r_lo = unbiased(*reciprocal_of_total(m, s, s_lo), m)
    return (narrowed(r + r_lo, m),)


def quick_total_of_row(x: Pointer, n: int) -> tuple[Number, Number, Number]:
    """(m, s, s_lo)."""
    m = row_max(x, n)
    s, s_lo = quick_exp_total(x, None, n, m)
    return m, s, s_lo
