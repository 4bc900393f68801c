"""Kernels of whole arrays on a GPU, made of the functions of one row that CPUs use."""

from collections.abc import Callable
from typing import Any

from ..cpu.rows import map_two_rows, row_max
from ..cpu.vectors import Pointer, lanes, load_mask, load_some, number, pick, splat, store_some
from ..elementary import INFINITY, where
from .words import (
    Matrix,
    columns,
    first_row,
    own_row,
    put_number,
    read_row,
    result_row,
    row_at,
    row_step,
    rows,
    write_row,
)

RowFunction = Callable[..., Any]
Kernel = Callable[..., None]


def each_row_reduced(total: RowFunction, finish: RowFunction, apply: RowFunction) -> Kernel:
    """Kernel of apply(x, e, y, n, finish(m, s, s_lo)) for the rows of x and of the result y.

    m is a row's maximum, and (s, s_lo) is total(x, e, n, m, ahead); e is y.
    """

    def kernel(x: Any, y: Any) -> None:
        n = columns(x)
        for i in range(first_row(x), rows(x), row_step(x)):
            p = read_row(x, i, n, 0)
            q = result_row(p, y, i)
            m = row_max(p, n)
            apply(p, q, q, n, finish(m, *total(p, q, n, m, n)))
            write_row(q, y, i, n)

    return kernel


def each_two_rows(of_rows: RowFunction, _of_long: RowFunction, formula: RowFunction) -> Kernel:
    """Kernel of z_j = formula(x_j, y_j, *numbers) for the rows of x, y and the result z.

    The numbers are what of_rows(x, y, n) makes of both rows.
    """
    apply = map_two_rows(formula)

    def kernel(x: Any, y: Any, z: Any) -> None:
        n = columns(x)
        for i in range(first_row(x), rows(x), row_step(x)):
            p, q = read_row(x, i, n, 0), read_row(y, i, n, 1)
            r = result_row(p, z, i)
            apply(p, q, r, n, of_rows(p, q, n))
            write_row(r, z, i, n)

    return kernel


def each_row_to_number(total: RowFunction, finish: RowFunction) -> Kernel:
    """Kernel of numbers[i] = finish(m, s, s_lo) as in `each_row_reduced`, for row i of x."""

    def kernel(x: Any, numbers: Any) -> None:
        n = columns(x)
        for i in range(first_row(x), rows(x), row_step(x)):
            p = read_row(x, i, n, 0)
            m = row_max(p, n)
            put_number(x, numbers, i, number(p, finish(m, *total(p, p, n, m, n))))

    return kernel


def each_row_with_two_numbers(apply: RowFunction) -> Kernel:
    """Kernel of apply(x, y, n, (a[i], b[i])) for the rows of x and of the result y."""

    def kernel(a: Pointer, b: Pointer, x: Any, y: Any) -> None:
        n = columns(x)
        for i in range(first_row(x), rows(x), row_step(x)):
            p = read_row(x, i, n, 0)
            q = result_row(p, y, i)
            k = existing_row(x, i)
            apply(p, q, n, (pick(a, k), pick(b, k)))
            write_row(q, y, i, n)

    return kernel


def existing_row(x: Matrix, i: int) -> int:
    """The row that this thread computes; the last one, if it computes none."""
    return min(own_row(x, i), rows(x) - 1)


# rows of which only what a mask allows is seen ----------------------------------------------------


def each_row_where(function: RowFunction, masked: float) -> Kernel:
    """Kernel of function(x, e, y, n), e being y; `masked` stands where the mask is false."""

    def kernel(x: Any, mask: Any, y: Any) -> None:
        n = columns(x)
        for i in range(first_row(x), rows(x), row_step(x)):
            p, allowed = read_row(x, i, n, 0), row_at(mask, existing_row(x, i))
            keep(p, allowed, p, n, -INFINITY)
            function(p, p, p, n)
            keep(p, allowed, p, n, masked)
            write_row(p, y, i, n)

    return kernel


def each_long_row_where(function: RowFunction, masked: float) -> Kernel:
    """The same for rows too long for the chip.

    `room` has their shape and the type that they are computed in; it may be y.
    """

    def kernel(x: Any, mask: Any, room: Any, y: Any) -> None:
        n = columns(x)
        for i in range(first_row(x), rows(x), row_step(x)):
            p, q, allowed = row_at(room, i), row_at(y, i), row_at(mask, i)
            keep(row_at(x, i), allowed, p, n, -INFINITY)
            function(p, p, q, n)
            keep(q, allowed, q, n, masked)

    return kernel


def each_row_to_number_where(function: RowFunction) -> Kernel:
    """Kernel of numbers[i] = function(row i of x, n)."""

    def kernel(x: Any, mask: Any, numbers: Any) -> None:
        n = columns(x)
        for i in range(first_row(x), rows(x), row_step(x)):
            p = read_row(x, i, n, 0)
            keep(p, row_at(mask, existing_row(x, i)), p, n, -INFINITY)
            put_number(x, numbers, i, number(p, function(p, n)))

    return kernel


def each_long_row_to_number_where(function: RowFunction) -> Kernel:
    """The same for rows too long for the chip."""

    def kernel(x: Any, mask: Any, room: Any, numbers: Any) -> None:
        n = columns(x)
        for i in range(first_row(x), rows(x), row_step(x)):
            p = row_at(room, i)
            keep(row_at(x, i), row_at(mask, i), p, n, -INFINITY)
            put_number(x, numbers, i, number(p, function(p, n)))

    return kernel


def keep(x: Pointer, mask: Pointer, y: Pointer, n: int, masked: float) -> None:
    """y is x where the mask is true, and `masked` elsewhere."""
    width = lanes(x)
    j = 0
    while j < n:
        k = min(width, n - j)
        allowed = load_mask(x, mask, j, k)
        store_some(y, j, k, where(allowed, load_some(x, j, k, 0), splat(x, masked)))
        j += width
