"""The traversals of a row: how its numbers are reduced to a few, and mapped to the output.

All of them go along the row in vectors, with a masked tail, and in an order that depends on the
number of columns alone. Every kernel of rows is made of these.
"""

from collections.abc import Callable
from typing import Any

from ..elementary import biased_exp_minus, larger, split, where, widen
from ..formulas.cross_entropy import (
    accumulate_target_loss,
    smoothed,
    target_gradient,
    times_weight,
)
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
    Vector,
    borrow,
    count,
    count_zero,
    either,
    first_lanes,
    give_back,
    lanes,
    load,
    load_mask,
    load_some,
    longest_short_row,
    max_across,
    number,
    prefetch,
    put,
    read_tile,
    row,
    rows_in_tile,
    splat,
    splat64,
    store,
    store_some,
    sum_across,
    sum_zero,
    value_at_max_across,
    write_tile,
)

# Sums are made per block of columns, and the blocks' sums added in turn: whoever may one day share
# a huge row among threads will find the same bits.
BLOCK = 16384

# Further ahead nothing is fetched: it would no longer be in the second-level cache when needed.
PREFETCH = 65536
INF = float("inf")

# 1 - ε and ε / n_classes, each as a float64 pair.
Smoothing = tuple[float, float, float, float]


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
    return add_pairs(s, s_lo, maxima - 1.0, sum_zero(x), m)  # one maximum is left out


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
_scale_by_any = map_row(scaled_in_two_steps)


def scale(e: Pointer, y: Pointer, n: int, r: float, r_lo: float) -> None:
    """y = e·(r + r_lo), e being biased exponentials and r no tiny number; y may be e."""
    like = number(e, 0)
    r, r_lo = unbiased(r, r_lo, like)
    _scale(e, y, n, split(r, r_lo, like))


def scale_by_any(e: Pointer, y: Pointer, n: int, r: float, r_lo: float) -> None:
    """The same for any r."""
    _scale_by_any(e, y, n, scale_factors(r, r_lo, number(e, 0)))


def value_at_max(x: Pointer, values: Pointer, n: int) -> Number:
    """What stands in `values` where x is largest, NaN left out; 0 if x has no largest."""
    width = lanes(x)
    largest, value = splat(x, -INF), splat(x, 0)
    for j in range(0, n, width):
        k = min(width, n - j)
        v, w = load_some(x, j, k, -INF), load_some(values, j, k, 0)
        largest, value = larger_with(v, largest, w, value)
    largest, value = value_at_max_across(x, largest, value)
    return value


def likely_and_others(dy: Pointer, y: Pointer, n: int) -> tuple[float, float, float]:
    """Σ dy over the column where exp(y) > 1/2, if there is one, and over the others, as a pair."""
    width = lanes(y)
    zero = splat(y, 0)
    likely = s = s_lo = splat64(y, 0)
    for j in range(0, n, width):
        k = min(width, n - j)
        v = load_some(dy, j, k, 0)
        mask = is_likely(load_some(y, j, k, -INF))
        s, s_lo = accumulate(s, s_lo, where(mask, zero, v))
        likely += widen(where(mask, v, zero))
    like = number(y, 0)
    others, others_lo = sum_across(y, s, s_lo, like)
    likely, _ = sum_across(y, likely, splat64(y, 0), like)
    return likely, others, others_lo


def shifted_dot(dy: Pointer, y: Pointer, n: int, shift: float) -> tuple[float, float]:
    """Σ y_j (dy_j - shift) as a float64 pair."""
    width = lanes(y)
    s = s_lo = splat64(y, 0)
    for j in range(0, n, width):
        k = min(width, n - j)
        a, b = load_some(dy, j, k, 0), load_some(y, j, k, 0)
        s, s_lo = accumulate_product(s, s_lo, b, a, shift)
    return sum_across(y, s, s_lo, number(y, 0))


def class_targets(
    x: Pointer, targets: Pointer, weights: Pointer, j: int, k: int, smoothing: Smoothing
) -> tuple[Vector, Vector]:
    """u = w·(keep·t + share) of k classes from j on, as float64 pairs; t is 0, w 1 if not given."""
    keep, keep_lo, share, share_lo = smoothing
    u, u_lo = splat64(x, share), splat64(x, share_lo)
    if targets is not None:
        u, u_lo = smoothed(load_some(targets, j, k, 0), keep, keep_lo, share, share_lo)
    if weights is not None:
        u, u_lo = times_weight(u, u_lo, load_some(weights, j, k, 0))
    return u, u_lo


def target_sums(
    x: Pointer, targets: Pointer, weights: Pointer, n: int, m: float, smoothing: Smoothing
) -> tuple[float, float, float, float]:
    """Σu and Σ u·(m - x), each as a float64 pair."""
    width = lanes(x)
    u_sum = u_sum_lo = d_sum = d_sum_lo = splat64(x, 0)
    for j in range(0, n, width):
        k = min(width, n - j)
        u, u_lo = class_targets(x, targets, weights, j, k, smoothing)
        u, u_lo = first_lanes(x, u, k), first_lanes(x, u_lo, k)
        u_sum, u_sum_lo = add_pairs(u_sum, u_sum_lo, u, u_lo, m)
        v = load_some(x, j, k, 0)
        d_sum, d_sum_lo = accumulate_target_loss(d_sum, d_sum_lo, u, u_lo, m, v)
    u_total, u_total_lo = sum_across(x, u_sum, u_sum_lo, m)
    d_total, d_total_lo = sum_across(x, d_sum, d_sum_lo, m)
    return u_total, u_total_lo, d_total, d_total_lo


