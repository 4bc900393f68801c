"""Kernels of whole arrays, made of functions of one row.

A row function computes one row from a pointer, or a tile of short rows at once: which of the two
depends on the number of columns alone, so that a row has the same bits wherever it stands.
"""

from collections.abc import Callable
from typing import Any

from ..elementary import narrowed, where, widen
from .origins import recorded
from .rows import INF, fill, is_streamed, map_two_rows, row_max, stream_two_rows
from .vectors import (
    Pointer,
    at,
    borrow,
    count,
    counted,
    counts,
    drain,
    either,
    give_back,
    lane_numbers,
    lanes,
    load_lanes,
    load_mask,
    load_some,
    longest_short_row,
    number,
    pick,
    put,
    read_tile,
    row,
    rows_in_tile,
    splat,
    store_lanes,
    store_some,
    write_tile,
)

RowFunction = Callable[..., Any]
Kernel = Callable[..., None]


@recorded
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
    seen = counts(x, 0)
    for j in range(0, n, width):
        k = min(width, n - j)
        here = load_mask(x, mask, j, k)
        seen = count(x, seen, here)
        store_some(y, j, k, where(here, load_some(x, j, k, 0), splat(x, masked)))
    return counted(x, seen) > 0  # type: ignore[no-any-return]


# Rows are taken in groups: what is computed once for each row is computed for a vector of rows, and
# no row waits for another's maximum or sum. As many are a group as fit in half of the first-level
# cache, with their results.
NUMBERS_IN_GROUP = 4096


def rows_in_group(x: Any) -> Any:
    """How many rows of x are a group: not more than a vector has lanes."""
    return max(1, min(rows_in_tile(x), NUMBERS_IN_GROUP // max(x.shape[1], 1)))


def totals_of_group(total: RowFunction) -> RowFunction:
    """The maxima of k rows of x from row i on and their totals, each a vector of a number a row.

    a, b and c are room for these.
    """

    def totals(
        x: Any, y: Any, room: Pointer, i: int, k: int, group: int, a: Pointer, b: Pointer,
        c: Pointer,
    ) -> Any:  # fmt: skip
        n = x.shape[1]
        p = row(x, 0)
        for j in range(k):
            a[j] = row_max(row(x, i + j), n)
        for j in range(k):
            e = either(at(room, j * n), row(y, i + j))
            b[j], c[j] = total(row(x, i + j), e, n, number(p, a[j]), group * n)
        return narrowed(load_lanes(p, a), number(p, 0)), load_lanes(p, b), load_lanes(p, c)

    return totals


@recorded
def each_row_in_groups(total: RowFunction, finish: RowFunction, apply: RowFunction) -> Kernel:
    """Kernel of apply(x, e, y, n, finish(m, s, s_lo)) for the rows of x and of the result y.

    m is a row's maximum, (s, s_lo) is total(x, e, n, m, ahead), where e is room for the row's
    exponentials, and the last numbers are two.
    """
    totals = totals_of_group(total)

    def kernel(first: int, last: int, x: Any, y: Any) -> None:
        n = x.shape[1]
        if n <= longest_short_row(x):
            for i in range(first, last, rows_in_tile(x)):
                k = min(last - i, rows_in_tile(x))
                tile = read_tile(x, i, k, n)
                m = row_max(tile, n)
                apply(tile, tile, tile, n, finish(m, *total(tile, tile, n, m, 0)))
                write_tile(tile, y, i, k, n)
        else:
            group = rows_in_group(x)
            room = borrow(x, y, None, n * group)
            a, b, c = lane_numbers(x), lane_numbers(x), lane_numbers(x)
            p = row(x, 0)
            for i in range(first, last, group):
                k = min(last - i, group)
                u, v = finish(*totals(x, y, room, i, k, group, a, b, c))
                store_lanes(p, b, widen(u))
                store_lanes(p, c, widen(v))
                for j in range(k):
                    e = either(at(room, j * n), row(y, i + j))
                    numbers = number(p, b[j]), number(p, c[j])
                    apply(row(x, i + j), e, row(y, i + j), n, numbers)
            give_back(room)

    return kernel


@recorded
def each_two_rows(of_short: RowFunction, of_long: RowFunction, formula: RowFunction) -> Kernel:
    """Kernel of z_j = formula(x_j, y_j, *numbers) for the rows of x, y and the result z.

    The numbers are what of_short(x, y, n), or of long rows of_long, makes of both rows.
    """
    apply, stream_apply = map_two_rows(formula), stream_two_rows(formula)

    def kernel(first: int, last: int, x: Any, y: Any, z: Any) -> None:
        n = x.shape[1]
        if n <= longest_short_row(x):
            for i in range(first, last, rows_in_tile(x)):
                k = min(last - i, rows_in_tile(x))
                tile, other = read_tile(x, i, k, n), read_tile(y, i, k, n)
                apply(tile, other, tile, n, of_short(tile, other, n))
                write_tile(tile, z, i, k, n)
        else:
            streamed = is_streamed(x, y, z)
            for i in range(first, last):
                numbers = of_long(row(x, i), row(y, i), n)
                if streamed:
                    stream_apply(row(x, i), row(y, i), row(z, i), n, numbers)
                else:
                    apply(row(x, i), row(y, i), row(z, i), n, numbers)
            if streamed:
                drain()

    return kernel


@recorded
def each_row_to_number(total: RowFunction, finish: RowFunction) -> Kernel:
    """Kernel of numbers[i] = finish(m, s, s_lo) as in `each_row_in_groups`, for row i of x.

    Here `total` must not write anything.
    """
    totals = totals_of_group(total)

    def kernel(first: int, last: int, x: Any, numbers: Any) -> None:
        n = x.shape[1]
        results = row(numbers, 0)
        if n <= longest_short_row(x):
            for i in range(first, last, rows_in_tile(x)):
                k = min(last - i, rows_in_tile(x))
                tile = read_tile(x, i, k, n)
                m = row_max(tile, n)
                store_some(results, i, k, finish(m, *total(tile, tile, n, m, 0)))
        else:
            group = rows_in_group(x)
            a, b, c = lane_numbers(x), lane_numbers(x), lane_numbers(x)
            for i in range(first, last, group):
                k = min(last - i, group)
                store_some(results, i, k, finish(*totals(x, x, None, i, k, group, a, b, c)))

    return kernel


@recorded
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


@recorded
def each_row_with_two_numbers(apply: RowFunction) -> Kernel:
    """Kernel of apply(x, y, n, (a, b)) for the rows of x and of the result y.

    a and b are columns that hold a number for each row.
    """

    # (Short rows gain little from tiles here: there is nothing to fold.)
    def kernel(first: int, last: int, a: Any, b: Any, x: Any, y: Any) -> None:
        for i in range(first, last):
            given = pick(row(a, i), 0), pick(row(b, i), 0)
            apply(row(x, i), row(y, i), x.shape[1], given)

    return kernel
