"""The traversals of a row: how its numbers are reduced to a few, and mapped to the output.

All of them go along the row in vectors, with a masked tail, and in an order that depends on the
number of columns alone. Every kernel of rows is made of these.
"""

from collections.abc import Callable
from typing import Any

from ..elementary import (
    biased_exp_minus,
    larger,
    split,
    widen,
)
from ..formulas import (
    accumulate,
    accumulate_product,
    accumulate_target,
    accumulate_target_loss,
    add_pairs,
    affine,
    equal,
    max_of_lanes,
    rest,
    scaled,
    scaled_tiny,
    sum_of_lanes,
    target_gradient,
    too_small_to_unbias,
    unbiased,
    unequal,
)
from .vectors import (
    Pointer,
    count,
    first_lanes,
    lanes,
    load,
    load_some,
    number,
    splat,
    splat64,
    store,
    store_some,
)

# Sums are made per block of columns, and the blocks' sums added in turn: whoever may one day share
# a huge row among threads will find the same bits.
BLOCK = 16384
INF = float("inf")
NAN = float("nan")


def row_max(x: Pointer, n: int) -> float:
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
    return max_of_lanes(larger(larger(a, b), larger(c, d)))


def exp_total(x: Pointer, e: Pointer, n: int, m: float) -> tuple[float, float]:
    """(s, s_lo) with Σ exp(x_j - m) = 1 + s + s_lo; m is the maximum. Writes the exps to e, biased.

    e may be x itself, or None. Four vectors are added in the row's own precision before they enter
    the float64 sum, which costs no accuracy that can be seen and saves most of the conversions.
    """
    width = lanes(x)
    s, s_lo, maxima = 0.0, 0.0, 0
    start = 0
    while start < n:
        stop = min(n, start + BLOCK)
        total = total_lo = splat64(x, 0)
        j = start
        while j + 4 * width <= stop:
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
            maxima += (count(ma) + count(mb)) + (count(mc) + count(md))
            four = (rest(ma, a) + rest(mb, b)) + (rest(mc, c) + rest(md, d))
            total, total_lo = accumulate(total, total_lo, four)
            j += 4 * width
        four = splat(x, 0)
        while j < stop:
            k = min(width, stop - j)
            xa = load_some(x, j, k, -INF)
            a = biased_exp_minus(xa, m)
            if e is not None:
                store_some(e, j, k, a)
            ma = equal(xa, m)
            maxima += count(ma)
            four += rest(ma, a)
            j += width
        total, total_lo = accumulate(total, total_lo, four)
        block, block_lo = sum_of_lanes(total, total_lo, m)
        s, s_lo = add_pairs(s, s_lo, block, block_lo, m)
        start += BLOCK
    s, s_lo = unbiased(s, s_lo, m)
    return add_pairs(s, s_lo, maxima - 1.0, 0.0, m)  # one maximum is left out


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
_scale_tiny = map_row(scaled_tiny)


def scale(e: Pointer, y: Pointer, n: int, r: float, r_lo: float) -> None:
    """y = e·(r + r_lo), e being biased exponentials; y may be e."""
    like = number(e, 0)
    if too_small_to_unbias(r, like):
        _scale_tiny(e, y, n, split(r, r_lo, like))
    else:
        r, r_lo = unbiased(r, r_lo, like)
        _scale(e, y, n, split(r, r_lo, like))


def find(x: Pointer, n: int, value: float) -> int:
    """The first index at which x is `value`; 0 if there is none."""
    width = lanes(x)
    for j in range(0, n, width):
        k = min(width, n - j)
        if count(equal(load_some(x, j, k, NAN), value)):
            for i in range(j, j + k):
                if x[i] == value:
                    return i
    return 0


def total(x: Pointer, n: int) -> tuple[float, float]:
    """Σ x_j as a float64 pair."""
    width = lanes(x)
    s = s_lo = splat64(x, 0)
    for j in range(0, n, width):
        s, s_lo = accumulate(s, s_lo, load_some(x, j, min(width, n - j), 0))
    return sum_of_lanes(s, s_lo, number(x, 0))


def shifted_dot(dy: Pointer, y: Pointer, n: int, shift: float) -> tuple[float, float]:
    """Σ y_j (dy_j - shift) as a float64 pair."""
    width = lanes(y)
    s = s_lo = splat64(y, 0)
    for j in range(0, n, width):
        k = min(width, n - j)
        a, b = load_some(dy, j, k, 0), load_some(y, j, k, 0)
        s, s_lo = accumulate_product(s, s_lo, b, a, shift)
    return sum_of_lanes(s, s_lo, number(y, 0))


def class_targets(
    x: Pointer, targets: Pointer, weights: Pointer, j: int, k: int, keep: float, share: float
) -> Any:
    """u = w·(keep·t + share) of k classes from j on, in float64; t is 0 and w 1 if not given."""
    u = splat64(x, share)
    if targets is not None:
        u = affine(load_some(targets, j, k, 0), keep, share)
    if weights is not None:
        u *= widen(load_some(weights, j, k, 0))
    return u


def target_sums(
    x: Pointer,
    targets: Pointer,
    weights: Pointer,
    n: int,
    m: float,
    keep: float,
    share: float,
) -> tuple[float, float, float, float]:
    """Σu and Σ u·(m - x), each as a float64 pair."""
    width = lanes(x)
    u_sum = u_sum_lo = d_sum = d_sum_lo = splat64(x, 0)
    for j in range(0, n, width):
        k = min(width, n - j)
        u = first_lanes(class_targets(x, targets, weights, j, k, keep, share), k)
        u_sum, u_sum_lo = accumulate_target(u_sum, u_sum_lo, u, m)
        d_sum, d_sum_lo = accumulate_target_loss(d_sum, d_sum_lo, u, m, load_some(x, j, k, 0))
    u_total, u_total_lo = sum_of_lanes(u_sum, u_sum_lo, m)
    d_total, d_total_lo = sum_of_lanes(d_sum, d_sum_lo, m)
    return u_total, u_total_lo, d_total, d_total_lo


def target_to_gradient(
    e: Pointer,
    targets: Pointer,
    weights: Pointer,
    n: int,
    keep: float,
    share: float,
    factors: tuple[tuple[float, float], tuple[float, float], tuple[float, float]],
) -> None:
    """Replace a row's biased exponentials by its gradient; see `target_gradient`."""
    width = lanes(e)
    (u_sum, u_sum_lo), (all_, all_lo), (r, r_lo) = factors
    for j in range(0, n, width):
        k = min(width, n - j)
        u = class_targets(e, targets, weights, j, k, keep, share)
        v = load_some(e, j, k, 0)
        store_some(e, j, k, target_gradient(v, u, all_, all_lo, u_sum, u_sum_lo, r, r_lo))


def has_nan(x: Pointer, n: int) -> bool:
    """Whether one of the numbers is NaN."""
    width = lanes(x)
    for j in range(0, n, width):
        v = load_some(x, j, min(width, n - j), 0)
        if count(unequal(v, v)):
            return True
    return False


def fill(y: Pointer, n: int, value: float) -> None:
    """Every one of n numbers is `value`."""
    width = lanes(y)
    v = splat(y, value)
    for j in range(0, n, width):
        store_some(y, j, min(width, n - j), v)
