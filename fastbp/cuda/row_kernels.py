"""Kernels of whole arrays on a GPU, made of the functions of one row that CPUs use."""

from collections.abc import Callable
from typing import Any

from ..cpu.vectors import number
from .words import columns, first_row, put_number, read_row, result_row, row_step, rows, write_row

RowFunction = Callable[..., Any]
Kernel = Callable[..., None]


def each_row(function: RowFunction) -> Kernel:
    """Kernel of function(x, e, y, n) for the rows of x and of the result y, on the chip."""

    def kernel(x: Any, y: Any) -> None:
        n = columns(x)
        for i in range(first_row(x), rows(x), row_step(x)):
            p = read_row(x, i, n, 0)
            function(p, p, p, n)
            write_row(p, y, i, n)

    return kernel


def each_row_reduced(reduce: RowFunction, finish: RowFunction, apply: RowFunction) -> Kernel:
    """Kernel of apply(x, y, n, (m, *numbers)) for the rows of x and of the result y.

    reduce(x, n) gives (m, s, s_lo) of a row, and finish(m, s, s_lo) the numbers.
    """

    def kernel(x: Any, y: Any) -> None:
        n = columns(x)
        for i in range(first_row(x), rows(x), row_step(x)):
            p = read_row(x, i, n, 0)
            q = result_row(p, y, i)
            m, s, s_lo = reduce(p, n)
            apply(p, q, n, (m, *finish(m, s, s_lo)))
            write_row(q, y, i, n)

    return kernel


def each_two_rows(function: RowFunction) -> Kernel:
    """Kernel of function(x, y, z, n) for the rows of x, y and the result z."""

    def kernel(x: Any, y: Any, z: Any) -> None:
        n = columns(x)
        for i in range(first_row(x), rows(x), row_step(x)):
            p, q = read_row(x, i, n, 0), read_row(y, i, n, 1)
            r = result_row(p, z, i)
            function(p, q, r, n)
            write_row(r, z, i, n)

    return kernel


def each_row_to_number(function: RowFunction) -> Kernel:
    """Kernel of numbers[i] = function(row i of x, n)."""

    def kernel(x: Any, numbers: Any) -> None:
        n = columns(x)
        for i in range(first_row(x), rows(x), row_step(x)):
            p = read_row(x, i, n, 0)
            put_number(x, numbers, i, number(p, function(p, n)))

    return kernel