def target_to_gradient(
    e: Pointer,
    dx: Pointer,
    targets: Pointer,
    weights: Pointer,
    n: int,
    smoothing: Smoothing,
    factors: tuple[float, ...],
) -> None:
    """A row's gradient from its biased exponentials; see `target_gradient`."""
    width = lanes(e)
    for j in range(0, n, width):
        k = min(width, n - j)
        u, u_lo = class_targets(e, targets, weights, j, k, smoothing)
        store_some(dx, j, k, target_gradient(load_some(e, j, k, 0), u, u_lo, *factors))


def fill(y: Pointer, n: int, value: float) -> None:
    """Every one of n numbers is `value`."""
    width = lanes(y)
    v = splat(y, value)
    for j in range(0, n, width):
        store_some(y, j, min(width, n - j), v)


# kernels of whole arrays --------------------------------------------------------------------------
#
# A row function computes one row from a pointer, or a tile of short rows at once: which of the two
# depends on the number of columns alone, so that a row has the same bits wherever it stands.

RowFunction = Callable[..., Any]
Kernel = Callable[..., None]


def each_row(function: RowFunction) -> Kernel:
    """Kernel of function(x, e, y, n) for the rows of x and of the result y.

    e is room for the row's exponentials: y itself, unless that keeps its numbers in 16 bits.
    """

    def kernel(first: int, last: int, x: Any, y: Any) -> None:
        n = x.shape[1]
        if n <= longest_short_row(x):
            for i in range(first, last, rows_in_tile(x)):
                k = min(last - i, rows_in_tile(x))
                tile = read_tile(x, i, k, n)
                function(tile, tile, tile, n)
                write_tile(tile, y, i, k, n)
        else:
            room = borrow(x, y, None, n)
            for i in range(first, last):
                function(row(x, i), either(room, row(y, i)), row(y, i), n)
            give_back(room)

    return kernel


def each_row_where(function: RowFunction, masked: float) -> Kernel:
    """The same for rows of which only what a mask allows is seen; `masked` stands elsewhere."""

    def kernel(first: int, last: int, x: Any, mask: Any, y: Any) -> None:
        n = x.shape[1]
        room = borrow(x, y, None, n)
        for i in range(first, last):
            e = either(room, row(y, i))
            if keep_where(row(x, i), row(mask, i), e, n, -INF):
                function(e, e, row(y, i), n)
                keep_where(row(y, i), row(mask, i), row(y, i), n, masked)
            else:
                fill(row(y, i), n, masked)
        give_back(room)

    return kernel


def keep_where(x: Pointer, mask: Pointer, y: Pointer, n: int, masked: float) -> bool:
    """y is x where the mask is true and `masked` elsewhere; whether it is true anywhere."""
    width = lanes(x)
    seen = 0
    for j in range(0, n, width):
        k = min(width, n - j)
        here = load_mask(x, mask, j, k)
        seen += count(x, here)
        store_some(y, j, k, where(here, load_some(x, j, k, 0), splat(x, masked)))
    return seen > 0


def each_two_rows(function: RowFunction) -> Kernel:
    """Kernel of function(x, y, z, n) for the rows of x, y and the result z."""

    def kernel(first: int, last: int, x: Any, y: Any, z: Any) -> None:
        n = x.shape[1]
        if n <= longest_short_row(x):
            for i in range(first, last, rows_in_tile(x)):
                k = min(last - i, rows_in_tile(x))
                tile = read_tile(x, i, k, n)
                function(tile, read_tile(y, i, k, n), tile, n)
                write_tile(tile, z, i, k, n)
        else:
            for i in range(first, last):
                function(row(x, i), row(y, i), row(z, i), n)

    return kernel


def each_row_to_number(function: RowFunction) -> Kernel:
    """Kernel of numbers[i] = function(row i of x, n); numbers is contiguous."""

    def kernel(first: int, last: int, x: Any, numbers: Any) -> None:
        n = x.shape[1]
        if n <= longest_short_row(x):
            for i in range(first, last, rows_in_tile(x)):
                k = min(last - i, rows_in_tile(x))
                store_some(row(numbers, 0), i, k, function(read_tile(x, i, k, n), n))
        else:
            for i in range(first, last):
                put(row(numbers, 0), i, function(row(x, i), n))

    return kernel


def each_row_to_number_where(function: RowFunction) -> Kernel:
    """The same for rows of which only what a mask allows is seen."""

    def kernel(first: int, last: int, x: Any, mask: Any, numbers: Any) -> None:
        n = x.shape[1]
        room = borrow(x, x, True, n)
        for i in range(first, last):
            keep_where(row(x, i), row(mask, i), room, n, -INF)
            put(row(numbers, 0), i, function(room, n))
        give_back(room)

    return kernel
