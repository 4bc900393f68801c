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
    accumulate_shifted,
    add_pairs,
    equal,
    is_likely,
    is_precise,
    larger_with,
    rest,
    scale_factors,
    scaled,
    scaled_in_two_steps,
    shifted,
    unbiased,
)
from .vectors import (
    Number,
    Pointer,
    all_but_one,
    at,
    count,
    count_zero,
    lanes,
    load,
    load_some,
    max_across,
    number,
    prefetch,
    row,
    same_place,
    splat,
    splat64,
    store,
    store_some,
    stream,
    sum_across,
    sum_zero,
    to_boundary,
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


def total_of_row(x: Pointer, n: int) -> tuple[Number, Number, Number]:
    """(m, s, s_lo), m being the maximum."""
    m = row_max(x, n)
    s, s_lo = exp_total(x, None, n, m)
    return m, s, s_lo


def map_row(formula: Callable[..., Any], write: Callable[..., None] = store) -> Callable[..., None]:
    """y_j = formula(x_j, *parameters) along a row; y may be x."""

    def mapped(x: Pointer, y: Pointer, n: int, parameters: tuple[float, ...]) -> None:
        width = lanes(x)
        j = 0
        while j + 4 * width <= n:
            a = formula(load(x, j), *parameters)
            b = formula(load(x, j + width), *parameters)
            c = formula(load(x, j + 2 * width), *parameters)
            d = formula(load(x, j + 3 * width), *parameters)
            write(y, j, a)
            write(y, j + width, b)
            write(y, j + 2 * width, c)
            write(y, j + 3 * width, d)
            j += 4 * width
        while j < n:
            k = min(width, n - j)
            store_some(y, j, k, formula(load_some(x, j, k, 0), *parameters))
            j += width

    return mapped


def map_two_rows(
    formula: Callable[..., Any], write: Callable[..., None] = store
) -> Callable[..., None]:
    """z_j = formula(x_j, y_j, *parameters) along two rows; z may be x."""

    def mapped(x: Pointer, y: Pointer, z: Pointer, n: int, parameters: tuple[float, ...]) -> None:
        width = lanes(x)
        j = 0
        while j + 2 * width <= n:
            a = formula(load(x, j), load(y, j), *parameters)
            b = formula(load(x, j + width), load(y, j + width), *parameters)
            write(z, j, a)
            write(z, j + width, b)
            j += 2 * width
        while j < n:
            k = min(width, n - j)
            v = formula(load_some(x, j, k, 0), load_some(y, j, k, 0), *parameters)
            store_some(z, j, k, v)
            j += width

    return mapped


# Of so many bytes, little of a result would still be in the cache when it is read again.
STREAM_FROM = 1 << 24


def is_streamed(x: Any, y: Any, z: Any) -> bool:
    """Whether z, computed from x and y, is better written past the cache.

    That spares reading its memory first; if z is x or y, it is in the cache already.
    """
    if z.size * z.itemsize < STREAM_FROM:
        return False
    return not (same_place(row(x, 0), row(z, 0)) or same_place(row(y, 0), row(z, 0)))


def stream_two_rows(formula: Callable[..., Any]) -> Callable[..., None]:
    """The same, past the cache, in which a large result would only take the place of others."""
    mapped = map_two_rows(formula, stream)

    def streamed(x: Pointer, y: Pointer, z: Pointer, n: int, parameters: tuple[float, ...]) -> None:
        j = min(n, to_boundary(z))
        v = formula(load_some(x, 0, j, 0), load_some(y, 0, j, 0), *parameters)
        store_some(z, 0, j, v)
        mapped(at(x, j), at(y, j), at(z, j), n - j, parameters)

    return streamed


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


def dot_by_maximum(dy: Pointer, y: Pointer, n: int) -> tuple[float, float, float]:
    """(c, Σ y_j (dy_j - c) as a float64 pair), c being what `value_at_max` gives.

    In one traversal, as Σ y·dy - c·Σ y; in a second one, if these two are nearly the same.
    """
    width = lanes(y)
    ahead = min(n, PREFETCH)
    a = b = splat(y, -INF)
    va = vb = splat(y, 0)
    s = s_lo = t = t_lo = u = u_lo = v = v_lo = splat64(y, 0)
    j = 0
    while j + 2 * width <= n:
        prefetch(y, j + ahead)
        prefetch(y, j + width + ahead)
        prefetch(dy, j + ahead)
        prefetch(dy, j + width + ahead)
        ya, yb = load(y, j), load(y, j + width)
        da, db = load(dy, j), load(dy, j + width)
        a, va = larger_with(ya, a, da, va)
        b, vb = larger_with(yb, b, db, vb)
        s, s_lo = accumulate_product(s, s_lo, ya, da)
        t, t_lo = accumulate_product(t, t_lo, yb, db)
        u, u_lo = accumulate(u, u_lo, ya)
        v, v_lo = accumulate(v, v_lo, yb)
        j += 2 * width
    while j < n:
        k = min(width, n - j)
        ya, da = load_some(y, j, k, 0), load_some(dy, j, k, 0)
        a, va = larger_with(ya, a, da, va)
        s, s_lo = accumulate_product(s, s_lo, ya, da)
        u, u_lo = accumulate(u, u_lo, ya)
        j += width
    a, va = larger_with(b, a, vb, va)
    _, c = value_at_max_across(y, a, va)
    s, s_lo = add_pairs(s, s_lo, t, t_lo, c)
    u, u_lo = add_pairs(u, u_lo, v, v_lo, c)
    s, s_lo = sum_across(y, s, s_lo, c)
    u, u_lo = sum_across(y, u, u_lo, c)
    dot, dot_lo = shifted(s, s_lo, u, u_lo, c)
    if not is_precise(dot, c):
        dot, dot_lo = shifted_dot(dy, y, n, c)
    return c, dot, dot_lo


def likely_and_others(dy: Pointer, y: Pointer, n: int) -> tuple[float, float, float]:
    """Σ dy over the column where exp(y) > 1/2, if there is one, and over the others, as a pair."""
    width = lanes(y)
    zero = splat(y, 0)
    likely = zero
    s = s_lo = t = t_lo = splat64(y, 0)
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
        likely = where(mw, w, where(mv, v, likely))
        j += 2 * width
    while j < n:
        k = min(width, n - j)
        v = load_some(dy, j, k, 0)
        mv = is_likely(load_some(y, j, k, -INF))
        s, s_lo = accumulate(s, s_lo, where(mv, zero, v))
        likely = where(mv, v, likely)
        j += width
    like = number(y, 0)
    s, s_lo = add_pairs(s, s_lo, t, t_lo, like)
    others, others_lo = sum_across(y, s, s_lo, like)
    # At most one lane is not 0.
    of_row, _ = sum_across(y, widen(likely), splat64(y, 0), like)
    return of_row, others, others_lo


def shifted_dot(dy: Pointer, y: Pointer, n: int, shift: float) -> tuple[float, float]:
    """Σ y_j (dy_j - shift) as a float64 pair."""
    width = lanes(y)
    s = s_lo = t = t_lo = splat64(y, 0)
    j = 0
    while j + 2 * width <= n:
        da, db = load(dy, j), load(dy, j + width)
        s, s_lo = accumulate_shifted(s, s_lo, load(y, j), da, shift)
        t, t_lo = accumulate_shifted(t, t_lo, load(y, j + width), db, shift)
        j += 2 * width
    while j < n:
        k = min(width, n - j)
        s, s_lo = accumulate_shifted(s, s_lo, load_some(y, j, k, 0), load_some(dy, j, k, 0), shift)
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
