"""The traversals of backward passes: what of a row's y and dy its gradient is made of."""

from ..elementary import where, widen
from ..formulas.softmax import (
    accumulate,
    accumulate_product,
    accumulate_shifted,
    add_pairs,
    is_likely,
    is_precise,
    larger_with,
    shifted,
    sums_of_dy,
)
from .rows import BLOCK, INF, PREFETCH
from .vectors import (
    Number,
    Pointer,
    at,
    lanes,
    load,
    load_some,
    number,
    prefetch,
    splat,
    splat64,
    sum_across,
    sum_zero,
    value_at_max_across,
)


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
    """(c, Σ y_j (dy_j - c) as a float64 pair), c being dy where y is largest.

    In one traversal, as Σ y·dy - c·Σ y; in a second one, if these two are nearly the same.
    """
    largest, c = number(y, -INF), number(y, 0)
    s = s_lo = u = u_lo = sum_zero(y)
    for j in range(0, n, BLOCK):
        found, of_found, more, more_lo, total, total_lo = dot_sums(
            at(dy, j), at(y, j), min(n - j, BLOCK)
        )
        largest, c = larger_with(found, largest, of_found, c)
        s, s_lo = add_pairs(s, s_lo, more, more_lo, c)
        u, u_lo = add_pairs(u, u_lo, total, total_lo, c)
    dot, dot_lo = shifted(s, s_lo, u, u_lo, c)
    if not is_precise(dot, c):
        dot = dot_lo = sum_zero(y)
        for j in range(0, n, BLOCK):
            more, more_lo = shifted_dot(at(dy, j), at(y, j), min(n - j, BLOCK), c)
            dot, dot_lo = add_pairs(dot, dot_lo, more, more_lo, c)
    return c, dot, dot_lo


def dot_sums(dy: Pointer, y: Pointer, n: int) -> tuple[Number, Number, float, float, float, float]:
    """The largest y and dy there, NaN left out; Σ y·dy and Σ y, as float64 pairs; of a block."""
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
    largest, c = value_at_max_across(y, a, va)
    s, s_lo = add_pairs(s, s_lo, t, t_lo, c)
    u, u_lo = add_pairs(u, u_lo, v, v_lo, c)
    return largest, c, *sum_across(y, s, s_lo, c), *sum_across(y, u, u_lo, c)


def sums_of_log_softmax(dy: Pointer, y: Pointer, n: int) -> tuple[Number, Number]:
    """Σ dy, without the likely column if there is one, and with it."""
    return sums_of_dy(*likely_and_others(dy, y, n), number(y, 0))


def sums_of_long_log_softmax(dy: Pointer, y: Pointer, n: int) -> tuple[Number, Number]:
    """The same block by block."""
    likely = others = others_lo = sum_zero(y)
    for j in range(0, n, BLOCK):
        found, more, more_lo = likely_and_others(at(dy, j), at(y, j), min(n - j, BLOCK))
        likely += found
        others, others_lo = add_pairs(others, others_lo, more, more_lo, number(y, 0))
    return sums_of_dy(likely, others, others_lo, number(y, 0))


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
