"""The traversals of a row: how its numbers are reduced to a few, and mapped to the output.

All of them go along the row in vectors, with a masked tail, and in an order that depends on the
number of columns alone. Every kernel of rows is made of these.
"""

from collections.abc import Callable
from typing import Any

from ..elementary import biased_exp_minus, larger, split, where, widen
from ..formulas.softmax import (
    accumulate,
    accumulate_product,
    add_pairs,
    equal,
    is_likely,
    larger_with,
    rest,
    scale_factors,
    scaled,
    scaled_in_two_steps,
    unbiased,
)
from .vectors import (
    Number,
    Pointer,
    all_but_one,
    count,
    count_zero,
    lanes,
    load,
    load_some,
    max_across,
    number,
    prefetch,
    splat,
    splat64,
    store,
    store_some,
    sum_across,
    sum_zero,
    value_at_max_across,
)

# Sums are made per block of columns, and the blocks' sums added in turn: whoever may one day share
# a huge row among threads will find the same bits.
BLOCK = 16384

# Further ahead nothing is fetched: it would no longer be in the second-level cache when needed.
PREFETCH = 65536
INF = float("inf")


def row_max(x: Pointer, n: int) -> Number:
    """The largest of n numbers, NaN left out; -inf if there is none."""
    width = lanes(x)
    a = b = c = d = splat(x, -INF)
    j = 0
    while j + 4 * width <= n:
        a = larger(load(x, j), a)
        b = larger(load(x, j + width), b)
        c = larger(load(x, j + 2 * width), c)
        d = larger(load(x, j + 3 * width), d)
        j += 4 * width
    while j + width <= n:
        a = larger(load(x, j), a)
        j += width
    if j < n:
        b = larger(load_some(x, j, n - j, -INF), b)
    return max_across(x, larger(larger(a, b), larger(c, d)))


def exp_total(x: Pointer, e: Pointer, n: int, m: float) -> tuple[float, float]:
    """(s, s_lo) with Σ exp(x_j - m) = 1 + s + s_lo; m is the maximum. Writes the exps to e, biased.

    e may be x itself, or None. Every vector enters the float64 sum by itself: to add two in the
    row's own precision first would save conversions, but costs a loss its second ULP.
    """
    width = lanes(x)
    s = s_lo = sum_zero(x)
    maxima = count_zero(x)
    # Most often the next row follows this one: it is fetched while this one is computed.
    ahead = min(n, PREFETCH)
    start = 0
    while start < n:
        stop = min(n, start + BLOCK)
        total = total_lo = splat64(x, 0)
        j = start
        while j + 4 * width <= stop:
            prefetch(x, j + ahead)
            prefetch(x, j + width + ahead)
            prefetch(x, j + 2 * width + ahead)
            prefetch(x, j + 3 * width + ahead)
            xa, xb = load(x, j), load(x, j + width)
            xc, xd = load(x, j + 2 * width), load(x, j + 3 * width)
            a, b = biased_exp_minus(xa, m), biased_exp_minus(xb, m)
            c, d = biased_exp_minus(xc, m), biased_exp_minus(xd, m)
            if e is not None:
                store(e, j, a)
                store(e, j + width, b)
                store(e, j + 2 * width, c)
                store(e, j + 3 * width, d)
            ma, mb, mc, md = equal(xa, m), equal(xb, m), equal(xc, m), equal(xd, m)
            maxima += (count(x, ma) + count(x, mb)) + (count(x, mc) + count(x, md))
            total, total_lo = accumulate(total, total_lo, rest(ma, a))
            total, total_lo = accumulate(total, total_lo, rest(mb, b))
            total, total_lo = accumulate(total, total_lo, rest(mc, c))
            total, total_lo = accumulate(total, total_lo, rest(md, d))
            j += 4 * width
        while j < stop:
            k = min(width, stop - j)
            xa = load_some(x, j, k, -INF)
            a = biased_exp_minus(xa, m)
            if e is not None:
                store_some(e, j, k, a)
            ma = equal(xa, m)
            maxima += count(x, ma)
            total, total_lo = accumulate(total, total_lo, rest(ma, a))
            j += width
        block, block_lo = sum_across(x, total, total_lo, m)
        s, s_lo = add_pairs(s, s_lo, block, block_lo, m)
        start += BLOCK
    s, s_lo = unbiased(s, s_lo, m)
    return add_pairs(s, s_lo, all_but_one(x, maxima), sum_zero(x), m)  # one maximum is left out


def map_row(formula: Callable[..., Any]) -> Callable[..., None]:
    """y_j = formula(x_j, *parameters) along a row; y may be x."""

    def mapped(x: Pointer, y: Pointer, n: int, parameters: tuple[float, ...]) -> None:
        width = lanes(x)
        j = 0
        while j + 4 * width <= n:
            a = formula(load(x, j), *parameters)
            b = formula(load(x, j + width), *parameters)
            c = formula(load(x, j + 2 * width), *parameters)
            d = formula(load(x, j + 3 * width), *parameters)
            store(y, j, a)
            store(y, j + width, b)
            store(y, j + 2 * width, c)
            store(y, j + 3 * width, d)
            j += 4 * width
        while j < n:
            k = min(width, n - j)
            store_some(y, j, k, formula(load_some(x, j, k, 0), *parameters))
            j += width

    return mapped


