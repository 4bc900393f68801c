"""The traversals of a row: how its numbers are reduced to a few, and mapped to the output.

All of them go along the row in vectors, with a masked tail, and in an order that depends on the
number of columns alone. Every kernel of rows is made of these.
"""

from collections.abc import Callable
from typing import Any

from ..elementary import exp_of_reduced, larger, reduced_minus
from ..formulas.softmax import (
    accumulate_exps,
    add_pairs,
    others,
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
    all_but_one,
    at,
    claim_wide,
    count_out,
    counted,
    counts,
    exps_across,
    lanes,
    load,
    load_some,
    load_wide,
    max_across,
    number,
    prefetch_wide,
    row,
    same_place,
    splat,
    splat64,
    store,
    store_some,
    stream,
    sum_zero,
    to_boundary,
    unless_gpu,
    wide,
)

# Sums are made per block of columns, and the blocks' sums added in turn: whoever may one day share
# a huge row among threads will find the same bits.
BLOCK = 16384

# Further ahead nothing is fetched: it would no longer be in the second-level cache when needed.
PREFETCH = 65536

# So many numbers before a row's exponentials are written, their place is asked for: to write where
# nothing has been read waits for it.
CLAIM = 512
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


def exp_sums(
    reduce: Callable[..., Any],
    exp: Callable[..., Any],
    add: Callable[..., Any],
    has_maxima: bool,
    keeps: bool = True,
) -> Callable[..., tuple[float, float, Number]]:
    """Σ exp(x_j - m) over n numbers, biased, a float64 pair; m is the maximum of their row.

    An exponential is exp(*reduce(x, m)). If the sum does not have the maxima, the third number is
    how many there are. The function of (x, e, n, m, ahead) writes the exponentials to e, which may
    be x itself, or None; or if it does not keep them, has e fetched, to be written later. What
    stands `ahead` of x is fetched into the cache meanwhile.

    On a CPU, one wide vector is reduced while the exponentials of the one before are computed: it
    looks ahead, but not as far as the whole chain of operations reaches. On a GPU other threads
    compute while one waits.
    """

    def enter(
        v: Vector, a: Vector, m: Number, total: Vector, total_lo: Vector, maxima: Vector
    ) -> tuple[Vector, Vector, Vector]:
        if not has_maxima:
            are_others = others(v, m)
            maxima = count_out(maxima, are_others)
            a = rest(are_others, a)
        total, total_lo = add(total, total_lo, a)
        return total, total_lo, maxima

    def put_wide(e: Pointer, j: int, a: Vector) -> None:
        if e is not None:
            if keeps:
                claim_wide(e, j + CLAIM)
                store(e, j, a)
            else:
                claim_wide(e, j)

    def traversed(
        on_cpu: Pointer, x: Pointer, e: Pointer, n: int, m: float, ahead: int
    ) -> tuple[float, float, Number]:
        width, step = lanes(x), wide(x)
        s = s_lo = sum_zero(x)
        maxima = counts(x, (n + width - 1) // width)
        ahead = min(ahead, PREFETCH)
        start = 0
        while start < n:
            stop = min(n, start + BLOCK)
            total = total_lo = splat64(x, 0)
            j = start
            if on_cpu is None:
                while j + step <= stop:
                    v = load_wide(x, j)
                    a = exp(*reduce(v, m))
                    total, total_lo, maxima = enter(v, a, m, total, total_lo, maxima)
                    put_wide(e, j, a)
                    j += step
            elif j + step <= stop:
                prefetch_wide(x, j + ahead)
                reduced = reduce(load_wide(x, j), m)
                j += step
                while j + step <= stop:
                    prefetch_wide(x, j + ahead)
                    a = exp(*reduced)
                    total, total_lo, maxima = enter(
                        load_wide(x, j - step), a, m, total, total_lo, maxima
                    )
                    reduced = reduce(load_wide(x, j), m)
                    put_wide(e, j - step, a)
                    j += step
                a = exp(*reduced)
                total, total_lo, maxima = enter(
                    load_wide(x, j - step), a, m, total, total_lo, maxima
                )
                put_wide(e, j - step, a)
            while j < stop:
                k = min(width, stop - j)
                w = load_some(x, j, k, -INF)
                b = exp(*reduce(w, m))
                total, total_lo, maxima = enter(w, b, m, total, total_lo, maxima)
                if keeps and e is not None:
                    store_some(e, j, k, b)
                j += width
            block, block_lo = exps_across(x, total, total_lo, m)
            s, s_lo = add_pairs(s, s_lo, block, block_lo, m)
            start += BLOCK
        return s, s_lo, counted(x, maxima)

    def sums(x: Pointer, e: Pointer, n: int, m: float, ahead: int) -> tuple[float, float, Number]:
        return traversed(unless_gpu(x), x, e, n, m, ahead)

    return sums


def total_but_one(
    x: Pointer, s: float, s_lo: float, maxima: Number, m: float
) -> tuple[float, float]:
    """s, with Σ exp(x_j - m) = 1 + s, from the sums without maxima: one of these is left out."""
    s, s_lo = unbiased(s, s_lo, m)
    return add_pairs(s, s_lo, all_but_one(x, maxima), sum_zero(x), m)


def total_of_all(
    _x: Pointer, s: float, s_lo: float, _maxima: Number, _m: float
) -> tuple[float, float]:
    """The sum with all maxima, still biased."""
    return s, s_lo


def totals(
    sums: Callable[..., tuple[float, float, Number]], finish: Callable[..., tuple[float, float]]
) -> Callable[..., tuple[float, float]]:
    """The function of (x, e, n, m, ahead) for finish(x, *sums, m)."""

    def total(x: Pointer, e: Pointer, n: int, m: float, ahead: int) -> tuple[float, float]:
        return finish(x, *sums(x, e, n, m, ahead), m)

    return total


# Every vector enters the float64 sum by itself: to add two in the row's own precision first would
# save conversions, but costs a loss its second ULP.
_exactly = reduced_minus, exp_of_reduced, accumulate_exps
sums_of_all = exp_sums(*_exactly, True)
sums_but_maxima = exp_sums(*_exactly, False)
exp_sum = totals(sums_of_all, total_of_all)
exp_total = totals(sums_but_maxima, total_but_one)
exp_total_only = totals(exp_sums(*_exactly, False, keeps=False), total_but_one)


def not_kept(total: Callable[..., Any]) -> Callable[..., Any]:
    """The same sum of exponentials which are not written."""

    def not_written(x: Pointer, _e: Pointer, n: int, m: float, ahead: int) -> tuple[float, float]:
        return total(x, None, n, m, ahead)  # type: ignore[no-any-return]

    return not_written


def of_row(apply: Callable[..., None]) -> Callable[..., None]:
    """apply(x, y, n, numbers) of a row x, though its exponentials are there."""

    def to_row(x: Pointer, _e: Pointer, y: Pointer, n: int, numbers: tuple[float, ...]) -> None:
        apply(x, y, n, numbers)

    return to_row


def of_exponentials(apply: Callable[..., None]) -> Callable[..., None]:
    """apply(e, y, n, numbers) of a row's exponentials."""

    def to_exponentials(
        _x: Pointer, e: Pointer, y: Pointer, n: int, numbers: tuple[float, ...]
    ) -> None:
        apply(e, y, n, numbers)

    return to_exponentials


def totals_of_row(total: Callable[..., Any]) -> Callable[..., Any]:
    """The function of (x, n) for (m, *total(x, None, n, m, n)), m being the maximum."""

    def of_row(x: Pointer, n: int) -> tuple[Number, Number, Number]:
        m = row_max(x, n)
        s, s_lo = total(x, None, n, m, n)
        return m, s, s_lo

    return of_row


total_of_row = totals_of_row(exp_total)


def map_row(formula: Callable[..., Any], write: Callable[..., None] = store) -> Callable[..., None]:
    """y_j = formula(x_j, *parameters) along a row; y may be x."""

    def mapped(x: Pointer, y: Pointer, n: int, parameters: tuple[float, ...]) -> None:
        width, step = lanes(x), wide(x)
        j = 0
        while j + step <= n:
            write(y, j, formula(load_wide(x, j), *parameters))
            j += step
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
        width, step = lanes(x), wide(x)
        j = 0
        while j + step <= n:
            write(z, j, formula(load_wide(x, j), load_wide(y, j), *parameters))
            j += step
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


scale_row = map_row(scaled)
scale_in_two_steps = map_row(scaled_in_two_steps)


def scale_by_any(e: Pointer, y: Pointer, n: int, r: float, r_lo: float) -> None:
    """y = e·(r + r_lo), e being biased exponentials; y may be e."""
    scale_in_two_steps(e, y, n, scale_factors(r, r_lo, number(e, 0)))


def fill(y: Pointer, n: int, value: float) -> None:
    """Every one of n numbers is `value`."""
    width = lanes(y)
    v = splat(y, value)
    for j in range(0, n, width):
        store_some(y, j, min(width, n - j), v)