def map_two_rows(formula: Callable[..., Any]) -> Callable[..., None]:
    """z_j = formula(x_j, y_j, *parameters) along two rows; z may be x."""

    def mapped(x: Pointer, y: Pointer, z: Pointer, n: int, parameters: tuple[float, ...]) -> None:
        width = lanes(x)
        j = 0
        while j + 2 * width <= n:
            a = formula(load(x, j), load(y, j), *parameters)
            b = formula(load(x, j + width), load(y, j + width), *parameters)
            store(z, j, a)
            store(z, j + width, b)
            j += 2 * width
        while j < n:
            k = min(width, n - j)
            v = formula(load_some(x, j, k, 0), load_some(y, j, k, 0), *parameters)
            store_some(z, j, k, v)
            j += width

    return mapped


_scale = map_row(scaled)
scale_in_two_steps = map_row(scaled_in_two_steps)


def scale(e: Pointer, y: Pointer, n: int, r: float, r_lo: float) -> None:
    """y = e·(r + r_lo), e being biased exponentials and r no tiny number; y may be e."""
    like = number(e, 0)
    r, r_lo = unbiased(r, r_lo, like)
    _scale(e, y, n, split(r, r_lo, like))


def scale_by_any(e: Pointer, y: Pointer, n: int, r: float, r_lo: float) -> None:
    """The same for any r."""
    scale_in_two_steps(e, y, n, scale_factors(r, r_lo, number(e, 0)))


def value_at_max(x: Pointer, values: Pointer, n: int) -> Number:
    """What stands in `values` where x is largest, NaN left out; 0 if x has no largest."""
    width = lanes(x)
    ahead = min(n, PREFETCH)
    a = b = c = d = splat(x, -INF)
    va = vb = vc = vd = splat(x, 0)
    j = 0
    while j + 4 * width <= n:
        prefetch(x, j + ahead)
        prefetch(x, j + width + ahead)
        prefetch(x, j + 2 * width + ahead)
        prefetch(x, j + 3 * width + ahead)
        prefetch(values, j + ahead)
        prefetch(values, j + width + ahead)
        prefetch(values, j + 2 * width + ahead)
        prefetch(values, j + 3 * width + ahead)
        a, va = larger_with(load(x, j), a, load(values, j), va)
        b, vb = larger_with(load(x, j + width), b, load(values, j + width), vb)
        c, vc = larger_with(load(x, j + 2 * width), c, load(values, j + 2 * width), vc)
        d, vd = larger_with(load(x, j + 3 * width), d, load(values, j + 3 * width), vd)
        j += 4 * width
    while j < n:
        k = min(width, n - j)
        a, va = larger_with(load_some(x, j, k, -INF), a, load_some(values, j, k, 0), va)
        j += width
    a, va = larger_with(b, a, vb, va)
    c, vc = larger_with(d, c, vd, vc)
    a, va = larger_with(c, a, vc, va)
    _, value = value_at_max_across(x, a, va)
    return value


def likely_and_others(dy: Pointer, y: Pointer, n: int) -> tuple[float, float, float]:
    """Σ dy over the column where exp(y) > 1/2, if there is one, and over the others, as a pair."""
    width = lanes(y)
    zero = splat(y, 0)
    likely = s = s_lo = t = t_lo = splat64(y, 0)
    ahead = min(n, PREFETCH)
    j = 0
    while j + 2 * width <= n:
        prefetch(y, j + ahead)
        prefetch(y, j + width + ahead)
        prefetch(dy, j + ahead)
        prefetch(dy, j + width + ahead)
        v, w = load(dy, j), load(dy, j + width)
        mv, mw = is_likely(load(y, j)), is_likely(load(y, j + width))
        s, s_lo = accumulate(s, s_lo, where(mv, zero, v))
        t, t_lo = accumulate(t, t_lo, where(mw, zero, w))
        likely += widen(where(mv, v, zero)) + widen(where(mw, w, zero))
        j += 2 * width
    while j < n:
        k = min(width, n - j)
        v = load_some(dy, j, k, 0)
        mv = is_likely(load_some(y, j, k, -INF))
        s, s_lo = accumulate(s, s_lo, where(mv, zero, v))
        likely += widen(where(mv, v, zero))
        j += width
    like = number(y, 0)
    s, s_lo = add_pairs(s, s_lo, t, t_lo, like)
    others, others_lo = sum_across(y, s, s_lo, like)
    likely, _ = sum_across(y, likely, splat64(y, 0), like)
    return likely, others, others_lo


def shifted_dot(dy: Pointer, y: Pointer, n: int, shift: float) -> tuple[float, float]:
    """Σ y_j (dy_j - shift) as a float64 pair."""
    width = lanes(y)
    s = s_lo = t = t_lo = splat64(y, 0)
    j = 0
    while j + 2 * width <= n:
        s, s_lo = accumulate_product(s, s_lo, load(y, j), load(dy, j), shift)
        t, t_lo = accumulate_product(t, t_lo, load(y, j + width), load(dy, j + width), shift)
        j += 2 * width
    while j < n:
        k = min(width, n - j)
        s, s_lo = accumulate_product(s, s_lo, load_some(y, j, k, 0), load_some(dy, j, k, 0), shift)
        j += width
    like = number(y, 0)
    s, s_lo = add_pairs(s, s_lo, t, t_lo, like)
    return sum_across(y, s, s_lo, like)


def fill(y: Pointer, n: int, value: float) -> None:
    """Every one of n numbers is `value`."""
    width = lanes(y)
    v = splat(y, value)
    for j in range(0, n, width):
        store_some(y, j, min(width, n - j), v)
